"""The behaviour changelog: what the metric did from release to release, and which axis moved it each time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bisect_ai.canonical import json_object
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.payloads import question_of
from bisect_ai.report.planning_values import HistoryRow
from bisect_ai.report.report_values import Report, ReportLike
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.store.trial_store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "at", "question", "run", "good", "bad", "metric", "kind", "axes", "good_value", "good_low", "good_high",
    "bad_value", "bad_low", "bad_high", "loss", "loss_low", "loss_high", "n", "carried", "calls", "usd",
)  # fmt: skip


def history(store: str | Path = ".bisect-ai") -> pd.DataFrame:
    """One row a question that was answered, oldest first; values and losses in the metric's units, with 95 % intervals.

    An audit with the search for its cause is one row. Columns: at (UTC, NaT for runs of stores that did not note it), question (run,
    audit, gate, drift, verify), run, good, bad (releases), metric, kind (the verdict, or of an audit healthy, regression, undecided),
    axes (those that moved the metric), good_value/low/high, bad_value/low/high, loss/low/high
    (positive: quality fell), n (queries), carried (whether an audit's evidence began in
    earlier ones), calls, usd. Raises `StoreError`.
    """
    import pandas as pd

    found = [{name: getattr(row, name) for name in COLUMNS} for row in history_rows(Path(store))]
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame


def history_rows(store: Path) -> Iterator[HistoryRow]:
    """The rows of `history`, oldest first."""
    with Store(store) as opened:
        ends = dict(opened.ended)
        kept = {run: found for run in opened.runs if (found := opened.report(run)) is not None}
    told = {run: read(Report, report) for run, report in kept.items()}
    followed = {report.audit.run for run, report in told.items() if report.audit and report.audit.run != run}
    rows = [(ends.get(run), run, report) for run, report in told.items() if run not in followed]
    for at, run, report in sorted(rows, key=lambda row: row[0] or 0):
        yield _history_row(at, run, report)


def is_told(path: str | Path, report: ReportLike) -> bool:
    """Whether a history file of JSON lines holds the report's row already: the same question came to the same."""
    told = _history_row(None, read(Report, report).run, read(Report, report))
    place = Path(path)
    if not place.is_file():
        return False
    with place.open(encoding="utf-8", errors="replace") as lines:
        return any(_line_names(line) == (told.question, told.run, told.kind, list(told.axes)) for line in lines)


def _line_names(line: str) -> tuple[object, ...]:
    """What tells a history line from others; nothing for one that is not ours."""
    row = json_object(line)
    return () if row is None else tuple(row.get(name) for name in ("question", "run", "kind", "axes"))


def history_line(report: ReportLike) -> str:
    """A report's row of the history as one line of JSON, as of now."""
    told = read(Report, report)
    row = _history_row(time.time_ns() // 1000, told.run, told)
    return json.dumps(as_mapping(row), ensure_ascii=True, allow_nan=False)


def end_line(kind: str, reason: str) -> str:
    """The line of an audit that ended without a verdict, as of now: `kind` (failed, interrupted) and why."""
    row = HistoryRow(at=_moment_of(time.time_ns() // 1000), kind=kind, reason=one_line(reason))
    return json.dumps(as_mapping(row), ensure_ascii=True, allow_nan=False)


def _moment_of(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds")


def _history_row(at: int | None, run: str, report: Report) -> HistoryRow:
    verdict, loss = report.verdict, report.loss
    low, high = loss.interval or (None, None)
    good_low, good_high = loss.good_interval or (None, None)
    bad_low, bad_high = loss.bad_interval or (None, None)
    return HistoryRow(
        at=None if at is None else _moment_of(at),
        question=question_of(report),
        run=run,
        good=report.good,
        bad=report.bad,
        metric=report.metric,
        kind=report.audit.kind if report.audit else verdict.kind,
        axes=tuple(axis for cause in verdict.causes for axis in cause.axes),
        good_value=loss.good,
        good_low=good_low,
        good_high=good_high,
        bad_value=loss.bad,
        bad_low=bad_low,
        bad_high=bad_high,
        loss=loss.estimate,
        loss_low=low,
        loss_high=high,
        n=loss.n,
        carried=report.audit.carried if report.audit else False,
        calls=report.usage.calls,
        usd=report.usage.usd,
    )
