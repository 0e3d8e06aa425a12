"""Braintrust: the rows of an experiment or of a project's logs, one span each; Weave: calls, and the examples of its evaluations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_mapping
from bisect_ai.queries.formats.call_records import (
    PART,
    Call,
    Dialect,
    Format,
    Kind,
    Made,
    Span,
    Value,
    first,
    left_out,
    newest,
    records,
    rest,
    span_of,
    take,
    tool_run,
    trace_records,
    whole_records,
)
from bisect_ai.queries.normalise import asked_messages, documents_in, numbers_of, said_message
from bisect_ai.queries.values import name_of, names_of

ROW = {
    "id": ("id", "span_id"),
    "name": ("span_attributes.name",),
    "start": ("created", "metrics.start"),
    "type": ("span_attributes.type",),
}
FIELDS = {"model": ("metadata.model",), "params": ("metadata.params",), "error": ("error",), "usage": ("metrics",)}
SHARED = {
    "release": ("metadata.release",),
    "cluster": ("metadata.user_id", "metadata.session_id"),
    "reference": ("expected",),
    "run_id": ("experiment_id", "project_id"),
    "run_name": ("experiment_name", "experiment"),
}
CONTENT = {"": ("input", "output", "scores")}
KINDS: dict[str, Kind] = {"llm": "call", "tool": "tool", "retriever": "retrieval"}
SCORING = ("scorer", "score")


def _is_braintrust(_path: str, value: Value) -> bool:
    marks = {"_xact_id", "span_attributes", "root_span_id", "experiment_id", "log_id"} & set(value)
    return len(marks) >= 2 and bool({"input", "scores", "output"} & set(value))


def _braintrust_records(values: Sequence[Value]) -> Iterator[Made]:
    rows, repeats = newest(values, "id", "_xact_id")
    scoring = [row for row in rows if first(row, ("span_attributes.purpose", "span_attributes.type")) in SCORING]
    yield from [*repeats, *left_out(len(scoring), PART)]
    yield from trace_records([_braintrust_span(row) for row in rows if row not in scoring], lambda _: BRAINTRUST_ROWS)


def _braintrust_span(row: Value) -> Span:
    above = first(row, ("span_parents",))
    parent = above[0] if isinstance(above, list) and above else None
    return {**span_of(row, ROW), "id_of_span": row.get("span_id"), "parent": parent}


def _braintrust_call(span: Span) -> Call:
    row = span["attributes"]
    fields = take(row, FIELDS)
    return Call(
        name_of(span["id"]),
        span.get("start"),
        asked_messages(first(row, ("input",))),
        None if row.get("error") else said_message(row.get("output")),
        fields={**fields, "versions": {"model": name_of(fields["model"])} if "model" in fields else {}},
        extra={name: each for name, each in rest(row, ROW, CONTENT).items() if name not in (*SHARED, *ROW, *FIELDS)},
    )


def _shared_by_braintrust(span: Span) -> dict[str, Any]:
    row = span["attributes"]
    scores = {} if row.get("error") else numbers_of(first(row, ("scores",)), cell=True)
    return {**names_of(take(row, SHARED), "reference"), "scores": scores}


BRAINTRUST_ROWS = Dialect(
    kind=lambda span: KINDS.get(str(span.get("type")), "other"),
    call=_braintrust_call,
    documents=lambda span: documents_in(first(span["attributes"], ("output",))),
    tool=lambda span: tool_run(span, *(first(span["attributes"], (name,)) for name in ("input", "output"))),
    shared=_shared_by_braintrust,
)
BRAINTRUST = Format(
    "braintrust",
    frozenset({"item", "events.item", "data.item", "rows.item", ""}),
    _is_braintrust,
    whole_records(lambda row: first(row, ("root_span_id", "id"))),
    _braintrust_records,
)

CALL = {
    "id": ("id",),
    "parent": ("parent_id",),
    "trace": ("trace_id",),
    "name": ("op_name",),
    "start": ("started_at",),
}
OF_CALL = {"run_id": ("wb_run_id",), "run_name": ("display_name",), "cluster": ("thread_id",), "model": ("inputs.model",)}
EXAMPLE = ".predict_and_score"
OP = re.compile(r"(?:^|/op/)([^/:]+)(?::([\w*-]+))?$")  # Weave's reference to a function: its name, and its version


def _build_calls(values: Sequence[Value]) -> Iterator[Made]:
    rows, repeats = newest(values, "id", "ended_at")
    yield from repeats
    examples = [row for row in rows if EXAMPLE in name_of(row.get("op_name"))]
    if not examples:
        yield from trace_records([span_of(row, CALL) for row in rows], lambda _: WEAVE_CALLS)
        return
    yield from records([_braintrust_example(row) for row in examples])
    yield from left_out(len(rows) - len(examples), PART)


def _braintrust_example(row: Value) -> Call:
    """One example of an evaluation: its question, the model's answer and the scores."""
    output = as_mapping(first(row, ("output",)))
    example = first(row, ("inputs.example",))
    example = dict(example) if isinstance(example, Mapping) else {"input": example}
    scores = first({"scores": output.get("scores")}, ("scores",))
    wanted = ("expected", "target", "reference", "ground_truth", "expected_output")
    model = OP.search(str(first(row, ("inputs.model",)) or "").replace("/object/", "/op/"))
    return Call(
        name_of(row.get("id")),
        row.get("started_at"),
        asked_messages({name: each for name, each in example.items() if name not in wanted}),
        None if row.get("exception") else said_message(output.get("output", output.get("model_output"))),
        fields={
            "scores": {} if row.get("exception") else _flat_scores(scores),
            "reference": next((example[name] for name in wanted if name in example), None),
            "run_id": first(row, ("parent_id",)),
            "versions": {"model": ":".join(filter(None, model.groups()))} if model else {},
        },
        extra=rest(row, {"": ("id", "output")}),
    )


def _flat_scores(scores: Any) -> dict[str, float]:
    """Scores by name; a scorer that gives several has them as `scorer.name`."""
    flat = {}
    for name, each in as_mapping(scores).items():
        inner = {f"{name}.{key}": value for key, value in each.items()} if isinstance(each, Mapping) else {str(name): each}
        flat.update(inner)
    return numbers_of(flat)


def _weave_kind(span: Span) -> Kind:
    inputs = as_mapping(first(span["attributes"], ("inputs",)))
    return "call" if isinstance(inputs.get("messages"), list) and "model" in inputs else "other"


def _weave_call(span: Span) -> Call:
    row = span["attributes"]
    op = OP.search(name_of(row.get("op_name")))
    fields = take(row, OF_CALL)
    shown = {"op": ":".join(filter(None, op.groups()))} if op else {}
    model = {"model": fields["model"]} if isinstance(fields.get("model"), str) else {}
    said = None if row.get("exception") else said_message(first(row, ("output",)))
    return Call(
        name_of(span["id"]),
        span.get("start"),
        asked_messages(first(row, ("inputs",))),
        said,
        fields={**fields, "versions": {**shown, **model}},
        extra=rest(row, CALL, {"": ("output", "thread_id", "wb_run_id")}) | {"op_name": row.get("op_name")},
    )


WEAVE_CALLS = Dialect(_weave_kind, _weave_call, lambda _: [], lambda _: None, lambda _: {})
WEAVE = Format(
    "weave",
    frozenset({"item", "calls.item", "data.item", ""}),
    suits=lambda _, value: {"op_name", "inputs", "started_at"} <= set(value),
    split=whole_records(lambda row: first(row, ("trace_id", "id"))),
    build=_build_calls,
)
