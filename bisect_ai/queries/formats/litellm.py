"""LiteLLM: payloads of its callbacks (`standard_logging_object`), and rows of the proxy's `LiteLLM_SpendLogs`.

A spend log has the prompt only in `proxy_server_request`, and only when the proxy stores prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.formats.call_records import (
    NOT_ASKED,
    REDACTED,
    REDACTION_MARKS,
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
from bisect_ai.queries.normalise import TRUNCATED, lost_in_text
from bisect_ai.queries.sample import DUPLICATE

FIELDS = {
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
ASKING = {"completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses", "anthropic_messages"}
SETTINGS = {"temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop", "n", "reasoning_effort"}


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
    yield from (Made(None, DUPLICATE) for _ in range(repeats))
    yield from records([_litellm_call(row) for row in rows])


def _litellm_call(row: Value) -> Call:
    fields, call, body = take(row, FIELDS), take(row, CALL), first(row, BODY)
    body = body if isinstance(body, Mapping) else {}
    parameters = first(row, ("model_parameters",))
    parameters = {**body, **(parameters if isinstance(parameters, Mapping) else {})}
    messages = _litellm_messages(row)
    fields["release"] = fields.get("release") or _tagged(row)
    return Call(
        str(call.get("id") or ""),
        call.get("at"),
        messages,
        _litellm_answer(row),
        problem=_litellm_problem(row, messages),
        fields={
            **fields,
            "params": {name: parameters[name] for name in sorted(SETTINGS & set(parameters))},
            "tools": parameters.get("tools"),
            "documents": _litellm_documents(row),
            "usage": take(row, {"input_tokens": ("prompt_tokens",), "output_tokens": ("completion_tokens",)}),
            "versions": versions(fields),
        },
        extra={k: v for k, v in rest(row, {**FIELDS, "": ()}, CALL, CONTENT).items() if k != "bisect_id"},
    )


def _litellm_messages(row: Value) -> list[Message]:
    system = first(row, ("proxy_server_request.system", "proxy_server_request.body.system"))
    for path in MESSAGES:
        found = first(row, (path,))
        if messages := read_messages(found):
            return [*([{"role": "system", "content": system}] if isinstance(system, str) else []), *messages]
        if isinstance(found, str) and found not in ("", "{}", "[]"):
            return [{"role": "user", "content": found}]
    return []


def _litellm_answer(row: Value) -> Message | None:
    response = first(row, ("response",))
    choices = response.get("choices") if isinstance(response, Mapping) else None
    message = choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None
    if said := read_messages([message] if isinstance(message, Mapping) else None):
        return said[-1]
    text = answer_of(response) if response else None
    return None if text is None else {"role": "assistant", "content": text}


def _litellm_problem(row: Value, messages: Sequence[Message]) -> str:
    if str(row.get("call_type") or "completion") not in ASKING or first(row, ("metadata.is_silent_experiment",)):
        return NOT_ASKED
    if not messages:
        raw = " ".join(str(row.get(name) or "") for name in ("messages", "proxy_server_request"))
        if TRUNCATED in lost_in_text(raw):
            return TRUNCATED
        return REDACTED if any(mark == raw.strip() for mark in REDACTION_MARKS) else ""
    return ""


def _litellm_documents(row: Value) -> list[Any]:
    requests = first(row, ("metadata.vector_store_request_metadata",))
    found = []
    for request in requests if isinstance(requests, list) else ():
        data = first(request, ("vector_store_search_response.data",)) if isinstance(request, dict) else None
        for each in data if isinstance(data, list) else ():
            texts = [part.get("text") for part in each.get("content") or () if isinstance(part, Mapping)]
            found.append({"id": each.get("file_id") or each.get("filename"), "text": "\n".join(filter(None, texts)), **each})
    return found


def _tagged(row: Value) -> str | None:
    tags = first(row, ("request_tags",))
    named = [str(tag).partition(":")[2] for tag in tags if str(tag).startswith("release:")] if isinstance(tags, list) else []
    return named[0] if named else None


LITELLM = Format("litellm", frozenset({"item", "data.item", "logs.item", ""}), _is_litellm, _split_litellm, _litellm_records)
