"""What no provider would take in a list of tools: types that JSON Schema has not, parts of the wrong kind, a name given twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.release.quoting import shown
from bisect_ai.release.tools import read_tools, shape_of

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
"""The types of JSON Schema (2020-12, section 6.1.1)."""
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
            near = get_close_matches(str(word), TYPES, n=1)
            yield f"{path}.type {shown(word)} is no type of JSON Schema; " + (
                f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(TYPES)}"
            )


def _kind_of(value: Any) -> str:
    return "list" if isinstance(value, Sequence) and not isinstance(value, str) else type(value).__name__
