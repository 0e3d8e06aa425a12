"""The classical designs as a search: every query in every chosen cell, one look at the end.

First good and bad on all queries of the sample (does the drop show at all?), then the inner cells, in one shuffled order so
that no cell runs in a block of its own. The inner cells wait for good and bad only while a loss is in doubt: that saves their
calls when there is none, and decides nothing else. The number of queries is fixed beforehand from the budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bisect_ai.attribution.designs.findings import conclude_scores, settled_without_cells
from bisect_ai.attribution.designs.fractions import MOST_AXES_FULL, fraction
from bisect_ai.attribution.problem import Attribution, Belief, Floats, Outcome, Problem, Trial, cluster_numbers
from bisect_ai.attribution.stats.contrasts import loss
from bisect_ai.attribution.stats.inference import ScoreTable, estimate
from bisect_ai.attribution.stats.missing import comparable, with_failures
from bisect_ai.attribution.stats.verdicts import Verdicts
from bisect_ai.errors import InputError

MANY = 100  # with fewer, one in `LATE` would be too few to tell of a move
# From `MANY` queries on, one in `LATE` runs under good and bad among the inner cells: they tell of scores that move in a
# run.
LATE = 10
# Trials of good and of bad before their difference is believed.
ENOUGH = 30


class FactorialSearch:
    """A full or fractional factorial over the sample's first queries; `cells` must hold both corners."""

    def __init__(self, problem: Problem, cells: Sequence[int] | None = None) -> None:
        if cells is None and problem.k > MOST_AXES_FULL:
            raise InputError(
                f"design full: {problem.k} axes changed, which makes {2**problem.k} cells; it takes up to {MOST_AXES_FULL}; "
                "use design fractional or adaptive, or leave axes out"
            )
        self._problem = problem
        chosen = range(problem.full + 1) if cells is None else cells
        self._cells = [c for c in chosen if c not in problem.infeasible]
        self._infeasible = set(problem.infeasible)
        self._queries = min(problem.queries, problem.budget // max(len(self._cells), 1))
        if self._queries < 2:
            raise InputError(
                f"design with {len(self._cells)} cells: {problem.budget} calls leave {self._queries} queries a cell; "
                # Some 30 queries a cell: below it t intervals of a share are far off.
                f"raise the budget to {len(self._cells) * 30} calls or more"
            )
        self._scores = np.full((self._queries, problem.full + 1), np.nan)
        self._failed = np.zeros(self._scores.shape, bool)
        self._verdicts = Verdicts()
        self._trials = np.zeros(problem.full + 1, int)
        self._errors = np.zeros(problem.full + 1, int)
        self._rng = np.random.default_rng([problem.seed, 1])
        corners, inner = [0, problem.full], [c for c in self._cells if c not in (0, problem.full)]
        late = self._queries // LATE if inner and self._queries >= MANY else 0
        first, last = range(self._queries - late), range(self._queries - late, self._queries)
        self._stages = deque(
            [
                [Trial(q, c) for q in first for c in corners],
                [Trial(q, c) for q in range(self._queries) for c in inner] + [Trial(q, c) for q in last for c in corners],
            ]
        )
        self._queue: deque[Trial] = deque()
        self._stage = "reproduce"
        self._waiting = 0

    def ask(self, width: int) -> Sequence[Trial]:
        """The next trials, at most `width`; empty while outcomes are awaited and when all is settled."""
        if not self._queue and self._stages and (not self._waiting or self._loss_shows()):
            self._next_stage()
        batch = [self._queue.popleft() for _ in range(min(width, len(self._queue)))]
        self._waiting += len(batch)
        return batch

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what came back."""
        for outcome in outcomes:
            trial, score, status, *_ = outcome
            self._verdicts.hear(outcome)
            self._waiting -= 1
            if status == "infeasible":
                self._drop_cell(trial.cell)
                continue
            self._trials[trial.cell] += 1
            if score is None or status != "ok":
                self._errors[trial.cell] += 1
                self._failed[trial.query, trial.cell] = status == "error"
            else:
                self._scores[trial.query, trial.cell] = score

    def set_tolerance(self, tolerance: float) -> None:
        """The tolerance, where it is known only once the good release has answered."""
        self._problem = replace(self._problem, tolerance=tolerance)

    def belief(self) -> Belief:
        """The stage. A fixed design is looked at once, at its end, so no interval is shown before."""
        done = not self._queue and not self._stages and not self._waiting
        value = estimate(self._table_so_far(), loss(self._problem.k), what="loss") if done else None
        return Belief(self._stage, value) if value else Belief(self._stage, _NOT_YET)

    def result(self) -> Attribution:
        """What the evidence so far says."""
        return conclude_scores(
            self._problem,
            self._table_so_far(),
            trials=self._trials,
            errors=self._errors,
            infeasible=frozenset(self._infeasible),
            planned=len(self._cells),
        )

    def _loss_shows(self) -> bool:
        """Whether what has been heard of good and bad already puts the loss's interval above the tolerance."""
        if self._trials[[0, self._problem.full]].min() < ENOUGH:
            return False
        fit = self._table_so_far().fit(loss(self._problem.k))
        return fit is not None and fit.interval()[0] >= self._problem.tolerance

    def _next_stage(self) -> None:
        while self._stages and not self._queue:
            if self._stage == "localise":
                return
            planned = self._stages.popleft()
            if self._trials.any():
                self._stage = "localise"
                if settled_without_cells(self._problem, self._table_so_far()):
                    return
            trials = [t for t in planned if t.cell not in self._infeasible]
            self._queue.extend(trials[i] for i in self._rng.permutation(len(trials)))

    def _drop_cell(self, cell: int) -> None:
        self._infeasible.add(cell)
        self._scores[:, cell] = np.nan
        self._failed[:, cell] = False
        self._queue = deque(t for t in self._queue if t.cell != cell)

    def _table_so_far(self) -> ScoreTable:
        """The scores with failed calls as the worst; what is censored is left out query by query."""
        scores = with_failures(self._scores, self._failed, self._problem.bounds)
        return comparable(table_of(self._problem, scores, self._verdicts))


def table_of(problem: Problem, scores: Floats, verdicts: Verdicts | None = None) -> ScoreTable:
    """The scores of the problem's first queries as a table with their weights, clusters, population and verdicts."""
    n = len(scores)
    weights = np.ones(n) if problem.weights is None else problem.weights[:n]
    clusters = cluster_numbers(problem.clusters, np.arange(n))
    population = float("inf") if problem.population is None else float(max(problem.population, n))
    judge = None if verdicts is None else verdicts.noise(np.arange(n), np.arange(problem.full + 1))
    return ScoreTable(scores, weights, clusters, population, judge)


_NOT_YET = estimate(
    ScoreTable(np.full((1, 2), np.nan), np.ones(1), np.zeros(1, int), float("inf")),
    loss(1),
    what="loss before the end of a fixed design",
)


class FractionalSearch(FactorialSearch):
    """A factorial search over a fraction's cells, which says in its notes what it cannot tell apart."""

    def __init__(self, problem: Problem) -> None:
        self._fraction = fraction(problem.axes)
        super().__init__(problem, self._fraction.cells)

    def result(self) -> Attribution:
        """The attribution, with the aliases among its notes."""
        found = super().result()
        aliased = "; ".join(" = ".join(" × ".join(pair) for pair in group) for group in self._fraction.aliases)
        notes = (f"pairs that this fraction cannot tell apart: {aliased}",) if aliased else ()
        return replace(found, notes=(*found.notes, *notes))
