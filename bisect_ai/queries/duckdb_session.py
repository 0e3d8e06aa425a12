"""DuckDB over what users bring: a session that reaches nothing, and names and texts as SQL writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError

LOCKED: dict[str, bool | str] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "preserve_insertion_order": False,
    "memory_limit": "600MB",
    "temp_directory": "",
}


@contextmanager
def locked(files: Sequence[str] = (), *, ordered: bool = False) -> Iterator[Any]:
    """A DuckDB connection that reads these files and nothing else, loads nothing, writes nothing; `ordered`: it keeps rows in order."""
    import duckdb

    with duckdb.connect(":memory:", config=_session_config(ordered=ordered)) as connection:
        allowed = ", ".join(literal(name) for name in files)
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def _session_config(*, ordered: bool) -> dict[str, Any]:
    return {**LOCKED, "preserve_insertion_order": ordered, "threads": min(4, os.cpu_count() or 1)}


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def refused(condition: str, error: Exception, columns: Any) -> QueryError:
    """The one line that says why a condition is refused."""
    reason = (str(error).splitlines() or ["?"])[0]
    listed = ", ".join(sorted(map(str, columns))[:12])
    return QueryError(
        f"cannot use log.where {condition[:200]!r}: {reason}; write a DuckDB condition, texts in single quotes; columns: {listed}"
    )


def literal(text: str) -> str:
    """A string constant, quoted."""
    return "'" + text.replace("'", "''") + "'"


def safe_name(path: Path) -> str:
    """A file's name that DuckDB takes for a name. Raises `QueryError` for one that it would take for a pattern."""
    if any(letter in str(path) for letter in "*?["):
        raise QueryError(f"cannot read {path}: DuckDB takes * ? [ in a file name for a pattern; rename the file or its folder")
    return str(path)


def json_path(dotted: str) -> str:
    """The path of a nested value by its dotted name, as a string constant."""
    return literal("$" + "".join(f'."{step}"' for step in dotted.replace('"', "").split(".")))


def contains_any(text: str, words: Sequence[str]) -> str:
    """The SQL condition that the expression `text` contains one of the words."""
    return " OR ".join(f"contains({text}, {literal(word)})" for word in words)


# Messages that plainly ask something; those with an empty content may not.
USER, EMPTY = r'"role"\s*:\s*"user"', r'"content"\s*:\s*(null|\[|\{|"\s*")'

WHOLE_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
