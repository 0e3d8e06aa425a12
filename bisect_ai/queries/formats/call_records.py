"""What formats share: how a table names a tool's fields, and how the model calls that it finds become query records.

A `Call` is what every format's table is read into. Calls of a trace that stand at the same user message are steps of one
answer; the last step has the answer, and what the tools gave back. So the steps of an agent are one question, and one record.

A span is plain: `{id, parent, name, start, attributes, events}`. A `Dialect` reads it, and its trace's model calls, retrievals and
tool runs are put together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bisect_ai.queries.messages import (
    Message,
    answer_message,
    asked_at,
    last_user,
    question_messages,
    question_of,
    said_after,
    text_of_content,
    tool_results,
)
from bisect_ai.queries.sample import DUPLICATE, NO_INPUT
from bisect_ai.queries.values import embedded, missing

# Our field -> their fields, the first that is there counts; dots reach into nested ones.
Table = Mapping[str, Sequence[str]]
Value = dict[str, Any]


class Piece(NamedTuple):
    """A record of the source, and the name of the trace or pair that it belongs to; None: it stands alone.

    `local`: the name means something in its file only.
    """

    group: str | None
    value: Value
    local: bool = False


Split = Callable[[str, Value], Iterable[Piece]]


@dataclass(frozen=True)
class Format:
    """How one tool writes its log. `parts` are the paths of its records in a JSON document (`documents`).

    `suits` tells from a path and a record whether the file is of this format. `split` makes a reader of one file, which may
    remember what it has read (a resource before its spans). `build` turns the pieces of one group into records.
    """

    name: str
    parts: frozenset[str]
    suits: Callable[[str, Value], bool]
    split: Callable[[], Split]
    build: Callable[[Sequence[Value]], Iterable[Made]]
    # Reads a file that is neither JSON, JSONL, CSV nor Parquet; None: it is one of these.
    open: Callable[[Path], Iterator[tuple[str, Value]] | None] = lambda _: None
    # Those of `parts` that say something of the records after them, but do not make a file one of this format.
    headers: frozenset[str] = frozenset()
    # What a file's name says of its run.
    named: Callable[[str], Value] = lambda _: {}

    @property
    def inner(self) -> frozenset[str]:
        """The paths of records inside a document."""
        return self.parts - self.headers - {""}


def whole_records(group: Callable[[Value], Any], *, local: bool = False) -> Callable[[], Split]:
    """A `split` whose values are records as they stand, each in the group of that name; by itself where it has none."""

    def split(_path: str, value: Value) -> Iterator[Piece]:
        name = group(value)
        yield Piece(str(name) if name else None, value, local)

    return lambda: split


def each_alone(call: Callable[[Value], Call]) -> Callable[[Sequence[Value]], Iterator[Made]]:
    """A `build` that makes one record of each value."""
    return lambda values: (made for value in values for made in records([call(value)]))


def reach(value: Any, path: str) -> Any:
    """The value at a dotted path, JSON text on the way parsed; a key that itself has dots comes first. None for none."""
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return value[path]
    head, _, rest = path.partition(".")
    return reach(embedded(value.get(head)), rest) if rest else None


def first(value: Mapping[str, Any], paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything; JSON text is parsed."""
    return next((embedded(found) for path in paths if not missing(found := reach(value, path))), None)


