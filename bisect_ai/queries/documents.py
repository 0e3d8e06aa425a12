"""The parts of a large JSON document, one at a time: a file of any size in little memory, strictly read.

A part is named by its path, as ijson writes it: `item` (an element of a top-level array), `results.results.item`, or the empty
path for the document itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from bisect_ai.canonical import MAX_DEPTH, BadRecord, parse_json
from bisect_ai.errors import QueryError
from bisect_ai.queries.values import MAX_LINE

# The path under which a document's own texts and numbers come, before its parts.
HEAD = "#"
MAX_SCALARS = 200  # settings of an evaluation are fewer; a document keyed by query ids has no settings
Part = tuple[str, dict[str, Any]]


class NoObject(dict[str, Any]):
    """What stands in a list of objects and is none: it is counted, and never read."""


Wanted = Callable[[str], bool]
# Nesting of a document above its parts is counted too.
MAX_PART_DEPTH = MAX_DEPTH + 16
_SHAPES = {"start_map": dict, "start_array": list}
_NO_OBJECTS = frozenset({"string", "number", "boolean", "null", "start_array"})
_SPOILED = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def json_parts(stream: IO[bytes], wanted: Wanted, *, name: str) -> Iterator[Part]:
    """(path, object) of each object whose path is `wanted`, in order. Raises `QueryError` naming the file and the spot."""
    import ijson

    try:
        yield from _wanted_parts(ijson.parse(_after_bom(stream), multiple_values=True, use_float=True), wanted)
    except (ijson.JSONError, BadRecord, OverflowError, ValueError) as error:
        raise QueryError(f"cannot read {name}: {_parse_reason(stream, error)}; correct the file, or export it again") from None


def _after_bom(stream: IO[bytes]) -> IO[bytes]:
    beginning = stream.read(4)
    if beginning.startswith(_SPOILED):
        raise BadRecord("it is UTF-16; save it as UTF-8")
    stream.seek(len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0)
    return stream


def _wanted_parts(events: Iterator[tuple[str, str, Any]], wanted: Wanted) -> Iterator[Part]:
    part, start, depth = None, "", 0
    for prefix, event, value in events:
        depth += (event in _SHAPES) - event.startswith("end_")
        if depth > MAX_PART_DEPTH:
            raise BadRecord(f"nested more than {MAX_DEPTH} deep")
        if part is None:
            if event in _NO_OBJECTS and prefix.endswith("item") and wanted(prefix):
                yield prefix, NoObject()
            if event != "start_map" or not wanted(prefix):
                continue
            part, start = _Part(), prefix
        part.hear(event, value)
        if part.complete:
            yield start, part.value
            part = None


def scalars(path: Path) -> dict[str, Any]:
    """The texts, numbers and flags of a JSON document that stand in no list, by their dotted paths; at most `MAX_SCALARS`."""
    import ijson

    found: dict[str, Any] = {}
    with path.open("rb") as stream:
        try:
            for prefix, event, value in ijson.parse(_after_bom(stream), multiple_values=True, use_float=True):
                if event in ("string", "number", "boolean") and len(found) < MAX_SCALARS and "item" not in prefix.split("."):
                    found.setdefault(prefix, _checked_part(value))
        except (ijson.JSONError, BadRecord, OverflowError, ValueError):
            return found  # whoever reads its parts says what is wrong
    return found


class _Part:
    """One object put together from events; a key that comes twice is refused, as in `parse_json`."""

    def __init__(self) -> None:
        self.value: Any = None
        self._open: list[Any] = []
        self._keys: list[str] = []

    @property
    def complete(self) -> bool:
        return not self._open

    def hear(self, event: str, value: Any) -> None:
        if event == "map_key":
            if value in self._open[-1]:
                raise BadRecord(f"the key {value[:60]!r} is there twice")
            self._keys[-1] = value
        elif event in _SHAPES:
            made = _SHAPES[event]()
            self._add(made)
            self._open.append(made)
            self._keys.append("")
        elif event.startswith("end_"):
            self._open.pop()
            self._keys.pop()
        else:
            self._add(_checked_part(value))

    def _add(self, value: Any) -> None:
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        else:
            self._open[-1][self._keys[-1]] = value


def _checked_part(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise BadRecord("a number is out of range")
    return value


def _parse_reason(stream: IO[bytes], error: Exception) -> str:
    """Why, with line and column; for a large file only how far it was read, since the place is found by reading it whole."""
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        far = stream.tell()
        stream.seek(0)
        data = stream.read(MAX_LINE + 1)
    except (OSError, ValueError):
        return told
    if len(data) > MAX_LINE:
        return f"{told}, before byte {far}"
    try:
        parse_json(data.decode("utf-8-sig"))
    except (BadRecord, UnicodeDecodeError) as found:
        return str(found) if isinstance(found, BadRecord) else f"byte {found.start + 1} is not UTF-8"
    return told


def first_parts(path: Path, wanted: Wanted, most: int) -> list[Part]:
    """At most `most` of the parts that are `wanted`, without an error for a file that breaks off."""
    found: list[Part] = []
    try:
        with path.open("rb") as stream:
            for part in json_parts(stream, wanted, name=str(path)):
                found += [] if isinstance(part[1], NoObject) else [part]
                if len(found) >= most:
                    break
    except QueryError:
        pass
    return found


def expanded(value: dict[str, Any], inner: frozenset[str], headers: frozenset[str]) -> Iterator[Part]:
    """The parts inside one object in memory, by the same paths; the object itself when it has none."""
    if all(isinstance(each, NoObject) for _, each in _walk("", value, inner)):
        yield "", value
        return
    if HEAD in headers:
        yield HEAD, dict(_scalars_in(value))
    yield from _walk("", value, inner | headers)


def _scalars_in(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _scalars_in(each, f"{prefix}{name}.")
        elif isinstance(each, str | int | float):
            yield f"{prefix}{name}", each


def _walk(path: str, value: Any, parts: frozenset[str]) -> Iterator[Part]:
    if path in parts and (isinstance(value, dict) or path.endswith("item")):
        yield path, value if isinstance(value, dict) else NoObject()
        return
    if not any(part.startswith(path) for part in parts):
        return
    inner = ((str(key), each) for key, each in value.items()) if isinstance(value, dict) else ()
    inner = (("item", each) for each in value) if isinstance(value, list) else inner
    for key, each in inner:
        if isinstance(each, dict | list) or key == "item":
            yield from _walk(f"{path}.{key}" if path else key, each, parts)
