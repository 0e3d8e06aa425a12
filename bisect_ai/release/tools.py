"""Tool lists of any origin in one form: `{name, description, parameters}`, the parameters a JSON Schema.

Read are OpenAI's two shapes (`{type: function, function: {…}}` and, as in Responses, flat), Anthropic's (`input_schema`), MCP's
(`inputSchema`, with or without the envelope of `tools/list`), Gemini's (`functionDeclarations`), LangChain's JSON (`args_schema`,
`args`, a serialised tool, a titled schema), OpenAPI 3 (a tool for each operation, see `openapi`), and a plain mapping of name to
tool. What is none of them is refused: a tool without its fields is another tool, and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bisect_ai.errors import ReleaseError
from bisect_ai.release.openapi import operations

Tool = dict[str, Any]
# Shapes whose tools a reader of lists by name and of schemas by field can compare as they stand.
NATIVE = frozenset({"OpenAI", "OpenAI Responses", "Anthropic", "MCP", "plain"})
_ADVICE = "write it in the shape of OpenAI, Anthropic, MCP, Gemini, LangChain or OpenAPI 3"
_NO_FIELDS = {"type": "object", "properties": {}}
# Keys of a tool that takes no arguments. Any other may be where its schema stands.
_WITHOUT_SCHEMA = frozenset({"name", "description", "type", "strict", "title", "annotations"})
_SCHEMA_KEYS = frozenset({"type", "properties", "$ref", "allOf", "anyOf", "oneOf", "additionalProperties", "patternProperties"})
_ENVELOPES = ("result", "tools", "functions")
_DECLARATIONS = ("functionDeclarations", "function_declarations")
_SENT = ("name", "description", "parameters", "strict")


def read_tools(axis: Any) -> list[Tool]:
    """The tools of an axis in the one form, in order. Raises `ReleaseError` naming the first that cannot be read, and why."""
    return [tool for _, tool in _shaped_tools(axis)]


def shape_of(axis: Any) -> tuple[str, ...] | None:
    """What tells the shape of a tool list from others: its envelopes and the shapes of its tools; None: no tool list."""
    try:
        shapes = {shape for shape, _ in _shaped_tools(axis)}
    except ReleaseError:
        return None
    return (*_envelopes(axis), *sorted(shapes)) if shapes else None


def compared_tools(good: Any, bad: Any) -> tuple[list[Tool], list[Tool]] | None:
    """Both tool lists in the one form, where they cannot be compared by field as they stand; None: they can, or are none."""
    shapes = shape_of(good), shape_of(bad)
    if None in shapes or (shapes[0] == shapes[1] and NATIVE.issuperset(shape for shape, _ in _shaped_tools(good))):
        return None
    return read_tools(good), read_tools(bad)


def is_tools_axis(name: str) -> bool:
    """Whether an axis is named like a list of tools."""
    return any(word in name.casefold() for word in ("tool", "function"))


def _envelopes(axis: Any) -> Iterator[str]:
    while isinstance(axis, Mapping) and (key := _envelope(axis)) is not None:
        yield key
        axis = axis[key]
    yield "mapping" if isinstance(axis, Mapping) else "list" if isinstance(axis, list) else type(axis).__name__


def _envelope(axis: Mapping[str, Any]) -> str | None:
    if _entry_shape(axis) is not None:
        return None
    return next((key for key in _ENVELOPES if isinstance(axis.get(key), Mapping | list)), None)


def _shaped_tools(axis: Any) -> Iterator[tuple[str, Tool]]:
    """(shape, tool) of each tool."""
    if axis is None:
        return
    if isinstance(axis, list):
        for place, tool in enumerate(axis):
            yield from _tool_of_shape(tool, f"tools[{place}]")
        return
    if not isinstance(axis, Mapping):
        raise ReleaseError(f"cannot read the tools axis: it is a {type(axis).__name__}; give a list of tools")
    if "swagger" in axis:
        raise ReleaseError("cannot read the tools axis: it is OpenAPI 2 (Swagger); convert it to OpenAPI 3")
    if "openapi" in axis:
        yield from (("OpenAPI 3", tool) for tool in operations(axis))
    elif _entry_shape(axis) is not None:
        yield from _tool_of_shape(axis, "the tools axis")
    elif (key := _envelope(axis)) is not None:
        yield from _shaped_tools(axis[key])
    else:
        for name, tool in axis.items():
            if not isinstance(tool, Mapping):
                raise ReleaseError(
                    f"cannot read the tools axis: its entry {str(name)[:60]!r} is a {type(tool).__name__}, no tool; {_ADVICE}"
                )
            yield from _tool_of_shape({"name": name, **tool}, f"tools.{str(name)[:60]}")


def _entry_shape(tool: Mapping[str, Any]) -> str | None:
    """The shape of one entry; None: nobody knows it."""
    named = isinstance(tool.get("name"), str)
    if any(key in tool for key in _DECLARATIONS):
        return "Gemini"
    if tool.get("lc") is not None and "kwargs" in tool:
        return "LangChain"
    if isinstance(tool.get("function"), Mapping):
        return "OpenAI"
    if named:
        for key, shape in (("inputSchema", "MCP"), ("input_schema", "Anthropic"), ("args_schema", "LangChain")):
            if key in tool:
                return shape
        if "parametersJsonSchema" in tool or "parameters_json_schema" in tool or _is_upper(tool.get("parameters")):
            return "Gemini"
        if "parameters" in tool:
            return "OpenAI Responses" if tool.get("type") == "function" else "plain"
        if isinstance(tool.get("args"), Mapping):
            return "LangChain"
        if _WITHOUT_SCHEMA.issuperset(tool):
            return "OpenAI Responses" if tool.get("type") == "function" else "plain"
    if isinstance(tool.get("title"), str) and isinstance(tool.get("properties"), Mapping):
        return "LangChain"
    return None


def _is_upper(schema: Any) -> bool:
    """Whether a schema's type is written as Gemini does."""
    return isinstance(schema, Mapping) and isinstance(schema.get("type"), str) and schema["type"].isupper()


