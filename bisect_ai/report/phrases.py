"""Phrases that many sentences are made of: a cause, its share of the loss, what a rollback restores, the loss itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bisect_ai.report.blocks import (
    UNKNOWN,
    WHOLE,
    Interval,
    Scale,
    clipped,
    count,
    held,
    in_ten,
    listed,
    negated,
    within_one,
)
from bisect_ai.report.measured_values import LoggedLoss, MeasuredLoss
from bisect_ai.report.planning_values import ChangeReference, NamedChange
from bisect_ai.report.report_values import (
    CandidateCause,
    FailingShares,
    FinerRollback,
    MeasuredBeside,
    MeasuredRollback,
    NamedCause,
    Report,
    fine_scale,
)
from bisect_ai.report.untrusted_text import PLAIN, Quoting, moment, release_name
from bisect_ai.report.value_types import ReportedEstimate
from bisect_ai.report.vocabulary import ALL_OF_IT
from bisect_ai.report.watch_values import NearDeploy, OnsetBlock

# Degree of belief from which a candidate is worth naming beside the others.
LIKELY = 0.1
# Shares that sum to RESTORED at least and less than this are said to add up to the loss; more is what other changes win back.
ADDS_UP = 1.2
# The part of the loss from which on a cause, or a rollback, stands for all of it.
RESTORED = 0.8
# Parts of the values by which their difference and the loss may differ in rounding.
DIFFERS = 0.005
# A share from which on it is all of the loss, and one below which it is written as 0 %.
FULL, ROUNDS_TO_NOTHING = 0.995, 0.005
# Changes of one group that are told by name where all of them are taken back.
MOST_BY_NAME = 3
UNSETTLED = "how they act together is not settled"
UNSETTLED_ALONE = "whether it acts alone is not settled"  # of one axis, beside which another looks guilty too
# Of the reason why a mixture cannot run, in a sentence; the table of combinations has all of it.
REASON_CHARS = 120
# A line of a program's standard error that says what went wrong, in most languages.
_NAMES_ERROR = re.compile(r"[\w.$]*(Error|Exception)\b|panic: |thread '.*' panicked|(fatal|error)\b", re.ASCII | re.IGNORECASE)


def change_name(change: ChangeReference | NamedChange, quoting: Quoting) -> str:
    """Where a change is: "prompt system:11"; of an axis that is one value its name alone."""
    axis, path = change.axis, change.path
    return quoting.name(axis) if axis == path else f"{quoting.name(axis)} {quoting.name(path)}"


def is_inseparable(change: NamedChange) -> bool:
    """Whether others are named with it only because no part of them runs without the rest."""
    return change.mode == "alone" and bool(change.with_)


def rolled_back_changes(report: Report, quoting: Quoting) -> str:
    """What the finer rollback takes back: changes by name, and a whole group of many by its place; empty without one."""
    rollback = report.verdict.rollback
    wanted = {(c.axis, c.path): c for c in rollback.changes} if rollback and rollback.finer else {}
    groups: dict[tuple[str, tuple[str, ...]], list[NamedChange]] = {}
    for change in report.changes:
        groups.setdefault((change.axis, tuple(change.group)), []).append(change)
    names = []
    for (axis, group), members in groups.items():
        own = [wanted.pop((c.axis, c.path)) for c in members if (c.axis, c.path) in wanted]
        if group and MOST_BY_NAME < len(own) == len(members):
            names.append(f"the {len(own)} changes of {quoting.name(axis)} in {group_phrase(group, quoting)}")
        else:
            names += [change_name(c, quoting) for c in own]
    return listed([*names, *(change_name(c, quoting) for c in wanted.values())]) if names or wanted else ""


def group_phrase(group: Sequence[str], quoting: Quoting) -> str:
    """The groups around changes: "system, paragraph 2, lines 12-31"."""
    return ", ".join(quoting.prose(each) for each in group)


def cause_phrase(cause: NamedCause, *, quoting: Quoting = PLAIN, why: bool = True) -> str:
    """A cause: "prompt alone", "prompt and tools together", "prompt and tools, either of which is enough", or that it is unsettled.

    `why`: with the reason why it was measured beside another axis.
    """
    names = [quoting.name(axis) for axis in cause.axes]
    if cause.beside:
        return f"{listed(names)}, {listed([' '.join(beside_phrases(beside, quoting)[: 1 + why]) for beside in cause.beside])}"
    if cause.mode == "either":
        return f"{listed(names)}, {'either' if len(names) == 2 else 'any'} of which is enough"
    if cause.mode == "unsettled":
        return (
            f"{listed(names)} ({f'each costs quality; {UNSETTLED}' if len(names) > 1 else f'costs quality; {UNSETTLED_ALONE}'})"
        )
    return f"{listed(names)} {quoting.prose(cause.mode)}"


def beside_phrases(beside: MeasuredBeside, quoting: Quoting) -> tuple[str, str]:
    """Beside what a cause was measured, and why: "measured beside the new code", "(alone it cannot start: no module named x)"."""
    names = listed([quoting.name(axis) for axis in beside.axes])
    why = "" if beside.reason is None else f": {shortened_end(quoting.prose(beside.reason), REASON_CHARS)}"
    if beside.version == "both":
        return "which only run together", f"(apart they cannot start{why})"
    lacks = "alone it" if beside.version == "new" else f"without it the new {names}"
    return f"measured beside the {beside.version} {names}", f"({lacks} cannot start{why})"


def shortened_end(text: str, most: int) -> str:
    """The text; of a longer one the line that names an error, else the last words: what a program says last tells most."""
    if len(text) <= most:
        return text
    lines = [line.strip(" …") for line in text.split(" | ")]
    named = next((line for line in reversed(lines) if _NAMES_ERROR.match(line)), None)
    if named is not None:
        return named if len(named) <= most else f"{named[:most].rpartition(' ')[0]} …"
    return f"… {text[-most:].partition(' ')[2].lstrip('| ')}"


def failing_phrase(failing: FailingShares) -> str:
    """How often calls fail: "16 % of them, 0 % with it reverted"."""
    return f"{WHOLE.value(failing.with_)} of them, {WHOLE.value(failing.without)} with it reverted"


def share_phrase(cause: NamedCause | NamedChange) -> str:
    """The share of the loss: "91 % of the loss, 95 % interval 70 to 100"; never less than nothing or more than all of it.

    What is named was proved to cost quality, also where the interval of its share holds nothing.
    """
    share, interval = cause.share, cause.interval
    if share is None:
        return f"share of the loss {UNKNOWN}"
    if interval and interval[0] >= 1:
        return "all of the loss" + (": other changes win part of it back" if interval[0] > 1 else "")
    share = min(max(held(share, within_one(interval)), 0.0), 1.0)
    ends = within_one(interval)
    part = "all" if share >= FULL else WHOLE.value(share)
    told = f"{part} of the loss, {WHOLE.between(ends)}"
    if ends is None or ends[0] >= ROUNDS_TO_NOTHING:
        return told
    if share < ROUNDS_TO_NOTHING:
        told = (
            f"at most {WHOLE.value(ends[1])} of the loss"
            if ROUNDS_TO_NOTHING <= ends[1] < FULL
            else "an unknown part of the loss"
        )
    return f"{told}: that it costs quality is proved, how much is not"


def restored_phrase(restores: float | None, interval: Interval, *, more: bool = False) -> str:
    """What it restores, in a card's words: "recovers all of the loss (63 % or more)"; never more than all or less than nothing.

    `more`: it is better than the good release for certain.
    """
    part, interval = clipped(restores, interval)
    if part is None:
        return f"recovers a share of the loss that is {UNKNOWN}"
    told = "recovers " + (ALL_OF_IT.removesuffix("it") if part >= FULL else f"{WHOLE.value(part)} of ") + "the loss"
    if more:
        return f"{told} and more"
    if interval is None or interval[0] >= FULL:
        return told
    between = f"{WHOLE.value(interval[0])} or more" if interval[1] >= FULL else f"{WHOLE.ends(interval)} %"
    return f"{told} ({between})"


def is_more(report: Report, rollback: MeasuredRollback | FinerRollback) -> bool:
    """Whether more than the loss came back: all of the interval is better than that of the good release."""
    good, back = report.loss.good_interval, rollback.interval
    if good is None or back is None or (rollback.restores or 0.0) < FULL:
        return False
    return back[0] > good[1] if report.sign > 0 else back[1] < good[0]


def rollback_phrase(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """What reverting restores, with the value that was measured for it."""
    rollback = report.verdict.rollback
    if not rollback:
        return "no rollback that was run restores at least 80 % of it"
    names = listed([quoting.name(axis) for axis in rollback.axes])
    alone = " alone" if len(rollback.axes) == 1 else ""
    scale = fine_scale(report, quoting)
    measured = f"measured: {scale.value(rollback.value)}, {scale.between(rollback.interval)}"
    if is_whole_release(report) and not rollback.along:
        is_finer = rollback.finer and rollback.changes
        return f"{'of whole axes, only taking all of them back' if is_finer else 'only the whole release'} recovers it ({measured})"
    if rollback.along:
        names += f" ({along_phrase(rollback, quoting)})"
    back = f"{restores_phrase(report, rollback, 'it')}{_restored_between(rollback)}"
    return f"reverting {names}{alone} recovers {back} ({measured})"


def along_phrase(rollback: MeasuredRollback, quoting: Quoting) -> str:
    """What goes back though it is not to blame: "code cannot run without the new version"."""
    return f"{listed([quoting.name(axis) for axis in rollback.along])} cannot run without the new version"


def is_whole_release(report: Report) -> bool:
    """Whether the rollback takes every axis back though fewer are named: no smaller set was measured to be enough."""
    verdict, axes = report.verdict, set(report.axes)
    named = {axis for cause in verdict.causes for axis in cause.axes}
    return bool(axes) and verdict.rollback is not None and set(verdict.rollback.axes) == axes and named < axes


def part_of_drop(report: Report, cause: NamedCause) -> str:
    """How much of the drop the only cause is said to have: not all where most of it is plainly not its own, or more must go back."""
    if cause.share is not None and cause.interval is not None and cause.interval[1] < RESTORED:
        return "a part of the drop"
    rollback = report.verdict.rollback
    return "at least a part of the drop" if rollback and not rollback.along and is_whole_release(report) else "the drop"


def open_axes(report: Report, *, leaning: bool = True, quoting: Quoting = PLAIN) -> str:
    """The changed axes beside a cause that are not shown to cost less than what counts: "tools (at most 6 points) or model".

    Without `leaning` those of which nothing says that they do.
    """
    verdict = report.verdict
    if verdict.kind != "cause":
        return ""
    known = {axis for cause in verdict.causes for axis in cause.axes} | set(verdict.keep)
    known |= set(verdict.rollback.axes) if verdict.rollback else set()
    scale = fine_scale(report, quoting)
    most = {each.axis: f" (at most {scale.difference(each.at_most)})" for each in verdict.open if each.at_most is not None}
    calm = {each.axis for each in verdict.open if not each.leans}
    shown = [axis for axis in report.axes if axis not in known and (axis not in calm) is leaning]
    return listed([f"{quoting.name(axis)}{most.get(axis, '')}" for axis in shown], last=" or " if leaning else " and ")


def _restored_between(rollback: MeasuredRollback | FinerRollback) -> str:
    """The interval of what a rollback restores: ", 95 % interval 80 to 100"; empty where it was not estimated."""
    interval = within_one(rollback.restores_interval)
    return "" if interval is None or interval[0] >= 1 else f", {WHOLE.between(interval)}"


def measured_phrase(report: Report, rollback: MeasuredRollback | FinerRollback, scale: Scale) -> str:
    """What a rollback was measured to do: "measured 88 %, 95 % interval 84 to 92; recovers all of the loss"."""
    return f"measured {scale.value(rollback.value)}, {scale.between(rollback.interval)}; {recovers_phrase(report, rollback)}"


def recovers_phrase(report: Report, rollback: MeasuredRollback | FinerRollback) -> str:
    """What a rollback restores with its interval: "recovers 95 % of the loss, 95 % interval 80 to 100"."""
    return f"recovers {restores_phrase(report, rollback, 'the loss')}{_restored_between(rollback)}"


def restores_phrase(report: Report, rollback: MeasuredRollback | FinerRollback, loss: str) -> str:
    """What a rollback brings back of the `loss`: "95 % of it", "all of it", "all of it and more"."""
    restores = rollback.restores
    if restores is not None and restores >= FULL:
        return f"all of {loss}{' and more' if is_more(report, rollback) else ''}"
    part = f"a share ({UNKNOWN})" if restores is None else WHOLE.value(max(restores, 0.0))
    return f"{part} of {loss}"


def loss_phrase(loss: ReportedEstimate, scale: Scale) -> str:
    """The loss with its interval: "a loss of 18 points, 95 % interval 13 to 23", or a gain."""
    estimate, interval = loss.estimate, loss.interval
    if estimate is None:
        return f"loss {UNKNOWN}"
    estimate = held(estimate, interval)
    if estimate < 0:
        return f"a gain of {scale.difference(-estimate)}, {scale.between(negated(interval))}"
    return f"a loss of {scale.difference(estimate)}, {scale.between(interval)}"


def moved_phrase(loss: MeasuredLoss, metric: str, scale: Scale) -> str:
    """What the metric did: "correct falls from 95 % to 84 % (a loss of 11 points, …)"; empty where a value is not known."""
    if loss.good is None or loss.bad is None:
        return ""
    verb = "falls" if loss.bad < loss.good else "rises" if loss.bad > loss.good else "stays"
    good, bad = scale.value(loss.good), scale.value(loss.bad)
    return f"{metric} {verb} {f'at {good}' if verb == 'stays' else f'from {good} to {bad}'} ({loss_phrase(loss, scale)})"


def logged_phrase(logged: LoggedLoss, scale: Scale) -> str:
    """What the log says: "88 % to 70 % (a loss of 18 points, 95 % interval 15 to 21) over 4,180 queries"."""
    told = ReportedEstimate(estimate=logged.loss, interval=logged.interval)
    ends = f"{scale.value(logged.good)} to {scale.value(logged.bad)}"
    # The log's own difference is a count of what was seen, so it may come without an interval.
    loss = loss_phrase(told, scale) if logged.interval else f"a difference of {scale.difference(logged.loss)}"
    return f"{ends} ({loss})" + ("" if logged.n is None else f" over {count(logged.n, 'query', 'queries')}")


def cannot_run(report: Report, quoting: Quoting) -> str:
    """Which of the two releases itself cannot run, and why, as the target says; empty where both can."""
    for name, axes in ((report.good, set()), (report.bad, set(report.axes))):
        for cell in report.cells:
            if cell.status == "infeasible" and set(cell.bad_axes) == axes:
                return f"{release_name(name, quoting)} cannot run: {shortened_end(quoting.prose(cell.reason or ''), 2 * REASON_CHARS)}"
    return ""


def is_cut_short(report: Report) -> bool:
    """Whether a cap ended a fixed design, which then claims nothing, beside a loss that is worth acting on."""
    estimate = report.loss.estimate
    fixed = report.verdict.stopped is not None and report.design not in (None, "adaptive")
    return fixed and estimate is not None and estimate >= (report.tolerance or 0.0)


def calls_to_settle(calls: int) -> str:
    """How many calls are missing: "about 300 more calls would probably settle it"."""
    return f"about {count(calls, 'more call', 'more calls')} would probably settle it"


def candidates_phrase(candidates: Sequence[CandidateCause], *, quoting: Quoting = PLAIN) -> str:
    """Sets of axes that may be the cause, each with its degree of belief: "prompt (4 in 10) or tools (2 in 10)"."""
    told = listed([_candidate(candidate, quoting) for candidate in candidates], last=" or ")
    return told + (" by the answers so far" if any(each.belief is not None for each in candidates) else "")


def _candidate(candidate: CandidateCause, quoting: Quoting) -> str:
    names = listed([quoting.name(axis) for axis in candidate.axes])
    together = " together" if len(candidate.axes) > 1 else ""
    belief = candidate.belief
    return f"{names}{together}" + ("" if belief is None else f" ({in_ten(belief)})")


# -- since when ----------------------------------------------------------------------------------------------------
def fall_phrase(onset: OnsetBlock, scale: Scale) -> str:
    """What the scores did: "falls from 91.0 % to 82.3 %"; they rise where lower is better."""
    verb = "rises" if (onset.after or 0.0) > (onset.before or 0.0) else "falls"
    return f"{verb} from {scale.value(onset.before)} to {scale.value(onset.after)}"


def onset_phrase(onset: OnsetBlock, quoting: Quoting) -> str:
    """Since when, and the deploys about then: "began between … and …; the deploy of … (v42) lies inside"."""
    if onset.since is not None:
        when = f"it began between {moment(onset.since, quoting)} and {moment(onset.until, quoting)}"
    else:
        when = f"it began between answers {count(onset.low)} and {count(onset.high)} of {count(onset.answers)}"
    told = [f"{moment(event.at, quoting)} ({_what_and_who(event, quoting)})" for event in onset.deploys]
    if not told:
        return f"{when}; none of {count(onset.events, 'deploy')} lies inside or before" if onset.events else when
    if not onset.deploys[0].inside:
        return f"{when}; no deploy lies inside, the last before it was that of {told[0]}"
    verb = "lies" if len(told) == 1 else "lie"
    return f"{when}; the deploy{'s' if len(told) > 1 else ''} of {listed(told)} {verb} inside"


def _what_and_who(event: NearDeploy, quoting: Quoting) -> str:
    return quoting.name(event.what) + (f" by {quoting.name(event.who)}" if event.who else "")
