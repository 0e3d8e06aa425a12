"""MLflow: traces (one a line, a list, or the table of `search_traces`), and evaluation tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from bisect_ai.canonical import as_mapping, mappings_in
from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
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
    raw,
    records,
    rest,
    take,
    tool_run,
    trace_records,
)
from bisect_ai.queries.normalise import asked_messages, documents_in, numbers_of, said_message, score_of
from bisect_ai.queries.values import decoded, embedded, name_of, unquoted

INFO = {
    "trace": ("info.trace_id", "info.request_id", "trace_id", "request_id"),
    "at": ("info.request_time", "info.timestamp_ms", "request_time", "timestamp_ms"),
    "metadata": ("info.trace_metadata", "info.request_metadata", "trace_metadata", "request_metadata"),
    "tags": ("info.tags", "tags"),
    "assessments": ("info.assessments", "assessments"),
    "spans": ("data.spans", "spans"),
    "given": ("data.request", "request", "info.request_preview"),
    "returned": ("data.response", "response", "info.response_preview"),
}
SPAN = {
    "id": ("span_id", "context.span_id"),
    "parent": ("parent_span_id", "parent_id"),
    "name": ("name",),
    "start": ("start_time_unix_nano", "start_time"),
}
KINDS: dict[str, Kind] = {"CHAT_MODEL": "call", "LLM": "call", "RETRIEVER": "retrieval", "TOOL": "tool"}
# What judges answer instead of numbers.
GRADES = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0, "pass": 1.0, "fail": 0.0}
SCORE, INPUTS, OUTPUTS = "/score", ("inputs", "input", "question", "request"), ("outputs", "output", "predictions", "response")
REFERENCE = ("ground_truth", "targets", "expectations", "expected_response")


def _is_mlflow(_path: str, value: Value) -> bool:
    found = take(value, INFO)
    traced = "trace" in found and isinstance(found.get("spans"), list) and "resourceSpans" not in value
    return (traced and bool({"info", "trace_metadata", "execution_time_ms", "execution_duration"} & set(value))) or _is_table(
        value
    )


def _is_table(value: Value) -> bool:
    names = value["columns"] if isinstance(value.get("columns"), list) else list(value)
    scored = any(isinstance(name, str) and name.endswith(SCORE) for name in names)
    return scored and any(name in names for name in (*INPUTS, *OUTPUTS))


def _split_mlflow() -> Split:
    numbers = count()

    def split(_path: str, value: Value) -> Iterator[Piece]:
        if not _is_table(value):
            yield Piece(None, value)
            return
        names, data = value.get("columns"), value.get("data")
        rows = (
            [dict(zip(names, cells, strict=False)) for cells in data]
            if isinstance(names, list) and isinstance(data, list)
            else [value]
        )
        yield from (Piece(None, {"row": row, "number": next(numbers)}) for row in rows)

    return split


def _mlflow_records(values: Sequence[Value]) -> Iterator[Made]:
    for value in values:
        yield from records([_mlflow_row(value["row"], value["number"])]) if set(value) == {"row", "number"} else _trace(value)


def _mlflow_row(row: Value, number: int) -> Call:
    """A row of an evaluation table: every `metric/version/score` is a score."""
    scores = {name.removesuffix(SCORE): _grade(each) for name, each in row.items() if name.endswith(SCORE)}
    plain = {
        name: each
        for name, each in row.items()
        if name.count("/") == 1 and isinstance(each, int | float) and name not in scores
    }
    return Call(
        name_of(row.get("id")) or f"row-{number}",
        None,
        asked_messages(first(row, INPUTS)),
        said_message(raw(row, OUTPUTS)),
        fields={"scores": numbers_of({**plain, **scores}), "reference": raw(row, REFERENCE)},
        extra=rest(row, {"": ("id", *OUTPUTS, "input", "inputs")}),
    )


def _trace(value: Value) -> Iterator[Made]:
    found = take(value, INFO)
    spans = [_mlflow_span(each, found) for each in mappings_in(found.get("spans"))]
    if not spans:
        yield Made(None, FRAGMENT)
    top = next((span for span in spans if not span.get("parent")), None)
    if top is not None:
        top["about"] = found
    yield from trace_records(spans, lambda _: MLFLOW_SPANS)


def _mlflow_span(each: Mapping[str, Any], found: Value) -> Span:
    attributes = {str(name): unquoted(embedded(value)) for name, value in as_mapping(each.get("attributes")).items()}  # of JSON
    own = take(each, SPAN)
    named = {"id": name_of(own.get("id")), "at": found.get("at"), "trace": found.get("trace")}
    return {**own, **named, "attributes": attributes, "events": []}


def _mlflow_call(span: Span) -> Call:
    attributes = span["attributes"]
    given = attributes.get("mlflow.spanInputs")
    model = attributes.get("mlflow.llm.model") or as_mapping(given).get("model")
    tools = attributes.get("mlflow.chat.tools")
    name = span["trace"] if not span.get("parent") else span["id"]
    return Call(
        name_of(name) or name_of(span["id"]),
        span.get("at"),
        asked_messages(given),
        said_message(attributes.get("mlflow.spanOutputs")),
        fields={
            "model": model,
            "tools": tools if isinstance(tools, list) else None,
            "usage": attributes.get("mlflow.chat.tokenUsage"),
            "versions": {"model": name_of(model)} if model else {},
        },
        extra={"span_name": span.get("name"), "trace_id": span.get("trace"), **_unknown_to_mlflow(attributes)},
    )


def _unknown_to_mlflow(attributes: Value) -> Value:
    return {
        name: each
        for name, each in attributes.items()
        if not name.startswith("mlflow.") and name not in ("input", "output", "id")
    }


def _shared_by_mlflow(span: Span) -> dict[str, Any]:
    about = as_mapping(span.get("about"))
    told = {**as_mapping(about.get("metadata")), **as_mapping(about.get("tags"))}
    known = {
        "release": told.get("release") or told.get("mlflow.modelId"),
        "cluster": told.get("mlflow.trace.session") or told.get("mlflow.trace.user"),
        "run_id": told.get("mlflow.sourceRun"),
        "run_name": told.get("mlflow.runName"),
        "run_at": about.get("at"),
    }
    found = {name: each for name, each in known.items() if each is not None}
    return {**found, **_assessed(about.get("assessments"))}


def _assessed(listed: Any) -> dict[str, Any]:
    """Scores and the reference among a trace's assessments; those that failed or were overruled say nothing."""
    scores, told = dict[str, float](), dict[str, Any]()
    for each in mappings_in(listed):
        if each.get("valid") is False or each.get("error"):
            continue
        feedback, expectation = as_mapping(each.get("feedback")), each.get("expectation")
        name = name_of(each.get("assessment_name")) or name_of(each.get("name"))
        given = None if feedback.get("error") else feedback.get("value")
        if name and (score := _grade(given)) is not None:
            scores[name] = score
        if isinstance(expectation, Mapping):
            told["reference"] = decoded(expectation.get("value", expectation.get("serialized_value")))
    return {**told, "scores": scores}


def _grade(value: Any) -> float | None:
    return GRADES.get(value.strip().lower(), score_of(value, cell=True)) if isinstance(value, str) else score_of(value)


MLFLOW_SPANS = Dialect(
    kind=lambda span: KINDS.get(str(span["attributes"].get("mlflow.spanType")), "other"),
    call=_mlflow_call,
    documents=lambda span: documents_in(span["attributes"].get("mlflow.spanOutputs")),
    tool=lambda span: tool_run(span, *(span["attributes"].get(f"mlflow.span{which}") for which in ("Inputs", "Outputs"))),
    shared=_shared_by_mlflow,
)
MLFLOW = Format("mlflow", frozenset({"item", "traces.item", ""}), _is_mlflow, _split_mlflow, _mlflow_records)
