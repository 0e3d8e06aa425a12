"""Sheets with several answers to one question in each row: `answer_a, answer_b, score_a, score_b`, or a column with the winner."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bisect_ai.queries.values import embedded

VARIANT = "variant"
"""The column that tells the answers of one row apart."""
ANSWERS = ("answer", "output", "response", "completion", "prediction", "reply", "generation")
HELD = ("scores", "error")
"""What else is told of each answer, and read by its own name."""
WINNERS = ("winner", "preference", "preferred", "preferred_response", "choice", "chosen", "better")
WON, EQUAL = 1.0, 0.5
OPPOSITES = (
    "a b",
    "old new",
    "good bad",
    "before after",
    "baseline candidate",
    "control treatment",
    "left right",
    "1 2",
    "v1 v2",
)
"""SheetSides that are answers to one question also where only their scores are there."""
TIES = ("tie", "tied", "both", "same", "equal", "draw", "neither", "none")
SEPARATORS = " _-.:/"


@dataclass(frozen=True)
class SheetSides:
    """Which columns belong to which answer: `columns` by side and by what they hold; `winner` names the column of the better side."""

    columns: Mapping[str, Mapping[str, str]]
    winner: str | None = None

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], scores: Collection[str], costs: Collection[str], metric: str | None
    ) -> SheetSides | None:
        """The sides of a sheet, told by its first rows; None: each row is one answer.

        A side has an answer and a score. Scores alone are sides where they are called like opposites, so that `score_style` and
        `score_facts` stay two scores of one answer.
        """
        names = dict.fromkeys(name for row in rows for name, _ in _flat_cells(row))
        words = {*scores, *costs, *ANSWERS, *HELD, *([metric] if metric else [])}
        found: dict[str, dict[str, str]] = {}
        for name in names:
            if (told := _side_of(name, words)) is not None:
                found.setdefault(told[0], {})["output" if told[1] in ANSWERS else told[1]] = name
        scoring = {*scores, "scores", *([metric] if metric else [])}
        sides = {side: held for side, held in found.items() if scoring & set(held) and "output" in held}
        opposed = {side: held for side, held in found.items() if scoring & set(held)}
        if len(sides) < 2 and " ".join(sorted(map(str.lower, opposed))) in {
            " ".join(sorted(each.split())) for each in OPPOSITES
        }:
            sides = opposed
        if _are_alike(sides, scoring):
            return cls(sides)
        answers = {side: held for side, held in found.items() if "output" in held}
        winner = next((name for name in names if name.lower() in WINNERS), None)
        return cls(answers, winner) if winner is not None and len(answers) == 2 else None

    def apart(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A row for each answer: what all share, what is said of this one, and its side."""
        cells, taken = (
            dict(_flat_cells(row)),
            {name.partition(".")[0] for held in self.columns.values() for name in held.values()},
        )
        taken |= {name for held in self.columns.values() for name in held.values()}
        shared = {name: value for name, value in row.items() if name not in taken}
        for side, held in self.columns.items():
            won = {} if self.winner is None else {"score": self._won(side, row.get(self.winner))}
            yield {**shared, **{word: cells.get(name) for word, name in held.items()}, **won, VARIANT: side}

    def _won(self, side: str, named: Any) -> float | None:
        """1 for the side that is named as the better one, 0 for the other, one half each for a tie; None for no judgement."""
        told = _words(str(named)) if isinstance(named, str | int) else []
        known = {each: _words(each) for each in self.columns}
        better = next(
            (each for each, words in known.items() if told and (told[-len(words) :] == words or told == words[-1:])), None
        )
        if better is None:
            return EQUAL if told and told[0] in TIES else None
        return WON if better == side else 0.0


def _are_alike(sides: Mapping[str, Mapping[str, str]], scoring: Collection[str]) -> bool:
    """Whether there are several sides, and all have the same scores."""
    return len(sides) > 1 and len({frozenset(held).intersection(scoring) for held in sides.values()}) == 1


def _flat_cells(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The cells of a row, those of an object in it by dotted names."""
    for name, value in row.items():
        held = embedded(value)
        if isinstance(held, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in held.items())
        else:
            yield str(name), value


def _side_of(name: str, words: Collection[str]) -> tuple[str, str] | None:
    """The side and the word that a column's name is made of, in either order; the longest word first."""
    for word in sorted(words, key=len, reverse=True):
        before, after = name[: -len(word) - 1], name[len(word) :]
        if name.lower().endswith(word.lower()) and before and name[-len(word) - 1] in SEPARATORS:
            return before, word
        side = after.lstrip(SEPARATORS)
        divided = side != after or after[:1].isupper() or after.isdigit()
        if name.lower().startswith(word.lower()) and side and divided and after[0] != ".":  # `scores.style` is no side
            return side, word
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", text.lower())
