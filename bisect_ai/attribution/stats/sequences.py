"""A mean with bounds that hold at every look, from bets: a confidence sequence for numbers between -1 and 1.

A gambler who holds that the mean is m, or less, stakes the part s of the wealth on more: a number x multiplies it by
1 - s + s (1 + x) / (1 + m). Were the mean m at most, that factor would be 1 at most on average, so the wealth passes 1 / alpha, ever,
with a chance of at most alpha (Ville 1939). The means that no gambler got rich against make up the interval (Waudby-Smith and Ramdas
2024, section 4); the wealth of several s is averaged. It falls as m grows, so that each end is found by halving.

`loss_sequence` is the asymptotic kind, for scores without bounds, clusters and weights.
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats
from bisect_ai.attribution.stats.estimate import PairedSample

STAKES = np.array([0.03, 0.06, 0.12, 0.25, 0.5, 0.9])
"""Parts of the wealth, each about twice the one before: whatever would be best, one of them grows at 4/5 of its pace or more."""
HALVINGS = 40
BINS = 1000
"""Steps of a unit that numbers are rounded to, away from the claim, where a bound need not be sharp."""


def log_wealth(x: Floats, mean: float) -> Floats:
    """(n, stakes) logarithms of what each number multiplies the wealth by that is staked on a mean above `mean` (> -1)."""
    found: Floats = np.log1p(STAKES * ((1.0 + np.asarray(x)[:, None]) / (1.0 + mean) - 1.0))
    return found


def mixed(logs: Floats) -> Floats:
    """(...,) the logarithm of the mean wealth of the gamblers in the last dimension."""
    top = logs.max(-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).mean(-1)))


def path(x: Floats, mean: float) -> Floats:
    """(n,) the logarithm of the mean wealth after each number, staked on a mean above `mean`."""
    return mixed(np.cumsum(log_wealth(x, mean), 0)) if len(x) else np.zeros(0)


def lower(x: Floats, alpha: float, *, counts: Floats | None = None) -> float:
    """The mean of `x` lies above this at every look, but for a chance of `alpha` over all of them. `counts`: how often each came."""
    if not len(x):
        return -1.0
    weights = np.ones(len(x)) if counts is None else counts
    low, high = -1.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        won = mixed(weights @ log_wealth(x, middle)) >= -np.log(alpha)
        low, high = (middle, high) if won else (low, middle)
    return low


def interval(x: Floats, alpha: float) -> tuple[float, float]:
    """Both ends, each wrong with a chance of at most `alpha`, ever."""
    return lower(x, alpha), -lower(-x, alpha)


def interval_fast(x: Floats, alpha: float) -> tuple[float, float]:
    """`interval`, at most 2 / `BINS` wider, in a time that hardly depends on the number of numbers."""
    ends = []
    for side in (x, -x):
        steps, counts = np.unique(np.floor(np.asarray(side) * BINS), return_counts=True)
        ends.append(lower(np.maximum(steps / BINS, -1.0), alpha, counts=counts.astype(float)))
    return ends[0], -ends[1]


def loss_sequence(sample: PairedSample) -> Estimate:
    """The loss with an interval that holds at every look (asymptotic confidence sequence, Waudby-Smith et al. 2024)."""
    if sample.n < 8:
        return Estimate(None, None, sample.n, "loss: fewer than eight queries with both scores")
    value, influence = sample.mean(sample.good - sample.bad)
    error, _ = sample.error(influence)
    tuning = 32 / sample.n
    half = error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(value, (value - half, value + half), sample.n, "loss, paired by query, 95 % confidence sequence")
