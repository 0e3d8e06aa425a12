"""References in a release, resolved once and frozen: `file`, `dir`, `table`, `env`, `git`, `openapi`, `registry`; in snapshots `mcp`.

A mapping is a reference only when its keys are exactly those of one kind and their values are texts. What a reference
brings in is data: it is parsed (`.json`, `.yaml`, `.yml`) or taken as text, never searched for references, never filled
in like a template, never run.

Tables give id to text, from Parquet, CSV or JSON lines: the latter two are read as exact text, with no guessing of types, dates or
separators; Parquet goes through DuckDB, in memory, allowed to open that one file and nothing else. Prompts are read as a registry
exports them: Langfuse's prompt object, chat messages (promptfoo's JSON), or a text. A text with a variable (`{{question}}`) is what is
asked, one without is the system's; of chat messages those of the system come first, the last one of the user is what is asked, and
the turns between are worked examples. A `ReleaseSource` says where a value came from, `lines_of` which lines of that file hold it.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from bisect_ai.canonical import Json, plain
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.provider.redaction import did_you_mean, shown
from bisect_ai.release.openapi import operations
from bisect_ai.release.source_files import (
    MAX_FOLDER_BYTES,
    check_spelling,
    decode_utf8,
    path_inside,
    read_blob,
    read_commit,
    read_folder,
    read_git,
    read_inside,
    read_text,
)
from bisect_ai.release.strict import parse_strict_json, parse_yaml

# A place in a release or a parsed file: the keys and list positions that lead to it.
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class ReleaseSource:
    """A file or folder that a value was read from. `folder`: where git is asked about it."""

    folder: Path
    # From the top of the repository when `commit` is known, else from `folder`.
    path: str
    # The revision that a git reference named, in full; None: a file of the working folder.
    commit: str | None
    # A folder: the next key is the path of a text below it.
    whole: bool = False

    @property
    def is_parsed(self) -> bool:
        """Whether the file's text was parsed, so that keys lead into it."""
        return PurePosixPath(self.path).suffix.lower() in (".json", ".yaml", ".yml")


def lines_of(text: str, keys: Sequence[str | int]) -> tuple[int, int] | None:
    """First and last line (from 1) of the value that `keys` lead to in a YAML or JSON text; its key's line counts too."""
    import yaml

    try:
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    start = None
    for key in keys:
        start, node = _yaml_entry(node, key)
        if node is None:
            return None
    end = node.end_mark
    last = end.line + (end.column > 0)
    first = (start or node.start_mark).line + 1
    return first, max(first, last)


def _yaml_entry(node: Any, key: str | int) -> tuple[Any, Any]:
    """Where the entry `key` of a node begins, and its value; (None, None) when there is none."""
    if node is not None and node.id == "mapping":
        return next(((k.start_mark, v) for k, v in node.value if str(k.value) == str(key)), (None, None))
    if node is not None and node.id == "sequence" and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark, node.value[key]
    return None, None


_SINGLE = ("file", "dir", "env", "git", "openapi", "registry", "mcp")
_KINDS = {frozenset({kind}): kind for kind in _SINGLE} | {frozenset({"table", "id", "text"}): "table"}
# Fields of a tool server that hold a credential.
_SECRET_NAME = re.compile(
    r"(^|_)((API|ACCESS|SECRET|PRIVATE)?KEY|TOKEN|SECRETS?|\w*PASSWORD|PASSWD|PWD|CREDENTIALS?)(_|$)", re.IGNORECASE
)
# Beginnings of keys: a credential in a release file is refused, not stored.
_SECRET_VALUE = re.compile(r"(sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abp]|hf|AKIA|AIza|eyJ)[-_A-Za-z0-9]{16,}.*", re.DOTALL)

# From an MCP server (its command or URL) and the folder that it runs in, to its tools.
McpTools = Callable[[str, Path], list[dict[str, Any]]]


@dataclass(frozen=True)
class Committed:
    """A folder at a commit, where references start: `folder` is from the top of the repository, empty for the top itself."""

    repo: Path
    commit: str
    folder: str

    def path(self, written: str) -> str:
        """The path that a reference means, from the top. Raises `ReleaseError` when it leads out of the repository."""
        check_spelling(written)
        whole = posixpath.normpath(posixpath.join(self.folder, written))
        if whole.split("/")[0] in ("..", "."):
            raise ReleaseError(f"the path {shown(written)} leads outside the repository; name a file in it")
        return whole


