"""The parts that pages share, and the folds at their end: what was frozen, what ran again, what is missing, and how it was decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bisect_ai.report.accounting import capitalised, judges_told, log_sentences, suspect_line, usage_sentence
from bisect_ai.report.blocks import PageList
from bisect_ai.report.measured_values import ReportedCell
from bisect_ai.report.number_text import count, joined, listed
from bisect_ai.report.phrases import logged_phrase, loss_phrase
from bisect_ai.report.report_values import Report, fine_scale
from bisect_ai.report.untrusted_text import PLAIN, one_line, show


def frozen_lists(report: Report) -> Iterator[PageList]:
    """What was frozen, what was run again, and what is missing."""
    cells = list(report.cells)
    ran = [c for c in cells if c.status == "run"]
    yield PageList("Frozen", tuple(_what_was_frozen(report)))
    yield PageList("Run again", tuple(_what_ran(report, ran)))
    yield PageList("Missing", tuple(_what_is_missing(report, cells)))
    yield PageList("Warnings", tuple(show(w) for w in report.warnings))
    suspects = tuple(suspect_line(s, PLAIN) for s in report.suspects)
    yield PageList("Suspects of the static check (no evidence)", suspects)


def _what_was_frozen(report: Report) -> Iterator[str]:
    axes = [one_line(axis) for axis in report.axes]
    names = f"{one_line(report.good)} and {one_line(report.bad)}"
    yield f"Both releases, {names}: every axis resolved, hashed and kept fixed for the whole run."
    if axes:
        yield f"{count(len(axes), 'axis differs', 'axes differ')}: {listed(axes)}."
    if report.changes:
        yield f"{count(len(report.changes), 'change')} between them, listed in the JSON report."
    yield from (f"{capitalised(sentence)}." for sentence in log_sentences(report.log))


def _what_ran(report: Report, ran: Sequence[ReportedCell]) -> Iterator[str]:
    trials = sum(cell.trials or 0 for cell in ran)
    if ran:
        yield f"{count(trials, 'trial')} in {count(len(ran), 'combination')} of the two releases."
    loss, scale = report.loss, fine_scale(report, PLAIN)
    if loss.logged:
        yield f"In the log: {logged_phrase(loss.logged, scale)}."
    if loss.drift:
        yield f"Good release, replay against log: {loss_phrase(loss.drift, scale)}."


def _refused_cell(cell: ReportedCell) -> str:
    why = f" ({one_line(cell.reason)})" if cell.reason else ""
    return (joined(cell.bad_axes, PLAIN) or "good") + why


def _what_is_missing(report: Report, cells: Sequence[ReportedCell]) -> Iterator[str]:
    errors = sum(cell.errors or 0 for cell in cells)
    yield f"{count(errors, 'trial')} without an answer (timeouts, limits, server errors)." if errors else "No trial failed."
    infeasible = [_refused_cell(c) for c in cells if c.status == "infeasible"]
    if infeasible:
        yield f"Combinations that cannot run, left out: {'; '.join(infeasible)}."
    unmeasured = sum(e.estimate is None for e in report.effects)
    if unmeasured:
        yield f"{count(unmeasured, 'effect')} not estimated; the tables say why."


def decided_lists(report: Report) -> Iterator[PageList]:
    """By what rule and method, what judges did, what it cost, and what all this cannot say."""
    rule = [report.verdict.reason, report.decision]
    rule += [f"Drill-down: {one_line(report.drill.reason)}"] if report.drill and report.drill.reason else []
    rule += [f"Design: {one_line(report.design)}."] if report.design else []
    rule += [f"The loss and its interval: {one_line(report.loss.method)}"] if report.loss.method else []
    yield PageList("Rule", tuple(_sentence(line) for line in rule if line))
    for title, sentences in judges_told(report):
        yield PageList(title, tuple(f"{capitalised(sentence)}." for sentence in sentences))
    yield PageList("Cost", (f"{usage_sentence(report.usage)}.",))
    yield PageList("Limits", LIMITS)


def _sentence(text: str) -> str:
    line = one_line(text)
    return (line[:1].upper() + line[1:]).rstrip(".") + "."


LIMITS = (
    "Intervals speak of the queries of this log; other traffic may behave otherwise.",
    "The score is the scorer's: what it does not see, the verdict does not know.",
    "Answers that change by themselves between reruns widen every interval.",
    "“not estimated” means that the run did not measure it, never that it is zero.",
)
