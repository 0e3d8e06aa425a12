"""What was measured, as a report says it: losses, effects, combinations, segments, side metrics; and
the block on a comparison of result files: configurations, pairs, and the queries that score differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from bisect_ai.report.value_types import Interval, Number, Omitted, ReportedEstimate, Value


# -- what was measured -----------------------------------------------------------------------------------------------
class LoggedLoss(Value, frozen=True):
    """What the log says that the metric did."""

    good: Number | None = None
    bad: Number | None = None
    loss: Number | None = None
    interval: Interval = None
    n: int | None = None


class LossParts(Value, frozen=True):
    """Points of the logged drop by where they went."""

    drop: ReportedEstimate | None = None
    drift: ReportedEstimate | None = None
    traffic: ReportedEstimate | None = None
    release: ReportedEstimate | None = None
    not_reproduced: ReportedEstimate | None = None


class MeasuredLoss(ReportedEstimate, frozen=True):
    """The loss from good to bad, positive when quality fell, and both values. `bounds`: whatever missing answers were."""

    bounds: Omitted[tuple[Number, Number] | None] = None
    good: Number | None = None
    good_interval: Interval = None
    bad: Number | None = None
    bad_interval: Interval = None
    logged: LoggedLoss | None = None
    drift: ReportedEstimate | None = None
    parts: LossParts | None = None


EFFECT_KINDS = ("introduced", "reverted", "shapley", "interaction", "net")


class ReportedEffect(Value, frozen=True):
    """A cost of some axes; `kind` is one of `EFFECT_KINDS`. The last three fields are of net ones, else None."""

    axes: tuple[str, ...]
    kind: str
    estimate: Number | None = None
    interval: Interval = None
    n: int | None = None
    method: str = ""
    p_adjusted: Number | None = None
    breaks: Number | None = None
    mends: Number | None = None
    proved: bool | None = None


class ReportedCell(Value, frozen=True):
    """What one combination scored; `status`: run, infeasible, not_run."""

    bad_axes: tuple[str, ...]
    value: Number | None = None
    interval: Interval = None
    n: int | None = None
    method: str = ""
    trials: int | None = None
    errors: int | None = None
    # Trials without a score because of a tool call that the log does not have.
    missing: int = 0
    status: str = "run"
    # Why an infeasible one cannot run, as the target says.
    reason: Omitted[str | None] = None


class ReportedSegment(Value, frozen=True):
    """The loss inside a segment of the queries; `found_by`: given, or search."""

    name: str
    found_by: str = "given"
    where: Mapping[str, object] = {}
    share: Number | None = None
    good: Number | None = None
    bad: Number | None = None
    loss: Number | None = None
    interval: Interval = None
    n: int | None = None
    p_adjusted: Number | None = None
    method: str = ""


class SideEffect(Value, frozen=True):
    """An axis's part of a side metric's change."""

    axis: str
    estimate: Number | None = None
    interval: Interval = None
    good: Number | None = None
    bad: Number | None = None
    p_adjusted: Number | None = None
    n: int | None = None
    method: str = ""


class SideMetric(Value, frozen=True):
    """A metric that does not decide: `change` is bad less good, in its unit. `higher_is_better` None: neither."""

    name: str
    unit: str | None = None
    higher_is_better: bool | None = True
    good: Number | None = None
    bad: Number | None = None
    change: Number | None = None
    interval: Interval = None
    n: int | None = None
    method: str = ""
    effects: tuple[SideEffect, ...] = ()


class ComparedConfiguration(Value, frozen=True):
    """A configuration: its file and settings, and its value over all its own questions."""

    name: str = ""
    file: str = ""
    settings: Mapping[str, str] = {}
    rows: int = 0
    queries: int = 0
    failed: int = 0
    unscored: int = 0
    value: Number | None = None
    interval: Interval = None


class EquivalenceTest(Value, frozen=True):
    """Two one-sided tests against the tolerance, and the narrower interval that they amount to."""

    interval: Interval = None
    p_no_worse: Number | None = None
    p_no_better: Number | None = None


class RecordedDifference(Value, frozen=True):
    """A setting that the files say differs."""

    axis: str
    good: str | None = None
    bad: str | None = None


class FlippedSide(Value, frozen=True):
    """What one side answered, and its score."""

    score: Number | None = None
    text: object = None


class ScoredFlip(Value, frozen=True):
    """A question that scores differently; `change` is bad less good, higher is better."""

    query: str = ""
    input: object = None
    reference: object = None
    change: Number = 0
    good: FlippedSide = Field(default_factory=FlippedSide)
    bad: FlippedSide = Field(default_factory=FlippedSide)


class ReportedPair(Value, frozen=True):
    """A configuration beside the first one. `sees`: the smallest loss that would show in 4 of 5 such comparisons."""

    bad: str = ""
    kind: str = ""
    reason: str = ""
    p_adjusted: Number | None = None
    loss: MeasuredLoss = Field(default_factory=MeasuredLoss)
    equivalence: EquivalenceTest = Field(default_factory=EquivalenceTest)
    sees: Number | None = None
    queries_needed: int | None = None
    lost: int = 0
    gained: int = 0
    only_good: int = 0
    only_bad: int = 0
    missing_good: int = 0
    missing_bad: int = 0
    differs: tuple[RecordedDifference, ...] = ()
    flips: tuple[ScoredFlip, ...] = ()
    side_metrics: tuple[SideMetric, ...] = ()
    segments: tuple[ReportedSegment, ...] = ()


class ComparedAxes(Value, frozen=True):
    """What the attribution to the files' own axes says."""

    sentence: str = ""
    kind: str = ""
    bad: str = ""


class CompareBlock(Value, frozen=True):
    """What a comparison found; `lead`: the pair that the verdict speaks of."""

    kind: str = ""
    tolerance: Number = 0
    alpha: Number = 0.05
    paired_by: str = ""
    configurations: tuple[ComparedConfiguration, ...] = ()
    pairs: tuple[ReportedPair, ...] = ()
    lead: int = 0
    attribution: ComparedAxes | None = None


# Times the half of a 95 % interval from which on it holds for all of six axes (Bonferroni: 2.64 / 1.96). Without it 8 of 41 axes that
# were said to help did not (300 random incidents, full and adaptive), with it 1 of 10. Of 132 that gained less plainly 40 helped
# (870 planted and random incidents): nothing is said of these.
ANY_OF_SIX = 1.35


@dataclass(frozen=True)
class NetChurn:
    """What an axis breaks and mends, and its net cost with both ends of the interval: all of it known."""

    axis: str
    breaks: float
    mends: float
    cost: float
    low: float
    high: float
    # The smallest net effect that counts, like the scores.
    worth: float

    @property
    def does(self) -> str:
        """What is said of the axis: a good change beside a cause is more than churn."""
        return "helps" if self.is_good else "shuffles answers"

    @property
    def is_good(self) -> bool:
        """Whether it gains beyond doubt, though every axis that is not named is looked at for a gain."""
        return self.cost + ANY_OF_SIX * (self.high - self.cost) < 0
