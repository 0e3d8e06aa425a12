"""The smallest loss worth acting on, and the smallest that a design can see.

**Tolerance**: checked against the metric's scale, and what it is where none was set. On a scale from 0 to 1 the default is 0.02. On
an open one (seconds, USD, characters) points mean nothing by themselves: there it is `RELATIVE` of the good release's mean, from
its first answers.

**Power**: the smallest loss of one axis that a design names with 80 % chance, before anything is spent. Full and fractional: from
the variance of a main effect on pass/fail scores, effect + 2 sigma^2 / (cells / 2) per query (the between-query part of an effect
that breaks a share of the queries, and run-to-run noise sigma^2 = 0.05 * 0.95), against the Holm bound for the first of k axes.
Adaptive: from planted incidents (tests/benchmarks/bench_adaptive.py): calls grow about as the loss to the power -1.26, with 400
calls for 18 points at four axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from bisect_ai.attribution.designs.fractions import MOST_AXES_FULL, fraction_size
from bisect_ai.attribution.problem import Floats, Problem

# Two points of a score between 0 and 1.
DEFAULT = 0.02
# The part of the good release's mean, on an open scale.
RELATIVE = 0.05
# The part of that below which a loss to watch for is more likely a slip: 0.05 on scores from 0 to 100, say.
FINE = 0.1
# Scores of the good release from which the default of an open scale is read.
FIRST = 12


def objection(
    tolerance: float, metric: str, *, lowest: float, highest: float, seen: bool = False, key: str = "tolerance"
) -> str | None:
    """What is wrong with a loss as large as the whole scale; None: nothing. `seen`: the scale is that of the scores so far.

    `key`: what the settings call the loss.
    """
    span = highest - lowest
    if not 0 < span <= tolerance:
        return None
    meant = f"; did you mean {tolerance / 100:g}?" if tolerance / 100 < span else "; name a smaller loss"
    scale = "all scores so far lie" if seen else "its scores lie"
    return (
        f"{key} {tolerance:g} in points of the metric {metric!r}: {scale} between {lowest:g} and {highest:g}, so no loss could "
        f"ever be above it{meant}"
    )


def is_open(scores: Floats, unit: str | None) -> bool:
    """Whether scores are on an open scale, on which points mean nothing by themselves.

    They have a unit, or do not all lie between 0 and 1 (or -1 and 0, turned round), or are all so small that no loss could be above the
    default: prices, say.
    """
    if unit is not None or not len(scores):
        return unit is not None
    low, high = float(scores.min()), float(scores.max())
    return not (0 <= low <= high <= 1 or -1 <= low <= high <= 0) or 0 < max(-low, high) < DEFAULT


def relative(scores: Floats) -> float:
    """The default tolerance of an open scale, from scores of the good release; points of the metric."""
    mean = abs(float(scores.mean()))
    return float(f"{RELATIVE * mean:.3g}") if mean > 0 else DEFAULT


def relative_note(tolerance: float, unit: str | None = None) -> str:
    """What the report says of a default that was read off the good release's mean."""
    points = f"{tolerance:g}" if unit is None else f"{tolerance:g} {unit}"
    percent = f"{100 * RELATIVE:.0f} % of the good release's mean"
    return f"no tolerance was set: losses below {points}, {percent}, are not acted on"


def too_fine(detect: float, scores: Floats, metric: str, *, key: str) -> str | None:
    """What is odd about a loss that is next to nothing on the scale of these scores, which it may not be meant for; None: nothing."""
    low, high = float(scores.min()), float(scores.max())
    if detect >= FINE * RELATIVE * abs(float(scores.mean())) or detect >= FINE * RELATIVE * (high - low):
        return None
    return (
        f"{key} is {detect:g} in points of the metric {metric!r}, whose first scores lie between {low:g} and {high:g}: so small a loss "
        f"can hardly be excluded; set it in these points, like {relative(scores):g}"
    )


# Variance of a score from run to run: of a pass/fail score that flips in 5 of 100 runs.
NOISE = 0.05 * 0.95
# Normal quantile of 80 %.
POWER = 0.84


@dataclass(frozen=True)
class Size:
    """A design's size under a budget; `smallest_effect` in score points of a pass/fail metric, None: it cannot run."""

    calls: int
    queries: int
    cells: int
    smallest_effect: float | None
    # Calls until a loss of 10 points by one axis is settled.
    usual_calls: int


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
    scale = 1 + 0.125 * max(0, problem.k - 4)  # as the next two from bench_adaptive, see above
    seen = 0.18 * (calls / (400 * scale)) ** (-1 / 1.26)
    usual = round(400 * scale * 1.8**1.26)
    return Size(calls, problem.queries, 1 << problem.k, min(max(seen, problem.tolerance), 1.0), min(calls, usual))
