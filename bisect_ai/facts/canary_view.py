"""A canary's facts as its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats
from bisect_ai.attribution.questions.balance import ColumnBalance
from bisect_ai.attribution.questions.canary_looks import (
    GROWTH,
    CanaryFinding,
    CanaryRule,
    GuardFinding,
    Needed,
    Side,
    SliceLoss,
)
from bisect_ai.facts.report_view import NO_CALLS, SCHEMA, with_all_fields
from bisect_ai.report.canary_report import MOST_EVIDENCE
from bisect_ai.report.measured_values import MeasuredLoss
from bisect_ai.report.planning_values import LogBlock
from bisect_ai.report.report_values import Report, Verdict
from bisect_ai.report.value_types import Ends
from bisect_ai.report.watch_values import (
    AnswerTallies,
    AnswerTally,
    CanaryBlock,
    CanaryLook,
    ColumnFate,
    FurtherAnswers,
    FurtherNeeded,
    GuardedMetric,
    OnsetBlock,
    SavedAnswers,
    SegmentLoss,
    SegmentValue,
    VerdictEvidence,
    WithheldReason,
)
from bisect_ai.scoring.metric import SHARE, Metric

# Segments in the JSON report, the worst first; those that are proved to lose always.
MOST_SEGMENTS = 40


@dataclass(frozen=True)
class GuardRule:
    """A metric and what it may rise by (`falls`: fall by), in its own units, or as a part of the baseline's mean."""

    name: str
    limit: float
    relative: bool
    falls: bool
    # Whether it was written in points of 100.
    points: bool = False

    def turned(self, values: Sequence[float | None]) -> Floats:
        """(n,) the values with more for worse, NaN for none."""
        found = np.array([np.nan if value is None else value for value in values], float)
        return np.asarray(-found if self.falls else found)

    @property
    def turned_limit(self) -> float:
        """The limit on values that are turned: a part of a mean below zero is a fall of the mean itself."""
        return -self.limit if self.falls and self.relative else self.limit


@dataclass(frozen=True)
class CanaryFacts:
    """Everything that a canary's report is made of. `tolerance` is in the metric's units."""

    run: str
    baseline: str
    canary: str
    name: str
    metric: Metric
    tolerance: float
    rule: CanaryRule
    found: CanaryFinding
    segment: str | None = None
    guards: Sequence[GuardRule] = ()
    # Since when the canary loses, scores in [0, 1].
    onset: OnsetBlock | None = None
    # When baseline and canary gave their first and last answers.
    spans: Sequence[tuple[str | None, str | None]] = ((None, None), (None, None))
    log: LogBlock | None = None
    warnings: Sequence[str] = ()

    def points(self, difference: float | None) -> float | None:
        """A difference of scores in [0, 1] on the metric's own scale; positive: worse."""
        return None if difference is None else self.metric.span * difference

    def points_between(self, ends: tuple[float, float] | None) -> Ends | None:
        """The interval of such a difference."""
        return None if ends is None else (self.metric.span * ends[0], self.metric.span * ends[1])


def build(facts: CanaryFacts) -> Report:
    """The report: a run's, with a `canary` block; `good` is the baseline, `bad` the canary."""
    found = facts.found
    report = Report(
        schema_=SCHEMA,
        run=facts.run,
        good=facts.baseline,
        bad=facts.canary,
        metric=facts.name,
        higher_is_better=facts.metric.higher_is_better,
        percent=facts.metric.scale == SHARE and facts.metric.own_unit is None,
        unit=facts.metric.own_unit,
        level=round(100 * (1 - 2 * facts.rule.alpha), 6),
        canary=_block(facts),
        onset=_onset(facts),
        verdict=_verdict(facts),
        loss=MeasuredLoss(
            estimate=facts.points(found.loss.value),
            interval=facts.points_between(found.loss.interval),
            n=found.loss.n,
            method=found.loss.method,
            good=facts.metric.from_unit(found.baseline.value),
            good_interval=None,
            bad=facts.metric.from_unit(found.canary.value),
            bad_interval=None,
        ),
        log=facts.log,
        warnings=tuple(facts.warnings),
        decision=_decision(facts),
        usage=NO_CALLS,
    )
    return with_all_fields(report)


