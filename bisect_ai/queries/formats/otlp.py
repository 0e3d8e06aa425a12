"""OTLP JSON (a collector's file exporter, one export a line or one document), and Phoenix's spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from bisect_ai.canonical import as_list, mappings_in
from bisect_ai.queries.documents import NoObject, expanded
from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    PART,
    Call,
    Dialect,
    Format,
    Kind,
    Made,
    Piece,
    Span,
    Split,
    Value,
    first,
    left_out,
    rest,
    take,
    trace_records,
)
from bisect_ai.queries.formats.genai import GENAI, OLD_EVENTS, any_value, attributes, flattened, unflatten, versions
from bisect_ai.queries.messages import Message, answer_message, answer_of, question_messages, question_of, read_messages
from bisect_ai.queries.sample import DUPLICATE
from bisect_ai.queries.values import EPOCH, embedded, name_of, names_of, unquoted

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


def _openinference_call(span: Span) -> Call:
    found = span["attributes"]
    fields = take(found, FIELDS)
    if isinstance(fields.get("params"), Mapping):
        fields["params"] = {key: each for key, each in fields["params"].items() if key not in ("model", "messages")}
    tools = [embedded(each.get("json_schema")) for each in _listed_by_openinference(found, "llm.tools", "tool")]
    extra = rest({k: v for k, v in found.items() if k not in flattened(found, *FLAT)}, FIELDS, USAGE, {"": BODIES})
    return Call(
        span["id"],
        span.get("start"),
        _openinference_messages(found),
        _openinference_answer(found),
        fields={
            **fields,
            "tools": [each for each in tools if each],
            "usage": take(found, USAGE),
            "versions": versions(fields),
        },
        extra={**extra, "span_name": span.get("name"), "trace_id": span.get("trace")},
    )


def _listed_by_openinference(found: Mapping[str, Any], prefix: str, inner: str) -> list[Mapping[str, Any]]:
    """What the elements of a list that was flattened under `prefix` hold as `inner`."""
    return mappings_in([each.get(inner) for each in mappings_in(unflatten(found, prefix))])


def _openinference_messages(found: Mapping[str, Any]) -> list[Message]:
    if flat := _listed_by_openinference(found, "llm.input_messages", "message"):
        return read_messages(list(map(_openinference_message, flat))) or []
    for each in _listed_by_openinference(found, "llm.prompts", "prompt"):
        if each.get("text"):
            return [{"role": "user", "content": each["text"]}]
    given = found.get("input.value")
    return read_messages(given) or question_messages(question_of(given if _is_text(found, "input") else unquoted(given)))


def _is_text(found: Mapping[str, Any], name: str) -> bool:
    """Whether a value says of itself that it is text, not JSON."""
    return str(found.get(f"{name}.mime_type") or "") == "text/plain"


def _openinference_output(found: Mapping[str, Any]) -> str | None:
    return answer_of(found.get("output.value"), encoded=not _is_text(found, "output"))


def _openinference_message(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flattened message as OpenAI writes it."""
    message = {key: flat[key] for key in ("role", "content", "name", "tool_call_id") if key in flat}
    if isinstance(flat.get("contents"), list):
        message["content"] = [_openinference_content(each.get("message_content")) for each in mappings_in(flat["contents"])]
    message["tool_calls"] = [each["tool_call"] for each in as_list(flat.get("tool_calls")) if "tool_call" in each]
    return {"role": "user", **message}


def _openinference_content(part: Any) -> dict[str, Any]:
    return {"type": "text", **part} if isinstance(part, Mapping) else {"type": "text", "text": part}


def _openinference_answer(found: Mapping[str, Any]) -> Message | None:
    flat = [{"role": "assistant", **each} for each in _listed_by_openinference(found, "llm.output_messages", "message")]
    if said := read_messages(list(map(_openinference_message, flat))):
        return said[-1]
    for each in _listed_by_openinference(found, "llm.choices", "completion"):
        return {"role": "assistant", "content": each.get("text")}
    return answer_message(_openinference_output(found))


