"""A comparison's facts as a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.equivalence import PairedTests, PairedVerdict
from bisect_ai.attribution.questions.segments import Segment
from bisect_ai.facts.report_view import SCHEMA
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.report import tables
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.report_values import Report, Verdict
from bisect_ai.report.verdict_sentence import verdict_sentence


@dataclass(frozen=True)
class ComparedSide:
    """A configuration as the report tells it; `value` over all its own questions, in the metric's units."""

    name: str
    source: str
    settings: Mapping[str, str]
    rows: int
    queries: int
    failed: int
    unscored: int
    """Questions without a score."""
    value: Estimate


@dataclass(frozen=True)
class ComparedPair:
    """A configuration beside the baseline: tests and verdict (oriented: higher is better), and all that is told of the pairs."""

    side: ComparedSide
    tests: PairedTests
    verdict: PairedVerdict
    only_good: int
    """Questions that the baseline alone has, and (`only_bad`) this configuration alone."""
    only_bad: int
    missing: tuple[int, int]
    """Paired questions without a score of the baseline, and of this configuration."""
    differs: Sequence[Mapping[str, str]] = ()
    """What the files say that differs: axis, good, bad."""
    flips: Sequence[Mapping[str, Any]] = ()
    """Questions that score differently, those that lose most first."""
    side_metrics: Sequence[Mapping[str, Any]] = ()
    segments: Sequence[Segment] = ()
    queries_needed: int | None = None
    """Paired questions that would show a loss of the tolerance."""


@dataclass(frozen=True)
class CompareFacts:
    """Everything that a comparison's report is made of; `lead` is the pair that the verdict speaks of."""

    run: str
    metric: str
    sign: float
    bounded: bool
    tolerance: float
    alpha: float
    way: str
    kind: str
    baseline: ComparedSide
    pairs: Sequence[ComparedPair]
    lead: int
    unit: str | None = None
    attribution: Report | None = None
    """The report of the attribution to the files' own axes; None: they make no design."""
    log: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def build(facts: CompareFacts) -> dict[str, Any]:
    """The report as plain JSON: the schema of a run's, with a `compare` block; `good` is the baseline, `bad` the leading pair's."""
    lead, found = facts.pairs[facts.lead], facts.attribution
    told = {} if found is None else as_mapping(found)
    own = {name: told.get(name) or [] for name in ("axes", "effects", "cells")}
    verdict = _comparison_verdict(facts)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": facts.run,
        "good": facts.baseline.name,
        "bad": lead.side.name,
        "metric": facts.metric,
        "higher_is_better": facts.sign > 0,
        "percent": facts.bounded,
        **({} if facts.unit is None else {"unit": facts.unit}),
        "tolerance": _rounded_cell(facts.tolerance),
        **own,
        "design": None if found is None else found.design,
        "compare": _compare_block(facts),
        "verdict": verdict,
        "loss": _pair_loss(lead, facts),
        "log": dict(facts.log),
        "segments": [_pair_segment(s, facts.sign) for s in lead.segments],
        "side_metrics": [dict(m) for m in lead.side_metrics],
        "examples": [_flip_example(flip) for flip in lead.flips[: tables.MOST_EXAMPLES] if flip["change"] < 0],
        "warnings": [*facts.warnings, *(found.warnings if found else ())],
        **{name: [] for name in ("suspects", "changes")},
        "drill": None,
        "owners": {},
        "decision": _comparison_decision(facts),
        "usage": {"calls": 0, "cached": 0, "errors": 0, "usd": 0.0, "tokens": 0, "seconds": 0.0},
    }
    verdict["sentence"] = verdict_sentence(read(Report, report))
    return report


def _rounded_cell(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS) + 0.0


def _rounded_ends(interval: Sequence[float] | None) -> list[float | None] | None:
    return None if interval is None else [_rounded_cell(end) for end in interval]


def _as_oriented(value: float | None, sign: float) -> float | None:
    return None if value is None else _rounded_cell(sign * value)


def _pair_loss(pair: ComparedPair, facts: CompareFacts) -> dict[str, Any]:
    tests = pair.tests
    return {
        "estimate": _rounded_cell(tests.loss.value),
        "interval": _rounded_ends(tests.loss.interval),
        "n": tests.loss.n,
        "method": tests.loss.method,
        "good": _as_oriented(tests.good, facts.sign),
        "bad": _as_oriented(tests.bad, facts.sign),
        "good_interval": None,
        "bad_interval": None,
        **({} if tests.bounds is None else {"bounds": _rounded_ends(tests.bounds.interval)}),
    }


