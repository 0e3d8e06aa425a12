"""OTLP JSON (a collector's file exporter, one export a line or one document), and Phoenix's spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bisect_ai.queries.formats.field_table import Format, Piece, Split, Value, take
from bisect_ai.queries.formats.genai import GENAI, OLD_EVENTS, any_value, attributes
from bisect_ai.queries.formats.openinference import OPENINFERENCE
from bisect_ai.queries.formats.spans import Dialect, Span, trace_records
from bisect_ai.queries.imports import expanded
from bisect_ai.queries.records import DUPLICATE
from bisect_ai.queries.traces import FRAGMENT, PART, Made
from bisect_ai.queries.values import embedded

SPAN = {
    "id": ("spanId", "span_id", "context.span_id"),
    "parent": ("parentSpanId", "parent_span_id", "parent_id"),
    "trace": ("traceId", "trace_id", "context.trace_id"),
    "name": ("name",),
    "start": ("startTimeUnixNano", "start_time_unix_nano", "start_time"),
    "status": ("status", "status_code"),
}
OUTER = ("resourceSpans.item.", "resourceLogs.item.", "item.resourceSpans.item.", "item.resourceLogs.item.", "item.", "")
"""Where a resource with its spans or its records stands: in an export, in a list of exports, or by itself."""
RESOURCES = frozenset(f"{outer}resource" for outer in OUTER)
SPANS = frozenset(
    f"{outer}{scope}.item.spans.item" for outer in OUTER for scope in ("scopeSpans", "instrumentationLibrarySpans")
)
LOGS = frozenset(f"{outer}scopeLogs.item.logRecords.item" for outer in OUTER)
FLAT_SPANS = frozenset({"item", "data.item", ""})
HOLDERS = {"resourceSpans", "resourceLogs", "scopeSpans", "scopeLogs", "instrumentationLibrarySpans"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _is_otlp(path: str, value: Value) -> bool:
    if path in SPANS | LOGS or HOLDERS & set(value):
        return True
    span = take(value, SPAN)
    return {"id", "trace", "name"} <= set(span) and ("attributes" in value or any(k.startswith("attributes.") for k in value))


def _split() -> Split:
    resource: dict[str, Any] = {}

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path in FLAT_SPANS and HOLDERS & set(value):  # an element of a list of exports
            for inner, each in expanded(value, SPANS | LOGS, RESOURCES):
                yield from split(inner, each) if inner else ()
            return
        if path in RESOURCES:
            resource.clear()
            resource.update(attributes(value.get("attributes")))
            return
        piece = _event(value, resource) if path in LOGS else _span(value, resource)
        trace = piece.get("trace")
        yield Piece(str(trace) if trace else None, piece)

    return split


def _span(value: Value, resource: Mapping[str, Any]) -> Span:
    span = take(value, SPAN)
    flat = {key.removeprefix("attributes."): any_value(each) for key, each in value.items() if key.startswith("attributes.")}
    own = _dotted(attributes(value.get("attributes"))) if "attributes" in value else flat
    if value.get("span_kind"):  # Phoenix keeps it beside the attributes
        own.setdefault("openinference.span.kind", value["span_kind"])
    return {
        **span,
        "id": str(span.get("id") or ""),
        "start": instant(span.get("start")),
        "attributes": own,
        "resource": {**resource, **_resource(value)},
        "events": [_event(each, {}) for each in value.get("events") or () if isinstance(each, Mapping)],
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


def _event(value: Mapping[str, Any], resource: Mapping[str, Any]) -> Value:
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
    if not text.isdecimal() or len(text) > 20:
        return nanoseconds
    try:
        return (EPOCH + timedelta(microseconds=int(text) // 1000)).isoformat()
    except OverflowError:
        return None


def _build(values: Sequence[Value]) -> Iterator[Made]:
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
    yield from (Made(None, FRAGMENT) for _ in range(len(orphans) - len(whole)))
    yield from trace_records([*spans.values(), *whole], _dialect)


def _from_event(event: Value) -> Span:
    """A span known only by its events: its content was exported, itself was not."""
    known = {"gen_ai.operation.name": "chat", **event["attributes"]}
    return {**event, "id": str(event["id"]), "attributes": known, "events": [event]}


def _asks(span: Span) -> bool:
    return any(
        OLD_EVENTS.get(event["name"]) == "user" or "gen_ai.input.messages" in event["attributes"] for event in span["events"]
    )


def _dialect(span: Span) -> Dialect:
    return OPENINFERENCE if OPENINFERENCE.suits(span) else GENAI


OTLP = Format("otlp", RESOURCES | SPANS | LOGS | FLAT_SPANS, _is_otlp, _split, _build, headers=RESOURCES)
