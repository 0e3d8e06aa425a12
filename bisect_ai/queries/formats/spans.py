"""Traces of any producer as query records: model calls, retrievals and tool runs of one trace put together.

A span here is plain: `{id, parent, name, start, attributes, events}`. A dialect reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bisect_ai.queries.messages import Message, last_user, question_of
from bisect_ai.queries.traces import NOT_ASKED, PART, Call, Made, problem_of, record_of, records

Span = dict[str, Any]
Kind = Literal["call", "retrieval", "tool", "other"]
CONTEXT = (
    *("model", "model_returned", "params", "tools", "prompt_name", "prompt_version", "versions", "release", "cluster"),
    *("run_id", "run_at", "run_name"),
)
"""Fields of a trace's calls that its root's record takes over."""


@dataclass(frozen=True)
class Dialect:
    """How one producer names things on a span."""

    suits: Callable[[Span], bool]
    kind: Callable[[Span], Kind]
    call: Callable[[Span], Call]
    documents: Callable[[Span], list[Any]]
    tool: Callable[[Span], dict[str, Any] | None]
    shared: Callable[[Span], dict[str, Any]]
    """Fields of the whole trace that a span of it has: scores, cluster, release."""
    asked: Callable[[Span], tuple[Any, str | None]]
    """What went into a span that is no model call, and the text of what came out."""


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
