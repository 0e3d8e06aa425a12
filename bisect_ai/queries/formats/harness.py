"""Logs of evaluation harnesses: lm-evaluation-harness, OpenAI evals, Inspect.

lm-evaluation-harness: `samples_*.jsonl`, all filters of a document together; OpenAI evals: a record log, all events of a sample;
Inspect: `.eval` (a zip archive of JSON members, never unpacked to disk) and `.json`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import BadRecord, as_list, as_mapping, parse_json
from bisect_ai.errors import QueryError
from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    PART,
    Call,
    Format,
    Made,
    Piece,
    Split,
    Value,
    each_alone,
    first,
    left_out,
    records,
    rest,
    stamp_of,
    take,
    whole_records,
)
from bisect_ai.queries.messages import (
    QUESTION_KEYS,
    Message,
    answer_message,
    answer_of,
    asked_at,
    question_messages,
    read_messages,
    tool_results,
)
from bisect_ai.queries.normalise import MAX_SCORE, asked_messages, numbers_of, said_message, score_of
from bisect_ai.queries.sample import OLD_PROMPT
from bisect_ai.queries.unpack import MAX_RATIO, damage, member_stream
from bisect_ai.queries.values import name_of

# Samples_<task>_<time>.jsonl.
NAMED = re.compile(r"samples_(?P<run_name>.+)_(?P<run_at>\d{4}-\d\d-\d\d(?:T[\d.:-]+\d)?)\.jsonl?")
KNOWN = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash", "task_name", "schema"),
}


def _harness_records(values: Sequence[Value]) -> Iterator[Made]:
    top = values[0]
    messages, is_old = _asked_in_harness(top)
    scores: dict[str, float] = {}
    for value in values:
        own = numbers_of({name: value.get(name) for name in _harness_metrics(value)})
        several = len({str(each.get("filter")) for each in values}) > 1
        scores |= {f"{name},{name_of(value.get('filter'))}" if several else name: score for name, score in own.items()}
    fields = {"scores": scores, "reference": top.get("target"), OLD_PROMPT: is_old or None, "run_name": top.get("task_name")}
    extra = rest(top, {"": ("resps", "filtered_resps", "filter", "arguments", *scores)})
    yield from records([Call(name_of(top.get("doc_id")), None, messages, _said_in_harness(top), fields=fields, extra=extra)])
    yield from left_out(len(values) - 1, PART)


def _harness_metrics(value: Value) -> Sequence[str]:
    listed = value.get("metrics")
    return [str(each) for each in listed] if isinstance(listed, list) else [name for name in value if name not in KNOWN]


def _asked_in_harness(value: Value) -> tuple[list[Message], bool]:
    """The document's question where it is inside the rendered prompt; else that, with a mark that it is one."""
    doc, prompt = value.get("doc"), _harness_prompt(value)
    named = [text for name in QUESTION_KEYS if isinstance(text := as_mapping(doc).get(name), str)]
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
    "lm_eval",
    frozenset({""}),
    suits=lambda _, value: {"doc_id", "doc"} <= set(value) and bool({"resps", "filtered_resps"} & set(value)),
    split=whole_records(lambda row: f"{row.get('task_name')}-{row.get('doc_id')}", local=True),
    build=_harness_records,
    named=lambda file: stamp_of(file, NAMED),
)

EVENT = {"run_id", "event_id", "sample_id", "type", "data"}


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
    yield from left_out(len(rows) - 1, PART)


def _harness_sample(asked: Value, rows: Sequence[Value], spec: Value) -> Call:
    """A sample with what was asked, what came back, and what the other events grade."""
    data = asked["data"] if isinstance(asked.get("data"), dict) else {}
    grades: dict[str, Any] = {}
    reference = None
    for row in rows:
        told = row.get("data")
        if row is asked or not isinstance(told, Mapping) or row.get("type") in ("sampling", "error"):
            continue
        correct = {name_of(row.get("type")): told["correct"]} if "correct" in told else told
        grades |= {name: each for name, each in correct.items() if isinstance(each, bool | int | float)}
        reference = told.get("expected", reference)
    sampled = data.get("sampled")
    models = as_list(first(spec, ("completion_fns",)))
    model = models[0] if models else data.get("model")
    return Call(
        name_of(asked.get("sample_id")),
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
            "versions": {"model": name_of(model)} if model else {},
        },
        extra={"sample_id": asked.get("sample_id")},
    )


OPENAI_EVALS = Format(
    "openai_evals",
    frozenset({""}),
    suits=lambda _, value: set(value) >= EVENT or "eval_name" in as_mapping(value.get("spec")),
    split=_split_events,
    build=_build_events,
)

EVAL = {
    "model": ("model",),
    "params": ("model_generate_config",),
    "task": ("task",),
    "task_version": ("task_version",),
    "task_args": ("task_args",),
    "solver": ("solver",),
    "commit": ("revision.commit",),
    "release": ("metadata.release",),
    "run_id": ("eval_id", "run_id"),
    "run_at": ("created",),
    "run_name": ("task_display_name", "task"),
}
SAMPLE = {
    "id": ("id",),
    "epoch": ("epoch",),
    "reference": ("target",),
    "model_returned": ("output.model",),
    "usage": ("output.usage",),
    "error": ("error.message", "error"),
    "at": ("started_at",),
}
CONTENT = {"": ("input", "messages", "output", "scores", "events", "events_data", "attachments", "uuid")}
GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # as Inspect's own `value_to_float`: correct, incorrect, partial, no answer
# Bytes of one unpacked member, the most: beyond it an archive is a bomb.
MAX_MEMBER = 256 * 2**20
HEADERS = ("header.json", "_journal/start.json")
ATTACHED = "attachment://"


