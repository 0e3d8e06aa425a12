"""The rows of JSON files of any layout: one object a line, an array, objects one after another, or one document that holds the rows.

Inside a document they are the one list of objects, objects keyed by id, a table (`columns` and `data`), or what `log.rows` names.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import BadRecord, parse_json
from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import read_messages
from bisect_ai.queries.readers import SPACE, JsonLines, Listed, Source, Spot, first_text, is_bare, refuse_utf16
from bisect_ai.queries.sample import Row
from bisect_ai.queries.values import MAX_LINE

# Bytes of a document, which is read whole; longer logs belong in JSONL.
MAX_DOCUMENT = 256 * 2**20
# Columns of which a row has one.
ROW = frozenset({"input", "messages"})
# Columns of which a row that is inside of others has one.
ASKING = ROW | {"question", "query"}
# Objects inside objects that are searched for rows.
MAX_STEPS = 4


class Joined:
    """The rows of several sources, one for each file."""

    def __init__(self, sources: Sequence[Source], paths: Sequence[Path]) -> None:
        self._sources, self._paths = sources, paths  # what was unpacked for a log lives as long as its list of files

    @property
    def left_out(self) -> Counter[str]:
        """What the sources left out."""
        return sum((source.left_out for source in self._sources), Counter[str]())

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row, file by file."""
        for index, source in enumerate(self._sources):
            yield from ((spot._replace(file=index), row) for spot, row in source.rows())

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`."""
        for index, source in enumerate(self._sources):
            own = [spot._replace(file=0) for spot in spots if spot.file == index]
            yield from ((spot._replace(file=index), row) for spot, row in source.fetch(own))

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return self._sources[spot.file].where(spot._replace(file=0))


def json_source(paths: Sequence[Path], *, skip_bad: bool, place: str | None, known: frozenset[str]) -> Source:
    """The rows of JSON files. Raises `QueryError` for a document that holds no rows, or several lists of them."""
    if json_lines(paths, place=place):
        return JsonLines(paths, skip_bad=skip_bad)
    return Joined([_of_file(path, skip_bad, place, known) for path in paths], paths)


def json_lines(paths: Sequence[Path], *, place: str | None) -> bool:
    """Whether every file holds one object a line."""
    return place is None and all(is_lines(path) and not _is_single(path) for path in paths)


def _of_file(path: Path, skip_bad: bool, place: str | None, known: frozenset[str]) -> Source:
    if place is None and is_lines(path) and not _is_single(path):
        return JsonLines([path], skip_bad=skip_bad)
    try:
        documents = _documents(path)
    except BadRecord as error:
        if place is None and not _begins_a_document(path):
            return JsonLines([path], skip_bad=skip_bad)
        raise QueryError(f"cannot read {path}: {error}; correct the file, or save it as JSONL") from None
    whole = documents[0] if len(documents) == 1 else documents
    return Listed(_rows_at_place(whole, path, place, known), str(path), bare=True)


def is_lines(path: Path) -> bool:
    """Whether the first line that is not blank is an object by itself, a text or a conversation."""
    line = _first_line(path)
    if not line.startswith("{"):
        return not line or is_bare(line)
    try:
        return isinstance(parse_json(line), dict)
    except BadRecord:
        return False


def looks_like_json(path: Path) -> bool:
    """Whether a file of unknown name begins as JSON does."""
    return _first_line(path)[:1] in ("{", "[")


def _first_line(path: Path) -> str:
    with path.open("rb") as stream:
        refuse_utf16(stream, path)
        return first_text(stream)


def _is_single(path: Path) -> bool:
    """Whether nothing follows the first line: one line may be a whole document."""
    with path.open("rb") as stream:
        filled = 0
        while (data := stream.readline(MAX_LINE + 1)) and filled < 2:
            filled += bool(data.strip())
    return filled == 1


def _begins_a_document(path: Path) -> bool:
    line = _first_line(path)
    return line.startswith("[") or len(line) < 3


def _documents(path: Path) -> list[Any]:
    """The JSON values of a file, one after another. Raises `BadRecord`."""
    with path.open("rb") as stream:
        data = stream.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise QueryError(f"cannot read {path}: a document of more than {MAX_DOCUMENT // 2**20} MiB; save it as JSONL")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise BadRecord(f"byte {error.start + 1} is not UTF-8") from None
    found, scanner = list[Any](), json.JSONDecoder()
    at = _next_letter(text, 0)
    while at < len(text) or not found:
        try:
            _, end = scanner.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = len(text)
        found.append(parse_json(text[at:end] if found else text[:end].strip(SPACE)))
        at = _next_letter(text, end)
    return found


def _next_letter(text: str, at: int) -> int:
    """The place of the next letter that is no space."""
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _rows_at_place(value: Any, path: Path, place: str | None, known: frozenset[str]) -> Sequence[Any]:
    if place is not None:
        return _rows_of_documents(value, path, place)
    if isinstance(value, list):
        return [{"messages": value}] if _is_conversation(value) else _headed(value) or value
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict) or known & set(value):
        return _by_column(value) or [value]
    listed = dict(_lists_of_objects("", value, 0))
    if not listed:
        return _by_column(value) or _keyed(value) or [value]
    if len(listed) == 1 and (rows := _innermost(next(iter(listed.values())), 0)):
        return rows
    if len(listed) > 1:
        sizes = ", ".join(f"{name[:60]} ({len(rows)})" for name, rows in list(listed.items())[:8])
        first = max(listed, key=lambda name: len(listed[name]))
        raise QueryError(
            f"cannot tell which rows of {path} are the log: it holds the lists {sizes}; name one, such as rows: {first[:60]}"
        )
    return next(iter(listed.values()))


def _rows_of_documents(value: Any, path: Path, place: str) -> Sequence[Any]:
    """The rows at a dotted place; of several documents, those of each."""
    if isinstance(value, list) and not place.split(".")[0].isdecimal():
        return [row for each in value for row in _rows_of_documents(each, path, place)]
    found, (first, *steps) = value, place.split(".")
    found = found.get(first) if isinstance(found, dict) else None
    for number, step in enumerate(steps):
        if isinstance(found, list):
            return _rows_below(found, steps[number:], {})
        found = found.get(step) if isinstance(found, dict) else None
    rows = found if isinstance(found, list) else _keyed(found) if isinstance(found, dict) else []
    if not rows:
        listed = ", ".join(name[:60] for name in list(dict(_lists_of_objects("", value, 0)))[:8])
        raise QueryError(
            f"log.rows is {place[:60]!r}, but {path} has no list there{f'; it has lists at {listed}' if listed else ''}"
        )
    return rows


def _rows_below(rows: Sequence[Any], steps: Sequence[str], above: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the lists at a dotted place inside of rows, each with the texts and numbers of the rows that hold it."""
    own = [{**above, **row} for row in rows if isinstance(row, dict)]
    if not steps:
        return own
    return [
        below
        for row in own
        if isinstance(row.get(steps[0]), list)
        for below in _rows_below(
            row[steps[0]], steps[1:], {name: each for name, each in row.items() if not isinstance(each, list | dict)}
        )
    ]


def _innermost(rows: Sequence[Any], depth: int) -> list[dict[str, Any]]:
    """The rows inside of rows that ask nothing themselves, as SQuAD nests its questions; empty where the rows are the log."""
    names = {
        _only_list(row)
        for row in rows
        if isinstance(row, dict) and any(isinstance(each, list) and each for each in row.values())
    }
    if depth > MAX_STEPS or len(names) != 1 or (name := names.pop()) is None:
        return []
    inner = _rows_below(rows, [name], {})
    if any(ASKING & set(row) for row in inner):
        return inner
    return _innermost(inner, depth + 1)


def _only_list(row: Mapping[str, Any]) -> str | None:
    """The one list of objects in a row that asks nothing; None for none, several, or a conversation."""
    lists = [
        name for name, each in row.items() if isinstance(each, list) and each and all(isinstance(one, dict) for one in each)
    ]
    if ASKING & set(row) or len(lists) != 1 or read_messages(row[lists[0]]) is not None:
        return None
    return lists[0]


def _lists_of_objects(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, Sequence[Any]]]:
    """The lists of objects inside an object, by their dotted places."""
    if not isinstance(value, dict) or depth > MAX_STEPS:
        return
    if (table := _columns_table(value)) is not None:
        yield prefix or "data", table
        return
    for name, each in value.items():
        here = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(each, list) and each and all(isinstance(row, dict) for row in each):
            if read_messages(each) is None:  # a conversation is one row's
                yield here, each
        elif isinstance(each, dict) and (rows := _keyed(each)):
            yield here, rows
        else:
            yield from _lists_of_objects(here, each, depth + 1)


def _is_conversation(rows: Sequence[Any]) -> bool:
    """Whether what could be rows are the messages of one conversation: somebody answers in it."""
    found = read_messages(list(rows)) if all(isinstance(row, dict) for row in rows) else None
    return any(message["role"] == "assistant" for message in found or ())


def _headed(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of a table whose first list names its columns; empty for anything else."""
    if not rows or not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return []
    names = rows[0]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names) or not ROW & set(names):
        return []
    return [dict(zip(names, row, strict=True)) for row in rows[1:]]


def _columns_table(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """A table of `columns` and `data`, as pandas and MLflow write them."""
    names, data = value.get("columns"), value.get("data")
    if not (isinstance(names, list) and isinstance(data, list) and all(isinstance(name, str) for name in names)):
        return None
    if not all(isinstance(cells, list) and len(cells) == len(names) for cells in data):
        return None
    return [dict(zip(names, cells, strict=True)) for cells in data]


def _keyed(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Objects that are keyed by their ids: two or more that all have a key in common; empty for anything else."""
    rows = list(value.values())
    if len(rows) < 2 or not all(isinstance(row, dict) and row for row in rows) or not set.intersection(*map(set, rows)):
        return []
    return [{"id": str(name), **row} for name, row in value.items()]


def _by_column(value: Any) -> list[dict[str, Any]]:
    """The rows of an object of columns, each a list of cells or keyed by row number, as pandas and datasets write a table."""
    if not isinstance(value, dict) or not value:
        return []
    columns = list(value.values())
    if all(isinstance(cells, list) and len(cells) == len(columns[0]) > 0 for cells in columns):
        plain = len(columns) > 1 and not any(isinstance(cell, dict) for cell in columns[0])
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)] if plain else []
    if not all(isinstance(cells, dict) for cells in columns):
        return []
    keys = columns[0].keys()
    if not keys or not all(cells.keys() == keys and all(key.isdecimal() for key in keys) for cells in columns):
        return []
    return [{name: cells[key] for name, cells in value.items()} for key in keys]
