"""A canary's report: its facts as one plain JSON value, its verdict in one sentence, and the parts that every format arranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.canary import CanaryFinding, CanaryRule, Needed, Side
from bisect_ai.report.log_summary import capitalised, log_sentences
from bisect_ai.report.sentences import Report, Scale, count, loss_phrase, scale_of
from bisect_ai.report.tables import Table
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.view import DIGITS, SCHEMA

MOST_SEGMENTS = 12
MOST_EVIDENCE = 1e12
"""Evidence is told up to this: beyond it its digits say nothing."""
KINDS = {"promote": "help", "roll_back": "harm", "wait": "warn"}
"""The verdicts, with their tone."""


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
    report["verdict"]["sentence"] = sentence(report)
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


def sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence: promote, roll back or wait, the loss with its interval, and what is still needed."""
    canary, name, scale = report["canary"], quoting.name(report["bad"]), scale_of(report, quoting=quoting)
    after = "" if canary["decided_after"] is None else f" after {count(canary['decided_after'], 'answer')}"
    if canary["kind"] == "promote":
        limit = scale.difference(canary["tolerance"])
        return f"promote {name}: {_change(report, scale, quoting)}; a loss of {limit} or more is excluded{after}."
    if canary["kind"] == "roll_back":
        return f"roll back {name}: {_change(report, scale, quoting)}; that it loses nothing is excluded{after}."
    return f"wait: {_change(report, scale, quoting)}; {_still_needed(canary, scale)}."


def _change(report: Report, scale: Scale, quoting: Quoting) -> str:
    loss, metric = report["loss"], quoting.name(report["metric"])
    if loss["good"] is None or loss["bad"] is None:
        return f"no answers of {quoting.name(report['good'])} and {quoting.name(report['bad'])} stand side by side yet"
    verb = "falls" if loss["bad"] < loss["good"] else "rises" if loss["bad"] > loss["good"] else "stays"
    ends = (
        f"at {scale.value(loss['good'])}"
        if verb == "stays"
        else f"from {scale.value(loss['good'])} to {scale.value(loss['bad'])}"
    )
    return f"{metric} {verb} {ends} ({loss_phrase(loss, scale)})"


def _still_needed(canary: Mapping[str, Any], scale: Scale) -> str:
    promote, back = canary["needed"]["promote"], canary["needed"]["roll_back"]
    first = f"if it loses nothing, {_answers(promote)} would probably promote it"
    return f"{first}; if it loses {scale.difference(back['if_loss'])}, {_answers(back)} would probably roll it back"


def _answers(needed: Mapping[str, Any]) -> str:
    if needed["canary"] is None:
        return "no number of further answers"
    more, beside = (count(_rough(needed[side]), noun) for side, noun in (("canary", "more scored answer"), ("baseline", "")))
    return f"about {more} of the canary beside {beside} of the baseline"


def _rough(n: int) -> int:
    """Two digits: a forecast has no more."""
    return int(float(f"{n:.2g}"))


# -- what every format arranges ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    """A titled part of the report: sentences, or what builds its table."""

    title: str
    lines: tuple[str, ...] = ()
    build: Callable[..., Table] | None = None


def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[Part]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    decided = (report["verdict"]["reason"], report["decision"], f"run {report['run']}")
    found = [
        Part("Loss", tuple(_loss_lines(report, quoting))),
        Part("Evidence", build=evidence_table),
        Part("Answers", build=answers_table),
        Part("Traffic", build=mix_table),
        Part("How the interval tightened", build=looks_table),
        Part("Warnings", tuple(quoting.prose(line) for line in report.get("warnings") or ())),
        Part("Log", tuple(f"{capitalised(line)}." for line in log_sentences(report.get("log") or {}, quoting=quoting))),
        Part("How it was decided", tuple(quoting.prose(line) for line in decided)),
    ]
    return [part for part in found if part.lines or (part.build and part.build(report).rows)]


def _loss_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    loss, scale = report["loss"], scale_of(report, quoting=quoting)
    yield f"{quoting.name(report['good'])} (baseline) → {quoting.name(report['bad'])} (canary)"
    yield f"{_change(report, scale, quoting)}; {count(loss['n'], 'block')}"
    yield f"method: {quoting.prose(loss['method'])}"


def evidence_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """For each verdict the wealth staked on it, what it must pass, and what would probably do it."""
    canary, scale = report["canary"], scale_of(report, quoting=quoting)
    wanted = (("promote", "promote"), ("roll_back", "roll back"))
    rows: tuple[tuple[str, ...], ...] = tuple(
        (words, _wealth(canary["evidence"][kind]), _wealth(canary["bound"])) for kind, words in wanted
    )
    columns: tuple[str, ...] = ("verdict", "evidence", "must pass")
    if canary["kind"] == "wait":
        columns += ("if it loses", "more of the canary", "more of the baseline")
        rows = tuple((*row, *_outlook(canary["needed"][kind], scale)) for row, (kind, _) in zip(rows, wanted, strict=True))
    return Table(columns, rows)


def _outlook(needed: Mapping[str, Any], scale: Scale) -> tuple[str, ...]:
    more = ("none would do" if needed[side] is None else count(_rough(needed[side])) for side in ("canary", "baseline"))
    return scale.difference(needed["if_loss"]), *more


def _wealth(x: float | None) -> str:
    return "–" if x is None else f"{x:,.0f}" if 100 <= x < 1e6 else f"{x:.3g}"


def answers_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The answers of each release: all, those without a score, those that counted."""
    canary = report["canary"]
    rows = tuple(
        (
            f"{which}: {quoting.name(report[side])}",
            *(count(canary["answers"][which][key]) for key in ("answers", "unscored", "counted")),
        )
        for which, side in (("baseline", "good"), ("canary", "bad"))
    )
    told = {
        "repeated": "of users or sessions that had counted before",
        "unpaired": "not beside an answer of the other release yet",
    }
    notes = tuple(f"{count(canary[key], 'answer')} left out: {words}." for key, words in told.items() if canary[key])
    return Table(("release", "answers", "without score", "counted"), rows, notes)


def mix_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The share of each segment in the traffic of either release."""
    mix = sorted(report["canary"]["mix"], key=lambda row: (-row["baseline"] - row["canary"], row["name"]))
    totals = {which: max(sum(row[which] for row in mix), 1) for which in ("baseline", "canary")}
    rows = tuple(
        (quoting.name(row["name"] or "(none)"), *(f"{100 * row[which] / totals[which]:.1f} %" for which in totals))
        for row in mix[:MOST_SEGMENTS]
    )
    rest = len(mix) - len(rows)
    notes = (f"{count(rest, 'more segment')} in the JSON report.",) if rest > 0 else ()
    return Table((quoting.prose(report["canary"]["segment"] or "segment"), "of the baseline", "of the canary"), rows, notes)


def looks_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """A few looks from the first to the last."""
    looks, scale = report["canary"]["looks"], scale_of(report, quoting=quoting)
    chosen = looks[-1::-4][::-1]
    rows = tuple(
        (count(k["answers"], "answer"), count(k["blocks"]), scale.bracket(k["loss"], k["interval"], join=join)) for k in chosen
    )
    unit = "points" if scale.share else "units"
    notes = ("Answers without a score left out; the verdict's own interval holds for every value of theirs.",)
    bounded = report["canary"]["missing_bounded"]
    return Table(("after", "blocks", f"loss in {unit}"), rows, notes if bounded else ())
