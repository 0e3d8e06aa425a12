"""Inspect logs: `.eval` (a zip archive of JSON members, never unpacked to disk) and `.json`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import BadRecord, parse_json
from bisect_ai.errors import QueryError
from bisect_ai.queries.formats.call_records import Call, Format, Made, Piece, Split, Value, records, rest, take
from bisect_ai.queries.messages import Message, answer_of, asked_at, read_messages, tool_results
from bisect_ai.queries.unpack import MAX_RATIO, damage, member_stream

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


def _is_inspect_log(path: str, value: Value) -> bool:
    return path == "samples.item" and {"epoch", "messages"} <= set(value)


def _split_inspect() -> Split:
    head: dict[str, Any] = {}

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path in ("header", "eval"):
            head.update(value.get("eval") or {} if path == "header" else value)
        elif path == "samples.item":
            yield Piece(None, {"sample": value, "eval": dict(head)})

    return split


def _inspect_records(values: Sequence[Value]) -> Iterator[Made]:
    for value in values:
        yield from records([_inspect_call(_attached(value["sample"], value["sample"].get("attachments")), value["eval"])])


def _attached(value: Any, attachments: Any) -> Any:
    """The value with every `attachment://` text replaced by what it stands for."""
    if isinstance(value, str) and value.startswith(ATTACHED) and isinstance(attachments, Mapping):
        return attachments.get(value.removeprefix(ATTACHED), value)
    if isinstance(value, list):
        return [_attached(each, attachments) for each in value]
    if isinstance(value, dict):
        return {key: each if key == "attachments" else _attached(each, attachments) for key, each in value.items()}
    return value


def _inspect_call(sample: Value, task: Value) -> Call:
    fields, own = take(task, EVAL), take(sample, SAMPLE)
    spoken = read_messages(sample.get("messages")) or []
    asked = _asked_in_inspect(sample, spoken)
    output = sample.get("output")
    answer = answer_of(output.get("completion") or output) if isinstance(output, Mapping) and output.get("choices") else None
    shown = {"model": fields.get("model"), "task": f"{fields.get('task')}@{fields.get('task_version')}"}
    return Call(
        f"{own.get('id')}-epoch-{own.get('epoch')}",
        own.get("at"),
        spoken[: asked + 1] or read_messages(sample.get("input")) or _inspect_text(sample.get("input")),
        None if answer is None else {"role": "assistant", "content": answer},
        fields={
            **fields,
            **{name: each for name, each in own.items() if name not in ("id", "at")},
            "cluster": f"sample {own.get('id')}",
            "scores": _inspect_scores(sample.get("scores")),
            "tool_results": tool_results(spoken[asked + 1 :]),
            "versions": {**shown, **({"commit": str(fields["commit"])} if "commit" in fields else {})},
        },
        extra={**rest(sample, SAMPLE, CONTENT), "sample": own.get("id")},
    )


def _asked_in_inspect(sample: Value, spoken: Sequence[Message]) -> int:
    """The index of the question: the last user message before the model first answered; solvers may add some to the input."""
    logged = sample.get("messages") if isinstance(sample.get("messages"), list) else []
    sources = [each.get("source") if isinstance(each, Mapping) else None for each in logged or ()]
    end = len(spoken)
    if len(sources) == len(spoken) and any(sources):
        made = (i for i, each in enumerate(spoken) if each["role"] == "assistant" and sources[i] != "input")
        end = next(made, len(spoken))
    users = [i for i, each in enumerate(spoken[:end]) if each["role"] == "user"]
    if end < len(spoken):
        return users[-1] if users else -1
    return -1 if (found := asked_at(spoken)) is None else found


def _inspect_text(value: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": value}] if isinstance(value, str) and value else []


def _inspect_scores(scores: Any) -> dict[str, float]:
    found = {}
    for name, score in scores.items() if isinstance(scores, Mapping) else ():
        value = score.get("value") if isinstance(score, Mapping) else score
        inner = {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {str(name): value}
        for key, each in inner.items():
            number = GRADES.get(each, each) if isinstance(each, str) else each
            if isinstance(number, bool | int | float) and number == number:
                found[key] = float(number)
    return found


PARTS = frozenset({"eval", "samples.item"})
INSPECT = Format("inspect", PARTS, _is_inspect_log, _split_inspect, _inspect_records, _open_inspect, frozenset({"eval"}))
