"""A canary's report: its verdict in one sentence, and the parts that every format arranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bisect_ai.report.log_summary import capitalised, log_sentences
from bisect_ai.report.phrases import Scale, count, loss_phrase, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.run_blocks import CanaryBlock, FurtherAnswers
from bisect_ai.report.tables import Table
from bisect_ai.report.untrusted_text import PLAIN, Quoting

MOST_SEGMENTS = 12
MOST_EVIDENCE = 1e12
"""Evidence is told up to this: beyond it its digits say nothing."""
KINDS = {"promote": "help", "roll_back": "harm", "wait": "warn"}
"""The verdicts, with their tone."""


def block_of(report: Report) -> CanaryBlock:
    """The block that makes a report a canary's."""
    assert report.canary is not None, "only a canary's report comes here"
    return report.canary


def canary_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence: promote, roll back or wait, the loss with its interval, and what is still needed."""
    canary, name, scale = block_of(report), quoting.name(report.bad), scale_of(report, quoting=quoting)
    after = "" if canary.decided_after is None else f" after {count(canary.decided_after, 'answer')}"
    if canary.kind == "promote":
        limit = scale.difference(canary.tolerance)
        return f"promote {name}: {_change(report, scale, quoting)}; a loss of {limit} or more is excluded{after}."
    if canary.kind == "roll_back":
        return f"roll back {name}: {_change(report, scale, quoting)}; that it loses nothing is excluded{after}."
    return f"wait: {_change(report, scale, quoting)}; {still_needed(canary, scale)}."


def _change(report: Report, scale: Scale, quoting: Quoting) -> str:
    loss, metric = report.loss, quoting.name(report.metric)
    if loss.good is None or loss.bad is None:
        return f"no answers of {quoting.name(report.good)} and {quoting.name(report.bad)} stand side by side yet"
    verb = "falls" if loss.bad < loss.good else "rises" if loss.bad > loss.good else "stays"
    ends = f"at {scale.value(loss.good)}" if verb == "stays" else f"from {scale.value(loss.good)} to {scale.value(loss.bad)}"
    return f"{metric} {verb} {ends} ({loss_phrase(loss, scale)})"


def still_needed(canary: CanaryBlock, scale: Scale) -> str:
    """How many more answers would settle it, if it loses nothing and if it loses twice the tolerance."""
    promote, back = canary.needed.promote, canary.needed.roll_back
    first = f"if it loses nothing, {_answers(promote)} would probably promote it"
    return f"{first}; if it loses {scale.difference(back.if_loss)}, {_answers(back)} would probably roll it back"


def _answers(needed: FurtherAnswers) -> str:
    if needed.canary is None or needed.baseline is None:
        return "no number of further answers"
    more, beside = count(_rough(needed.canary), "more scored answer"), count(_rough(needed.baseline))
    return f"about {more} of the canary beside {beside} of the baseline"


def _rough(n: int) -> int:
    """Two digits: a forecast has no more."""
    return int(float(f"{n:.2g}"))


# -- what every format arranges ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CanaryPart:
    """A titled part of the report: sentences, or what builds its table."""

    title: str
    lines: tuple[str, ...] = ()
    build: Callable[..., Table] | None = None


def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[CanaryPart]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    decided = (report.verdict.reason, report.decision, f"run {report.run}")
    found = [
        CanaryPart("Loss", tuple(_loss_lines(report, quoting))),
        CanaryPart("Evidence", build=evidence_table),
        CanaryPart("Answers", build=answers_table),
        CanaryPart("Traffic", build=mix_table),
        CanaryPart("How the interval tightened", build=looks_table),
        CanaryPart("Warnings", tuple(quoting.prose(line) for line in report.warnings)),
        CanaryPart("Log", tuple(f"{capitalised(line)}." for line in log_sentences(report.log, quoting=quoting))),
        CanaryPart("How it was decided", tuple(quoting.prose(line) for line in decided)),
    ]
    return [part for part in found if part.lines or (part.build and part.build(report).rows)]


def _loss_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    loss, scale = report.loss, scale_of(report, quoting=quoting)
    yield f"{quoting.name(report.good)} (baseline) → {quoting.name(report.bad)} (canary)"
    yield f"{_change(report, scale, quoting)}; {count(loss.n, 'block')}"
    yield f"method: {quoting.prose(loss.method)}"


def evidence_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """For each verdict the wealth staked on it, what it must pass, and what would probably do it."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    promote, back = canary.evidence.promote, canary.evidence.roll_back
    rows: tuple[tuple[str, ...], ...] = tuple(
        (words, _wealth(wealth), _wealth(canary.bound)) for words, wealth in (("promote", promote), ("roll back", back))
    )
    columns: tuple[str, ...] = ("verdict", "evidence", "must pass")
    if canary.kind == "wait":
        columns += ("if it loses", "more of the canary", "more of the baseline")
        needed = (canary.needed.promote, canary.needed.roll_back)
        rows = tuple((*row, *_outlook(each, scale)) for row, each in zip(rows, needed, strict=True))
    return Table(columns, rows)


def _outlook(needed: FurtherAnswers, scale: Scale) -> tuple[str, ...]:
    more = ("none would do" if n is None else count(_rough(n)) for n in (needed.canary, needed.baseline))
    return scale.difference(needed.if_loss), *more


def _wealth(x: float | None) -> str:
    return "–" if x is None else f"{x:,.0f}" if 100 <= x < 1e6 else f"{x:.3g}"


def answers_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The answers of each release: all, those without a score, those that counted."""
    canary = block_of(report)
    sides = (("baseline", report.good, canary.answers.baseline), ("canary", report.bad, canary.answers.canary))
    rows = tuple(
        (f"{which}: {quoting.name(name)}", *(count(n) for n in (tally.answers, tally.unscored, tally.counted)))
        for which, name, tally in sides
    )
    told = {
        "of users or sessions that had counted before": canary.repeated,
        "not beside an answer of the other release yet": canary.unpaired,
    }
    notes = tuple(f"{count(n, 'answer')} left out: {words}." for words, n in told.items() if n)
    return Table(("release", "answers", "without score", "counted"), rows, notes)


def mix_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The share of each segment in the traffic of either release."""
    canary = block_of(report)
    mix = sorted(canary.mix, key=lambda row: (-row.baseline - row.canary, row.name))
    baselines, canaries = max(sum(row.baseline for row in mix), 1), max(sum(row.canary for row in mix), 1)
    rows = tuple(
        (quoting.name(row.name or "(none)"), f"{100 * row.baseline / baselines:.1f} %", f"{100 * row.canary / canaries:.1f} %")
        for row in mix[:MOST_SEGMENTS]
    )
    rest = len(mix) - len(rows)
    notes = (f"{count(rest, 'more segment')} in the JSON report.",) if rest > 0 else ()
    return Table((quoting.prose(canary.segment or "segment"), "of the baseline", "of the canary"), rows, notes)


def looks_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """A few looks from the first to the last."""
    canary, scale = block_of(report), scale_of(report, quoting=quoting)
    chosen = canary.looks[-1::-4][::-1]
    rows = tuple((count(k.answers, "answer"), count(k.blocks), scale.bracket(k.loss, k.interval, join=join)) for k in chosen)
    unit = "points" if scale.share else "units"
    notes = ("Answers without a score left out; the verdict's own interval holds for every value of theirs.",)
    return Table(("after", "blocks", f"loss in {unit}"), rows, notes if canary.missing_bounded else ())
