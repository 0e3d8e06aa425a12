"""A comparison's report: its facts as one plain JSON value, its verdict in one sentence, and the parts that every format arranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.equivalence import PairedTests, PairedVerdict
from bisect_ai.attribution.questions.segments import Segment
from bisect_ai.report import tables
from bisect_ai.report.canary import Part
from bisect_ai.report.clean import PLAIN, Quoting
from bisect_ai.report.comparison_tables import (
    WORDS,
    cells_table,
    configurations_table,
    gained_table,
    leading,
    lost_table,
    metrics_table,
)
from bisect_ai.report.funnel import capitalised, log_sentences
from bisect_ai.report.sentences import Report, Scale, count, listed, loss_phrase, scale_of
from bisect_ai.report.view import DIGITS, SCHEMA

KINDS = {"regression": "harm", "improvement": "help", "equivalent": "help", "no_worse": "help", "undecided": "warn"}
"""The verdicts, with their tone."""


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
    lead, found = facts.pairs[facts.lead], facts.attribution or {}
    own = {name: list(found.get(name) or []) for name in ("axes", "effects", "cells")}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run": facts.run,
        "good": facts.baseline.name,
        "bad": lead.side.name,
        "metric": facts.metric,
        "higher_is_better": facts.sign > 0,
        "percent": facts.bounded,
        **({} if facts.unit is None else {"unit": facts.unit}),
        "tolerance": _rounded(facts.tolerance),
        **own,
        "design": found.get("design"),
        "compare": _block(facts),
        "verdict": _verdict(facts),
        "loss": _loss(lead, facts),
        "log": dict(facts.log),
        "segments": [_segment(s, facts.sign) for s in lead.segments],
        "side_metrics": [dict(m) for m in lead.side_metrics],
        "examples": [_example(flip) for flip in lead.flips[: tables.MOST_EXAMPLES] if flip["change"] < 0],
        "warnings": [*facts.warnings, *(found.get("warnings") or ())],
        **{name: [] for name in ("suspects", "changes")},
        "drill": None,
        "owners": {},
        "decision": _decision(facts),
        "usage": {"calls": 0, "cached": 0, "errors": 0, "usd": 0.0, "tokens": 0, "seconds": 0.0},
    }
    report["verdict"]["sentence"] = sentence(report)
    return report


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS) + 0.0


def _ends(interval: Sequence[float] | None) -> list[float | None] | None:
    return None if interval is None else [_rounded(end) for end in interval]


def _oriented(value: float | None, sign: float) -> float | None:
    return None if value is None else _rounded(sign * value)


def _loss(pair: ComparedPair, facts: CompareFacts) -> dict[str, Any]:
    tests = pair.tests
    return {
        "estimate": _rounded(tests.loss.value),
        "interval": _ends(tests.loss.interval),
        "n": tests.loss.n,
        "method": tests.loss.method,
        "good": _oriented(tests.good, facts.sign),
        "bad": _oriented(tests.bad, facts.sign),
        "good_interval": None,
        "bad_interval": None,
        **({} if tests.bounds is None else {"bounds": _ends(tests.bounds.interval)}),
    }


def _block(facts: CompareFacts) -> dict[str, Any]:
    found = facts.attribution
    told = None if found is None else {"sentence": found["verdict"]["sentence"], "kind": found["verdict"]["kind"]}
    return {
        "kind": facts.kind,
        "tolerance": _rounded(facts.tolerance),
        "alpha": facts.alpha,
        "paired_by": facts.way,
        "configurations": [_side(side) for side in (facts.baseline, *(pair.side for pair in facts.pairs))],
        "pairs": [_pair(pair, facts) for pair in facts.pairs],
        "lead": facts.lead,
        "attribution": told if found is None else {**(told or {}), "bad": found["bad"]},
    }


def _side(side: ComparedSide) -> dict[str, Any]:
    return {
        "name": side.name,
        "file": side.source,
        "settings": dict(side.settings),
        "rows": side.rows,
        "queries": side.queries,
        "failed": side.failed,
        "unscored": side.unscored,
        "value": _rounded(side.value.value),
        "interval": _ends(side.value.interval),
    }


def _pair(pair: ComparedPair, facts: CompareFacts) -> dict[str, Any]:
    tests = pair.tests
    return {
        "bad": pair.side.name,
        "kind": pair.verdict.kind,
        "reason": pair.verdict.reason,
        "p_adjusted": _rounded(pair.verdict.p_adjusted),
        "loss": _loss(pair, facts),
        "equivalence": {
            "interval": _ends(tests.narrow),
            "p_no_worse": _rounded(tests.p_no_worse),
            "p_no_better": _rounded(tests.p_no_better),
        },
        "sees": _rounded(tests.sees),
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
        "segments": [_segment(s, facts.sign) for s in pair.segments],
    }


def _segment(segment: Segment, sign: float) -> dict[str, Any]:
    return {
        "name": segment.name,
        "found_by": segment.found_by,
        "where": dict(segment.where),
        "share": _rounded(segment.share),
        "good": _oriented(segment.good, sign),
        "bad": _oriented(segment.bad, sign),
        "loss": _rounded(segment.loss.value),
        "interval": _ends(segment.loss.interval),
        "n": segment.loss.n,
        "p_adjusted": _rounded(segment.p_adjusted),
        "method": segment.loss.method,
    }


def _example(flip: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: {"text": flip[side]["text"], "score": flip[side]["score"], "tool_calls": []} for side in ("good", "bad")}
    return {"query": flip["query"], "input": flip["input"], "reference": flip["reference"], **sides}


def _verdict(facts: CompareFacts) -> dict[str, Any]:
    named = (facts.attribution or {}).get("verdict") or {}
    return {
        "kind": facts.kind,
        "sentence": "",
        "causes": list(named.get("causes") or ()),
        "rollback": named.get("rollback"),
        "keep": list(named.get("keep") or ()),
        "reason": facts.pairs[facts.lead].verdict.reason,
        "stopped": None,
        "calls_needed": None,
        "candidates": [],
    }


def _decision(facts: CompareFacts) -> str:
    several = f"; claims adjusted over {len(facts.pairs)} comparisons (Holm)" if len(facts.pairs) > 1 else ""
    return (
        f"Paired by {facts.way}. Equivalent: two one-sided tests at {facts.alpha:g} exclude a loss and a gain of {facts.tolerance:g} "
        f"or more. Regression: a loss beyond chance (two-sided, {facts.alpha:g}) and estimated above {facts.tolerance:g}{several}. "
        "No call was made."
    )


# -- the sentence --------------------------------------------------------------------------------------------------------
def sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence: what moved, with its interval, how many queries flipped, and what the comparison can see."""
    block, scale = report["compare"], scale_of(report, quoting=quoting)
    pairs = block["pairs"]
    lead = pairs[block["lead"]]
    same = sum(pair["kind"] == block["kind"] for pair in pairs)
    head = WORDS[block["kind"]]
    if len(pairs) > 1:
        head += f" in {same} of {len(pairs)} ({quoting.name(lead['bad'])})"
    return f"{head}: {_moved(report, lead, scale, quoting)}{_rest(lead, block, scale)}.{_blamed(block, quoting)}"


