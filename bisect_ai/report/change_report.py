"""What a report says inside the guilty axes: which changes are to blame, whose they were, what taking only them back restores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisect_ai.report.phrases import UNKNOWN, change_name, count, fine_scale, listed, measured_phrase, share_phrase
from bisect_ai.report.untrusted_text import Quoting

if TYPE_CHECKING:
    from bisect_ai.report.report_values import DrilledAxis, FlippedQuery, NamedCause, NamedChange, Report

# Characters of a commit's name that are shown.
COMMIT = 10


@dataclass(frozen=True)
class Axis:
    """One guilty axis: a headline, the named changes in it."""

    headline: str
    named: tuple[NamedChange, ...]


def guilty_axes(report: Report, cause: NamedCause, quoting: Quoting) -> list[Axis]:
    """The axes of a cause with what is named in them; empty when the run did not drill."""
    from bisect_ai.report.report_values import DrilledAxis

    drill = report.drill
    if not drill:
        return []
    known = {inside.axis: inside for inside in drill.axes}
    return [_axis(known.get(axis) or DrilledAxis(axis=axis), cause, quoting) for axis in cause.axes]


def _axis(inside: DrilledAxis, cause: NamedCause, quoting: Quoting) -> Axis:
    named = tuple(c for c in cause.changes if c.axis == inside.axis)
    name, whole = quoting.name(inside.axis), inside.changes or len(named)
    if named:
        return Axis(f"{name}: {count(len(named))} of {count(whole, 'change')} to blame", named)
    reason = quoting.prose(inside.reason)
    if inside.kind == "no_single_change":
        head = f"{name}: no single change of {count(whole)} is to blame"
        return Axis(f"{head} ({reason.removeprefix('no single change: ')})", ())
    return Axis(f"{name}: {count(whole, 'change')}, not told apart ({reason})", ())


def innocent(report: Report, quoting: Quoting) -> str:
    """The changed axes that were not found guilty, with how much changed in them; empty without a drill-down."""
    guilty = {axis for cause in report.verdict.causes for axis in cause.axes}
    others = [i for i in report.drill.axes if i.axis not in guilty] if report.drill else []
    if not guilty or not others:
        return ""
    names = listed([f"{quoting.name(i.axis)} ({count(i.changes, 'change')})" for i in others])
    return f"no single change is to blame in {names}: not found guilty, so not searched"


def facts(change: NamedChange, quoting: Quoting) -> Iterator[str]:
    """What is known of a named change, a line each: its share, who made it when and why, which queries it breaks."""
    yield _share(change, quoting)
    yield whose(change, quoting)
    if queries := [quoting.name(example.query) for example in change.queries]:
        yield f"breaks for example {listed(queries)}"


def _share(change: NamedChange, quoting: Quoting) -> str:
    others = listed([change_name(o, quoting) for o in change.with_])
    modes = {"together": f", only together with {others}", "either": f"; {others} is enough too"}
    modes["unsettled"] = f"; how it acts together with {others} is not settled"
    return share_phrase(change) + (modes.get(change.mode, "") if others else "")


def whose(change: NamedChange, quoting: Quoting) -> str:
    """Owner, author, time, commit and reason as far as they are known; what is not known is said to be missing."""
    known = change.origin
    owner = f"owner {quoting.prose(known.owner)}" if known.owner else "nobody owns it"
    author = f"by {quoting.prose(known.author)}" if known.author else "author not known"
    parts = [owner, author]
    if when := known.date or known.at:
        parts.append(quoting.prose(when))
    if known.commit:
        parts.append(f"commit {quoting.name(str(known.commit)[:COMMIT])}")
    if why := known.subject or known.why:
        parts.append(f"“{quoting.prose(why)}”")
    return ", ".join(parts)


def finer(report: Report, quoting: Quoting) -> str:
    """The measured rollback of changes in a sentence; empty when there is none that restores enough."""
    rollback = report.verdict.rollback
    if rollback is None or rollback.finer is None or not rollback.changes:
        return ""
    measured, changes = rollback.finer, rollback.changes
    scale = fine_scale(report, quoting)
    names = listed([change_name(c, quoting) for c in changes])
    return f"or only {names}, keeping all else: {measured_phrase(report, measured, scale)}"


def place(change: NamedChange, quoting: Quoting) -> str:
    """Where a change is: its path, and the groups around it that the path does not name."""
    around = [g for g in change.group if g not in change.path]
    where = f" ({', '.join(quoting.prose(g) for g in around)})" if around else ""
    return f"{quoting.name(change.path)}{where}"


def decided(report: Report) -> list[str | None]:
    """How a run was decided, and by what design."""
    design = f"Design: {report.design}" if report.design else None
    return [report.verdict.reason, status(report), report.decision, design]


def status(report: Report) -> str:
    """What the drill-down cost and left open, in a sentence; empty without one."""
    drill = report.drill
    if not drill or not report.verdict.causes:
        return ""
    calls = f"Inside the guilty axes: {count(drill.calls, 'trial')}"
    left = drill.unexplained
    rest = "" if left is None else f"; {round(100 * left)} % of what breaks is not explained by the named changes"
    return f"{calls}; {drill.reason or UNKNOWN}{rest}."


def examples(changes: Iterable[NamedChange], most: int) -> Sequence[FlippedQuery]:
    """Queries that named changes break, each once, the first of every change first."""
    queues = [list(c.queries) for c in changes]
    ordered = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return list({e.query: e for e in ordered}.values())[:most]
