"""How far a standardised sum must stray to count when it is looked at several times (group-sequential boundary).

Looks are taken each time the information has grown by half. The sums at the looks form a Gaussian random walk; the constant
boundary that it crosses with a chance of alpha is found by the recursion of Armitage, McPherson and Rowe (1969), as in
Pocock (1977), here with looks spaced geometrically.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

GROWTH = 1.5
FIRST = 16  # units of information at the first look


def looks_within(units: float) -> int:
    """How many looks there will be when the information can reach `units`."""
    return 1 + max(0, math.floor(math.log(max(units, FIRST) / FIRST) / math.log(GROWTH)))


def last_bound(alpha: float) -> float:
    """The z that the sum at the very end of the budget must pass: half of alpha is kept for it."""
    return NormalDist().inv_cdf(1 - alpha / 2)


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