def _block(facts: CanaryFacts) -> CanaryBlock:
    found = facts.found
    baseline, canary = (_side(side, span) for side, span in zip(found.sides, facts.spans, strict=True))
    promote, back = _needed(found.if_no_loss, if_loss=0.0), _needed(found.if_loss, if_loss=2 * facts.tolerance)
    return CanaryBlock(
        kind=found.kind,
        safe_to_revert=found.safe_to_revert,
        tolerance=facts.tolerance,
        alpha=facts.rule.alpha,
        bounds=facts.metric.scale,
        evidence=_evidence(facts),
        decided_after=found.decided_after,
        by_guard=found.by_guard,
        answers=AnswerTallies(baseline=baseline, canary=canary),
        apart=found.apart,
        missing_bounded=found.bounded,
        needed=FurtherNeeded(promote=promote, roll_back=back),
        segment=facts.segment,
        share=facts.rule.share,
        split_p=found.split_p,
        balance=tuple(_fate(b) for b in found.balance),
        withheld=tuple(WithheldReason(by=w.by, name=w.name, why=w.why) for w in found.withheld),
        guards=tuple(_guard(*pair) for pair in zip(facts.guards, found.guards, strict=True)),
        segments=tuple(_segment(facts, each) for i, each in enumerate(found.slices) if i < MOST_SEGMENTS or each.proved),
        saved=SavedAnswers(share=found.saved, by=found.saved_by) if found.saved_by else None,
        looks=tuple(
            CanaryLook(answers=k.answers, loss=facts.points(k.estimate), interval=facts.points_between((k.low, k.high)))
            for k in found.looks
        ),
    )


def _onset(facts: CanaryFacts) -> OnsetBlock | None:
    """Since when, on the metric's own scale."""
    if facts.onset is None:
        return None
    values = {"before": facts.metric.from_unit(facts.onset.before), "after": facts.metric.from_unit(facts.onset.after)}
    return facts.onset.model_copy(update=values)


def _evidence(facts: CanaryFacts) -> VerdictEvidence:
    found, rule = facts.found, facts.rule
    return VerdictEvidence(
        roll_back=min(found.harm, MOST_EVIDENCE),
        promote=min(found.well, MOST_EVIDENCE),
        roll_back_bound=found.harm_bound,
        promote_bound=rule.bound,
    )


def _fate(found: ColumnBalance) -> ColumnFate:
    shares = {"baseline": found.baseline or 0.0, "canary": found.canary or 0.0}
    return ColumnFate(name=found.name, fate=found.fate, p=float(f"{found.p:.3g}"), level=found.level, why=found.why, **shares)


def _guard(rule: GuardRule, found: GuardFinding) -> GuardedMetric:
    """The guard in its own units; of one that falls the values are turned back."""
    value, rise = Metric(higher_is_better=not rule.falls), Metric(higher_is_better=not (rule.falls and rule.relative))
    return GuardedMetric(
        name=rule.name,
        kind=found.kind,
        limit=rule.limit,
        relative=rule.relative,
        falls=rule.falls,
        points=rule.points,
        baseline=value.value(found.baseline),
        canary=value.value(found.canary),
        rise=rise.value(found.rise.value),
        interval=rise.mean_ends(found.rise.interval),
    )


def _segment(facts: CanaryFacts, found: SliceLoss) -> SegmentLoss:
    loss: Estimate = found.loss
    (column, level), *further = found.where
    beside, also, *_ = (*(SegmentValue(column=c, level=v) for c, v in further), None, None)
    return SegmentLoss(
        column=column,
        level=level,
        beside=beside,
        also=also,
        answers=found.answers,
        loss=facts.points(loss.value),
        interval=facts.points_between(loss.interval),
        proved=found.proved,
    )


def _side(side: Side, span: tuple[str | None, str | None]) -> AnswerTally:
    return AnswerTally(answers=side.answers, unscored=side.unscored, since=span[0], until=span[1])


def _needed(needed: Needed, *, if_loss: float | None) -> FurtherAnswers:
    return FurtherAnswers(if_loss=if_loss, baseline=needed.baseline, canary=needed.canary)


def _verdict(facts: CanaryFacts) -> Verdict:
    needed = facts.found.if_no_loss
    is_open = facts.found.kind == "wait" and needed.baseline is not None and needed.canary is not None
    calls = (needed.baseline or 0) + (needed.canary or 0) if is_open else None
    return with_all_fields(Verdict(kind=facts.found.kind, reason=_reason(facts.found), calls_needed=calls))


def _reason(found: CanaryFinding) -> str:
    if found.apart:
        return "the releases did not answer at the same time, so that nothing tells what the release changed from what time did"
    if found.withheld and found.kind == "wait":
        return "promoting is withheld"
    if found.by_guard is not None and found.kind == "roll_back":
        return "the evidence that a guard is violated passed its bound"
    return _REASONS[found.kind]


_REASONS = {
    "promote": "the evidence against a loss of the tolerance or more passed its bound",
    "roll_back": "the evidence that the canary is worse passed its bound",
    "wait": "neither harm nor its absence was shown yet; the same command on the longer log goes on from here",
}


def _decision(facts: CanaryFacts) -> str:
    guards = f" (shared by {len(facts.guards) + 1} metrics: {facts.found.harm_bound:g})" if facts.guards else ""
    return (
        f"Evidence of harm and evidence against a loss of {facts.tolerance:g} or more are looked at "
        f"whenever the log has grown by {GROWTH - 1:.0%}; the first to pass {facts.rule.bound:g} = 1 / alpha{guards} decides. "
        "Columns that differ between the releases or foretell the score are adjusted for. "
        f"A wrong verdict has a chance of at most {facts.rule.alpha:g}, however often the growing log is looked at."
    )
