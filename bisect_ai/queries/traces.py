"""From the model calls of one trace to query records: the steps of an agent are one question, and so one record.

A `Call` is what every format's table is read into. Calls of a trace that stand at the same user message are steps of one
answer; the last step has the answer, and what the tools gave back.

A span is plain: `{id, parent, name, start, attributes, events}`. A `Dialect` reads it, and its trace's model calls, retrievals and
tool runs are put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import (
    KNOWN,
    SENDERS,
    Message,
    asked_at,
    last_user,
    question_of,
    read_messages,
    role_of,
    said_after,
    text_of_content,
    tool_results,
)
from bisect_ai.queries.sample import NO_INPUT, Row
from bisect_ai.queries.values import missing

PART = "part of another record"
REDACTED = "redacted"
FRAGMENT = "fragment"
NOT_ASKED = "not a question"
REDACTION_MARKS = ("redacted-by-litellm", "__REDACTED__", "[REDACTED]", "<redacted>", "REDACTED")


class Made(NamedTuple):
    """What became of one record of the source: a query record, or the reason why it is none."""

    record: dict[str, Any] | None
    reason: str = ""


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

    suits: Callable[[Span], bool]
    kind: Callable[[Span], Kind]
    call: Callable[[Span], Call]
    documents: Callable[[Span], list[Any]]
    tool: Callable[[Span], dict[str, Any] | None]
    # Fields of the whole trace that a span of it has: scores, cluster, release.
    shared: Callable[[Span], dict[str, Any]]
    # What went into a span that is no model call, and the text of what came out.
    asked: Callable[[Span], tuple[Any, str | None]]


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
        yield from (Made(None, PART) for _ in range(len(spans) - 1))
        return
    made = list(records(calls, shared))
    yield from made
    idle = PART if any(each.record for each in made) else NOT_ASKED
    yield from (Made(None, idle) for _ in range(len(spans) - len(calls)))


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
    given, answer = root.dialect.asked(root.span)
    question = question_of(given)
    if question is None or any(last_user(call.messages) == question for call in calls):
        return None
    inner = next((call for call in reversed(calls) if question in (last_user(call.messages) or "")), None)
    context = inner or (calls[-1] if calls else Call(""))
    history = [each for each in context.messages[:-1] if each["role"] in ("user", "assistant")] if inner else []
    asked: Message = {"role": "user", "content": question}
    own = root.dialect.call(root.span)
    fields = {**{name: context.fields[name] for name in CONTEXT if name in context.fields}, **own.fields}
    spoken: Message | None = None if answer is None else {"role": "assistant", "content": answer}
    call = replace(own, messages=[*history, asked], answer=spoken, fields=fields)
    return None if problem_of(call) else record_of(call, calls[:-1], {**shared, "traced_calls": len(calls)})


def _root(seen: Sequence[Seen]) -> Seen | None:
    """The one span whose parent is not in the trace; None when there are several."""
    ids = {str(each.span["id"]) for each in seen}
    tops = [each for each in seen if str(each.span.get("parent")) not in ids]
    return tops[0] if len(tops) == 1 else None


# What a conversation is called; its column has the same name, or ends in id.
WHOLES = ("conversation", "session", "thread", "chat", "dialog", "dialogue", "ticket", "trace", "run")
ORDERS = ("turn", "turnid", "turnindex", "turnnumber", "messageindex", "position", "sequence", "seq", "index", "step")
# Columns that order the messages of a conversation, by number and by time.
TIMES = ("createdat", "timestamp", "time", "ts", "at", "createtime", "sentat", "date")
SAID = ("content", "text", "message", "body", "value", "parts", "utterance")
MAX_LINES = 2_000_000  # they are held in memory until their conversations are whole


def message_of(row: Row) -> Message | None:
    """The one message that a row is; None when it is none."""
    inner = row.get("message")
    if isinstance(inner, Mapping):
        found = read_messages([inner])
    else:
        said = next((row[name] for name in SAID if not _is_empty(row.get(name))), None)
        named = {name: row[name] for name in ("role", "author", "type", *SENDERS) if name in row}
        found = (
            read_messages([{**named, "content": said}])
            if said is not None and role_of({**named, "content": said}) in KNOWN
            else None
        )
    return found[0] if found and len(found) == 1 else None


def message_lines(rows: Sequence[Row]) -> bool:
    """Whether two thirds or more of a log's first rows are one message each, and not only users speak."""
    said = [message for row in rows if (message := message_of(row)) is not None]
    return len(said) > 1 and 3 * len(said) >= 2 * len(rows) and any(message["role"] != "user" for message in said)


def conversations(rows: Iterable[Row]) -> tuple[str, int, list[dict[str, Any]]]:
    """The column that names the conversations, how many rows are no message, and the conversations as rows in order of beginning.

    They have `id` and `messages`; of other columns the last line counts. Raises `QueryError` where no column names the conversations.
    """
    every = list(rows)
    listed = [row for row in every if message_of(row) is not None]
    if len(listed) > MAX_LINES:
        raise QueryError(f"cannot put together {len(listed):,} lines of one message each; write one conversation a line")
    column = _column_of(listed, [each for whole in WHOLES for each in (f"{whole}id", whole)])
    if column is None:
        raise QueryError(
            "each record is one message of a conversation, and no column tells which; name it conversation_id, or write one "
            "conversation a line with its messages in a list: {messages: [{role: user, content: …}, …]}"
        )
    order = _column_of(listed, ORDERS) or _column_of(listed, TIMES)
    whole = defaultdict[Any, list[Row]](list)
    for row in listed:
        whole[str(row[column])].append(row)
    found = [_conversation_of(name, _in_order(lines, order), column) for name, lines in whole.items()]
    return column, len(every) - len(listed), found


def _column_of(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """The column of one of these names that all rows have, the first name first."""
    plain = {"".join(letter for letter in name.lower() if letter.isalnum()): name for name in (rows[0] if rows else ())}
    found = [plain[name] for name in names if name in plain]
    return next((name for name in found if not any(_is_empty(row.get(name)) for row in rows)), None)


def _is_empty(value: Any) -> bool:
    return missing(value) or (isinstance(value, str) and not value.strip())


def _in_order(lines: Sequence[Row], column: str | None) -> Sequence[Row]:
    if column is None:
        return lines
    try:
        return sorted(lines, key=lambda row: _number(row[column]))
    except TypeError:  # numbers and texts
        return lines


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _conversation_of(name: str, lines: Sequence[Row], column: str) -> dict[str, Any]:
    told = {"message", "role", "author", "type", "id", "uuid", column, *SAID, *SENDERS}
    others = {key: value for row in lines for key, value in row.items() if key not in told and not _is_empty(value)}
    return {**others, "id": name, "messages": [message_of(row) for row in lines]}
