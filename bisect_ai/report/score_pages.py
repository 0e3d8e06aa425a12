"""What the HTML pages of a canary, a comparison, a drift and an onset say, and the figures of the first two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bisect_ai.report import canary_report, comparison, figures, tables, watch_report
from bisect_ai.report.blocks import Fact, PageList, ReportPart, Scale, Table, count
from bisect_ai.report.comparison import compared, leading
from bisect_ai.report.examples import Example, example_of
from bisect_ai.report.figure_values import Absent, Point, point_of
from bisect_ai.report.report_values import Report, fine_scale, is_of_watching, scale_of, tone_of
from bisect_ai.report.untrusted_text import PLAIN, one_line
from bisect_ai.report.verdict_sentence import verdict_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOKS = (
    "The loss over all answers so far with its always-valid interval, as answers came in. Once the whole band lies above the dashed "
    "line, the canary is rolled back; once it lies below the solid line, the tolerance, it is promoted."
)
_LOSSES = (
    "The loss of each configuration beside the first one, and of the leading one's segments, with 95 % intervals. The band is the "
    "tolerance: an interval inside it is equivalence, one right of zero a loss, one left of zero a gain."
)
MOST_SEGMENTS = 8  # rows of the figure; the table has all


@dataclass(frozen=True)
class Tightening:
    """The looks: answers, loss, both ends; the tolerance; how values are written."""

    answers: tuple[int, ...]
    loss: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    tolerance: float
    metric: str
    scale: Scale
    height: int = 260


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
class Chart:
    """The figure of a page: what its section is called, and its series or why there is none."""

    name: str
    title: str
    label: str
    caption: str
    series: Tightening | Forest | Absent


@dataclass(frozen=True)
class ScorePage:
    """Everything on the page in the order that it is read."""

    title: str
    run: str
    releases: tuple[str, str]
    roles: tuple[str, str]
    kind: str
    tone: str
    sentence: str
    lists: tuple[PageList, ...]
    facts: tuple[Fact, ...] = ()
    chart: Chart | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


def score_page(report: Report) -> ScorePage | None:
    """The page of a report without combinations, below its card; None: the report has combinations."""
    names = (one_line(report.good), one_line(report.bad))
    if report.canary:
        chart = Chart(
            "looks", "How the interval tightened", "Loss with its interval, by number of answers", _LOOKS, tightening(report)
        )
        page = _page(report, canary_report.parts(report), names, ("baseline", "canary"))
        return replace(page, facts=tuple(_canary_facts(report)), chart=chart)
    if is_of_watching(report):
        return _page(report, watch_report.parts(report), (names[0] or "the log",) * 2, ("then", "now"))
    if report.compare:
        chart = Chart(
            "losses", "Loss with its interval", "Losses with their intervals beside the tolerance", _LOSSES, forest(report)
        )
        page = _page(report, comparison.parts(report), names, ("good", "bad"))
        examples = tuple(example_of(each, "bad") for each in report.examples)
        return replace(page, facts=tuple(_comparison_facts(report)), chart=chart, examples=examples)
    return None


def _page(report: Report, parts: Sequence[ReportPart], names: tuple[str, str], roles: tuple[str, str]) -> ScorePage:
    """What all pages have; the looks are drawn, so they have no table here."""
    kind = one_line(report.verdict.kind).replace("_", " ").capitalize()
    return ScorePage(
        title=f"{kind}: {one_line(report.metric)}, {' → '.join(dict.fromkeys(names))}",
        run=one_line(report.run),
        releases=names,
        roles=roles,
        kind=kind,
        tone=tone_of(report),
        sentence=verdict_sentence(report),
        lists=tuple(PageList(part.title, part.lines) for part in parts if part.lines),
        tables={part.title: part.build(report) for part in parts if part.build and part.build is not canary_report.looks_table},
    )


def draw_chart(axes: Axes, data: Tightening | Forest) -> None:
    """Draw a page's figure."""
    if isinstance(data, Tightening):
        _draw_looks(axes, data)
    else:
        figures.forest(axes, data.rows, data.tolerance, f"loss in {figures.points(data.scale)} of {data.metric}", data.scale)


