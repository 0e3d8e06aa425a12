"""Churn in sentences: what axes that are not named break and mend all the same, and what they do to the side metrics.

A change shuffles which queries fail without a net cost. That is no cause, but who reads a diff of answers sees it, so it is told
for itself: gross breaks and mends beside the net effect with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bisect_ai.report.phrases import Report, Scale, scale_for, scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting

WORTH = 0.01
"""Breaks or mends worth a line where the report has no tolerance: one answer in a hundred of a share."""
COARSE = 0.03
"""From here on whole per cent say enough."""
TENTH = 0.1
MOST_SIDE_LINES = 8
FALSE_ALARM = 0.05
"""Adjusted p-value below which an axis's part of a side metric's change is told in a sentence."""


def churn_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for every axis that is not named, breaks or mends enough to tell, and is not shown to cost anything."""
    named = {axis for cause in report["verdict"].get("causes") or () for axis in cause["axes"]}
    rows = [e for e in report.get("effects") or () if e["kind"] == "net" and e["axes"][0] not in named]
    return [_sentence(row, report, quoting) for row in rows if _is_worth_telling(row, report)]


def _is_worth_telling(row: Mapping[str, Any], report: Report) -> bool:
    breaks, mends, interval = row.get("breaks"), row.get("mends"), row.get("interval")
    if breaks is None or mends is None or interval is None or row.get("estimate") is None or interval[0] > 0:
        return False
    return bool(max(breaks, mends) >= (report.get("tolerance") or WORTH) / 2 and max(breaks, mends) > 0)


def _sentence(row: Mapping[str, Any], report: Report, quoting: Quoting) -> str:
    """Such as "model shuffles answers: breaks 5 %, mends 5 %, costs nothing (-2 to 2)"."""
    scale = scale_of(report, quoting=quoting)
    if scale.share and max(row["breaks"], row["mends"]) >= COARSE:
        scale = replace(scale, decimals=0)
    gross = f"breaks {scale.value(row['breaks'])}, mends {scale.value(row['mends'])}"
    return f"{quoting.name(row['axes'][0])} shuffles answers: {gross}, {_net(row, scale, report.get('tolerance') or WORTH)}"


def _net(row: Mapping[str, Any], scale: Scale, tolerance: float) -> str:
    low, high = row["interval"]
    if high < 0:
        return f"gains {scale.difference(-row['estimate'])} ({scale.number(-high)} to {scale.number(-low)})"
    ends = f"({scale.number(low)} to {scale.number(high)})"
    return f"costs nothing {ends}" if high <= tolerance else f"no cost is shown {ends}"


def side_lines(report: Report, *, quoting: Quoting = PLAIN) -> list[str]:
    """A sentence for each side metric that an axis moves beyond doubt: "corpus: refusal +21 points, 95 % interval 15 to 27"."""
    told = [
        (metric, effect)
        for metric in report.get("side_metrics") or ()
        for effect in metric.get("effects") or ()
        if effect.get("p_adjusted") is not None and effect["p_adjusted"] < FALSE_ALARM and _is_plain(metric, effect)
    ]
    axes = list(report.get("axes") or ())
    told.sort(key=lambda pair: axes.index(pair[1]["axis"]) if pair[1]["axis"] in axes else len(axes))
    return [_side_sentence(metric, effect, quoting) for metric, effect in told[:MOST_SIDE_LINES]]


def _is_plain(metric: Mapping[str, Any], effect: Mapping[str, Any]) -> bool:
    """Whether a proved move is large enough for a sentence: a point of a share, a tenth of any other value."""
    size, before = abs(effect.get("estimate") or 0.0), effect.get("good")
    if scale_for(metric.get("unit"), (metric.get("good"), metric.get("bad"))).share:
        return bool(size >= WORTH)
    return bool(size > 0 and (before is None or size >= TENTH * abs(before)))


def _side_sentence(metric: Mapping[str, Any], effect: Mapping[str, Any], quoting: Quoting) -> str:
    scale = scale_for(metric.get("unit"), (metric.get("good"), metric.get("bad")), quoting=quoting)
    size, sign = effect["estimate"], "+" if effect["estimate"] > 0 else "-"
    moved = f"{sign}{scale.difference(abs(size))}{_times(effect, scale)}, {scale.between(effect.get('interval'))}"
    return f"{quoting.name(effect['axis'])}: {quoting.name(metric['name'])} {moved}"


def _times(effect: Mapping[str, Any], scale: Scale) -> str:
    """By how much the axis multiplies a metric that is no share: " (x 3.0)"."""
    good, bad = effect.get("good"), effect.get("bad")
    if scale.share or not good or not bad or good < 0 or bad < 0:
        return ""
    return f" (x {bad / good:.2g})" if bad / good < 0.95 or bad / good > 1.05 else ""
