"""How far a standardised sum must stray to count when it is looked at several times (group-sequential boundary).

Looks are taken each time the information has grown by half. The sums at the looks form a Gaussian random walk. Boundaries
come from the recursion of Armitage, McPherson and Rowe (1969): a constant one (Pocock 1977) for the loss, and for the axes one
that spends a part of alpha evenly over the looks and all the rest at the end of the budget (Lan and DeMets 1983). The end may come
after any number of trials: what it can still cross with is counted given the looks that were taken.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from bisect_ai.attribution.problem import Floats

GROWTH = 1.5
FIRST = 16  # units of information at the first look
EARLY = 0.25  # of alpha is spent on the looks before the end of the budget
_EDGES = np.linspace(-8.0, 8.0, 401)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2


class Looks:
    """Standardised sums of k axes, each looked at as information grows, and once more at the end of the budget."""

    def __init__(self, k: int, *, units: float) -> None:
        self._k = k
        self._planned = looks_within(units)
        self._next = float(FIRST)
        self._units: list[float] = []
        self._z: list[Floats] = []
        self._over = False

    def due(self, units: float) -> bool:
        """Whether the information has grown enough for another look."""
        return not self._over and units >= self._next and len(self._z) < self._planned

    def take(self, units: float, z: Floats) -> None:
        """A look at z (k,)."""
        self._units.append(units)
        self._z.append(z)
        while self._next <= units:
            self._next *= GROWTH

    def end(self, units: float, z: Floats) -> None:
        """The look at the end of the budget; later calls change nothing."""
        if not self._over:
            self._over = True
            self._units.append(units)
            self._z.append(z)

    def named(self, alpha: float) -> frozenset[int]:
        """The axes whose sums passed a boundary, with a chance of at most alpha that any has mean 0 or less (Holm's steps)."""
        if not self._z:
            return frozenset()
        z, named = np.array(self._z), list[int]()
        while len(named) < self._k:
            bounds = np.array(spending(tuple(self._units), self._planned, alpha / (self._k - len(named)), self._over))
            excess = (z - bounds[:, None]).max(0)
            excess[named] = -np.inf
            best = int(np.argmax(excess))
            if excess[best] <= 0:
                break
            named.append(best)
        return frozenset(named)


@lru_cache(maxsize=1024)
def spending(units: tuple[float, ...], planned: int, alpha: float, over: bool) -> tuple[float, ...]:
    """The z that each look, taken at `units`, must pass: one-sided, alpha in all.

    Every one of the `planned` looks spends the same part of EARLY * alpha; with `over`, the last one all that is left.
    """
    density = np.diff(_normal_cdf(_EDGES))
    bounds = []
    for i in range(len(units)):
        if i:
            density = density @ _steps(math.sqrt(units[i - 1] / units[i]))
        spent = EARLY * alpha / planned
        if over and i == len(units) - 1:
            spent = alpha - i * spent
        bounds.append(_bound(density, spent))
        density = density * np.clip((bounds[-1] - _EDGES[:-1]) / (_EDGES[1] - _EDGES[0]), 0, 1)
    return tuple(bounds)


def _bound(density: Floats, spent: float) -> float:
    """The z above which the density has the mass `spent`."""
    above = np.append(density[::-1].cumsum()[::-1], 0.0)
    return float(np.interp(-spent, -above, _EDGES))


@lru_cache(maxsize=24)
def _steps(rho: float) -> Floats:
    """(from, to) chances of a standardised sum to get from one bin to another when its correlation over time is rho."""
    spread = math.sqrt(max(1 - rho**2, 1e-9))
    return np.asarray(np.diff(_normal_cdf((_EDGES[None] - rho * _MIDDLES[:, None]) / spread), axis=1))


def _normal_cdf(z: Floats) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def looks_within(units: float) -> int:
    """How many looks there will be when the information can reach `units`."""
    return 1 + max(0, math.floor(math.log(max(units, FIRST) / FIRST) / math.log(GROWTH)))


@lru_cache(maxsize=256)
def boundary(looks: int, alpha: float) -> float:
    """The z that the largest of `looks` standardised sums passes with a chance of alpha / 2, one-sided."""
    alpha = alpha / 2
    low, high = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(1 - alpha / looks) + 1e-9
    for _ in range(18):
        middle = (low + high) / 2
        low, high = (middle, high) if _crossing(looks, middle) > alpha else (low, middle)
    return high


def _crossing(looks: int, z: float) -> float:
    grid = np.linspace(-6.0, z, 160)
    step = grid[1] - grid[0]
    rho = 1 / math.sqrt(GROWTH)
    spread = math.sqrt(1 - rho**2)
    kernel = np.exp(-0.5 * ((grid[:, None] - rho * grid[None]) / spread) ** 2) / (spread * math.sqrt(2 * math.pi)) * step
    weights = np.ones(len(grid))
    weights[[0, -1]] = 0.5
    density = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    for _ in range(looks - 1):
        density = kernel @ (weights * density)
    return 1.0 - float((weights * density).sum() * step)
