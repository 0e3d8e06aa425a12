"""A matplotlib figure as SVG to put inside a page: no inline styles, no ids that clash, no date, no outside reference.

Colours become classes with the light colour as presentation attribute, so that a page can dye them for a dark scheme under a
Content-Security-Policy that allows no inline style, and a notebook shows them without any style sheet.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bisect_ai.report import figures
from bisect_ai.report.untrusted_text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
_DIGITS = re.compile(r"-?\d+\.\d{3,}")


def inline(figure: Figure, *, name: str, label: str) -> str:
    """The figure as an `<svg>` element; `name` sets its ids apart from other figures', `label` is read to who can't see it."""
    root = ElementTree.fromstring(_written(figure))  # noqa: S314  # our own figure; its texts were escaped on the way
    inner = ElementTree.Element("svg", _frame(root.attrib["viewBox"], label))
    inner.extend(_clean(child, name) for child in root if child.tag not in (f"{_SVG}metadata", f"{_SVG}defs"))
    defs = [_clean(child, name) for child in root.iter(f"{_SVG}defs")]
    inner.extend(d for d in defs if len(d))
    return _DIGITS.sub(lambda found: f"{float(found[0]):.2f}", ElementTree.tostring(inner, encoding="unicode"))


def _written(figure: Figure) -> str:
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
