"""What holds at every look: bets on scores in [-1, 1], and a loss whose interval is always valid.

A gambler who stakes a part L of the wealth on x multiplies it by 1 + L x. If x has mean 0 or less given what came before, the wealth is
a nonnegative supermartingale and ever passes c with a chance of at most 1 / c (Ville 1939); so is that of several gamblers together.
The loss of paired queries with its sequence is for scores without bounds, clusters and weights.
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats
from bisect_ai.attribution.stats.estimate import PairedSample

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


class MeanAbove:
    """E-process against "the mean of a population of N is 0 or less", its values drawn one by one without replacement.

    If the mean of all N were 0, that of those left is -(sum so far) / (N - n), so a value less that is a fair bet (Waudby-Smith and
    Ramdas 2020): the fewer are left, the less can hide in them. Half of the wealth is bet at fixed stakes (`Wealth`), half at the
    Kelly stake for the mean and variance so far, which wins where values vary much.
    """

    def __init__(self, population: int, *, reach: float = 1.0) -> None:
        self._population, self._reach = population, reach
        self._fixed, self._kelly = Wealth(), 0.0
        self._n, self._sum, self._squares = 0, 0.0, 0.0

    def hear(self, x: float, *, shift: float = 0.0) -> None:
        """Take in the next value, at least `shift` - reach."""
        fair = -self._sum / max(self._population - self._n, 1)
        worst = max(self._reach - shift + fair, 1e-9)
        self._fixed.bet(x - fair, worst=worst)
        if self._n:
            expected = self._sum / self._n - fair
            # one more value at the far end keeps early stakes small
            variance = (self._squares - self._sum**2 / self._n + self._reach**2) / self._n
            stake = min(max(expected / (variance + expected**2), 0.0), STAKES[-1] / worst)
            self._kelly += math.log1p(stake * (x - fair))
        self._n, self._sum, self._squares = self._n + 1, self._sum + x, self._squares + x * x

    @property
    def value(self) -> float:
        """The e-value."""
        return math.exp(min(float(np.logaddexp(self._fixed.log, self._kelly)) - math.log(2), 700.0))

    def mean(self) -> tuple[float, float]:
        """The mean so far and its standard error, as if one further value at the far end had come."""
        n = max(self._n, 1)
        return self._sum / n, math.sqrt(max(self._squares - self._sum**2 / n, 0.0) + self._reach**2) / n


def ruled_in(losses: Floats, *, population: int, reach: float = 1.0) -> tuple[float, float]:
    """The lowest and highest mean of a population in [-1, 1] that the losses, drawn from it in this order, leave possible."""
    half = min(2.0, 6 / math.sqrt(len(losses)))  # a bet on n values in [-1, 1] leaves less than 4 / sqrt(n) open
    means = np.unique(np.clip(losses.mean() + half * np.linspace(-1.0, 1.0, 241), -1.0, 1.0))
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


def loss_sequence(sample: PairedSample) -> Estimate:
    """The loss with an interval that holds at every look (asymptotic confidence sequence, Waudby-Smith et al. 2024)."""
    if sample.n < 8:
        return Estimate(None, None, sample.n, "loss: fewer than eight queries with both scores")
    value, influence = sample.mean(sample.good - sample.bad)
    error, _ = sample.error(influence)
    tuning = 32 / sample.n
    half = error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(value, (value - half, value + half), sample.n, "loss, paired by query, 95 % confidence sequence")
