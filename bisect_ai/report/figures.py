"""The figures of a report, drawn by matplotlib from `series`: one look for the page and for notebooks.

Rows are headed by their name and their number, with the track below: readable at the width of a telephone. Colours are told
apart by colour-blind readers too (orange costs, blue gains), and never carry a meaning alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from bisect_ai.errors import InputError
from bisect_ai.report import figure_values
from bisect_ai.report.blocks import Scale
from bisect_ai.report.figure_values import Absent, Point, alt_metadata, alt_text, number_of
from bisect_ai.report.measured_values import EFFECT_KINDS, NetChurn
from bisect_ai.report.report_values import Report, fine_scale
from bisect_ai.report.untrusted_text import PLAIN, cut, one_line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType
    from numpy.typing import NDArray

D = TypeVar("D")
S = TypeVar("S", bound=figure_values.Series | Absent)

# Text, secondary text, lines of the grid, costs, gains, neither, background.
INK, MUTED, GRID, HARM, HELP, QUIET, SURFACE = "#1c2127", "#5d6875", "#e2e6ea", "#c2410c", "#0f6cbd", "#98a2ad", "#fefefe"
# Units of a figure's width: CSS pixels at its natural size, and points of matplotlib.
WIDTH = 400
ROW, MARGINS = 40, 46  # a row with its label, and title with axis: in units of WIDTH
NAME_LIMIT = 30  # characters beside an axis of this width
STYLE: dict[RcKeyType, object] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a layout depends on no machine
    "font.size": 11,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "bisect-ai",
}


def waterfall(axes: Axes, data: figure_values.Waterfall) -> None:
    """From good to bad, a step for each axis or cause; the whisker is the interval of the step's end."""
    rows = len(data.steps) + len(data.churn) + 2
    _rows(axes, rows, data.metric, data.scale)
    _header(axes, 0, "good", _value_of(data.scale, data.good))
    _dot(axes, 0, data.good, HELP)
    for i, step in enumerate(data.steps, start=1):
        _header(axes, i, step.label, number_of(data.scale, step.cost), limit=44)
        _step(axes, i, step)
    for i, churn in enumerate(data.churn, start=len(data.steps) + 1):
        _shuffle(axes, i, churn, data)
    _header(axes, rows - 1, "bad", _value_of(data.scale, data.bad))
    _dot(axes, rows - 1, data.bad, HARM)
    last = data.steps[-1].end if data.steps else data.good.value
    _connect(axes, [data.good.value, *(step.end for step in data.steps), *(last for _ in data.churn)])


def _shuffle(axes: Axes, row: int, churn: NetChurn, data: figure_values.Waterfall) -> None:
    """What a change breaks to one side and mends to the other, in the colour of what does not count."""
    level, told = data.bad.value, f"breaks {data.scale.number(churn.breaks)}, mends {data.scale.number(churn.mends)}"
    _header(axes, row, f"{churn.axis}: {churn.does}", told)
    for side in (-churn.breaks, churn.mends):
        axes.barh(row + 0.1, side, left=level, height=0.16, color=QUIET, edgecolor=SURFACE)


def effects(axes: Axes, data: figure_values.Effects) -> None:
    """Per axis two dots with their intervals: introduced alone (filled) above, reverted alone (open) below."""
    _rows(axes, len(data.rows), f"cost in {points(data.scale)} of {data.metric}", data.scale)
    axes.axvline(0, color=MUTED, linewidth=1)
    for i, row in enumerate(data.rows):
        known = [number_of(data.scale, point) for point in (row.introduced, row.reverted)]
        _header(axes, i, row.axis, " · ".join(known))
        for shift, point, filled in ((-0.07, row.introduced, True), (0.17, row.reverted, False)):
            if point:
                _dot(axes, i + shift, point, _tone(point), filled=filled)


