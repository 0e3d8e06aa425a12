"""Population values from the base sample and from subsamples of it, with intervals that hold whatever the search chose.

Every query of the base sample ran under good and under bad. A further cell runs on a random part of it, with a known
share of each stratum (queries alike in how they did under good and bad): double sampling for stratification (Neyman 1938; Cochran
1977, ch. 12). The value is sum_h W_h mean_h. Each query's influence on it, summed within clusters, gives the standard error
(Liang and Zeger 1986); the part of the variance between queries shrinks by the finite population correction, a judge's noise
does not (`verdicts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints
from bisect_ai.attribution.stats.inference import t_quantile
from bisect_ai.attribution.stats.verdicts import JudgeNoise, share_of

ROUNDING = 1e-9
"""Without scatter an interval is a point: what rounding may have moved it by."""


@dataclass(frozen=True)
class PairedSample:
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
    judge: JudgeNoise | None = None
    """The noise of the verdicts behind `good` and `bad`, its two cells; None: no judge gave them."""

    def z(self, tolerance: float) -> float:
        """The loss less `tolerance` over its standard error, as if two queries more had differed (Agresti and Coull 1998)."""
        if self.n < 2:
            return 0.0
        value, influence = self.mean(self.good - self.bad)
        error, _ = self.error(influence)
        return (value - tolerance) / float(np.hypot(error, np.sqrt(2) * self.reach * self.share.max()))

    @cached_property
    def reach(self) -> float:
        """What one query can move: the range of the paired differences, of the scores if those do not differ, or 1."""
        d = self.good - self.bad
        return float(np.abs(d).max() or np.ptp(np.concatenate([self.good, self.bad])) or 1.0)

    @property
    def n(self) -> int:
        """Queries."""
        return len(self.good)

    @cached_property
    def _group_numbers(self) -> Ints:
        """(n,) cluster numbers 0..G-1."""
        if self.clusters is self.queries:  # every query its own
            return np.arange(self.n)
        return np.asarray(np.unique(self.clusters, return_inverse=True)[1])

    @cached_property
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
        sums = np.bincount(self._group_numbers, influence)
        g = len(sums)
        variance = float((sums**2).sum()) * g / max(g - 1, 1)
        if self.noise is not None and trials and variance > 0:
            noise = max(trials * self.noise * float((self.share**2).sum()), self.judged(trials))
            variance *= 1 - min(1.0, self.n / self.population) * (1 - min(1.0, noise / variance))
        return float(np.sqrt(variance)), max(g - 1, 1)

    def judged(self, trials: float) -> float:
        """The part of the variance of one value (`trials` 1) or of the loss (2) that is the judge's noise; 0 without a judge."""
        if self.judge is None:
            return 0.0
        contrast = np.array([[1.0, -1.0 if trials == 2 else 0.0]])
        return float(self.judge.of(contrast, np.column_stack([self.share, self.share]))[0])

    def estimate(self, scores: Floats, method: str, *, trials: float, stretch: float = 1.0) -> Estimate:
        """The mean of scores (n,) with its interval; `stretch` widens it when the sample stopped because of this mean."""
        if self.n < 2:
            return Estimate(None, None, self.n, f"{method}: fewer than two queries with both scores")
        value, influence = self.mean(scores)
        low, high = self.interval(value, influence, trials=trials)
        interval = (value - stretch * (value - low), value + stretch * (high - value))
        kind = "t interval" if stretch == 1.0 else "repeated interval (group-sequential)"
        judged = None if self.judge is None else share_of(self.judged(trials), self.error(influence, trials=trials)[0] ** 2)
        return Estimate(value, interval, self.n, f"{method}, 95 % {kind}", judged)

    def _surely(self, trials: float) -> float:
        """The part of the log that was asked; none while it is unknown how far verdicts can be relied on."""
        return min(1.0, self.n / self.population) if np.isfinite(self.judged(trials or 1.0)) else 0.0

    def interval(self, value: float, influence: Floats, *, trials: float = 0.0, unit: float = 0.0) -> tuple[float, float]:
        """The 95 % interval of a value with these influences; `unit`: the part of it that rests on one answer, if large."""
        error, freedom = self.error(influence, trials=trials)
        if self.binary and error >= 1e-9 * self.reach:  # as if one query more had differed: shares are skewed
            error = float(np.hypot(error, self.reach * max(self.share.max(), 0.7 * unit)))  # or half an answer (Jeffreys)
        if error < 1e-9 * self.reach:
            half = self.reach * (1 - 0.025 ** (1 / (freedom + 1))) * max(0.0, 1 - self._surely(trials))
            half += t_quantile(freedom) * float(np.sqrt(self.judged(trials))) if self._surely(trials) else 0.0
        else:
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
