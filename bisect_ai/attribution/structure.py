"""From losses of cells to causes: which few simple rules explain them, and which smallest rollback undoes them.

A rule says how a share of the queries responds to a set T of axes: ALL of T bad breaks them (one axis: `alone`; several:
`together`), or ANY of T does (`either`). The loss of cell S is then the sum of the weights of the rules that S sets off. The
rules are fitted by generalised least squares under non-negative weights (Lawson and Hanson 1974), over every set of up to three
rules, and the set is chosen by the Bayesian information criterion (Schwarz 1978): one rule more must pay for itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.contrasts import bits
from bisect_ai.attribution.problem import Floats, Mode

MOST_RULES = 3


@dataclass(frozen=True)
class Rule:
    """Queries (`weight`: their loss, in score points) that break when all, or any, of `axes` are bad."""

    axes: tuple[int, ...]
    mode: Mode
    weight: float

    def breaks(self, cell: int) -> bool:
        """Whether the cell sets the rule off."""
        hits = [bool(cell >> a & 1) for a in self.axes]
        return any(hits) if self.mode == "either" else all(hits)


def explain(losses: Floats, covariance: Floats, *, queries: int) -> list[Rule]:
    """The rules behind `losses` (2^g,) of the cells of g guilty axes, heaviest first; every guilty axis is in one of them.

    `covariance` (2^g, 2^g) is that of `losses`; row and column 0 (the good release against itself) are not used.
    """
    axes = (len(losses)).bit_length() - 1
    white = _whitener(covariance[1:, 1:], scale=float(np.abs(losses).max()))
    goal = white @ losses[1:]
    best: tuple[float, list[Rule]] = (np.inf, [])
    rules = _candidates(axes)
    columns = {i: white @ _column(rule, len(losses))[1:] for i, rule in enumerate(rules)}
    for chosen in _choices(len(rules)):
        if not _covers(axes, [rules[i] for i in chosen]):
            continue
        weights, misfit = _nnls(np.column_stack([columns[i] for i in chosen]), goal)
        price = sum(1 + 0.5 * (len(rules[i].axes) - 1) for i in chosen) * np.log(max(queries, 2))
        if weights.min() > 0 and misfit**2 + price < best[0]:
            best = (misfit**2 + price, [_weighted(rules[i], w) for i, w in zip(chosen, weights, strict=True)])
    found = best[1] or [Rule((a,), "alone", float(losses[1 << a])) for a in range(axes)]
    return sorted(found, key=lambda r: (-r.weight, r.axes))


def smallest_rollback(rules: list[Rule], *, restored: float = 0.8, allowed: set[int] | None = None) -> tuple[int, ...]:
    """The fewest axes whose reversion undoes at least `restored` of what the rules cost; among equals what restores most.

    `allowed` holds the sets (as masks) that may be rolled back (their cell ran); None: any.
    """
    guilty = sorted({a for rule in rules for a in rule.axes})
    everything = sum(1 << a for a in guilty)
    total = sum(r.weight for r in rules)
    for size in range(1, len(guilty) + 1):
        options = []
        for back in itertools.combinations(guilty, size):
            gone = sum(1 << a for a in back)
            left = sum(r.weight for r in rules if r.breaks(everything & ~gone))
            if (allowed is None or gone in allowed) and total - left >= restored * total - 1e-12:
                options.append((left, back))
        if options:
            return min(options)[1]
    return ()


def _candidates(axes: int) -> list[Rule]:
    sets = [s for size in range(1, axes + 1) for s in itertools.combinations(range(axes), size)]
    breaks_all = [Rule(s, "alone" if len(s) == 1 else "together", 0.0) for s in sets]
    return breaks_all + [Rule(s, "either", 0.0) for s in sets if len(s) > 1]


def _choices(n: int) -> itertools.chain[tuple[int, ...]]:
    most = MOST_RULES if n <= 26 else 2
    return itertools.chain.from_iterable(itertools.combinations(range(n), size) for size in range(1, most + 1))


def _covers(axes: int, rules: list[Rule]) -> bool:
    return len({a for rule in rules for a in rule.axes}) == axes


def _column(rule: Rule, cells: int) -> Floats:
    return np.array([float(rule.breaks(cell)) for cell in range(cells)])


def _weighted(rule: Rule, weight: float) -> Rule:
    return Rule(rule.axes, rule.mode, float(weight))


def _nnls(columns: Floats, goal: Floats) -> tuple[Floats, float]:
    from scipy.optimize import nnls

    weights, misfit = nnls(columns, goal)
    return weights, float(misfit)


def _whitener(covariance: Floats, *, scale: float) -> Floats:
    """W with W' W = inverse covariance; a floor of a thousandth of the scale keeps noiseless cells finite."""
    floor = (1e-3 * max(scale, 1e-9)) ** 2
    values, vectors = np.linalg.eigh(covariance + floor * np.eye(len(covariance)))
    return np.asarray((vectors / np.sqrt(np.maximum(values, floor))).T)


def names_of(cell: int, axes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a cell's axes."""
    return tuple(axes[i] for i in bits(cell))
