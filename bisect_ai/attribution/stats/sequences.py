"""The loss of paired queries with an interval that holds at every look, for scores without bounds, clusters and weights."""

from __future__ import annotations

import math

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.stats.estimate import PairedSample


def loss_sequence(sample: PairedSample) -> Estimate:
    """The loss with an interval that holds at every look (asymptotic confidence sequence, Waudby-Smith et al. 2024)."""
    if sample.n < 8:
        return Estimate(None, None, sample.n, "loss: fewer than eight queries with both scores")
    value, influence = sample.mean(sample.good - sample.bad)
    error, _ = sample.error(influence)
    tuning = 32 / sample.n
    half = error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(value, (value - half, value + half), sample.n, "loss, paired by query, 95 % confidence sequence")
