"""Churn in sentences: what axes that are not named break and mend all the same, and what they do to the side metrics.

A change shuffles which queries fail without a net cost. That is no cause, but who reads a diff of answers sees it, so it is told
for itself: gross breaks and mends beside the net effect with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bisect_ai.report.measured_values import ReportedEffect, SideEffect, SideMetric
from bisect_ai.report.phrases import Scale, scale_for, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.untrusted_text import PLAIN, Quoting

# Breaks or mends worth a line where the report has no tolerance: one answer in a hundred of a share.
WORTH = 0.01
# From here on whole per cent say enough.
COARSE = 0.03
TENTH = 0.1
MOST_SIDE_LINES = 8
# Adjusted p-value below which an axis's part of a side metric's change is told in a sentence.
FALSE_ALARM = 0.05


@dataclass(frozen=True)
class NetChurn:
    """What an axis breaks and mends, and its net cost with both ends of the interval: all of it known."""

    axis: str
    breaks: float
    mends: float
    cost: float
    low: float
    high: float


def churn_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for every axis that is not named, breaks or mends enough to tell, and is not shown to cost anything."""
    return [_sentence(churn, report, quoting) for churn in churn_of(report)]


def churn_of(report: Report) -> list[NetChurn]:
    """The axes that are not named, break or mend enough to tell, and are not shown to cost anything."""
    named = {axis for cause in report.verdict.causes for axis in cause.axes}
    rows = [e for e in report.effects if e.kind == "net" and e.axes[0] not in named]
    known = [churn for row in rows if (churn := _churn_of(row)) is not None]
    return [churn for churn in known if _is_worth_telling(churn, report)]


def _churn_of(row: ReportedEffect) -> NetChurn | None:
    if row.breaks is None or row.mends is None or row.interval is None or row.estimate is None:
        return None
    return NetChurn(row.axes[0], row.breaks, row.mends, row.estimate, *row.interval)


def _is_worth_telling(churn: NetChurn, report: Report) -> bool:
    most = max(churn.breaks, churn.mends)
    return churn.low <= 0 and most >= (report.tolerance or WORTH) / 2 and most > 0


def _sentence(churn: NetChurn, report: Report, quoting: Quoting) -> str:
    """Such as "model shuffles answers: breaks 5 %, mends 5 %, costs nothing (-2 to 2)"."""
    scale = scale_of(report, quoting=quoting)
    if scale.share and max(churn.breaks, churn.mends) >= COARSE:
        scale = replace(scale, decimals=0)
    gross = f"breaks {scale.value(churn.breaks)}, mends {scale.value(churn.mends)}"
    return f"{quoting.name(churn.axis)} shuffles answers: {gross}, {_net(churn, scale, report.tolerance or WORTH)}"


def _net(churn: NetChurn, scale: Scale, tolerance: float) -> str:
    low, high = churn.low, churn.high
    if high < 0:
        return f"gains {scale.difference(-churn.cost)} ({scale.number(-high)} to {scale.number(-low)})"
    ends = f"({scale.number(low)} to {scale.number(high)})"
    return f"costs nothing {ends}" if high <= tolerance else f"no cost is shown {ends}"


def side_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for each side metric that an axis moves beyond doubt: "corpus: refusal +21 points, 95 % interval 15 to 27"."""
    told = [
        (metric, effect)
        for metric in report.side_metrics
        for effect in metric.effects
        if effect.p_adjusted is not None and effect.p_adjusted < FALSE_ALARM and _is_plain(metric, effect)
    ]
    axes = list(report.axes)
    told.sort(key=lambda pair: axes.index(pair[1].axis) if pair[1].axis in axes else len(axes))
    return [_side_sentence(metric, effect, quoting) for metric, effect in told[:MOST_SIDE_LINES]]


def _is_plain(metric: SideMetric, effect: SideEffect) -> bool:
    """Whether a proved move is large enough for a sentence: a point of a share, a tenth of any other value."""
    size, before = abs(effect.estimate or 0.0), effect.good
    if scale_for(metric.unit, (metric.good, metric.bad)).share:
        return bool(size >= WORTH)
    return bool(size > 0 and (before is None or size >= TENTH * abs(before)))


def _side_sentence(metric: SideMetric, effect: SideEffect, quoting: Quoting) -> str:
    scale = scale_for(metric.unit, (metric.good, metric.bad), quoting=quoting)
    change = effect.estimate or 0.0
    moved = (
        f"{'+' if change > 0 else '-'}{scale.difference(abs(change))}{_times(effect, scale)}, {scale.between(effect.interval)}"
    )
    return f"{quoting.name(effect.axis)}: {quoting.name(metric.name)} {moved}"


def _times(effect: SideEffect, scale: Scale) -> str:
    """By how much the axis multiplies a metric that is no share: " (x 3.0)"."""
    good, bad = effect.good, effect.bad
    if scale.share or not good or not bad or good < 0 or bad < 0:
        return ""
    return f" (x {bad / good:.2g})" if bad / good < 0.95 or bad / good > 1.05 else ""
