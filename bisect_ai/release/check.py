"""The static check: what looks wrong across the axes of two releases before a single call is paid.

It reads and suspects; it never decides. A suspect may be innocent, and a release without suspects may be guilty.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bisect_ai.canonical import Json
from bisect_ai.release.identifiers import Lost, Use, lost_names, uses
from bisect_ai.release.load import Release, changed_axes
from bisect_ai.release.quoting import shown

_MOST_PLACES = 3
_VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
_TEMPLATE_AXIS = re.compile(r"prompt|context|template|instruction|message", re.IGNORECASE)
_NOT_TEMPLATES = frozenset(("examples", "documents", "few_shot", "shots"))
_SOURCES = frozenset(
    ("input", "question", "query", "history", "documents", "context", "messages", "tools", "tool_results", "examples")
)
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
    return [
        *_lost_identifiers(good, bad),
        *_variables(good, bad, columns),
        *_undated_models(bad),
        *_unowned(good, bad),
    ]


# -- identifiers -------------------------------------------------------------------------------------------------


def _lost_identifiers(good: Release, bad: Release) -> Iterator[Suspect]:
    lost = lost_names(good, bad)
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


def _variables(good: Release, bad: Release, columns: Collection[str] | None) -> Iterator[Suspect]:
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
        for place, text in _templates(value, ""):
            for match in _VARIABLE.finditer(text):
                if match[1]:
                    yield axis, f"{place} line {text.count(chr(10), 0, match.start()) + 1}".strip(), match[1]


def _templates(value: Json, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _templates(item, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _NOT_TEMPLATES:
                yield from _templates(item, f"{place}.{key}" if place else key)


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
