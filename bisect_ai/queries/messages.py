"""Chat messages of any producer in one form: `{role, content, tool_calls?, tool_call_id?, name?}`, content as text where it is text.

Read are OpenAI messages, messages of parts (OpenTelemetry GenAI, Anthropic), LangChain's `{type, data}` and plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.values import embedded

Message = dict[str, Any]
ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "developer": "system", "function": "tool"}
QUESTION_KEYS = ("question", "query", "input", "user_input", "prompt", "message", "text", "content", "user", "kwargs", "args")
"""Where a traced function's input holds the question, the likeliest first."""
MAX_STEPS = 8


def read_messages(value: Any) -> list[Message] | None:
    """The messages that a logged value holds; None when it holds none."""
    found = embedded(value)
    if isinstance(found, Mapping):
        found = found.get("messages") if isinstance(found.get("messages"), list) else [found] if "role" in found else None
    if not isinstance(found, list) or not found or not all(isinstance(each, Mapping) for each in found):
        return None
    if not all("role" in each or "type" in each for each in found):
        return None
    return [message for each in found for message in _messages(each)]


def _messages(each: Mapping[str, Any]) -> Iterator[Message]:
    """The message; results of tools inside one message of parts become messages of their own."""
    if "role" not in each and isinstance(each.get("data"), Mapping):
        each = {**each["data"], "role": each["type"]}
    elif "role" not in each:
        yield from _item(each)
        return
    parts = each.get("parts", each.get("content"))
    role = ROLES.get(str(each["role"]), str(each["role"]))
    if not isinstance(parts, list):
        yield _plain(each, role)
        return
    read = [part if isinstance(part, Mapping) else {"type": "text", "content": part} for part in parts]
    results = [part for part in read if part.get("type") in ("tool_call_response", "tool_result", "server_tool_call_response")]
    for part in results:
        found = next((part[key] for key in ("response", "result", "content") if part.get(key) is not None), None)
        identity = part.get("id") or part.get("tool_use_id")
        yield {"role": "tool", "content": text_of_content(found), **({"tool_call_id": identity} if identity else {})}
    others = [part for part in read if part not in results]
    if others or not results:
        yield _of_parts(each, role, others)


def _item(each: Mapping[str, Any]) -> Iterator[Message]:
    """An item of OpenAI's Responses: a tool call or its result beside the messages."""
    if each.get("type") == "function_call":
        yield {"role": "assistant", "content": None, "tool_calls": [tool_call({**each, "id": each.get("call_id")})]}
    elif each.get("type") == "function_call_output":
        yield {"role": "tool", "content": text_of_content(each.get("output")), "tool_call_id": each.get("call_id")}


def _plain(each: Mapping[str, Any], role: str) -> Message:
    calls = _calls(each)
    kept = {key: each[key] for key in ("tool_call_id", "name") if each.get(key)}
    return {"role": role, "content": each.get("content"), **({"tool_calls": calls} if calls else {}), **kept}


def _of_parts(each: Mapping[str, Any], role: str, parts: Sequence[Mapping[str, Any]]) -> Message:
    texts, calls, others = [], _calls(each), []
    for part in parts:
        kind = part.get("type")
        if kind in ("text", "input_text", "output_text"):
            texts.append(str(part.get("content") or part.get("text") or ""))
        elif kind in ("tool_call", "tool_use", "server_tool_call"):
            calls.append(tool_call(part))
        elif kind not in ("reasoning", "thinking", "compaction"):
            others.append(dict(part))
    content: Any = "\n".join(texts)
    if others:
        content = [*({"type": "text", "text": text} for text in texts), *others]
    kept = {key: each[key] for key in ("tool_call_id", "name") if each.get(key)}
    return {"role": role, "content": content, **({"tool_calls": calls} if calls else {}), **kept}


def _calls(each: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = each.get("tool_calls")
    return [tool_call(call) for call in listed if isinstance(call, Mapping)] if isinstance(listed, list) else []


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as `{id, type: function, function: {name, arguments}}`, the arguments as JSON text."""
    function: Mapping[str, Any] = call["function"] if isinstance(call.get("function"), Mapping) else call
    given = function.get("arguments", function.get("input", function.get("args")))
    arguments = given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
    return {
        "id": str(call.get("id") or ""),
        "type": "function",
        "function": {"name": str(function.get("name") or call.get("function") or ""), "arguments": arguments},
    }


def text_of_content(content: Any) -> str:
    """Content as text: parts joined, anything that is no text as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(isinstance(part, Mapping) and "type" in part for part in content):
        return "\n".join(str(part.get("text") or part.get("content") or f"[{part['type']}]") for part in content)
    return json.dumps(content, ensure_ascii=False, default=str)


def question_of(value: Any, depth: int = 0) -> str | None:
    """The question in a traced function's input: text, the last user message, or the likeliest of its arguments."""
    found = embedded(value)
    if isinstance(found, str):
        return found or None
    if messages := read_messages(found):
        return last_user(messages)
    if depth > MAX_STEPS:
        return None
    if isinstance(found, Mapping):
        named = [found[key] for key in QUESTION_KEYS if found.get(key)]
        inner = named or (list(found.values()) if len(found) == 1 else [])
    else:
        inner = found if isinstance(found, list) else []
    return next((text for each in inner if (text := question_of(each, depth + 1))), None)


def answer_of(value: Any) -> str | None:
    """The text of an answer: a text, a message, a completion object; other values as JSON; None for none."""
    found = embedded(value)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, Mapping) and isinstance(found.get("choices"), list):
        first = found["choices"][0] if found["choices"] else {}
        return answer_of(first.get("message", first.get("text"))) if isinstance(first, Mapping) else None
    if messages := read_messages(found):
        return text_of_content(messages[-1].get("content"))
    return text_of_content(found)


def last_user(messages: Sequence[Message]) -> str | None:
    """The text of the last user message; None without one."""
    spoken = [each for each in messages if each["role"] == "user"]
    return text_of_content(spoken[-1].get("content")) or None if spoken else None


def tool_results(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Every tool call with the result that came back, in order; a call whose result is not there has none."""
    answered = [each for each in messages if each["role"] == "tool" and each.get("tool_call_id")]
    results = {str(each["tool_call_id"]): each.get("content") for each in answered}
    found, seen = [], set[str]()
    for call in (call for each in messages for call in each.get("tool_calls") or ()):
        made = call["function"]
        known = {"result": results[call["id"]]} if call["id"] in results else {}
        if not call["id"] or call["id"] not in seen:
            found.append({"name": made["name"], "arguments": embedded(made["arguments"]), **known})
        seen.add(call["id"])
    return found
