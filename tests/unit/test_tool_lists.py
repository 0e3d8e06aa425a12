"""Tool lists of any origin: one form, the same tools sent, compared by field; what nobody knows is refused by name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from bisect_ai.errors import ReleaseError
from bisect_ai.release.check import static_check
from bisect_ai.release.diff import diff
from bisect_ai.release.load import load_release
from bisect_ai.release.openapi import operations
from bisect_ai.release.tools import read_tools, shape_of
from bisect_ai.targets.pipeline import function_tools

FIELD = {"type": "string", "description": "whose"}


def schema(field: str) -> dict[str, Any]:
    return {"type": "object", "properties": {field: FIELD, "limit": {"type": "integer"}}, "required": [field]}


def plain_tools(field: str = "customer_id") -> list[dict[str, Any]]:
    return [
        {"name": "get_orders", "description": "Orders of a customer.", "parameters": schema(field)},
        {"name": "ping", "description": "Nothing.", "parameters": {"type": "object", "properties": {}}},
    ]


def under(key: str, field: str, **more: Any) -> list[dict[str, Any]]:
    return [{**more, "name": t["name"], "description": t["description"], key: t["parameters"]} for t in plain_tools(field)]


def gemini(field: str) -> list[dict[str, Any]]:
    def upper(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v.upper() if k == "type" and isinstance(v, str) else upper(v) for k, v in value.items()}
        return value

    return [{"functionDeclarations": [{**t, "parameters": upper(t["parameters"])} for t in plain_tools(field)]}]


def openapi(field: str) -> dict[str, Any]:
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer"}}
    whose = {"name": field, "in": "query", "required": True, "schema": {"$ref": "#/components/schemas/Whose"}}
    return {
        "openapi": "3.1.0",
        "paths": {
            "/orders": {
                "get": {"operationId": "get_orders", "description": "Orders of a customer.", "parameters": [whose, limit]}
            },
            "/ping": {"post": {"operationId": "ping", "summary": "Nothing."}},
        },
        "components": {"schemas": {"Whose": FIELD}},
    }


SHAPES: dict[str, Any] = {
    "plain": plain_tools,
    "by name": lambda f: {t["name"]: {k: v for k, v in t.items() if k != "name"} for t in plain_tools(f)},
    "OpenAI": lambda f: [{"type": "function", "function": tool} for tool in plain_tools(f)],
    "OpenAI in an envelope": lambda f: {"tools": [{"type": "function", "function": tool} for tool in plain_tools(f)]},
    "OpenAI Responses": lambda f: [{"type": "function", **tool} for tool in plain_tools(f)],
    "Anthropic": lambda f: under("input_schema", f),
    "Anthropic, cached": lambda f: under("input_schema", f, type="custom", cache_control={"type": "ephemeral"}),
    "MCP": lambda f: under("inputSchema", f, title="T", annotations={"readOnlyHint": True}),
    "MCP tools/list": lambda f: {"tools": under("inputSchema", f), "nextCursor": "x"},
    "MCP over JSON-RPC": lambda f: {"jsonrpc": "2.0", "id": 1, "result": {"tools": under("inputSchema", f)}},
    "Gemini": gemini,
    "Gemini alone": lambda f: gemini(f)[0],
    "Gemini, bare declarations": lambda f: gemini(f)[0]["functionDeclarations"],
    "Gemini, JSON Schema": lambda f: [{"function_declarations": under("parametersJsonSchema", f)}],
    "LangChain": lambda f: under("args_schema", f),
    "LangChain, serialised": lambda f: [
        {"lc": 1, "type": "constructor", "id": ["langchain", "tools", "StructuredTool"], "kwargs": kwargs}
        for kwargs in under("args_schema", f)
    ],
    "LangChain, titled schema": lambda f: [
        {"title": t["name"], "description": t["description"], **t["parameters"]} for t in plain_tools(f)
    ],
    "OpenAPI 3": openapi,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_sends_the_same_tools(shape: str) -> None:
    given = SHAPES[shape]("customer_id")
    kept = copy.deepcopy(given)
    assert function_tools(given) == [{"type": "function", "function": tool} for tool in plain_tools()]
    assert given == kept


@pytest.mark.parametrize("shape", SHAPES)
def test_a_renamed_field_is_one_change_in_every_shape(shape: str) -> None:
    good, bad = (load_release({"tools": SHAPES[shape](f)}) for f in ("customer_id", "customerId"))
    tree = diff(good, bad)
    renamed = [change for change in tree.changes if change.kind == "renamed"]
    assert len(tree.changes) == len(renamed) == 1, [c.summary for c in tree.changes]
    assert (renamed[0].before, renamed[0].after) == ("customer_id", "customerId")
    assert dict(tree.apply(())) == dict(good.axes) and dict(tree.apply(tree.changes)) == dict(bad.axes)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_shapes_are_compared_by_field(shape: str) -> None:
    good, bad = load_release({"tools": plain_tools("customer_id")}), load_release({"tools": SHAPES[shape]("customerId")})
    tree = diff(good, bad)
    assert [(c.kind, c.before, c.after) for c in tree.changes] == [("renamed", "customer_id", "customerId")]
    assert dict(tree.apply(())) == dict(good.axes) and dict(tree.apply(tree.changes)) == dict(bad.axes)


def test_the_same_tools_in_another_shape_are_one_change_as_a_whole() -> None:
    good, bad = load_release({"tools": plain_tools()}), load_release({"tools": openapi("customer_id")})
    (change,) = diff(good, bad).changes
    assert dict(diff(good, bad).apply([change])) == dict(bad.axes)


def test_what_lies_between_two_shapes_is_in_the_one_form() -> None:
    later = plain_tools("customerId")
    later[1]["description"] = "Something."
    good, bad = load_release({"tools": SHAPES["MCP"]("customer_id")}), load_release({"tools": SHAPES["OpenAI"]("customerId")})
    bad = load_release({"tools": [{"type": "function", "function": tool} for tool in later]})
    tree = diff(good, bad)
    assert len(tree.changes) == 2
    (renamed,) = (change for change in tree.changes if change.kind == "renamed")
    assert read_tools(tree.apply([renamed])["tools"]) == plain_tools("customerId")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_static_check_reads_every_shape(shape: str) -> None:
    good, bad = (
        load_release({"prompt": "Use `customer_id`.", "tools": SHAPES[shape](f)}) for f in ("customer_id", "customerId")
    )
    assert any("no longer has the field" in suspect.message for suspect in static_check(good, bad))


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("text", r"tools axis: it is a str"),
        ([3], r"tools\[0\]: it is a int, no tool"),
        (
            [{"name": "a", "parameters": {}}, {"name": "get_order", "schema": {}}],
            r"tools\[1\] \('get_order'\).*keys name, schema",
        ),
        ([{"name": "a", "paramters": {"type": "object"}}], r"\('a'\).*paramters, but no schema"),
        ([{"parameters": {"type": "object"}}], r"tools\[0\].*but no name"),
        ([{"type": "web_search"}], r"tools\[0\]: its type is 'web_search'"),
        ([{"type": "web_search_20250305", "name": "web_search"}], r"\('web_search'\): its type is"),
        ([{"type": "custom", "name": "sql", "format": {"type": "grammar"}}], r"\('sql'\): its type is 'custom'"),
        ([{"googleSearch": {}}], r"keys googleSearch"),
        ([{"functionDeclarations": [], "codeExecution": {}}], r"codeExecution"),
        ({"swagger": "2.0", "paths": {}}, r"Swagger"),
        ({"openapi": "3.0.0"}, r"without paths"),
        ({"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [{"$ref": "other.yaml#/x"}]}}}}, r"outside the document"),
        ({"openapi": "3.0.0", "paths": {"/a": {"get": {"parameters": [{"$ref": "#/nowhere"}]}}}}, r"not there"),
        ({"paths": {"/a": {}}, "info": "x"}, r"keys name, /a"),
        ({"version": 3, "get_order": {"parameters": {}}}, r"entry 'version' is a int"),
        ([{"name": "a", "parameters": {"customer_id": {"type": "string"}}}], r"neither type nor properties but customer_id"),
        ([{"name": "a", "input_schema": "string"}], r"its schema is a str"),
        ([{"name": "a", "args_schema": {"lc": 1, "type": "not_implemented"}}], r"args_schema is no JSON Schema"),
    ],
)
def test_what_nobody_knows_is_refused_by_name_on_one_line(axis: Any, said: str) -> None:
    with pytest.raises(ReleaseError, match=said) as refused:
        function_tools(axis)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert shape_of(axis) is None


def test_the_fields_of_an_openapi_body_and_path_are_arguments() -> None:
    body = {"schema": {"$ref": "#/components/schemas/Order"}}
    parts = {"type": "array", "items": {"$ref": "#/components/schemas/Order"}}
    document = {
        "openapi": "3.0.3",
        "paths": {
            "/customers/{customer}/orders": {
                "parameters": [{"name": "customer", "in": "path", "schema": {"type": "string"}}],
                "post": {
                    "parameters": [{"name": "X-Trace", "in": "header", "schema": {"type": "string"}}],
                    "requestBody": {"required": True, "content": {"application/json": body}},
                },
            }
        },
        "components": {
            "schemas": {
                "Order": {
                    "type": "object",
                    "properties": {"item": {"type": "string"}, "parts": parts},
                    "required": ["item"],
                }
            }
        },
    }  # fmt: skip
    (tool,) = read_tools(document)
    assert tool["name"] == "post_customers_customer_orders"
    assert list(tool["parameters"]["properties"]) == ["customer", "item", "parts"]
    assert tool["parameters"]["required"] == ["customer", "item"]
    assert tool["parameters"]["properties"]["parts"] == {"type": "array", "items": {}}
    json.dumps(tool)


ID, NOTE = {"type": "string"}, {"type": "integer"}
BODIES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "all of": (
        {"allOf": [{"$ref": "#/components/schemas/Base"}, {"properties": {"note": NOTE}, "required": ["note"]}]},
        {"id": ID, "note": NOTE},
        ["id", "note"],
    ),
    "one of one": ({"oneOf": [{"$ref": "#/components/schemas/Base"}], "title": "x"}, {"id": ID}, ["id"]),
    "one of two": (
        {
            "oneOf": [
                {"$ref": "#/components/schemas/Base"},
                {"properties": {"id": NOTE, "note": NOTE}, "required": ["note", "id"]},
            ]
        },
        {"id": {"anyOf": [ID, NOTE]}, "note": NOTE},
        ["id"],
    ),
    "any of, or null": ({"anyOf": [{"$ref": "#/components/schemas/Base"}, {"type": "null"}]}, {"id": ID}, ["id"]),
    "of 3.1, or null": ({"type": ["object", "null"], "properties": {"id": ID}}, {"id": ID}, []),
    "a list": ({"type": "array", "items": ID}, {"body": {"type": "array", "items": ID}}, ["body"]),
    "text or object": ({"oneOf": [ID, {"properties": {}}]}, {"body": {"oneOf": [ID, {"properties": {}}]}}, ["body"]),
}


@pytest.mark.parametrize("body", BODIES)
def test_the_fields_of_a_composed_openapi_body_are_arguments(body: str) -> None:
    schema, fields, required = BODIES[body]
    media = {"required": True, "content": {"application/json": {"schema": schema}}}
    base = {"type": "object", "properties": {"id": ID}, "required": ["id"]}
    document = {
        "openapi": "3.1.0",
        "paths": {"/x": {"post": {"operationId": "x", "requestBody": media}}},
        "components": {"schemas": {"Base": base}},
    }
    (tool,) = operations(document)
    assert tool["parameters"]["properties"] == fields and tool["parameters"].get("required", []) == required


def test_a_nullable_field_of_gemini_may_be_null() -> None:
    fields = {
        "note": {"type": "STRING", "nullable": True, "enum": ["A", "B"]},
        "type": {"type": "ARRAY", "items": {"type": "NUMBER"}},
    }
    (tool,) = read_tools({"functionDeclarations": [{"name": "a", "parameters": {"type": "OBJECT", "properties": fields}}]})
    assert tool["parameters"]["properties"] == {
        "note": {"type": ["string", "null"], "enum": ["A", "B"]},
        "type": {"type": "array", "items": {"type": "number"}},
    }


@pytest.mark.parametrize("axis", [None, [], {}, {"tools": []}])
def test_no_tools_are_no_tools(axis: Any) -> None:
    assert function_tools(axis) == []
