"""Chat messages of any producer in one form: `{role, content, tool_calls?, tool_call_id?, name?}`, content as text where it is text.

Read are OpenAI messages, messages of parts (OpenTelemetry GenAI, Anthropic, Gemini, LlamaIndex), LangChain's (`type: human`, `{type,
data}`, serialised constructors), ShareGPT's `{from, value}` and ChatGPT's `author.role`.

A part of a message's content names its kind in `type` (OpenAI, Anthropic, OpenTelemetry), in `block_type` (LlamaIndex), or by its one
key (Gemini); what cannot be said in text (images, files, audio) is told by kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bisect_ai.canonical import text_or_json
from bisect_ai.queries.speakers import KNOWN, ROLES, role_of, with_assistant
from bisect_ai.queries.values import decoded, embedded, unquoted

Message = dict[str, Any]
# Where an object holds a list of messages.
LISTS = ("messages", "contents", "input", "prompt", "conversation", "conversations")
# OpenAI's Responses: a tool call or its result beside the messages.
ITEMS = ("function_call", "function_call_output")
# Where a traced function's input holds the question, the likeliest first.
QUESTION_KEYS = ("question", "query", "input", "user_input", "prompt", "message", "text", "content", "user", "kwargs", "args")
# Where a completion lists its replies, and where each holds its message.
REPLIES = (("choices", "message"), ("candidates", "content"), ("generations", "message"))
# What a simulated user says to end a conversation.
STOP_MARKS = frozenset(
    {"###stop###", "###transfer###", "###out-of-scope###", "<stop>", "[stop]", "terminate", "[end]", "<end>"}
)
MAX_STEPS = 8  # wrappers inside wrappers end here, hostile ones too
TEMPLATE_STARTS = ("<|im_start|>", "<|begin_of_text|>", "<|start_header_id|>")
# A turn of a chat template: who speaks, and what.
_TURN = re.compile(
    r"<\|(?:im_start|start_header_id)\|>\s*(\w+)\s*?(?:<\|end_header_id\|>\s*|\n)(.*?)(?=<\|(?:im_end|eot_id|im_start|start_header_id)\|>|\Z)",
    re.DOTALL,
)


def read_messages(value: Any) -> list[Message] | None:
    """The messages that a logged value holds; None when it holds none."""
    found = decoded(value)
    if isinstance(found, Mapping):
        return _of_object(found)
    if isinstance(found, str):
        return template_messages(found)
    while isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if not isinstance(found, list) or not found or not all(isinstance(each, Mapping) for each in found):
        return None
    found = with_assistant(found)
    roles = [role_of(each) for each in found]
    if not all(role is not None or each.get("type") in ("reasoning", *ITEMS) for role, each in zip(roles, found, strict=True)):
        return None
    if not KNOWN & set(roles) and not any(each.get("type") in ITEMS for each in found):
        return None
    return [message for each in found for message in _messages(each)] or None


def template_messages(text: str) -> list[Message] | None:
    """A conversation as ChatML or Llama 3 writes it for the model, with a question in it; None for any other text."""
    if not text.lstrip().startswith(TEMPLATE_STARTS):
        return None
    turns = [(ROLES.get(role.lower(), role.lower()), said.strip()) for role, said in _TURN.findall(text)]
    messages: list[Message] = [{"role": role, "content": said} for role, said in turns if role in KNOWN and said]
    return messages if asked_at(messages) is not None else None


def _of_object(found: Mapping[str, Any]) -> list[Message] | None:
    if role_of(found) in KNOWN:
        return list(_messages(found))
    if isinstance(said := found.get("message"), Mapping) and role_of(said) in KNOWN:
        return list(_messages(said))
    listed = next((found[name] for name in LISTS if isinstance(found.get(name), list)), None)
    messages = read_messages(listed) if listed is not None else _with_history(found)
    if messages is None and isinstance(found.get("prompt"), str) and set(found) == {"system", "prompt"}:
        messages = [{"role": "user", "content": found["prompt"]}]
    system = found.get("system", found.get("systemInstruction", found.get("system_instruction", found.get("instructions"))))
    if not messages or not system or any(each["role"] == "system" for each in messages):
        return messages
    text = text_of_content(content_of(system.get("parts") if isinstance(system, Mapping) else system).content)
    return [{"role": "system", "content": text}, *messages] if text else messages


def _with_history(found: Mapping[str, Any]) -> list[Message] | None:
    """A chain's input: what was said before, and the question beside it."""
    before = next((read_messages(found[name]) for name in ("chat_history", "history") if found.get(name)), None)
    asked = next((found[name] for name in QUESTION_KEYS if isinstance(found.get(name), str)), None)
    return [*before, {"role": "user", "content": asked}] if before and asked else None


