"""What the HTML pages of a canary, a drift and an onset say, and the figure of how a canary's interval tightened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisect_ai.report import canary_report, figures
from bisect_ai.report.figure_data import Absent
from bisect_ai.report.page_parts import CanaryPage, Fact, PageList, card_view, negated
from bisect_ai.report.phrases import UNKNOWN, Scale, count, fine_scale, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import PLAIN, one_line
from bisect_ai.report.verdict_sentence import verdict_sentence
from bisect_ai.report.watch_report import parts, watch_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes


CAPTION = (
    "The loss over all answers so far with its always-valid interval, as answers came in. Once the whole band lies above the dashed "
    "line, the canary is rolled back; once it lies below the solid line, the tolerance, it is promoted."
)
LABEL = "Loss with its interval, by number of answers"


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


def tightening(report: Report) -> Tightening | Absent:
    """The series of the figure."""
    block = canary_report.block_of(report)
    looks = [(k.answers, k.loss, *k.interval) for k in block.looks if k.interval and k.loss is not None]
    if len(looks) < 2:
        return Absent("There are too few answers side by side to draw how the interval tightens.")
    answers, loss, low, high = zip(*looks, strict=True)
    return Tightening(answers, loss, low, high, block.tolerance, one_line(report.metric, limit=30), scale_of(report))


def draw(axes: Axes, data: Tightening) -> None:
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


def arrange(report: Report, at: Standpoint = HERE) -> CanaryPage:
    """The page of a canary\'s report; commands on it are typed `at` that place."""
    kind = report.verdict.kind
    names = (one_line(report.good), one_line(report.bad))
    parts = canary_report.parts(report)
    said = kind.replace("_", " ").capitalize()
    return CanaryPage(
        title=f"{said}: {one_line(report.metric)}, {names[0]} → {names[1]}",
        run=one_line(report.run),
        releases=names,
        kind=said,
        tone=canary_report.KINDS[kind],
        card=card_view(report, at),
        sentence=verdict_sentence(report),
        facts=tuple(_facts(report)),
        tables={part.title: part.build(report) for part in parts if part.build and part.build is not canary_report.looks_table},
        lists=tuple(PageList(part.title, part.lines) for part in parts if part.lines),
    )


def _facts(report: Report) -> Iterator[Fact]:
    loss, scale, answers = report.loss, fine_scale(report, PLAIN), canary_report.block_of(report).answers
    size = loss.estimate
    label, ends = ("Gain", negated(loss.interval)) if size is not None and size < 0 else ("Loss", loss.interval)
    moved = UNKNOWN if size is None else scale.difference(abs(size))
    yield Fact(label, moved, "" if ends is None else scale.between(ends), canary_report.KINDS[report.verdict.kind])
    metric = one_line(report.metric, limit=40)
    for which, value, told in (("baseline", loss.good, answers.baseline), ("canary", loss.bad, answers.canary)):
        yield Fact(
            f"{metric}, {which}",
            scale.value(value),
            f"{count(told.answers - told.unscored)} of {count(told.answers, 'answer')} scored",
        )


# -- drift and onset -----------------------------------------------------------------------------------------------------
TONES = {"drift": "harm", "onset": "harm", "steady": "help", "inconclusive": "warn"}


def arrange_watching(report: Report, at: Standpoint = HERE) -> CanaryPage:
    """The page of a report of watching; commands on it are typed `at` that place."""
    kind = report.verdict.kind
    name = one_line(report.good) or "the log"
    return CanaryPage(
        title=f"{kind.capitalize()}: {one_line(report.metric)}, {name}",
        run=one_line(report.run),
        releases=(name, name),
        kind=kind.capitalize(),
        tone=TONES[kind],
        card=card_view(report, at),
        sentence=watch_sentence(report),
        facts=(),
        tables={},
        lists=tuple(PageList(part.title, part.lines) for part in parts(report)),
        roles=("then", "now"),
    )