def _moved(report: Report, pair: Mapping[str, Any], scale: Scale, quoting: Quoting) -> str:
    loss, metric = pair["loss"], quoting.name(report["metric"])
    if loss["good"] is None or loss["bad"] is None:
        return f"{metric} could not be compared"
    verb = "falls" if loss["bad"] < loss["good"] else "rises" if loss["bad"] > loss["good"] else "stays"
    good, bad = scale.value(loss["good"]), scale.value(loss["bad"])
    ends = f"at {good}" if verb == "stays" else f"from {good} to {bad}"
    return f"{metric} {verb} {ends} ({loss_phrase(loss, scale)}) on {count(loss['n'], 'paired query', 'paired queries')}"


def _rest(pair: Mapping[str, Any], block: Mapping[str, Any], scale: Scale) -> str:
    limit = scale.difference(block["tolerance"])
    if pair["kind"] == "equivalent":
        return f"; a loss and a gain of {limit} or more are excluded"
    if pair["kind"] == "no_worse":
        return f"; a loss of {limit} or more is excluded, a gain is not"
    if pair["kind"] == "undecided":
        return f"; {pair['reason']}{_power(pair, block, scale)}"
    return f"; {_flipped(pair)}"


def _flipped(pair: Mapping[str, Any]) -> str:
    verb = "scores" if pair["lost"] == 1 else "score"
    return f"{count(pair['lost'], 'query', 'queries')} {verb} lower, {count(pair['gained'])} higher"