def _open_inspect(path: Path) -> Iterator[tuple[str, Value]] | None:
    with path.open("rb") as stream:
        return _archive(path) if stream.read(4) == b"PK\x03\x04" else None


def _archive(path: Path) -> Iterator[tuple[str, Value]]:
    with damage(path), zipfile.ZipFile(path) as archive:
        yield from _members(archive, path)


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, Value]]:
    names = archive.namelist()
    header = next((name for name in HEADERS if name in names), None)
    if header is None:
        raise QueryError(f"cannot read {path}: it has no header.json; it is no Inspect log")
    yield "header", _member(archive, header, path)
    for name in names:
        if name.startswith("samples/") and name.endswith(".json"):
            yield "samples.item", _member(archive, name, path)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Value:
    info = archive.getinfo(name)
    if info.file_size > MAX_MEMBER or info.file_size > MAX_RATIO * max(info.compress_size, 1_000):
        raise QueryError(f"cannot read {path}: {name[:60]} unpacks to {info.file_size} bytes, more than a log holds")
    with member_stream(archive, info, path) as stream:
        data = stream.read(MAX_MEMBER + 1)
    try:
        value = parse_json(data.decode("utf-8"), numbers="or null")
    except (BadRecord, UnicodeDecodeError) as error:
        raise QueryError(f"cannot read {path}: {name[:60]}: {error}; write the log again") from None
    if not isinstance(value, dict):
        raise QueryError(f"cannot read {path}: {name[:60]} is no object; write the log again")
    return value


def _split_inspect() -> Split:
    head: dict[str, Any] = {}

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path in ("header", "eval"):
            head.update(value.get("eval") or {} if path == "header" else value)
        elif path == "samples.item":
            yield Piece(None, {"sample": value, "eval": dict(head)})

    return split


def _attached(value: Any, attachments: Any) -> Any:
    """The value with every `attachment://` text replaced by what it stands for."""
    if isinstance(value, str) and value.startswith(ATTACHED) and isinstance(attachments, Mapping):
        return attachments.get(value.removeprefix(ATTACHED), value)
    if isinstance(value, list):
        return [_attached(each, attachments) for each in value]
    if isinstance(value, dict):
        return {key: each if key == "attachments" else _attached(each, attachments) for key, each in value.items()}
    return value


def _inspect_call(value: Value) -> Call:
    sample = _attached(value["sample"], value["sample"].get("attachments"))
    fields, own = take(value["eval"], EVAL), take(sample, SAMPLE)
    spoken = read_messages(sample.get("messages")) or []
    asked = _asked_in_inspect(sample, spoken)
    output = sample.get("output")
    answer = answer_of(output.get("completion") or output) if isinstance(output, Mapping) and output.get("choices") else None
    task_name, version, sample_id = (name_of(each) for each in (fields.get("task"), fields.get("task_version"), own.get("id")))
    shown = {"model": fields.get("model"), "task": "@".join(filter(None, (task_name, version))) or None}
    return Call(
        f"{sample_id}-epoch-{name_of(own.get('epoch'))}" if sample_id else "",
        own.get("at"),
        spoken[: asked + 1] or read_messages(sample.get("input")) or question_messages(sample.get("input")),
        answer_message(answer),
        fields={
            **fields,
            **{name: each for name, each in own.items() if name not in ("id", "at")},
            "cluster": f"sample {sample_id}" if sample_id else None,
            "scores": {} if own.get("error") else _inspect_scores(sample.get("scores")),
            "tool_results": tool_results(spoken[asked + 1 :]),
            "versions": {**shown, **({"commit": name_of(fields["commit"])} if "commit" in fields else {})},
        },
        extra={**rest(sample, SAMPLE, CONTENT), "sample": own.get("id")},
    )


def _asked_in_inspect(sample: Value, spoken: Sequence[Message]) -> int:
    """The index of the question: the last user message before the model first answered; solvers may add some to the input."""
    sources = [as_mapping(each).get("source") for each in as_list(sample.get("messages"))]
    end = len(spoken)
    if len(sources) == len(spoken) and any(sources):
        made = (i for i, each in enumerate(spoken) if each["role"] == "assistant" and sources[i] != "input")
        end = next(made, len(spoken))
    users = [i for i, each in enumerate(spoken[:end]) if each["role"] == "user"]
    if end < len(spoken):
        return users[-1] if users else -1
    return -1 if (found := asked_at(spoken)) is None else found


def _inspect_scores(scores: Any) -> dict[str, float]:
    found = {}
    for name, score in as_mapping(scores).items():
        value = score.get("value") if isinstance(score, Mapping) else score
        inner = {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {str(name): value}
        for key, each in inner.items():
            number = GRADES.get(each, each) if isinstance(each, str) else each
            if isinstance(number, bool | int | float) and abs(number) < MAX_SCORE:
                found[key] = float(number)
    return found


INSPECT = Format(
    "inspect",
    frozenset({"eval", "samples.item"}),
    suits=lambda path, value: path == "samples.item" and {"epoch", "messages"} <= set(value),
    split=_split_inspect,
    build=each_alone(_inspect_call),
    open=_open_inspect,
    headers=frozenset({"eval"}),
)
