"""The whole table of a short log: every query in every cell, and that again while it is undecided because answers vary.

An answer drawn at a temperature is one of many. Where all queries of the log ran in all cells, the noise of single answers is what
more calls can take away: each query is asked again in each cell and has the mean of its scores. The first look at the table has most
of its alpha, each look after a further pass an even part of what is kept for these (`net_tests.AGAIN`); an axis proved at one look
stays proved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bisect_ai.attribution.designs.findings import proved_axes
from bisect_ai.attribution.problem import Ints
from bisect_ai.attribution.search.net_tests import MOST_AGAIN, NetTests
from bisect_ai.attribution.search.query_rows import QueryRows
from bisect_ai.attribution.stats.inference import ScoreTable

PROBED = (
    12  # queries that are asked again under good and bad first: answers that vary in a tenth of reruns show in 9 of 10 runs
)
PROMISING = 1.0  # standard errors of the loss or of an axis from which on a table that is undecided is asked again


class WholeTable:
    """What is left to run of it, and what its looks proved."""

    def __init__(self, rows: QueryRows, tests: NetTests) -> None:
        self._rows, self._tests = rows, tests
        # Axes proved at a look before the one to come.
        self.proved: frozenset[int] = frozenset()

    @property
    def alpha(self) -> float:
        """What the next look may spend."""
        budget = self._tests.error_budget
        return budget.of("again") / MOST_AGAIN if self._rows.passes else budget.of("table")

    def buy(self) -> bool:
        """Queue what is missing; False when nothing is, or not every query can run in every cell."""
        rows, p = self._rows, self._rows.problem
        if not self._tests.fits or self._is_complete():
            return False
        while not rows.exhausted and rows.begin({0, p.full}):
            pass
        asked = [rows.fill(range(p.queries), c) for c in self._cells()]
        return any(asked) or rows.queued > 0

    def ask_again(self, is_open: Callable[[], bool]) -> bool:
        """Queue every query in every cell once more while `is_open`; False when that is over, or was not to be had.

        A few under good and bad come first: where none of them has another score, the rest is not asked.
        """
        rows, p = self._rows, self._rows.problem
        if not self._tests.is_short or not self._is_complete() or rows.passes >= MOST_AGAIN:
            return False
        if rows.out or rows.queued:
            return True
        cells = self._cells()
        if not rows.asks_again:
            self.proved |= proved_axes(p, table_of_all(rows, rows.ran(*cells)), self.alpha)
            affordable = rows.left >= len(cells) * p.queries
            return affordable and self._is_promising() and is_open() and rows.again((0, p.full), range(min(PROBED, p.queries)))
        if not rows.varied:
            return False
        if rows.again(cells, range(p.queries)):
            return True
        rows.passes += 1
        return self.ask_again(is_open)

    def _is_promising(self) -> bool:
        """Whether the loss or some axis stands out so far that less noise may show it."""
        loss = self._rows.mean(0, self._rows.problem.full)
        return max([loss.z, *(self._tests.mean(*test).z for test in self._tests.planned)]) > PROMISING

    def _is_complete(self) -> bool:
        return len(self._rows.returned(*self._cells())) == self._rows.problem.queries

    def _cells(self) -> list[int]:
        return [c for c in range(self._rows.problem.full + 1) if c not in self._rows.infeasible]


def table_of_all(rows: QueryRows, queries: Ints) -> ScoreTable:
    """The scores of queries that ran in every cell, a column for each cell; NaN where it cannot run."""
    p = rows.problem
    scores = np.full((len(queries), p.full + 1), np.nan)
    ran = [c for c in range(p.full + 1) if c not in rows.infeasible]
    filled = rows.table(ran, queries)
    scores[:, ran] = filled.scores
    judge = rows.verdicts.noise(queries, np.arange(p.full + 1))
    return ScoreTable(scores, filled.weights, filled.clusters, filled.population, judge)
