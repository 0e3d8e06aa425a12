"""Evidence that an axis costs quality, as the wealth of a gambler whom chance gives no edge when the axis does nothing.

A trial's cell was drawn from a known distribution, so whether axis a was bad in it, given the other axes, is a coin whose bias is
known. If a has no effect whatever, the answer cannot tell which way the coin fell, and the bet

    e = p(y | S) / (c p(y | S with a bad) + (1 - c) p(y | S with a good)),   c: the coin's bias

has mean 1, whatever the predictive density p (Candes, Fan, Janson and Lv 2018; Shafer 2021). The product of such bets is a
nonnegative martingale: it ever passes 1/alpha with a chance of at most alpha (Ville 1939), so looking after every round is free.
A gambler who stakes only a part L of the wealth multiplies it by 1 + L (e - 1); the average of several such gamblers is again a
martingale, and close to the best of them (Waudby-Smith and Ramdas 2024; Cover 1991): a wrong p costs calls, not truth.
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints

STAKES = np.array([0.25, 0.5, 0.75, 1.0])


class Wealth:
    """The wealth of bets against "axis a has no effect", for k axes; starts at 1."""

    def __init__(self, axes: int) -> None:
        self._heard: list[tuple[Ints, Floats]] = []
        """The cells (t,) of every round of bets, and the bets (t, axes, stakes)."""
        self._logs = np.zeros((axes, len(STAKES)))
        self.log = np.zeros(axes)
        """(axes,) log wealth of the average gambler."""

    def bet(self, cells: Ints, ratios: Floats) -> None:
        """Adds the e-values of trials in `cells` (t,): `ratios` (t, axes), 1 where the coin had one side only."""
        bets = np.log1p(STAKES * (np.maximum(ratios, 1e-5)[:, :, None] - 1.0))
        self._heard.append((cells, bets))
        self._logs = self._logs + bets.sum(0)
        self.log = _average(self._logs)

    def exclude(self, cell: int) -> None:
        """Takes back the bets whose other side, `cell`, turned out not to run: that coin was never tossed."""
        self._logs = np.zeros_like(self._logs)
        for cells, bets in self._heard:
            for a in range(len(self._logs)):
                bets[cells == cell ^ (1 << a), a] = 0.0
            self._logs = self._logs + bets.sum(0)
        self.log = _average(self._logs)


def _average(logs: Floats) -> Floats:
    """(axes,) the log of the mean of the gamblers' wealth, whose logs (axes, stakes) are given."""
    top = logs.max(1)
    return np.asarray(top + np.log(np.exp(logs - top[:, None]).mean(1)))


def holm(log_wealth: Floats, alpha: float) -> frozenset[int]:
    """The axes whose null is rejected with a family-wise error of at most alpha (Holm's steps on e-values)."""
    named: list[int] = []
    logs = log_wealth.tolist()
    if max(logs) < math.log(len(logs) / alpha):  # most looks end here
        return frozenset()
    for a in sorted(range(len(logs)), key=lambda a: -logs[a]):
        if logs[a] < math.log((len(logs) - len(named)) / alpha):
            break
        named.append(a)
    return frozenset(named)


def ratios(passes: Floats, chances: Floats, cells: Ints, passed: Ints) -> Floats:
    """(t, axes) e-values of t trials drawn in `cells` that failed (0) or passed (1).

    `passes` and `chances` (t, cells) are the predicted pass rates and the chances that the cells were drawn with.
    """
    axes = passes.shape[1].bit_length() - 1
    row, cell, won = np.arange(len(cells))[:, None], cells[:, None], passed[:, None] > 0
    other = cell ^ (1 << np.arange(axes))
    here, there = chances[row, cell], chances[row, other]
    likely, else_likely = (np.where(won, p, 1.0 - p) for p in (passes[row, cell], passes[row, other]))
    mixed = (here * likely + there * else_likely) / (here + there)
    return np.where(there > 0, likely / mixed, 1.0)
