"""OpenAI: batch input and output files, joined by `custom_id`; stored chat completions with the listing of their messages.

Anthropic's batches have the same two files under other names, and are read by the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    NOT_ASKED,
    PART,
    Call,
    Format,
    Made,
    Piece,
    Split,
    Value,
    first,
    newest,
    records,
    rest,
    take,
)
from bisect_ai.queries.formats.genai import versions
from bisect_ai.queries.messages import Message, answer_of, read_messages
from bisect_ai.queries.sample import DUPLICATE

REQUEST = ("body", "params", "request.body", "request")
REPLY = ("response.body", "result.message", "response")
FIELDS = {
    "model": ("request.model", "reply.model"),
    "model_returned": ("reply.model",),
    "tools": ("request.tools", "reply.tools"),
    "fingerprint": ("reply.system_fingerprint",),
    "usage": ("reply.usage",),
    "prompt_name": ("reply.prompt.id", "request.prompt.id"),
    "prompt_version": ("reply.prompt.version", "request.prompt.version"),
    "release": ("request.metadata.release", "reply.metadata.release"),
    "cluster": ("request.user", "request.safety_identifier", "reply.metadata.user", "request.metadata.user"),
    "error": ("error",),
}
SETTINGS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "stop", "n")
STORED = ("chat.completion", "response")
ASKING = ("/chat/completions", "/responses", "/completions", "/messages")
# Several requests of one custom_id: which answer belongs to which is not guessed.
AMBIGUOUS = "ambiguous pair"


def _is_openai(_path: str, value: Value) -> bool:
    batch = "custom_id" in value and bool({"body", "response", "params", "result"} & set(value))
    return batch or value.get("object") in STORED or _is_message(value)


def _is_message(value: Value) -> bool:
    return {"id", "role", "content"} <= set(value) and str(value.get("id")).startswith("chatcmpl-")


def _split_openai() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        if _is_message(value):
            yield Piece(str(value["id"]).rpartition("-")[0], value)
        else:
            name = value.get("custom_id") or value.get("id")
            yield Piece(str(name) if name else None, value)

    return split


def _openai_records(values: Sequence[Value]) -> Iterator[Made]:
    said = [each for each in values if _is_message(each)]
    others, repeats = newest([each for each in values if not _is_message(each)], "id", "created")
    yield from (Made(None, DUPLICATE) for _ in range(repeats))
    asked = [each for each in others if first(each, REQUEST[:2]) is not None and "response" not in each]
    if len(asked) > 1:
        yield from (Made(None, AMBIGUOUS) for _ in [*others, *said])
        return
    whole: Value = {key: value for each in others for key, value in each.items()}
    request = first(whole, REQUEST)
    reply = whole if whole.get("object") in STORED else first(whole, REPLY)
    request, reply = (each if isinstance(each, dict) else {} for each in (request, reply))
    if not whole:
        yield from (Made(None, FRAGMENT) for _ in said)
        return
    yield from records([_openai_call(whole, request, reply, said)])
    yield from (Made(None, PART) for _ in range(len(others) - 1 + len(said)))


def _openai_call(whole: Value, request: Value, reply: Value, said: Sequence[Value]) -> Call:
    found = {"request": request, "reply": reply, "error": whole.get("error")}
    fields = take(found, FIELDS)
    params = {name: each for name in SETTINGS if (each := request.get(name, reply.get(name))) is not None}
    messages = _openai_messages(whole, request, reply, said)
    asks = any(str(whole.get("url") or "/responses").endswith(tail) for tail in ASKING)
    known = {
        "": (
            "custom_id",
            "body",
            "params",
            "response",
            "result",
            "id",
            "choices",
            "output",
            "messages",
            "input",
            "usage",
            "error",
        )
    }
    return Call(
        str(whole.get("custom_id") or whole.get("id") or ""),
        reply.get("created") or reply.get("created_at"),
        messages,
        _openai_answer(reply),
        problem="" if asks else NOT_ASKED,
        fields={**fields, "params": params, "versions": versions(fields)},
        extra=rest(whole, known, {"": ("tools", "model")}),
    )


def _openai_messages(whole: Value, request: Value, reply: Value, said: Sequence[Value]) -> list[Message]:
    system = request.get("system") or request.get("instructions") or reply.get("instructions")
    before: list[Message] = read_messages(system) or ([{"role": "system", "content": system}] if system else [])
    listed = sorted(said, key=lambda each: _openai_number(each["id"]))
    for value in (request.get("messages"), request.get("input"), whole.get("messages"), whole.get("input"), list(listed)):
        if messages := read_messages(value):
            return [*before, *messages]
        if isinstance(value, str) and value:
            return [*before, {"role": "user", "content": value}]
    return []


def _openai_number(name: Any) -> int:
    tail = str(name).rpartition("-")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 10 else 0


def _openai_answer(reply: Value) -> Message | None:
    choices = reply.get("choices")
    message: Any = None
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        message = choices[0].get("message") or {"role": "assistant", "content": choices[0].get("text")}
    elif isinstance(reply.get("output"), list):
        said = read_messages([each for each in reply["output"] if isinstance(each, Mapping)])
        return said[-1] if said else None
    elif "content" in reply:
        message = {"role": "assistant", "content": reply["content"]}
    said = read_messages([message]) if isinstance(message, Mapping) else None
    if said:
        return said[-1]
    text = answer_of(reply.get("output_text"))
    return None if text is None else {"role": "assistant", "content": text}


OPENAI = Format("openai", frozenset({"item", "data.item", ""}), _is_openai, _split_openai, _openai_records)
