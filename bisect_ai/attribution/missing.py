"""What answers that are missing can do to the loss, when they are not missing by chance.

Failed calls that come more often with one release, or on the hard queries, bend the loss of the queries that are left. Three
fills of the gaps bound it (Manski 2003, ch. 1): every gap as a wrong answer (the composite outcome: ICH E9(R1), 2019), and the
two that help one release and hurt the other most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.inference import ScoreTable, estimate
from bisect_ai.attribution.problem import Estimate, Floats, Ints

FEW = 0.03
"""Share of missing answers that needs no bounds, if it does not differ between the releases."""


@dataclass(frozen=True)
class Bounds:
    """The loss with the gaps filled; `interval` runs from the lowest to the highest 95 % end."""

    composite: Estimate
    """Every gap is the lowest score."""
    interval: tuple[float, float]
    missing_good: float
    missing_bad: float


def bound_loss(
    good: Floats, bad: Floats, *, lowest: float, highest: float, weights: Floats, clusters: Ints, population: float
) -> Bounds | None:
    """Bounds of v(good) - v(bad) when more is missing than chance or a few per cent; NaN: asked, but no score; None: no need."""
    gaps = [np.isnan(side) for side in (good, bad)]
    if not any(gap.any() for gap in gaps):
        return None
    from scipy import stats  # half a second of its own

    counts = [[int(gap.sum()), int((~gap).sum())] for gap in gaps]
    shares = [float(gap.mean()) for gap in gaps]
    leans = stats.fisher_exact(counts).pvalue < 0.01 and abs(shares[0] - shares[1]) > 0.01
    if len(good) < 2 or not (max(shares) > FEW or leans):
        return None

    def filled(in_good: float, in_bad: float, what: str) -> Estimate:
        scores = np.column_stack([np.where(gaps[0], in_good, good), np.where(gaps[1], in_bad, bad)])
        return estimate(ScoreTable(scores, weights, clusters, population), np.array([1.0, -1.0]), what=what)

    least, most = filled(lowest, highest, "least loss"), filled(highest, lowest, "most loss")
    composite = filled(lowest, lowest, "loss, failed answers count as wrong")
    assert least.interval is not None and most.interval is not None
    return Bounds(composite, (least.interval[0], most.interval[1]), *shares)
