"""What leaves is what the release and the query say, field by field, on each route; credentials leave in their header only."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from bisect_ai.canonical import digest
from bisect_ai.queries.query import Query
from tests.faults.provider import Provider, Request, Say
from tests.faults.test_wire import CANARY, NAMES, ROUTES, closing, made

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "description": "which order"}},
    "required": ["order_id"],
}
TOOL = {"name": "find_order", "description": "Finds an order.", "parameters": SCHEMA}
QUERY = {
    "id": "q-secret-id",
    "input": "what about refunds and parcels?",
    "plan": "pro",
    "history": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "how can I help"}],
    "reference": "the reference",
    "output": "the logged answer",
    "cluster": "user-7",
    "scores": {"correct": 1.0},
}
TURNS = [
    ("user", "where is it"),
    ("assistant", "On its way."),
    ("user", "hello there"),
    ("assistant", "how can I help"),
    ("user", '<document id="a.md">\nall about refunds\n</document>\n\nQuestion: what about refunds and parcels? (pro)'),
]
SAMPLING = {"max_tokens": 321, "temperature": 0.25, "top_p": 0.75}
KEY_HEADER = {"openai": "authorization", "mistral": "authorization", "anthropic": "x-api-key"}
SILENT = {("corpus", "documents", "b.md"), ("context", "max_chars"), ("flags", "colour")}
"""Leaves that this query's call does not show: a document that is not found, room that is not filled, what only other code reads."""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def release(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": {**model, "max_tokens": 321, "temperature": 0.25},
        "sampling": {"top_p": 0.75, "stop": ["END"]},
        "prompt": {
            "system": "Be kind.",
            "user": "Question: {input} ({plan})",
            "examples": [{"input": "where is it", "output": "On its way."}],
        },
        "corpus": {
            "documents": {"a.md": "all about refunds", "b.md": "parcels and post"},
            "retriever": {"kind": "tfidf", "k": 1},
        },
        "tools": [copy.deepcopy(TOOL)],
        "context": {"documents": "before_question", "history": 2, "max_chars": 500},
        "flags": {"colour": "blue"},
    }


def sent(provider: Provider, given: Mapping[str, Any]) -> Request:
    answer = asyncio.run(closing(made()(Query(QUERY), given, 0)))
    assert answer.outcome == "ok"
    return provider.requests[-1]


def expected(route: str) -> dict[str, Any]:
    """The body by the provider's own documentation of its format."""
    if route == "anthropic":
        parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in TURNS]
        tool = {"type": "custom", "name": TOOL["name"], "description": TOOL["description"], "input_schema": SCHEMA}
        system = [{"type": "text", "text": "Be kind."}]
        return {
            **SAMPLING,
            "stop_sequences": ["END"],
            "model": NAMES[route],
            "system": system,
            "messages": parts,
            "tools": [tool],
        }
    messages = [{"role": role, "content": text} for role, text in [("system", "Be kind."), *TURNS]]
    tools = [{"type": "function", "function": TOOL}]
    return {**SAMPLING, "stop": ["END"], "model": NAMES[route], "messages": messages, "tools": tools}


@pytest.mark.parametrize("route", ROUTES)
def test_the_request_is_the_composed_release_and_nothing_else(route: str) -> None:
    with Provider([Say()]) as provider:
        request = sent(provider, release(provider.model(route, NAMES[route])))
    assert request.body == expected(route)
    assert request.headers[KEY_HEADER[route]] == "[present]"
    told = json.dumps([request.path, {k: v for k, v in request.headers.items() if k != KEY_HEADER[route]}, request.body])
    assert not [
        word for word in (CANARY, "q-secret-id", "the reference", "the logged answer", "user-7", "blue") if word in told
    ]


SHAPES: dict[str, Any] = {
    "OpenAI": [{"type": "function", "function": TOOL}],
    "OpenAI Responses": [{"type": "function", **TOOL}],
    "Anthropic": [{"name": TOOL["name"], "description": TOOL["description"], "input_schema": SCHEMA}],
    "MCP": {"tools": [{"name": TOOL["name"], "description": TOOL["description"], "inputSchema": SCHEMA}]},
    "Gemini": {"functionDeclarations": [TOOL]},
    "LangChain": [{"name": TOOL["name"], "description": TOOL["description"], "args_schema": SCHEMA}],
    "OpenAPI 3": {
        "openapi": "3.1.0",
        "paths": {
            "/orders": {
                "get": {
                    "operationId": TOOL["name"],
                    "description": TOOL["description"],
                    "parameters": [
                        {
                            "name": "order_id",
                            "in": "query",
                            "required": True,
                            "description": "which order",
                            "schema": {"type": "string"},
                        }
                    ],
                }
            }
        },
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("route", ROUTES)
def test_tools_of_any_shape_leave_in_the_shape_of_the_provider(route: str, shape: str) -> None:
    with Provider([Say()]) as provider:
        request = sent(provider, {**release(provider.model(route, NAMES[route])), "tools": copy.deepcopy(SHAPES[shape])})
    assert request.body == expected(route)


@pytest.mark.parametrize("route", ROUTES)
def test_every_leaf_of_the_release_reaches_the_wire_and_changes_the_key(route: str) -> None:
    with Provider([Say()]) as provider:
        given = release(provider.model(route, NAMES[route]))
        body, silent, keys = sent(provider, given).body, set(), {digest(given)}
        changed = dict(_changed(given))
        for path, other in changed.items():
            silent |= {path} if sent(provider, other).body == body else set()
            keys.add(digest(other))
    # Anthropic takes objects alone: litellm writes that type, whatever the schema of a tool says.
    assert silent == SILENT | ({("tools", 0, "parameters", "type")} if route == "anthropic" else set())
    assert len(keys) == 1 + len(changed) >= 20


def _changed(given: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The release with one leaf changed, for each leaf; where it is sent and by whom stays."""
    for path, leaf in _leaves(given):
        if path in {("model", "api_base"), ("corpus", "retriever", "kind")}:
            continue
        other = copy.deepcopy(given)
        inside = other
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = _other(path, leaf)
        yield path, other


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(inner, (*path, key))


def _other(path: tuple[Any, ...], leaf: Any) -> Any:
    special = {("context", "documents"): "system", ("context", "history"): 1, ("corpus", "retriever", "k"): 2}
    if path in special:
        return special[path]
    if path[-1] == "type":
        return "array" if leaf == "object" else "integer"
    return leaf / 2 if isinstance(leaf, float) else leaf + 1 if isinstance(leaf, int) else f"{leaf} otherwise"