def raw(value: Mapping[str, Any], paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything, a text as it is. None for none."""
    return next((found for path in paths if not missing(found := reach(value, path))), None)


def take(value: Mapping[str, Any], table: Table) -> Value:
    """Our fields as the table finds them; those that are not there are left out."""
    found = {ours: first(value, theirs) for ours, theirs in table.items()}
    return {ours: each for ours, each in found.items() if each is not None}


def rest(value: Mapping[str, Any], *tables: Table) -> Value:
    """What no table reads as a whole: unknown fields, kept under their own names."""
    known = {path for table in tables for theirs in table.values() for path in theirs}
    return {name: each for name, each in value.items() if name not in known and not missing(each)}


def newest(values: Sequence[Value], key: str, stamp: str) -> tuple[list[Value], list[Made]]:
    """The values with only the newest of each `key` kept, by `stamp`; and the others, as duplicates."""
    kept: dict[str, Value] = {}
    for number, value in enumerate(values):
        name = str(value.get(key) or f"#{number}")
        before = kept.get(name)
        if before is None or str(value.get(stamp) or "") >= str(before.get(stamp) or ""):
            kept[name] = value
    return list(kept.values()), left_out(len(values) - len(kept), DUPLICATE)


_TIME = re.compile(r"[T_](\d\d)-?(\d\d)-?(\d\d)")  # a time in the name of a file, which may hold no colon


def below(row: Value, prefix: str) -> Value:
    """The columns under a prefix (`feedback.`), without it."""
    return {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix) and not missing(value)}


def stamp_of(file: str, pattern: re.Pattern[str]) -> Value:
    """The run's name and time in a file's name, where the pattern names its groups so."""
    found = pattern.search(file)
    named = {name: value for name, value in found.groupdict().items() if value} if found else {}
    return {**named, **({"run_at": _TIME.sub(r"T\1:\2:\3", named["run_at"])} if "run_at" in named else {})}


PART = "part of another record"
REDACTED = "redacted"
FRAGMENT = "fragment"
NOT_ASKED = "not a question"
REDACTION_MARKS = ("redacted-by-litellm", "__REDACTED__", "[REDACTED]", "<redacted>", "REDACTED")


class Made(NamedTuple):
    """What became of one record of the source: a query record, or the reason why it is none."""

    record: dict[str, Any] | None
    reason: str = ""


def left_out(number: int, reason: str) -> list[Made]:
    """So many records of the source that are no query records, for one reason."""
    return [Made(None, reason)] * number


@dataclass(frozen=True)
class Call:
    """One model call as its log has it; None or empty: not recorded. `extra` holds every field that no table names."""

    id: str
    at: Any = None
    messages: Sequence[Message] = ()
    answer: Message | None = None
    # Why its content cannot be replayed, when that is known beforehand.
    problem: str = ""
    # Our other fields: release, cluster, params, tools, documents, tool_results, scores, reference, model, …
    fields: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def records(calls: Sequence[Call], shared: Mapping[str, Any] | None = None) -> Iterator[Made]:
    """One `Made` for each call: a record for the last step of each question, a reason for every other call.

    `shared` are fields that the whole trace has (documents, scores, cluster), where the call has none of its own.
    """
    turns: dict[Any, list[Call]] = {}
    for call in calls:
        turns.setdefault(_turn(call), []).append(call)
    for steps in turns.values():
        *earlier, last = sorted(steps, key=lambda call: (len(call.messages), str(call.at or "")))
        yield from (Made(None, call.problem or (PART if call.messages else NO_INPUT)) for call in earlier)
        problem = problem_of(last)
        yield Made(None, problem) if problem else Made(record_of(last, steps, shared or {}))


def _turn(call: Call) -> Any:
    if call.problem or not call.messages:
        return call.id
    return sum(each["role"] == "user" for each in call.messages), last_user(call.messages)


def problem_of(call: Call) -> str:
    """Why a call cannot be replayed; empty when it can."""
    if call.problem:
        return call.problem
    if not call.messages:
        return NO_INPUT
    texts = [text_of_content(each.get("content")) for each in call.messages]
    if any(text.strip() in REDACTION_MARKS for text in texts):
        return REDACTED
    if last_user(call.messages):
        return ""
    return NO_INPUT if any(each["role"] == "user" for each in call.messages) else FRAGMENT


def record_of(call: Call, steps: Sequence[Call], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The query record of a call that ends a turn: the question, what came before it, and what was recorded on the way."""
    asked = asked_at(call.messages) or 0
    before = call.messages[:asked]
    answer = call.answer or said_after(call.messages, asked)
    system = "\n\n".join(text_of_content(each.get("content")) for each in before if each["role"] == "system")
    said = [*call.messages[asked:], *([call.answer] if call.answer else [])]
    record = {
        **call.extra,
        "id": call.id,
        "at": call.at,
        "input": last_user(call.messages),
        "messages": list(call.messages[: asked + 1]),
        "history": [each for each in before if each["role"] in ("user", "assistant") and each.get("content")],
        "system": system or None,
        "output": text_of_content(answer.get("content")) if answer else None,
        **{name: value for name, value in shared.items() if value not in (None, [], {})},
        **{name: value for name, value in call.fields.items() if value not in (None, [], {})},
    }
    recorded = [each for step in steps for each in step.fields.get("tool_results") or ()]
    record["tool_results"] = _with_results(tool_results(said), [*recorded, *(shared.get("tool_results") or ())])
    if len(steps) > 1:
        record["steps"] = len(steps)
    return record


def _with_results(called: list[dict[str, Any]], executed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls as the messages have them, results that they lack taken from the traced executions; those alone, if none called."""
    if not called:
        return [dict(each) for each in executed]
    left = list(executed)
    for each in called:
        match = next((done for done in left if done.get("name") == each["name"]), None)
        if match is not None:
            left.remove(match)
            each.setdefault("result", match.get("result"))
    return called


Span = dict[str, Any]
Kind = Literal["call", "retrieval", "tool", "other"]
# Fields of a trace's calls that its root's record takes over.
CONTEXT = (
    *("model", "model_returned", "params", "tools", "prompt_name", "prompt_version", "versions", "release", "cluster"),
    *("run_id", "run_at", "run_name"),
)


@dataclass(frozen=True)
class Dialect:
    """How one producer names things on a span."""

    kind: Callable[[Span], Kind]
    call: Callable[[Span], Call]
    documents: Callable[[Span], list[Any]]
    tool: Callable[[Span], dict[str, Any] | None]
    # Fields of the whole trace that a span of it has: scores, cluster, release.
    shared: Callable[[Span], dict[str, Any]]
    # What went into a span that is no model call, and the text of what came out; None: the same as for a call.
    asked: Callable[[Span], tuple[Any, str | None]] | None = None

    def exchange(self, span: Span) -> tuple[Any, str | None]:
        """What went into a span, and the text of what came out."""
        if self.asked is not None:
            return self.asked(span)
        call = self.call(span)
        return list(call.messages), None if call.answer is None else call.answer["content"]


def span_of(row: Value, table: Table) -> Span:
    """A row of a table of spans as a span; its attributes are the row."""
    return {"id": "", **take(row, table), "attributes": row, "events": []}


def tool_run(span: Span, given: Any, returned: Any) -> dict[str, Any] | None:
    """The run of a tool that a span tells of; None where the span has no name."""
    return {"name": span["name"], "arguments": given, "result": returned} if span.get("name") else None


@dataclass(frozen=True)
class Seen:
    """A span with what its dialect makes of it."""

    span: Span
    dialect: Dialect
    kind: Kind


def trace_records(spans: Sequence[Span], dialect_of: Callable[[Span], Dialect]) -> Iterator[Made]:
    """One `Made` for each span of a trace."""
    seen = [Seen(span, (dialect := dialect_of(span)), dialect.kind(span)) for span in spans]
    calls = [each.dialect.call(each.span) for each in seen if each.kind == "call"]
    shared = _shared_by_spans(seen)
    rooted = _rooted(seen, calls, shared)
    if rooted is not None:
        yield Made(rooted)
        yield from left_out(len(spans) - 1, PART)
        return
    made = list(records(calls, shared))
    yield from made
    yield from left_out(len(spans) - len(calls), PART if any(each.record for each in made) else NOT_ASKED)


def _shared_by_spans(seen: Sequence[Seen]) -> dict[str, Any]:
    shared: dict[str, Any] = {}
    for each in seen:
        for name, value in each.dialect.shared(each.span).items():
            if name == "scores":
                shared["scores"] = {**shared.get("scores", {}), **value}
            else:
                shared.setdefault(name, value)
    documents = [document for each in seen if each.kind == "retrieval" for document in each.dialect.documents(each.span)]
    tools = [run for each in seen if each.kind == "tool" and (run := each.dialect.tool(each.span))]
    return {**shared, **({"documents": documents} if documents else {}), **({"tool_results": tools} if tools else {})}


def _rooted(seen: Sequence[Seen], calls: Sequence[Call], shared: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the trace's root, when it is no model call and says what was asked; None: the calls say it better."""
    root = _root(seen)
    if root is None or root.kind != "other":
        return None
    given, answer = root.dialect.exchange(root.span)
    question = question_of(given)
    if question is None or any(last_user(call.messages) == question for call in calls):
        return None
    inner = next((call for call in reversed(calls) if question in (last_user(call.messages) or "")), None)
    context = inner or (calls[-1] if calls else Call(""))
    history = [each for each in context.messages[:-1] if each["role"] in ("user", "assistant")] if inner else []
    own = root.dialect.call(root.span)
    fields = {**{name: context.fields[name] for name in CONTEXT if name in context.fields}, **own.fields}
    messages = [*history, *question_messages(question)]
    call = replace(own, messages=messages, answer=answer_message(answer), fields=fields)
    return None if problem_of(call) else record_of(call, calls[:-1], {**shared, "traced_calls": len(calls)})


def _root(seen: Sequence[Seen]) -> Seen | None:
    """The one span whose parent is not in the trace; None when there are several."""
    ids = {str(each.span["id"]) for each in seen}
    tops = [each for each in seen if str(each.span.get("parent")) not in ids]
    return tops[0] if len(tops) == 1 else None
