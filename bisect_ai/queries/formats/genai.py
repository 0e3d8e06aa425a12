"""Spans by OpenTelemetry's GenAI conventions: current ones, v1.36 and before (events), and OpenLLMetry's flattened keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, mappings_in
from bisect_ai.queries.formats.call_records import Call, Dialect, Kind, Span, first, raw, rest, take
from bisect_ai.queries.messages import (
    Message,
    answer_message,
    answer_of,
    question_messages,
    question_of,
    read_messages,
    text_of_content,
)
from bisect_ai.queries.normalise import TRUNCATED
from bisect_ai.queries.values import embedded, name_of, names_of, unquoted

# Elements of one flattened list; a larger index is no list.
MAX_INDEX = 2_000


def attributes(listed: Any) -> dict[str, Any]:
    """`[{key, value}]` as a mapping; a mapping (some exporters write one) as it is."""
    if isinstance(listed, Mapping):
        return {str(key): any_value(value) for key, value in listed.items()}
    return {str(each.get("key")): any_value(each.get("value")) for each in mappings_in(listed)}


def any_value(value: Any) -> Any:
    """An OTLP `AnyValue` as plain JSON; anything else as it is."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held) if str(held).lstrip("-").isdecimal() and len(str(held)) < 20 else held
    if kind == "arrayValue":
        return [any_value(each) for each in _listed_values(held)]
    if kind == "kvlistValue":
        return attributes(_listed_values(held))
    return held if kind in ("stringValue", "boolValue", "doubleValue", "bytesValue") else value


def _listed_values(held: Any) -> list[Any]:
    return as_list(held.get("values") if isinstance(held, Mapping) else held)


def unflatten(flat: Mapping[str, Any], prefix: str) -> Any:
    """What keys such as `prefix.0.role` describe: lists where all keys are indices, mappings elsewhere; None for none."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith(prefix + "."):
            _place_attribute(tree, key[len(prefix) + 1 :].split("."), value)
    return _lists_of_indexes(tree) if tree else None


def _place_attribute(tree: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(steps[-1], value)


def _lists_of_indexes(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    inner = {key: _lists_of_indexes(value) for key, value in tree.items()}
    if inner and all(key.isdecimal() and int(key[:9]) < MAX_INDEX for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def flattened(flat: Mapping[str, Any], *prefixes: str) -> set[str]:
    """The keys under these prefixes."""
    return {key for key in flat if key.startswith(tuple(f"{prefix}." for prefix in prefixes))}


FIELDS = {
    "model": ("gen_ai.request.model", "langfuse.observation.model.name", "ai.model.id"),
    "model_returned": ("gen_ai.response.model", "ai.response.model"),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "prompt_name": ("gen_ai.prompt.name", "langfuse.observation.prompt.name"),
    "prompt_version": ("gen_ai.prompt.version", "langfuse.observation.prompt.version"),
    "tools": ("gen_ai.tool.definitions", "ai.prompt.tools"),
    "finish_reasons": ("gen_ai.response.finish_reasons",),
}
USAGE = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "details": ("langfuse.observation.usage_details",),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens",),
}
PARAMS = ("temperature", "top_p", "top_k", "max_tokens", "seed", "stop_sequences", "frequency_penalty", "presence_penalty")
SHARED = {
    "release": ("service.version", "langfuse.release", "resource.service.version", "ai.telemetry.metadata.release"),
    "cluster": ("user.id", "ai.telemetry.metadata.userId", "enduser.id", "session.id", "gen_ai.conversation.id"),
}
KINDS: dict[str, Kind] = {
    "retrieval": "retrieval",
    "retriever": "retrieval",
    "execute_tool": "tool",
    "tool": "tool",
    "generation": "call",
    "chat": "call",
    "generate_content": "call",
    "text_completion": "call",
    "completion": "call",
    "ai.generateText.doGenerate": "call",
    "ai.streamText.doStream": "call",
    "ai.generateObject.doGenerate": "call",
    "ai.streamObject.doStream": "call",
    "ai.toolCall": "tool",
}
KIND = ("ai.operationId", "gen_ai.operation.name", "llm.request.type", "langfuse.observation.type", "traceloop.span.kind")
TOOL = {
    "name": ("gen_ai.tool.name", "ai.toolCall.name"),
    "arguments": ("gen_ai.tool.call.arguments", "ai.toolCall.args"),
    "result": ("gen_ai.tool.call.result", "ai.toolCall.result"),
}
INPUT = (
    "gen_ai.input.messages",
    "gen_ai.prompt",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "langfuse.trace.input",
    "ai.prompt.messages",
    "ai.prompt",
)
OUTPUT = (
    "gen_ai.output.messages",
    "gen_ai.completion",
    "traceloop.entity.output",
    "langfuse.observation.output",
    "langfuse.trace.output",
)
# The answer in spans of the Vercel AI SDK, as it is: never a message in JSON.
AI_OUTPUT = ("ai.response.text", "ai.result.text", "ai.response.object", "ai.result.object")
SYSTEM = "gen_ai.system_instructions"
DETAILS = "gen_ai.client.inference.operation.details"
EVALUATION = "gen_ai.evaluation.result"
OLD_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE = "gen_ai.choice"


def _genai_kind(span: Span) -> Kind:
    named = first(span["attributes"], KIND)
    return KINDS.get(str(named), "other") if named else "call" if "gen_ai.request.model" in span["attributes"] else "other"


def _genai_call(span: Span) -> Call:
    found = _with_details(span)
    messages, answer = _genai_messages(found, span), _genai_answer(found, span)
    table = {**FIELDS, **{name: (f"gen_ai.request.{name}",) for name in PARAMS}}
    fields = take(found, FIELDS)
    params = take(found, {name: (f"gen_ai.request.{name}",) for name in PARAMS})
    params = params or dict(as_mapping(first(found, ("langfuse.observation.model.parameters",))))
    known = flattened(found, "gen_ai.prompt", "gen_ai.completion", "llm.request.functions")
    extra = rest({k: v for k, v in found.items() if k not in known}, table, USAGE, {"": (*INPUT, *OUTPUT, *AI_OUTPUT, SYSTEM)})
    functions = unflatten(found, "llm.request.functions")
    return Call(
        span["id"],
        span.get("start"),
        messages,
        answer,
        problem=_cut_genai(found) if not messages else "",
        fields={
            **({"tools": functions} if functions else {}),
            **fields,
            "params": params,
            "usage": take(found, USAGE),
            "versions": versions(fields),
            "error": found.get("error.type"),
        },
        extra={**extra, "span_name": span.get("name"), "trace_id": span.get("trace")},
    )


def versions(fields: Mapping[str, Any]) -> dict[str, str]:
    """What answered: the model that did, and the named prompt with its version."""
    model = fields.get("model_returned") or fields.get("model")
    name, version = fields.get("prompt_name"), fields.get("prompt_version")
    prompt = "@".join(filter(None, map(name_of, (name, version))))
    return {**({"model": name_of(model)} if model else {}), **({"prompt": prompt} if prompt else {})}


def _with_details(span: Span) -> dict[str, Any]:
    """The span's attributes, with those of the event that holds its content apart."""
    found = dict(span["attributes"])
    for event in span.get("events") or ():
        if event["name"] == DETAILS:
            found = {**found, **event["attributes"], **as_mapping(event.get("body"))}
    return found


