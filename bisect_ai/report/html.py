"""A report as one self-contained HTML page: nothing loaded, a Content-Security-Policy that allows only its own style and script.

The page is rendered from the report alone. All text is cleaned (no control, no hidden character) and escaped on its way out.
Figures are SVG without inline styles, ids that clash, dates or outside references: colours become classes with the light colour as
presentation attribute, so that a page can dye them for a dark scheme under that policy, and a notebook shows them without a sheet.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar
from xml.etree import ElementTree

from bisect_ai.report import figure_data, figure_values, figures
from bisect_ai.report.card import MOST_TEXT, Card, card_of
from bisect_ai.report.examples import AnswerTable, Pieces, answer_table, compared
from bisect_ai.report.figure_values import Absent, Series
from bisect_ai.report.json_edge import read
from bisect_ai.report.page import arrange
from bisect_ai.report.report_values import AnsweredQuery, Report, ReportLike, is_of_watching
from bisect_ai.report.score_pages import Chart, draw_chart, score_page
from bisect_ai.report.standpoint import HERE, Standpoint, arguments
from bisect_ai.report.untrusted_text import defuse, one_line, show

# -- the card ------------------------------------------------------------------------------------------------------------
_PERCENT = re.compile(r"(?<=\d) (?=%)")
Rows = tuple[tuple[str, tuple[str, ...]], ...]

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

D = TypeVar("D")

CAPTIONS = {
    "waterfall": "What each step costs, from the good release to the bad; thin lines: 95 % intervals. Grey: what others break, mend.",
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
Drawable = Series | tuple[figure_values.Pair, ...] | Absent
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
    if (page := score_page(report)) is not None:
        figure = _chart_picture(page.chart, drawn=pictures is None) if page.chart else None
        return _written("scores.html", page=page, card=card_view(report, at), figure=figure)
    drawn = (pictures or draw_all)(report)
    return _written("page.html", page=arrange(report), card=card_view(report, at), figures=drawn, answers=answers)


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
        found.append(_written("answers.html", page=arrange(report), card=card_view(report, at), answers=table))
    return found


def _chart_picture(chart: Chart, *, drawn: bool) -> Picture:
    """The only figure of a page: drawn, sketched, or why there is none."""
    if isinstance(chart.series, Absent):
        return Picture(chart.caption, (), chart.series.reason)
    text = _alone(draw_chart, chart.name, chart.series, chart.label) if drawn else _sketched(chart.series)
    return Picture(chart.caption, (_trusted(text),), "")


def _written(template: str, *, answers: AnswerTable | None = None, **parts: object) -> str:
    """A page from its template, with our style sheet, our script where it has answers, and the policy that allows just these."""
    style, script = _page_file("page.css"), _page_file("answers.js") if answers else ""
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
    if (page := score_page(report)) is not None:
        return _cell(page, card_view(report, at))
    found = figure_data.waterfall(report)
    waterfall = ""
    if draw and not isinstance(found, Absent):
        ink = _drawn("cell", found, LABELS["waterfall"]).replace(f'"{_INK}"', '"currentColor"')  # light and dark notebooks
        waterfall = f'<div style="max-width:440px;margin:12px 0">{ink}</div>'
    return _cell(arrange(report), card_view(report, at), waterfall)


def _cell(page: object, card: CardView, waterfall: str = "") -> str:
    return defuse(_environment().get_template("cell.html").render(page=page, card=card, waterfall=_trusted(waterfall)))


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
    return _alone(figures.series, name, data, label)


def _alone(draw: Callable[[Axes, D], None], name: str, data: D, label: str) -> str:
    return inline(figures.alone(draw, data), name=name, label=label)


def _sketched(data: object) -> str:
    from markupsafe import escape

    rows = (f"{key}: {value}" for key, value in vars(data).items() if key != "scale")
    text = re.sub(r"-?\d+\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", "\n".join(rows))
    return f"<pre>{escape(text)}</pre>"


def _caption(name: str, data: Drawable) -> str:
    """The caption, with what this run's series adds to it."""
    match data:
        case figure_values.Waterfall(basis=basis):
            return f"{CAPTIONS[name]} Steps: {basis}."
        case figure_values.Effects(missing=missing) if missing:
            return f"{CAPTIONS[name]} Not measured alone: {one_line(', '.join(missing))}."
        case figure_values.CellPoints(left_out=left_out) if left_out:
            return f"{CAPTIONS[name]} {left_out} more are in the table."
    return CAPTIONS[name]


