"""What differs between two releases, cut into what a request to a provider can hold: a model, a setting, a text, a document, a tool."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.release.renames import field_renames
from bisect_ai.release.tools import Tool, is_tools_axis, read_tools

Axes = Mapping[str, Any]
SAMPLING = frozenset(
    (
        *("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "stop"),
        *("stop_sequences", "frequency_penalty", "presence_penalty", "reasoning_effort", "reasoning", "thinking", "verbosity"),
        *("n", "response_format", "text", "tool_choice", "function_call", "parallel_tool_calls", "service_tier", "logit_bias"),
    )
)
_DOCUMENTS = ("corpus", "document", "knowledge")
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class WirePiece:
    """A value that differs between the releases, by where it stands in them. None: that release has none."""

    kind: str
    """model, sampling, text, document or tool."""
    place: Place
    good: Any
    bad: Any

    @property
    def name(self) -> str:
        """As reports call it: `prompt.system`."""
        return ".".join(map(str, self.place))


def pieces_of(good: Axes, bad: Axes) -> list[WirePiece]:
    """What differs between the releases. Raises `ConfigError` naming what no request can hold."""
    found = []
    for axis in sorted({*good, *bad}):
        sides = good.get(axis), bad.get(axis)
        if sides[0] != sides[1]:
            found += list(_tools(axis, *sides) if is_tools_axis(axis) else _leaves((axis,), *sides))
    return found


def model_name(release: Axes) -> str:
    """The model that a release names; empty: it names none."""
    axis = release.get("model")
    named = axis.get("model") if isinstance(axis, Mapping) else axis
    return named if isinstance(named, str) else ""


def _tools(axis: str, good: Any, bad: Any) -> Iterator[WirePiece]:
    ours, theirs = tools_by_name(good), tools_by_name(bad)
    renames = field_renames(_schemas(ours), _schemas(theirs))
    for name, tool in ours.items():
        other = theirs.get(renames.get(name, name))
        if tool != other:
            yield WirePiece("tool", (axis, name), tool, other)
    for name, tool in theirs.items():
        if name not in ours and name not in renames.values():
            yield WirePiece("tool", (axis, name), None, tool)


def tools_by_name(axis: Any) -> dict[str, Tool]:
    """The tools of an axis in the one form, by name."""
    return {str(tool["name"]): tool for tool in read_tools(json.loads(json.dumps(axis, default=dict)))}


def _schemas(tools: Mapping[str, Tool]) -> dict[str, Any]:
    return {name: tool["parameters"] for name, tool in tools.items()}


def _leaves(place: Place, good: Any, bad: Any) -> Iterator[WirePiece]:
    if good == bad:
        return
    sides = [side for side in (good, bad) if side is not None]
    if (kind := _kind_of(place, sides)) is not None:
        yield WirePiece(kind, place, good, bad)
    elif all(isinstance(side, Mapping) for side in sides):
        for key in dict.fromkeys(key for side in sides for key in side):
            yield from _leaves((*place, str(key)), _entry(good, key), _entry(bad, key))
    elif all(isinstance(side, list | tuple) for side in sides):
        for number in range(max(map(len, sides))):
            yield from _leaves((*place, number), _entry(good, number), _entry(bad, number))
    else:
        raise ConfigError(
            f"target of kind wire: {'.'.join(map(str, place))} differs between the releases, and no request to a provider holds it "
            "(a model, sampling settings, texts, tools and documents pass the wire): give both releases the same, or take the "
            "target command"
        )


def _entry(side: Any, key: str | int) -> Any:
    if isinstance(side, Mapping):
        return side.get(key)
    return side[key] if isinstance(side, list | tuple) and isinstance(key, int) and key < len(side) else None


def _kind_of(place: Place, sides: Sequence[Any]) -> str | None:
    last, texts = str(place[-1]), all(isinstance(side, str) for side in sides)
    if last == "model" and texts:
        return "model"
    if last in SAMPLING and not any(word in str(place[0]).casefold() for word in ("prompt", *_DOCUMENTS)):
        return "sampling"
    if not texts:
        return None
    return "document" if any(word in str(place[0]).casefold() for word in _DOCUMENTS) else "text"


def value_at(axes: Axes, place: Place) -> Any:
    """What a composed release has at a place; None: nothing."""
    value: Any = axes
    for key in place:
        value = _entry(value, key)
    return value


def checked_tools(*releases: Axes) -> None:
    """Raises `ConfigError` when the tools of a release cannot be read."""
    for release in releases:
        for axis, value in release.items():
            if is_tools_axis(axis):
                try:
                    tools_by_name(value)
                except ReleaseError as error:
                    raise ConfigError(f"target of kind wire: {error}") from error
