"""Two columns of scores of the same queries: the paired difference."""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.inference import ScoreTable, estimate
from bisect_ai.attribution.problem import Estimate, Floats


def compare(good: Floats, bad: Floats) -> Estimate:
    """Mean of bad minus good over the queries that have both, with a 95 % t interval; NaN: no score."""
    both = ~np.isnan(good) & ~np.isnan(bad)
    if both.sum() < 2:
        return Estimate(None, None, int(both.sum()), "bad minus good: not estimated, fewer than two queries have both")
    scores = np.column_stack([good[both], bad[both]])
    n = len(scores)
    table = ScoreTable(scores, np.ones(n), np.arange(n), float("inf"))
    return estimate(table, np.array([-1.0, 1.0]), what="bad minus good")
