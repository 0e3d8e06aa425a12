"""The tables of a result as tidy DataFrames: one row a thing, one column a quantity, NaN where it was not measured.

Every table has its columns even when it has no rows, so that code on top of it runs on any verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

from bisect_ai.attribution.problem import Floats, Ints, Trial, names_of
from bisect_ai.canonical import digest
from bisect_ai.runs.observations import FinishedTrial, Observation, Observations
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Row = Mapping[str, Any]
EFFECTS = ("axes", "kind", "estimate", "low", "high", "breaks", "mends", "proved", "p_adjusted", "n", "method")
CELLS = ("bad_axes", "value", "low", "high", "n", "trials", "errors", "status", "method")
WHO = ("owner", "author", "commit", "at", "why")
CHANGES = ("axis", "path", "kind", "summary", "before", "after", *WHO, "guilty", "share", "low", "high", "provenance")
SEGMENTS = ("name", "found_by", "where", "share", "good", "bad", "loss", "low", "high", "n", "p_adjusted")
SIDE_METRICS = ("name", "unit", "higher_is_better", "good", "bad", "change", "low", "high", "n", "method")
ANSWERS = ("query", "segment", "input", "reference", "bad_axes", "combination", "answer", "score", "tool_calls")
OBSERVATIONS = ("query", "bad_axes", "repeat", "error", "outcome", "seconds", "tokens", "usd", "cached")


def effects_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row an effect: `axes` a tuple; `breaks` and `mends` of net effects."""
    return _typed_frame(rows, EFFECTS, numbers=("estimate", "breaks", "mends", "p_adjusted"))


def cells_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a cell: `bad_axes` a tuple."""
    return _typed_frame(rows, CELLS, numbers=("value",))


def changes(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a change, with what its provenance says about owner, author, time and reason."""
    flat = [{**_who(row.get("provenance") or {}), **row} for row in rows]
    return _typed_frame(flat, CHANGES, numbers=("share",))


def _who(provenance: Row) -> Row:
    """Who, when and why: as the release file says, else as the commit does."""
    commit = {"at": provenance.get("date"), "why": provenance.get("subject")}
    return {name: provenance.get(name, commit.get(name)) for name in WHO}


def segments_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a segment."""
    return _typed_frame(rows, SEGMENTS, numbers=("share", "good", "bad", "loss", "p_adjusted"))


def side_metrics_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a metric that does not decide."""
    return _typed_frame(rows, SIDE_METRICS, numbers=("good", "bad", "change"))


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
    return _typed_frame(rows, ANSWERS, numbers=("score",))


def _typed_frame(rows: Sequence[Row], columns: Sequence[str], *, numbers: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    floats = [column for column in (*numbers, "low", "high") if column in columns]
    frame = pd.DataFrame([_flat_row(row, columns, floats) for row in rows], columns=list(columns))
    return frame.astype(dict.fromkeys(floats, float))


def _flat_row(row: Row, columns: Sequence[str], floats: Sequence[str]) -> dict[str, Any]:
    low, high = row.get("interval") or (None, None)
    known = {**row, "low": low, "high": high}
    values = {column: _number_or_nan(known.get(column)) if column in floats else known.get(column) for column in columns}
    return values | {column: tuple(known[column]) for column in ("axes", "bad_axes") if column in columns}


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


# -- rows of a table of scores as trials: objects only when somebody looks at one, as a DataFrame never -----------------
NO_SCORE = "no score in the table"


@dataclass(frozen=True)
class ScoreTrials(Sequence[Observation]):
    """(rows,) query numbers, cells and scores (NaN: none) as the trials of a run. `failed`: a row without a score is a failed call."""

    metric: str
    axes: Sequence[str]
    query: Ints
    cell: NDArray[np.int16]
    score: Floats
    load_names: Callable[[], Sequence[str]]
    failed: bool

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy is made of, in another process too: its names are read now."""
        names: Callable[[], Sequence[str]] = partial(list, list(self.load_names()))
        return ScoreTrials, (self.metric, self.axes, self.query, self.cell, self.score, names, self.failed)

    def __len__(self) -> int:
        return len(self.score)

    @overload
    def __getitem__(self, row: int) -> Observation: ...
    @overload
    def __getitem__(self, row: slice) -> list[Observation]: ...
    def __getitem__(self, row: int | slice) -> Observation | list[Observation]:
        rows = range(len(self))[row]
        seen = Observations([self.metric])
        for each in [rows] if isinstance(rows, int) else rows:
            seen.add(self._finished(each))
        return seen[0] if isinstance(rows, int) else list(seen)

    def _finished(self, row: int) -> FinishedTrial:
        query, cell, repeat = int(self.query[row]), int(self.cell[row]), int(self.repeats[row])
        name, score = self.load_names()[query], float(self.score[row])
        answer = Answer(error=NO_SCORE if self.failed and math.isnan(score) else None)
        identity = digest({"query": name, "cell": cell, "repeat": repeat})
        scores = {self.metric: None if math.isnan(score) else score}
        return FinishedTrial(
            name, Trial(query, cell, repeat), names_of(cell, self.axes), identity, answer, scores, None, False, True
        )

    @cached_property
    def repeats(self) -> Ints:
        """(rows,) how many rows of the same query and cell come before each."""
        import numpy as np
        import pandas as pd

        place = pd.Series(self.query * (1 << len(self.axes)) + self.cell)
        return np.asarray(place.groupby(place).cumcount(), np.int64)

    def frame(self) -> pd.DataFrame:
        """One row a trial, as `observations` makes of any trials."""
        import numpy as np
        import pandas as pd

        failed = np.isnan(self.score) & self.failed
        bad = np.empty(1 << len(self.axes), object)
        bad[:] = [names_of(cell, self.axes) for cell in range(len(bad))]
        return pd.DataFrame(
            {
                "query": np.array(self.load_names(), object)[self.query],
                "bad_axes": bad[self.cell],
                "repeat": self.repeats,
                self.metric: self.score,
                "error": np.array([None, NO_SCORE], object)[failed.astype(int)],
                "outcome": np.where(failed, "error", "ok"),
                "seconds": np.nan,
                "tokens": 0,
                "usd": np.nan,
                "cached": True,
            }
        )