def _power(pair: Mapping[str, Any], block: Mapping[str, Any], scale: Scale) -> str:
    """What the comparison can see, and how many queries would see the tolerance."""
    if pair["sees"] is None:
        return ""
    if scale.share and pair["sees"] >= 1:
        told = "; so few queries show no loss of any size"
    else:
        told = f"; this comparison can see {scale.difference(pair['sees'])}"
    if pair["queries_needed"] is None or pair["sees"] <= block["tolerance"]:
        return told
    return f"{told}, about {count(_rough(pair['queries_needed']), 'query', 'queries')} would see {scale.difference(block['tolerance'])}"


def _rough(n: int) -> int:
    """Two digits: a forecast has no more."""
    return int(float(f"{n:.2g}"))


def _blamed(block: Mapping[str, Any], quoting: Quoting) -> str:
    found = block["attribution"]
    return f" By axis: {quoting.prose(found['sentence'])}" if found and found["kind"] == "cause" else ""


# -- what every format arranges ------------------------------------------------------------------------------------------
def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[Part]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    decided = (report["verdict"]["reason"], report["decision"], f"run {report['run']}")
    found = [
        Part("Loss", tuple(_loss_lines(report, quoting))),
        Part("Configurations", build=configurations_table),
        Part("By axis", tuple(_axis_lines(report, quoting))),
        Part("Effects by axis", build=tables.effects_table),
        Part("Values of the combinations", build=cells_table),
        Part("Other metrics", build=metrics_table),
        Part("Segments", build=tables.segments_table),
        Part("Queries that score lower", build=lost_table),
        Part("Queries that score higher", build=gained_table),
        Part("Warnings", tuple(quoting.prose(line) for line in report.get("warnings") or ())),
        Part("Files", tuple(f"{capitalised(line)}." for line in log_sentences(report.get("log") or {}, quoting=quoting))),
        Part("How it was decided", tuple(quoting.prose(line) for line in decided)),
    ]
    return [part for part in found if part.lines or (part.build and part.build(report).rows)]


def _loss_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    pair, scale, block = leading(report), scale_of(report, quoting=quoting), report["compare"]
    yield f"{quoting.name(report['good'])} → {quoting.name(report['bad'])}, paired by {quoting.prose(block['paired_by'])}"
    if narrow := pair["equivalence"]["interval"]:
        low, high = (scale.number(end) for end in narrow)
        level, limit = 100 * (1 - 2 * block["alpha"]), scale.number(block["tolerance"])
        yield f"{level:g} % interval {low} to {high}: equivalence needs it inside -{limit} to {limit}"
    yield f"{_flipped(pair)}{_power(pair, block, scale)}"
    if bounds := pair["loss"].get("bounds"):
        low, high = (scale.number(end) for end in bounds)
        yield f"whatever the missing scores would have been, the loss lies between {low} and {high}"
    yield f"method: {quoting.prose(pair['loss']['method'])}"


def _axis_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    pair, found = leading(report), report["compare"]["attribution"]
    for each in pair["differs"]:
        yield f"{quoting.name(each['axis'])}: {quoting.name(each['good'] or 'none')} → {quoting.name(each['bad'] or 'none')}"
    if found:
        yield quoting.prose(found["sentence"])
    elif len(pair["differs"]) == 1 and pair["kind"] in ("regression", "improvement"):
        yield "nothing else that the files record differs"
    elif pair["differs"] and pair["kind"] in ("regression", "improvement"):
        names = listed([quoting.name(each["axis"]) for each in pair["differs"]])
        yield f"{names} changed at once: no configuration between the two says which of them did it"