def _tool_of_shape(tool: Any, place: str) -> Iterator[tuple[str, Tool]]:
    if not isinstance(tool, Mapping):
        raise ReleaseError(f"cannot read {place}: it is a {type(tool).__name__}, no tool; {_ADVICE}")
    shape = _entry_shape(tool)
    _refuse_built_in(tool, shape, place)
    if shape is None:
        raise _no_schema(tool, place)
    for read in _READERS[shape](tool, place):
        yield shape, read


def _refuse_built_in(tool: Mapping[str, Any], shape: str | None, place: str) -> None:
    kind = tool.get("type")
    if not isinstance(kind, str) or kind in ("function", "object", "constructor"):
        return
    if kind == "custom" and shape == "Anthropic":
        return
    raise ReleaseError(
        f"cannot read {place}{_quoted_tool_name(tool)}: its type is {kind[:60]!r}, a tool that the provider runs itself or that takes "
        "free text: a replay has no results for it; leave it out of the axis"
    )


def _quoted_tool_name(tool: Mapping[str, Any]) -> str:
    return f" ({tool['name'][:60]!r})" if isinstance(tool.get("name"), str) else ""


def _keys_in(tool: Mapping[str, Any]) -> str:
    return ", ".join(str(key)[:40] for key in list(tool)[:8]) or "none"


def _no_schema(tool: Mapping[str, Any], place: str) -> ReleaseError:
    is_named = isinstance(tool.get("name"), str)
    lacks = "but no schema under parameters, input_schema, inputSchema or args_schema" if is_named else "but no name"
    return ReleaseError(f"cannot read {place}{_quoted_tool_name(tool)}: it has the keys {_keys_in(tool)}, {lacks}; {_ADVICE}")


# -- one shape each -------------------------------------------------------------------------------------------------------------
def _tool_of(name: Any, given: Mapping[str, Any], schema: Any, place: str) -> Tool:
    """A tool in the one form; `schema` None: it takes no arguments."""
    if not isinstance(name, str) or not name:
        raise ReleaseError(f"cannot read {place}: it has no name; give name, description and parameters of a function")
    if schema is not None and not isinstance(schema, Mapping):
        raise ReleaseError(
            f"cannot read {place} ({name[:60]!r}): its schema is a {type(schema).__name__}; give a JSON Schema of type object"
        )
    if schema and not _SCHEMA_KEYS.intersection(schema):
        raise ReleaseError(
            f"cannot read {place} ({name[:60]!r}): its schema has neither type nor properties but {_keys_in(schema)}; give a JSON "
            "Schema: {type: object, properties: {…}}"
        )
    return {"name": name, **_with_description(given), "parameters": dict(schema) if schema else dict(_NO_FIELDS)}


