"""What a diff tells before a call is paid: the static check of what looks wrong across the axes of two releases.

It reads and suspects; it never decides. A suspect may be innocent, and a release without suspects may be guilty. Names that tool
schemas give away are among what it reads: which of them a release lost, and where a text or a key still uses one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.canonical import Json
from bisect_ai.errors import ReleaseError
from bisect_ai.provider.redaction import shown
from bisect_ai.release.diff import diff
from bisect_ai.release.load import Release, changed_axes, check_pair, load_release
from bisect_ai.release.references import parsed_by_suffix
from bisect_ai.release.tool_faults import tool_faults
from bisect_ai.release.tools import is_tools_axis, read_tools

_MOST_PLACES = 3  # more are counted: a warning is one line
_VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")  # variables of the prompt; doubled braces are braces
# Axes whose texts may hold variables.
_TEMPLATE_AXIS = re.compile(r"prompt|context|template|instruction|message", re.IGNORECASE)
_NOT_TEMPLATES = frozenset(("examples", "documents", "few_shot", "shots"))
_SOURCES = frozenset(
    ("input", "question", "query", "history", "documents", "context", "messages", "tools", "tool_results", "examples")
)
# A model's name with a date, a number or a digest: the provider does not change what it stands for.
_DATED = re.compile(r"(19|20)\d\d-?[01]\d-?[0-3]\d|-\d{3,4}$|-\d{3,4}[-@:]|[@:]sha256|@\w*\d{6,}")
_MODEL_KEYS = frozenset(("model", "model_name", "model_id", "engine", "deployment"))


@dataclass(frozen=True)
class Suspect:
    """Something that may explain a loss: the axes it involves, a sentence, and where to look."""

    axes: tuple[str, ...]
    message: str
    where: str


def static_check(good: Release, bad: Release, *, columns: Collection[str] | None = None) -> list[Suspect]:
    """Suspects, the likeliest first. `columns` of the log, when known, are sources of template variables too."""
    renames = _renames(good, bad)  # of the files as they are, before those of tools are read
    ours, theirs = _with_tools_read(good), _with_tools_read(bad)
    return [
        *_tool_suspects(ours, theirs),
        *_lost_identifiers(ours, theirs, renames),
        *_variable_suspects(good, bad, columns),
        *_undated_models(bad),
        *_unowned(good, bad),
    ]


def _with_tools_read(release: Release) -> Release:
    """A release whose axes are files, with those of its tools as data; one that cannot be read stays text."""
    if release.checkout is None:
        return release
    axes = {axis: _parsed_files(value) if is_tools_axis(axis) else value for axis, value in release.axes.items()}
    return replace(release, axes=axes)


def _parsed_files(files: Json) -> Json:
    read: dict[str, Any] = {}
    for path, text in files.items() if isinstance(files, dict) else ():
        read[path] = text
        with suppress(ReleaseError):
            read[path] = parsed_by_suffix(text, path) if isinstance(text, str) else text
    return read or files


def _tool_suspects(good: Release, bad: Release) -> Iterator[Suspect]:
    """What no provider would take in the tools of a release; of both the same fault once."""
    told = set[str]()
    for release in (bad, good):
        for axis in (axis for axis in release.axes if is_tools_axis(axis)):
            for fault in tool_faults(release.axes[axis]):
                if fault not in told:
                    told.add(fault)
                    yield Suspect((axis,), f"{shown(release.name)}: {fault}", f"{axis}: schema")


# -- identifiers -------------------------------------------------------------------------------------------------


def _lost_identifiers(good: Release, bad: Release, renames: Mapping[tuple[str, str], str]) -> Iterator[Suspect]:
    lost = lost_names(good, bad, renames)
    found: dict[tuple[str, str], list[Use]] = {}
    for use in uses(bad, {entry.name for entry in lost}):
        found.setdefault((use.name, use.axis), []).append(use)
    for entry in lost:
        for (name, axis), places in found.items():
            if name == entry.name:
                yield Suspect(tuple(dict.fromkeys((entry.axis, axis))), _lost_message(entry, axis), _listed_places(places))


def _lost_message(lost: Lost, axis: str) -> str:
    new = f" (now {shown(lost.new_name)})" if lost.new_name else ""
    if lost.tools:
        tools = ", ".join(map(shown, lost.tools[:_MOST_PLACES])) + (" and others" if len(lost.tools) > _MOST_PLACES else "")
        fact = f"{tools} no longer {'has' if len(lost.tools) == 1 else 'have'} the field {shown(lost.name)}{new}"
    else:
        fact = f"the tool {shown(lost.name)} is gone{new}"
    other = "; another tool still has that name" if lost.elsewhere else ""
    return f"{fact}, but {axis} still uses it{other}"


def _listed_places(places: list[Use]) -> str:
    first = "; ".join(f"{use.axis}: {use.place}" for use in places[:_MOST_PLACES])
    more = len(places) - _MOST_PLACES
    return f"{first} and {more} more" if more > 0 else first


# -- template variables ------------------------------------------------------------------------------------------


def _variable_suspects(good: Release, bad: Release, columns: Collection[str] | None) -> Iterator[Suspect]:
    """With the log's columns known, every variable that nothing fills; else those that the good release does without."""
    known = _SOURCES | set(columns or ())
    if columns is None:
        known |= {name for _, _, name in _template_variables(good)}
    seen: set[tuple[str, str]] = set()
    for axis, place, name in _template_variables(bad):
        if name in known or (axis, name) in seen:
            continue
        seen.add((axis, name))
        doubt = "the log has no such column" if columns is not None else "it is new, and unless the log has such a column"
        fate = "nothing fills it" if columns is None else "so nothing fills it"
        yield Suspect((axis,), f"the template variable {{{name}}} has no known source: {doubt}, {fate}", f"{axis}: {place}")


