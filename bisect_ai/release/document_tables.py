"""Tables of documents: id to text, from Parquet, CSV or JSON lines.

CSV and JSON lines are read as exact text, with no guessing of types, dates or separators. Parquet goes through DuckDB,
in memory, allowed to open that one file and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.release.quoting import did_you_mean, shown
from bisect_ai.release.rooted_files import MAX_FOLDER_BYTES, decode_utf8, read_inside
from bisect_ai.release.strict import parse_strict_json

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "memory_limit": "2GB",
    "threads": 1,
}
_TWO_COLUMNS = "SELECT COLUMNS(lambda name: name IN (?, ?)) FROM read_parquet(?)"


def read_document_table(root: Path, real: Path, id_column: str, text_column: str) -> dict[str, str]:
    """Text by id, in the table's order. Raises `ReleaseError` for a missing column, an id that is empty or there twice."""
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
    reader = readers.get(real.suffix.lower())
    if reader is None:
        raise ReleaseError(f"cannot read the table {shown(real.name)}: use one of {', '.join(readers)}")
    data = read_inside(root, real)
    rows = reader(real, data, id_column, text_column)
    return _by_id(rows, real.name, id_column, text_column)


def _by_id(rows: Iterable[tuple[Any, Any]], name: str, id_column: str, text_column: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    size = 0
    for number, (key, text) in enumerate(rows, 1):
        where = f"cannot read the table {shown(name)}, row {number}"
        if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
            raise ReleaseError(f"{where}: its {shown(id_column)} is empty or neither text nor integer; give every row an id")
        if not isinstance(text, str):
            raise ReleaseError(f"{where}: its {shown(text_column)} is no text; name a column of texts")
        if str(key) in texts:
            raise ReleaseError(f"{where}: the id {shown(key)} is there twice; make ids unique")
        texts[str(key)] = text
        size += len(text)
        if size > MAX_FOLDER_BYTES:
            raise ReleaseError(f"{where}: it holds more than {MAX_FOLDER_BYTES >> 20} MiB of text; split it")
    if not texts:
        raise ReleaseError(f"the table {shown(name)} has no rows; check the path")
    return texts


def _check_columns(name: str, columns: Iterable[str], *wanted: str) -> None:
    present = list(columns)
    for column in wanted:
        if present.count(column) != 1:
            fault = "is there twice" if column in present else f"is missing{did_you_mean(column, present)}"
            raise ReleaseError(f"cannot read the table {shown(name)}: the column {shown(column)} {fault}")


def _json_lines(real: Path, data: bytes, id_column: str, text_column: str) -> Iterator[tuple[Any, Any]]:
    for number, line in enumerate(decode_utf8(data, real.name).removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        row = parse_strict_json(line, f"{real.name}, row {number}")
        if not isinstance(row, dict):
            raise ReleaseError(f"cannot read the table {shown(real.name)}, row {number}: it is no JSON object")
        _check_columns(real.name, row, id_column, text_column)
        yield row[id_column], row[text_column]


def _csv(real: Path, data: bytes, id_column: str, text_column: str) -> Iterator[tuple[Any, Any]]:
    import pandas as pd

    text = decode_utf8(data, real.name).removeprefix("\ufeff")
    try:
        table = pd.read_csv(io.StringIO(text, newline=""), dtype=str, header=None, na_filter=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as bad:
        raise ReleaseError(f"cannot read the table {shown(real.name)}: {shown(bad)}; check its quotes and commas") from bad
    header = [str(name) for name in table.iloc[0]]
    _check_columns(real.name, header, id_column, text_column)
    columns = [table[header.index(column)].iloc[1:] for column in (id_column, text_column)]
    yield from zip(*columns, strict=True)


def _parquet(real: Path, _: bytes, id_column: str, text_column: str) -> Iterator[tuple[Any, Any]]:
    import duckdb

    if any(character in str(real) for character in "*?["):
        raise ReleaseError(f"cannot read the table {shown(real.name)}: its path has one of * ? [; rename it")
    connection = duckdb.connect(":memory:", config=_LOCKED)
    try:
        connection.execute("SET allowed_paths = ?", [[str(real)]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        columns = _columns(connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(real)]))
        _check_columns(real.name, columns, id_column, text_column)
        rows = connection.execute(_TWO_COLUMNS, [id_column, text_column, str(real)])
        order = [_columns(rows).index(column) for column in (id_column, text_column)]
        while batch := rows.fetchmany(1000):
            yield from ((row[order[0]], row[order[1]]) for row in batch)
    except duckdb.Error as bad:
        raise ReleaseError(f"cannot read the table {shown(real.name)}: {shown(bad)}; write the file again") from bad
    finally:
        connection.close()


def _columns(result: Any) -> list[str]:
    return [column[0] for column in result.description]
