"""Rows of a table of scores as trials. They become objects only when somebody looks at one; as a DataFrame never."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import Floats, Ints, Trial
from bisect_ai.canonical import digest
from bisect_ai.runs.observations import FinishedTrial, Observation, Observations
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    import pandas as pd

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
        answer = Answer(error=NO_SCORE if self.failed and np.isnan(score) else None)
        identity = digest({"query": name, "cell": cell, "repeat": repeat})
        scores = {self.metric: None if np.isnan(score) else score}
        return FinishedTrial(name, Trial(query, cell, repeat), self._bad(cell), identity, answer, scores, None, False, True)

    def _bad(self, cell: int) -> tuple[str, ...]:
        return tuple(axis for i, axis in enumerate(self.axes) if cell >> i & 1)

    @cached_property
    def repeats(self) -> Ints:
        """(rows,) how many rows of the same query and cell come before each."""
        import pandas as pd

        place = pd.Series(self.query * (1 << len(self.axes)) + self.cell)
        return np.asarray(place.groupby(place).cumcount(), np.int64)

    def frame(self) -> pd.DataFrame:
        """One row a trial, as `frames.observations` makes of any trials."""
        import pandas as pd

        failed = np.isnan(self.score) & self.failed
        bad = np.empty(1 << len(self.axes), object)
        bad[:] = [self._bad(cell) for cell in range(len(bad))]
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
