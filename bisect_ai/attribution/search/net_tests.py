"""What a net search has proved: its questions as families of sequential tests, and the queries that each test was planned on.

Nothing that guides the search (`search/standing`) enters here. A test hears the differences of the queries that were planned for it
before they ran, in order; alpha is divided over the families in the order they are asked (`ErrorBudget`), within a family by Holm's
steps.

`WholeTable` is a short log's: every query in every cell, and that again while it is undecided because answers vary. An answer drawn at
a temperature is one of many; where all queries of the log ran in all cells, the noise of single answers is what more calls can take
away: each query is asked again in each cell and has the mean of its scores. The first look at the table has most of its alpha, each
look after a further pass an even part of what is kept for these (`AGAIN`); an axis proved at one look stays proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from bisect_ai.attribution.designs.findings import proved_axes
from bisect_ai.attribution.problem import Bools, Floats, Ints
from bisect_ai.attribution.search.query_rows import Mean, QueryRows
from bisect_ai.attribution.stats.inference import ScoreTable
from bisect_ai.attribution.stats.sequential import FIRST, ErrorBudget, SequentialTests

PROBED = (
    12  # queries that are asked again under good and bad first: answers that vary in a tenth of reruns show in 9 of 10 runs
)
PROMISING = 1.0  # standard errors of the loss or of an axis from which on a table that is undecided is asked again

KNOWN = 36  # queries after which an axis is judged by them alone: a rate that it moves by 20 points is mostly seen
FIRST_GUESS = 8  # queries from which on it is guessed at which look a test passes: fewer say nothing of a mean
MOST_IN_TABLE = 6  # axes; more make more than 64 cells
SHORT_TABLE = 2500  # calls that the whole table takes, the most for it to be where a run is expected to end
QUESTIONS = "reverted", "introduced", "further"
# How alpha is divided: the parts of the questions in the order they are asked, of the whole table, and of the same asked
# again, by whether it can be had.
IN_TURN = {"long": (0.6, 0.3, 0.1), "fits": (0.5, 0.25, 0.1), "short": (0.1, 0.03, 0.02)}
TABLE = {"long": 0.0, "fits": 0.15, "short": 0.75}
TABLE_OF_TWO = {"long": 0.0, "fits": 0.15, "short": 0.6}
AGAIN = {"long": 0.0, "fits": 0.0, "short": 0.1}
MOST_AGAIN = 3  # times that every query is asked again in every cell, the most: an answer's noise is then down to a half

# A family's test of an axis.
NetTest = tuple[str, int]


class NetTests:
    """Families of tests of net cost, the alpha of each, and the queries planned for each of their tests."""

    def __init__(self, rows: QueryRows) -> None:
        self._rows, p = rows, rows.problem
        cells = (1 << p.k) if p.k <= MOST_IN_TABLE else math.inf
        # Whether every query can run in every cell.
        self.fits = p.k > 1 and not any(p.needs) and p.queries * cells <= p.budget
        # Trials that the budget has beyond it.
        self.beyond = p.budget - p.queries * cells if self.fits else math.inf
        # Whether that is so little that the search is expected to end there.
        self.is_short = self.fits and p.queries * cells <= SHORT_TABLE
        size = "short" if self.is_short else "fits" if self.fits else "long"
        table = (TABLE_OF_TWO if p.k <= 2 else TABLE)[size]
        parts = {name: part for name, part in (("table", table), ("again", AGAIN[size])) if part}
        if p.k <= 2:
            self.error_budget = ErrorBudget(p.alpha, {"net": 1 - sum(parts.values()), **parts})
        else:
            self.error_budget = ErrorBudget(p.alpha, parts, IN_TURN[size])
        horizon = min(p.queries, max(p.budget // 3, 12))
        names = ("net",) if p.k <= 2 else QUESTIONS
        self.families = {name: SequentialTests(p.k, self.error_budget.of(name), horizon=horizon) for name in names}
        self.planned: dict[NetTest, list[int]] = {}
        # Test to (queries,) whether it was planned for a query.
        self._marks: dict[NetTest, Bools] = {}
        # Axis to the set of axes that are reverted with it and before it in "further".
        self._base: dict[int, int] = {}

    # -- planning ----------------------------------------------------------------------------------------------------
    def plan(self, query: int, tests: Iterable[NetTest]) -> None:
        """A query was begun for these tests: its differences will be heard by them."""
        for test in tests:
            if test not in self.planned:
                self.families[test[0]].grant(self.error_budget.ask(test[0]))
                self.planned[test], self._marks[test] = [], np.zeros(self._rows.problem.queries, bool)
            self.planned[test].append(query)
            self._marks[test][query] = True

    def base_on(self, axis: int, back: int) -> None:
        """In "further" the axis is tested beside these reverted axes; what was planned for it stays as it was."""
        if ("further", axis) not in self.planned:
            self._base[axis] = back

    def pairs(self, family: str, axis: int) -> list[tuple[int, int]]:
        """The (good, bad) cells whose difference the family's test of an axis is about."""
        p, one = self._rows.problem, 1 << axis
        if family == "introduced":
            return [p.introduced_pair(axis)]
        if family == "further":
            high, low = p.reverted_pair(axis)
            back = self._base.get(axis, 0)
            return [(high & ~back, low & ~back)]
        if family == "net" and p.k == 2:
            both = [(p.full & ~one, p.full), (0, one)]
            return [pair for pair in both if not self._rows.infeasible.intersection(pair)] or both
        return [p.reverted_pair(axis)]

    def cells(self, tests: Iterable[NetTest]) -> set[int]:
        """The cells in which a query runs for these tests."""
        return {cell for test in tests for pair in self.pairs(*test) for cell in pair}

    def can_run(self, family: str, axis: int) -> bool:
        """Whether no cell of the test is known not to run."""
        return not self._rows.infeasible or self._rows.infeasible.isdisjoint(self.cells([(family, axis)]))

    def awaits_look(self, tests: Iterable[NetTest]) -> bool:
        """Whether a look that will probably name one of these axes is under way: then further queries would mostly be in vain.

        The guess takes the mean so far to go on. It depends on outcomes that were told, and delays queries without choosing among
        them, so the looks and what they spend stay as planned. Planted losses: 64 and 128 trials under way take 3 to 4 % more
        than 8 do, 11 % without it, and not more time (5 families, churn 2 %, seeds 0 to 23).
        """
        if not self._rows.out:
            return False
        for test in tests:
            planned, tests_of = len(self.planned.get(test, ())), self.families[test[0]]
            if planned < FIRST or not tests_of.is_ahead(test[1], planned):
                continue
            mean = self.mean(*test)
            if mean.n >= FIRST_GUESS and tests_of.is_expected(test[1], mean.z, mean.n, planned=planned):
                return True
        return False

    # -- hearing -----------------------------------------------------------------------------------------------------
    def hear(self, *, over: bool = False) -> None:
        """Take the looks that are due, or, when all is `over`, the last one of every test."""
        for (name, axis), planned in self.planned.items():
            tests = self.families[name]
            if not over and not tests.is_due(axis, len(planned)):
                continue
            queries, x = self.differences(name, axis)
            if len(x):
                tests.hear(axis, x, self._rows.clusters(queries))
                if over:
                    tests.end(axis, x, self._rows.clusters(queries))

    def differences(self, family: str, axis: int) -> tuple[Ints, Floats]:
        """The queries that were run for a family's test of an axis, in order, and their differences."""
        marks = self._marks.get((family, axis))
        if marks is None:
            return np.zeros(0, int), np.zeros(0)
        found = [self._rows.differences(*pair) for pair in self.pairs(family, axis)]
        ran, x = found[0]
        planned = marks[ran]
        if len(found) == 1:
            return ran[planned], x[planned]
        queries = ran[planned]
        for other, _ in found[1:]:
            queries = np.intersect1d(queries, other, assume_unique=True)
        columns = [x[np.searchsorted(q, queries)] for q, x in found]
        return queries, np.asarray(np.mean(columns, axis=0)) if len(queries) else np.zeros(0)

    def mean(self, family: str, axis: int) -> Mean:
        """The mean of a test's differences."""
        return self._rows.once(("test", family, axis), lambda: self._mean(family, axis))

    def _mean(self, family: str, axis: int) -> Mean:
        pairs = self.pairs(family, axis)
        queries, x = self.differences(family, axis)
        is_all = len(pairs) == 1 and len(x) == len(self._rows.differences(*pairs[0])[1])
        return self._rows.mean(*pairs[0]) if is_all else self._rows.mean_of(queries, x)

    # -- what is proved ----------------------------------------------------------------------------------------------
    def named(self) -> frozenset[int]:
        """Axes proved to have a net cost, in any family, whose estimated cost is worth the tolerance."""
        proved = [a for tests in self.families.values() for a in tests.named()]
        return frozenset(a for a in proved if self._cost(a) >= self._rows.problem.tolerance)

    def proved_by(self, axis: int) -> list[str]:
        """The families in which the axis is proved to have a net cost."""
        return [name for name, tests in self.families.items() if axis in tests.named()]

    def progress(self, axis: int) -> float:
        """How near the axis came to its bound in any family, 0 to 1."""
        return max(tests.progress(axis) for tests in self.families.values())

    def _cost(self, axis: int) -> float:
        """The largest estimated net cost of an axis over the contexts in which it was tested."""
        return max((m.value for name in self.families if (m := self.mean(name, axis)).n), default=0.0)


class WholeTable:
    """What is left to run of it, and what its looks proved."""

    def __init__(self, rows: QueryRows, tests: NetTests) -> None:
        self._rows, self._tests = rows, tests
        self.proved: frozenset[int] = frozenset()
        """Axes proved at a look before the one to come."""

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
