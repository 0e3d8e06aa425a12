"""A canary's facts as one plain JSON value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.canary import CanaryFinding, CanaryRule, Needed, Side
from bisect_ai.facts.report_view import DIGITS, SCHEMA
from bisect_ai.report.canary_report import MOST_EVIDENCE, canary_sentence


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
    log: Mapping[str, Any] = field(default_factory=dict)
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


def build(facts: CanaryFacts) -> dict[str, Any]:
    """The report as plain JSON: the schema of a run's, with a `canary` block; `good` is the baseline, `bad` the canary."""
    found = facts.found
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": facts.run,
        "good": facts.baseline,
        "bad": facts.canary,
        "metric": facts.metric,
        "higher_is_better": facts.higher_is_better,
        "percent": (facts.low, facts.high) == (0, 1),
        "level": round(100 * (1 - 2 * facts.rule.alpha), 6),
        "axes": [],
        "design": None,
        "canary": _block(facts),
        "verdict": _verdict(facts),
        "loss": {
            **_estimate(facts, found.loss),
            "good": facts.value(found.baseline.value),
            "bad": facts.value(found.canary.value),
            "good_interval": None,
            "bad_interval": None,
        },
        "log": dict(facts.log),
        **{name: [] for name in ("effects", "cells", "segments", "side_metrics", "examples", "suspects", "changes")},
        "warnings": list(facts.warnings),
        "drill": None,
        "owners": {},
        "decision": _decision(facts),
        "usage": {"calls": 0, "cached": 0, "errors": 0, "usd": 0.0, "tokens": 0, "seconds": 0.0},
    }
    report["verdict"]["sentence"] = canary_sentence(report)
    return report


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(min(float(value), MOST_EVIDENCE), DIGITS) + 0.0


def _block(facts: CanaryFacts) -> dict[str, Any]:
    found = facts.found
    sides = {name: _side(side) for name, side in zip(("baseline", "canary"), found.sides, strict=True)}
    return {
        "kind": found.kind,
        "tolerance": facts.tolerance,
        "alpha": facts.rule.alpha,
        "bounds": [facts.low, facts.high],
        "evidence": {"roll_back": _rounded(found.harm), "promote": _rounded(found.well)},
        "bound": _rounded(facts.rule.bound),
        "blocks": found.blocks,
        "decided_after": found.decided_after,
        "answers": sides,
        "repeated": found.repeated,
        "unpaired": found.unpaired,
        "missing_bounded": found.bounded,
        "needed": {
            "promote": {"if_loss": 0.0, **_needed(found.if_no_loss)},
            "roll_back": {"if_loss": _rounded(2 * facts.tolerance), **_needed(found.if_loss)},
        },
        "segment": facts.segment,
        "mix": [{"name": name, "baseline": row[0], "canary": row[1]} for name, row in facts.mix.items()],
        "looks": [
            {
                "answers": k.answers,
                "blocks": k.blocks,
                "loss": facts.points(k.estimate),
                "interval": _ends(facts, (k.low, k.high)),
            }
            for k in found.looks
        ],
    }


def _side(side: Side) -> dict[str, int]:
    return {"answers": side.answers, "unscored": side.unscored, "counted": side.counted}


def _needed(needed: Needed) -> dict[str, int | None]:
    return {"blocks": needed.blocks, "baseline": needed.baseline, "canary": needed.canary}


def _verdict(facts: CanaryFacts) -> dict[str, Any]:
    needed = facts.found.if_no_loss
    calls = (
        None
        if facts.found.kind != "wait" or needed.baseline is None or needed.canary is None
        else needed.baseline + needed.canary
    )
    return {
        "kind": facts.found.kind,
        "sentence": "",
        "causes": [],
        "rollback": None,
        "keep": [],
        "reason": _REASONS[facts.found.kind],
        "stopped": None,
        "calls_needed": calls,
        "candidates": [],
    }


_REASONS = {
    "promote": "the evidence against a loss of the tolerance or more passed its bound",
    "roll_back": "the evidence that the canary is worse passed its bound",
    "wait": "neither harm nor its absence was shown yet; the same command on the longer log goes on from here",
}


def _estimate(facts: CanaryFacts, estimate: Estimate) -> dict[str, Any]:
    ends = None if estimate.interval is None else _ends(facts, estimate.interval)
    return {"estimate": facts.points(estimate.value), "interval": ends, "n": estimate.n, "method": estimate.method}


def _ends(facts: CanaryFacts, ends: tuple[float, float]) -> list[float | None]:
    return [facts.points(end) for end in ends]


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
