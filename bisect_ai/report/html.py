"""A report as one self-contained HTML page: nothing loaded, a Content-Security-Policy that allows only its own style and script.

The page is rendered from the report alone. All text is cleaned (no control, no hidden character) and escaped on its way out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from bisect_ai.report import figure_data
from bisect_ai.report.examples import AnswerTable, answer_table
from bisect_ai.report.figure_data import Absent, Series
from bisect_ai.report.json_edge import read
from bisect_ai.report.page import arrange
from bisect_ai.report.report_values import AnsweredQuery, Report, ReportLike, is_of_watching
from bisect_ai.report.score_pages import Chart, draw_chart, score_page
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import defuse, one_line, show

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.axes import Axes

D = TypeVar("D")

CAPTIONS = {
    "waterfall": "What each step costs, from the good release to the bad; thin lines: 95 % intervals. Grey: answers that only move.",
    "effects": "An axis that costs nothing alone in either direction can still be half of a pair.",
    "interactions": "Lines that are not parallel: the two changes act together. All other axes are good here; 95 % intervals.",
    "cells": "Each row is one combination: filled dots come from the bad release; value with 95 % interval.",
    "half_normal": "Effects of nothing lie on the dashed line; those right of the grey line stand out (by Lenth's margin of error).",
    "segments": "The loss inside each segment with its 95 % interval; the dashed line is the loss over all queries.",
}

_INK = "#1c2127"
LABELS = {
    "waterfall": "Waterfall from good to bad",
    "effects": "Changed alone and taken back alone, by axis",
    "interactions": "Interaction of two axes",
    "cells": "Value of each combination",
    "half_normal": "Half-normal plot of all effects",
    "segments": "Loss by segment",
}
Drawable = Series | tuple[figure_data.Pair, ...] | Absent
SERIES: dict[str, Callable[[Report], Drawable]] = {
    "waterfall": figure_data.waterfall,
    "effects": figure_data.effects,
    "interactions": figure_data.interactions,
    "cells": figure_data.cells,
    "half_normal": figure_data.half_normal,
    "segments": figure_data.segments,
}


@dataclass(frozen=True)
class Picture:
    """A figure's SVGs with its caption, or the sentence that stands in its place."""

    caption: str
    svgs: tuple[str, ...]
    absent: str


def render(
    report: ReportLike,
    *,
    pictures: Callable[[Report], dict[str, Picture]] | None = None,
    at: Standpoint = HERE,
    answers: AnswerTable | None = None,
) -> str:
    """The report as an HTML document. `pictures` draws the figures (else `draw_all`); `at`: where its commands will be typed.

    `answers`: the table of every replayed query; only a page with one has a script, which filters and sorts it.
    """
    report = read(Report, report)
    if (page := score_page(report, at)) is not None:
        figure = _chart_picture(page.chart, drawn=pictures is None) if page.chart else None
        return _written("scores.html", page=page, figure=figure)
    drawn = (pictures or draw_all)(report)
    return _written("page.html", page=arrange(report, at), figures=drawn, answers=answers)


def pages(report: ReportLike, answered: Sequence[AnsweredQuery], *, at: Standpoint = HERE) -> list[str]:
    """The page with the answers of every replayed query, and pages of the answers that would make it too heavy."""
    report = read(Report, report)
    if not answered or is_of_watching(report):
        return [render(report, at=at)]
    table = answer_table(report, answered)
    found, done = [render(report, at=at, answers=table)], len(table.lines)
    while table.left:
        table = answer_table(report, answered, start=done)
        done += len(table.lines)
        found.append(_written("answers.html", page=arrange(report, at), answers=table))
    return found


def _chart_picture(chart: Chart, *, drawn: bool) -> Picture:
    """The only figure of a page: drawn, sketched, or why there is none."""
    if isinstance(chart.series, Absent):
        return Picture(chart.caption, (), chart.series.reason)
    text = _alone(draw_chart, chart.name, chart.series, chart.label) if drawn else _sketched(chart.series)
    return Picture(chart.caption, (_trusted(text),), "")


def _written(template: str, *, answers: AnswerTable | None = None, **parts: object) -> str:
    """A page from its template, with our style sheet, our script where it has answers, and the policy that allows just these."""
    style, script = _style(), _script() if answers else ""
    allowed = f"; script-src '{_hash(script)}'" if script else ""
    text = (
        _environment()
        .get_template(template)
        .render(
            style=_trusted(style),
            style_hash=_trusted(_hash(style)),
            script=_trusted(script),
            script_policy=_trusted(allowed),
            answers=answers,
            **parts,
        )
    )
    return defuse(text) + "\n"


