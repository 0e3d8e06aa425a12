"""Langfuse exports: observations v2, or traces and observations (legacy), with scores; JSON, JSONL, CSV or Parquet.

The API and the blob export name the same fields in camelCase and snake_case; both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.formats.genai import versions
from bisect_ai.queries.formats.spans import Dialect, Kind, Span, trace_records
from bisect_ai.queries.formats.table import Format, Piece, Split, Value, first, newest, rest, take
from bisect_ai.queries.messages import Message, answer_of, read_messages
from bisect_ai.queries.records import DUPLICATE
from bisect_ai.queries.turns import Call, Made
from bisect_ai.queries.values import embedded


def _both(*names: str) -> tuple[str, ...]:
    """The names in camelCase and in snake_case."""
    return tuple(each for name in names for each in dict.fromkeys((name, re.sub("([A-Z])", r"_\1", name).lower())))


FIELDS = {
    "model": _both("model", "providedModelName", "internalModelId"),
    "params": _both("modelParameters"),
    "prompt_name": _both("promptName"),
    "prompt_version": _both("promptVersion"),
    "usage": _both("usageDetails", "usage"),
    "usd": _both("totalCost", "calculatedTotalCost"),
}
SPAN = {
    "id": ("id",),
    "trace": _both("traceId"),
    "parent": _both("parentObservationId"),
    "name": ("name",),
    "start": _both("startTime", "timestamp"),
    "type": ("type",),
}
SHARED = {"release": ("release",), "cluster": _both("userId", "sessionId")}
SCORE = {"name": ("name",), "value": ("value",), "of": _both("observationId", "traceId", "subject.id")}
CONTENT = {"": ("input", "output")}
KINDS: dict[str, Kind] = {"GENERATION": "call", "RETRIEVER": "retrieval", "TOOL": "tool"}
TYPES = {*KINDS, "SPAN", "EVENT", "AGENT", "CHAIN", "EVALUATOR", "EMBEDDING", "GUARDRAIL"}
TRACE_KEYS = {"release", "bookmarked", "public", "sessionId", "session_id", "observations"}


def _is_observation(value: Value) -> bool:
    return str(value.get("type")) in TYPES and first(value, SPAN["trace"]) is not None


def _is_trace(value: Value) -> bool:
    return "timestamp" in value and "type" not in value and "value" not in value and bool(TRACE_KEYS & set(value))


def _is_score(value: Value) -> bool:
    return {"name", "value", "source"} <= set(value) and bool({*_both("traceId", "dataType"), "subject"} & set(value))


def _suits(_path: str, value: Value) -> bool:
    return (
        _is_observation(value)
        or _is_score(value)
        or (_is_trace(value) and bool({*_both("projectId"), "observations"} & set(value)))
    )


def _split() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        inner = embedded(value.get("observations"))
        nested = [each for each in inner if isinstance(each, Mapping)] if isinstance(inner, list) else []
        if nested:
            value = {key: each for key, each in value.items() if key != "observations"}
        trace = first(value, ("id",)) if _is_trace(value) else first(value, (*SPAN["trace"], "subject.traceId", "subject.id"))
        for each in [value, *nested]:
            yield Piece(str(trace) if trace else None, dict(each))

    return split


def _build(values: Sequence[Value]) -> Iterator[Made]:
    rows, repeats = newest(values, "id", "updatedAt" if any("updatedAt" in each for each in values) else "updated_at")
    yield from (Made(None, DUPLICATE) for _ in range(repeats))
    traces = [_span(row) for row in rows if _is_trace(row)]
    observations = [_span(row) for row in rows if not _is_trace(row) and not _is_score(row)]
    top = traces[0]["id"] if traces else None
    for span in observations:
        span["parent"] = span.get("parent") or top
    anchor = next((span["id"] for span in [*traces, *observations]), "")
    scores = [{**_span(row), "parent": anchor, "score": row} for row in rows if _is_score(row)]
    yield from trace_records([*traces, *observations, *scores], lambda _: LANGFUSE)


def _span(row: Value) -> Span:
    span = take(row, SPAN)
    return {"id": "", **span, "attributes": row, "events": []}


def _kind(span: Span) -> Kind:
    return "other" if "score" in span else KINDS.get(str(span.get("type")), "other")


def _call(span: Span) -> Call:
    row = span["attributes"]
    fields = take(row, FIELDS)
    given, returned = (first(row, (name,)) for name in ("input", "output"))
    tools = given.get("tools") if isinstance(given, Mapping) else None
    return Call(
        str(span["id"]),
        span.get("start"),
        _messages(given),
        _answer(returned),
        fields={**fields, **take(row, SHARED), "tools": tools, "versions": versions(fields)},
        extra={
            f"langfuse_{name}" if name in ("id", "scores", "history") else name: embedded(value) for name, value in _extra(row)
        },
    )


def _extra(row: Value) -> Iterator[tuple[str, Any]]:
    yield from rest(row, FIELDS, SPAN, SHARED, CONTENT).items()


def _messages(given: Any) -> list[Message]:
    return read_messages(given) or ([{"role": "user", "content": given}] if isinstance(given, str) and given else [])


def _answer(returned: Any) -> Message | None:
    if messages := read_messages(returned):
        return messages[-1]
    text = answer_of(returned)
    return None if text is None else {"role": "assistant", "content": text}


def _documents(span: Span) -> list[Any]:
    found = first(span["attributes"], ("output",))
    found = found.get("documents", found) if isinstance(found, Mapping) else found
    return found if isinstance(found, list) else []


def _tool(span: Span) -> dict[str, Any] | None:
    row = span["attributes"]
    name = span.get("name")
    return {"name": name, "arguments": first(row, ("input",)), "result": first(row, ("output",))} if name else None


def _shared(span: Span) -> dict[str, Any]:
    if "score" in span:
        score = take(span["score"], SCORE)
        number = isinstance(score.get("value"), int | float) and "name" in score
        return {"scores": {str(score["name"]): score["value"]}} if number else {}
    return {name: str(value) for name, value in take(span["attributes"], SHARED).items()}


def _asked(span: Span) -> tuple[Any, Any]:
    if "score" in span or str(span.get("type")) in ("EVALUATOR", "GUARDRAIL", "EMBEDDING", "EVENT"):
        return None, None
    return first(span["attributes"], ("input",)), first(span["attributes"], ("output",))


LANGFUSE = Dialect(lambda _: True, _kind, _call, _documents, _tool, _shared, _asked)
LANGFUSE_EXPORT = Format("langfuse", frozenset({"item", "data.item", ""}), _suits, _split, _build)
