"""The verdict in one plain English sentence, and how every report writes its numbers.

A number never comes without its interval where it has one; what could not be estimated says so, it is never a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.vocabulary import ALL_OF_IT

if TYPE_CHECKING:
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
    )
    from bisect_ai.report.value_types import ReportedEstimate

Interval = Sequence[float] | None
UNKNOWN = "not estimated"
# An end of an interval that is this much smaller than the other says no more than 0 does.
NOTHING = 1e-3
# Degree of belief from which a candidate is worth naming beside the others.
LIKELY = 0.1
# Shares that sum to less than this are said to add up to the loss; more is what other changes win back.
ADDS_UP = 1.2
# The part of the loss from which on a cause, or a rollback, stands for all of it.
RESTORED = 0.8
# Parts of the values by which their difference and the loss may differ in rounding.
DIFFERS = 0.005
# A share from which on it is all of the loss.
FULL = 0.995
UNSETTLED = "how they act together is not settled"
# Of the reason why a mixture cannot run, in a sentence; the table of combinations has all of it.
REASON_CHARS = 120
# A line of a program's standard error that says what went wrong, in most languages.
_NAMES_ERROR = re.compile(r"[\w.$]*(Error|Exception)\b|panic: |thread '.*' panicked|(fatal|error)\b", re.ASCII | re.IGNORECASE)
# Half the width of an interval, in score points, from which on a tenth of a point means nothing.
WIDE = 0.02
UNITLESS = (None, "", "score", "share")


@dataclass(frozen=True)
class Scale:
    """How values of one metric are written: as percentages and points when they lie in [0, 1], else in its unit."""

    share: bool
    unit: str = ""
    decimals: int = 1
    # Per cent that intervals hold with.
    level: float = 95

    def value(self, x: float | None) -> str:
        """One value: "87.0 %", "1,240 characters"."""
        if not _is_known(x):
            return UNKNOWN
        return self.number(x) + (" %" if self.share else self._suffix)

    def difference(self, x: float | None) -> str:
        """One difference: "18.0 points", "120 characters"."""
        if not _is_known(x):
            return UNKNOWN
        if not self.share:
            return self.number(x) + self._suffix
        number = self.number(x)
        return f"{number} point" if number == "1" else f"{number} points"

    def number(self, x: float | None) -> str:
        """The bare number on this scale."""
        if x is None or not math.isfinite(x):
            return UNKNOWN
        return _unsigned_zero(f"{100 * x:.{self.decimals}f}") if self.share else plain_number(x)

    def between(self, interval: Interval) -> str:
        """An interval in words: "95 % interval 13.0 to 23.0"."""
        if interval is None:
            return f"{self.level:g} % interval {UNKNOWN}"
        return f"{self.level:g} % interval {self.ends(interval)}"

    def ends(self, interval: Sequence[float]) -> str:
        """Both ends of an interval: "13.0 to 23.0"."""
        low, high = self._ends(interval)
        return f"{low} to {high}"

    def bracket(self, x: float | None, interval: Interval, *, join: str = " ") -> str:
        """A number with its interval, for tables: "18.0 [13.0, 23.0]"."""
        if not _is_known(x):
            return UNKNOWN
        low_high = "[no interval]" if interval is None else f"[{', '.join(self._ends(interval))}]"
        return self.number(x) + join + low_high

    def _ends(self, interval: Sequence[float]) -> tuple[str, str]:
        """Both ends; one that is next to nothing beside the other is 0, not 8.69e-06."""
        reach = max(map(abs, interval)) * NOTHING
        low, high = (self.number(0.0 if not self.share and abs(end) < reach else end) for end in interval)
        return low, high

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


# Shares of the loss, of queries, of calls: whole per cent.
WHOLE = Scale(share=True, decimals=0)


def scale_of(report: Report, *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of the deciding metric: the report's own word for it (`percent`), else what its values look like."""
    if report.percent is not None and not report.unit:
        return Scale(share=bool(report.percent), level=report.level)
    loss = report.loss
    values = [loss.good, loss.bad, *(cell.value for cell in report.cells)]
    return replace(scale_for(report.unit, values, quoting=quoting), level=report.level)


