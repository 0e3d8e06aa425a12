"""Two axes: the four cells on every query.

Of two axes no cell is left in which chance could decide between them once good and bad have run, and a cell that is run again may
repeat itself without telling anything. So every query runs in all four. If axis a has no effect whatever, then with the other axis good
as with it bad the scores with a good and with a bad are exchangeable: their difference is as likely to be d as -d. The sum of
weighted differences over the root of their sum of squares is a self-normalised sum of random signs (Efron 1969), looked at as in
`looks`. The two differences of a query get weights that depend on earlier queries only, so that a loss that shows with the
other axis bad only is not diluted by the noise of the rest; what weights come out may cost calls, not truth.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from bisect_ai.attribution.costs import Costs
from bisect_ai.attribution.levels import explain_levels
from bisect_ai.attribution.looks import Looks
from bisect_ai.attribution.naming import Structure, explain_responses
from bisect_ai.attribution.problem import Floats, Ints, Trial
from bisect_ai.attribution.response import Responses

AXES = 2
CELLS = 4
INNER = (1, 2)
BELIEF = 4.0  # differences: the weight of the first guess at how far they lean to one side
LEAN = 0.5  # that guess, times their usual size
LEAST = 0.02
SIGNS = 5  # differences that are not 0: fewer are never enough


class Squares:
    """The evidence from whole squares. `watch` queries, then `plan` the inner trials and let it `hear` and `note` scores."""

    def __init__(self, infeasible: frozenset[int], *, affordable: int) -> None:
        self._looks = Looks(AXES, units=affordable / CELLS)
        self._runs = np.array([c not in infeasible for c in range(CELLS)])
        self._queue: deque[Trial] = deque()
        self._row: dict[int, int] = {}
        self._queries: list[int] = []
        self._scores: list[list[float]] = []
        self._pending: list[int] = []
        self._whole = 0
        self._order: list[int] = []
        self.costs = Costs(AXES)
        """What each axis costs, the other good or bad by halves."""

    def watch(self, queries: Ints, good: Floats, bad: Floats) -> None:
        """Queries that ran under good and bad, with their scores, join."""
        for q, g, b in zip(queries.tolist(), good.tolist(), bad.tolist(), strict=True):
            inner = [c for c in INNER if self._runs[c]]
            self._row[q] = len(self._queries)
            self._queries.append(q)
            self._scores.append([g, np.nan, np.nan, b])
            self._pending.append(len(inner))
            self._queue.extend(Trial(q, c) for c in inner)

    def forbid(self, cell: int) -> None:
        """The cell cannot run: no difference holds it."""
        self._runs[cell] = False
        self._queue = deque(t for t in self._queue if t.cell != cell)
        for row in self._scores:
            row[cell] = np.nan

    def plan(self, count: int, rng: np.random.Generator) -> list[Trial]:
        """At most `count` trials; the two of one query in random order."""
        trials = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        return [trials[i] for i in rng.permutation(len(trials))]

    def hear(self, trials: list[Trial], scores: Floats) -> None:
        """What came of planned trials; NaN where there is no score."""
        whole = len(self._order)
        for trial, score in zip(trials, scores.tolist(), strict=True):
            row = self._row[trial.query]
            self._scores[row][trial.cell] = score if self._runs[trial.cell] else np.nan
            self._pending[row] -= 1
            if self._pending[row] == 0:
                self._order.append(row)
        self._add_costs(np.array(self._scores)[self._order[whole:]].reshape(-1, CELLS))
        if self._looks.due(len(self._order)):
            self._looks.take(len(self._order), self.z())

    def _add_costs(self, scores: Floats) -> None:
        """Whole squares (n, cells) join what each axis costs."""
        scores = scores[~np.isnan(scores).any(1)]
        self.costs.check(scores)
        none, first, second, both = scores.T
        halves = np.stack([none - first + second - both, none - second + first - both], 1) / 2
        self.costs.add(halves, np.ones_like(halves))

    @property
    def chosen(self) -> frozenset[int]:
        """Queries that were watched because of how they answered: none."""
        return frozenset()

    @property
    def trials(self) -> int:
        """Trials heard in inner cells."""
        return 2 * len(self._order)

    def named(self, alpha: float) -> frozenset[int]:
        """Axes shown to cost quality at a look, with a chance of at most alpha that any of them has no effect."""
        return frozenset(a for a in self._looks.named(alpha) if self._signs(a) >= SIGNS)

    def last_look(self) -> None:
        """The budget ends: the one look for which part of the error budget was kept. Later calls change nothing."""
        if self._order:
            self._looks.end(len(self._order), self.z())

    @property
    def log_evidence(self) -> Floats:
        """(2,) the evidence on each axis on the scale of a log likelihood ratio."""
        return np.asarray(np.maximum(self.z(), 0) ** 2 / 2)

    def z(self) -> Floats:
        """(2,) standardised weighted sums of signed differences; positive: the axis costs quality."""
        scores = np.array(self._scores)[self._order] if self._order else np.zeros((0, CELLS))
        return np.array([_standardised(*_differences(scores, a)) for a in range(AXES)])

    def structure(self, held: frozenset[int]) -> Structure:
        """The rules that explain the scores, every axis of `held` in one of them."""
        scores = np.array(self._scores)[self._order]
        rows, cells = np.nonzero(~np.isnan(scores))
        if _binary(scores):
            model = Responses(AXES)
            model.watch(len(scores))
            model.hear(rows, cells, (scores[rows, cells] > np.nanmin(scores)).astype(int))
            model.refit(steps=20)
            return explain_responses(model)
        return explain_levels(AXES, rows, cells, scores[rows, cells], held=held)

    def suspicion(self) -> list[tuple[frozenset[int], float]]:
        """Single axes with a degree of suspicion."""
        z = np.maximum(self.z(), 0)
        total = float(z.sum()) or 1.0
        return [(frozenset({int(a)}), float(z[a] / total)) for a in np.argsort(-z, kind="stable") if z[a] > 0]

    def _signs(self, axis: int) -> int:
        return int((_differences(np.array(self._scores)[self._order], axis)[0] != 0).sum())


def _differences(scores: Floats, axis: int) -> tuple[Floats, Ints]:
    """(queries, 2) score with the axis good less that with it bad, the other axis good, then bad (0: one is missing), and kinds.

    The kind says what the query's other difference looks like, whichever way round: both differ; the other two scores
    are alike and high, or alike and low. On numeric metrics all that is known is which of the two it is.
    """
    other = 1 << (1 - axis)
    pairs = scores[:, [[0, 1 << axis], [other, 3]]]
    d = np.nan_to_num(pairs[:, :, 0] - pairs[:, :, 1])
    level = np.nan_to_num(pairs.sum(2), nan=np.inf)[:, ::-1]
    if not _binary(scores):
        return d, np.broadcast_to(np.array([0, 1]), d.shape)
    alike = 1 + np.array([0, 2]) + (level > np.nanmin(scores) + np.nanmax(scores))
    return d, np.where(d[:, ::-1] != 0, 0, alike)


def _binary(scores: Floats) -> bool:
    seen = np.unique(scores[~np.isnan(scores)])
    return 0 < len(seen) <= 2


def _standardised(d: Floats, kinds: Ints) -> float:
    """The self-normalised sum of differences d (queries, 2), clipped at thrice their usual size.

    Each is weighted by how far those of its kind, in the queries before, leaned to one side.
    """
    if not d.any():
        return 0.0
    usual = float(np.median(d[d != 0] ** 2))
    d = np.clip(d, -3 * usual**0.5, 3 * usual**0.5)
    member = (kinds[:, :, None] == np.arange(kinds.max() + 1)).astype(float)
    sums, squares = ((d**power)[:, :, None] * member for power in (1, 2))
    lean = (_before(sums) + LEAN * BELIEF * usual**0.5) / (_before(squares) + BELIEF * usual)
    weighted = np.maximum((lean[:, None] * member).sum(2), LEAST) * d
    return float(weighted.sum() / np.sqrt((weighted**2).sum()))


def _before(terms: Floats) -> Floats:
    """(queries, kinds) sums over all earlier queries."""
    sums = terms.sum(1).cumsum(0)
    return np.vstack([np.zeros((1, sums.shape[1])), sums[:-1]])
