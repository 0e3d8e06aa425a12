"""A report for the terminal: the verdict first, then what it rests on; readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from bisect_ai.report import blame, canary, comparison, tables
from bisect_ai.report.churn import churn_lines, side_lines
from bisect_ai.report.clean import PLAIN, one_line
from bisect_ai.report.funnel import capitalised, log_sentences
from bisect_ai.report.screen import Screen
from bisect_ai.report.sentences import (
    Report,
    brings_back_phrase,
    candidates_phrase,
    cause_phrase,
    count,
    listed,
    logged_phrase,
    loss_phrase,
    scale_of,
    share_phrase,
    usage_sentence,
    verdict_sentence,
)
from bisect_ai.report.tree import render_named
from bisect_ai.report.verified import verified_lines
from bisect_ai.report.worth import judges_told

_STYLES = {
    "cause": "bold red",
    "no_regression": "bold green",
    "inconclusive": "bold yellow",
    "fixed": "bold green",
    "not_fixed": "bold red",
    "promote": "bold green",
    "roll_back": "bold red",
    "wait": "bold yellow",
    "fixed_with_collateral": "bold yellow",
    "regression": "bold red",
    "improvement": "bold green",
    "equivalent": "bold green",
    "no_worse": "bold green",
    "undecided": "bold yellow",
}


def render(report: Report, *, width: int = 80, colour: bool = False) -> str:
    """The report as text of `width` columns (at least 60), the verdict in its first line."""
    screen = Screen(width=width, colour=colour)
    screen.say(verdict_sentence(report), style=_STYLES.get(report["verdict"]["kind"], "bold"))
    for section in _sections(report):
        section(screen, report)
    return screen.page()


def _sections(report: Report) -> tuple[Callable[[Screen, Report], None], ...]:
    return (_canary,) if report.get("canary") else (_comparison,) if report.get("compare") else _SECTIONS


def _verified(screen: Screen, report: Report) -> None:
    if report.get("verify"):
        screen.heading(f"Verified: {one_line(report.get('bad'))}")
        for line in verified_lines(report, quoting=PLAIN):
            screen.say(line.strip(), lead="  " + " " * (len(line) - len(line.lstrip())))


def _canary(screen: Screen, report: Report) -> None:
    _parts(screen, report, canary.parts(report))


def _comparison(screen: Screen, report: Report) -> None:
    _parts(screen, report, comparison.parts(report))


def _parts(screen: Screen, report: Report, parts: Iterable[canary.Part]) -> None:
    for part in parts:
        screen.heading(part.title)
        for line in part.lines:
            screen.say(line, lead="  ! " if part.title == "Warnings" else "  ")
        if part.build is not None:
            screen.table(partial(_build, part.build, report))


def _loss(screen: Screen, report: Report) -> None:
    loss, scale = report.get("loss") or {}, scale_of(report)
    what = "Queries drawn at random" if report.get("verify") else "Loss"
    screen.heading(f"{what}: {one_line(report.get('good'))} → {one_line(report.get('bad'))}")
    metric = one_line(report["metric"])
    values = f"{metric} {scale.value(loss.get('good'))} → {scale.value(loss.get('bad'))}"
    screen.say(f"{values}: {loss_phrase(loss, scale)}; {count(loss.get('n'), 'query', 'queries')}", lead="  ")
    if loss.get("method"):
        screen.say(f"method: {one_line(loss['method'])}", lead="  ")
    if logged := loss.get("logged"):
        screen.say(f"in the log {logged_phrase(logged, scale)}", lead="  ")
    if loss.get("drift"):
        screen.say(f"good release, replay against log: {loss_phrase(loss['drift'], scale)}", lead="  ")


def _log(screen: Screen, report: Report) -> None:
    if log := log_sentences(report.get("log") or {}):
        screen.heading("Log")
        screen.say(". ".join(map(capitalised, log)) + ".", lead="  ")


def _causes(screen: Screen, report: Report) -> None:
    for cause in report["verdict"].get("causes") or ():
        screen.heading(f"Cause: {cause_phrase(cause)}")
        screen.say(share_phrase(cause), lead="  ")
        screen.say(tables.owned(cause["axes"], report, PLAIN), lead="  ")
        _changes(screen, report, cause)
    if others := blame.innocent(report, PLAIN):
        screen.say(others, lead="  ")
    if candidates := report["verdict"].get("candidates"):
        screen.heading("Candidates")
        screen.say(candidates_phrase(candidates), lead="  ")


def _changes(screen: Screen, report: Report, cause: Mapping[str, Any]) -> None:
    if axes := blame.guilty_axes(report, cause, PLAIN):
        for axis in axes:
            screen.say(axis.headline, lead="  ")
            render_named(screen, axis.named)
        return
    for title, changes in tables.changes_of(report, cause):
        screen.say(title, lead="  ")
        for change in changes[: tables.MOST_CHANGES]:
            screen.say(tables.change_line(change, PLAIN), lead="  - ")
        if (rest := len(changes) - tables.MOST_CHANGES) > 0:
            screen.say(f"{count(rest, 'more change', 'more changes')} in the JSON report", lead="  - ")


def _rollback(screen: Screen, report: Report) -> None:
    verdict, scale = report["verdict"], scale_of(report)
    if rollback := verdict.get("rollback"):
        screen.heading("Roll back")
        measured = f"{scale.value(rollback.get('value'))}, {scale.between(rollback.get('interval'))}"
        screen.say(tables.owned(rollback["axes"], report, PLAIN), lead="  ")
        screen.say(f"measured {measured}; {brings_back_phrase(rollback)}", lead="  ")
    if finer := blame.finer(report, PLAIN):
        screen.say(finer, lead="  ")
    if verdict.get("keep"):
        screen.heading("Keep")
        screen.say(listed([one_line(axis) for axis in verdict["keep"]]), lead="  ")


def _churn(screen: Screen, report: Report) -> None:
    for title, lines in (("Churn", churn_lines(report)), ("What else an axis moves", side_lines(report))):
        if lines:
            screen.heading(title)
            for line in lines:
                screen.say(line, lead="  ")


def _tables(screen: Screen, report: Report) -> None:
    for title, table in tables.TABLES.items():
        build = partial(_build, table, report)
        if build(" ").rows:
            screen.heading(title)
            screen.table(build)


def _build(table: Callable[..., tables.Table], report: Report, join: str) -> tables.Table:
    return table(report, quoting=PLAIN, join=join)


def _judges(screen: Screen, report: Report) -> None:
    for title, sentences in judges_told(report):
        screen.heading(title)
        for sentence in sentences:
            screen.say(sentence, lead="  ")


def _examples(screen: Screen, report: Report) -> None:
    title, examples = tables.examples_of(report)
    if examples:
        screen.heading(title)
    for example in examples:
        screen.block(tables.example_block(example))


def _lists(screen: Screen, report: Report) -> None:
    if suspects := report.get("suspects"):
        screen.heading("Suspects of the static check (no evidence)")
        for suspect in suspects:
            screen.say(tables.suspect_line(suspect, PLAIN), lead="  - ")
    if warnings := report.get("warnings"):
        screen.heading("Warnings")
        for warning in warnings:
            screen.say(one_line(warning), lead="  ! ")


def _decision(screen: Screen, report: Report) -> None:
    lines = [report["verdict"].get("reason"), blame.status(report), report.get("decision")]
    if report.get("design"):
        lines.append(f"Design: {one_line(report['design'])}")
    screen.heading("How it was decided")
    for line in filter(None, lines):
        screen.say(one_line(line), lead="  ")
    screen.heading("Cost")
    screen.say(f"{usage_sentence(report.get('usage') or {})}; run {one_line(report.get('run'))}", lead="  ")


_SECTIONS = (_verified, _loss, _causes, _rollback, _churn, _tables, _judges, _examples, _lists, _log, _decision)
