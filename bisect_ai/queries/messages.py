"""Chat messages of any producer in one form: `{role, content, tool_calls?, tool_call_id?, name?}`, content as text where it is text.

Read are OpenAI messages, messages of parts (OpenTelemetry GenAI, Anthropic, Gemini, LlamaIndex), LangChain's (`type: human`, `{type,
data}`, serialised constructors), ShareGPT's `{from, value}` and ChatGPT's `author.role`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.parts import TEXTS, calls_of, content_of, kind_of, tool_call
from bisect_ai.queries.values import decoded, embedded, unquoted

Message = dict[str, Any]
ROLES = {
    **dict.fromkeys(("human", "humanmessage", "humanmessagechunk", "customer"), "user"),
    **dict.fromkeys(("ai", "model", "gpt", "bot", "chatbot", "chatgpt", "aimessage", "aimessagechunk"), "assistant"),
    **dict.fromkeys(("developer", "systemmessage"), "system"),
    **dict.fromkeys(("function", "ipython", "toolmessage", "functionmessage"), "tool"),
}
SPEAKERS = {
    **dict.fromkeys(("client", "caller", "visitor", "end_user", "enduser", "inquirer"), "user"),
    **dict.fromkeys(("agent", "operator", "support", "advisor", "representative", "chat_bot", "llm"), "assistant"),
}
"""Roles of logs of help desks; not words that a `type` would be told by."""
KNOWN = frozenset({"user", "assistant", "system", "tool"})
LISTS = ("messages", "contents", "input", "prompt", "conversation", "conversations")
"""Where an object holds a list of messages."""
SENDERS = ("from", "speaker", "sender")
"""Where a message says who speaks, besides its role and its author's."""
HELD = ("content", "parts", "value", "blocks", "data", "kwargs", "tool_calls", "text", "function_call")
"""What makes an object with a role a message; an answer such as `{"role": "admin"}` has none of them."""
ITEMS = ("function_call", "function_call_output")
"""OpenAI's Responses: a tool call or its result beside the messages."""
QUESTION_KEYS = ("question", "query", "input", "user_input", "prompt", "message", "text", "content", "user", "kwargs", "args")
"""Where a traced function's input holds the question, the likeliest first."""
REPLIES = (("choices", "message"), ("candidates", "content"), ("generations", "message"))
"""Where a completion lists its replies, and where each holds its message."""
STOP_MARKS = frozenset(
    {"###stop###", "###transfer###", "###out-of-scope###", "<stop>", "[stop]", "terminate", "[end]", "<end>"}
)
"""What a simulated user says to end a conversation."""
MAX_STEPS = 8
TEMPLATE_STARTS = ("<|im_start|>", "<|begin_of_text|>", "<|start_header_id|>")
_TURN = re.compile(
    r"<\|(?:im_start|start_header_id)\|>\s*(\w+)\s*?(?:<\|end_header_id\|>\s*|\n)(.*?)(?=<\|(?:im_end|eot_id|im_start|start_header_id)\|>|\Z)",
    re.DOTALL,
)
"""A turn of a chat template: who speaks, and what."""


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


def role_of(each: Mapping[str, Any]) -> str | None:
    """The role in our words (or the producer's own, where we have none); None: it is no message."""
    author = each.get("author")
    named = each.get("role", author.get("role") if isinstance(author, Mapping) else _sender(each))
    if named is None and each.get("type") == "constructor" and isinstance(each.get("id"), list) and each["id"]:
        named = each["id"][-1]
    if named is None and str(each.get("type")).lower() in {*ROLES, *KNOWN}:
        named = each["type"]
    if not isinstance(named, str) or not any(name in each for name in HELD):
        return None
    low = named.strip().lower()
    ours = ROLES.get(low, low if low in KNOWN else named)
    return ours if "from" in each else SPEAKERS.get(low, ours)  # mails have a `from`, too


def _sender(each: Mapping[str, Any]) -> Any:
    return next((each[name] for name in SENDERS if name in each), None)


def _messages(each: Mapping[str, Any]) -> Iterator[Message]:
    """The message; results of tools inside one message of parts become messages of their own."""
    role = role_of(each)
    if role is None:
        yield from _item(each)
        return
    inner = next((each[name] for name in ("data", "kwargs") if isinstance(each.get(name), Mapping)), None)
    if inner is not None and "content" in inner and "content" not in each:
        each = {**each, **inner}
    given = next((each[name] for name in ("content", "parts", "value", "blocks", "text") if each.get(name) is not None), None)
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
        yield {"role": "assistant", "content": None, "tool_calls": [tool_call({**each, "id": each.get("call_id")})]}
    elif each.get("type") == "function_call_output":
        yield {"role": "tool", "content": text_of_content(each.get("output")), "tool_call_id": each.get("call_id")}


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
    return json.dumps(found, ensure_ascii=False, default=str)


def _spoken(found: Any) -> str | None:
    """What the assistant says in a message, a completion or a conversation; None: the value is none of them."""
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
        wrapped = next(iter(found.values())) if isinstance(found, Mapping) and len(found) == 1 else None
        return _spoken(wrapped) if isinstance(wrapped, Mapping) else None
    said = [each for each in messages if each["role"] == "assistant"]
    return text_of_content((said or messages)[-1].get("content"))


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
