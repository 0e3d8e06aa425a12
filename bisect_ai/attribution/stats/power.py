"""What a design can see: the smallest loss of one axis that it names with 80 % chance, before anything is spent.

Full and fractional: from the variance of a main effect on pass/fail scores, effect + 2 sigma^2 / (cells / 2) per query (the
between-query part of an effect that breaks a share of the queries, and run-to-run noise sigma^2 = 0.05 * 0.95), against the Holm
bound for the first of k axes. Adaptive: from planted incidents (tests/benchmarks/bench_adaptive.py): calls grow about as the
loss to the power -1.26, with 400 calls for 18 points at four axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from bisect_ai.attribution.designs.factorial import MOST_AXES_FULL, fraction_size
from bisect_ai.attribution.problem import Problem

NOISE = 0.05 * 0.95
"""Variance of a score from run to run: of a pass/fail score that flips in 5 of 100 runs."""
POWER = 0.84
"""Normal quantile of 80 %."""


@dataclass(frozen=True)
class Size:
    """A design's size under a budget; `smallest_effect` in score points of a pass/fail metric, None: it cannot run."""

    calls: int
    queries: int
    cells: int
    smallest_effect: float | None
    usual_calls: int
    """Calls until a loss of 10 points by one axis is settled."""


def sizes(problem: Problem) -> dict[str, Size]:
    """Adaptive, full and fractional (where they can run) under the problem's budget."""
    found = {"adaptive": _adaptive_size(problem)}
    if problem.k <= MOST_AXES_FULL:
        found["full"] = _factorial_size(problem, 1 << problem.k)
    if (cells := fraction_size(problem.k)) is not None:
        found["fractional"] = _factorial_size(problem, cells)
    return found


def _factorial_size(problem: Problem, cells: int) -> Size:
    queries = min(problem.queries, problem.budget // cells)
    smallest = _smallest_effect(problem, queries, cells) if queries >= 2 else None
    return Size(queries * cells, queries, cells, smallest, queries * cells)


def _smallest_effect(problem: Problem, queries: int, cells: int) -> float:
    z = NormalDist().inv_cdf(1 - problem.alpha / (4 * problem.k)) + POWER
    effect = 0.1
    for _ in range(50):  # a contraction: the variance depends on the effect
        effect = z * math.sqrt((effect + 2 * NOISE / (cells / 2)) / queries)
    return min(effect, 1.0)


def _adaptive_size(problem: Problem) -> Size:
    calls = min(problem.budget, problem.queries << problem.k)
    scale = 1 + 0.125 * max(0, problem.k - 4)
    seen = 0.18 * (calls / (400 * scale)) ** (-1 / 1.26)
    usual = round(400 * scale * 1.8**1.26)
    return Size(calls, problem.queries, 1 << problem.k, min(max(seen, problem.tolerance), 1.0), min(calls, usual))
