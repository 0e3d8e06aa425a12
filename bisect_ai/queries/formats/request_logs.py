"""Requests as who sent them logs them: LiteLLM, OpenAI (batch files, stored completions), and ChatGPT's export of conversations.

LiteLLM: payloads of its callbacks (`standard_logging_object`), and rows of the proxy's `LiteLLM_SpendLogs`. A spend log has the prompt
only in `proxy_server_request`, and only when the proxy stores prompts. OpenAI: batch input and output files, joined by `custom_id`;
stored chat completions with the listing of their messages. Anthropic's batches have the same two files under other names, and are read
by the same table. ChatGPT: `conversations.json`, a tree of messages each; the branch that was last on screen is the conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, mappings_in
from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    NOT_ASKED,
    PART,
    REDACTED,
    REDACTION_MARKS,
    Call,
    Format,
    Made,
    Piece,
    Split,
    Value,
    each_alone,
    first,
    left_out,
    newest,
    records,
    rest,
    take,
    whole_records,
)
from bisect_ai.queries.formats.genai import versions
from bisect_ai.queries.messages import Message, answer_message, answer_of, asked_at, question_messages, read_messages
from bisect_ai.queries.normalise import TRUNCATED, lost_in_text
from bisect_ai.queries.values import name_of

LITELLM_FIELDS = {
    "model": ("model",),
    "model_returned": ("response.model",),
    "provider": ("custom_llm_provider",),
    "prompt_name": ("metadata.prompt_management_metadata.prompt_id",),
    "release": ("metadata.spend_logs_metadata.release", "metadata.requester_metadata.release", "metadata.release"),
    "cluster": ("end_user", "user", "metadata.user_api_key_end_user_id"),
    "usd": ("response_cost", "spend"),
}
CALL = {
    "id": ("litellm_call_id", "request_id", "id"),
    "at": ("startTime",),
    "trace": ("trace_id", "session_id"),
    "type": ("call_type",),
}
BODY = ("proxy_server_request.body", "proxy_server_request")
CONTENT = {"": ("messages", "response", "proxy_server_request", "model_parameters", "model_map_information", "hidden_params")}
MESSAGES = ("messages", "proxy_server_request.messages", "proxy_server_request.body.messages", "proxy_server_request.input")
LITELLM_ASKING = {
    "completion",
    "acompletion",
    "text_completion",
    "atext_completion",
    "responses",
    "aresponses",
    "anthropic_messages",
}
LITELLM_SETTINGS = {
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "n",
    "reasoning_effort",
}


def _is_litellm(_path: str, value: Value) -> bool:
    return "call_type" in value and bool({"litellm_call_id", "request_id", "spend", "response_cost"} & set(value))


def _split_litellm() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        payload = value.get("standard_logging_object")
        row = payload if isinstance(payload, dict) else value
        trace = first(row, CALL["trace"])
        yield Piece(str(trace or first(row, CALL["id"]) or "") or None, row)

    return split


def _litellm_records(values: Sequence[Value]) -> Iterator[Made]:
    named = [{**each, "bisect_id": first(each, CALL["id"])} for each in values]
    rows, repeats = newest(named, "bisect_id", "endTime")
    yield from repeats
    yield from records([_litellm_call(row) for row in rows])


def _litellm_call(row: Value) -> Call:
    fields, call = take(row, LITELLM_FIELDS), take(row, CALL)
    parameters = {**as_mapping(first(row, BODY)), **as_mapping(first(row, ("model_parameters",)))}
    messages = _litellm_messages(row)
    fields["release"] = fields.get("release") or _tagged(row)
    return Call(
        name_of(call.get("id")),
        call.get("at"),
        messages,
        _litellm_answer(row),
        problem=_litellm_problem(row, messages),
        fields={
            **fields,
            "params": {name: parameters[name] for name in sorted(LITELLM_SETTINGS & set(parameters))},
            "tools": parameters.get("tools"),
            "documents": _litellm_documents(row),
            "usage": take(row, {"input_tokens": ("prompt_tokens",), "output_tokens": ("completion_tokens",)}),
            "versions": versions(fields),
        },
        extra={k: v for k, v in rest(row, {**LITELLM_FIELDS, "": ()}, CALL, CONTENT).items() if k != "bisect_id"},
    )


def _litellm_messages(row: Value) -> list[Message]:
    system = first(row, ("proxy_server_request.system", "proxy_server_request.body.system"))
    for path in MESSAGES:
        found = first(row, (path,))
        if messages := read_messages(found):
            return [*([{"role": "system", "content": system}] if isinstance(system, str) else []), *messages]
        if isinstance(found, str) and found not in ("", "{}", "[]"):
            return question_messages(found)
    return []


def _litellm_answer(row: Value) -> Message | None:
    response = first(row, ("response",))
    message = _first_choice_of(as_mapping(response)).get("message")
    if said := read_messages([message] if isinstance(message, Mapping) else None):
        return said[-1]
    return answer_message(answer_of(response)) if response else None


def _first_choice_of(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_mapping(next(iter(as_list(reply.get("choices"))), None))


def _litellm_problem(row: Value, messages: Sequence[Message]) -> str:
    if str(row.get("call_type") or "completion") not in LITELLM_ASKING or first(row, ("metadata.is_silent_experiment",)):
        return NOT_ASKED
    if not messages:
        raw = " ".join(str(row.get(name) or "") for name in ("messages", "proxy_server_request"))
        if TRUNCATED in lost_in_text(raw):
            return TRUNCATED
        return REDACTED if any(mark == raw.strip() for mark in REDACTION_MARKS) else ""
    return ""


def _litellm_documents(row: Value) -> list[Any]:
    found = []
    for request in mappings_in(first(row, ("metadata.vector_store_request_metadata",))):
        for each in as_list(first(request, ("vector_store_search_response.data",))):
            texts = [part.get("text") for part in each.get("content") or () if isinstance(part, Mapping)]
            found.append({"id": each.get("file_id") or each.get("filename"), "text": "\n".join(filter(None, texts)), **each})
    return found


def _tagged(row: Value) -> str | None:
    tags = map(str, as_list(first(row, ("request_tags",))))
    return next((tag.partition(":")[2] for tag in tags if tag.startswith("release:")), None)


LITELLM = Format("litellm", frozenset({"item", "data.item", "logs.item", ""}), _is_litellm, _split_litellm, _litellm_records)

REQUEST = ("body", "params", "request.body", "request")
REPLY = ("response.body", "result.message", "response")
OPENAI_FIELDS = {
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
OPENAI_SETTINGS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "stop", "n")
STORED = ("chat.completion", "response")
OPENAI_ASKING = ("/chat/completions", "/responses", "/completions", "/messages")
# Several requests of one custom_id: which answer belongs to which is not guessed.
AMBIGUOUS = "ambiguous pair"


def _is_openai(_path: str, value: Value) -> bool:
    batch = "custom_id" in value and bool({"body", "response", "params", "result"} & set(value))
    return batch or value.get("object") in STORED or _is_message(value)


def _is_message(value: Value) -> bool:
    return {"id", "role", "content"} <= set(value) and str(value.get("id")).startswith("chatcmpl-")


def _request_id(value: Value) -> Any:
    return str(value["id"]).rpartition("-")[0] if _is_message(value) else value.get("custom_id") or value.get("id")


def _openai_records(values: Sequence[Value]) -> Iterator[Made]:
    said = [each for each in values if _is_message(each)]
    others, repeats = newest([each for each in values if not _is_message(each)], "id", "created")
    yield from repeats
    asked = [each for each in others if first(each, REQUEST[:2]) is not None and "response" not in each]
    if len(asked) > 1:
        yield from left_out(len(others) + len(said), AMBIGUOUS)
        return
    whole: Value = {key: value for each in others for key, value in each.items()}
    request = first(whole, REQUEST)
    reply = whole if whole.get("object") in STORED else first(whole, REPLY)
    request, reply = (each if isinstance(each, dict) else {} for each in (request, reply))
    if not whole:
        yield from left_out(len(others) + len(said), FRAGMENT)
        return
    yield from records([_openai_call(whole, request, reply, said)])
    yield from left_out(len(others) - 1 + len(said), PART)


def _openai_call(whole: Value, request: Value, reply: Value, said: Sequence[Value]) -> Call:
    found = {"request": request, "reply": reply, "error": whole.get("error")}
    fields = take(found, OPENAI_FIELDS)
    params = {name: each for name in OPENAI_SETTINGS if (each := request.get(name, reply.get(name))) is not None}
    messages = _openai_messages(whole, request, reply, said)
    asks = any(str(whole.get("url") or "/responses").endswith(tail) for tail in OPENAI_ASKING)
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
        name_of(whole.get("custom_id")) or name_of(whole.get("id")),
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
            return [*before, *question_messages(value)]
    return []


def _openai_number(name: Any) -> int:
    tail = str(name).rpartition("-")[2]
    return int(tail) if tail.isdecimal() and len(tail) < 10 else 0


def _openai_answer(reply: Value) -> Message | None:
    message: Any = None
    if choice := _first_choice_of(reply):
        message = choice.get("message") or {"role": "assistant", "content": choice.get("text")}
    elif isinstance(reply.get("output"), list):
        said = read_messages(mappings_in(reply["output"]))
        return said[-1] if said else None
    elif "content" in reply:
        message = {"role": "assistant", "content": reply["content"]}
    if said := read_messages([message]) if isinstance(message, Mapping) else None:
        return said[-1]
    return answer_message(answer_of(reply.get("output_text")))


OPENAI = Format("openai", frozenset({"item", "data.item", ""}), _is_openai, whole_records(_request_id), _openai_records)

# Content that the model wrote for itself, or that stands for settings of the account.
_UNSAID = frozenset({"thoughts", "reasoning_recap", "user_editable_context", "model_editable_context"})
_MEDIA = {"image_asset_pointer": "image", "audio_asset_pointer": "audio", "real_time_user_audio_video_asset_pointer": "video"}


def _is_chatgpt(_path: str, value: Value) -> bool:
    nodes = list(as_mapping(value.get("mapping")).values())[:3]
    return bool(nodes) and all(isinstance(each, Mapping) and {"message", "parent"} <= set(each) for each in nodes)


def _chatgpt_call(value: Value) -> Call:
    spoken = list(_branch(as_mapping(value.get("mapping")), value.get("current_node")))
    messages, last = list[Message](), dict[str, Any]()
    for each in spoken:
        read = read_messages([each]) or []
        messages += read
        if any(message["role"] == "user" for message in read):
            last = each
    details = [held for each in spoken if isinstance(held := each.get("metadata"), Mapping)]
    models = [name for each in details if (name := name_of(each.get("model_slug")))]
    at = last.get("create_time") if asked_at(messages) is not None else None
    return Call(
        name_of(value.get("conversation_id")) or name_of(value.get("id")),
        at or value.get("create_time"),
        messages,
        fields={"model": models[-1] if models else None, "versions": {"model": models[-1]} if models else None},
        extra={"title": value["title"]} if value.get("title") else {},
    )


def _branch(tree: Mapping[str, Any], leaf: Any) -> Iterator[dict[str, Any]]:
    """The messages from the root to a node, in order; without a known node, to the last one that is there."""
    at = leaf if isinstance(leaf, str) and leaf in tree else next(reversed(list(tree)), None)
    found, seen = list[dict[str, Any]](), set[str]()
    while isinstance(at, str) and at in tree and at not in seen:  # a hostile tree may have circles
        seen.add(at)
        node = as_mapping(tree[at])
        message = node.get("message")
        if isinstance(message, Mapping) and (spoken := _spoken_message(message)) is not None:
            found.append(spoken)
        at = node.get("parent")
    yield from reversed(found)


def _spoken_message(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message with its parts in a known form; None for one that says nothing, or was hidden."""
    content, details = message.get("content"), message.get("metadata")
    if not isinstance(content, Mapping) or str(content.get("content_type")) in _UNSAID:
        return None
    if as_mapping(details).get("is_visually_hidden_from_conversation"):
        return None
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text") or content.get("result")]
    known = [_plain_part(part) for part in parts or () if part]
    return {**message, "content": known} if known else None


def _plain_part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind = str(part.get("content_type") or "")
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    return {**part, "type": _MEDIA.get(kind, kind or "part")}


PARTS = frozenset({"item", "conversations.item", ""})
CHATGPT = Format("chatgpt", PARTS, _is_chatgpt, whole_records(lambda _: None), each_alone(_chatgpt_call))
