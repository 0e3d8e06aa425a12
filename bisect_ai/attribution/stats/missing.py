"""One rule for answers without a score, in every design: failed calls are the worst score, what is censored is left out pair by
pair.

A call that failed is an outcome: an axis that makes answers fail costs quality (the composite outcome: ICH E9(R1), 2019). An answer
that the scorer gave no score, or that rests on a tool call which the log does not have, says nothing: its pairs are left out, so
that a difference is always one of the same queries. What either could do to the loss, when it does not come by chance, is bounded
by the fills that help one release and hurt the other most (Manski 2003, ch. 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import Attribution, Cause, Estimate, Failing, Floats, Ints, cluster_numbers, score_ends
from bisect_ai.attribution.stats.inference import LevelledTable, ScoreTable, estimate

Bools = NDArray[np.bool_]
# The part of the queries that must be complete for the others to be left out.
WHOLE = 0.5
# Complete queries, or pairs with and without a cause, below which nothing is said from them alone.
FEWEST = 8
# The part of a cause's cost that failed answers make, from which on it is told as failing.
MAINLY = 0.5
# p-value below which failures lean to one side.
LEANS = 0.01
# How near the loss of a design that counts failures comes to the composite one.
SAME = 1e-6
# Share of missing answers that needs no bounds, if it does not differ between the releases.
FEW = 0.03


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
    if table.is_complete:
        return table
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
        cluster_numbers(table.clusters, complete),
        table.population,
        None if judge is None else replace(judge, verdicts=judge.verdicts[complete]),
    )


# Cell to its queries' oriented scores; NaN: the call failed.
Cells = Mapping[int, Mapping[int, float]]


# Of two cells (n, 2) the oriented scores of the queries that ran in both, in their order; NaN: the call failed.
Paired = Callable[[int, int], Floats]


def with_failing(found: Attribution, cells: Cells, axes: Sequence[str], declared: tuple[float, float] | None) -> Attribution:
    """The attribution with the word for each cause whose cost is mainly answers that fail."""
    known = [s for scores in cells.values() for s in scores.values() if not np.isnan(s)]
    if found.kind != "cause" or not any(np.isnan(s) for scores in cells.values() for s in scores.values()):
        return found

    def paired(good: int, bad: int) -> Floats:
        sides = cells.get(good, {}), cells.get(bad, {})
        both = sorted(sides[0].keys() & sides[1].keys())
        return np.array([[side[q] for side in sides] for q in both]).reshape(-1, 2)

    return failing_causes(found, paired, axes, score_ends(declared, min(known, default=0.0), max(known, default=0.0))[0])


def failing_causes(found: Attribution, paired: Paired, axes: Sequence[str], worst: float) -> Attribution:
    """The same from pairs of cells; a failed call counts as the `worst` score."""
    causes = tuple(replace(c, failing=_failing_axes(c, paired, axes, worst)) for c in found.causes)
    return replace(found, causes=causes)


def _failing_axes(cause: Cause, paired: Paired, axes: Sequence[str], worst: float) -> Failing | None:
    """Whether the paired differences of the bad release and the cause reverted are mainly answers that fail, by a sign test."""
    from scipy.special import bdtrc

    full, bits = (1 << len(axes)) - 1, [1 << axes.index(a) for a in cause.axes]
    whole = full & ~sum(bits)
    reverted = [whole, *(full & ~bit for bit in bits)] if cause.mode == "together" else [whole]
    pairs = max((paired(cell, full) for cell in reverted), key=len)
    if len(pairs) < FEWEST:
        return None
    failed = np.isnan(pairs)
    scores = np.where(failed, worst, pairs)
    x = scores[:, 0] - scores[:, 1]
    made, mended = int((failed[:, 1] & ~failed[:, 0]).sum()), int((failed[:, 0] & ~failed[:, 1]).sum())
    cost, part = float(x.mean()), float(np.where(failed.any(1), x, 0.0).mean())
    if made <= mended or bdtrc(made - 1, made + mended, 0.5) > LEANS or cost <= 0 or part < MAINLY * cost:
        return None
    return Failing(float(failed[:, 1].mean()), float(failed[:, 0].mean()), min(part / cost, 1.0), len(pairs))


@dataclass(frozen=True)
class Bounds:
    """The loss with the gaps filled; `interval` runs from the lowest to the highest 95 % end."""

    # Every failed call is the lowest score, pairs that lack a score otherwise are left out.
    composite: Estimate
    # Over every value of the gaps.
    interval: tuple[float, float]
    # Over every value of the gaps that are no failed calls; these are the lowest score.
    censored: tuple[float, float]
    missing_good: float
    missing_bad: float
    # Whether one release lacks more scores than chance explains.
    leans: bool = False


def bound_loss(
    good: Floats,
    bad: Floats,
    *,
    lowest: float,
    highest: float,
    weights: Floats,
    clusters: Sequence[object] | Ints | None,
    population: float,
    failed: tuple[Bools, Bools] | None = None,
) -> Bounds | None:
    """Bounds of v(good) - v(bad) when more is missing than chance or a few per cent; NaN: asked, but no score; None: no need.

    `clusters`: (n,) names or numbers. `failed`: the gaps that are failed calls; None: all are.
    """
    gaps = [np.isnan(side) for side in (good, bad)]
    failed = (gaps[0], gaps[1]) if failed is None else failed
    if not any(gap.any() for gap in gaps):
        return None
    from scipy import stats  # half a second of its own

    counts = [[int(gap.sum()), int((~gap).sum())] for gap in gaps]
    shares = [float(gap.mean()) for gap in gaps]
    # A point of difference moves no verdict, however certain it is.
    leans = stats.fisher_exact(counts).pvalue < LEANS and abs(shares[0] - shares[1]) > 0.01
    if len(good) < 2 or not (max(shares) > FEW or leans):
        return None

    counted = np.column_stack([np.where(f, lowest, side) for f, side in zip(failed, (good, bad), strict=True)])

    def filled(scores: Floats, what: str, *ends: float) -> Estimate:
        full = np.where(np.isnan(scores), np.array(ends), scores) if ends else scores
        whole = ~np.isnan(full).any(1)
        table = ScoreTable(full[whole], weights[whole], cluster_numbers(clusters, whole), population)
        return estimate(table, np.array([1.0, -1.0]), what=what)

    def bounds(scores: Floats) -> tuple[float, float]:
        least, most = filled(scores, "least loss", lowest, highest), filled(scores, "most loss", highest, lowest)
        assert least.interval is not None and most.interval is not None
        return least.interval[0], most.interval[1]

    if (~np.isnan(counted).any(1)).sum() < 2:
        return None
    composite = filled(counted, "loss, failed calls count as the worst score")
    return Bounds(composite, bounds(np.column_stack([good, bad])), bounds(counted), shares[0], shares[1], bool(leans))


def with_bounds(found: Attribution, bounds: Bounds, *, failed: bool, tolerance: float) -> Attribution:
    """The attribution with the widened loss. A verdict that the failed answers turn round is withdrawn.

    Failed calls count as the worst score: the interval is that of this loss, and what the failed answers might have been is told as
    `bounds` beside it. What got no score for another reason says nothing of the answer: there the interval is widened.
    """
    composite, inside = bounds.composite, found.loss.interval
    counts = found.loss.value is not None and composite.value is not None and abs(found.loss.value - composite.value) < SAME
    if failed and not counts:  # an audit or a check of a fix whose own interval leaves the failed answers out
        low, high = bounds.interval
        value, n, how = (
            composite.value,
            composite.n,
            "failed calls count as the worst score; 95 % interval over every value of them",
        )
    else:
        low, high = bounds.censored
        value, n = found.loss.value, found.loss.n
        how = found.loss.method
        how += "; failed calls count as the worst score" if failed else "; 95 % interval over every value of the missing scores"
    interval = (low, high) if inside is None else (min(low, inside[0]), max(high, inside[1]))
    loss = replace(found.loss, value=value, interval=interval, n=n, method=how, bounds=bounds.interval)
    found = replace(found, loss=loss)
    turned = found.kind == "cause" and (composite.value is None or composite.value <= 0)
    hidden = found.kind == "no_regression" and composite.interval is not None and composite.interval[0] > tolerance
    open_ = found.kind == "no_regression" and not failed and bounds.leans and high > tolerance
    if not turned and not hidden and not open_:
        return found
    said = "the loss vanishes" if turned else "there is a loss" if hidden else "there may be a loss"
    missing = f"{bounds.missing_good:.1%} of good and {bounds.missing_bad:.1%} of bad trials"
    reason = f"answers are missing in {missing}; counted as wrong, {said}"
    return found.withdrawn(reason)


def bounds_warning(bounds: Bounds) -> str:
    """The warning that goes with bounds."""
    low, high = bounds.interval
    return (
        f"answers are missing in {bounds.missing_good:.1%} of good and {bounds.missing_bad:.1%} of bad trials: whatever they would "
        f"have been, the loss lies between {low:.3f} and {high:.3f} (95 %); counted as wrong it is {bounds.composite.value or 0.0:.3f}"
    )
