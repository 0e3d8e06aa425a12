"""What the HTML page of a comparison says, arranged from the report alone, and the figure of its losses beside the tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisect_ai.report import comparison, figures, tables
from bisect_ai.report.comparison import WORDS, compared, leading
from bisect_ai.report.examples import Example, example_of
from bisect_ai.report.figure_data import Absent, Point
from bisect_ai.report.json_edge import Interval
from bisect_ai.report.page_parts import CanaryPage, Fact, PageList, card_view, negated
from bisect_ai.report.phrases import UNKNOWN, Scale, count, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.report.verdict_sentence import verdict_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = (
    "The loss of each configuration beside the first one, and of the leading one's segments, with 95 % intervals. The band is the "
    "tolerance: an interval inside it is equivalence, one right of zero a loss, one left of zero a gain."
)
LABEL = "Losses with their intervals beside the tolerance"
MOST_SEGMENTS = 8


@dataclass(frozen=True)
class Forest:
    """Losses by name with their intervals, and the tolerance around zero; in the metric's units."""

    metric: str
    rows: tuple[tuple[str, Point], ...]
    tolerance: float
    scale: Scale

    @property
    def height(self) -> int:
        """The height that the rows need."""
        return figures.ROW * len(self.rows) + figures.MARGINS


@dataclass(frozen=True)
class ComparisonPage(CanaryPage):
    """Everything on the page in the order that it is read."""

    examples: tuple[Example, ...] = ()


def forest(report: Report) -> Forest | Absent:
    """The series of the figure."""
    block = compared(report)
    rows = [(one_line(pair.bad), _point(pair.loss.estimate, pair.loss.interval)) for pair in block.pairs]
    told = tables.segments_told(report)[:MOST_SEGMENTS]
    rows += [(one_line(tables.segment_name(row)), _point(row.loss, row.interval)) for row in told]
    known = tuple((name, point) for name, point in rows if point is not None)
    if not known:
        return Absent("Fewer than two queries have a score on both sides, so no loss can be drawn.")
    return Forest(one_line(report.metric, limit=30), known, block.tolerance, scale_of(report))


def _point(value: float | None, interval: Interval) -> Point | None:
    return None if value is None else Point(value, None if interval is None else (interval[0], interval[1]))


def draw(axes: Axes, data: Forest) -> None:
    """A dot with its interval for each loss; the tolerance as a band around zero."""
    figures.forest(axes, data.rows, data.tolerance, f"loss in {figures.points(data.scale)} of {data.metric}", data.scale)


def arrange(report: Report, at: Standpoint = HERE) -> ComparisonPage:
    """The page of a comparison\'s report; commands on it are typed `at` that place."""
    kind = str(report.verdict.kind)
    names = (one_line(report.good), one_line(report.bad))
    parts = comparison.parts(report)
    said = WORDS[kind].capitalize()
    return ComparisonPage(
        title=f"{said}: {one_line(report.metric)}, {names[0]} → {names[1]}",
        run=one_line(report.run),
        releases=names,
        kind=said,
        tone=comparison.KINDS[kind],
        card=card_view(report, at),
        sentence=verdict_sentence(report),
        facts=tuple(_facts(report)),
        tables={part.title: part.build(report) for part in parts if part.build},
        lists=tuple(PageList(part.title, part.lines) for part in parts if part.lines),
        roles=("good", "bad"),
        examples=tuple(example_of(each, "bad") for each in report.examples),
    )


def _facts(report: Report) -> Iterator[Fact]:
    loss, scale, pair = report.loss, scale_of(report), leading(report)
    size = loss.estimate
    label, ends = ("Loss", loss.interval)
    if size is not None and size < 0:
        label, ends = "Gain", negated(ends)
    value = UNKNOWN if size is None else scale.difference(abs(size))
    yield Fact(label, value, "" if ends is None else scale.between(ends), comparison.KINDS[report.verdict.kind])
    metric = one_line(report.metric, limit=40)
    for side, words in (("good", "good"), ("bad", "bad")):
        yield Fact(f"{metric}, {words}", scale.value(getattr(loss, side)), f"{count(loss.n, 'paired query', 'paired queries')}")
    yield Fact("Score lower", count(pair.lost), f"{count(pair.gained)} higher")
    if pair.sees is not None and not (scale.share and pair.sees >= 1):
        yield Fact("Can see", scale.difference(pair.sees), f"tolerance {scale.difference(report.tolerance)}")