def _genai_messages(found: Mapping[str, Any], span: Span) -> list[Message]:
    system = embedded(found.get(SYSTEM))
    instructions = [{"role": "system", "content": text_of_content(system)}] if system else []
    for source in (found.get("gen_ai.input.messages"), unflatten(found, "gen_ai.prompt")):
        if messages := read_messages(source):
            return [*instructions, *messages]
    if messages := _event_messages(span):
        return messages
    logged = first(found, INPUT[1:])
    return read_messages(logged) or question_messages(question_of(unquoted(logged)))


def _event_messages(span: Span) -> list[Message]:
    said = []
    for event in span.get("events") or ():
        content = _genai_content(event)
        if event["name"] in OLD_EVENTS:
            message = {"role": OLD_EVENTS[event["name"]], **content}
            if message["role"] == "tool":
                message = {"role": "tool", "content": content.get("content"), "tool_call_id": content.get("id")}
            said += read_messages([message]) or []
        elif event["name"] == "gen_ai.content.prompt":
            said += read_messages(event["attributes"].get("gen_ai.prompt")) or []
    return said


def _genai_content(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an older event says: its body, or its attributes."""
    body = event.get("body")
    found = dict(body) if isinstance(body, Mapping) else dict(event["attributes"])
    return {key: embedded(value) if key in ("message", "tool_calls") else value for key, value in found.items()}


def _genai_answer(found: Mapping[str, Any], span: Span) -> Message | None:
    for source in (found.get("gen_ai.output.messages"), unflatten(found, "gen_ai.completion")):
        if messages := read_messages(source):
            return messages[-1]
    for event in span.get("events") or ():
        if event["name"] == CHOICE:
            content = _genai_content(event)
            inner = content.get("message")
            said = read_messages([{"role": "assistant", **(inner if isinstance(inner, Mapping) else content)}])
            return said[0] if said else None
        if event["name"] == "gen_ai.content.completion" and (
            said := read_messages(event["attributes"].get("gen_ai.completion"))
        ):
            return said[-1]
    return answer_message(_genai_output(found))


def _genai_output(found: Mapping[str, Any]) -> str | None:
    """The text of what came out of a span: a text as JSON, or as it is."""
    plain = raw(found, AI_OUTPUT)
    return answer_of(raw(found, OUTPUT), encoded=True) if plain is None else answer_of(plain)


def _cut_genai(found: Mapping[str, Any]) -> str:
    """`truncated` when the messages are there but break off, as an SDK with a limit on lengths leaves them."""
    value = found.get("gen_ai.input.messages")
    return TRUNCATED if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and embedded(value) is value else ""


def _genai_tool(span: Span) -> dict[str, Any] | None:
    found = take(span["attributes"], TOOL)
    if "name" not in found and span["attributes"].get("traceloop.span.kind") == "tool":
        found = {
            "name": span["attributes"].get("traceloop.entity.name"),
            "arguments": first(span["attributes"], ("traceloop.entity.input",)),
            "result": first(span["attributes"], ("traceloop.entity.output",)),
        }
    return found if found.get("name") else None


def _shared_by_genai(span: Span) -> dict[str, Any]:
    scores = {}
    for event in span.get("events") or ():
        name, value = (event["attributes"].get(f"gen_ai.evaluation.{key}") for key in ("name", "score.value"))
        if event["name"] == EVALUATION and name and isinstance(value, int | float):
            scores[str(name)] = value
    found = take({**span.get("resource", {}), **span["attributes"]}, SHARED)
    return {**names_of(found), "scores": scores}


def _asked_in_genai(span: Span) -> tuple[Any, str | None]:
    return unquoted(first(span["attributes"], INPUT)), _genai_output(span["attributes"])


GENAI = Dialect(
    kind=_genai_kind,
    call=_genai_call,
    documents=lambda span: as_list(first(span["attributes"], ("gen_ai.retrieval.documents",))),
    tool=_genai_tool,
    shared=_shared_by_genai,
    asked=_asked_in_genai,
)
