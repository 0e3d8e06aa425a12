"""Releases that answer with nothing: no text, no tool call, no document. Nothing can be measured where nearly all answers are so."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from bisect_ai.runs.observations import Observations

NEARLY_ALL = 0.9
"""Share of answers."""
FEWEST = 5
"""Answers of a cell that say something of it."""
ENOUGH = 40
"""First answers of a release after which a run need not go on."""


@dataclass(frozen=True)
class EmptyCell:
    """A cell whose answers are nearly all empty."""

    cell: int
    bad_axes: tuple[str, ...]
    answers: int
    empty: int


def empty_cells(seen: Observations) -> list[EmptyCell]:
    """The cells whose answers are nearly all empty."""
    found = []
    for cell in sorted(set(seen.cells)):
        answers = [o for o in seen.all(cell) if o.is_answered]
        empty = sum(o.is_empty for o in answers)
        if len(answers) >= FEWEST and empty >= NEARLY_ALL * len(answers):
            found.append(EmptyCell(cell, answers[0].bad_axes, len(answers), empty))
    return found


def is_silent(seen: Observations, full: int, *, fewest: int = FEWEST) -> bool:
    """Whether both releases answer nearly every query with nothing, by their first `ENOUGH` answers, of which there are `fewest`."""
    for cell in (0, full) if seen.has_empty else ():
        first = [o.is_empty for o in islice((o for o in seen.first(cell) if o.is_answered), ENOUGH)]
        if len(first) < fewest or sum(first) < NEARLY_ALL * len(first):
            return False
    return seen.has_empty