def _compare_block(facts: CompareFacts) -> dict[str, Any]:
    found = facts.attribution
    told = None if found is None else {"sentence": found.verdict.sentence, "kind": found.verdict.kind, "bad": found.bad}
    return {
        "kind": facts.kind,
        "tolerance": _rounded_cell(facts.tolerance),
        "alpha": facts.alpha,
        "paired_by": facts.way,
        "configurations": [_side_described(side) for side in (facts.baseline, *(pair.side for pair in facts.pairs))],
        "pairs": [_pair_row(pair, facts) for pair in facts.pairs],
        "lead": facts.lead,
        "attribution": told,
    }


def _side_described(side: ComparedSide) -> dict[str, Any]:
    return {
        "name": side.name,
        "file": side.source,
        "settings": dict(side.settings),
        "rows": side.rows,
        "queries": side.queries,
        "failed": side.failed,
        "unscored": side.unscored,
        "value": _rounded_cell(side.value.value),
        "interval": _rounded_ends(side.value.interval),
    }


def _pair_row(pair: ComparedPair, facts: CompareFacts) -> dict[str, Any]:
    tests = pair.tests
    return {
        "bad": pair.side.name,
        "kind": pair.verdict.kind,
        "reason": pair.verdict.reason,
        "p_adjusted": _rounded_cell(pair.verdict.p_adjusted),
        "loss": _pair_loss(pair, facts),
        "equivalence": {
            "interval": _rounded_ends(tests.narrow),
            "p_no_worse": _rounded_cell(tests.p_no_worse),
            "p_no_better": _rounded_cell(tests.p_no_better),
        },
        "sees": _rounded_cell(tests.sees),
        "queries_needed": pair.queries_needed,
        "lost": tests.lost,
        "gained": tests.gained,
        "only_good": pair.only_good,
        "only_bad": pair.only_bad,
        "missing_good": pair.missing[0],
        "missing_bad": pair.missing[1],
        "differs": [dict(each) for each in pair.differs],
        "flips": [dict(flip) for flip in pair.flips],
        "side_metrics": [dict(m) for m in pair.side_metrics],
        "segments": [_pair_segment(s, facts.sign) for s in pair.segments],
    }


def _pair_segment(segment: Segment, sign: float) -> dict[str, Any]:
    return {
        "name": segment.name,
        "found_by": segment.found_by,
        "where": dict(segment.where),
        "share": _rounded_cell(segment.share),
        "good": _as_oriented(segment.good, sign),
        "bad": _as_oriented(segment.bad, sign),
        "loss": _rounded_cell(segment.loss.value),
        "interval": _rounded_ends(segment.loss.interval),
        "n": segment.loss.n,
        "p_adjusted": _rounded_cell(segment.p_adjusted),
        "method": segment.loss.method,
    }


def _flip_example(flip: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: {"text": flip[side]["text"], "score": flip[side]["score"], "tool_calls": []} for side in ("good", "bad")}
    return {"query": flip["query"], "input": flip["input"], "reference": flip["reference"], **sides}


def _comparison_verdict(facts: CompareFacts) -> dict[str, Any]:
    named = facts.attribution.verdict if facts.attribution else Verdict(kind="")
    return {
        "kind": facts.kind,
        "sentence": "",
        "causes": [as_mapping(cause) for cause in named.causes],
        "rollback": None if named.rollback is None else as_mapping(named.rollback),
        "keep": list(named.keep),
        "reason": facts.pairs[facts.lead].verdict.reason,
        "stopped": None,
        "calls_needed": None,
        "candidates": [],
    }


def _comparison_decision(facts: CompareFacts) -> str:
    several = f"; claims adjusted over {len(facts.pairs)} comparisons (Holm)" if len(facts.pairs) > 1 else ""
    return (
        f"Paired by {facts.way}. Equivalent: two one-sided tests at {facts.alpha:g} exclude a loss and a gain of {facts.tolerance:g} "
        f"or more. Regression: a loss beyond chance (two-sided, {facts.alpha:g}) and estimated above {facts.tolerance:g}{several}. "
        "No call was made."
    )
