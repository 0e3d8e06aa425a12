"""Population values from the base sample and from subsamples of it, with intervals that hold whatever the search chose.

Every query of the base sample ran under good and under bad. A further cell runs on a random part of it, with a known
share of each stratum (queries alike in how they did under good and bad): double sampling for stratification (Neyman 1938; Cochran
1977, ch. 12). The value is sum_h W_h mean_h. Each query's influence on it, summed within clusters, gives the standard error
(Liang and Zeger 1986); the part of the variance between queries shrinks by the finite population correction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints


@dataclass(frozen=True)
class Sample:
    """The base sample's complete pairs. Higher is better."""

    queries: Ints
    good: Floats
    bad: Floats
    weights: Floats
    clusters: Ints
    population: float
    noise: float | None
    """Run-to-run variance of one trial, if known."""
    binary: bool
    """Whether scores take two values only."""

    @property
    def strata(self) -> Ints:
        """(n,) pass/fail: 0 fails twice, 1 gained, 2 flipped, 3 passes twice; numeric: 0."""
        if not self.binary or not self.n:
            return np.zeros(self.n, int)
        low = min(self.good.min(), self.bad.min())
        return np.asarray(2 * (self.good > low) + (self.bad > low))

    def z(self, tolerance: float) -> float:
        """The loss less `tolerance` over its standard error, as if two queries more had differed (Agresti and Coull 1998)."""
        if self.n < 2:
            return 0.0
        value, influence = self.mean(self.good - self.bad)
        error, _ = self.error(influence)
        return (value - tolerance) / float(np.hypot(error, np.sqrt(2) * self.reach * self.share.max()))

    @property
    def reach(self) -> float:
        """What one query can move: the range of the paired differences, of the scores if those do not differ, or 1."""
        d = self.good - self.bad
        return float(np.abs(d).max() or np.ptp(np.concatenate([self.good, self.bad])) or 1.0)

    @property
    def n(self) -> int:
        """Queries."""
        return len(self.good)

    @property
    def share(self) -> Floats:
        """(n,) each query's part of the total weight."""
        return np.asarray(self.weights / self.weights.sum())

    def mean(self, scores: Floats) -> tuple[float, Floats]:
        """The weighted mean of scores (n,), and each query's influence on it (n,)."""
        value = float(self.share @ scores)
        return value, np.asarray(self.share * (scores - value))

    def error(self, influence: Floats, *, trials: float = 0.0) -> tuple[float, int]:
        """Standard error of a sum of influences and its degrees of freedom.

        `trials`: how many independent trials stand behind one query's part; 0 leaves out the finite population correction.
        """
        _, group = np.unique(self.clusters, return_inverse=True)
        sums = np.bincount(group, influence)
        g = len(sums)
        variance = float((sums**2).sum()) * g / max(g - 1, 1)
        if self.noise is not None and trials and variance > 0:
            noisy = min(1.0, trials * self.noise * float((self.share**2).sum()) / variance)
            variance *= 1 - min(1.0, self.n / self.population) * (1 - noisy)
        return float(np.sqrt(variance)), max(g - 1, 1)

    def estimate(self, scores: Floats, method: str, *, trials: float) -> Estimate:
        """The mean of scores (n,) with its interval."""
        if self.n < 2:
            return Estimate(None, None, self.n, f"{method}: fewer than two queries with both scores")
        value, influence = self.mean(scores)
        return Estimate(value, self.interval(value, influence, trials=trials), self.n, f"{method}, 95 % t interval")

    def interval(self, value: float, influence: Floats, *, trials: float = 0.0) -> tuple[float, float]:
        """The 95 % interval of a value with these influences."""
        error, freedom = self.error(influence, trials=trials)
        if error < 1e-9 * self.reach:
            half = self.reach * (1 - 0.025 ** (1 / (freedom + 1))) * max(0.0, 1 - self.n / self.population)
        else:
            half = error * t_quantile(freedom)
        return value - half, value + half


def two_phase(sample: Sample, strata: Ints, scores: Floats, *, binary: bool) -> tuple[float, Floats] | None:
    """The value of a cell that ran on a random part of every stratum (`scores` (n,), NaN elsewhere), and its influences.

    `binary`: the scores take two values, and a stratum in which they seem not to vary is given the variance that it may hide.
    None when a stratum with queries has no score.
    """
    value, influence = 0.0, np.zeros(sample.n)
    fitted = np.zeros(sample.n)
    for h in np.unique(strata):
        inside = strata == h
        ran = inside & ~np.isnan(scores)
        if not ran.any():
            return None
        mass = sample.share[inside].sum()
        mean, count = float(np.average(scores[ran], weights=sample.weights[ran])), int(ran.sum())
        fitted[inside] = mean
        rest = scores[ran] - mean
        if binary:
            rest = _at_least(rest, mean, count, sample)
        influence[ran] += sample.weights[ran] / sample.weights[ran].sum() * mass * rest
        value += float(mass) * mean
    return value, influence + sample.share * (fitted - value)


def ratio_interval(sample: Sample, top: float, bottom: float, moved: Floats, base: Floats) -> tuple[float, float] | None:
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
    return (cross - root) / square, (cross + root) / square


def t_quantile(freedom: int, level: float = 0.975) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, level))


def _at_least(rest: Floats, mean: float, count: int, sample: Sample) -> Floats:
    """Deviations scaled up to what a pass/fail share this close to 0 or 1 may hide (Agresti and Coull 1998)."""
    low, high = float(min(sample.good.min(), sample.bad.min())), float(max(sample.good.max(), sample.bad.max()))
    if high <= low:
        return rest
    p = ((mean - low) / (high - low) * count + 0.5) / (count + 1)
    floor = (high - low) * np.sqrt(max(p * (1 - p), 0.0))
    spread = float(np.sqrt((rest**2).mean()))
    if spread >= floor:
        return rest
    signs = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    return np.asarray(signs * floor)
