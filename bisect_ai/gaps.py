"""The run's loss when answers failed or got no score: bounds, and a verdict that does not lean on those that are left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bisect_ai.attribution.missing import Bounds, bound_loss, score_ends
from bisect_ai.attribution.problem import Attribution
from bisect_ai.ledger import Observation

if TYPE_CHECKING:
    from bisect_ai.study import Outcomes

SAME = 1e-6
"""How near the loss of a design that counts failures comes to the composite one."""


def bounds_of(outcomes: Outcomes) -> tuple[Bounds, bool] | None:
    """Bounds of the loss, with whether calls failed (else a scorer or the tape gave nothing); None: nothing worth telling is missing.

    A query that neither release's answer got a score for is one that the scorer does not apply to.
    """
    prepared, sample, seen = outcomes.prepared, outcomes.prepared.sample, outcomes.ledger.observations
    metric, sign = prepared.metric, 1.0 if prepared.metric.higher_is_better else -1.0
    if not np.isnan(seen.scored(metric.name)).any():
        return None
    sides = [{o.index: o for o in seen.first(cell) if not o.infeasible} for cell in (0, prepared.problem.full)]
    rows = [q for q in sorted(sides[0].keys() & sides[1].keys()) if metric.judge is not None or _applies(sides, q, metric.name)]
    if len(rows) < 2:
        return None
    good, bad = (np.array([np.nan if (s := side[q].score(metric.name)) is None else sign * s for q in rows]) for side in sides)
    failed = [np.array([_is_failed(side[q]) for q in rows]) for side in sides]
    known = np.concatenate([good, bad])
    if np.isnan(known).all():
        return None
    ends = score_ends(prepared.problem.bounds, float(np.nanmin(known)), float(np.nanmax(known)))
    names = rows if sample.clusters is None else [sample.clusters[q] for q in rows]
    found = bound_loss(
        good,
        bad,
        lowest=ends[0],
        highest=ends[1],
        weights=np.array([sample.weights[q] for q in rows], float),
        clusters=np.unique(np.array(names), return_inverse=True)[1],
        population=float("inf"),
        failed=(failed[0], failed[1]),
    )
    return None if found is None else (found, bool(failed[0].any() or failed[1].any()))


def with_bounds(found: Attribution, bounds: Bounds, *, failed: bool, tolerance: float) -> Attribution:
    """The attribution with the widened loss. A verdict that the failed answers turn round is withdrawn.

    Failed calls count as the worst score: the interval is that of this loss, and what the failed answers might have been is told as
    `bounds` beside it. What got no score for another reason says nothing of the answer: there the interval is widened.
    """
    composite, inside = bounds.composite, found.loss.interval
    counts = found.loss.value is not None and composite.value is not None and abs(found.loss.value - composite.value) < SAME
    if failed and not counts:  # an audit or a check of a fix whose own interval leaves the failed answers out
        low, high = bounds.interval
        value, n, how = composite.value, composite.n, "failed calls count as the worst score; 95 % interval over every value of them"
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


def _is_failed(seen: Observation) -> bool:
    """Whether the call failed; a trial that rests on a tool call which the log does not have is censored."""
    return seen.error is not None and not seen.missing


def _applies(sides: list[dict[int, Observation]], query: int, name: str) -> bool:
    """Whether the scorer applies to the query: some answer to it failed, was censored, or got a score."""
    return any(o.error or o.score(name) is not None for o in (side[query] for side in sides))
