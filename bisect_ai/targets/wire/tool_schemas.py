"""An offered tool given another release's schema: only what differs between the releases changes, what a framework added stays.

Renamed arguments are followed: `Renames` maps the names that the program knows to those that the composed schema has, at any depth,
and takes a call's arguments from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.release.renames import field_renames

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
        below = argument_renames(_mapping(schema), _mapping(theirs[new]))
        if new != old or below:
            found[old] = new, below
    items = argument_renames(_mapping(program.get("items")), _mapping(composed.get("items"))) if "items" in program else None
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
    return _mapping(schema.get("properties"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