def _label(name: str, data: Series) -> str:
    label = LABELS[name]
    return f"{label}: {data.first} and {data.second}" if isinstance(data, figure_values.Pair) else label


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
def _page_file(name: str) -> str:
    from importlib.resources import files

    return files("bisect_ai.report").joinpath("pages", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


# Colour to the name of its class: `f-harm` fills, `s-harm` strokes.
CLASSES = {
    figures.INK: "ink",
    figures.MUTED: "muted",
    figures.GRID: "grid",
    figures.HARM: "harm",
    figures.HELP: "help",
    figures.QUIET: "quiet",
    figures.SURFACE: "surface",
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_PRESENTATION = {
    "clip-path", "fill", "fill-opacity", "font-size", "font-weight", "opacity", "stroke", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-opacity", "stroke-width", "text-anchor",
}  # fmt: skip
_WEIGHTS = {"bold": "700", "700": "700"}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_DIGITS = re.compile(r"-?\d+\.\d{3,}")  # two decimals of a coordinate are enough, and make the page half as large


def inline(figure: Figure, *, name: str, label: str) -> str:
    """The figure as an `<svg>` element; `name` sets its ids apart from other figures', `label` is read to who can't see it."""
    root = ElementTree.fromstring(_svg_text(figure))  # noqa: S314  # our own figure; its texts were escaped on the way
    inner = ElementTree.Element("svg", _frame(root.attrib["viewBox"], label))
    inner.extend(_clean(child, name) for child in root if child.tag not in (f"{_SVG}metadata", f"{_SVG}defs"))
    defs = [_clean(child, name) for child in root.iter(f"{_SVG}defs")]
    inner.extend(d for d in defs if len(d))
    return _DIGITS.sub(lambda found: f"{float(found[0]):.2f}", ElementTree.tostring(inner, encoding="unicode"))


def _svg_text(figure: Figure) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    with matplotlib.rc_context(figures.STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the page's font draws the text, not matplotlib's
        FigureCanvasSVG(figure).print_svg(text, metadata=_NO_METADATA)  # type: ignore[no-untyped-call]  # matplotlib has no types here
    return text.getvalue()


def _frame(view_box: str, label: str) -> dict[str, str]:
    return {"viewBox": view_box, "class": "figure", "role": "img", "aria-label": one_line(label)}


def _clean(element: ElementTree.Element, name: str) -> ElementTree.Element:
    """A copy without namespaces, styles or foreign ids."""
    copy = ElementTree.Element(element.tag.removeprefix(_SVG), dict(_attributes(element, name)))
    copy.text, copy.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    children = (_clean(child, name) for child in element if child.tag not in (f"{_SVG}style", f"{_SVG}defs"))
    copy.extend(child for child in children if child.tag != "g" or len(child))
    return copy


def _attributes(element: ElementTree.Element, name: str) -> Iterator[tuple[str, str]]:
    given = {key: value for key, value in element.attrib.items() if key != "style"}
    given |= dict(_declarations(element.attrib.get("style", "")))
    classes = []
    for key, value in given.items():
        if key == "id":
            if element.tag not in (f"{_SVG}g", f"{_SVG}text"):  # groups are called patch_1 and the like: nobody refers to them
                yield key, f"{name}-{value}"
        elif key == _LINK:
            yield "href", f"#{name}-{value.removeprefix('#')}"
        elif key == "clip-path":
            yield key, value.replace("url(#", f"url(#{name}-")
        else:
            yield key, value
            if key in ("fill", "stroke") and value in CLASSES:
                classes.append(f"{key[0]}-{CLASSES[value]}")
    if element.tag == f"{_SVG}text" and "fill" not in given:
        classes.append("f-ink")
    if classes:
        yield "class", " ".join(classes)


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # "bold 11px 'DejaVu Sans', …": the page chooses the family
            size = re.search(r"([\d.]+)px", value)
            if size:
                yield "font-size", size[1]
            yield from (("font-weight", weight) for word, weight in _WEIGHTS.items() if word in value.split()[:2])
        elif key in _PRESENTATION:
            yield key, _WEIGHTS.get(value, value) if key == "font-weight" else value.removesuffix("px")


@dataclass(frozen=True)
class GuiltyDiff:
    """Where a change is, and both texts in pieces."""

    place: str
    before: Pieces
    after: Pieces


@dataclass(frozen=True)
class CardView:
    """A card ready for a template: `rows` stand before the guilty texts, `after` behind the command."""

    headline: str
    rows: Rows
    guilty: tuple[GuiltyDiff, ...]
    where: tuple[str, ...]
    # Its arguments, quoted: the page breaks no line inside one that fits.
    command: tuple[str, ...]
    todo: tuple[str, ...]
    after: Rows


def card_view(report: Report, at: Standpoint) -> CardView:
    """The card of a report, typed `at` that place."""
    card = card_of(report, at=at)
    return CardView(
        headline=_unbroken(card.headline),
        rows=_titled(card, "Sure", "Loss"),
        guilty=tuple(GuiltyDiff(each.place, *compared(each.before, each.after, limit=MOST_TEXT)) for each in card.guilty),
        where=tuple(map(_unbroken, card.told("Where"))),
        command=tuple(arguments(card.command)),
        todo=tuple(map(_unbroken, card.told("Do now"))),
        after=_titled(card, "Who", "Innocent", "Beware", "Cost", "More"),
    )


def _titled(card: Card, *titles: str) -> Rows:
    return tuple((title, tuple(map(_unbroken, lines))) for title, lines in card.rows if title in titles)


def _unbroken(text: str) -> str:
    """A number and its per cent sign on one line."""
    return _PERCENT.sub("\u00a0", text)
