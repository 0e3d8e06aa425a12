"""A canary's facts as its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bisect_ai.attribution.questions.canary import CanaryFinding, CanaryRule, Needed, Side
from bisect_ai.facts.report_view import SCHEMA, with_sentence
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.report.canary_report import MOST_EVIDENCE, canary_sentence
from bisect_ai.report.json_edge import Ends
from bisect_ai.report.measured_values import MeasuredLoss
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.run_blocks import (
    AnswerTallies,
    AnswerTally,
    CanaryBlock,
    CanaryLook,
    FurtherAnswers,
    FurtherNeeded,
    LogBlock,
    TrafficShare,
    VerdictEvidence,
)


@dataclass(frozen=True)
class CanaryFacts:
    """Everything that a canary's report is made of. `tolerance`, `low` and `high` are in the metric's units."""

    run: str
    baseline: str
    canary: str
    metric: str
    low: float
    high: float
    higher_is_better: bool
    tolerance: float
    rule: CanaryRule
    found: CanaryFinding
    segment: str | None = None
    mix: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Answers of baseline and canary by segment."""
    log: LogBlock | None = None
    warnings: Sequence[str] = ()

    @property
    def size(self) -> float:
        """The length of the metric's scale."""
        return self.high - self.low

    def value(self, share: float | None) -> float | None:
        """A score in [0, 1], higher for better, on the metric's own scale."""
        if share is None:
            return None
        return _rounded(self.low + self.size * share if self.higher_is_better else self.high - self.size * share)

    def points(self, difference: float | None) -> float | None:
        """A difference of such scores on the metric's own scale; positive: worse."""
        return _rounded(None if difference is None else self.size * difference)


def build(facts: CanaryFacts) -> Report:
    """The report: a run's, with a `canary` block; `good` is the baseline, `bad` the canary."""
    found = facts.found
    report = Report(
        schema_=SCHEMA,
        run=facts.run,
        good=facts.baseline,
        bad=facts.canary,
        metric=facts.metric,
        higher_is_better=facts.higher_is_better,
        percent=(facts.low, facts.high) == (0, 1),
        level=round(100 * (1 - 2 * facts.rule.alpha), 6),
        axes=(),
        design=None,
        canary=_block(facts),
        verdict=_verdict(facts),
        loss=MeasuredLoss(
            estimate=facts.points(found.loss.value),
            interval=None if found.loss.interval is None else _ends(facts, found.loss.interval),
            n=found.loss.n,
            method=found.loss.method,
            good=facts.value(found.baseline.value),
            good_interval=None,
            bad=facts.value(found.canary.value),
            bad_interval=None,
        ),
        log=facts.log,
        effects=(),
        cells=(),
        segments=(),
        side_metrics=(),
        examples=(),
        warnings=tuple(facts.warnings),
        suspects=(),
        changes=(),
        drill=None,
        owners={},
        decision=_decision(facts),
        usage=RunUsage(calls=0, cached=0, errors=0, usd=0.0, tokens=0, seconds=0.0),
    )
    return with_sentence(report, canary_sentence(report))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(min(float(value), MOST_EVIDENCE), DIGITS) + 0.0


def _block(facts: CanaryFacts) -> CanaryBlock:
    found = facts.found
    baseline, canary = map(_side, found.sides)
    promote, back = _needed(found.if_no_loss, if_loss=0.0), _needed(found.if_loss, if_loss=_rounded(2 * facts.tolerance))
    return CanaryBlock(
        kind=found.kind,
        tolerance=facts.tolerance,
        alpha=facts.rule.alpha,
        bounds=(facts.low, facts.high),
        evidence=VerdictEvidence(roll_back=_rounded(found.harm), promote=_rounded(found.well)),
        bound=_rounded(facts.rule.bound),
        blocks=found.blocks,
        decided_after=found.decided_after,
        answers=AnswerTallies(baseline=baseline, canary=canary),
        repeated=found.repeated,
        unpaired=found.unpaired,
        missing_bounded=found.bounded,
        needed=FurtherNeeded(promote=promote, roll_back=back),
        segment=facts.segment,
        mix=tuple(TrafficShare(name=name, baseline=row[0], canary=row[1]) for name, row in facts.mix.items()),
        looks=tuple(
            CanaryLook(
                answers=k.answers, blocks=k.blocks, loss=facts.points(k.estimate), interval=_ends(facts, (k.low, k.high))
            )
            for k in found.looks
        ),
    )


def _side(side: Side) -> AnswerTally:
    return AnswerTally(answers=side.answers, unscored=side.unscored, counted=side.counted)


def _needed(needed: Needed, *, if_loss: float | None) -> FurtherAnswers:
    return FurtherAnswers(if_loss=if_loss, blocks=needed.blocks, baseline=needed.baseline, canary=needed.canary)


def _verdict(facts: CanaryFacts) -> Verdict:
    needed = facts.found.if_no_loss
    is_open = facts.found.kind == "wait" and needed.baseline is not None and needed.canary is not None
    return Verdict(
        kind=facts.found.kind,
        sentence="",
        causes=(),
        rollback=None,
        keep=(),
        reason=_REASONS[facts.found.kind],
        stopped=None,
        calls_needed=(needed.baseline or 0) + (needed.canary or 0) if is_open else None,
        candidates=(),
    )


_REASONS = {
    "promote": "the evidence against a loss of the tolerance or more passed its bound",
    "roll_back": "the evidence that the canary is worse passed its bound",
    "wait": "neither harm nor its absence was shown yet; the same command on the longer log goes on from here",
}


def _ends(facts: CanaryFacts, ends: tuple[float, float]) -> Ends | None:
    low, high = (facts.points(end) for end in ends)
    return None if low is None or high is None else (low, high)


def _decision(facts: CanaryFacts) -> str:
    inside = (
        f"inside each {facts.segment}"
        if facts.segment
        else "in the whole log (no segment is named, so differing traffic would not show)"
    )
    return (
        f"A wealth that is staked on harm and one that is staked against a loss of {facts.tolerance:g} or more are looked at after "
        f"every block of answers that were given side by side {inside}; the first to pass {facts.rule.bound:g} = 1 / alpha decides. "
        f"A wrong verdict has a chance of at most {facts.rule.alpha:g}, however often the growing log is looked at."
    )