def _openinference_documents(span: Span) -> list[Any]:
    prefix = "reranker.output_documents" if "reranker" in " ".join(span["attributes"]) else "retrieval.documents"
    listed = _listed_by_openinference(span["attributes"], prefix, "document")
    return [{"id": each.get("id"), "text": each.get("content"), **rest(each, {"": ("id", "content")})} for each in listed]


def _openinference_tool(span: Span) -> dict[str, Any] | None:
    found = take(span["attributes"], TOOL)
    found.setdefault("name", span.get("name"))
    return found if found["name"] else None


def _shared_by_openinference(span: Span) -> dict[str, Any]:
    scores: dict[str, float] = {}
    for prefix in ("annotations", "evaluations", "trace.annotations", "trace.evaluations"):
        for each in _listed_by_openinference(span["attributes"], prefix, prefix.split(".")[-1].removesuffix("s")):
            if each.get("name") and isinstance(each.get("score"), int | float):
                scores[str(each["name"])] = each["score"]
    found = take({**span.get("resource", {}), **span["attributes"]}, SHARED)
    return {**names_of(found), "scores": scores}


def _asked_in_openinference(span: Span) -> tuple[Any, str | None]:
    return first(span["attributes"], ("input.value",)), _openinference_output(span["attributes"])


def _is_openinference(span: Span) -> bool:
    return bool({"openinference.span.kind", "llm.model_name", "input.value"} & set(span["attributes"]))


OPENINFERENCE = Dialect(
    kind=lambda span: KINDS.get(str(span["attributes"].get("openinference.span.kind")).upper(), "other"),
    call=_openinference_call,
    documents=_openinference_documents,
    tool=_openinference_tool,
    shared=_shared_by_openinference,
    asked=_asked_in_openinference,
)


SPAN = {
    "id": ("spanId", "span_id", "context.span_id"),
    "parent": ("parentSpanId", "parent_span_id", "parent_id"),
    "trace": ("traceId", "trace_id", "context.trace_id"),
    "name": ("name",),
    "start": ("startTimeUnixNano", "start_time_unix_nano", "start_time"),
    "status": ("status", "status_code"),
}
# Where a resource with its spans or its records stands: in an export, in a list of exports, or by itself.
OUTER = ("resourceSpans.item.", "resourceLogs.item.", "item.resourceSpans.item.", "item.resourceLogs.item.", "item.", "")
RESOURCES = frozenset(f"{outer}resource" for outer in OUTER)
SPANS = frozenset(
    f"{outer}{scope}.item.spans.item" for outer in OUTER for scope in ("scopeSpans", "instrumentationLibrarySpans")
)
LOGS = frozenset(f"{outer}scopeLogs.item.logRecords.item" for outer in OUTER)
FLAT_SPANS = frozenset({"item", "data.item", ""})
HOLDERS = {"resourceSpans", "resourceLogs", "scopeSpans", "scopeLogs", "instrumentationLibrarySpans"}


def _is_otlp(path: str, value: Value) -> bool:
    if path in SPANS | LOGS or HOLDERS & set(value):
        return True
    span = take(value, SPAN)
    return {"id", "trace", "name"} <= set(span) and ("attributes" in value or any(k.startswith("attributes.") for k in value))


def _split_otlp() -> Split:
    resource: dict[str, Any] = {}

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path in FLAT_SPANS and HOLDERS & set(value):  # an element of a list of exports
            for inner, each in expanded(value, SPANS | LOGS, RESOURCES):
                yield from split(inner, each) if inner else ()
            return
        if isinstance(value, NoObject):
            yield Piece(None, value)
            return
        if path in RESOURCES:
            resource.clear()
            resource.update(attributes(value.get("attributes")))
            return
        piece = _otlp_event(value, resource) if path in LOGS else _otlp_span(value, resource)
        trace = piece.get("trace")
        yield Piece(str(trace) if trace else None, piece)

    return split


