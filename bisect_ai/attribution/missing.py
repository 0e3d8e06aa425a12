"""One rule for answers without a score, in every design: failed calls are the worst score, what is censored is left out pair by pair.

A call that failed is an outcome: an axis that makes answers fail costs quality (the composite outcome: ICH E9(R1), 2019). An answer
that the scorer gave no score, or that rests on a tool call which the log does not have, says nothing: its pairs are left out, so that
a difference is always one of the same queries. What either could do to the loss, when it does not come by chance, is bounded by the
fills that help one release and hurt the other most (Manski 2003, ch. 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.inference import ScoreTable, estimate
from bisect_ai.attribution.problem import Estimate, Floats, Ints
from bisect_ai.attribution.table import LevelledTable

Bools = NDArray[np.bool_]
WHOLE = 0.5
"""The part of the queries that must be complete for the others to be left out."""
FEWEST = 8
FEW = 0.03
"""Share of missing answers that needs no bounds, if it does not differ between the releases."""


def score_ends(declared: tuple[float, float] | None, lowest: float, highest: float) -> tuple[float, float]:
    """The lowest and the highest score there can be: as declared, else 0 and 1 (or -1 and 0) where all lie between, else those seen."""
    if declared is not None:
        return declared
    for low, high in ((0.0, 1.0), (-1.0, 0.0)):
        if low <= lowest and highest <= high:
            return low, high
    return lowest, highest


def with_failures(scores: Floats, failed: Bools, declared: tuple[float, float] | None) -> Floats:
    """The scores with the worst one where the call failed; oriented, higher is better."""
    known = scores[~np.isnan(scores)]
    if not failed.any():
        return scores
    seen = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return np.where(failed, score_ends(declared, *seen)[0], scores)


def comparable(table: ScoreTable, *, all_queries: bool = False) -> ScoreTable:
    """The table with all its cells on the same queries: those that are complete, when they are at least `WHOLE` of them.

    Else (or with `all_queries`) every query, by least squares with a level of its own, which compares cells within queries.
    """
    ran = table.mass > 0
    gaps = np.isnan(table.scores[:, ran])
    if not gaps.any():
        return table
    complete = ~gaps.any(1)
    if all_queries or complete.sum() < max(WHOLE * (~gaps).any(1).sum(), FEWEST):
        return LevelledTable(table.scores, table.weights, table.clusters, table.population, table.judge)
    judge = table.judge
    return ScoreTable(
        table.scores[complete],
        table.weights[complete],
        np.unique(table.clusters[complete], return_inverse=True)[1],
        table.population,
        None if judge is None else replace(judge, verdicts=judge.verdicts[complete]),
    )


@dataclass(frozen=True)
class Bounds:
    """The loss with the gaps filled; `interval` runs from the lowest to the highest 95 % end."""

    composite: Estimate
    """Every failed call is the lowest score, pairs that lack a score otherwise are left out."""
    interval: tuple[float, float]
    """Over every value of the gaps."""
    censored: tuple[float, float]
    """Over every value of the gaps that are no failed calls; these are the lowest score."""
    missing_good: float
    missing_bad: float


def bound_loss(
    good: Floats,
    bad: Floats,
    *,
    lowest: float,
    highest: float,
    weights: Floats,
    clusters: Ints,
    population: float,
    failed: tuple[Bools, Bools] | None = None,
) -> Bounds | None:
    """Bounds of v(good) - v(bad) when more is missing than chance or a few per cent; NaN: asked, but no score; None: no need.

    `failed`: the gaps that are failed calls; None: all are.
    """
    gaps = [np.isnan(side) for side in (good, bad)]
    failed = (gaps[0], gaps[1]) if failed is None else failed
    if not any(gap.any() for gap in gaps):
        return None
    from scipy import stats  # half a second of its own

    counts = [[int(gap.sum()), int((~gap).sum())] for gap in gaps]
    shares = [float(gap.mean()) for gap in gaps]
    leans = stats.fisher_exact(counts).pvalue < 0.01 and abs(shares[0] - shares[1]) > 0.01
    if len(good) < 2 or not (max(shares) > FEW or leans):
        return None

    counted = np.column_stack([np.where(f, lowest, side) for f, side in zip(failed, (good, bad), strict=True)])

    def filled(scores: Floats, what: str, *ends: float) -> Estimate:
        full = np.where(np.isnan(scores), np.array(ends), scores) if ends else scores
        whole = ~np.isnan(full).any(1)
        names = np.unique(clusters[whole], return_inverse=True)[1]
        return estimate(ScoreTable(full[whole], weights[whole], names, population), np.array([1.0, -1.0]), what=what)

    def bounds(scores: Floats) -> tuple[float, float]:
        least, most = filled(scores, "least loss", lowest, highest), filled(scores, "most loss", highest, lowest)
        assert least.interval is not None and most.interval is not None
        return least.interval[0], most.interval[1]

    if (~np.isnan(counted).any(1)).sum() < 2:
        return None
    composite = filled(counted, "loss, failed calls count as the worst score")
    return Bounds(composite, bounds(np.column_stack([good, bad])), bounds(counted), *shares)
