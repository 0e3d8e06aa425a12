"""From losses of cells to causes: which few simple rules explain them.

A rule says how a share of the queries responds to a set T of axes: ALL of T bad breaks them (one axis: `alone`; several:
`together`), or ANY of T does (`either`). The loss of cell S is then the sum of the weights of the rules that S sets off. The
rules are fitted by generalised least squares under non-negative weights (Lawson and Hanson 1974), over every way to put the axes
into rules, and one is chosen by the Bayesian information criterion (Schwarz 1978): one rule more must pay for itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Floats, Mode


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


# By how much the information criterion must prefer one explanation to the next for it to be said.
SETTLED = 2.0
# Of the largest loss: what the rules may leave of any cell's, whatever the error, and still be said.
UNEXPLAINED = 0.1
# The p-value of the residuals (chi squared) below which more than UNEXPLAINED is not put down to chance.
MISFIT = 1e-3


def explain(losses: Floats, covariance: Floats, *, queries: int) -> list[Rule] | None:
    """The rules behind `losses` (2^g,) of the cells of g guilty axes, heaviest first; every guilty axis is in just one of them.

    `covariance` (2^g, 2^g) is that of `losses`; row and column 0 (the good release against itself) are not used. None: no rules
    fit, or two explanations do about as well.
    """
    axes = (len(losses)).bit_length() - 1
    white = _whitening_matrix(covariance[1:, 1:], scale=float(np.abs(losses).max()))
    goal = white @ losses[1:]
    found: list[tuple[float, list[Rule]]] = []
    for rules in partitions(tuple(range(axes))):
        columns = np.column_stack([white @ _rule_column(rule, len(losses))[1:] for rule in rules])
        weights, misfit = _nonnegative_fit(columns, goal)
        price = sum(1 + 0.5 * (len(r.axes) - 1) for r in rules) * np.log(max(queries, 2))
        if weights.min() > 0:
            found.append((misfit**2 + price, [_with_weight(r, w) for r, w in zip(rules, weights, strict=True)]))
    found.sort(key=lambda item: item[0])
    if not found or (len(found) > 1 and found[1][0] - found[0][0] < SETTLED) or not _rules_fit(found[0][1], losses, white):
        return None
    return sorted(found[0][1], key=lambda r: (-r.weight, r.axes))


def _rules_fit(rules: list[Rule], losses: Floats, white: Floats) -> bool:
    """Whether what the rules leave is small, or no more than chance leaves: an axis may have a part of its own and a joint one."""
    from scipy.special import chdtrc

    rest = (losses - sum(r.weight * _rule_column(r, len(losses)) for r in rules))[1:]
    freedom = len(rest) - len(rules)
    if freedom < 1 or np.abs(rest).max() <= UNEXPLAINED * np.abs(losses).max():
        return True
    return float(chdtrc(freedom, float(((white @ rest) ** 2).sum()))) >= MISFIT


def partitions(axes: tuple[int, ...]) -> list[list[Rule]]:
    """Every way to put axes into rules: an axis alone, or several together, or several of which either is enough."""
    if not axes:
        return [[]]
    first, rest = axes[0], axes[1:]
    found = []
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            left = tuple(a for a in rest if a not in others)
            group = (first, *others)
            modes: tuple[Mode, ...] = ("together", "either") if others else ("alone",)
            found += [[Rule(group, mode, 0.0), *tail] for mode in modes for tail in partitions(left)]
    return found


def _rule_column(rule: Rule, cells: int) -> Floats:
    return np.array([float(rule.breaks(cell)) for cell in range(cells)])


def _with_weight(rule: Rule, weight: float) -> Rule:
    return Rule(rule.axes, rule.mode, float(weight))


def _nonnegative_fit(columns: Floats, goal: Floats) -> tuple[Floats, float]:
    from scipy.optimize import nnls

    weights, misfit = nnls(columns, goal)
    return weights, float(misfit)


def _whitening_matrix(covariance: Floats, *, scale: float) -> Floats:
    """W with W' W = inverse covariance; a floor of a thousandth of the scale keeps noiseless cells finite."""
    floor = (1e-3 * max(scale, 1e-9)) ** 2
    values, vectors = np.linalg.eigh(covariance + floor * np.eye(len(covariance)))
    return np.asarray((vectors / np.sqrt(np.maximum(values, floor))).T)
