"""A report for the terminal: the verdict first, then what it rests on; readable at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from bisect_ai.report import change_report, tables
from bisect_ai.report.accounting import SUSPECTS, WARNINGS, judges_told, usage_sentence, with_closing
from bisect_ai.report.blocks import ReportPart, Table, count, listed
from bisect_ai.report.card import Card, GuiltyText, card_of, shortened
from bisect_ai.report.change_report import churn_lines, side_lines
from bisect_ai.report.examples import example_block, examples_of
from bisect_ai.report.headline import headline
from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import candidates_phrase, cause_phrase, logged_phrase, loss_phrase, measured_phrase, share_phrase
from bisect_ai.report.planning_text import render_named
from bisect_ai.report.report_values import NamedCause, Report, ReportLike, fine_scale, tone_of
from bisect_ai.report.standpoint import HERE, Standpoint, arguments
from bisect_ai.report.terminal_page import Screen
from bisect_ai.report.untrusted_text import PLAIN, one_line
from bisect_ai.report.verdict_sentence import score_parts, verdict_sentence, verified_lines

_STYLES = {"harm": "bold red", "help": "bold green", "warn": "bold yellow", "quiet": "bold"}


def first_line(report: ReportLike) -> str:
    """The first sentence of the verdict alone."""
    return headline(read(Report, report)) + "\n"


def card(report: ReportLike, *, width: int = 80, colour: bool = False, at: Standpoint = HERE) -> str:
    """The card alone, as text of `width` columns (at least 60): at most twenty lines."""
    report = read(Report, report)
    return render_card(report, width=width, colour=colour, tone=_STYLES[tone_of(report)], at=at)


def render(report: ReportLike, *, width: int = 80, colour: bool = False, at: Standpoint = HERE) -> str:
    """The report as text of `width` columns (at least 60): the verdict in its first line, the card in its last ones."""
    report = read(Report, report)
    screen = Screen(width=width, colour=colour)
    screen.say(verdict_sentence(report), style=_STYLES[tone_of(report)])
    for section in _sections(report):
        section(screen, report)
    rule = "─" * screen.width
    return f"{screen.page()}\n{rule}\n{card(report, width=width, colour=colour, at=at)}"


def _sections(report: Report) -> tuple[Callable[[Screen, Report], None], ...]:
    parts = score_parts(report)
    return _SECTIONS if parts is None else (lambda screen, report: _parts(screen, report, parts(report)),)


def _verified(screen: Screen, report: Report) -> None:
    if report.verify:
        screen.heading(f"Verified: {one_line(report.bad)}")
        for line in verified_lines(report, quoting=PLAIN):
            screen.say(line.strip(), lead="  " + " " * (len(line) - len(line.lstrip())))


def _parts(screen: Screen, report: Report, parts: Iterable[ReportPart]) -> None:
    leads = {WARNINGS: "  ! ", SUSPECTS: "  - "}
    for part in parts:
        screen.heading(part.title)
        for line in part.lines:
            screen.say(line, lead=leads.get(part.title, "  "))
        if part.build is not None:
            screen.table(partial(_build, part.build, report))


def _loss(screen: Screen, report: Report) -> None:
    loss, scale = report.loss, fine_scale(report, PLAIN)
    what = "Queries drawn at random" if report.verify else "Loss"
    screen.heading(f"{what}: {one_line(report.good)} → {one_line(report.bad)}")
    metric = one_line(report.metric)
    if not metric:  # a gate that measured nothing
        screen.say("not measured", lead="  ")
        return
    values = f"{metric} {scale.value(loss.good)} → {scale.value(loss.bad)}"
    screen.say(f"{values}: {loss_phrase(loss, scale)}; {count(loss.n, 'query', 'queries')}", lead="  ")
    if loss.method:
        screen.say(f"method: {one_line(loss.method)}", lead="  ")
    if logged := loss.logged:
        screen.say(f"in the log {logged_phrase(logged, scale)}", lead="  ")
    if loss.drift:
        screen.say(f"good release, replay against log: {loss_phrase(loss.drift, scale)}", lead="  ")


def _causes(screen: Screen, report: Report) -> None:
    for cause in report.verdict.causes:
        screen.heading(f"Cause: {cause_phrase(cause)}")
        screen.say(share_phrase(cause), lead="  ")
        screen.say(tables.owned(cause.axes, report, PLAIN), lead="  ")
        _changes(screen, report, cause)
    if others := change_report.innocent(report, PLAIN):
        screen.say(others, lead="  ")
    if candidates := report.verdict.candidates:
        screen.heading("Candidates")
        screen.say(candidates_phrase(candidates), lead="  ")


def _changes(screen: Screen, report: Report, cause: NamedCause) -> None:
    if axes := change_report.guilty_axes(report, cause, PLAIN):
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
    verdict, scale = report.verdict, fine_scale(report, PLAIN)
    if rollback := verdict.rollback:
        screen.heading("Roll back")
        screen.say(tables.owned(rollback.axes, report, PLAIN), lead="  ")
        screen.say(measured_phrase(report, rollback, scale), lead="  ")
    if finer := change_report.finer(report, PLAIN):
        screen.say(finer, lead="  ")
    if verdict.keep:
        screen.heading("Keep")
        screen.say(listed([one_line(axis) for axis in verdict.keep]), lead="  ")


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


def _build(table: Callable[..., Table], report: Report, join: str) -> Table:
    return table(report, quoting=PLAIN, join=join)


def _judges(screen: Screen, report: Report) -> None:
    for title, sentences in judges_told(report):
        screen.heading(title)
        for sentence in sentences:
            screen.say(sentence, lead="  ")


def _examples(screen: Screen, report: Report) -> None:
    title, examples = examples_of(report)
    if examples:
        screen.heading(title)
    for example in examples:
        screen.block(example_block(example, second=tables.second(report)))


def _closing(screen: Screen, report: Report) -> None:
    _parts(screen, report, with_closing(report, (), change_report.decided(report), PLAIN))
    screen.heading("Cost")
    screen.say(f"{usage_sentence(report.usage)}; run {one_line(report.run)}", lead="  ")


_SECTIONS = (_verified, _loss, _causes, _rollback, _churn, _tables, _judges, _examples, _closing)


# -- the card ------------------------------------------------------------------------------------------------------------
MOST_LINES = 20
# Columns before every row's text: its title stands there.
MARGIN = 10
# Characters of both sides of a guilty text that stand on one line where the card is full.
SHORT = 40
# Characters of a side of a guilty text, tried in this order until the card fits.
_SIDES = (None, 400, 200, 120, 60)


class CardLine(NamedTuple):
    """A line of the card, at most as wide as the page."""

    text: str
    style: str = ""


def render_card(report: Report, *, width: int = 80, colour: bool = False, tone: str = "bold", at: Standpoint = HERE) -> str:
    """The card as text of `width` columns (at least 60) and at most twenty lines; the headline stands in `tone`."""
    screen = Screen(width=width, colour=colour)
    for line in _fitting(screen, card_of(report, at=at), tone):
        screen.put(line.text, line.style)
    return screen.page()


def _fitting(screen: Screen, card: Card, tone: str) -> Sequence[CardLine]:
    """The lines of the card, its guilty texts cut only as far as it must be."""
    lines: list[CardLine] = []
    for texts, sides, is_brief in _cuts(len(card.guilty)):
        lines = list(_lines(screen, shortened(card, sides=sides, texts=texts, is_brief=is_brief), tone, is_brief=is_brief))
        if len(lines) <= MOST_LINES:
            return lines
    return [*lines[: MOST_LINES - 3], CardLine(f"{'':{MARGIN}}…"), *lines[-2:]]


def _cuts(guilty: int) -> Iterator[tuple[int, int | None, bool]]:
    """Guilty texts, characters of each side, and whether to be brief: from all of it to the least."""
    yield guilty, None, False
    yield from ((guilty, sides, True) for sides in _SIDES)
    yield from ((texts, sides, True) for texts in range(guilty - 1, -1, -1) for sides in _SIDES[1:])


def _lines(screen: Screen, card: Card, tone: str, *, is_brief: bool) -> Iterator[CardLine]:
    yield from (CardLine(line, tone) for line in screen.wrapped(card.headline, screen.width))
    for title in ("Sure", "Loss"):
        yield from _row(screen, title, card.told(title))
    yield from _where(screen, card.guilty, card.told("Where"), is_brief=is_brief)
    yield from _row(screen, "Who", card.told("Who"))
    yield from _now(screen, card.command, card.told("Do now"))
    for title in ("Innocent", "Beware", "Cost"):
        yield from _row(screen, title, card.told(title))
    for text in card.told("More"):
        yield from _typed(screen, "More", text)


def _room(screen: Screen) -> int:
    return screen.width - MARGIN


def _row(screen: Screen, title: str, sentences: Sequence[str]) -> Iterator[CardLine]:
    lines = [line for text in sentences for line in screen.wrapped(text, _room(screen))]
    for number, line in enumerate(lines):
        yield CardLine(f"{'' if number else title:<{MARGIN}}{line}")


def _where(screen: Screen, guilty: Sequence[GuiltyText], more: Sequence[str], *, is_brief: bool) -> Iterator[CardLine]:
    """Where it is; `is_brief`: short texts stand beside their place, "model: bad.yaml:3: a → b"."""
    first = True
    for each in guilty:
        beside = f"{each.place}: {each.before or 'nothing'} → {each.after or 'nothing'}"
        is_short = is_brief and "\n" not in beside and 0 < len(each.before) + len(each.after) <= SHORT
        for line in screen.wrapped(beside if is_short else each.place, _room(screen)):
            yield CardLine(f"{'Where' if first else '':<{MARGIN}}{line}")
            first = False
        for sign, text, style in () if is_short else (("-", each.before, "red"), ("+", each.after, "green")):
            for number, line in enumerate(screen.wrapped(text, _room(screen) - 2) if text else ()):
                yield CardLine(f"{'':{MARGIN}}{' ' if number else sign} {line}", style)
    yield from _row(screen, "Where" if first else "", more)


def _now(screen: Screen, command: str, todo: Sequence[str]) -> Iterator[CardLine]:
    yield from _typed(screen, "Do now", command, "bold")
    yield from _row(screen, "" if command else "Do now", todo)


def _typed(screen: Screen, title: str, command: str, style: str = "") -> Iterator[CardLine]:
    """The lines of a command beside its title; what needs more room than that begins at the left edge."""
    lines = pasteable(command, _room(screen)) if command else []
    for number, line in enumerate(lines):
        is_wide = number > 0 and len(line) > _room(screen)
        yield CardLine(line if is_wide else f"{'' if number else title:<{MARGIN}}{line}", style)


def pasteable(command: str, width: int) -> list[str]:
    """A command on lines of `width` columns, a backslash at the end of each that goes on, so that all of it can be pasted.

    It goes on between its arguments only: one that is longer than a line stays whole, for a broken path is another path.
    """
    lines = [""]
    for word in arguments(command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > width:
            lines.append(f"  {word}")
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
