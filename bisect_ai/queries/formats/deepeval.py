"""DeepEval's test runs, and the rows of ragas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, mappings_in
from bisect_ai.queries.documents import NoObject
from bisect_ai.queries.formats.call_records import (
    Call,
    Format,
    Piece,
    Split,
    Value,
    each_alone,
    first,
    raw,
    rest,
    stamp_of,
    take,
)
from bisect_ai.queries.messages import read_messages
from bisect_ai.queries.normalise import asked_messages, documents_of, numbers_of, said_message
from bisect_ai.queries.values import missing, name_of, text_of

CASE = {
    "reference": ("expectedOutput", "expected_output", "expectedOutcome"),
    "usd": ("tokenCost",),
    "cluster": ("metadata.user", "metadata.session"),
}
OUTPUT = ("actualOutput", "actual_output")
DOCUMENTS = ("retrievalContext", "retrieval_context", "context")
METRICS, TOOLS, CASES = ("metricsData", "metrics_data"), ("toolsCalled", "tools_called"), ("testCases", "test_cases")
KNOWN = {"": ("input", "name", "order", "turns", *OUTPUT, *DOCUMENTS, *METRICS, *TOOLS)}
RUN = {
    "run_id": ("identifier", "testRunId", "id"),
    "run_name": ("identifier", "testFile", "datasetAlias"),
    "run_at": ("createdAt",),
}
# The run is told by the time in the name of its file alone.
STAMP = re.compile(r"(?P<run_at>\d{4}-?\d\d-?\d\d[T_]\d\d-?\d\d-?\d\d)")
# The columns of a ragas sample; all other numbers are scores.
SAMPLE = {"user_input", "response", "retrieved_contexts", "reference", "reference_contexts", "rubrics"}


def _is_deepeval(_path: str, value: Value) -> bool:
    inner = as_mapping(value.get("testRunData", value))
    return any(isinstance(inner.get(name), list) for name in CASES)


def _split_deepeval() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        run = as_mapping(value.get("testRunData", value))
        head = {name: each for name, each in run.items() if not isinstance(each, list)}
        for name in (*CASES, "conversationalTestCases", "conversational_test_cases"):
            for number, case in enumerate(as_list(run.get(name))):
                yield Piece(None, {"row": case, "run": head, "number": number} if isinstance(case, dict) else NoObject())

    return split


# What a case is said to have come to, also where each of its metrics failed: then it says nothing of the answer.
VERDICT = ("success",)


def _deepeval_call(value: Value) -> Call:
    case, run = value["row"], value["run"]
    hyper = as_mapping(run.get("hyperparameters"))
    versions = {str(name): text_of(each) for name, each in hyper.items() if not missing(each)}
    turns = read_messages(case.get("turns"))
    scores = _deepeval_scores(first(case, METRICS), case.get("success"))
    return Call(
        f"{name_of(case.get('name')) or 'case'}-{name_of(case.get('order')) or value['number']}",
        None,
        turns or asked_messages(case.get("input")),
        said_message(raw(case, OUTPUT)),
        fields={
            **take(run, RUN),
            **take(case, CASE),
            "documents": documents_of(first(case, DOCUMENTS)),
            "tool_results": _deepeval_tools(first(case, TOOLS)),
            "scores": scores,
            "model": versions.get("model"),
            "versions": versions,
        },
        extra=rest(case, CASE, KNOWN, {"": () if scores else VERDICT}),
    )


def _deepeval_tools(called: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": each.get("name"),
            "arguments": each.get("inputParameters", each.get("input_parameters")) or {},
            **({"result": each["output"]} if each.get("output") is not None else {}),
        }
        for each in mappings_in(called)
    ]


def _deepeval_scores(metrics: Any, success: Any) -> dict[str, float]:
    """The metrics' scores; a metric that failed has none, and a case with one neither passed nor failed."""
    listed = mappings_in(metrics)
    sound = {name_of(each.get("name")): each.get("score") for each in listed if not each.get("error")}
    passed = {"success": success} if isinstance(success, bool) and len(sound) == len(listed) else {}
    return numbers_of({**sound, **passed})


DEEPEVAL = Format(
    "deepeval",
    frozenset({""}),
    _is_deepeval,
    _split_deepeval,
    each_alone(_deepeval_call),
    named=lambda file: stamp_of(file, STAMP),
)


def _split_samples() -> Split:
    numbers = count()

    def split(_path: str, value: Value) -> Iterator[Piece]:
        yield Piece(None, {"row": value, "number": next(numbers)})

    return split


def _ragas_sample(value: Value) -> Call:
    row = value["row"]
    others = {name: each for name, each in row.items() if name not in SAMPLE and name != "id"}
    return Call(
        name_of(row.get("id")) or f"row-{value['number']}",
        None,
        asked_messages(row["user_input"]) if row.get("user_input") else [],
        said_message(row.get("response")),
        fields={
            "documents": documents_of(row.get("retrieved_contexts")),
            "reference": row.get("reference"),
            "scores": numbers_of({k: each for k, each in others.items() if not isinstance(each, list | dict)}, cell=True),
        },
        extra={name: each for name, each in others.items() if name != "scores"},
    )


RAGAS = Format(
    "ragas",
    frozenset({"item", "data.item", ""}),
    suits=lambda _, value: "user_input" in value and bool({"response", "retrieved_contexts"} & set(value)),
    split=_split_samples,
    build=each_alone(_ragas_sample),
)
