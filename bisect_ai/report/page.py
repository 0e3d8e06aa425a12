"""What the HTML page says, arranged from the report alone: frozen values of plain text, numbers with their intervals.

Nothing here knows markup. Untrusted text is cleaned here already, and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bisect_ai.report import tables
from bisect_ai.report.accounting import (
    SUSPECTS,
    WARNINGS,
    capitalised,
    cost_told,
    judges_told,
    log_sentences,
    suspect_line,
    usage_sentence,
)
from bisect_ai.report.blocks import WHOLE, Fact, PageList, Scale, Table, clipped, count, duration, joined, listed
from bisect_ai.report.change_report import churn_lines, side_lines
from bisect_ai.report.examples import Example, Pieces, compared, example_of
from bisect_ai.report.measured_values import ReportedCell
from bisect_ai.report.phrases import (
    candidates_phrase,
    cause_phrase,
    is_inseparable,
    logged_phrase,
    loss_phrase,
    measured_phrase,
    recovers_phrase,
    rolled_back_changes,
    share_phrase,
)
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.report_values import UNMEASURED, NamedCause, Report, fine_scale, scale_of, tone_of
from bisect_ai.report.tables import valued_cells
from bisect_ai.report.untrusted_text import PLAIN, as_text, one_line, release_name, show
from bisect_ai.report.verdict_sentence import verdict_sentence, verified_lines

MOST_CHANGES = 25  # unfolded changes of an axis; the JSON report has all
OPEN_NAMED, OPEN_OTHERS = 8, 2  # unfolded from the start: those that were measured, and the first of others
MOST_EXAMPLES = 8  # the table of answers has all
TEXT_LIMIT = 2000  # characters of a change on the page


@dataclass(frozen=True)
class ChangeNode:
    """One change: where, what, whose; both texts with the differing words marked; its measured share where it has one."""

    path: str
    summary: str
    by: str
    before: Pieces
    after: Pieces
    measured: str
    # How it acts with other changes.
    others: str


@dataclass(frozen=True)
class AxisNode:
    """A guilty axis with its owner; `title` says whether the changes below were told apart."""

    axis: str
    owner: str
    title: str
    changes: tuple[ChangeNode, ...]
    # How many of them are unfolded.
    open: int
    more: str


@dataclass(frozen=True)
class CauseNode:
    """A cause: its axes and mode in words, its share, the axes inside."""

    phrase: str
    share: str
    axes: tuple[AxisNode, ...]


@dataclass(frozen=True)
class GridRow:
    """One cell: for each axis whether it came from the bad release, its value with interval, what ran."""

    bad: tuple[bool, ...]
    value: str
    n: str
    trials: str
    errors: str
    note: str


@dataclass(frozen=True)
class Grid:
    """All cells of the run, those with a value first."""

    axes: tuple[str, ...]
    column: str
    rows: tuple[GridRow, ...]
    more: str


@dataclass(frozen=True)
class Page:
    """Everything on the page in the order that it is read."""

    title: str
    run: str
    releases: tuple[str, str]
    kind: str
    tone: str
    sentence: str
    # What the two releases are: good, and bad or a candidate fix.
    roles: tuple[str, str]
    verified: tuple[str, ...]
    facts: tuple[Fact, ...]
    loss: str
    causes: tuple[CauseNode, ...]
    candidates: str
    roll_back: tuple[str, ...]
    keep: str
    # What axes do that are not to blame: shuffled answers, side metrics moved.
    churn: tuple[PageList, ...]
    tables: Mapping[str, Table]
    grid: Grid
    examples: tuple[Example, ...]
    frozen: tuple[PageList, ...]
    decided: tuple[PageList, ...]


def arrange(report: Report) -> Page:
    """The page of a report, below its card."""
    verdict = report.verdict
    known = {"cause": "Cause found", **dict.fromkeys(UNMEASURED, "No verdict")}
    kind = known.get(verdict.kind, one_line(verdict.kind).replace("_", " ").capitalize())
    names = (release_name(report.good, PLAIN), release_name(report.bad, PLAIN))
    return Page(
        title=f"{kind}: {one_line(report.metric)}, {names[0]} → {names[1]}" if report.good else kind,
        run=one_line(report.run),
        releases=names,
        kind=kind,
        tone=tone_of(report),
        sentence=verdict_sentence(report),
        roles=("good", tables.second(report)),
        verified=tuple(verified_lines(report, quoting=PLAIN)),
        facts=tuple(_facts(report)),
        loss=_loss_line(report),
        causes=tuple(_cause(report, cause) for cause in verdict.causes),
        candidates=candidates_phrase(verdict.candidates),
        roll_back=_roll_back(report),
        keep=listed([one_line(axis) for axis in verdict.keep]),
        churn=tuple(part for part in _churn(report) if part.lines),
        tables={title: table(report) for title, table in tables.TABLES.items()},
        grid=_grid(report),
        examples=tuple(example_of(e, tables.second(report)) for e in report.examples[:MOST_EXAMPLES]),
        frozen=tuple(part for part in frozen_lists(report) if part.lines),
        decided=tuple(part for part in decided_lists(report) if part.lines),
    )


def _facts(report: Report) -> Iterator[Fact]:
    if report.loss.estimate is not None or report.verify:
        yield from _measured_facts(report)
    usage = report.usage
    if usage.calls is not None:
        yield Fact("Spent", count(usage.calls, "call"), f"{cost_told(usage)}, {duration(usage.seconds)}")


def _measured_facts(report: Report) -> Iterator[Fact]:
    loss, scale = report.loss, fine_scale(report, PLAIN)
    metric = one_line(report.metric, limit=40)
    if report.verdict.kind == "drift" and loss.drift is not None and loss.drift.estimate is not None:
        yield Fact("Lost since the log", scale.difference(loss.drift.estimate), _interval(scale, loss.drift.interval), "harm")
    if verified := report.verify:
        back, whole = verified.again.restored, WHOLE
        tone = {"not_fixed": "harm", "undecided": ""}.get(verified.kind, "help")
        part, ends = clipped(back.estimate, back.interval)
        yield Fact("of what was lost is back", whole.value(part), _interval(whole, ends), tone)
    what, gain = _loss_label(report), "Gain on other queries" if verified else "Gain"
    is_proved = loss.interval is not None and loss.interval[0] > 0
    yield tables.loss_fact(loss, scale, "harm" if is_proved else "", what=what, gain=gain)
    second = "candidate fix" if report.verify else "bad release"
    for side, measured, words in (("good", loss.good, "good release"), ("bad", loss.bad, second)):
        yield Fact(f"{metric}, {words}", scale.value(measured), _interval(scale, tables.side_interval(report, side)))
    if rollback := report.verdict.rollback:
        names = listed([one_line(axis, limit=40) for axis in rollback.axes])
        yield Fact(
            f"measured with {names} rolled back",
            scale.value(rollback.value),
            "; ".join(filter(None, (_interval(scale, rollback.interval), recovers_phrase(report, rollback)))),
            "help",
        )


def _loss_label(report: Report) -> str:
    return (
        "Loss on other queries" if report.verify else "Loss between the releases" if report.verdict.kind == "drift" else "Loss"
    )


def _interval(scale: Scale, ends: Sequence[float] | None) -> str:
    return scale.between(ends) if ends is not None else ""


def _loss_line(report: Report) -> str:
    loss, scale = report.loss, fine_scale(report, PLAIN)
    values = f"{scale.value(loss.good)} → {scale.value(loss.bad)}"
    queries = count(loss.n, "query", "queries")
    return f"{one_line(report.metric)} {values}: {loss_phrase(loss, scale)}; {queries}."


def _cause(report: Report, cause: NamedCause) -> CauseNode:
    return CauseNode(cause_phrase(cause), share_phrase(cause), tuple(_axis(report, cause, axis) for axis in cause.axes))


def _axis(report: Report, cause: NamedCause, axis: str) -> AxisNode:
    named = [change for change in cause.changes if change.axis == axis]
    others = [change for change in report.changes if change.axis == axis]
    changes = named or others
    title = "" if named or len(others) == 1 else f"Not narrowed down; any of:{_why_not(report, axis)}"
    more = len(changes) - MOST_CHANGES
    owner = report.owners.get(axis)
    return AxisNode(
        one_line(axis),
        f"owner {one_line(owner)}" if owner else "no owner",
        title if changes else "No change inside it is recorded in the report.",
        tuple(_change(change) for change in changes[:MOST_CHANGES]),
        OPEN_NAMED if named else OPEN_OTHERS,
        f"{count(more, 'more change')} in the JSON report" if more > 0 else "",
    )


def _why_not(report: Report, axis: str) -> str:
    """What the drill-down says about an axis in which it named nothing."""
    inside = report.drill.axes if report.drill else ()
    reason = next((each.reason for each in inside if each.axis == axis), "")
    return f" ({one_line(reason)})" if reason else ""


def _change(change: NamedChange) -> ChangeNode:
    before, after = compared(as_text(change.before, indent=1), as_text(change.after, indent=1), limit=TEXT_LIMIT)
    measured = share_phrase(change) if change.share is not None else ""
    if change.n:
        measured = "; ".join(filter(None, (measured, f"seen on {count(change.n, 'query', 'queries')}")))
    path, summary = one_line(change.path or change.axis), one_line(change.summary)
    if before and after and " → " in summary:  # the texts below say it in full
        summary = ""
    return ChangeNode(path, summary, by_line(change), before, after, measured, _others(change))


def _others(change: NamedChange) -> str:
    names = [one_line(f"{other.axis} {other.path}") for other in change.with_]
    if not names:
        return ""
    if is_inseparable(change):
        return f"not told apart from {listed(names)}, as they only run together"
    if change.mode == "unsettled":
        return f"how it acts together with {listed(names)} is not settled"
    return (
        f"only together with {listed(names)}" if change.mode == "together" else f"{one_line(change.mode)} with {listed(names)}"
    )


def by_line(change: NamedChange) -> str:
    """Who changed it, when and why, as far as it is known."""
    known = change.origin
    who = one_line(known.author or known.owner or "")
    parts = [who, one_line(known.commit or known.source or ""), one_line(known.at or "")]
    why = one_line(known.why or known.reason or known.subject or "", limit=200)
    line = ", ".join(filter(None, parts))
    return f"{line}: {why}" if line and why else line or why


def _roll_back(report: Report) -> tuple[str, ...]:
    rollback, scale = report.verdict.rollback, fine_scale(report, PLAIN)
    if not rollback:
        return ()
    owners = tables.owned(rollback.axes, report, PLAIN)
    lines = [f"{owners}: {measured_phrase(report, rollback, scale)}."]
    if (finer := rollback.finer) and rollback.changes:
        lines.append(f"Or only {rolled_back_changes(report, PLAIN)}: {measured_phrase(report, finer, scale)}.")
    return tuple(lines)


def _grid(report: Report) -> Grid:
    axes, scale = list(report.axes), scale_of(report)
    valued = valued_cells(report)
    told = {cell.bad_axes for cell in valued}
    others = [c for c in report.cells if c.bad_axes not in told and c.status != "not_run"]
    not_run = len(report.cells) - len(valued) - len(others)
    rows = tuple(_grid_row(cell, axes, scale) for cell in [*valued, *others])
    unit = "%" if scale.share else scale.unit
    return Grid(
        tuple(one_line(axis, limit=40) for axis in axes),
        f"value in {unit}" if unit else "value",
        rows,
        f"{count(not_run, 'combination')} not run." if not_run else "",
    )


def _grid_row(cell: ReportedCell, axes: Sequence[str], scale: Scale) -> GridRow:
    value = scale.bracket(cell.value, cell.interval)
    is_blank = cell.value is None
    note = "cannot run" if cell.status == "infeasible" else one_line(cell.method) if is_blank else ""
    n = count(cell.n) if cell.n is not None and not is_blank else ""
    bad = tuple(axis in cell.bad_axes for axis in axes)
    return GridRow(bad, "–" if is_blank else value, n, count(cell.trials or 0), count(cell.errors or 0), note)


def _churn(report: Report) -> Iterator[PageList]:
    yield PageList("Churn", tuple(churn_lines(report)))
    yield PageList("What else an axis moves", tuple(side_lines(report)))


def frozen_lists(report: Report) -> Iterator[PageList]:
    """What was frozen, what was run again, and what is missing."""
    cells = list(report.cells)
    ran = [c for c in cells if c.status == "run"]
    yield PageList("Frozen", tuple(_what_was_frozen(report)))
    yield PageList("Run again", tuple(_what_ran(report, ran)))
    yield PageList("Missing", tuple(_what_is_missing(report, cells)))
    yield PageList(WARNINGS, tuple(show(w) for w in report.warnings))
    suspects = tuple(suspect_line(s, PLAIN) for s in report.suspects)
    yield PageList(SUSPECTS, suspects)


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