def _template_variables(release: Release) -> Iterator[tuple[str, str, str]]:
    """(axis, place, variable) in the texts of prompt-like axes; `{{` and `}}` are braces, as the pipeline reads them."""
    for axis, value in release.axes.items():
        if not _TEMPLATE_AXIS.search(axis):
            continue
        for place, text in _templates_in(value, ""):
            for match in _VARIABLE.finditer(text):
                if match[1]:
                    yield axis, f"{place} line {text.count(chr(10), 0, match.start()) + 1}".strip(), match[1]


def _templates_in(value: Json, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _templates_in(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _NOT_TEMPLATES:
                yield from _templates_in(item, f"{place}.{key}" if place else key)


# -- models and owners -------------------------------------------------------------------------------------------


def _undated_models(bad: Release) -> Iterator[Suspect]:
    for axis, value in bad.axes.items():
        for place, name in _models(axis, value):
            if not _DATED.search(name):
                message = f"the model {shown(name)} has no dated version: the provider may change what it stands for"
                yield Suspect((axis,), message, f"{axis}: {place}" if place else axis)


def _models(axis: str, value: Json) -> Iterator[tuple[str, str]]:
    """(place, name) of every model that is named: the axis `model` itself, or a text under a key such as `model`."""
    if isinstance(value, str) and axis in _MODEL_KEYS:
        yield "", value
    elif isinstance(value, dict):
        yield from _named_models(value, "")


def _named_models(value: dict[str, Json], place: str) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        below = f"{place}.{key}" if place else key
        if isinstance(item, str) and item and key in _MODEL_KEYS:
            yield below, item
        elif isinstance(item, dict) and key not in _NOT_TEMPLATES and key != "properties":
            yield from _named_models(item, below)


def _unowned(good: Release, bad: Release) -> Iterator[Suspect]:
    axes = tuple(axis for axis in changed_axes(good, bad) if not bad.provenance.get(axis, {}).get("owner"))
    if axes:
        changed = "this changed axis has" if len(axes) == 1 else "these changed axes have"
        yield Suspect(axes, f"{changed} no owner in the provenance of {shown(bad.name)}: nobody to ask", "provenance")


_SCHEMAS = ("parameters", "input_schema", "inputSchema")
_CODE = re.compile(
    r"[_\d]|[a-z][A-Z]"
)  # a name that is no English word is found wherever it stands, any other only where it is marked
_OPEN, _CLOSE = "[`'\"{<]", "[`'\"}>]"


@dataclass(frozen=True)
class Lost:
    """A tool or field that the bad release's schemas no longer have."""

    axis: str
    name: str
    # The tools that had the field; empty when a tool itself is gone.
    tools: tuple[str, ...]
    new_name: str | None
    # Whether another tool of the bad release still has the name.
    elsewhere: bool


class Use(NamedTuple):
    """A place of the bad release where a name stands."""

    axis: str
    place: str
    name: str


def lost_names(good: Release, bad: Release, renames: Mapping[tuple[str, str], str]) -> list[Lost]:
    """Tools and fields that good's tool schemas have and bad's have not, in good's order; `renames` has what became of some."""
    kept = [_fields_by_tool(_as_tools(axis, value)) for axis, value in bad.axes.items()]
    left = {name for tools in kept for tool, fields in tools.items() for name in (tool, *fields)}
    found: list[Lost] = []
    for axis, value in good.axes.items():
        ours, theirs = (_fields_by_tool(_as_tools(axis, side)) for side in (value, bad.axes.get(axis)))
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


def _fields_by_tool(value: Json) -> dict[str, set[str]]:
    """Name of each tool in a value to the fields of its schema."""
    found: dict[str, set[str]] = {}
    for tool in _schema_nodes(value):
        if (name := _tool_name(tool)) is not None:
            found.setdefault(name, set()).update(_tool_fields(tool))
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


def _tool_fields(tool: Mapping[str, Any]) -> Iterator[str]:
    """The names of all fields of the schema, nested ones too."""
    for part in _schema_nodes(dict(tool)):
        properties = part.get("properties")
        if isinstance(properties, dict):
            yield from (name for name in properties if name)


def diff_releases(good: str | Path | Release, bad: str | Path | Release) -> dict[str, Any]:
    """The tree of changes as plain JSON: {good, bad, axes: [{axis, owner, same, changes}], suspects}."""
    first, second = load_release(good, root=reference_root(good)), load_release(bad, root=reference_root(bad))
    check_pair(first, second)
    return tree_of(first, second)


def tree_of(good: Release, bad: Release) -> dict[str, Any]:
    """The same for two loaded releases."""
    rows = [change.to_dict() for change in diff(good, bad).changes]
    axes = []
    for axis in dict.fromkeys((*good.axes, *bad.axes)):
        changes = [row for row in rows if row["axis"] == axis]
        owner = bad.provenance.get(axis, {}).get("owner")
        axes.append({"axis": axis, "owner": owner, "same": not changes, "changes": changes})
    suspects = [asdict(s) for s in static_check(good, bad)]
    return {"good": good.name, "bad": bad.name, "axes": axes, "suspects": suspects}


def reference_root(release: str | Path | Release) -> Path | None:
    """The folder that references may reach: where bisect.yaml lies, in the release's folder or one above it."""
    if isinstance(release, Release):
        return None
    folder = Path(release).resolve().parent
    return next((place for place in (folder, folder.parent) if (place / "bisect.yaml").is_file()), None)
