"""What a report says of changes: which of them are to blame and whose they are, and what axes do that only shuffle answers.

Churn: a change shuffles which queries fail without a net cost. That is no cause, but who reads a diff of answers sees it, so it is told
for itself: gross breaks and mends beside the net effect with its interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from bisect_ai.report.blocks import UNKNOWN, Scale, count, listed, scale_for
from bisect_ai.report.measured_values import NetChurn, ReportedEffect, SideEffect, SideMetric
from bisect_ai.report.phrases import (
    change_name,
    group_phrase,
    is_inseparable,
    measured_phrase,
    rolled_back_changes,
    share_phrase,
)
from bisect_ai.report.report_values import Report, fine_scale, scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting

if TYPE_CHECKING:
    from bisect_ai.report.planning_values import FlippedQuery, NamedChange
    from bisect_ai.report.report_values import DrilledAxis, NamedCause, Report

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
    return [_axis(known.get(axis) or DrilledAxis(axis=axis), cause, report, quoting) for axis in cause.axes]


def shared_place(axis: str, report: Report, quoting: Quoting) -> str:
    """Where all changes of an axis are, where none of several is to blame by itself: "; all are in system, lines 12-31"."""
    around = zip(*(change.group for change in report.changes if change.axis == axis), strict=False)
    shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, around)]
    return f"; all are in {group_phrase(shared, quoting)}" if shared else ""


def _axis(inside: DrilledAxis, cause: NamedCause, report: Report, quoting: Quoting) -> Axis:
    named = tuple(c for c in cause.changes if c.axis == inside.axis)
    name, whole = quoting.name(inside.axis), inside.changes or len(named)
    if len(named) > 1 and len(named) == whole and all(map(is_inseparable, named)):
        return Axis(f"{name}: {count(whole, 'change')}, not told apart", named)
    if named:
        return Axis(f"{name}: {count(len(named))} of {count(whole, 'change')} to blame", named)
    reason = quoting.prose(inside.reason)
    if inside.kind == "no_single_change":
        head = f"{name}: no single change of {count(whole)} is to blame{shared_place(inside.axis, report, quoting)}"
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
    modes["alone"] = f"; not told apart from {others}, as they only run together"
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
    scale = fine_scale(report, quoting)
    return f"or only {rolled_back_changes(report, quoting)}, keeping all else: {measured_phrase(report, rollback.finer, scale)}"


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


# Breaks or mends worth a line where the report has no tolerance: one answer in a hundred of a share.
WORTH = 0.01
# From here on whole per cent say enough.
COARSE = 0.03
TENTH = 0.1  # part of a value that is no share from which on a move is plain
MOST_SIDE_LINES = 8  # the table has all
# Adjusted p-value below which an axis's part of a side metric's change is told in a sentence.
FALSE_ALARM = 0.05


def churn_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for every axis that is not named, breaks or mends enough to tell, and is not shown to cost anything."""
    return [_sentence(churn, report, quoting) for churn in churn_of(report)]


def churn_of(report: Report) -> list[NetChurn]:
    """The axes that are not named, break or mend enough to tell, and are not shown to cost anything."""
    named = {axis for cause in report.verdict.causes for axis in cause.axes}
    rows = [e for e in report.effects if e.kind == "net" and e.axes[0] not in named]
    known = [churn for row in rows if (churn := _churn_of(row, report.tolerance or WORTH)) is not None]
    return [churn for churn in known if _is_worth_telling(churn)]


def _churn_of(row: ReportedEffect, worth: float) -> NetChurn | None:
    if row.breaks is None or row.mends is None or row.interval is None or row.estimate is None:
        return None
    return NetChurn(row.axes[0], row.breaks, row.mends, row.estimate, *row.interval, worth)


def _is_worth_telling(churn: NetChurn) -> bool:
    most = max(churn.breaks, churn.mends)
    return churn.low <= 0 and most >= churn.worth / 2 and most > 0


def _sentence(churn: NetChurn, report: Report, quoting: Quoting) -> str:
    """Such as "model shuffles answers: breaks 5 %, mends 5 %, costs nothing (-2 to 2)"."""
    scale = scale_of(report, quoting=quoting)
    if scale.share and max(churn.breaks, churn.mends) >= COARSE:
        scale = replace(scale, decimals=0)
    gross = f"breaks {scale.value(churn.breaks)}, mends {scale.value(churn.mends)}"
    return f"{quoting.name(churn.axis)} {churn.does}: {gross}, {_net(churn, scale)}"


def _net(churn: NetChurn, scale: Scale) -> str:
    low, high = churn.low, churn.high
    if churn.is_good:
        return f"gains {scale.difference(-churn.cost)} ({scale.number(-high)} to {scale.number(-low)})"
    ends = f"({scale.number(low)} to {scale.number(high)})"
    return f"costs nothing {ends}" if high <= churn.worth else f"no cost is shown {ends}"


def side_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for each side metric that an axis moves beyond doubt: "corpus: refusal +21 points, 95 % interval 15 to 27"."""
    told = [
        (metric, effect)
        for metric in report.side_metrics
        for effect in metric.effects
        if effect.p_adjusted is not None and effect.p_adjusted < FALSE_ALARM and _is_plain(metric, effect)
    ]
    axes = list(report.axes)
    told.sort(key=lambda pair: axes.index(pair[1].axis) if pair[1].axis in axes else len(axes))
    return [_side_sentence(metric, effect, quoting) for metric, effect in told[:MOST_SIDE_LINES]]


def _is_plain(metric: SideMetric, effect: SideEffect) -> bool:
    """Whether a proved move is large enough for a sentence: a point of a share, a tenth of any other value."""
    size, before = abs(effect.estimate or 0.0), effect.good
    if scale_for(metric.unit, (metric.good, metric.bad)).share:
        return bool(size >= WORTH)
    return bool(size > 0 and (before is None or size >= TENTH * abs(before)))


def _side_sentence(metric: SideMetric, effect: SideEffect, quoting: Quoting) -> str:
    scale = scale_for(metric.unit, (metric.good, metric.bad), quoting=quoting)
    change = effect.estimate or 0.0
    moved = (
        f"{'+' if change > 0 else '-'}{scale.difference(abs(change))}{_times(effect, scale)}, {scale.between(effect.interval)}"
    )
    return f"{quoting.name(effect.axis)}: {quoting.name(metric.name)} {moved}"


def _times(effect: SideEffect, scale: Scale) -> str:
    """By how much the axis multiplies a metric that is no share: " (x 3.0)"."""
    good, bad = effect.good, effect.bad
    if scale.share or not good or not bad or good < 0 or bad < 0:
        return ""
    return f" (x {bad / good:.2g})" if bad / good < 0.95 or bad / good > 1.05 else ""