# -- canary --------------------------------------------------------------------------------------------------------------
def _canary_facts(report: Report) -> Iterator[Fact]:
    loss, scale, answers = report.loss, fine_scale(report, PLAIN), canary_report.block_of(report).answers
    yield tables.loss_fact(loss, scale, tone_of(report))
    metric = one_line(report.metric, limit=40)
    for which, value, told in (("baseline", loss.good, answers.baseline), ("canary", loss.bad, answers.canary)):
        yield Fact(
            f"{metric}, {which}",
            scale.value(value),
            f"{count(told.answers - told.unscored)} of {count(told.answers, 'answer')} scored",
        )


def tightening(report: Report) -> Tightening | Absent:
    """The series of the figure."""
    block = canary_report.block_of(report)
    looks = [(k.answers, k.loss, *k.interval) for k in block.looks if k.interval and k.loss is not None]
    if len(looks) < 2:
        return Absent("There are too few answers side by side to draw how the interval tightens.")
    answers, loss, low, high = zip(*looks, strict=True)
    return Tightening(answers, loss, low, high, block.tolerance, one_line(report.metric, limit=30), scale_of(report))


def _draw_looks(axes: Axes, data: Tightening) -> None:
    """The loss as a line with its interval as a band, over the answers on a logarithmic scale."""
    axes.fill_between(data.answers, data.low, data.high, color=figures.QUIET, alpha=0.3, linewidth=0)
    axes.plot(data.answers, data.loss, color=figures.INK, linewidth=1.8)
    axes.axhline(0, color=figures.MUTED, linewidth=1, linestyle="--")
    axes.axhline(data.tolerance, color=figures.HARM, linewidth=1)
    axes.set_xscale("log")
    half = max(len(data.loss) // 2, 1)
    reach = max(*(abs(x) for x in (*data.low[half:], *data.high[half:])), 2 * data.tolerance)
    axes.set_ylim(-reach, reach)
    axes.set_xlabel("answers")
    axes.set_ylabel(f"loss in {figures.points(data.scale)} of {data.metric}")
    axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter(lambda x, _: count(x))
    figures.ticks(axes.yaxis, data.scale)
    axes.grid(axis="y")


# -- comparison ----------------------------------------------------------------------------------------------------------
def _comparison_facts(report: Report) -> Iterator[Fact]:
    loss, scale, pair = report.loss, scale_of(report), leading(report)
    yield tables.loss_fact(loss, scale, tone_of(report))
    metric = one_line(report.metric, limit=40)
    for side, value in (("good", loss.good), ("bad", loss.bad)):
        yield Fact(f"{metric}, {side}", scale.value(value), count(loss.n, "paired query", "paired queries"))
    yield Fact("Score lower", count(pair.lost), f"{count(pair.gained)} higher")
    if pair.sees is not None and not (scale.share and pair.sees >= 1):
        yield Fact("Can see", scale.difference(pair.sees), f"tolerance {scale.difference(report.tolerance)}")


def forest(report: Report) -> Forest | Absent:
    """The series of the figure."""
    block = compared(report)
    rows = [(one_line(pair.bad), point_of(pair.loss.estimate, pair.loss.interval)) for pair in block.pairs]
    told = tables.segments_told(report)[:MOST_SEGMENTS]
    rows += [(one_line(tables.segment_name(row)), point_of(row.loss, row.interval)) for row in told]
    known = tuple((name, point) for name, point in rows if point is not None)
    if not known:
        return Absent("Fewer than two queries have a score on both sides, so no loss can be drawn.")
    return Forest(one_line(report.metric, limit=30), known, block.tolerance, scale_of(report))