def interaction(axes: Axes, data: figure_values.Pair) -> None:
    """The metric over the first axis good and bad, a line each for the second axis good and bad."""
    ends = [("good", data.neither, data.first_bad, HELP, "-"), ("bad", data.second_bad, data.both, HARM, "--")]
    for shift, (side, left, right, colour, dash) in zip((-0.015, 0.015), ends, strict=True):
        axes.plot([shift, 1 + shift], [left.value, right.value], color=colour, linestyle=dash, linewidth=1.8)
        for x, point in ((shift, left), (1 + shift, right)):
            _upright(axes, x, point, colour, filled=side == "good")
        text = f"{cut(data.second, 14)} {side}"
        axes.annotate(
            text, (1 + shift, right.value), (8, 0), textcoords="offset points", color=colour, va="center", fontsize=10
        )
    axes.set_xlim(-0.15, 1.75)
    axes.set_xticks([0, 1], [f"{cut(data.first, 14)} good", f"{cut(data.first, 14)} bad"])
    axes.grid(axis="y")
    ticks(axes.yaxis, data.scale)
    effect = "" if data.effect is None else f"interaction {data.scale.bracket(data.effect.value, data.effect.interval)}"
    axes.set_title(
        f"{cut(data.first, NAME_LIMIT)} × {cut(data.second, NAME_LIMIT)}\n{effect}", loc="left", fontsize=11, color=INK
    )


def cells(axes: Axes, data: figure_values.CellPoints) -> None:
    """A row a cell: filled dots for the axes taken from the bad release, then its value with interval."""
    k, rows = len(data.axes), len(data.rows)
    left = -0.055 * k - 0.03
    for i, row in enumerate(data.rows):
        colour = {"good": HELP, "bad": HARM, "rollback": HELP}.get(row.role, MUTED)
        for a, bad in enumerate(row.bad):
            axes.plot(
                left + 0.055 * a, i, "o", transform=axes.get_yaxis_transform(), clip_on=False, markersize=6,
                color=INK if bad else SURFACE, markeredgecolor=INK if bad else QUIET, markeredgewidth=0.8,
            )  # fmt: skip
        _dot(axes, i, row.point, colour, filled=row.role != "rollback")
        name = f"{data.scale.number(row.point.value)} {row.role}".strip()
        axes.text(1.02, i, name, transform=axes.get_yaxis_transform(), va="center", fontsize=10, color=INK)
    for a, axis in enumerate(data.axes):
        x = left + 0.055 * a
        axes.text(
            x, -0.8, cut(axis, 18), transform=axes.get_yaxis_transform(), rotation=55, ha="left", va="bottom",
            rotation_mode="anchor", fontsize=10,
        )  # fmt: skip
    axes.set_ylim(rows - 0.4, -0.7)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.set_xlabel(_unit(data.metric, data.scale))
    ticks(axes.xaxis, data.scale)


def half_normal(axes: Axes, data: figure_values.HalfNormal) -> None:
    """Effects by size against half-normal quantiles; those beyond Lenth's margin are named."""
    largest = max(*data.sizes, data.margin)
    out = [size > max(data.margin, 0.02 * largest) for size in data.sizes]
    for chosen, colour in ((False, QUIET), (True, HARM)):
        at = [i for i, is_out in enumerate(out) if is_out is chosen]
        axes.plot([data.sizes[i] for i in at], [data.quantiles[i] for i in at], "o", color=colour, markersize=5)
    top = data.quantiles[-1] * 1.08
    axes.plot([0, data.spread * top], [0, top], color=MUTED, linewidth=1, linestyle="--")
    axes.axvline(data.margin, color=GRID, linewidth=1)
    named = [i for i, is_out in enumerate(out) if is_out][-6:]
    for i in named:
        is_right = data.sizes[i] > largest / 2
        axes.annotate(
            cut(data.labels[i], NAME_LIMIT), (data.sizes[i], data.quantiles[i]), (-7 if is_right else 7, 0), textcoords="offset points",
            ha="right" if is_right else "left", va="center", fontsize=10,
        )  # fmt: skip
    axes.set_xlim(0, largest * 1.08)
    axes.set_ylim(0, top * 1.05)
    axes.set_xlabel(f"absolute effect in {points(data.scale)}")
    axes.set_ylabel("half-normal quantile")
    axes.grid()
    ticks(axes.xaxis, data.scale)


def segments(axes: Axes, data: figure_values.Segments) -> None:
    """The loss of each segment with its interval; the line is the loss over all queries."""
    _rows(axes, len(data.rows), f"loss in {points(data.scale)} of {data.metric}", data.scale)
    axes.axvline(0, color=MUTED, linewidth=1)
    if data.overall:
        axes.axvline(data.overall.value, color=MUTED, linewidth=1, linestyle="--")
    for i, row in enumerate(data.rows):
        share = "" if row.share is None else f" ({100 * row.share:.0f} % of queries)"
        _header(axes, i, f"{cut(row.name, NAME_LIMIT)}{share}", number_of(data.scale, row.loss), limit=60)
        _dot(axes, i + 0.05, row.loss, _tone(row.loss))


