"""Names that tool schemas give away: which of them a release lost, and where a text or a key still uses one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bisect_ai.canonical import Json
from bisect_ai.errors import ReleaseError
from bisect_ai.release.diff import diff
from bisect_ai.release.load import Release
from bisect_ai.release.tools import is_tools_axis, read_tools

_SCHEMAS = ("parameters", "input_schema", "inputSchema")
_CODE = re.compile(r"[_\d]|[a-z][A-Z]")
_OPEN, _CLOSE = "[`'\"{<]", "[`'\"}>]"


@dataclass(frozen=True)
class Lost:
    """A tool or field that the bad release's schemas no longer have."""

    axis: str
    name: str
    tools: tuple[str, ...]
    """The tools that had the field; empty when a tool itself is gone."""
    new_name: str | None
    elsewhere: bool
    """Whether another tool of the bad release still has the name."""


class Use(NamedTuple):
    """A place of the bad release where a name stands."""

    axis: str
    place: str
    name: str


@dataclass
class _Tools:
    """The tools of one axis: name to the fields of its schema."""

    fields: dict[str, set[str]] = field(default_factory=dict)

    def names(self) -> set[str]:
        return set(self.fields).union(*self.fields.values())


def lost_names(good: Release, bad: Release) -> list[Lost]:
    """Tools and fields that good's tool schemas have and bad's have not, in good's order."""
    renames = _renames(good, bad)
    left = set().union(*(_tool_entries(_as_tools(axis, value)).names() for axis, value in bad.axes.items()))
    found: list[Lost] = []
    for axis, value in good.axes.items():
        ours, theirs = (_tool_entries(_as_tools(axis, side)).fields for side in (value, bad.axes.get(axis)))
        holders: dict[str, list[str]] = {}
        for tool, fields in ours.items():
            if tool not in theirs:
                found.append(Lost(axis, tool, (), renames.get((axis, tool)), tool in left))
            for name in sorted(fields - theirs[tool]) if tool in theirs else ():
                holders.setdefault(name, []).append(tool)
        found += [Lost(axis, n, tuple(tools), renames.get((axis, n)), n in left) for n, tools in holders.items()]
    return found


def _as_tools(axis: str, value: Json) -> Any:
    """A tool list in the one form; any other value, and a list that nobody can read, as it is."""
    if not is_tools_axis(axis):
        return value
    try:
        return read_tools(value)
    except ReleaseError:
        return value


def _renames(good: Release, bad: Release) -> dict[tuple[str, str], str]:
    return {
        (change.axis, change.before): change.after
        for change in diff(good, bad).changes
        if change.kind == "renamed" and isinstance(change.before, str) and isinstance(change.after, str)
    }


def uses(release: Release, names: Iterable[str]) -> Iterator[Use]:
    """Where the release's texts and keys use one of the names; of tool schemas only the descriptions are read.

    A name that could be a word of prose counts only where it is written like code: quoted, in braces, as a key.
    """
    wanted = set(names)
    pattern = _pattern(wanted)
    for axis, value in release.axes.items() if pattern else ():
        for place, text, is_key in _readable_texts(value, ""):
            if is_key:
                yield from [Use(axis, place, text)] if text in wanted else []
                continue
            for match in pattern.finditer(text) if pattern else ():
                name = next(group for group in match.groups() if group)
                line = text.count("\n", 0, match.start()) + 1
                yield Use(axis, f"{place} line {line}".strip(), name)


def _pattern(names: set[str]) -> re.Pattern[str] | None:
    code = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if _CODE.search(name))
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name and not _CODE.search(name))
    parts = [rf"(?<!\w)({code})(?!\w)"] if code else []
    parts += [rf"{_OPEN}({words}){_CLOSE}", rf"(?<!\w)({words})(?=[=(])"] if words else []
    return re.compile("|".join(parts)) if parts else None


def _readable_texts(value: Json, place: str) -> Iterator[tuple[str, str, bool]]:
    """(place, text, whether it is a key) for everything readable below, tool schemas but for their descriptions left out."""
    if isinstance(value, str):
        yield place, value, False
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _readable_texts(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        described = _tool_name(value) is not None
        for key, item in value.items():
            below = f"{place}.{key}" if place else key
            if described:
                yield from ((p, text, False) for p, text in _descriptions(item, below, key))
            else:
                yield below, key, True
                yield from _readable_texts(item, below)


def _descriptions(value: Json, place: str, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield from [(place, value)] if key == "description" else []
    elif isinstance(value, dict | list):
        entries: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for inner, item in entries:
            yield from _descriptions(item, f"{place}.{inner}", str(inner))


def _tool_entries(value: Json) -> _Tools:
    found = _Tools()
    for tool in _schema_nodes(value):
        name = _tool_name(tool)
        if name is not None:
            found.fields.setdefault(name, set()).update(_fields(tool))
    return found


def _schema_nodes(value: Json) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _schema_nodes(item)


def _tool_name(value: Mapping[str, Any]) -> str | None:
    """The name of a tool written `{type: function, function: {name, …}}` or `{name, parameters | input_schema, …}`."""
    function = value.get("function")
    inner = function if isinstance(function, dict) else value
    named = isinstance(inner.get("name"), str) and bool(inner["name"])
    schema = inner is function or any(isinstance(inner.get(key), dict) for key in _SCHEMAS)
    return str(inner["name"]) if named and schema else None


def _fields(tool: Mapping[str, Any]) -> Iterator[str]:
    """The names of all fields of the schema, nested ones too."""
    for part in _schema_nodes(dict(tool)):
        properties = part.get("properties")
        if isinstance(properties, dict):
            yield from (name for name in properties if name)
