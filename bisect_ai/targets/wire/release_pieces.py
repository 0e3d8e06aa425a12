"""What differs between two releases, cut into what a request to a provider can hold: a model, a setting, a text, a document, a tool.

An offered tool is given another release's schema so that only what differs between the releases changes, and what a framework added
stays. Renamed arguments are followed: `Renames` maps the names that the program knows to those that the composed schema has, at any
depth, and takes a call's arguments from one to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, plain
from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.release.correspondence import field_renames
from bisect_ai.release.references import parsed_by_suffix
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
_DATA = (".json", ".yaml", ".yml")
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class WirePiece:
    """A value that differs between the releases, by where it stands in them. None: that release has none."""

    # model, sampling, text, document or tool.
    kind: str
    place: Place
    good: Any
    bad: Any

    @property
    def name(self) -> str:
        """As reports call it: `prompt.system`."""
        return ".".join(map(str, self.place))


def files_read(axes: Axes) -> dict[str, Any]:
    """The axes, with what the files of data say in those of tools and of models that are files of a revision.

    Raises `ReleaseError` for a file that is no JSON or YAML.
    """
    return {axis: _read(axis, value) for axis, value in axes.items()}


def _read(axis: str, value: Any) -> Any:
    is_tools = is_tools_axis(axis)
    if not (is_tools or "model" in axis.casefold()) or not isinstance(value, Mapping):
        return value
    if not value or not all(isinstance(text, str) and name.endswith(_DATA) for name, text in value.items()):
        return value
    found = {name: parsed_by_suffix(text, name) for name, text in value.items()}
    return [tool for each in found.values() for tool in (each if isinstance(each, list) else [each])] if is_tools else found


def pieces_of(good: Axes, bad: Axes) -> list[WirePiece]:
    """What differs between the releases. Raises `ConfigError` naming what no request can hold."""
    found = []
    for axis in sorted({*good, *bad}):
        sides = good.get(axis), bad.get(axis)
        if sides[0] != sides[1]:
            found += list(_tools(axis, *sides) if is_tools_axis(axis) else _leaves((axis,), *sides))
    return found


def model_name(release: Axes) -> str:
    """The model that a release names, in a file of a revision too; empty: it names none."""
    axis = files_read({"model": release.get("model")})["model"]
    held = [axis, *(each for each in axis.values() if isinstance(each, Mapping))] if isinstance(axis, Mapping) else [axis]
    names = [each.get("model") if isinstance(each, Mapping) else each for each in held]
    return next((name for name in names if isinstance(name, str)), "")


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
    return {str(tool["name"]): tool for tool in read_tools(plain(axis))}


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


# -- schemas of tools ----------------------------------------------------------------------------------------------------
_ITEMS = "[]"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Renames:
    """The program's name of an argument to the composed one, and to the renames below it; `[]` stands for the items of a list."""

    fields: Mapping[str, tuple[str, Renames]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fields)

    def forth(self, arguments: Any) -> Any:
        """The arguments under the composed names."""
        return self._taken(arguments, {old: (new, below) for old, (new, below) in self.fields.items()}, back=False)

    def back(self, arguments: Any) -> Any:
        """The arguments under the program's names."""
        return self._taken(arguments, {new: (old, below) for old, (new, below) in self.fields.items()}, back=True)

    def _taken(self, value: Any, names: Mapping[str, tuple[str, Renames]], *, back: bool) -> Any:
        if isinstance(value, list) and _ITEMS in names:
            below = names[_ITEMS][1]
            return [below.back(each) if back else below.forth(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        taken = {}
        for name, inner in value.items():
            new, below = names.get(name, (name, NO_RENAMES))
            taken[new] = below.back(inner) if back else below.forth(inner)
        return taken


NO_RENAMES = Renames()


def argument_renames(program: Schema, composed: Schema) -> Renames:
    """How the arguments of one schema are called in the other."""
    found: dict[str, tuple[str, Renames]] = {}
    ours, theirs = _properties(program), _properties(composed)
    pairs = field_renames(ours, theirs)
    for old, schema in ours.items():
        new = pairs.get(old, old if old in theirs else None)
        if new is None:
            continue
        below = argument_renames(as_mapping(schema), as_mapping(theirs[new]))
        if new != old or below:
            found[old] = new, below
    items = (
        argument_renames(as_mapping(program.get("items")), as_mapping(composed.get("items"))) if "items" in program else None
    )
    if items:
        found[_ITEMS] = _ITEMS, items
    return Renames(found)


def merged_schema(program: Any, composed: Any, sent: Any) -> Any:
    """What is `sent`, with what differs between the program's release and the composed one as in the composed one."""
    if program == composed:
        return sent
    if not all(isinstance(side, Mapping) for side in (program, composed, sent)):
        return _merged_value(program, composed, sent)
    names = {old: new for old, (new, _) in argument_renames(program, composed).fields.items() if old != _ITEMS}
    if "properties" in program and "properties" in sent:
        program, sent = _renamed(program, names), _renamed(sent, names)
    was_strict = sent.get("additionalProperties") is False and set(_properties(sent)) == set(_names(sent.get("required")))
    made = _merged_keys(program, composed, sent)
    if was_strict and _properties(sent) and len(_properties(made)) > len(_names(made.get("required"))):
        made["required"] = list(made["properties"])  # a framework that asks for every argument asks for the new ones too
    return made


def _merged_keys(program: Schema, composed: Schema, sent: Schema) -> dict[str, Any]:
    made = {}
    for key, value in sent.items():
        if key in program and key in composed:
            made[key] = merged_schema(program[key], composed[key], value)
        elif key in composed:
            made[key] = composed[key]
        elif key not in program:
            made[key] = value
    for key, value in composed.items():
        if key not in made and (key not in program or program[key] != value):
            made[key] = value
    return made


def _merged_value(program: Any, composed: Any, sent: Any) -> Any:
    if isinstance(sent, str) and isinstance(program, str) and isinstance(composed, str) and program and program in sent:
        return sent.replace(program, composed)
    if isinstance(sent, list) and isinstance(program, list) and isinstance(composed, list):
        kept = [each for each in sent if each in composed or each not in program]
        return kept + [each for each in composed if each not in program and each not in kept]
    return composed


def _renamed(schema: Schema, names: Mapping[str, str]) -> dict[str, Any]:
    """A schema whose properties, and entries of `required`, have their new names, in their old places."""
    made = dict(schema)
    made["properties"] = {names.get(name, name): value for name, value in _properties(schema).items()}
    if isinstance(schema.get("required"), list):
        made["required"] = [names.get(name, name) for name in schema["required"]]
    return made


def _properties(schema: Schema) -> Mapping[str, Any]:
    return as_mapping(schema.get("properties"))


def _names(value: Any) -> list[str]:
    return [name for name in as_list(value) if isinstance(name, str)]
