"""Langfuse exports: observations v2, or traces and observations (legacy), with scores; JSON, JSONL, CSV or Parquet.

The API and the blob export name the same fields in camelCase and snake_case; both are read. So are the exports of the web
pages (traces and observations with a column of values for each score) and a trace downloaded as JSON. They write a text as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, mappings_in
from bisect_ai.queries.documents import NoObject
from bisect_ai.queries.formats.call_records import (
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
    newest,
    raw,
    rest,
    span_of,
    take,
    tool_run,
    trace_records,
)
from bisect_ai.queries.formats.genai import versions
from bisect_ai.queries.messages import Message, answer_message, answer_of, question_messages, question_of, read_messages
from bisect_ai.queries.normalise import score_of
from bisect_ai.queries.values import embedded, name_of, names_of, unquoted


def _both_of_langfuse(*names: str) -> tuple[str, ...]:
    """The names in camelCase and in snake_case."""
    return tuple(each for name in names for each in dict.fromkeys((name, re.sub("([A-Z])", r"_\1", name).lower())))


FIELDS = {
    "model": _both_of_langfuse("model", "providedModelName", "internalModelId"),
    "params": _both_of_langfuse("modelParameters"),
    "prompt_name": _both_of_langfuse("promptName"),
    "prompt_version": _both_of_langfuse("promptVersion"),
    "usage": _both_of_langfuse("usageDetails", "usage"),
    "usd": _both_of_langfuse("totalCost", "calculatedTotalCost"),
}
SPAN = {
    "id": ("id",),
    "trace": _both_of_langfuse("traceId"),
    "parent": _both_of_langfuse("parentObservationId"),
    "name": ("name",),
    "start": _both_of_langfuse("startTime", "timestamp"),
    "type": ("type",),
}
SHARED = {"release": ("release",), "cluster": _both_of_langfuse("userId", "sessionId")}
RUN = {"run_id": _both_of_langfuse("projectId"), "run_name": _both_of_langfuse("traceName")}
SCORE = {"name": ("name",), "value": ("value",), "of": _both_of_langfuse("observationId", "traceId", "subject.id")}
CONTENT = {"": ("input", "output")}
KINDS: dict[str, Kind] = {"GENERATION": "call", "RETRIEVER": "retrieval", "TOOL": "tool"}
TYPES = {*KINDS, "SPAN", "EVENT", "AGENT", "CHAIN", "EVALUATOR", "EMBEDDING", "GUARDRAIL"}
TRACE_KEYS = {"release", "bookmarked", "public", "sessionId", "session_id", "observations"}
PAGE_KEYS = {"bookmarked", "public"}
# Columns whose lists are no scores.
LISTS = {"tags", "comments", "input", "output", "metadata", "scores", "observations"}
# How the web pages name an export: its time and its project.
EXPORT = re.compile(r"(\d{13})-lf-[a-z_-]+-export-([\w-]{1,80})")


def _is_observation(value: Value) -> bool:
    return str(value.get("type")) in TYPES and first(value, SPAN["trace"]) is not None


def _is_trace(value: Value) -> bool:
    return "timestamp" in value and "type" not in value and "value" not in value and bool(TRACE_KEYS & set(value))


def _is_langfuse_score(value: Value) -> bool:
    return {"name", "value", "source"} <= set(value) and bool(
        {*_both_of_langfuse("traceId", "dataType"), "subject"} & set(value)
    )


def _is_langfuse(_path: str, value: Value) -> bool:
    marked = {*_both_of_langfuse("projectId"), "observations"} & set(value) or set(value) >= PAGE_KEYS
    return _is_observation(value) or _is_langfuse_score(value) or _is_download(value) or (_is_trace(value) and bool(marked))


def _is_download(value: Value) -> bool:
    """Whether a document is one trace as the web page downloads it."""
    return isinstance(value.get("trace"), Mapping) and isinstance(value.get("observations"), list)


def _split_langfuse() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        if _is_download(value):
            value = {**value["trace"], "observations": value["observations"]}
        held = [each for name in ("observations", "scores") for each in as_list(embedded(value.get(name)))]
        nested = mappings_in(held)
        if nested:
            value = {key: each for key, each in value.items() if key not in ("observations", "scores")}
        trace = first(value, ("id",)) if _is_trace(value) else first(value, (*SPAN["trace"], "subject.traceId", "subject.id"))
        for each in [value, *nested]:
            yield Piece(str(trace) if trace else None, dict(each))
        yield from (Piece(None, NoObject()) for _ in range(len(held) - len(nested)))

    return split


def _langfuse_records(values: Sequence[Value]) -> Iterator[Made]:
    rows, repeats = newest(values, "id", "updatedAt" if any("updatedAt" in each for each in values) else "updated_at")
    yield from repeats
    traces = [span_of(row, SPAN) for row in rows if _is_trace(row)]
    observations = [span_of(row, SPAN) for row in rows if not _is_trace(row) and not _is_langfuse_score(row)]
    top = traces[0]["id"] if traces else None
    for span in observations:
        span["parent"] = span.get("parent") or top
    anchor = next((span["id"] for span in [*traces, *observations]), "")
    scores = [{**span_of(row, SPAN), "parent": anchor, "score": row} for row in rows if _is_langfuse_score(row)]
    yield from trace_records([*traces, *observations, *scores], lambda _: LANGFUSE)


def _langfuse_call(span: Span) -> Call:
    row = span["attributes"]
    fields = take(row, FIELDS)
    given = first(row, ("input",))
    return Call(
        name_of(span["id"]),
        span.get("start"),
        _langfuse_messages(given),
        _langfuse_answer(raw(row, ("output",))),
        fields={
            **fields,
            **take(row, SHARED),
            **take(row, RUN),
            "tools": as_mapping(given).get("tools"),
            "versions": versions(fields),
            "scores": _langfuse_columns(row),
        },
        extra={
            f"langfuse_{name}" if name in ("id", "scores", "history") else name: embedded(value)
            for name, value in rest(row, FIELDS, SPAN, SHARED, CONTENT).items()
        },
    )


def _langfuse_columns(row: Value) -> dict[str, float]:
    """Scores that have columns of their own, each a list of values."""
    listed = {name: found for name, each in row.items() if name not in LISTS and isinstance(found := embedded(each), list)}
    return {name: score for name, found in listed.items() if (score := score_of(found)) is not None}


def _langfuse_messages(given: Any) -> list[Message]:
    return read_messages(given) or question_messages(question_of(unquoted(given)))


def _langfuse_answer(returned: Any) -> Message | None:
    if (messages := read_messages(returned)) and messages[-1]["role"] == "assistant":
        return messages[-1]
    return answer_message(answer_of(returned, encoded=True))


def _langfuse_documents(span: Span) -> list[Any]:
    found = first(span["attributes"], ("output",))
    return as_list(found.get("documents") if isinstance(found, Mapping) else found)


def _shared_by_langfuse(span: Span) -> dict[str, Any]:
    if "score" in span:
        score = take(span["score"], SCORE)
        number = isinstance(score.get("value"), int | float) and "name" in score
        return {"scores": {str(score["name"]): score["value"]}} if number else {}
    row = span["attributes"]
    return {**names_of(take(row, SHARED)), **take(row, RUN), "scores": _langfuse_columns(row)}


def _asked_in_langfuse(span: Span) -> tuple[Any, str | None]:
    if "score" in span or str(span.get("type")) in ("EVALUATOR", "GUARDRAIL", "EMBEDDING", "EVENT"):
        return None, None
    return unquoted(first(span["attributes"], ("input",))), answer_of(raw(span["attributes"], ("output",)), encoded=True)


def _named_by_langfuse(file: str) -> Value:
    found = EXPORT.search(file)
    return {"run_at": int(found[1]), "run_id": found[2]} if found else {}


LANGFUSE = Dialect(
    kind=lambda span: "other" if "score" in span else KINDS.get(str(span.get("type")), "other"),
    call=_langfuse_call,
    documents=_langfuse_documents,
    tool=lambda span: tool_run(span, *(first(span["attributes"], (name,)) for name in ("input", "output"))),
    shared=_shared_by_langfuse,
    asked=_asked_in_langfuse,
)
LANGFUSE_EXPORT = Format(
    "langfuse", frozenset({"item", "data.item", ""}), _is_langfuse, _split_langfuse, _langfuse_records, named=_named_by_langfuse
)