def _messages(each: Mapping[str, Any]) -> Iterator[Message]:
    """The message; results of tools inside one message of parts become messages of their own."""
    role = role_of(each)
    if role is None:
        yield from _item(each)
        return
    inner = next((each[name] for name in ("data", "kwargs") if isinstance(each.get(name), Mapping)), None)
    if inner is not None and "content" in inner and "content" not in each:
        each = {**each, **inner}
    given = next(
        (
            each[name]
            for name in ("content", "parts", "value", "blocks", "text", "utterance", "message")
            if each.get(name) is not None
        ),
        None,
    )
    read = content_of(given)
    for identity, result in read.results:
        yield {"role": "tool", "content": result, **({"tool_call_id": identity} if identity else {})}
    calls = [*calls_of(each), *read.calls]
    if read.results and not calls and not read.content:
        return
    kept = {key: each[key] for key in ("tool_call_id", "name") if isinstance(each.get(key), str) and each[key]}
    yield {"role": role, "content": read.content, **({"tool_calls": calls} if calls else {}), **kept}


def _item(each: Mapping[str, Any]) -> Iterator[Message]:
    if each.get("type") == "function_call":
        yield {"role": "assistant", "content": None, "tool_calls": [plain_tool_call({**each, "id": each.get("call_id")})]}
    elif each.get("type") == "function_call_output":
        yield {"role": "tool", "content": text_of_content(each.get("output")), "tool_call_id": each.get("call_id")}


def question_messages(text: Any) -> list[Message]:
    """The one message that asks a text; none where there is no text."""
    return [{"role": "user", "content": text}] if text and isinstance(text, str) else []


def answer_message(text: str | None) -> Message | None:
    """The message that answers with a text; None for no answer."""
    return None if text is None else {"role": "assistant", "content": text}


def text_of_content(content: Any) -> str:
    """Content as text: parts joined, anything that is no text as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(isinstance(part, Mapping) and "type" in part for part in content):
        return "\n".join(map(_shown_part, content))
    return text_or_json(content)


def _shown_part(part: Mapping[str, Any]) -> str:
    said = part.get("text") or part.get("content") or f"[{part['type'] if isinstance(part['type'], str) else 'part'}]"
    return text_or_json(said)


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


def answer_of(value: Any, *, encoded: bool = False) -> str | None:
    """The text of an answer, kept as it is: a text is itself, an object its message or its JSON; None for none.

    `encoded`: the log writes every value as JSON text, so that a text may hold a message, or another text in quotes.
    """
    found = unquoted(value) if encoded else value
    if found is None or (isinstance(found, str) and (not encoded or found is not value)):
        return found
    spoken = _spoken(embedded(found))
    return spoken if spoken is not None else found if isinstance(found, str) else value_text(found)


def is_reply(value: Any) -> bool:
    """Whether a value is a message or a completion with a text, and not only an object."""
    return bool(_spoken(embedded(value)))


def value_text(found: Any) -> str:
    """A value that is no text as one: texts of parts joined, anything else as JSON."""
    if isinstance(found, list) and found and all(isinstance(each, Mapping) and kind_of(each) in TEXTS for each in found):
        return text_of_content(content_of(found).content)
    return text_or_json(found)


def _spoken(found: Any) -> str | None:
    """What the assistant says in a message, a completion or a conversation; None: the value is none of them."""
    while isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if isinstance(found, list) and found and isinstance(found[0], Mapping):
        holder = next((name for name, inner in REPLIES if isinstance(found[0].get(inner), Mapping)), None)
        found = {holder: found} if holder is not None else found
    if isinstance(found, Mapping):
        for name, inner in REPLIES:
            if (choice := _first_choice(found.get(name))) is not None:
                messages = read_messages(
                    [{"role": "assistant", **choice[inner]}] if isinstance(choice.get(inner), Mapping) else None
                )
                return text_of_content(messages[-1].get("content")) if messages else _text_in(choice)
    messages = read_messages(found) if _is_reply(found) else None
    if not messages:
        wrapped = _wrapped_body(found) if isinstance(found, Mapping) else None
        return _spoken(wrapped) if wrapped is not None else None
    said = [each for each in messages if each["role"] == "assistant"]
    return text_of_content((said or messages)[-1].get("content"))


def _wrapped_body(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one object that an object wraps: all that it holds, or a logged body beside its headers."""
    bodies = [each for name, each in found.items() if len(found) == 1 or "body" in name.lower()]
    return bodies[0] if len(bodies) == 1 and isinstance(bodies[0], Mapping) else None


