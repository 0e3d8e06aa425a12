"""Whether the parameters of tools can be checked at all: valid JSON Schema, every reference to a part of the same schema.

A reference that leads nowhere would be noticed only when a model calls the tool, and each such answer is paid for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.release.tools import read_tools

_VALUES = frozenset({"enum", "const", "default", "example", "examples"})
"""Keywords that hold values of the user's, not schemas."""
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_SAME_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords that check the same value again: a circle of them never ends."""


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
    if not isinstance(part, Mapping) or id(part) in done:
        return
    on_the_way = (*passed, id(part))
    for key in ("$ref", "$dynamicRef"):
        if isinstance(part.get(key), str):
            found = _looked_up(part[key], resolver)
            if id(found.contents) in on_the_way:
                raise _BadReference(f"{part[key][:80]!r}, which goes in a circle; give the schema itself there")
            _follow(found.contents, found.resolver, on_the_way, done)
    for key in _SAME_PLACE:
        for each in part[key] if isinstance(part.get(key), list) else [part.get(key)]:
            _follow(each, resolver, on_the_way, done)
    done.add(id(part))


def _looked_up(reference: str, resolver: Any) -> Any:
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(reference)
    except Unresolvable as error:
        raise _BadReference(f"{reference[:80]!r}, {_where_it_leads(reference)}") from error
