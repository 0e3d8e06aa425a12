"""What each figure shows: frozen series of plain numbers, and the same in words for who cannot see the picture.

Values are in the units of the metric; costs are positive when the change lowers quality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bisect_ai.report.blocks import Interval, Scale, listed
from bisect_ai.report.measured_values import NetChurn
from bisect_ai.report.untrusted_text import one_line


@dataclass(frozen=True)
class Absent:
    """Why there is nothing to draw, one sentence."""

    reason: str


@dataclass(frozen=True)
class Point:
    """A value with its interval (None: it has none)."""

    value: float
    interval: tuple[float, float] | None


def point_of(value: float | None, interval: Interval) -> Point | None:
    """A value and its interval as a point; None where there is no number to draw."""
    if value is None or not math.isfinite(value):
        return None
    return Point(value, None if interval is None else (interval[0], interval[1]))


@dataclass(frozen=True)
class Step:
    """One step of a waterfall, from `start` to `end` in the metric. `cost` is positive when it costs quality; `named`: a cause."""

    label: str
    start: float
    end: float
    cost: Point
    named: bool = False


@dataclass(frozen=True)
class Waterfall:
    """The way from good to bad: `basis` says whose shares the steps are (axes by Shapley value, or causes as measured)."""

    metric: str
    good: Point
    bad: Point
    steps: tuple[Step, ...]
    basis: str
    scale: Scale
    # Axes that are not named: what each breaks and mends is drawn both ways from the bad release's value.
    churn: tuple[NetChurn, ...] = ()


@dataclass(frozen=True)
class AxisEffects:
    """An axis: what introducing it alone costs, and what reverting it alone brings back."""

    axis: str
    introduced: Point | None
    reverted: Point | None


@dataclass(frozen=True)
class Effects:
    """Introduced against reverted for every axis that has either, costliest first."""

    metric: str
    rows: tuple[AxisEffects, ...]
    # Axes for which neither was measured.
    missing: tuple[str, ...]
    scale: Scale


@dataclass(frozen=True)
class Pair:
    """Two axes, all others good: the values of neither, first alone, second alone, both from the bad release."""

    first: str
    second: str
    neither: Point
    first_bad: Point
    second_bad: Point
    both: Point
    # The interaction averaged over the other axes.
    effect: Point | None
    metric: str
    scale: Scale


@dataclass(frozen=True)
class CellRow:
    """One cell: for each axis whether it is bad, and the value; `role` is good, bad, rollback or empty."""

    bad: tuple[bool, ...]
    name: str
    point: Point
    trials: int
    errors: int
    role: str


@dataclass(frozen=True)
class CellPoints:
    """The cells with a population value, from good to bad; `left_out` more are only in the table."""

    metric: str
    axes: tuple[str, ...]
    rows: tuple[CellRow, ...]
    left_out: int
    scale: Scale


@dataclass(frozen=True)
class HalfNormal:
    """Absolute factorial effects by half-normal quantile; those beyond `margin` stand out (Lenth 1989, his margin of error)."""

    labels: tuple[str, ...]
    sizes: tuple[float, ...]
    quantiles: tuple[float, ...]
    # Lenth's pseudo standard error: the slope of the line that effects of nothing lie on.
    spread: float
    margin: float
    scale: Scale


@dataclass(frozen=True)
class SegmentRow:
    """The loss inside one segment and its share of the queries."""

    name: str
    share: float | None
    loss: Point
    n: int | None


@dataclass(frozen=True)
class Segments:
    """Loss per segment, the largest first, beside the loss over all queries."""

    metric: str
    rows: tuple[SegmentRow, ...]
    overall: Point | None
    scale: Scale


# What a figure is drawn from.
Series = Waterfall | Effects | Pair | CellPoints | HalfNormal | Segments


# Characters: a reader aloud takes half a minute for them.
LONGEST = 600


def alt_text(data: Series | Absent) -> str:
    """The figure in one paragraph, its numbers with their intervals."""
    match data:
        case Absent(reason=reason):
            told = reason
        case Waterfall(scale=scale):
            steps = [f"{step.label} {number_of(scale, step.cost)}" for step in data.steps]
            ends = f"{scale.value(data.good.value)} (good) to {scale.value(data.bad.value)} (bad)"
            told = f"{data.metric} from {ends}; cost of each step: {listed(steps)}"
        case Effects(scale=scale):
            rows = [f"{r.axis}: {number_of(scale, r.introduced)} and {number_of(scale, r.reverted)}" for r in data.rows]
            told = f"cost of each axis in {data.metric}, changed alone and taken back alone: {'; '.join(rows)}"
        case CellPoints(scale=scale):
            cells = "; ".join(f"{row.name} {number_of(scale, row.point)}" for row in data.rows)
            told = f"{data.metric} of each combination, by what is new in it: {cells}"
        case Segments(scale=scale):
            told = f"loss of {data.metric} by segment: {'; '.join(f'{r.name} {number_of(scale, r.loss)}' for r in data.rows)}"
        case Pair(scale=scale):
            corners = (data.neither, data.first_bad, data.second_bad, data.both)
            names = ("neither", data.first, data.second, "both")
            values = [f"{name} {number_of(scale, point)}" for name, point in zip(names, corners, strict=True)]
            told = f"{data.metric} with the new version of {listed(values)}"
        case HalfNormal():
            beyond = [label for label, size in zip(data.labels, data.sizes, strict=True) if size > data.margin]
            told = f"effects by size; beyond what chance gives: {listed(beyond) if beyond else 'none'}"
    return one_line(told, limit=LONGEST)


def alt_metadata(text: str, **_: object) -> tuple[dict[str, object], dict[str, object]]:
    """What Jupyter asks a figure for: no picture of its own, but the words that go with it."""
    return {}, {kind: {"alt": text} for kind in ("image/png", "image/svg+xml", "image/jpeg")}


def number_of(scale: Scale, point: Point | None) -> str:
    """The number with its interval, or that it was not measured."""
    if point is None:
        return "not measured"
    return scale.number(point.value) if point.interval is None else scale.bracket(point.value, point.interval)
