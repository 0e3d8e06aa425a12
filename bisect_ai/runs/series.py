"""The behaviour changelog: what the metric did from release to release, and which axis moved it each time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.store.trial_store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "at", "run", "good", "bad", "metric", "kind", "axes", "good_value", "good_low", "good_high",
    "bad_value", "bad_low", "bad_high", "loss", "loss_low", "loss_high", "n", "calls", "usd",
)  # fmt: skip


def history(store: str | Path = ".bisect-ai") -> pd.DataFrame:
    """One row a finished run or audit, oldest first; values and losses in the metric's units, with 95 % intervals.

    Columns: at (UTC, NaT for runs of stores that did not note it), run, good, bad (releases), metric, kind (the verdict, or of an
    audit healthy, regression, undecided), axes (those that moved the metric), good_value/low/high, bad_value/low/high, loss/low/high
    (positive: quality fell), n (queries), calls, usd. Raises `StoreError`.
    """
    import pandas as pd

    frame = pd.DataFrame(list(history_rows(Path(store))), columns=list(COLUMNS))
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame


def history_rows(store: Path) -> Iterator[dict[str, Any]]:
    """The rows of `history` as plain values, oldest first."""
    with Store(store) as opened:
        ends = dict(opened.ended)
        found = [(ends.get(run), run, opened.report(run)) for run in opened.runs]
    for at, run, report in sorted(((a, r, p) for a, r, p in found if p is not None), key=lambda row: row[0] or 0):
        yield _history_row(at, run, report)


def history_line(report: Mapping[str, Any]) -> str:
    """A report's row of the history as one line of JSON, as of now."""
    at = time.time_ns() // 1000
    return json.dumps(_history_row(at, report["run"], report), ensure_ascii=True, allow_nan=False)


def _history_row(at: int | None, run: str, report: Mapping[str, Any]) -> dict[str, Any]:
    verdict, loss, usage = report["verdict"], report["loss"], report["usage"]
    audit = report.get("audit") or {}
    return {
        "at": None if at is None else datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds"),
        "run": run,
        "good": report["good"],
        "bad": report["bad"],
        "metric": report["metric"],
        "kind": verdict["kind"] if verdict["kind"] == "cause" else audit.get("kind", verdict["kind"]),
        "axes": tuple(axis for cause in verdict["causes"] for axis in cause["axes"]),
        **_spread("good", loss["good"], loss.get("good_interval")),
        **_spread("bad", loss["bad"], loss.get("bad_interval")),
        "loss": loss["estimate"],
        "loss_low": (loss["interval"] or (None, None))[0],
        "loss_high": (loss["interval"] or (None, None))[1],
        "n": loss["n"],
        "calls": usage["calls"],
        "usd": usage["usd"],
    }


def _spread(side: str, value: float | None, interval: Any) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {f"{side}_value": value, f"{side}_low": low, f"{side}_high": high}