def forest(axes: Axes, rows: Sequence[tuple[str, Point]], band: float, label: str, scale: Scale) -> None:
    """A dot with its interval for each named loss, beside a band around zero."""
    _rows(axes, len(rows), label, scale)
    axes.axvspan(-band, band, color=QUIET, alpha=0.25, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=1)
    for i, (name, point) in enumerate(rows):
        _header(axes, i, name, number_of(scale, point), limit=60)
        _dot(axes, i + 0.05, point, _tone(point))


def series(axes: Axes, data: figure_values.Series) -> None:
    """Any series, as its kind is drawn."""
    match data:
        case figure_values.Waterfall():
            waterfall(axes, data)
        case figure_values.Effects():
            effects(axes, data)
        case figure_values.Pair():
            interaction(axes, data)
        case figure_values.CellPoints():
            cells(axes, data)
        case figure_values.HalfNormal():
            half_normal(axes, data)
        case figure_values.Segments():
            segments(axes, data)


def alone(draw: Callable[[Axes, D], None], data: D) -> Figure:
    """A figure of its own (no pyplot, nothing shown), at the size that its data need."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, height_of(data) / 72), layout="constrained", facecolor="none")
        draw(figure.subplots(), data)
    return figure


def shown(draw: Callable[[Axes, S], None], data: S | Absent, *, ax: Axes | None = None) -> Axes:
    """The figure on `ax`, or on a new one of pyplot, which a notebook shows with its alt text; without data: the reason as text."""
    import matplotlib

    figure = None if ax is not None else _pyplot_figure(1.25 * WIDTH, 1.25 * height_of(data), alt_text(data))
    with matplotlib.rc_context(STYLE):
        ax = figure.subplots() if figure is not None else ax
        assert ax is not None, "given, or made the line before"
        if isinstance(data, Absent):
            reason(ax, data)
        else:
            draw(ax, data)
    return ax


def shown_pairs(data: tuple[figure_values.Pair, ...] | Absent) -> NDArray[np.object_]:
    """An array of axes, one for each pair that matters; a single one with the reason when there is none."""
    import matplotlib
    import numpy as np

    if isinstance(data, Absent):
        return np.array([shown(reason, data)])
    figure = _pyplot_figure(1.1 * WIDTH * len(data), 1.1 * height_of(data[0]), "; ".join(map(alt_text, data)))
    with matplotlib.rc_context(STYLE):
        all_axes: NDArray[np.object_] = figure.subplots(1, len(data), squeeze=False)[0]
        for axes, pair in zip(all_axes, data, strict=True):
            interaction(axes, pair)
    return all_axes


def _pyplot_figure(width: float, height: float, alt: str) -> Figure:
    """A figure that a notebook shows. Made outside any rc_context: a backend that starts inside one is switched off at its end."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(width / 72, height / 72), layout="constrained")
    figure._repr_mimebundle_ = partial(alt_metadata, alt)  # type: ignore[attr-defined]  # what Jupyter asks any object for
    return figure


