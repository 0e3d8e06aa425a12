"""A report as frozen values: what `facts` builds, every renderer reads and JSON (`json_edge`) is the serialisation of.

Numbers of a metric are in its units; `share` and `restores` are parts of the loss (1: all of it); intervals hold with 95 %
unless the report says another `level`. None: not known, not estimated, or not so, as the field says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import Field

from bisect_ai.report.blocks import Scale, scale_for
from bisect_ai.report.measured_values import (
    CompareBlock,
    MeasuredLoss,
    ReportedCell,
    ReportedEffect,
    ReportedSegment,
    SideMetric,
)
from bisect_ai.report.planning_values import ChangeReference, FlippedQuery, LogBlock, NamedChange, ReportedSuspect, ShownAnswer
from bisect_ai.report.run_blocks import (
    AuditBlock,
    GateBlock,
    JudgeBlock,
    ProviderBlock,
    TapeBlock,
    TrendBlock,
    VerifyBlock,
)
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.value_types import Interval, Number, Omitted, Value
from bisect_ai.report.vocabulary import TONES
from bisect_ai.report.watch_values import CanaryBlock, DriftBlock, OnsetBlock

# Half the width of an interval, in score points, from which on a tenth of a point means nothing.
WIDE = 0.02


# -- the verdict -----------------------------------------------------------------------------------------------------
class FailingShares(Value, frozen=True):
    """Shares of calls that fail with a cause and with it reverted, and the part of its cost that they are."""

    with_: Number | None = None
    without: Number | None = None
    share: Number | None = None
    n: int | None = None


class MeasuredBeside(Value, frozen=True):
    """Axes beside whose `version` a cause was measured, for another mixture cannot run.

    `version`: new (the bad side), old (the good one); both: the cause's own axes, of which none runs without the others.
    """

    axes: tuple[str, ...]
    version: str
    # Why that mixture cannot run, as the target says.
    reason: str | None = None


class NamedCause(Value, frozen=True):
    """Axes that cost quality: `mode` is alone, together, either or unsettled; `share` of the loss with its interval."""

    axes: tuple[str, ...]
    mode: str
    share: Number | None = None
    interval: Interval = None
    method: str = ""
    failing: Omitted[FailingShares | None] = None
    beside: Omitted[tuple[MeasuredBeside, ...]] = ()
    changes: tuple[NamedChange, ...] = ()


class FinerRollback(Value, frozen=True):
    """A measured rollback of single changes; `enough`: it restores what a rollback should."""

    changes: tuple[ChangeReference, ...] = ()
    value: Number | None = None
    interval: Interval = None
    restores: Number | None = None
    restores_interval: Interval = None
    n: int | None = None
    method: str = ""
    enough: bool | None = None


class MeasuredRollback(Value, frozen=True):
    """Axes to take back to good: `value` is what that very combination scored, `restores` its share of the loss."""

    axes: tuple[str, ...]
    value: Number | None = None
    interval: Interval = None
    restores: Number | None = None
    restores_interval: Interval = None
    # Of `axes`, those that are not to blame and cannot run without the new version of the others.
    along: Omitted[tuple[str, ...]] = ()
    # Changes whose reversion alone was measured and restores enough; `finer` has value and interval.
    changes: tuple[ChangeReference, ...] = ()
    finer: FinerRollback | None = None
    # What takes the files back in git; None: the releases are no revisions.
    command: Omitted[str | None] = None


class CandidateCause(Value, frozen=True):
    """Axes that may be the cause, with the degree of belief in it."""

    axes: tuple[str, ...]
    belief: Number | None = None


# Kinds of what ended without a verdict.
UNMEASURED = ("failed", "interrupted")


class OpenAxis(Value, frozen=True):
    """A changed axis beside a cause that is not shown to be innocent.

    `at_most`: what it costs at most, one-sided 95 %; `leans`: something says that it costs quality, or nothing is known of it.
    """

    axis: str
    at_most: Number | None = None
    leans: bool = True


class Verdict(Value, frozen=True):
    """The named outcome of a run.

    `kind`: cause, no_regression, not_reproduced, drift, traffic, inconclusive; of a verification fixed, not_fixed,
    fixed_with_collateral; of a canary promote, roll_back, wait; of watching drift, onset, steady, inconclusive;
    failed or interrupted: it ended without a verdict. `stopped`: the cap at which the run stopped.
    """

    kind: str
    sentence: str = ""
    causes: tuple[NamedCause, ...] = ()
    rollback: MeasuredRollback | None = None
    keep: tuple[str, ...] = ()
    open: tuple[OpenAxis, ...] = ()
    reason: str = ""
    stopped: str | None = None
    calls_needed: int | None = None
    candidates: tuple[CandidateCause, ...] = ()


class DrilledAxis(Value, frozen=True):
    """What the drill-down says of an axis: `kind` is found, no_single_change, inconclusive or not_run."""

    axis: str
    kind: str = ""
    changes: int = 0
    named: int = 0
    reason: str = ""


class DrillBlock(Value, frozen=True):
    """The drill-down: what it found, spent and left open. `unexplained`: the part of what breaks that no named change explains."""

    kind: str = ""
    reason: str = ""
    calls: int = 0
    alpha: Number | None = None
    unexplained: Number | None = None
    axes: tuple[DrilledAxis, ...] = ()
    conflicts: tuple[tuple[ChangeReference, ...], ...] = ()
    rollback: FinerRollback | None = None


class RunUsage(Value, frozen=True):
    """What a run cost in all. `unsettled_usd`: the most that requests may have cost on top whose answer never came whole."""

    calls: int | None = None
    cached: int | None = None
    errors: int | None = None
    usd: Number | None = None
    tokens: int | None = None
    seconds: Number | None = None
    unsettled_usd: Number = 0.0
    provider: ProviderBlock | None = None


class Report(Value, frozen=True):
    """A finished run, audit, verification or canary, or an attributed table."""

    schema_: str = ""
    run: str = ""
    good: str = ""
    bad: str = ""
    metric: str
    higher_is_better: bool | None = None
    # Whether values are shares; None: what they look like.
    percent: bool | None = None
    unit: Omitted[str | None] = None
    # The smallest loss worth acting on.
    tolerance: Omitted[Number | None] = None
    # The chance of a wrong verdict that was accepted; None: not known.
    alpha: Omitted[Number | None] = None
    # Per cent that intervals hold with.
    level: Number = 95
    axes: tuple[str, ...] = ()
    design: str | None = None
    canary: Omitted[CanaryBlock | None] = None
    drift: Omitted[DriftBlock | None] = None
    # Since when the log scores lower: in reports of `onset`, `drift` and canaries.
    onset: Omitted[OnsetBlock | None] = None
    compare: Omitted[CompareBlock | None] = None
    gate: Omitted[GateBlock | None] = None
    audit: Omitted[AuditBlock | None] = None
    verify: Omitted[VerifyBlock | None] = None
    verdict: Verdict
    loss: MeasuredLoss = Field(default_factory=MeasuredLoss)
    log: LogBlock | None = None
    effects: tuple[ReportedEffect, ...] = ()
    cells: tuple[ReportedCell, ...] = ()
    tape: Omitted[TapeBlock | None] = None
    trend: Omitted[TrendBlock | None] = None
    segments: tuple[ReportedSegment, ...] = ()
    side_metrics: tuple[SideMetric, ...] = ()
    judges: Omitted[tuple[JudgeBlock, ...]] = ()
    examples: tuple[FlippedQuery, ...] = ()
    warnings: tuple[str, ...] = ()
    suspects: tuple[ReportedSuspect, ...] = ()
    changes: tuple[NamedChange, ...] = ()
    drill: DrillBlock | None = None
    owners: Mapping[str, str | None] = {}
    decision: str = ""
    usage: RunUsage = Field(default_factory=RunUsage)

    @property
    def sign(self) -> float:
        """-1 where lower values of the metric are better, else 1: a value times it is oriented."""
        return -1.0 if self.higher_is_better is False else 1.0


def tone_of(report: Report) -> str:
    """What the verdict is for who reads it: harm, help, warn, or quiet. That what both releases use moved is no fault of theirs."""
    kind = report.verdict.kind
    return "warn" if kind == "drift" and report.drift is None else TONES.get(kind, "quiet")


def is_of_watching(report: Report) -> bool:
    """Whether it is a report of `drift` or `onset`."""
    return report.canary is None and (report.drift is not None or report.onset is not None)


# What the public doors take: a report, or its JSON.
ReportLike = Report | Mapping[str, object]


# `failed`: the call under one of the two failed, where the other has a score.
BROKE, FAILED, MENDED, SAME = "broke", "failed", "mended", "same"
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class AnsweredQuery:
    """A query and its first answer in each combination that it was asked in, by the axes that were bad there.

    `input` and `reference` are None where the run's log is not at hand.
    """

    query: str
    segment: object = None
    input: str | None = None
    reference: object = None
    answers: Mapping[tuple[str, ...], ShownAnswer] = field(default_factory=dict)


def outcome(good: ShownAnswer | None, bad: ShownAnswer | None, *, higher_is_better: bool | None) -> str:
    """Whether a query broke or was mended from good to bad, by the scores of its two answers."""
    if good is None or bad is None:
        return NOT_COMPARED
    if good.score is None or bad.score is None:
        is_one = (good.failed and bad.score is not None) or (bad.failed and good.score is not None)
        return FAILED if is_one else NOT_COMPARED
    if good.score == bad.score:
        return SAME
    return BROKE if (bad.score < good.score) == (higher_is_better is not False) else MENDED


def question_of(report: Report) -> str:
    """What was asked: the command's name."""
    asked: dict[str, object] = {"gate": report.gate, "audit": report.audit, "verify": report.verify, "canary": report.canary}
    asked |= {"drift": report.drift, "onset": report.onset, "compare": report.compare}
    return next((name for name, block in asked.items() if block is not None), "run")


def scale_of(report: Report, *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of the deciding metric: the report's own word for it (`percent`), else what its values look like."""
    if report.percent is not None and not report.unit:
        return Scale(share=bool(report.percent), level=report.level)
    loss = report.loss
    values = [loss.good, loss.bad, *(cell.value for cell in report.cells)]
    return replace(scale_for(report.unit, values, quoting=quoting), level=report.level)


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
