"""The smallest loss worth acting on: checked against the metric's scale, and what it is where none was set.

On a scale from 0 to 1 the default is 0.02. On an open one (seconds, USD, characters) points mean nothing by themselves: there it is
`RELATIVE` of the good release's mean, from its first answers.
"""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.problem import Floats

DEFAULT = 0.02
"""Two points of a score between 0 and 1."""
RELATIVE = 0.05
"""The part of the good release's mean, on an open scale."""
FIRST = 12
"""Scores of the good release from which the default of an open scale is read."""


def objection(tolerance: float, metric: str, *, lowest: float, highest: float, seen: bool = False) -> str | None:
    """What is wrong with a tolerance as large as the whole scale; None: nothing. `seen`: the scale is that of the scores so far."""
    span = highest - lowest
    if not 0 < span <= tolerance:
        return None
    meant = f"; did you mean {tolerance / 100:g}?" if tolerance / 100 < span else "; name a smaller loss"
    scale = "all scores so far lie" if seen else "its scores lie"
    return (
        f"tolerance {tolerance:g} in points of the metric {metric!r}: {scale} between {lowest:g} and {highest:g}, so no loss could "
        f"ever be above it{meant}"
    )


def is_open(scores: Floats, unit: str | None) -> bool:
    """Whether scores are on an open scale: they have a unit, or do not all lie between 0 and 1 (or -1 and 0, turned round)."""
    if unit is not None:
        return True
    return bool(len(scores)) and not (0 <= scores.min() <= scores.max() <= 1 or -1 <= scores.min() <= scores.max() <= 0)


def relative(scores: Floats) -> float:
    """The default tolerance of an open scale, from scores of the good release; points of the metric."""
    mean = abs(float(np.mean(scores)))
    return float(f"{RELATIVE * mean:.3g}") if mean > 0 else DEFAULT


def relative_note(tolerance: float, unit: str | None = None) -> str:
    """What the report says of a default that was read off the good release's mean."""
    points = f"{tolerance:g}" if unit is None else f"{tolerance:g} {unit}"
    percent = f"{100 * RELATIVE:.0f} % of the good release's mean"
    return f"no tolerance was set: losses below {points}, {percent}, are not acted on"
