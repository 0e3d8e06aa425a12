"""lm-evaluation-harness: `samples_*.jsonl`, all filters of a document together; OpenAI evals: a record log, all events of a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    PART,
    Call,
    Format,
    Made,
    Piece,
    Split,
    Value,
    first,
    records,
    rest,
    stamp_of,
)
from bisect_ai.queries.messages import QUESTION_KEYS, Message
from bisect_ai.queries.normalise import asked_messages, numbers_of, said_message, score_of
from bisect_ai.queries.sample import OLD_PROMPT

# Samples_<task>_<time>.jsonl.
NAMED = re.compile(r"samples_(?P<run_name>.+)_(?P<run_at>\d{4}-\d\d-\d\d(?:T[\d.:-]+\d)?)\.jsonl?")
KNOWN = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash", "task_name", "schema"),
}


def _is_harness(_path: str, value: Value) -> bool:
    return {"doc_id", "doc"} <= set(value) and bool({"resps", "filtered_resps"} & set(value))


def _split_harness() -> Split:
    def split(_path: str, value: Value) -> Iterator[Piece]:
        yield Piece(f"{value.get('task_name')}-{value.get('doc_id')}", value, local=True)

    return split


def _harness_records(values: Sequence[Value]) -> Iterator[Made]:
    top = values[0]
    messages, is_old = _asked_in_harness(top)
    scores: dict[str, float] = {}
    for value in values:
        own = numbers_of({name: value.get(name) for name in _harness_metrics(value)})
        several = len({str(each.get("filter")) for each in values}) > 1
        scores |= {f"{name},{value.get('filter')}" if several else name: score for name, score in own.items()}
    fields = {"scores": scores, "reference": top.get("target"), OLD_PROMPT: is_old or None, "run_name": top.get("task_name")}
    extra = rest(top, {"": ("resps", "filtered_resps", "filter", "arguments", *scores)})
    yield from records([Call(str(top.get("doc_id")), None, messages, _said_in_harness(top), fields=fields, extra=extra)])
    yield from (Made(None, PART) for _ in values[1:])


def _harness_metrics(value: Value) -> Sequence[str]:
    listed = value.get("metrics")
    return [str(each) for each in listed] if isinstance(listed, list) else [name for name in value if name not in KNOWN]


def _asked_in_harness(value: Value) -> tuple[list[Message], bool]:
    """The document's question where it is inside the rendered prompt; else that, with a mark that it is one."""
    doc, prompt = value.get("doc"), _harness_prompt(value)
    named = [doc[name] for name in QUESTION_KEYS if isinstance(doc.get(name), str)] if isinstance(doc, Mapping) else []
    question = next((text for text in named if text.strip() and (prompt is None or text.strip() in prompt)), None)
    if question is not None or prompt is None:
        return asked_messages(question or doc), False
    return asked_messages(prompt), True


def _harness_prompt(value: Value) -> str | None:
    given: Any = value.get("arguments")
    for _ in range(3):
        if isinstance(given, Mapping):
            given = given.get("arg_0", next(iter(given.values()), None))
        elif isinstance(given, list) and given:
            given = given[0]
    return given if isinstance(given, str) else None


def _said_in_harness(value: Value) -> Message | None:
    """The model's text; a multiple choice has likelihoods only."""
    given: Any = value.get("resps") or value.get("filtered_resps")
    while isinstance(given, list) and given:
        given = given[0]
    return said_message(given) if isinstance(given, str) and not _is_harness_number(given) else None


def _is_harness_number(text: str) -> bool:
    return score_of(text, cell=True) is not None and "." in text


LM_EVAL = Format(
    "lm_eval", frozenset({""}), _is_harness, _split_harness, _harness_records, named=lambda file: stamp_of(file, NAMED)
)

EVENT = {"run_id", "event_id", "sample_id", "type", "data"}


def _suits_event(_path: str, value: Value) -> bool:
    return set(value) >= EVENT or (isinstance(value.get("spec"), Mapping) and "eval_name" in value["spec"])


def _split_events() -> Split:
    spec: dict[str, Any] = {}

    def split(_path: str, value: Value) -> Iterator[Piece]:
        if isinstance(value.get("spec"), Mapping):
            spec.update(value["spec"])
        name = value.get("sample_id")
        yield Piece(f"{value.get('run_id')}/{name}" if name else None, {"row": value, "run": dict(spec)})

    return split


def _build_events(values: Sequence[Value]) -> Iterator[Made]:
    rows = [value["row"] for value in values]
    asked = next((row for row in rows if row.get("type") == "sampling"), None)
    if asked is None:
        yield from (Made(None, FRAGMENT if row.get("sample_id") else PART) for row in rows)
        return
    yield from records([_harness_sample(asked, rows, values[0]["run"])])
    yield from (Made(None, PART) for _ in rows[1:])


def _harness_sample(asked: Value, rows: Sequence[Value], spec: Value) -> Call:
    """A sample with what was asked, what came back, and what the other events grade."""
    data = asked["data"] if isinstance(asked.get("data"), dict) else {}
    grades: dict[str, Any] = {}
    reference = None
    for row in rows:
        told = row.get("data")
        if row is asked or not isinstance(told, Mapping) or row.get("type") in ("sampling", "error"):
            continue
        correct = {str(row.get("type")): told["correct"]} if "correct" in told else told
        grades |= {name: each for name, each in correct.items() if isinstance(each, bool | int | float)}
        reference = told.get("expected", reference)
    sampled = data.get("sampled")
    models = first(spec, ("completion_fns",))
    model = models[0] if isinstance(models, list) and models else data.get("model")
    return Call(
        str(asked.get("sample_id")),
        asked.get("created_at"),
        asked_messages(data.get("prompt")),
        said_message(sampled[0] if isinstance(sampled, list) and sampled else sampled),
        fields={
            "scores": numbers_of(grades),
            "reference": reference,
            "run_id": asked.get("run_id"),
            "run_at": spec.get("created_at"),
            "run_name": spec.get("eval_name"),
            "model": model,
            "versions": {"model": str(model)} if model else {},
        },
        extra={"sample_id": asked.get("sample_id")},
    )


OPENAI_EVALS = Format("openai_evals", frozenset({""}), _suits_event, _split_events, _build_events)
