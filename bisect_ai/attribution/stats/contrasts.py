"""Contrasts of cell values: coefficient vectors over the 2^k cells, for the loss game L(S) = v(good) - v(S).

Every vector c gives an effect as sum_S c[S] v(S), in score points; positive means the change costs quality.

- introduced alone, a:  v(0) - v({a})
- reverted alone, a:    v(all minus a) - v(all)
- Shapley, a:           sum over S without a of |S|!(k-|S|-1)!/k! (v(S) - v(S+a)); the k of them sum to the loss (Shapley 1953);
                        where some axes need others, over the orders that respect that (Faigle and Kern 1992)
- interaction, T:       difference of differences over T, averaged over all settings of the other axes: the two-level factorial
                        interaction (Box, Hunter and Hunter 2005, ch. 5), as a game the Banzhaf interaction index (Grabisch and
                        Roubens 1999). T of one axis gives its main effect. For two axes: L(ab) - L(a) - L(b) + L(0).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bisect_ai.attribution.problem import Bools, Floats, interaction_contrast

# Log likelihood ratio of no change against one by twice the average, normal, from which on axes act by themselves. Of 72 runs with
# two or three that act together 10 claimed a wrong mode without it, 4 with it (3,200 calls, churn 3 %, noise 0 and 5 %).
SURELY = 2.0


def loss(k: int) -> Floats:
    """(2^k,) v(good) - v(bad)."""
    return _difference_contrast(k, 0, (1 << k) - 1)


def introduced(k: int, axis: int) -> Floats:
    """(2^k,) what putting `axis` alone into the good release costs."""
    return _difference_contrast(k, 0, 1 << axis)


def reverted(k: int, axis: int) -> Floats:
    """(2^k,) what taking `axis` alone back to good restores in the bad release."""
    full = (1 << k) - 1
    return _difference_contrast(k, full & ~(1 << axis), full)


def shapley(k: int, axis: int, needs: Sequence[int] = ()) -> Floats:
    """(2^k,) the axis's Shapley share of the loss; `needs`: axis to the mask of the axes that it must come after."""
    if any(needs):
        return _ordered_shapley(k, axis, needs)
    c = np.zeros(1 << k)
    for cell in range(1 << k):
        if not cell >> axis & 1:
            size = cell.bit_count()
            weight = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
            c[cell] += weight
            c[cell | 1 << axis] -= weight
    return c


def _ordered_shapley(k: int, axis: int, needs: Sequence[int]) -> Floats:
    """The mean cost of adding the axis, over all orders of the axes in which each comes after what it needs."""
    full = (1 << k) - 1

    def following(cell: int) -> list[int]:
        return [a for a in range(k) if not cell >> a & 1 and needs[a] & ~cell == 0]

    before, after = np.zeros(1 << k), np.zeros(1 << k)  # orders that lead from nothing to a cell, and from it to all
    before[0] = after[full] = 1.0
    for cell in range(1 << k):
        for a in following(cell):
            before[cell | 1 << a] += before[cell]
    for cell in range(full - 1, -1, -1):
        after[cell] = sum(after[cell | 1 << a] for a in following(cell))
    c = np.zeros(1 << k)
    for cell in range(1 << k):
        if axis in following(cell):
            weight = before[cell] * after[cell | 1 << axis] / before[full]
            c[cell] += weight
            c[cell | 1 << axis] -= weight
    return c


def subsets(k: int, *, smallest: int = 1, largest: int | None = None) -> list[tuple[int, ...]]:
    """All sets of axes by size, then order."""
    top = k if largest is None else min(k, largest)
    return [s for size in range(smallest, top + 1) for s in itertools.combinations(range(k), size)]


def _difference_contrast(k: int, plus: int, minus: int) -> Floats:
    c = np.zeros(1 << k)
    c[plus] += 1.0
    c[minus] -= 1.0
    return c


def factorial_contrast(k: int, axes: Sequence[int], ran: Bools) -> Floats | None:
    """(2^k,) the interaction of `axes` (one: main effect) from the cells that ran; None when it is aliased.

    With all cells it is the plain factorial contrast. With some missing it comes from the least-squares fit of main effects and
    pairs, which takes higher interactions as absent.
    """
    if ran.all():
        return interaction_contrast(k, axes)
    terms = [(), *subsets(k, largest=2)]
    wanted = tuple(axes)
    if wanted not in terms or not ran.any():
        return None
    cells = np.flatnonzero(ran)
    model = np.array([[_contrast_sign(int(cell), term) for term in terms] for cell in cells])
    inverse = np.linalg.pinv(model)
    column = terms.index(wanted)
    resolved = inverse @ model
    if not np.allclose(resolved[column], np.eye(len(terms))[column], atol=1e-8):
        return None
    c = np.zeros(1 << k)
    c[cells] = -inverse[column] * 2 ** len(wanted)
    return c


def depends_on_another(values: Floats, axes: Sequence[int], others: Sequence[int], *, error: Callable[[Floats], float]) -> bool:
    """Whether what axes cost (jointly, where they are several) may change by twice its average with one of the others, not named.

    So it does where they act only together with it, or either is enough, and it was not proved: from nothing to twice its average.
    May: that is not `SURELY` less likely than no change. `values` (2^k,) of cells, NaN where one did not run; `error` of a contrast.
    """
    sets = [tuple(sorted(axes)), *(tuple(sorted((*axes, other))) for other in others)]
    found = [factorial_contrast(len(values).bit_length() - 1, each, ~np.isnan(values)) for each in sets]
    if found[0] is None:  # what they cost is told apart from no other's cost, as where one does not run without another
        return False
    cost, *changes = [abs(float(c @ np.nan_to_num(values))) for c in found if c is not None]
    errors = [error(c) for c in found[1:] if c is not None]
    return any(2 * cost * (cost - change) < SURELY * e**2 or change > cost for change, e in zip(changes, errors, strict=True))


def _contrast_sign(cell: int, term: Sequence[int]) -> float:
    return float(np.prod([1.0 if cell >> a & 1 else -1.0 for a in term])) if term else 1.0
