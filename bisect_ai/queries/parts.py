"""The parts of one message's content: texts, tool calls, tool results, and what cannot be said in text (images, files, audio).

A part names its kind in `type` (OpenAI, Anthropic, OpenTelemetry), in `block_type` (LlamaIndex), or by its one key (Gemini).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

TEXTS = frozenset({"text", "input_text", "output_text"})
CALLS = frozenset({"tool_call", "tool_use", "server_tool_call", "functionCall", "function_call", "tool-call"})
RESULTS = frozenset(
    {"tool_call_response", "tool_result", "server_tool_call_response", "functionResponse", "function_response", "tool-result"}
)
SILENT = frozenset({"reasoning", "thinking", "redacted_thinking", "compaction", "thought"})
BY_KEY = ("text", "functionCall", "function_call", "functionResponse", "function_response")
MEDIA = ("inlineData", "inline_data", "fileData", "file_data")


class ContentParts(NamedTuple):
    """A message's content: text (or parts, where some are no text), tool results as (call id, text), and tool calls."""

    content: Any
    results: list[tuple[Any, str]]
    calls: list[dict[str, Any]]


def content_of(given: Any) -> ContentParts:
    """What a logged content holds: a text is itself, parts are read one by one, any other value is its JSON."""
    if isinstance(given, Mapping) and isinstance(given.get("parts"), list):  # ChatGPT
        given = given["parts"]
    elif isinstance(given, Mapping) and kind_of(given):
        given = [given]
    if given is None or isinstance(given, str):
        return ContentParts(given, [], [])
    if not isinstance(given, list):
        return ContentParts(json.dumps(given, ensure_ascii=False, default=str), [], [])
    return _of_parts([part if isinstance(part, Mapping) else {"type": "text", "text": part} for part in given])


def _of_parts(parts: list[Mapping[str, Any]]) -> ContentParts:
    texts, others = list[str](), list[dict[str, Any]]()
    results, calls = list[tuple[Any, str]](), list[dict[str, Any]]()
    for part in parts:
        kind = kind_of(part)
        if kind in TEXTS:
            texts.append(_text(part))
        elif kind in RESULTS:
            results.append(_result(part, kind))
        elif kind in CALLS:
            calls.append(tool_call(_inner(part, kind)))
        elif kind not in SILENT:
            others.append({**part, "type": kind or "part"})
    content: Any = "\n".join(texts)
    if others:
        content = [*({"type": "text", "text": text} for text in texts), *others]
    return ContentParts(content, results, calls)


def kind_of(part: Mapping[str, Any]) -> str:
    """The kind of a part in its producer's word; empty for an object that is none."""
    named = part.get("type", part.get("block_type"))
    if isinstance(named, str):
        return named
    media = next((part[name] for name in MEDIA if isinstance(part.get(name), Mapping)), None)
    if media is not None:
        return str(media.get("mimeType") or media.get("mime_type") or "file").partition("/")[0]
    return next((name for name in BY_KEY if name in part), "")


def _text(part: Mapping[str, Any]) -> str:
    found = part.get("content") or part.get("text") or ""
    return str(found.get("value") or "") if isinstance(found, Mapping) else str(found)


def _result(part: Mapping[str, Any], kind: str) -> tuple[Any, str]:
    inner = _inner(part, kind)
    found = next((inner[key] for key in ("response", "result", "content", "output") if inner.get(key) is not None), None)
    if kind == "tool-result" and isinstance(found, Mapping) and "value" in found:  # Vercel: {type: text, value: …}
        found = found["value"]
    return inner.get("id") or inner.get("tool_use_id") or inner.get("toolCallId"), _plain(found)


def _plain(found: Any) -> str:
    read = content_of(found).content
    return read if isinstance(read, str) else "" if read is None else json.dumps(read, ensure_ascii=False, default=str)


def _inner(part: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    inner = part.get(kind)
    return inner if isinstance(inner, Mapping) else part


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls that stand beside a message's content."""
    listed = message.get("tool_calls")
    found = [tool_call(call) for call in listed if isinstance(call, Mapping)] if isinstance(listed, list) else []
    single = message.get("function_call")
    return found or ([tool_call(single)] if isinstance(single, Mapping) and single.get("name") else [])


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as `{id, type: function, function: {name, arguments}}`, the arguments as JSON text."""
    function: Mapping[str, Any] = call["function"] if isinstance(call.get("function"), Mapping) else call
    given = function.get("arguments", function.get("input", function.get("args")))
    arguments = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False, default=str)
    return {
        "id": str(call.get("id") or call.get("toolCallId") or ""),
        "type": "function",
        "function": {
            "name": str(function.get("name") or call.get("toolName") or call.get("function") or ""),
            "arguments": arguments,
        },
    }
