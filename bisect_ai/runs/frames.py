"""The tables of a result as tidy DataFrames: one row a thing, one column a quantity, NaN where it was not measured.

Every table has its columns even when it has no rows, so that code on top of it runs on any verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bisect_ai.runs.observations import Observation
from bisect_ai.runs.score_trials import ScoreTrials

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
EFFECTS = ("axes", "kind", "estimate", "low", "high", "breaks", "mends", "proved", "p_adjusted", "n", "method")
CELLS = ("bad_axes", "value", "low", "high", "n", "trials", "errors", "status", "method")
WHO = ("owner", "author", "at", "why")
CHANGES = ("axis", "path", "kind", "summary", "before", "after", *WHO, "guilty", "share", "low", "high", "provenance")
SEGMENTS = ("name", "found_by", "where", "share", "good", "bad", "loss", "low", "high", "n", "p_adjusted")
SIDE_METRICS = ("name", "unit", "higher_is_better", "good", "bad", "change", "low", "high", "n", "method")
ANSWERS = ("query", "segment", "input", "reference", "bad_axes", "combination", "answer", "score", "tool_calls")
OBSERVATIONS = ("query", "bad_axes", "repeat", "error", "outcome", "seconds", "tokens", "usd", "cached")


def effects_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row an effect: `axes` a tuple; `breaks` and `mends` of net effects."""
    return _typed_frame(rows, EFFECTS, {"axes": tuple}, numbers=("estimate", "breaks", "mends", "p_adjusted"))


def cells_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a cell: `bad_axes` a tuple."""
    return _typed_frame(rows, CELLS, {"bad_axes": tuple}, numbers=("value",))


def changes(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a change, with what its provenance says about owner, author, time and reason."""
    flat = [{**(row.get("provenance") or {}), **row} for row in rows]
    return _typed_frame(flat, CHANGES, {}, numbers=("share",))


def segments_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a segment."""
    return _typed_frame(rows, SEGMENTS, {}, numbers=("share", "good", "bad", "loss", "p_adjusted"))


def side_metrics_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a metric that does not decide."""
    return _typed_frame(rows, SIDE_METRICS, {}, numbers=("good", "bad", "change"))


def observations(trials: Sequence[Observation]) -> pd.DataFrame:
    """One row a trial, with a column for each scorer after `repeat`."""
    import pandas as pd

    if not len(trials):
        return pd.DataFrame(columns=list(OBSERVATIONS))
    if isinstance(trials, ScoreTrials):
        return trials.frame()
    return pd.DataFrame([_trial_row(o) for o in trials])


def answers_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a query and combination."""
    return _typed_frame(rows, ANSWERS, {}, numbers=("score",))


def _typed_frame(
    rows: Sequence[Row], columns: Sequence[str], convert: Mapping[str, Callable[[Any], Any]], *, numbers: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([_flat_row(row, columns, convert, numbers) for row in rows], columns=list(columns))
    floats = [column for column in (*numbers, "low", "high") if column in columns]
    return frame.astype(dict.fromkeys(floats, float))


def _flat_row(
    row: Row, columns: Sequence[str], convert: Mapping[str, Callable[[Any], Any]], numbers: Sequence[str]
) -> dict[str, Any]:
    low, high = row.get("interval") or (None, None)
    known = {**row, "low": low, "high": high}
    return {
        column: _number_or_nan(known.get(column))
        if column in (*numbers, "low", "high")
        else convert[column](known[column])
        if column in convert
        else known.get(column)
        for column in columns
    }


def _number_or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _trial_row(o: Observation) -> dict[str, Any]:
    answer = o.answer
    return {
        "query": o.query,
        "bad_axes": o.bad_axes,
        "repeat": o.trial.repeat,
        **o.scores,
        "error": answer.error or o.infeasible,
        "outcome": "infeasible" if o.infeasible else "error" if answer.is_failure else answer.outcome,
        "seconds": _number_or_nan(answer.latency_s),
        "tokens": answer.usage.input_tokens + answer.usage.output_tokens,
        "usd": _number_or_nan(answer.usage.usd),
        "cached": not o.fresh,
    }
