"""The run's loss when answers failed or were not judged: bounds, and a verdict that does not lean on those that are left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bisect_ai.attribution.missing import Bounds, bound_loss
from bisect_ai.attribution.problem import Attribution, Floats
from bisect_ai.ledger import Observation

if TYPE_CHECKING:
    from bisect_ai.study import Outcomes


def bounds_of(outcomes: Outcomes) -> tuple[Bounds, bool] | None:
    """Bounds of the loss, with whether it was calls that failed (else a judge, or the tape); None: nothing worth telling is missing."""
    prepared, sample, seen = outcomes.prepared, outcomes.prepared.sample, outcomes.ledger.observations
    metric, sign = prepared.metric, 1.0 if prepared.metric.higher_is_better else -1.0
    if not np.isnan(seen.scored(metric.name)).any():
        return None
    sides = [{o.index: o for o in seen.first(cell) if not o.infeasible} for cell in (0, prepared.problem.full)]
    rows = [q for q in sorted(sides[0].keys() & sides[1].keys()) if metric.judge is not None or _applies(sides, q, metric.name)]
    if len(rows) < 2:
        return None
    good, bad = (np.array([np.nan if (s := side[q].score(metric.name)) is None else sign * s for q in rows]) for side in sides)
    known = np.concatenate([good, bad])
    if np.isnan(known).all():
        return None
    ends = _ends(metric.bounded, sign, known)
    names = rows if sample.clusters is None else [sample.clusters[q] for q in rows]
    found = bound_loss(
        good,
        bad,
        lowest=ends[0],
        highest=ends[1],
        weights=np.array([sample.weights[q] for q in rows], float),
        clusters=np.unique(np.array(names), return_inverse=True)[1],
        population=float("inf"),
    )
    return None if found is None else (found, any(side[q].error and not side[q].missing for side in sides for q in rows))


def _ends(bounded: tuple[float, float] | None, sign: float, known: Floats) -> list[float]:
    """The lowest and the highest score, oriented: as declared, else 0 and 1 where all scores are between, else those seen."""
    if bounded is None and np.nanmin(sign * known) >= 0 and np.nanmax(sign * known) <= 1:
        bounded = (0.0, 1.0)
    low, high = bounded or (float(np.nanmin(known)), float(np.nanmax(known)))
    return sorted([sign * low, sign * high]) if bounded else [low, high]


def with_bounds(found: Attribution, bounds: Bounds, *, failed: bool, tolerance: float) -> Attribution:
    """The attribution with the widened loss. A verdict that the failed answers turn round is withdrawn.

    Where calls failed the estimate counts them as wrong answers; a judge's failures say nothing of the answer, so there the
    estimate stays that of the answers judged.
    """
    value = bounds.composite.value if failed else found.loss.value
    inside = found.loss.interval or bounds.interval
    interval = min(bounds.interval[0], inside[0]), max(bounds.interval[1], inside[1])
    how = "failed answers count as wrong" if failed else "answers that were judged"
    n = bounds.composite.n if failed else found.loss.n
    loss = replace(
        found.loss, value=value, interval=interval, n=n, method=f"{how}; 95 % interval over every value of the missing"
    )
    found = replace(found, loss=loss)
    composite = bounds.composite
    turned = found.kind == "cause" and (composite.value is None or composite.value <= 0)
    hidden = found.kind == "no_regression" and composite.interval is not None and composite.interval[0] > tolerance
    if not turned and not hidden:
        return found
    said = "the loss vanishes" if turned else "there is a loss"
    missing = f"{bounds.missing_good:.1%} of good and {bounds.missing_bad:.1%} of bad trials"
    reason = f"answers are missing in {missing}; counted as wrong, {said}"
    return replace(found, kind="inconclusive", causes=(), rollback=None, keep=(), reason=reason, calls_needed=None)


def told(bounds: Bounds) -> str:
    """The warning that goes with bounds."""
    low, high = bounds.interval
    return (
        f"answers are missing in {bounds.missing_good:.1%} of good and {bounds.missing_bad:.1%} of bad trials: whatever they would "
        f"have been, the loss lies between {low:.3f} and {high:.3f} (95 %); counted as wrong it is {bounds.composite.value or 0.0:.3f}"
    )


def _applies(sides: list[dict[int, Observation]], query: int, name: str) -> bool:
    """Whether a missing score is a missing answer, rather than a scorer that does not apply to the query."""
    both = [side[query] for side in sides]
    return all(o.error or o.score(name) is not None for o in both)