@dataclass
class Resolver:
    """Turns one release's references into values; `sources` collects, by axis, the commits that git references came from."""

    root: Path
    folder: Path
    allow_env: Collection[str] = ()
    sources: dict[str, list[str]] = field(default_factory=dict)
    # Where the value at each reference came from, by the keys that lead to it (the axis first).
    found: dict[Keys, ReleaseSource] = field(default_factory=dict)
    # Where files are read instead of the working folder: at a commit.
    at: Committed | None = None
    # Asks an MCP server for its tools; None: a release is loaded, and nothing runs for that.
    mcp: McpTools | None = None

    def axis(self, name: str, value: Json) -> Json:
        """`value` with every reference in it resolved. Raises `ReleaseError` naming the key."""
        self._axis = name
        return self._resolve(value, f"axes.{name}", (name,))

    def _resolve(self, value: Json, where: str, keys: Keys) -> Json:
        if isinstance(value, list):
            return [self._resolve(item, f"{where}[{i}]", (*keys, i)) for i, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        kind = _KINDS.get(frozenset(value))
        if kind is None or not all(isinstance(item, str) for item in value.values()):
            return {key: self._resolve(item, f"{where}.{key}", (*keys, key)) for key, item in value.items()}
        self._keys = keys
        try:
            return self._fetch(kind, value)
        except ReleaseError as bad:
            raise ReleaseError(f"{shown(where)}: {bad}") from bad

    def _fetch(self, kind: str, reference: Mapping[str, Any]) -> Json:
        if kind == "env":
            return self._env(reference["env"])
        if kind == "git":
            return self._git(reference["git"])
        if kind == "mcp":
            return self._mcp(reference["mcp"])
        if self.at is not None:
            return self._committed(self.at, kind, reference)
        real = path_inside(self.root, self.folder, reference[kind])
        self.found[self._keys] = ReleaseSource(real.parent, real.name, None, whole=kind == "dir")
        if kind == "dir":
            return dict(read_folder(self.root, real))
        if kind == "table":
            return dict(read_document_table(self.root, real, reference["id"], reference["text"]))
        return _file_content(kind, decode_utf8(read_inside(self.root, real), real.name), reference[kind])

    def _committed(self, at: Committed, kind: str, reference: Mapping[str, Any]) -> Json:
        """A file, folder or table as it was at a commit."""
        path = at.path(reference[kind])
        self.found[self._keys] = ReleaseSource(at.repo, path, at.commit, whole=kind == "dir")
        if kind == "table":
            with TemporaryDirectory(prefix="bisect-ai-") as folder:
                copy = Path(folder).resolve() / PurePosixPath(path).name
                copy.write_bytes(read_blob(at.repo, at.commit, path))
                return dict(read_document_table(copy.parent, copy, reference["id"], reference["text"]))
        if kind in ("file", "openapi", "registry"):
            return _file_content(kind, decode_utf8(read_blob(at.repo, at.commit, path), path), path)
        content = read_commit(at.repo, at.commit, path).content
        if isinstance(content, str):
            raise ReleaseError(f"{shown(path)} at {at.commit} is a file; name a folder, or use 'file'")
        return dict(content)

    def _mcp(self, server: str) -> Json:
        if self.mcp is None:
            raise ReleaseError(
                f"the tools of the MCP server {shown(server)} are asked for by `bisect-ai snapshot` alone; load the snapshot it writes"
            )
        return plain(self.mcp(server, self.folder), where="tools")

    def _env(self, name: str) -> str:
        value = os.environ.get(name) if name and "=" not in name and "\0" not in name else None
        if value is None:
            raise ReleaseError(f"the environment variable {shown(name)} is not set; set it, or write the value")
        if name not in self.allow_env and (_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value)):
            raise ReleaseError(
                f"the environment variable {shown(name)} looks like a credential, and a release is hashed, stored and shown;"
                " keep credentials in the environment, where the target finds them"
            )
        return value

    def _git(self, reference: str) -> Json:
        found = read_git(self.folder, reference)
        self.sources.setdefault(self._axis, []).append(found.source)
        whole = not isinstance(found.content, str)
        self.found[self._keys] = ReleaseSource(self.folder, found.path, found.commit, whole=whole)
        if isinstance(found.content, str):
            return parsed_by_suffix(found.content, found.path)
        return dict(found.content)


