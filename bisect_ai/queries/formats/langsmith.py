"""LangSmith: runs (JSON or JSONL of `client.list_runs`, bulk exports), and the rows of an experiment as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, mappings_in
from bisect_ai.queries.formats.call_records import (
    Call,
    Dialect,
    Format,
    Kind,
    Made,
    Span,
    Value,
    below,
    first,
    newest,
    records,
    rest,
    span_of,
    take,
    tool_run,
    trace_records,
    whole_records,
)
from bisect_ai.queries.formats.genai import versions
from bisect_ai.queries.normalise import asked_messages, documents_in, numbers_of, said_message
from bisect_ai.queries.values import name_of, names_of

RUN = {
    "id": ("id",),
    "parent": ("parent_run_id",),
    "trace": ("trace_id",),
    "name": ("name",),
    "start": ("start_time",),
    "type": ("run_type",),
}
FIELDS = {
    "model": ("extra.metadata.ls_model_name", "extra.invocation_params.model", "extra.invocation_params.model_name"),
    "params": ("extra.invocation_params",),
    "tools": ("extra.invocation_params.tools",),
    "prompt_name": ("extra.metadata.lc_hub_repo",),
    "prompt_version": ("extra.metadata.lc_hub_commit_hash",),
    "error": ("error",),
    "usd": ("total_cost",),
}
SHARED = {
    "release": ("extra.metadata.revision_id", "extra.metadata.release"),
    "cluster": ("extra.metadata.thread_id", "extra.metadata.session_id", "extra.metadata.user_id"),
    "reference": ("reference_outputs", "example.outputs"),
    "run_id": ("session_id",),
    "run_name": ("session_name", "project_name"),
}
CONTENT = {"": ("feedback_stats", "feedback", "serialized", "events")}
OURS = {*SHARED, "scores", "input", "output", "id"}
KINDS: dict[str, Kind] = {"llm": "call", "retriever": "retrieval", "tool": "tool"}


def _is_langsmith(_path: str, value: Value) -> bool:
    return ("run_type" in value and "inputs" in value) or _is_row(value)


def _is_row(value: Value) -> bool:
    """Whether it is a row of an experiment's table."""
    return "example_id" in value and any(str(name).startswith(("inputs.", "outputs.", "feedback.")) for name in value)


def _langsmith_records(values: Sequence[Value]) -> Iterator[Made]:
    if _is_row(values[0]):
        yield from records([_langsmith_row(value) for value in values])
        return
    rows, repeats = newest(values, "id", "end_time")
    yield from repeats
    yield from trace_records([span_of(row, RUN) for row in rows], lambda _: LANGSMITH)


def _langsmith_row(value: Value) -> Call:
    """A row of an experiment's table, whose columns are named `inputs.question`, `outputs.answer`, `feedback.correct`."""
    given, returned, wanted = (below(value, prefix) for prefix in ("inputs.", "outputs.", "reference."))
    failed = bool(value.get("error"))
    return Call(
        name_of(value.get("id")) or name_of(value.get("example_id")),
        first(value, ("start_time",)),
        asked_messages(given),
        None if failed else said_message(returned),
        fields={
            "scores": {} if failed else numbers_of(below(value, "feedback."), cell=True),
            "reference": next(iter(wanted.values())) if len(wanted) == 1 else wanted,
            "cluster": f"example {example}" if (example := name_of(value["example_id"])) else None,
            "run_id": first(value, ("session_id", "experiment_id")),
            "run_name": first(value, ("experiment_name", "experiment")),
        },
        extra={name: each for name, each in value.items() if name != "id" and each is not None},
    )


def _langsmith_call(span: Span) -> Call:
    row = span["attributes"]
    fields = take(row, FIELDS)
    if isinstance(fields.get("params"), Mapping):
        unset = ("model", "model_name", "tools", "messages", "_type")
        fields["params"] = {name: each for name, each in fields["params"].items() if name not in unset}
    return Call(
        name_of(span["id"]),
        span.get("start"),
        _langsmith_messages(first(row, ("inputs",))),
        None if row.get("error") else said_message(first(row, ("outputs",))),
        fields={**fields, "versions": versions(fields)},
        extra={name: each for name, each in rest(row, RUN, CONTENT).items() if name not in OURS},
    )


def _langsmith_messages(given: Any) -> list[Any]:
    """The messages of a run's inputs; a model that takes prompts has a list of one text."""
    prompts = as_list(as_mapping(given).get("prompts"))
    return asked_messages(prompts[0] if len(prompts) == 1 else given)


def _langsmith_tool(span: Span) -> dict[str, Any] | None:
    given, returned = (first(span["attributes"], (name,)) for name in ("inputs", "outputs"))
    result = returned.get("output", returned) if isinstance(returned, Mapping) else returned
    inner = given.get("input", given) if isinstance(given, Mapping) and len(given) == 1 else given
    return tool_run(span, inner, result)


def _shared_by_langsmith(span: Span) -> dict[str, Any]:
    row = span["attributes"]
    return {**names_of(take(row, SHARED), "reference"), "scores": {} if row.get("error") else _feedback(row)}


def _feedback(row: Value) -> dict[str, float]:
    """Feedback by key: its mean in `feedback_stats`, or listed one by one."""
    single = {name_of(each.get("key")): each.get("score") for each in mappings_in(first(row, ("feedback",)))}
    stats = as_mapping(first(row, ("feedback_stats",)))
    return numbers_of({**single, **{name: each.get("avg") for name, each in stats.items() if isinstance(each, Mapping)}})


LANGSMITH = Dialect(
    kind=lambda span: KINDS.get(str(span.get("type")), "other"),
    call=_langsmith_call,
    documents=lambda span: documents_in(first(span["attributes"], ("outputs",))),
    tool=_langsmith_tool,
    shared=_shared_by_langsmith,
)
LANGSMITH_RUNS = Format(
    "langsmith",
    frozenset({"item", "data.item", "runs.item", ""}),
    _is_langsmith,
    whole_records(lambda row: None if _is_row(row) else first(row, ("trace_id", "id"))),
    _langsmith_records,
)
