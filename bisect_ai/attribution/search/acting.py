"""How named axes act: each alone, only together, or any of them is enough.

What they cost one by one, added up and divided by what they cost in all, is the number of axes where they act only together, 1 where
each acts alone, 0 where either is enough (reverted; introduced, the first and the last change places). The sum less an edge times the
whole is a mean over the same queries, so the loss itself need not be known well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

from bisect_ai.attribution.problem import Mode
from bisect_ai.attribution.search.query_rows import Mean, QueryRows

# Cell to its weight.
Contrast = dict[int, float]
# How the axes act where their sum is small, and where it is large.
Ways = tuple[Mode, Mode]

FEWEST_PAIRED = 8  # queries below which nothing is said
PLAIN_APART = (
    2.0  # standard errors from the edge between two ways at which it is settled: three kinds of evidence are looked at
)


def mode_of(rows: QueryRows, named: Iterable[int], apart: float = PLAIN_APART) -> Mode | None:
    """How the axes act, by what tells it best: a sum over the same queries, or each part over all of its own.

    The most precise evidence counts: others are of few queries, often because a question that looked poor was left early, which bends
    them. None: it is not `apart` standard errors from the edge between two ways.
    """
    named, full = sorted(named), rows.problem.full
    without = [full & ~(1 << a) for a in named]
    within = [1 << a for a in named]
    back = full & ~sum(within)
    reverted: Ways = ("either", "together")
    introduced: Ways = ("together", "either")
    found = [
        _side(rows.contrast, _parts(without, full), {0: 1.0, full: -1.0}, reverted, apart),
        _side(rows.contrast, _parts(without, full), {back: 1.0, full: -1.0}, reverted, apart),
        _side(rows.contrast, _parts(within, 0, -1.0), {0: 1.0, full: -1.0}, introduced, apart),
        _side(partial(_from, full, rows), _parts(without, full), {0: 1.0, full: -1.0}, reverted, apart),
        _side(partial(_from, 0, rows), _parts(within, 0, -1.0), {0: 1.0, full: -1.0}, introduced, apart),
    ]
    return min((x for x in found if x is not None), key=lambda x: x[0], default=(0.0, None))[1]


def _side(
    mean: Callable[[Contrast], Mean], parts: Contrast, whole: Contrast, ways: Ways, apart: float
) -> tuple[float, Mode | None] | None:
    """The error of where the parts lie, and on which sides of the two edges that is."""
    count = len(parts) - 1
    means = [mean(_less(parts, whole, edge)) for edge in (0.5, 0.5 * (1 + count))]
    if means[0].n < FEWEST_PAIRED:
        return None
    (below, above), error = (m.z for m in means), max(m.error for m in means)
    if below < -apart:
        return error, ways[0]
    if above > apart:
        return error, ways[1]
    return error, "alone" if below > apart and above < -apart else None


def _from(hub: int, rows: QueryRows, contrast: Contrast) -> Mean:
    """A contrast of cells, of each its difference from the cell `hub` over all queries that ran in both."""
    means = [(w, rows.mean(cell, hub)) for cell, w in contrast.items() if cell != hub and w]
    error = math.hypot(*(w * m.error for w, m in means)) if all(m.n for _, m in means) else math.inf
    return Mean(sum(w * m.value for w, m in means), error, min(m.n for _, m in means))


def _parts(cells: list[int], beside: int, sign: float = 1.0) -> dict[int, float]:
    """The contrast of cells with one other, added up."""
    return {**dict.fromkeys(cells, sign), beside: -sign * len(cells)}


def _less(parts: dict[int, float], whole: dict[int, float], edge: float) -> dict[int, float]:
    return {cell: parts.get(cell, 0.0) - edge * whole.get(cell, 0.0) for cell in {**parts, **whole}}
