"""The scores of a search by query and cell, and the paired differences of two cells.

Rows are queries, in the random order of the problem: the search runs each in a set of cells that was fixed before the query. A
difference of two cells is taken on the queries that ran in both, so that answers that repeat and the churn of other axes cancel.

A query that is asked again in a cell (`again`) has there the mean of its scores.

**Everything that comes back is an outcome.** A call that failed is the worst score (`problem.score_ends`): an axis that makes answers
fail costs quality. An answer that the scorer gave no score, and one that rests on a tool call which the log does not have, are
censored: their pairs are left out. How much the verdict rests on either is said by bounds (`missing`).

**How many more calls would settle it** (`calls_needed`) is found by playing the tests on. The true mean of a suspect's differences is
not known: it is drawn from what its queries say of it, and for each draw the queries are counted that its test would need. The number
that is named settles four of five draws within one and a half times as many calls. Where a fifth of the draws never settles, or the
log has not as many queries, no number is named.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from bisect_ai.attribution.problem import (
    Bools,
    Floats,
    Ints,
    Outcome,
    Problem,
    Trial,
    cluster_numbers,
    cluster_sums,
    score_ends,
)
from bisect_ai.attribution.search.cell_scores import CellScores, GrowingPair
from bisect_ai.attribution.stats.inference import ScoreTable
from bisect_ai.attribution.stats.verdicts import Verdicts

Read = TypeVar("Read")


class Mean(NamedTuple):
    """The mean of paired differences, its standard error as if one query more had moved, and their number."""

    value: float
    error: float
    n: int

    @property
    def z(self) -> float:
        """The mean in standard errors."""
        return self.value / self.error if self.error > 0 else 0.0

    def favours_nothing(self, size: float) -> float:
        """The log likelihood ratio of "0" against "`size`", normal. It guides the search and proves nothing."""
        if self.n < 2 or self.error <= 0:
            return 0.0
        return ((self.value - size) ** 2 - self.value**2) / (2 * self.error**2)


BROKE, MOVED = 1, 2  # why a query was chosen: it broke; a named axis moved it
NOTHING = Mean(0.0, math.inf, 0)  # of no queries: an infinite error claims nothing


class QueryRows:
    """Trials asked for and heard of, query by query."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.verdicts = Verdicts()
        # Queries begun.
        self.asked = 0
        # Trials asked for.
        self.spent = 0
        # Trials under way.
        self.out = 0
        # Trials asked for by when the last of those that `fill` queued is.
        self._filled = 0
        # The first so many queries ran under good and bad, and inner cells were tried on those of them that broke.
        self.explored = 0
        # Cell to (queries,) 1 where it ran because the query broke: that says nothing of the other queries.
        self._chosen: dict[int, Ints] = {}
        self.infeasible = set(problem.infeasible)
        # Trials by cell.
        self.runs: dict[int, int] = {}
        # Trials without a score by cell.
        self.errors: dict[int, int] = {}
        # How often every query was asked again.
        self.passes = 0
        # Whether a query that was asked again in a cell had another score.
        self.varied = False
        # Of cells from which something came back.
        self._cells: dict[int, CellScores] = {}
        # (high, low) to the differences of two cells as they were read last, while none of them can change.
        self._pairs: dict[tuple[int, int], GrowingPair] = {}
        # Cells in which calls failed.
        self._failures: set[int] = set()
        self._queue: deque[Trial] = deque()
        self._done: set[tuple[int, int]] = set()
        self._repeated: set[Trial] = set()
        self._lowest, self._highest = math.inf, -math.inf
        self._weights = None if problem.weights is None else problem.weights / problem.weights.mean()
        # What was read since the last outcomes came in: a search reads the same means many times before it asks.
        self._read: dict[object, Any] = {}

    # -- asking ----------------------------------------------------------------------------------------------------
    @property
    def left(self) -> int:
        """Trials that may still be asked for."""
        return self.problem.budget - self.spent - len(self._queue)

    @property
    def exhausted(self) -> bool:
        """Whether every query was begun."""
        return self.asked >= self.problem.queries

    @property
    def queued(self) -> int:
        """Trials decided on that were not handed out."""
        return len(self._queue)

    def begin(self, cells: Iterable[int]) -> bool:
        """Queue the next query in `cells`; False at the end of the budget or the log."""
        wanted = [c for c in sorted(cells) if c not in self.infeasible]
        if self.exhausted or len(wanted) > self.left or not wanted:
            return False
        self._put((self.asked, c) for c in wanted)
        self.asked += 1
        return True

    def fill(self, queries: Iterable[int], cell: int, *, awaited: bool = True) -> bool:
        """Queue `cell` for queries that were begun and did not run in it (`awaited`: `filling`); False where nothing was queued."""
        room = self.left
        missing = [] if cell in self.infeasible else [(q, cell) for q in queries if (q, cell) not in self._done]
        self._put(missing[:room])
        if missing[:room] and awaited:
            self._filled = self.spent + len(self._queue)
        return bool(missing[:room])

    def again(self, cells: Iterable[int], queries: Iterable[int]) -> bool:
        """Queue queries that ran in these cells once more, those of this pass that were not; False when there is none."""
        cells = [c for c in cells if c not in self.infeasible]
        missing = [t for q in queries for c in cells if (t := Trial(q, c, 1 + self.passes)) not in self._repeated]
        missing = missing[: self.left]
        self._repeated.update(missing)
        self._pairs.clear()
        self._queue.extend(missing)
        return bool(missing)

    @property
    def asks_again(self) -> bool:
        """Whether this pass over the queries that ran has begun."""
        return any(t.repeat > self.passes for t in self._repeated)

    @property
    def filling(self) -> bool:
        """Whether trials of queries that were begun earlier (`fill`) are under way; outcomes are told in the order of asking."""
        return self.out > 0 and self.spent - self.out < self._filled

    def _put(self, pairs: Iterable[tuple[int, int]]) -> None:
        for pair in pairs:
            self._done.add(pair)
            self._queue.append(Trial(*pair))

    def take(self, width: int) -> list[Trial]:
        """The next trials to hand out."""
        taken: list[Trial] = []
        while self._queue and len(taken) < width:
            trial = self._queue.popleft()
            if trial.cell not in self.infeasible:
                taken.append(trial)
        self.spent += len(taken)
        self.out += len(taken)
        return taken

    # -- hearing ---------------------------------------------------------------------------------------------------
    def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what came back."""
        self._read.clear()
        for outcome in outcomes:
            query, cell, _ = outcome.trial
            self.out -= 1
            if outcome.status == "infeasible":
                self.infeasible.add(cell)
                continue
            self.runs[cell] = self.runs.get(cell, 0) + 1
            self.verdicts.hear(outcome)
            own = self._cells.get(cell) or self._cells.setdefault(cell, CellScores(self.problem.queries))
            own.returned[query] = True
            score = outcome.score
            if score is None or outcome.status != "ok" or math.isnan(score):
                self.errors[cell] = self.errors.get(cell, 0) + 1
                if outcome.status == "error":
                    self._failures.add(cell)
                    self._pairs.clear()
                    own.fail(query)
            else:
                self.varied = own.add(query, score) or self.varied
                self._lowest, self._highest = min(self._lowest, score), max(self._highest, score)

    def change(self, **settings: float) -> None:
        """Settings of the problem that are known only by now."""
        self.problem = replace(self.problem, **settings)  # type: ignore[arg-type]  # fields of a problem
        self._read.clear()

    def close_exploration(self) -> None:
        """All queries that were begun are explored."""
        self.explored = self.asked
        self._read.clear()

    # -- reading ---------------------------------------------------------------------------------------------------
    def once(self, key: object, reading: Callable[[], Read]) -> Read:
        """What is read, worked out once until more outcomes come in."""
        known: Read | None = self._read.get(key)
        if known is None:
            known = self._read[key] = reading()
        return known

    @property
    def worst(self) -> float:
        """What a failed call counts as."""
        if not math.isfinite(self._lowest):
            return 0.0 if self.problem.bounds is None else self.problem.bounds[0]
        return score_ends(self.problem.bounds, self._lowest, self._highest)[0]

    @property
    def scored(self) -> bool:
        """Whether any answer had a score."""
        return math.isfinite(self._lowest)

    @property
    def reach(self) -> tuple[float, float] | None:
        """The ends that no mean can pass: 0 and 1 where all scores lie there; None: not known."""
        return (0.0, 1.0) if self.scored and self._lowest >= 0 and self._highest <= 1 else None

    def ran(self, *cells: int) -> Ints:
        """The queries with an outcome in all of `cells`, ascending."""
        return self._in_all(cells, attrgetter("known"))

    def returned(self, *cells: int) -> Ints:
        """The queries whose calls in all of `cells` came back, also those whose answer is censored."""
        return self._in_all(cells, attrgetter("returned"))

    def _in_all(self, cells: Sequence[int], marks: Callable[[CellScores], Bools]) -> Ints:
        found = [marks(own)[: self.asked] for c in cells if (own := self._cells.get(c)) is not None]
        if len(found) < len(cells):
            return np.zeros(0, int)
        chosen = [known[: self.asked] == 0 for c in cells if (known := self._choices(c)) is not None] if self._chosen else []
        both = found[0]
        for own in (*found[1:], *chosen):
            both = both & own
        return both.nonzero()[0]

    def _choices(self, cell: int) -> Ints | None:
        """The chosen queries of a cell; None when there are none, or when all that were explored or asked ran in it after all."""
        chosen, own = self._chosen.get(cell), self._cells.get(cell)
        if chosen is None or own is None:
            return None
        returned = own.returned
        chosen = chosen * (np.arange(len(chosen)) >= self.explored) if returned[: self.explored].all() else chosen
        return chosen if chosen.any() and not returned[: self.asked].all() else None

    def advise(self, queries: Iterable[int], cell: int, *, why: int = BROKE) -> bool:
        """Queue `cell` for queries that were chosen by their outcomes (`why`): advice for the search, never evidence."""
        before = len(self._queue)
        if not self.fill(queries, cell, awaited=why == BROKE):
            return False
        self._pairs.clear()
        marks = self._chosen.setdefault(cell, np.zeros(self.problem.queries, np.int8))
        marks[[t.query for t in list(self._queue)[before:]]] = why
        return True

    def is_marked(self, cell: int) -> bool:
        """Whether a cell ran on queries that were chosen for having broken."""
        return cell in self._chosen

    @property
    def chosen_trials(self) -> frozenset[tuple[int, int]]:
        """(query, cell) of the trials that no mean may hear."""
        found = ((c, marks) for c in self._chosen if (marks := self._choices(c)) is not None)
        return frozenset((int(q), c) for c, marks in found for q in np.flatnonzero(marks))

    def chosen(self, cell: int, *, why: int = BROKE) -> Ints:
        """The queries with an outcome in a cell that were chosen for it."""
        if cell not in self._chosen or cell not in self._cells:
            return np.zeros(0, int)
        return np.flatnonzero(self._cells[cell].known & (self._chosen[cell] == why))

    def scores(self, cell: int, queries: Ints) -> Floats:
        """The scores of queries that ran in a cell."""
        worst = self.worst if cell in self._failures else None
        return self._cells[cell].scores(queries, worst=worst, again=bool(self._repeated))

    def differences(self, high: int, low: int) -> tuple[Ints, Floats]:
        """The queries that ran in both cells, and y(high) - y(low), weighted by what each query stands for."""
        known: tuple[Ints, Floats] | None = self._read.get((high, low))
        if known is None:
            pair = self._pairs.get((high, low))
            known = self._read[high, low] = (pair and pair.grown(self._weights)) or self._differences(high, low)
        return known

    def _differences(self, high: int, low: int) -> tuple[Ints, Floats]:
        queries = self.ran(high, low)
        x = self.scores(high, queries) - self.scores(low, queries) if len(queries) else np.zeros(0)
        x = x if self._weights is None else x * self._weights[queries]
        may_change = self._repeated or {high, low} & (self._failures | self._chosen.keys())
        if not may_change and {high, low} <= self._cells.keys():
            self._pairs[high, low] = GrowingPair(self._cells[high], self._cells[low], queries, x)
        return queries, x

    def clusters(self, queries: Ints) -> Ints | None:
        """The clusters of queries; None: every query its own."""
        return None if self.problem.clusters is None else self.problem.clusters[queries]

    def mean(self, high: int, low: int) -> Mean:
        """The mean of y(high) - y(low)."""
        known: Mean | None = self._read.get(("mean", high, low))
        if known is None:
            ran = high in self._cells and low in self._cells  # most cells never run
            known = self._read["mean", high, low] = self.mean_of(*self.differences(high, low)) if ran else NOTHING
        return known

    def contrast(self, weights: Mapping[int, float]) -> Mean:
        """The mean of a weighted sum of cells, on the queries that ran in all of them."""
        return self.once(("contrast", *(parts := sorted(weights.items()))), lambda: self._contrast(parts))

    def _contrast(self, parts: Sequence[tuple[int, float]]) -> Mean:
        queries = self.ran(*(cell for cell, _ in parts))
        x = sum((w * self.scores(c, queries) for c, w in parts), np.zeros(len(queries))) if len(queries) else np.zeros(0)
        return self.mean_of(queries, x if self._weights is None else x * self._weights[queries])

    def mean_of(self, queries: Ints, x: Floats) -> Mean:
        """The mean of differences, its error as if one further query of the usual size had moved."""
        n = len(x)
        if not n:
            return NOTHING
        value = float(np.add.reduce(x)) / n  # as `x.mean()`, which takes four times as long on a few hundred
        rest = x - value if self.problem.clusters is None else cluster_sums(x - value, self.clusters(queries))
        return Mean(value, math.sqrt(float(rest @ rest) + self.step(x) ** 2) / n, n)

    def step(self, x: Floats) -> float:
        """The usual size of a difference that is not 0, by root mean square; where none moved, that of the loss, or the range."""
        if not (moved := np.count_nonzero(x)):
            moved = np.count_nonzero(x := self.differences(0, self.problem.full)[1])
        if moved:
            return math.sqrt(float(x @ x) / moved)
        return self._highest - self._lowest if self._highest > self._lowest else 1.0

    def table(self, cells: Sequence[int], queries: Ints) -> ScoreTable:
        """Scores of queries in cells as a table, columns in the order of `cells`."""
        p = self.problem
        weights = np.ones(len(queries)) if p.weights is None else p.weights[queries]
        clusters = cluster_numbers(p.clusters, queries)
        population = math.inf if p.population is None else float(max(p.population, p.queries))
        scores = np.column_stack([self.scores(c, queries) for c in cells]) if len(queries) else np.zeros((0, len(cells)))
        judge = self.verdicts.noise(queries, np.array(cells)) if len(queries) else None
        return ScoreTable(scores, weights, clusters, population, judge)


DRAWS = 400  # the quantile that is named then moves by 2 % of the draws (binomial standard error)
SETTLED = 0.8  # part of the draws that the number settles, within SLACK times as many calls
SLACK = 1.5  # what the number may be off by: it is divided by this
BOUND = 3.2  # standard errors that a later look must show, about: the bounds of planned looks lie between 2.8 and 3.5
REST = 1.8  # calls for other axes still in the race and for the rollback, beside those of the test
CHOSEN = 0.5  # standard errors that the best of several suspects is taken to be better than it is


def calls_needed(suspects: Sequence[tuple[Mean, int]], below: Mean, *, tolerance: float, queries: int, seed: int) -> int | None:
    """More calls that would probably settle it; None: no number can be named.

    `suspects`: what each suspect costs so far, and the calls that a further query for it takes. `below`: the loss.
    """
    rng = np.random.default_rng([seed, 8])
    # Fewer say too little of a spread to draw from.
    ways = [_calls_until_passed(m, rng, cost=cost, queries=queries) for m, cost in suspects if m.n >= 12]
    if below.n >= 24:
        short = Mean(tolerance - below.value, below.error, below.n)
        ways.append(_calls_until_passed(short, rng, cost=2, queries=queries))
    ways = [w for w in ways if w is not None]
    if not ways:
        return None
    needed = float(np.sort(np.min(ways, axis=0))[math.ceil(SETTLED * DRAWS) - 1])
    return None if not math.isfinite(needed) else max(1, math.ceil(REST * needed / SLACK))


def _calls_until_passed(mean: Mean, rng: np.random.Generator, *, cost: int, queries: int) -> np.ndarray:
    """(DRAWS,) further calls until a mean like this one passes; infinite where it never does, or the log is too short."""
    truth = mean.value - CHOSEN * mean.error + mean.error * rng.standard_normal(DRAWS)
    spread = mean.error * math.sqrt(mean.n)
    luck = rng.standard_normal(DRAWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        # n such that truth * sqrt(n) / spread + luck = BOUND
        wanted = np.where(truth > 0, (np.maximum(BOUND - luck, 0.5) * spread / truth) ** 2, np.inf)
    more = np.maximum(wanted - mean.n, 1.0)
    return np.where(mean.n + more > queries, np.inf, more * cost)
