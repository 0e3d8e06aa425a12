"""The history of a store for the terminal: what the metric did from release to release, and which axis moved it each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import Scale, count, scale_for
from bisect_ai.report.planning_values import HistoryRow
from bisect_ai.report.tables import Table
from bisect_ai.report.terminal_page import Screen
from bisect_ai.report.untrusted_text import one_line

COLUMNS = ("date", "asked", "releases", "metric", "good → bad", "loss", "verdict")


def render_history(rows: Sequence[HistoryRow | Mapping[str, object]], *, width: int = 80, colour: bool = False) -> str:
    """Rows of the history as a table of `width` columns (at least 60), oldest first; losses with 95 % intervals."""
    screen = Screen(width=width, colour=colour)
    if not rows:
        screen.say("no finished runs yet")
        return screen.page()
    screen.say(f"{count(len(rows), 'question', 'questions')}, oldest first", style="bold")
    screen.table(lambda join: Table(COLUMNS, tuple(_row(read(HistoryRow, row, what="the history"), join) for row in rows)))
    return screen.page()


def _row(row: HistoryRow, join: str) -> tuple[str, ...]:
    values = [row.good_value, row.bad_value]
    scale: Scale = scale_for(None, values)
    interval = None if row.loss_low is None or row.loss_high is None else (row.loss_low, row.loss_high)
    axes = ", ".join(one_line(axis) for axis in row.axes)
    kind = one_line(row.kind).replace("_", " ") + (", with earlier audits" if row.carried and row.kind == "regression" else "")
    return (
        "" if row.at is None else row.at[:10],
        one_line(row.question),
        f"{one_line(row.good)} →{join}{one_line(row.bad)}",
        one_line(row.metric),
        f"{scale.number(row.good_value)} → {scale.number(row.bad_value)}",
        scale.bracket(row.loss, interval, join=join),
        f"{kind}:{join}{axes}" if axes else kind,
    )
