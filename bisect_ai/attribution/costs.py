"""What each axis costs where it was tried, with bounds that hold at every look: for the eyes of who waits, never for the verdict.

A trial's cell was drawn by chance, so that given the other axes a coin of known bias put axis a on its good or its bad side. With c the
chance of bad and y the score less any guess m that was made before, x = c y where the coin fell on good and -(1 - c) y where it fell on
bad has the mean c (1 - c) times the cost of a on that query in that combination. Divided by the most that |x| can be, both are summed:
the ratio is a mean cost over all trials so far, the fair coins counting most, whatever the search asked for and had seen. So are the
means of differences of scores, of a cell and its complement with the sign that a fair coin gave, and of the cells of a whole square.

The bounds are those of a sum of x that may each have a mean of its own (empirical Bernstein: Howard, Ramdas, McAuliffe and Sekhon 2021,
Theorem 4): for every stake s, exp(s (sum of x less its means) - psi(s) sum of x^2) is a supermartingale, psi(s) = -log(1 - s) - s, as
no x lies outside -1 to 1; their average over a few stakes is one too.
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints

STAKES = [(s, -math.log1p(-s) - s) for s in (0.05, 0.1, 0.2, 0.35, 0.6)]
"""Each s with its psi(s)."""
ALPHA = 0.05
HALVINGS = 24
FEWEST = 4
"""Trials below which nothing is shown."""


class Costs:
    """The running sums for k axes; `add` trials, read `estimates`. Costs nothing worth counting: a few additions a trial."""

    def __init__(self, axes: int) -> None:
        self._sum, self._squares, self._weight = np.zeros(axes), np.zeros(axes), np.zeros(axes)
        self._trials = np.zeros(axes, int)
        self._inside = True

    def add(self, x: Floats, weights: Floats) -> None:
        """(t, axes) numbers, and what their means are a cost times of; 0 and 0 where the coin had one side only."""
        self._sum += x.sum(0)
        self._squares += (x**2).sum(0)
        self._weight += weights.sum(0)
        self._trials += (weights > 0).sum(0)

    def check(self, scores: Floats) -> None:
        """Scores that are not between 0 and 1 have no bounds."""
        self._inside = self._inside and not bool(((scores < 0) | (scores > 1)).any())

    def estimates(self) -> list[Estimate]:
        """One for each axis: score points, 95 % at all looks at once, each axis by itself."""
        return [self._estimate(a) for a in range(len(self._sum))]

    def _estimate(self, axis: int) -> Estimate:
        n, weight = int(self._trials[axis]), float(self._weight[axis])
        if n < FEWEST or not self._inside:
            return Estimate(None, None, n, "cost where tried: too few trials, or scores without bounds")
        value = float(self._sum[axis]) / weight
        reach = _boundary(float(self._squares[axis])) / weight
        value, low, high = (min(max(x, -1.0), 1.0) for x in (value, value - reach, value + reach))
        return Estimate(value, (low, high), n, "cost where tried, 95 % confidence sequence")


def _boundary(squares: float) -> float:
    """What the sum must differ by from its means before the average over the stakes passes 2 / alpha, by halving."""
    low, high = 0.0, min((math.log(2 * len(STAKES) / ALPHA) + psi * squares) / s for s, psi in STAKES)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passed = sum(math.exp(s * middle - psi * squares) for s, psi in STAKES) >= 2 * len(STAKES) / ALPHA
        low, high = (low, middle) if passed else (middle, high)
    return high


def coin_terms(passes: Floats, chances: Floats, cells: Ints, passed: Ints) -> tuple[Floats, Floats]:
    """(t, axes) what trials drawn in `cells` add that scored 0 or 1 (`passed`), and (t, axes) the weights.

    `passes` and `chances` (t, cells) are the predicted pass rates and the chances that the cells were drawn with.
    """
    axes = passes.shape[1].bit_length() - 1
    row, cell, bits = np.arange(len(cells))[:, None], cells[:, None], 1 << np.arange(axes)
    is_bad = (cell & bits) > 0
    here, there = chances[row, cell], chances[row, cell ^ bits]
    bad = np.where(is_bad, here, there) / (here + there)
    good = 1 - bad
    guess = good * passes[row, cell | bits] + bad * passes[row, cell & ~bits]
    most = np.maximum(bad, good) * np.maximum(guess, 1 - guess)
    weights = bad * good / most
    terms = np.where(is_bad, -good, bad) * (passed[:, None] - guess) / most
    return np.where(weights > 0, terms, 0.0), weights