def render_cell(report: ReportLike, *, draw: bool = True, at: Standpoint = HERE) -> str:
    """What a notebook shows, the card first: static HTML without script, link or image; with `draw` the waterfall as SVG."""
    report = read(Report, report)
    if (page := score_page(report, at)) is not None:
        return _cell(page)
    found = figure_data.waterfall(report)
    waterfall = ""
    if draw and not isinstance(found, Absent):
        ink = _drawn("cell", found, LABELS["waterfall"]).replace(f'"{_INK}"', '"currentColor"')  # light and dark notebooks
        waterfall = f'<div style="max-width:440px;margin:12px 0">{ink}</div>'
    return _cell(arrange(report, at), waterfall)


def _cell(page: object, waterfall: str = "") -> str:
    return defuse(_environment().get_template("cell.html").render(page=page, waterfall=_trusted(waterfall)))


def draw_all(report: Report) -> dict[str, Picture]:
    """Every figure of the page, drawn; one without data says why."""
    return _pictures(report, _drawn)


def sketch_all(report: Report) -> dict[str, Picture]:
    """Every figure of the page as its series in plain text: what would be drawn, without drawing it."""
    return _pictures(report, lambda _, data, __: _sketched(data))


def _pictures(report: Report, draw: Callable[[str, Series, str], str]) -> dict[str, Picture]:
    return {name: _picture(name, data(report), draw) for name, data in SERIES.items()}


def _picture(name: str, data: Drawable, draw: Callable[[str, Series, str], str]) -> Picture:
    if isinstance(data, Absent):
        return Picture(CAPTIONS[name], (), data.reason)
    many: Sequence[Series] = data if isinstance(data, tuple) else (data,)
    drawn = tuple(_trusted(draw(f"{name}{i}", one, _label(name, one))) for i, one in enumerate(many))
    return Picture(_caption(name, data), drawn, "")


def _drawn(name: str, data: Series, label: str) -> str:
    from bisect_ai.report import figures

    return _alone(figures.series, name, data, label)


def _alone(draw: Callable[[Axes, D], None], name: str, data: D, label: str) -> str:
    from bisect_ai.report import figures, svg

    return svg.inline(figures.alone(draw, data), name=name, label=label)


def _sketched(data: object) -> str:
    from markupsafe import escape

    rows = (f"{key}: {value}" for key, value in vars(data).items() if key != "scale")
    text = re.sub(r"-?\d+\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", "\n".join(rows))
    return f"<pre>{escape(text)}</pre>"


def _caption(name: str, data: Drawable) -> str:
    """The caption, with what this run's series adds to it."""
    match data:
        case figure_data.Waterfall(basis=basis):
            return f"{CAPTIONS[name]} Steps: {basis}."
        case figure_data.Effects(missing=missing) if missing:
            return f"{CAPTIONS[name]} Not measured alone: {one_line(', '.join(missing))}."
        case figure_data.CellPoints(left_out=left_out) if left_out:
            return f"{CAPTIONS[name]} {left_out} more are in the table."
    return CAPTIONS[name]


def _label(name: str, data: Series) -> str:
    label = LABELS[name]
    return f"{label}: {data.first} and {data.second}" if isinstance(data, figure_data.Pair) else label


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bisect_ai", "report/pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    environment.filters["bracketed"] = lambda text: str(text).partition(" [")[0:1] + _ends(str(text))
    return environment


def _ends(text: str) -> tuple[str, str]:
    _, bracket, rest = text.partition(" [")
    return bracket, f"[{rest}" if bracket else ""


def _safe(value: object) -> object:
    """What is about to be written: our own markup as it is, anything else cleaned (and then escaped by jinja2)."""
    return value if hasattr(value, "__html__") else show(value)


def _trusted(markup: str) -> Markup:
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704  # our own style sheet, its hash, and figures whose texts are escaped


@cache
def _style() -> str:
    from importlib.resources import files

    return files("bisect_ai.report").joinpath("pages", "page.css").read_text(encoding="utf-8")


@cache
def _script() -> str:
    from importlib.resources import files

    return files("bisect_ai.report").joinpath("pages", "answers.js").read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