def scale_for(unit: str | None, values: Iterable[float | None], *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of a metric with this unit and these values."""
    if unit in UNITLESS:
        return Scale(share=all(0 <= value <= 1 for value in values if value is not None))
    return Scale(share=False, unit=quoting.prose(unit))


def change_name(change: ChangeReference | NamedChange, quoting: Quoting) -> str:
    """Where a change is: "prompt system:11"; of an axis that is one value its name alone."""
    axis, path = change.axis, change.path
    return quoting.name(axis) if axis == path else f"{quoting.name(axis)} {quoting.name(path)}"


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
        return f"{listed(names)} (each costs quality; {UNSETTLED})"
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
    """The share of the loss: "91 % of the loss, 95 % interval 70 to 100"; never less than nothing or more than all of it."""
    share, interval = cause.share, cause.interval
    if share is None:
        return f"share of the loss {UNKNOWN}"
    if interval and interval[0] >= 1:
        return "all of the loss" + (": other changes win part of it back" if interval[0] > 1 else "")
    share = min(max(held(share, _within_one(interval)), 0.0), 1.0)
    part = "all" if share >= FULL else WHOLE.value(share)
    return f"{part} of the loss, {WHOLE.between(_within_one(interval))}"


def held(estimate: float, interval: Interval) -> float:
    """An estimate inside its interval: what lies outside was estimated in another way than its ends."""
    return estimate if interval is None else min(max(estimate, interval[0]), interval[1])


def clipped(share: float | None, interval: Interval) -> tuple[float | None, Interval]:
    """A share of the loss and its interval as they are told: within 0 and 1, the share inside the interval."""
    ends = _within_one(interval)
    return (None if share is None else min(max(held(share, ends), 0.0), 1.0)), ends


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


def negated(interval: Interval) -> tuple[float, float] | None:
    """The interval of a gain, from that of a loss."""
    return None if interval is None else (-interval[1], -interval[0])


def _within_one(interval: Interval) -> Interval:
    """The interval of a share, cut to 0 to 1."""
    return None if interval is None else [min(max(end, 0.0), 1.0) for end in interval]


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


def _restored_between(rollback: MeasuredRollback | FinerRollback) -> str:
    """The interval of what a rollback restores: ", 95 % interval 80 to 100"; empty where it was not estimated."""
    interval = _within_one(rollback.restores_interval)
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


def logged_phrase(logged: LoggedLoss, scale: Scale) -> str:
    """What the log says: "88 % to 70 % (a loss of 18 points, 95 % interval 15 to 21) over 4,180 queries"."""
    from bisect_ai.report.value_types import ReportedEstimate

    told = ReportedEstimate(estimate=logged.loss, interval=logged.interval)
    ends = f"{scale.value(logged.good)} to {scale.value(logged.bad)}"
    # The log's own difference is a count of what was seen, so it may come without an interval.
    loss = loss_phrase(told, scale) if logged.interval else f"a difference of {scale.difference(logged.loss)}"
    return f"{ends} ({loss})" + ("" if logged.n is None else f" over {count(logged.n, 'query', 'queries')}")


def calls_to_settle(calls: int) -> str:
    """How many calls are missing: "about 300 more calls would probably settle it"."""
    return f"about {count(calls, 'more call', 'more calls')} would probably settle it"


def candidates_phrase(candidates: Sequence[CandidateCause], *, quoting: Quoting = PLAIN) -> str:
    """Sets of axes that may be the cause, each with its degree of belief: "prompt (4 in 10) or tools (2 in 10)"."""
    told = listed([_candidate(candidate, quoting) for candidate in candidates], last=" or ")
    return told + (" by the answers so far" if any(each.belief is not None for each in candidates) else "")


def listed(parts: Sequence[str], *, last: str = " and ") -> str:
    """A list in English: "a", "a and b", "a, b and c"."""
    return last.join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def plain_number(x: float) -> str:
    """A number outside [0, 1] scales, with as many decimals as its size deserves: 1,240 · 12.4 · 1.24 · 0.124."""
    size = abs(x)
    if size >= 1e9 or 0 < size < 1e-3:  # digits that nobody counts
        return f"{x:.2e}"
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return _unsigned_zero(f"{x:,.{decimals}f}")


def count(n: float | None, one: str = "", many: str = "") -> str:
    """A count with its noun: "1 call", "4,000 calls"."""
    if n is None:
        return f"{many} {UNKNOWN}".strip()
    return f"{n:,.0f} {one if n == 1 else many or one + 's'}".strip() if one else f"{n:,.0f}"


def fine_scale(report: Report, quoting: Quoting) -> Scale:
    """The scale for sentences: whole points where the loss or half its interval is so large that a decimal says nothing."""
    scale, loss, ends = scale_of(report, quoting=quoting), report.loss.estimate, report.loss.interval
    is_wide = ends is not None and (ends[1] - ends[0]) / 2 >= WIDE
    is_coarse = is_wide or (loss is not None and abs(loss) >= 0.1)  # ten points
    return replace(scale, decimals=0) if is_coarse and _adds_up(report.loss) else scale


def _adds_up(loss: MeasuredLoss) -> bool:
    """Whether both values and the loss still fit together in whole points."""
    if loss.good is None or loss.bad is None or loss.estimate is None:
        return True
    good, bad, lost = (round(100 * x) for x in (loss.good, loss.bad, loss.estimate))
    return lost != 0 and abs(good - bad) == abs(lost)


def _candidate(candidate: CandidateCause, quoting: Quoting) -> str:
    names = listed([quoting.name(axis) for axis in candidate.axes])
    together = " together" if len(candidate.axes) > 1 else ""
    belief = candidate.belief
    return f"{names}{together}" + ("" if belief is None else f" ({in_ten(belief)})")


def in_ten(belief: float) -> str:
    """A degree of belief as people say it: "4 in 10"; never certain, never nothing."""
    return f"{min(max(round(10 * belief), 1), 9)} in 10"


def _is_known(x: float | None) -> bool:
    return x is not None and math.isfinite(x)


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.,") else text
