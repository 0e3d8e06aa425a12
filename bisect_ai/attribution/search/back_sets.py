"""Which of the named axes to take back: the smallest set that leaves next to nothing of the loss, and what must run to know.

A set is measured in its own cell, beside good and bad on the same queries. Where nothing was measured yet, what reverting one axis
brings back says what it leaves. How the axes act (`search/modes`) says more than each set by itself: where two act only together,
either of them is enough, and where each acts alone none is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

from bisect_ai.attribution.problem import Mode, Problem
from bisect_ai.attribution.search.query_rows import NOTHING, Mean, QueryRows

PairActs = Callable[[tuple[int, ...], float], Mode | None]
PLAIN_APART = 2.0  # standard errors from the edge between two ways at which it is settled
FEWEST = 8  # queries below which nothing is said of a set
# Of the loss, the part that a set which is not enough would leave: halfway lies RESTORED.
OPEN = 0.4
ENOUGH = 1.5  # log likelihood ratio of "leaves nothing" against "leaves OPEN of the loss" at which a set is taken
PLAINLY = 3.0  # the same of one of two axes while it is not settled how they act
MEASURED = 30  # queries that a rollback is measured on, the fewest
MOST_MEASURED = 300  # the most, while it is unclear whether it is enough
MOST_UNCLEAR = 400  # queries after which a smaller set that is still unclear is given up
SURELY = 100  # the fewest before it is said that reverting all that is named leaves a part of the loss
BATCH = 16  # queries that are given one cell more at a time; with 12 the verdict comes later at 64 calls at once
MOST_AT_ONCE = 3 * BATCH
SHOWN = 3.0  # log likelihood ratio of "leaves nothing" for which so many are run
# PLAINLY, SURELY, MOST_UNCLEAR: fewest wrong rollbacks of "together" and "two", churn 2 and 5 %, noise 0 and 5 % (seeds 20000 to 20059)


class BackSets:
    """Sets of named axes, and what is left of the loss when they are reverted."""

    def __init__(self, rows: QueryRows, reverting: Callable[[int], Mean], pair_acts: PairActs) -> None:
        self._rows = rows
        # How two axes act, where that is so many standard errors from being otherwise.
        self._pair_acts = pair_acts
        # What reverting one axis brings back, by all that is known.
        self._reverting = reverting
        self._filled: set[int] = set()

    # -- what is known -------------------------------------------------------------------------------------------------
    def cell(self, back: Iterable[int]) -> int:
        """The cell in which `back` is reverted, with what does not run without its bad side."""
        return self._problem.full & ~self._problem.reverting(back)

    def left(self, back: Iterable[int]) -> Mean:
        """What is still lost when `back` is reverted."""
        return self._rows.mean(0, self.cell(back))

    def measured(self, back: Iterable[int]) -> int:
        """Queries that ran with `back` reverted, under good and under bad: those that a rollback is told by."""
        return len(self._rows.ran(0, self._problem.full, self.cell(back)))

    def smallest(self, named: Iterable[int]) -> tuple[int, ...]:
        """The smallest set of named axes that leaves next to nothing of the loss; all of them when no smaller one does."""
        named = tuple(sorted(named))
        acts = self._acts(named, apart=0.0)
        if acts == "together":
            left = {b: self.left(b) for b in itertools.combinations(named, 1)}
            measured = [b for b, m in left.items() if m.n >= FEWEST and m.favours_nothing(self._size) > -PLAINLY]
            return min(measured or [named], key=lambda b: self.left(b).value)
        for count in range(1, len(named)):
            good = {b: self.left(b) for b in itertools.combinations(named, count)}
            surely = ENOUGH if acts else 0.0
            enough = [b for b, m in good.items() if m.n >= FEWEST and m.favours_nothing(self._size) > surely]
            if enough:
                return min(enough, key=lambda b: good[b].value)
        return named

    def likely(self, named: Iterable[int]) -> tuple[int, ...]:
        """The smallest set of named axes that seems to leave next to nothing, measured or not; else all of them."""
        named = tuple(sorted(named))
        for count in range(1, len(named)):
            seems = {b: self._guess(b).favours_nothing(self._size) for b in itertools.combinations(named, count)}
            best = max(seems, key=lambda b: seems[b])
            if seems[best] > -ENOUGH:
                return best
        return named

    def unclear(self, named: Iterable[int]) -> list[tuple[int, ...]]:
        """Smaller sets than all that is named of which it is not clear whether they are enough, three at most."""
        named = tuple(sorted(named))
        if self._acts(named, apart=PLAIN_APART):
            return []
        found, enough = [], PLAINLY if len(named) == 2 else ENOUGH
        for count in range(1, len(named)):
            for back in itertools.combinations(named, count):
                left = self._guess(back)
                if left.n and abs(left.favours_nothing(self._size)) < enough and left.n < MOST_UNCLEAR:
                    found.append(back)
        return found[:3]

    def is_settled(self, named: Iterable[int]) -> bool:
        """Whether the set that would be taken is measured, and no smaller one is unclear."""
        best = self.smallest(named)
        short = self.left(best).favours_nothing(self._size) < 0
        wanted = SURELY if short else MEASURED  # it may have been chosen where it did little
        return self.measured(best) >= min(wanted, self._problem.queries) and not self.unclear(named)

    def _acts(self, named: tuple[int, ...], *, apart: float) -> Mode | None:
        """How two axes act, where that is `apart` standard errors from being otherwise."""
        return None if len(named) != 2 or any(self._problem.needs) else self._pair_acts(named, apart)

    def _guess(self, back: Sequence[int]) -> Mean:
        """What is left when `back` is reverted: measured, or for one axis what its reverting brings back, taken off the loss."""
        left, loss = self.left(back), self._loss
        if left.n >= FEWEST or len(back) > 1:
            return left
        brings = self._reverting(back[0])
        return Mean(loss.value - brings.value, math.hypot(loss.error, brings.error), brings.n) if brings.n else NOTHING

    @property
    def _size(self) -> float:
        return OPEN * max(self._loss.value, self._problem.tolerance)

    @property
    def _loss(self) -> Mean:
        return self._rows.mean(0, self._problem.full)

    @property
    def _problem(self) -> Problem:
        return self._rows.problem

    # -- what to run ---------------------------------------------------------------------------------------------------
    def deepen(self, named: Iterable[int]) -> bool:
        """Queue what tells what is left of the loss when the set that is likely to be enough is reverted."""
        back = self.likely(named)
        return self.cell(named) != 0 and self.gauge(back, self._missing(back))

    def _missing(self, back: Sequence[int]) -> int:
        """Queries more that would show that a set leaves nothing, if it does, by how much they vary so far."""
        left = self.left(back)
        if left.n < FEWEST:
            return BATCH
        wanted = 2 * SHOWN * left.n * (left.error / self._size) ** 2 - left.n
        return int(min(max(wanted, BATCH), MOST_AT_ONCE))

    def gauge(self, back: Iterable[int], wanted: int, *, jointly: bool = False) -> bool:
        """Queue what tells what a set leaves, on about `wanted` more queries: the cell that is missing where others ran.

        `jointly`: so that good, bad and the set's own cell run on the same queries.
        """
        rows, full, cell = self._rows, self._problem.full, self.cell(back)
        if self._add((cell, full), (0,), max(wanted, BATCH)):
            return True
        marked = rows.explored if rows.is_marked(cell) else 0
        if marked and cell not in self._filled and rows.left >= marked:
            self._filled.add(cell)
            if rows.fill(range(marked), cell):
                return True
        if self._add((0, full), (cell,), wanted, first=marked) or (jointly and self._add((cell, 0), (full,), wanted)):
            return True
        return self._add((cell,), (0, full), wanted)

    def _add(self, ran: Sequence[int], missing: Sequence[int], most: int, *, first: int = 0) -> bool:
        """Queue the missing cells of queries that ran in others, the latest first; none before `first`."""
        rows = self._rows
        done = set(rows.returned(missing[0]).tolist())
        ready = [int(q) for q in rows.ran(*ran)[::-1] if int(q) not in done and int(q) >= first]
        return sum(rows.fill(ready[:most], cell) for cell in missing) > 0

    def measure(self, named: Iterable[int]) -> bool:
        """Queue the rollback's own cell on queries that ran under good and bad, until it has enough of them."""
        best = self.smallest(named)
        count = self.measured(best)
        unclear = self.left(best).favours_nothing(self._size) < ENOUGH and count >= MEASURED
        wanted = min(count + BATCH if unclear else MEASURED, MOST_MEASURED, self._problem.queries) - count
        return wanted > 0 and self.cell(best) != 0 and self.gauge(best, wanted, jointly=True)
