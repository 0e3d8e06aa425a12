"""Spans by OpenInference's conventions (Phoenix, Arize): messages, documents and tools are index-flattened keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bisect_ai.queries.formats.field_table import first, rest, take
from bisect_ai.queries.formats.genai import flattened, unflatten, versions
from bisect_ai.queries.formats.spans import Dialect, Kind, Span
from bisect_ai.queries.messages import Message, answer_of, question_of, read_messages
from bisect_ai.queries.traces import Call
from bisect_ai.queries.values import embedded, unquoted

FIELDS = {
    "model": ("llm.request.model_name", "llm.model_name"),
    "model_returned": ("llm.response.model_name", "llm.model_name"),
    "provider": ("llm.provider", "llm.system"),
    "params": ("llm.invocation_parameters",),
    "prompt_name": ("prompt.id", "llm.prompt_template.name"),
    "prompt_version": ("llm.prompt_template.version",),
    "prompt_template": ("llm.prompt_template.template",),
    "prompt_variables": ("llm.prompt_template.variables",),
}
USAGE = {
    "input_tokens": ("llm.token_count.prompt",),
    "output_tokens": ("llm.token_count.completion",),
    "usd": ("llm.cost.total",),
}
SHARED = {"release": ("service.version", "resource.service.version"), "cluster": ("user.id", "session.id")}
TOOL = {"name": ("tool.name",), "arguments": ("tool.parameters", "input.value"), "result": ("output.value",)}
FLAT = ("llm.input_messages", "llm.output_messages", "llm.tools", "llm.prompts", "llm.choices", "retrieval.documents")
BODIES = ("input.value", "output.value", "input.mime_type", "output.mime_type", "openinference.span.kind")
KINDS: dict[str, Kind] = {"LLM": "call", "RETRIEVER": "retrieval", "RERANKER": "retrieval", "TOOL": "tool"}


def _kind(span: Span) -> Kind:
    return KINDS.get(str(span["attributes"].get("openinference.span.kind")).upper(), "other")


def _call(span: Span) -> Call:
    found = span["attributes"]
    fields = take(found, FIELDS)
    if isinstance(fields.get("params"), Mapping):
        fields["params"] = {key: each for key, each in fields["params"].items() if key not in ("model", "messages")}
    tools = [
        embedded(each["tool"].get("json_schema")) for each in _listed(found, "llm.tools") if isinstance(each.get("tool"), dict)
    ]
    extra = rest({k: v for k, v in found.items() if k not in flattened(found, *FLAT)}, FIELDS, USAGE, {"": BODIES})
    return Call(
        span["id"],
        span.get("start"),
        _messages(found),
        _answer(found),
        fields={
            **fields,
            "tools": [each for each in tools if each],
            "usage": take(found, USAGE),
            "versions": versions(fields),
        },
        extra={**extra, "span_name": span.get("name"), "trace_id": span.get("trace")},
    )


def _listed(found: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    nested = unflatten(found, prefix)
    return [each for each in nested if isinstance(each, dict)] if isinstance(nested, list) else []


def _messages(found: Mapping[str, Any]) -> list[Message]:
    if flat := [
        _message(each["message"]) for each in _listed(found, "llm.input_messages") if isinstance(each.get("message"), dict)
    ]:
        return read_messages(flat) or []
    for each in _listed(found, "llm.prompts"):
        if isinstance(each.get("prompt"), dict) and each["prompt"].get("text"):
            return [{"role": "user", "content": each["prompt"]["text"]}]
    given = found.get("input.value")
    if messages := read_messages(given):
        return messages
    question = question_of(given if _is_text(found, "input") else unquoted(given))
    return [{"role": "user", "content": question}] if question else []


def _is_text(found: Mapping[str, Any], name: str) -> bool:
    """Whether a value says of itself that it is text, not JSON."""
    return str(found.get(f"{name}.mime_type") or "") == "text/plain"


def _output(found: Mapping[str, Any]) -> str | None:
    return answer_of(found.get("output.value"), encoded=not _is_text(found, "output"))


def _message(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flattened message as OpenAI writes it."""
    message = {key: flat[key] for key in ("role", "content", "name", "tool_call_id") if key in flat}
    if isinstance(flat.get("contents"), list):
        message["content"] = [_content(each.get("message_content")) for each in flat["contents"] if isinstance(each, dict)]
    calls = flat.get("tool_calls")
    message["tool_calls"] = [each["tool_call"] for each in calls if "tool_call" in each] if isinstance(calls, list) else []
    return {"role": "user", **message}


def _content(part: Any) -> dict[str, Any]:
    return {"type": "text", **part} if isinstance(part, Mapping) else {"type": "text", "text": part}


def _answer(found: Mapping[str, Any]) -> Message | None:
    flat = [
        _message({"role": "assistant", **each["message"]})
        for each in _listed(found, "llm.output_messages")
        if "message" in each
    ]
    if said := read_messages(flat):
        return said[-1]
    for each in _listed(found, "llm.choices"):
        if isinstance(each.get("completion"), dict):
            return {"role": "assistant", "content": each["completion"].get("text")}
    text = _output(found)
    return None if text is None else {"role": "assistant", "content": text}


def _documents(span: Span) -> list[Any]:
    prefix = "reranker.output_documents" if "reranker" in " ".join(span["attributes"]) else "retrieval.documents"
    listed = [each["document"] for each in _listed(span["attributes"], prefix) if isinstance(each.get("document"), dict)]
    return [{"id": each.get("id"), "text": each.get("content"), **rest(each, {"": ("id", "content")})} for each in listed]


def _tool(span: Span) -> dict[str, Any] | None:
    found = take(span["attributes"], TOOL)
    found.setdefault("name", span.get("name"))
    return found if found["name"] else None


def _shared(span: Span) -> dict[str, Any]:
    scores: dict[str, float] = {}
    for prefix in ("annotations", "evaluations", "trace.annotations", "trace.evaluations"):
        for each in _listed(span["attributes"], prefix):
            inner = each.get(prefix.split(".")[-1].removesuffix("s"))
            if isinstance(inner, dict) and inner.get("name") and isinstance(inner.get("score"), int | float):
                scores[str(inner["name"])] = inner["score"]
    found = take({**span.get("resource", {}), **span["attributes"]}, SHARED)
    return {**{name: str(value) for name, value in found.items()}, **({"scores": scores} if scores else {})}


def _asked(span: Span) -> tuple[Any, str | None]:
    return first(span["attributes"], ("input.value",)), _output(span["attributes"])


def _is_openinference(span: Span) -> bool:
    return bool({"openinference.span.kind", "llm.model_name", "input.value"} & set(span["attributes"]))


OPENINFERENCE = Dialect(_is_openinference, _kind, _call, _documents, _tool, _shared, _asked)
