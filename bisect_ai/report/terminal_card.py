"""The card on a terminal: at most twenty lines, a title before each row, the guilty text behind signs, the command ready to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bisect_ai.report.card import Card, GuiltyText, card_of, shortened
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import HERE, Standpoint, arguments
from bisect_ai.report.terminal_page import Screen

MOST_LINES = 20
MARGIN = 10
"""Columns before every row's text: its title stands there."""
SHORT = 40
"""Characters of both sides of a guilty text that stand on one line where the card is full."""
_SIDES = (None, 400, 200, 120, 60)
"""Characters of a side of a guilty text, tried in this order until the card fits."""


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
