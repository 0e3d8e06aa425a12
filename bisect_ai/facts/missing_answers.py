"""The run's loss when answers failed or got no score: its bounds (`attribution.missing`)."""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.stats.missing import Bounds, bound_loss, score_ends
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.outcomes import Outcomes


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


def outcomes_by_cell(outcomes: Outcomes) -> dict[int, dict[int, float]]:
    """Cell to its queries' oriented scores; NaN: the call failed. What is censored, or ran because the query broke, is left out."""
    metric, seen, chosen = outcomes.prepared.metric, outcomes.ledger.observations, outcomes.attribution.chosen
    sign = 1.0 if metric.higher_is_better else -1.0
    found: dict[int, dict[int, float]] = {}
    if not seen.errors:
        return found
    for cell in set(seen.cells):
        rows = found[cell] = {}
        for o in seen.first(cell):
            score = o.score(metric.name)
            if (o.index, cell) in chosen:
                continue
            if _is_failed(o):
                rows[o.index] = float("nan")
            elif score is not None and not o.infeasible:
                rows[o.index] = sign * score
    return found


def _is_failed(seen: Observation) -> bool:
    """Whether the call failed; a trial that rests on a tool call which the log does not have is censored."""
    return seen.error is not None and not seen.missing


def _applies(sides: list[dict[int, Observation]], query: int, name: str) -> bool:
    """Whether the scorer applies to the query: some answer to it failed, was censored, or got a score."""
    return any(o.error or o.score(name) is not None for o in (side[query] for side in sides))
