"""What no provider would take in a list of tools: types that JSON Schema has not, parts of the wrong kind, a name given twice.

And whether parameters can be checked at all: a reference that leads nowhere would be noticed only when a model calls the tool, and each
such answer is paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.provider.redaction import did_you_mean, shown
from bisect_ai.release.tools import read_tools, shape_of

# The types of JSON Schema (2020-12, section 6.1.1).
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_INSIDE = {"properties": Mapping, "required": list, "enum": list}


def tool_faults(axis: Any) -> Iterator[str]:
    """A line for each fault: which tool, what is wrong, what to write. Of files by path, those that hold tools; of bare names, none."""
    if isinstance(axis, Mapping) and shape_of(axis) is None:
        for file in axis.values():
            yield from tool_faults(file) if isinstance(file, Mapping | list) and shape_of(file) is not None else ()
        return
    if isinstance(axis, list) and not any(isinstance(tool, Mapping) for tool in axis):
        return
    try:
        tools = read_tools(axis)
    except ReleaseError as fault:
        yield str(fault)
        return
    names = [tool["name"] for tool in tools]
    yield from (
        f"two tools have the name {shown(name)}: give each its own" for name in dict.fromkeys(names) if names.count(name) > 1
    )
    for tool in tools:
        yield from (f"tool {shown(tool['name'])}: {fault}" for fault in _schema_faults(tool.get("parameters"), "parameters"))


def _schema_faults(schema: Any, path: str) -> Iterator[str]:
    if isinstance(schema, bool) or schema is None:
        return
    if not isinstance(schema, Mapping):
        yield f"{path} is a {_kind_of(schema)}; write a JSON Schema: {{type: object, properties: {{…}}}}"
        return
    yield from _type_faults(schema.get("type"), path)
    for key, kind in _INSIDE.items():
        if key in schema and not isinstance(schema[key], kind):
            wanted = "mapping of name to schema" if kind is Mapping else "list"
            yield f"{path}.{key} is a {_kind_of(schema[key])}; write a {wanted}"
    if isinstance(properties := schema.get("properties"), Mapping):
        for name, inner in properties.items():
            yield from _schema_faults(inner, f"{path}.{str(name)[:60]}")
    if "items" in schema and not isinstance(schema["items"], list):
        yield from _schema_faults(schema["items"], f"{path}.items")


def _type_faults(given: Any, path: str) -> Iterator[str]:
    for word in given if isinstance(given, list) else [] if given is None else [given]:
        if str(word).lower() not in TYPES:  # Gemini writes them in capitals
            meant = did_you_mean(str(word), TYPES, f"; write one of {', '.join(TYPES)}")
            yield f"{path}.type {shown(word)} is no type of JSON Schema{meant}"


def _kind_of(value: Any) -> str:
    return "list" if isinstance(value, Sequence) and not isinstance(value, str) else type(value).__name__


# -- parameters ----------------------------------------------------------------------------------------------------------
# Keywords that hold values of the user's, not schemas.
_VALUES = frozenset({"enum", "const", "default", "example", "examples"})
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
# Keywords that check the same value again: a circle of them never ends.
_SAME_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")


def wrong_parameters(axis: Any) -> Iterator[str]:
    """One line for each tool whose parameters cannot be checked. Raises `ReleaseError` for what is no list of tools."""
    for tool in read_tools(axis):
        if (why := _schema_fault(tool["parameters"])) is not None:
            yield f"the parameters of the tool {tool['name'][:60]!r} {why}"


def _schema_fault(schema: dict[str, Any]) -> str | None:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import CannotDetermineSpecification
    from referencing.jsonschema import DRAFT202012

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except Exception as error:  # what it raises depends on what is wrong: a `$schema` that is a list, say
        return f"are no JSON Schema: {str(error).splitlines()[0][:160]}"
    registry: Any = Registry()
    try:
        root = registry.with_resource("", DRAFT202012.create_resource(schema)).crawl().resolver("")
    except (CannotDetermineSpecification, AttributeError, TypeError):
        return "are no JSON Schema: its parts cannot be told apart"
    done: set[int] = set()
    for part in _parts_of(schema):
        try:
            _follow(part, root, (), done)
        except _BadReference as bad:
            return f"refer to {bad}"
    return None


class _BadReference(Exception):
    """A reference that leads nowhere; the message names it and says why."""


def _where_it_leads(reference: str) -> str:
    if reference.startswith("#"):
        return "which is not there; add it under $defs of the same tool"
    return "outside the schema, and nothing is fetched; write it in under $defs"


def _parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and all schemas in it."""
    if isinstance(schema, list):
        for each in schema:
            yield from _parts_of(each)
    if not isinstance(schema, Mapping):
        return
    yield schema
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            yield from _parts_of(list(value.values()))
        elif key not in _VALUES:
            yield from _parts_of(value)


def _follow(part: Any, resolver: Any, passed: tuple[int, ...], done: set[int]) -> None:
    """Follow all that checks the same value as the part. Raises `_BadReference`: one leads nowhere, or back to where it came from."""
    from referencing.exceptions import Unresolvable

    if not isinstance(part, Mapping) or id(part) in done:
        return
    on_the_way = (*passed, id(part))
    for key in ("$ref", "$dynamicRef"):
        if isinstance(part.get(key), str):
            try:
                found = resolver.lookup(part[key])
            except Unresolvable as error:
                raise _BadReference(f"{part[key][:80]!r}, {_where_it_leads(part[key])}") from error
            if id(found.contents) in on_the_way:
                raise _BadReference(f"{part[key][:80]!r}, which goes in a circle; give the schema itself there")
            _follow(found.contents, found.resolver, on_the_way, done)
    for key in _SAME_PLACE:
        for each in part[key] if isinstance(part.get(key), list) else [part.get(key)]:
            _follow(each, resolver, on_the_way, done)
    done.add(id(part))