def _first_choice(listed: Any) -> Mapping[str, Any] | None:
    """The first of a completion's choices; None for a list of anything else."""
    while isinstance(listed, list) and listed:
        listed = listed[0]
    return listed if isinstance(listed, Mapping) and {"message", "text", "content"} & set(listed) else None


def _text_in(choice: Mapping[str, Any]) -> str | None:
    return choice["text"] if isinstance(choice.get("text"), str) else None


def _is_reply(found: Any) -> bool:
    """Whether a value is a message or a conversation, by its shape: an answer's own keys are none."""
    if isinstance(found, Mapping):
        return role_of(found) in KNOWN or isinstance(found.get("messages"), list) or isinstance(found.get("message"), Mapping)
    return isinstance(found, list)


def asked_at(messages: Sequence[Message]) -> int | None:
    """The index of the question: the last user message; where a simulated user ended the talk, the first, which is the task's."""
    spoken = [i for i, each in enumerate(messages) if each["role"] == "user"]
    if not spoken:
        return None
    ended = str(messages[spoken[-1]].get("content")).strip().casefold() in STOP_MARKS
    return spoken[0] if ended and len(spoken) > 1 else spoken[-1]


def said_after(messages: Sequence[Message], asked: int) -> Message | None:
    """The answer that a conversation holds: the last thing with a text that the assistant said after the question."""
    later = [each for each in messages[asked + 1 :] if each["role"] == "assistant" and each.get("content")]
    return later[-1] if later else None


def last_user(messages: Sequence[Message]) -> str | None:
    """The text of the question; None without one."""
    asked = asked_at(messages)
    return None if asked is None else text_of_content(messages[asked].get("content")) or None


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
        return ContentParts(text_or_json(given), [], [])
    return _of_parts([part if isinstance(part, Mapping) else {"type": "text", "text": part} for part in given])


def _of_parts(parts: list[Mapping[str, Any]]) -> ContentParts:
    texts, others = list[str](), list[dict[str, Any]]()
    results, calls = list[tuple[Any, str]](), list[dict[str, Any]]()
    for part in parts:
        kind = kind_of(part)
        if kind in TEXTS:
            texts.append(_text_of_part(part))
        elif kind in RESULTS:
            results.append(_part_result(part, kind))
        elif kind in CALLS:
            calls.append(plain_tool_call(_inner(part, kind)))
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


def _text_of_part(part: Mapping[str, Any]) -> str:
    held = (part.get(name) for name in ("content", "text"))
    found = next((each for each in held if each not in (None, "", [], {})), "")
    found = found.get("value") or "" if isinstance(found, Mapping) else found
    return text_or_json(found)


def _part_result(part: Mapping[str, Any], kind: str) -> tuple[Any, str]:
    inner = _inner(part, kind)
    found = next((inner[key] for key in ("response", "result", "content", "output") if inner.get(key) is not None), None)
    if kind == "tool-result" and isinstance(found, Mapping) and "value" in found:  # Vercel: {type: text, value: …}
        found = found["value"]
    return inner.get("id") or inner.get("tool_use_id") or inner.get("toolCallId"), _plain_result(found)


def _plain_result(found: Any) -> str:
    read = content_of(found).content
    return "" if read is None else text_or_json(read)


def _inner(part: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    inner = part.get(kind)
    return inner if isinstance(inner, Mapping) else part


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls that stand beside a message's content."""
    listed = message.get("tool_calls")
    found = [plain_tool_call(call) for call in listed if isinstance(call, Mapping)] if isinstance(listed, list) else []
    single = message.get("function_call")
    return found or ([plain_tool_call(single)] if isinstance(single, Mapping) and single.get("name") else [])


def plain_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as `{id, type: function, function: {name, arguments}}`, the arguments as JSON text."""
    function: Mapping[str, Any] = call["function"] if isinstance(call.get("function"), Mapping) else call
    given = function.get("arguments", function.get("input", function.get("args")))
    return {
        "id": str(call.get("id") or call.get("toolCallId") or ""),
        "type": "function",
        "function": {
            "name": str(function.get("name") or call.get("toolName") or call.get("function") or ""),
            "arguments": text_or_json(given if isinstance(given, str) else given or {}),
        },
    }