def reason(axes: Axes, data: Absent) -> None:
    """Why there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0, 0.5, data.reason, wrap=True, va="center", color=MUTED)


def height_of(data: object) -> float:
    """The height that a series needs, in the units of `WIDTH`."""
    match data:
        case figure_values.Waterfall(steps=steps, churn=churn):
            return ROW * (len(steps) + len(churn) + 2) + MARGINS
        case figure_values.Effects(rows=rows) | figure_values.Segments(rows=rows):
            return ROW * len(rows) + MARGINS
        case figure_values.CellPoints(rows=cell_rows, axes=names):
            return 22 * len(cell_rows) + 5 * max(min(len(name), 18) for name in names) + MARGINS + 14
        case figure_values.Pair():
            return 250
        case figure_values.HalfNormal():
            return 300
    return int(getattr(data, "height", 80))


def single(report: Report, kind: str) -> figure_values.Effects | Absent:
    """The effects of one kind as rows of one dot each. Raises `InputError` for a kind that there is not."""
    if kind not in EFFECT_KINDS:
        raise InputError(f"cannot plot the effects of kind {kind!r:.40}: use one of {', '.join(EFFECT_KINDS)}")
    rows = [e for e in report.effects if e.kind == kind]
    points = [(" × ".join(e.axes), Point(e.estimate, e.interval)) for e in rows if e.estimate is not None]
    if not points:
        return Absent(f"No effect of the kind {one_line(kind)} was measured in this run.")
    points.sort(key=lambda item: -item[1].value)
    named = tuple(figure_values.AxisEffects(one_line(label, limit=40), point, None) for label, point in points)
    return figure_values.Effects(f"{one_line(report.metric)} ({kind})", named, (), fine_scale(report, PLAIN))


def one_kind(axes: Axes, data: figure_values.Effects) -> None:
    """The effects of one kind, a dot each with its interval."""
    _rows(axes, len(data.rows), f"cost in {points(data.scale)} of {data.metric}", data.scale)
    axes.axvline(0, color=MUTED, linewidth=1)
    for i, row in enumerate(data.rows):
        if row.introduced:
            _header(axes, i, row.axis, number_of(data.scale, row.introduced))
            _dot(axes, i + 0.05, row.introduced, _tone(row.introduced))


def _rows(axes: Axes, rows: int, label: str, scale: Scale) -> None:
    axes.set_ylim(rows - 0.45, -0.75)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.grid(axis="x")
    axes.set_xlabel(_unit(label, scale) if "cost in" not in label and "loss in" not in label else label)
    ticks(axes.xaxis, scale)


def _header(axes: Axes, row: float, name: str, number: str, *, limit: int = NAME_LIMIT) -> None:
    where = axes.get_yaxis_transform()
    behind = {"facecolor": SURFACE, "edgecolor": "none", "pad": 1}
    axes.text(
        0, row - 0.32, cut(name, limit), transform=where, va="center", ha="left", fontsize=11, fontweight="bold", bbox=behind
    )
    axes.text(1, row - 0.32, number, transform=where, va="center", ha="right", fontsize=10, color=MUTED, bbox=behind)


def _step(axes: Axes, row: int, step: figure_values.Step) -> None:
    colour = HARM if step.named else _tone(step.cost)
    low, high = sorted((step.start, step.end))
    axes.barh(row + 0.1, high - low, left=low, height=0.3, color=colour)
    if step.cost.interval:
        sign = 1 if step.end >= step.start else -1
        ratio = sign if step.cost.value >= 0 else -sign
        ends = [step.start + ratio * end for end in step.cost.interval]
        axes.plot(ends, [row + 0.1] * 2, color=INK, linewidth=1.2, solid_capstyle="butt")


def _connect(axes: Axes, levels: Sequence[float]) -> None:
    for i, level in enumerate(levels):
        axes.plot([level] * 2, [i + 0.1, i + 1.1], color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)


def _dot(axes: Axes, row: float, point: Point, colour: str, *, filled: bool = True) -> None:
    if point.interval:
        axes.plot(point.interval, [row + 0.05] * 2, color=colour, linewidth=1.6, solid_capstyle="round")
    axes.plot(
        [point.value], [row + 0.05], "o", color=colour, markersize=6.5, markeredgewidth=1.5,
        markerfacecolor=colour if filled else SURFACE,
    )  # fmt: skip


def _upright(axes: Axes, x: float, point: Point, colour: str, *, filled: bool) -> None:
    if point.interval:
        axes.plot([x, x], point.interval, color=colour, linewidth=1.2, alpha=0.75)
    axes.plot([x], [point.value], "o", color=colour, markersize=6, markerfacecolor=colour if filled else SURFACE)


def _tone(point: Point) -> str:
    if point.interval is None:  # nothing says that it is not chance
        return QUIET
    low, high = point.interval
    return HARM if low > 0 else HELP if high < 0 else QUIET


def ticks(axis: Axis, scale: Scale) -> None:
    """At most five ticks, written as the scale writes numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _tick(scale, x)))


def _tick(scale: Scale, x: float) -> str:
    return f"{100 * x:g}" if scale.share and abs(100 * x) > 1e-9 else "0" if scale.share else f"{x:g}"


def _unit(metric: str, scale: Scale) -> str:
    unit = "%" if scale.share else scale.unit
    return f"{cut(metric, NAME_LIMIT)} in {unit}" if unit else cut(metric, NAME_LIMIT)


def points(scale: Scale) -> str:
    """The unit of differences."""
    return "points" if scale.share else scale.unit or "units"


def _value_of(scale: Scale, point: Point) -> str:
    return scale.value(point.value) if point.interval is None else number_of(scale, point)