def _with_description(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": given["description"]} if isinstance(given.get("description"), str) else {}


def _openai(tool: Mapping[str, Any], place: str) -> Iterator[Tool]:
    """The two shapes of OpenAI and the plain one: other keys of the function are the user's own, and are sent along."""
    function = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
    schema = function.get("parameters") or None
    if "parameters" not in function and not (_WITHOUT_SCHEMA | {"function"}).issuperset(function):
        raise _no_schema(function, place)
    own = {key: value for key, value in function.items() if key not in (*_SENT, "type")}
    strict = {"strict": function["strict"]} if "strict" in function else {}
    yield {**_tool_of(function.get("name"), function, schema, place), **strict, **own}


def _reader_under(key: str) -> Callable[[Mapping[str, Any], str], Iterator[Tool]]:
    def read(tool: Mapping[str, Any], place: str) -> Iterator[Tool]:
        yield _tool_of(tool.get("name"), tool, tool[key], place)

    return read


def _gemini(tool: Mapping[str, Any], place: str) -> Iterator[Tool]:
    listed = next((tool[key] for key in _DECLARATIONS if tool.get(key) is not None), [tool])
    others = sorted(set(tool) - set(_DECLARATIONS)) if listed != [tool] else []
    if others:
        raise ReleaseError(
            f"cannot read {place}: beside functionDeclarations it has {others[0][:60]!r}, a tool that Gemini runs itself: a replay has "
            "no results for it; leave it out of the axis"
        )
    if not isinstance(listed, list):
        raise ReleaseError(f"cannot read {place}: its functionDeclarations are a {type(listed).__name__}; give a list")
    for number, each in enumerate(listed):
        where = f"{place}.functionDeclarations[{number}]"
        if not isinstance(each, Mapping):
            raise ReleaseError(f"cannot read {where}: it is a {type(each).__name__}, no declaration; {_ADVICE}")
        whole = each.get("parametersJsonSchema", each.get("parameters_json_schema"))
        schema = each.get("parameters")
        yield _tool_of(each.get("name"), each, whole if whole is not None else _lowered(schema), where)


def _lowered(schema: Any) -> Any:
    """Gemini's schema as JSON Schema: types in small letters, `nullable` as a type."""
    if isinstance(schema, list):
        return [_lowered(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, Mapping):
            made[key] = {name: _lowered(each) for name, each in value.items()}
        elif key == "type" and isinstance(value, str):
            made[key] = value.lower()
        elif key not in ("nullable", "propertyOrdering", "property_ordering"):
            made[key] = value if key in ("enum", "default", "example", "required") else _lowered(value)
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _langchain(tool: Mapping[str, Any], place: str) -> Iterator[Tool]:
    if "kwargs" in tool:
        inner = tool["kwargs"]
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise ReleaseError(f"cannot read {place}: a serialised tool of LangChain's whose kwargs have no name; {_ADVICE}")
        tool = inner
    if isinstance(tool.get("args_schema"), Mapping):
        schema: Any = tool["args_schema"]
    elif isinstance(tool.get("args"), Mapping):
        fields = tool["args"]
        needed = [name for name, field in fields.items() if not (isinstance(field, Mapping) and "default" in field)]
        schema = {"type": "object", "properties": dict(fields), **({"required": needed} if needed else {})}
    elif isinstance(tool.get("properties"), Mapping):
        schema = {key: value for key, value in tool.items() if key not in ("title", "description")}
        tool = {"name": tool.get("name") or tool.get("title"), "description": tool.get("description")}
    else:
        schema = tool.get("args_schema")
        if schema is None or "lc" in str(schema)[:8]:
            raise ReleaseError(f"cannot read {place}{_quoted_tool_name(tool)}: it has no args_schema as JSON Schema; {_ADVICE}")
    if isinstance(schema, Mapping) and "properties" not in schema:
        raise ReleaseError(
            f"cannot read {place}{_quoted_tool_name(tool)}: its args_schema is no JSON Schema with properties: it has "
            f"{_keys_in(schema)}; {_ADVICE}"
        )
    yield _tool_of(tool.get("name"), tool, schema, place)


_READERS: dict[str, Callable[[Mapping[str, Any], str], Iterator[Tool]]] = {
    "OpenAI": _openai,
    "OpenAI Responses": _openai,
    "plain": _openai,
    "Anthropic": _reader_under("input_schema"),
    "MCP": _reader_under("inputSchema"),
    "Gemini": _gemini,
    "LangChain": _langchain,
}
