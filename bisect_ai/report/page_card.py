"""The card as the page and a notebook show it: its rows, and the guilty texts with the differing words marked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bisect_ai.report.card import MOST_TEXT, Card, card_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import Standpoint, arguments
from bisect_ai.report.word_diff import Pieces, compared

_PERCENT = re.compile(r"(?<=\d) (?=%)")
Rows = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class GuiltyDiff:
    """Where a change is, and both texts in pieces."""

    place: str
    before: Pieces
    after: Pieces


@dataclass(frozen=True)
class CardView:
    """A card ready for a template: `rows` stand before the guilty texts, `after` behind the command."""

    headline: str
    rows: Rows
    guilty: tuple[GuiltyDiff, ...]
    where: tuple[str, ...]
    command: tuple[str, ...]
    """Its arguments, quoted: the page breaks no line inside one that fits."""
    todo: tuple[str, ...]
    after: Rows


def card_view(report: Report, at: Standpoint) -> CardView:
    """The card of a report, typed `at` that place."""
    card = card_of(report, at=at)
    return CardView(
        headline=_unbroken(card.headline),
        rows=_titled(card, "Sure", "Loss"),
        guilty=tuple(GuiltyDiff(each.place, *compared(each.before, each.after, limit=MOST_TEXT)) for each in card.guilty),
        where=tuple(map(_unbroken, card.told("Where"))),
        command=tuple(arguments(card.command)),
        todo=tuple(map(_unbroken, card.told("Do now"))),
        after=_titled(card, "Who", "Innocent", "Beware", "Cost", "More"),
    )


def _titled(card: Card, *titles: str) -> Rows:
    return tuple((title, tuple(map(_unbroken, lines))) for title, lines in card.rows if title in titles)


def _unbroken(text: str) -> str:
    """A number and its per cent sign on one line."""
    return _PERCENT.sub("\u00a0", text)
