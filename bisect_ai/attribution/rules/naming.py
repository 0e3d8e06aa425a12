"""How well sets of rules explain the queries: the likelihood of a mixture, less the price of its rules.

Used by the drill-down to say which changes are worth the next trials; no claim rests on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import Floats, Ints
from bisect_ai.attribution.rules.response import ResponseRule

UNSEEN = 0.25
EM_STEPS = 10
LEAST = -500.0


def prices(rules: tuple[ResponseRule, ...], queries: int) -> Floats:
    """(rules,) what a rule must gain in log likelihood: half a log n for its weight, and the choice among its like."""
    size = np.array([len(r.axes) for r in rules])
    alike = np.array([(size == s).sum() for s in range(size.max() + 1)])
    return np.asarray(0.5 * np.log(max(queries, 2)) + np.log(alike[size]) + 0.7 * (size - 1) + 1.7)


def likelihoods(plain: Floats, rules: Floats) -> tuple[Floats, Floats]:
    """Both log likelihoods (rows, …) as parts of the largest in their row.

    None is so small that a mixture of a few is 0: an answer that never varies can speak a thousand nats against a rule.
    """
    top = np.maximum(plain.max(1), rules.max(1))[:, None]
    return np.exp(np.maximum(plain - top, LEAST)), np.exp(np.maximum(rules - top, LEAST))


class CellMixture:
    """The score of sets of rules: log likelihood of the queries under a mixture of plain classes and rules, less prices."""

    def __init__(self, plain: Floats, rules: Floats, price: Floats, simple: NDArray[np.bool_]) -> None:
        self._plain, self._rules = likelihoods(plain, rules)
        self._price, self._simple = price, simple

    def scores(self, sets: Ints) -> tuple[Floats, Floats]:
        """Scores (m,) of m sets of s rules each, and the weights (m, 3 + s) of the plain classes and the rules."""
        m = len(sets)
        plain = np.broadcast_to(self._plain, (m, *self._plain.shape))
        parts = np.concatenate([plain, self._rules[:, sets].transpose(1, 0, 2)], axis=2)
        turned = parts.transpose(0, 2, 1) / parts.shape[1]
        weights = np.full((m, parts.shape[2], 1), 1.0 / parts.shape[2])
        for _ in range(EM_STEPS):
            weights = weights * (turned @ (1.0 / (parts @ weights))) + 1e-4
            weights /= weights.sum(1, keepdims=True)
        like = np.log(parts @ weights).sum((1, 2))
        return like - self._price[sets].sum(1), weights[:, :, 0]

    def doubt(self, chosen: tuple[int, ...], weights: Floats) -> float:
        """The largest log likelihood ratio of "UNSEEN of what the chosen rules explain is another simple rule's doing"."""
        harm = self._rules[:, list(chosen)] @ weights[len(weights) - len(chosen) :]
        now = self._plain @ weights[: len(weights) - len(chosen)] + harm
        others = self._simple & ~np.isin(np.arange(len(self._simple)), chosen)
        other = self._rules[:, others] * weights[len(weights) - len(chosen) :].sum()
        moved = now[:, None] + UNSEEN * (other - harm[:, None])
        return float(np.log(moved / now[:, None]).sum(0).max(initial=-np.inf))
