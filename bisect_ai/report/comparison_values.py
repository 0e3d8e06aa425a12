"""The report's block on a comparison of result files: configurations, pairs, and the queries that score differently."""

from __future__ import annotations

from collections.abc import Mapping

from bisect_ai.report.json_edge import Interval, Number, Value
from bisect_ai.report.measured_values import MeasuredLoss, ReportedSegment, SideMetric


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
    good: FlippedSide = FlippedSide()
    bad: FlippedSide = FlippedSide()


class ReportedPair(Value, frozen=True):
    """A configuration beside the first one. `sees`: the smallest loss that would show in 4 of 5 such comparisons."""

    bad: str = ""
    kind: str = ""
    reason: str = ""
    p_adjusted: Number | None = None
    loss: MeasuredLoss = MeasuredLoss()
    equivalence: EquivalenceTest = EquivalenceTest()
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
