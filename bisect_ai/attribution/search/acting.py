"""How named axes act: each alone, only together, or any of them is enough.

What they cost one by one, added up and divided by what they cost in all, is the number of axes where they act only together, 1 where
each acts alone, 0 where either is enough (reverted; introduced, the first and the last change places). The sum less an edge times the
whole is a mean over the same queries, so the loss itself need not be known well.
"""

from __future__ import annotations

from collections.abc import Iterable

from bisect_ai.attribution.problem import Mode
from bisect_ai.attribution.search.query_rows import QueryRows

FEWEST_PAIRED = 8  # queries below which nothing is said
PLAIN_APART = (
    2.0  # standard errors from the edge between two ways at which it is settled: three kinds of evidence are looked at
)


def paired_mode(rows: QueryRows, named: Iterable[int], apart: float = PLAIN_APART) -> Mode | None:
    """How the axes act, on queries that ran in all the cells that tell; None: not settled by these."""
    named, full = sorted(named), rows.problem.full
    low, high = 0.5, 0.5 * (1 + len(named))
    without = [full & ~(1 << a) for a in named]
    within = [1 << a for a in named]
    bad, back = full, full & ~sum(within)
    ways: list[tuple[dict[int, float], dict[int, float], tuple[Mode, Mode]]] = [
        (_parts(without, bad), {0: 1.0, full: -1.0}, ("either", "together")),
        (_parts(without, bad), {back: 1.0, full: -1.0}, ("either", "together")),
        (_parts(within, 0, -1.0), {0: 1.0, full: -1.0}, ("together", "either")),
    ]
    found: list[tuple[float, Mode]] = []
    for parts, whole, (under, over) in ways:
        means = [rows.contrast(_less(parts, whole, edge)) for edge in (low, high)]
        if means[0].n < FEWEST_PAIRED:
            continue
        below, above = (m.z for m in means)
        if below < -apart:
            found.append((-below, under))
        elif above > apart:
            found.append((above, over))
        elif below > apart and above < -apart:
            found.append((min(below, -above), "alone"))
    return max(found)[1] if found else None


def _parts(cells: list[int], beside: int, sign: float = 1.0) -> dict[int, float]:
    """The contrast of cells with one other, added up."""
    return {**dict.fromkeys(cells, sign), beside: -sign * len(cells)}


def _less(parts: dict[int, float], whole: dict[int, float], edge: float) -> dict[int, float]:
    return {cell: parts.get(cell, 0.0) - edge * whole.get(cell, 0.0) for cell in {**parts, **whole}}