def _otlp_span(value: Value, resource: Mapping[str, Any]) -> Span:
    span = take(value, SPAN)
    flat = {key.removeprefix("attributes."): any_value(each) for key, each in value.items() if key.startswith("attributes.")}
    own = _dotted(attributes(value.get("attributes"))) if "attributes" in value else flat
    if value.get("span_kind"):  # Phoenix keeps it beside the attributes
        own.setdefault("openinference.span.kind", value["span_kind"])
    return {
        **span,
        "id": name_of(span.get("id")),
        "start": instant(span.get("start")),
        "attributes": own,
        "resource": {**resource, **_resource(value)},
        "events": [_otlp_event(each, {}) for each in value.get("events") or () if isinstance(each, Mapping)],
    }


def _resource(value: Value) -> dict[str, Any]:
    """What a span says of its resource by itself, as console exporters and tables write it."""
    inner = embedded(value.get("resource"))
    own = attributes(inner.get("attributes", inner)) if isinstance(inner, Mapping) else {}
    flat = {key.removeprefix("resource."): each for key, each in value.items() if key.startswith("resource.")}
    return {**own, **{key.removeprefix("attributes."): any_value(each) for key, each in flat.items()}}


def _dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Attributes that an exporter nested (`{"llm": {"model_name": …}}`, as Phoenix does) under their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if (
            isinstance(value, Mapping)
            and value
            and key.split(".")[0] in ("llm", "input", "output", "openinference", "retrieval")
        ):
            flat |= _dotted(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and prefix and all(isinstance(each, Mapping) for each in value):
            for i, each in enumerate(value):
                flat |= _everything(each, f"{prefix}{key}.{i}.")
        elif prefix and isinstance(value, Mapping):
            flat |= _everything(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _everything(value: Any, prefix: str) -> dict[str, Any]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if not pairs:
        return {prefix.removesuffix("."): value}
    return {key: each for name, inner in pairs for key, each in _everything(inner, f"{prefix}{name}.").items()}


def _otlp_event(value: Mapping[str, Any], resource: Mapping[str, Any]) -> Value:
    own = attributes(value.get("attributes"))
    return {
        "event": True,
        "name": str(value.get("eventName") or value.get("name") or own.get("event.name") or ""),
        "trace": value.get("traceId"),
        "id": value.get("spanId"),
        "start": instant(value.get("timeUnixNano") or value.get("observedTimeUnixNano")),
        "body": any_value(value.get("body")),
        "attributes": own,
        "resource": dict(resource),
    }


def instant(nanoseconds: Any) -> Any:
    """Nanoseconds since 1970 as ISO text in UTC; text that is no number as it is."""
    text = str(nanoseconds or "")
    if not text.isdecimal() or len(text) > 20:  # nanoseconds of 64 bits have 20 digits at most
        return nanoseconds
    try:
        return (EPOCH + timedelta(microseconds=int(text) // 1000)).isoformat()
    except OverflowError:
        return None


def _otlp_records(values: Sequence[Value]) -> Iterator[Made]:
    spans: dict[str, Span] = {}
    for value in values:
        if not value.get("event"):
            if value["id"] in spans:
                yield Made(None, DUPLICATE)
            spans[value["id"]] = value
    orphans: dict[str, Span] = {}
    for event in (value for value in values if value.get("event")):
        owner = spans.get(str(event["id"])) or orphans.get(str(event["id"]))
        if owner is not None:
            owner["events"].append(event)
            yield Made(None, PART)
        else:
            orphans[str(event["id"])] = _from_event(event)
    whole = [span for span in orphans.values() if _asks(span)]
    yield from left_out(len(orphans) - len(whole), FRAGMENT)
    yield from trace_records([*spans.values(), *whole], lambda span: OPENINFERENCE if _is_openinference(span) else GENAI)


def _from_event(event: Value) -> Span:
    """A span known only by its events: its content was exported, itself was not."""
    known = {"gen_ai.operation.name": "chat", **event["attributes"]}
    return {**event, "id": str(event["id"]), "attributes": known, "events": [event]}


def _asks(span: Span) -> bool:
    return any(
        OLD_EVENTS.get(event["name"]) == "user" or "gen_ai.input.messages" in event["attributes"] for event in span["events"]
    )


OTLP = Format("otlp", RESOURCES | SPANS | LOGS | FLAT_SPANS, _is_otlp, _split_otlp, _otlp_records, headers=RESOURCES)
