"""What a figure shows, in words: for who cannot see the picture in a notebook."""

from __future__ import annotations

from bisect_ai.report.figure_data import (
    Absent,
    CellPoints,
    Effects,
    HalfNormal,
    Pair,
    Point,
    Segments,
    Series,
    Waterfall,
)
from bisect_ai.report.number_text import Scale, listed
from bisect_ai.report.untrusted_text import one_line

# Characters: a reader aloud takes half a minute for them.
LONGEST = 600


def alt_text(data: Series | Absent) -> str:
    """The figure in one paragraph, its numbers with their intervals."""
    match data:
        case Absent(reason=reason):
            told = reason
        case Waterfall(scale=scale):
            steps = [f"{step.label} {_number(scale, step.cost)}" for step in data.steps]
            ends = f"{scale.value(data.good.value)} (good) to {scale.value(data.bad.value)} (bad)"
            told = f"{data.metric} from {ends}; cost of each step: {listed(steps)}"
        case Effects(scale=scale):
            rows = [f"{r.axis}: {_number(scale, r.introduced)} and {_number(scale, r.reverted)}" for r in data.rows]
            told = f"cost of each axis in {data.metric}, changed alone and taken back alone: {'; '.join(rows)}"
        case CellPoints(scale=scale):
            cells = "; ".join(f"{row.name} {_number(scale, row.point)}" for row in data.rows)
            told = f"{data.metric} of each combination, by what is new in it: {cells}"
        case Segments(scale=scale):
            told = f"loss of {data.metric} by segment: {'; '.join(f'{r.name} {_number(scale, r.loss)}' for r in data.rows)}"
        case Pair(scale=scale):
            corners = (data.neither, data.first_bad, data.second_bad, data.both)
            names = ("neither", data.first, data.second, "both")
            values = [f"{name} {_number(scale, point)}" for name, point in zip(names, corners, strict=True)]
            told = f"{data.metric} with the new version of {listed(values)}"
        case HalfNormal():
            beyond = [label for label, size in zip(data.labels, data.sizes, strict=True) if size > data.margin]
            told = f"effects by size; beyond what chance gives: {listed(beyond) if beyond else 'none'}"
    return one_line(told, limit=LONGEST)


def alt_metadata(text: str, **_: object) -> tuple[dict[str, object], dict[str, object]]:
    """What Jupyter asks a figure for: no picture of its own, but the words that go with it."""
    return {}, {kind: {"alt": text} for kind in ("image/png", "image/svg+xml", "image/jpeg")}


def _number(scale: Scale, point: Point | None) -> str:
    if point is None:
        return "not measured"
    return scale.number(point.value) if point.interval is None else scale.bracket(point.value, point.interval)
