"""Which few rules explain scores in cells: least squares within queries.

Each query's own level is taken off, so that only what the cells change is left. Large deviations are clipped: a heavy tail may
cost calls, not the reading of all other queries. The score of a set of rules is its BIC, a price for the number of axes included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.naming import Structure, explain
from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.response import Rule, hits_of, rules_of

Bools = NDArray[np.bool_]
UNNAMED = 1e6
"""Price of leaving an axis without a rule that was shown to cost quality."""
OTHER = 0.35
CLIP = 9.0  # times the usual deviation (1.48 median absolute deviations)


class Levels:
    """The score of sets of rules on scores y (trials,) whose rules' signs are x (trials, rules), both centred within queries."""

    def __init__(self, x: Floats, y: Floats, *, freedom: int, rules: tuple[Rule, ...], holds: Bools) -> None:
        self._gram, self._goal, self._total = x.T @ x, x.T @ y, max(float(y @ y), 1e-300)
        self._freedom = max(freedom, 1)
        size = np.array([len(r.axes) for r in rules])
        self._price = 0.5 * np.log(max(freedom, 2)) + np.log(4.0 * size) * size
        self._other = size == 1
        self._holds = holds

    def scores(self, sets: Ints) -> tuple[Floats, Floats]:
        """Scores (m,) of m sets of s rules each, and their weights (m, s) in score points."""
        m, size = sets.shape
        gram = self._gram[sets[:, :, None], sets[:, None, :]]
        ridge = 1e-9 * np.maximum(np.trace(gram, axis1=1, axis2=2), 1e-9)[:, None, None] * np.eye(size)
        goal = self._goal[sets][:, :, None]
        weights = np.linalg.solve(gram + ridge, goal)[:, :, 0] if size else np.zeros((m, 0))
        explained = (weights * goal[:, :, 0]).sum(1)
        rest = np.maximum(self._total - explained, 1e-9 * self._total)
        missing = (~self._holds[sets].any(1)).sum(1)
        score = -0.5 * self._freedom * np.log(rest / self._total) - self._price[sets].sum(1) - UNNAMED * missing
        return np.where((weights > 0).all(1), score, -1e9), weights

    def doubt(self, chosen: tuple[int, ...], weights: Floats) -> float:
        """The largest log likelihood ratio of "OTHER of what the chosen rules explain is another rule's doing"."""
        inside = list(chosen)
        others = np.flatnonzero(self._other & ~np.isin(np.arange(len(self._other)), inside))
        kept, moved = (1 - OTHER) * weights, OTHER * weights.sum()
        fixed = self._rest(weights, inside), self._rest(kept, inside)
        cross = 2 * moved * (self._gram[others][:, inside] @ kept - self._goal[others])
        rest = fixed[1] + cross + moved**2 * np.diag(self._gram)[others]
        return float((-0.5 * self._freedom * np.log(rest / fixed[0])).max(initial=-np.inf))

    def _rest(self, weights: Floats, inside: list[int]) -> float:
        """The sum of squares that rules `inside` with these weights leave."""
        explained = 2 * weights @ self._goal[inside] - weights @ self._gram[inside][:, inside] @ weights
        return max(self._total - float(explained), 1e-9 * self._total)


def explain_levels(k: int, queries: Ints, cells: Ints, scores: Floats, *, held: frozenset[int]) -> Structure:
    """The rules behind the scores of `queries` in `cells` (all (trials,)), every axis of `held` in one of them."""
    every = rules_of(k)
    groups, place = np.unique(queries, return_inverse=True)
    sizes = np.bincount(place)

    def within(values: Floats) -> Floats:
        return np.asarray(values - (np.bincount(place, values) / sizes)[place])

    y = within(scores)
    limit = CLIP * 1.48 * float(np.median(np.abs(y))) or np.inf
    x = np.column_stack([within(-row[cells]) for row in hits_of(every, k)])
    holds = np.array([[a in r.axes for a in sorted(held)] for r in every]).reshape(len(every), len(held))
    freedom = len(y) - len(groups)
    levels = Levels(x, np.clip(y, -limit, limit), freedom=freedom, rules=every, holds=holds)
    return explain(levels, every)
