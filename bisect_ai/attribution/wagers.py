"""Bets on scores in [-1, 1]: the evidence that a mean is above 0, and what a population's mean can still be.

A gambler who stakes a part L of the wealth on x multiplies it by 1 + L x. If x has mean 0 or less given what came before, the wealth is
a nonnegative supermartingale and ever passes c with a chance of at most 1 / c (Ville 1939); so is that of several gamblers together.
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Floats

STAKES = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 0.95])
PURSES = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])
"""What each gambler starts with: most where answers that repeat exactly are settled fastest."""


class Wealth:
    """What gamblers who stake STAKES have together, starting with 1 in all."""

    def __init__(self) -> None:
        self._logs: Floats = np.log(PURSES)

    def bet(self, x: float, *, worst: float = 1.0) -> None:
        """Take in an outcome whose mean is 0 or less if the claim is wrong; `worst`: how far below 0 it could have been."""
        self._logs = self._logs + np.log1p(STAKES / max(worst, 1.0) * x)

    @property
    def log(self) -> float:
        """The logarithm of their wealth."""
        return float(np.logaddexp.reduce(self._logs))

    @property
    def value(self) -> float:
        """Their wealth, cut where a float ends."""
        return math.exp(min(self.log, 700.0))


def ruled_in(losses: Floats, *, population: int, reach: float = 1.0) -> tuple[float, float]:
    """The lowest and highest mean of a population in [-1, 1] that the losses, drawn from it in this order, leave possible."""
    means = np.linspace(-1.0, 1.0, 801)
    wealth = [np.tile(np.log(PURSES), (len(means), 1)) for _ in range(2)]
    most = [np.full(len(means), -np.inf) for _ in range(2)]
    lost = 0.0
    for n, loss in enumerate(losses):
        expected = (population * means - lost) / max(population - n, 1)
        for side, sign in enumerate((1.0, -1.0)):  # against "as much or less", against "as much or more"
            worst = np.maximum(reach + sign * expected, 1.0)
            wealth[side] = wealth[side] + np.log1p(STAKES * (sign * (loss - expected) / worst)[:, None])
            most[side] = np.maximum(most[side], np.logaddexp.reduce(wealth[side], axis=1))
        lost += loss
    bound = math.log(2 / 0.05)
    low, high = means[most[0] < bound], means[most[1] < bound]
    return float(low.min(initial=lost / len(losses))), float(high.max(initial=lost / len(losses)))