def _file_content(kind: str, text: str, name: str) -> Json:
    """What a file holds: as it is, of an OpenAPI document one tool for each operation, of a registry's export the prompt."""
    value = parsed_by_suffix(text, name)
    if kind == "registry":
        return exported_prompt(value, name)
    if kind != "openapi":
        return value
    if not isinstance(value, dict):
        raise ReleaseError(f"{shown(name)} is no OpenAPI document; name a .json or .yaml file")
    return list(operations(value))


def parsed_by_suffix(text: str, name: str) -> Json:
    """By suffix: JSON and YAML parsed, all else the exact text."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json":
        return parse_strict_json(text, name)
    return parse_yaml(text, name) if suffix in (".yaml", ".yml") else text


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
        columns = _result_columns(connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(real)]))
        _check_columns(real.name, columns, id_column, text_column)
        rows = connection.execute(_TWO_COLUMNS, [id_column, text_column, str(real)])
        order = [_result_columns(rows).index(column) for column in (id_column, text_column)]
        while batch := rows.fetchmany(1000):
            yield from ((row[order[0]], row[order[1]]) for row in batch)
    except duckdb.Error as bad:
        raise ReleaseError(f"cannot read the table {shown(real.name)}: {shown(bad)}; write the file again") from bad
    finally:
        connection.close()


def _result_columns(result: Any) -> list[str]:
    return [column[0] for column in result.description]


_VARIABLE = re.compile(r"\{\{\s*[A-Za-z_][\w.]*\s*\}\}")  # a text that is filled for each question: no system prompt
_SEPARATOR = re.compile(r"^---\s*$", re.MULTILINE)  # between two prompts in one file, as promptfoo reads it
_SYSTEM = ("system", "developer")


def exported_prompt(value: Json, name: str) -> dict[str, Json]:
    """The prompt axis of an export: `system`, `user`, `examples`. Raises `ReleaseError` naming what it cannot carry."""
    if isinstance(value, dict) and "prompt" in value:
        value = value["prompt"]
    if isinstance(value, str):
        if (parts := [part for part in _SEPARATOR.split(value) if part.strip()]) and len(parts) > 1:
            raise ReleaseError(f"{shown(name)} holds {len(parts)} prompts; a release has one: name a file for each")
        return {"user" if _VARIABLE.search(value) else "system": value}
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        return _of_messages([dict(message) for message in value if isinstance(message, Mapping)], name)
    raise ReleaseError(
        f"{shown(name)} is no prompt: it is Langfuse's export, a list of messages with role and content, or a text"
    )


def _of_messages(messages: Sequence[Mapping[str, Any]], name: str) -> dict[str, Json]:
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            kind = "a placeholder" if message.get("type") == "placeholder" else "no text with a role"
            raise ReleaseError(
                f"message {number + 1} of {shown(name)} is {kind}, which a release cannot hold; export it filled"
            )
    system = "\n\n".join(m["content"] for m in messages if m["role"] in _SYSTEM)
    spoken = [m for m in messages if m["role"] not in _SYSTEM]
    asked = {"user": spoken.pop()["content"]} if spoken and spoken[-1]["role"] == "user" else {}
    return {**({"system": system} if system else {}), **asked, **_prompt_examples(spoken, name)}


def _prompt_examples(spoken: Sequence[Mapping[str, Any]], name: str) -> dict[str, Json]:
    pairs = list(zip(spoken[::2], spoken[1::2], strict=False))
    if len(spoken) % 2 or any((first["role"], second["role"]) != ("user", "assistant") for first, second in pairs):
        raise ReleaseError(
            f"the messages of {shown(name)} do not take turns between user and assistant; write the prompt by hand"
        )
    return {"examples": [{"input": q["content"], "output": a["content"]} for q, a in pairs]} if pairs else {}


def read_mapping(path: str | Path, *, error: type[InputError] = ReleaseError) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds (`.json` is JSON, all else YAML). Raises `error` otherwise."""
    file = Path(path)
    text = read_text(file, error=error)
    parse = parse_strict_json if file.suffix.lower() == ".json" else parse_yaml
    value = parse(text, file.name, error=error)
    if not isinstance(value, dict):
        raise error(
            f"cannot read {shown(file)}: it holds {_yaml_kind(value)}, not a mapping of keys to values; "
            "`bisect-ai init FOLDER` writes files to start from"
        )
    return value


def _yaml_kind(value: Json) -> str:
    if value is None:
        return "nothing"
    return {str: "a text", list: "a list", bool: "true or false"}.get(type(value), "a number")
