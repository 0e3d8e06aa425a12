"""The mean scores of paired queries with intervals: at the end of a sample, and at every look.

Every query ran under good and under bad. Each query's influence on a weighted mean, summed within clusters, gives its standard error
(Liang and Zeger 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints, cluster_sums
from bisect_ai.attribution.stats.inference import t_quantile

# Without scatter an interval is a point: what rounding may have moved it by.
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairedSample:
    """The base sample's complete pairs. Higher is better."""

    queries: Ints
    good: Floats
    bad: Floats
    weights: Floats
    clusters: Ints
    population: float
    # Whether scores take two values only.
    binary: bool

    def z(self, tolerance: float) -> float:
        """The loss less `tolerance` over its standard error, as if two queries more had differed (Agresti and Coull 1998)."""
        if self.n < 2:
            return 0.0
        value, influence = self.mean(self.good - self.bad)
        error, _ = self.error(influence)
        return (value - tolerance) / float(np.hypot(error, np.sqrt(2) * self.reach * self.share.max()))

    @cached_property
    def reach(self) -> float:
        """What one query can move: the range of the paired differences, of the scores if those do not differ, else from 0 to them."""
        d, scores = self.good - self.bad, np.concatenate([self.good, self.bad])
        return float(np.abs(d).max() or np.ptp(scores) or np.abs(scores).max() or 1.0)

    @property
    def n(self) -> int:
        """Queries."""
        return len(self.good)

    @cached_property
    def share(self) -> Floats:
        """(n,) each query's part of the total weight."""
        return np.asarray(self.weights / self.weights.sum())

    def mean(self, scores: Floats) -> tuple[float, Floats]:
        """The weighted mean of scores (n,), and each query's influence on it (n,)."""
        value = float(self.share @ scores)
        return value, np.asarray(self.share * (scores - value))

    def error(self, influence: Floats) -> tuple[float, int]:
        """Standard error of a sum of influences and its degrees of freedom."""
        sums = cluster_sums(influence, None if self.clusters is self.queries else self.clusters)
        g = len(sums)
        return float(np.sqrt((sums**2).sum() * g / max(g - 1, 1))), max(g - 1, 1)

    def estimate(self, scores: Floats, method: str) -> Estimate:
        """The mean of scores (n,) with its interval."""
        if self.n < 2:
            return Estimate(None, None, self.n, f"{method}: fewer than two queries with both scores")
        value, influence = self.mean(scores)
        return Estimate(value, self.interval(value, influence), self.n, f"{method}, 95 % t interval")

    def interval(self, value: float, influence: Floats) -> tuple[float, float]:
        """The 95 % interval of a value with these influences."""
        error, freedom = self.error(influence)
        if error < 1e-9 * self.reach:
            half = self.reach * (1 - 0.025 ** (1 / (freedom + 1))) * (1 - min(1.0, self.n / self.population))
            return value - half, value + half
        if self.binary:  # as if one query more had differed: shares are skewed
            error = float(np.hypot(error, self.reach * self.share.max()))
        half = error * t_quantile(freedom)
        return value - half, value + half


def ratio_interval(sample: PairedSample, top: float, bottom: float, moved: Floats, base: Floats) -> tuple[float, float] | None:
    """Fieller's interval of top / bottom from the influences of both; None when it is not bounded."""
    a, freedom = sample.error(moved)
    b, _ = sample.error(base)
    both, _ = sample.error(moved + base)
    c = (both**2 - a**2 - b**2) / 2
    t = t_quantile(freedom)
    square, cross, rest = bottom**2 - (t * b) ** 2, top * bottom - t**2 * c, top**2 - (t * a) ** 2
    if square <= 0 or cross**2 < square * rest:
        return None
    root = float(np.sqrt(cross**2 - square * rest))
    return (cross - root) / square - ROUNDING, (cross + root) / square + ROUNDING


def loss_sequence(sample: PairedSample) -> Estimate:
    """The loss with an interval that holds at every look (asymptotic confidence sequence, Waudby-Smith et al. 2024).

    As if one query more had moved: 80 queries that all answered alike still leave room for some that would not.
    """
    if sample.n < 8:
        return Estimate(None, None, sample.n, "loss: fewer than eight queries with both scores")
    value, influence = sample.mean(sample.good - sample.bad)
    error = float(np.hypot(sample.error(influence)[0], sample.reach * sample.share.max()))
    tuning = 32 / sample.n
    half = error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(value, (value - half, value + half), sample.n, "loss, paired by query, 95 % confidence sequence")
