"""The queries of the drill-down: tried ones, fresh ones, and recruits.

A recruit is a query that had not run: it joins when it fails with all changes bad and passes with all of them good.
"""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.drill_problem import DrillProblem, DrillTrial
from bisect_ai.attribution.problem import Ints

RECRUITS = 8
Heard = list[tuple[int, int, bool]]


class Stock:
    """Which query is in what use. Rows number the tried queries in the order of their first trial."""

    def __init__(self, problem: DrillProblem) -> None:
        self._problem = problem
        self.fresh: list[int] = list(problem.breaking)
        self._untouched = list(problem.untouched)
        self._row: dict[int, int] = {}
        own = problem.thresholds or (problem.threshold,) * len(problem.breaking)
        self._thresholds = dict(zip(problem.breaking, own, strict=True))
        self._recruiting: dict[int, int] = {}

    @property
    def tried(self) -> list[int]:
        """Queries with trials, in the order of their first."""
        return list(self._row)

    @property
    def height(self) -> int:
        """How many queries have trials."""
        return len(self._row)

    def row(self, query: int) -> int:
        """The row of a tried query."""
        return self._row[query]

    def rows(self, queries: list[int]) -> Ints:
        """(queries,) rows; fresh ones get a number beyond all rows."""
        return np.array([self._row.get(int(q), 1 << 40) for q in queries], dtype=int)

    def touch(self, query: int) -> None:
        """The query counts as tried from now on."""
        if query not in self._row:
            self._row[query] = len(self._row)
        if query in self.fresh:
            self.fresh.remove(query)

    def next_fresh(self) -> int | None:
        """A fresh query, now in use; None when there is none left."""
        if not self.fresh:
            return None
        query = self.fresh[0]
        self.touch(query)
        return query

    def failed(self, trial: DrillTrial, score: float) -> bool:
        """Whether the score is a failure of that query."""
        return score < self._thresholds.get(trial.query, self._problem.threshold)

    def hear(self, trial: DrillTrial, failed: bool | None) -> Heard:
        """The trials that the model should hear of; recruits are dealt with here. None: there was no score."""
        if trial.query in self._recruiting:
            return self._hear_recruit(trial, failed)
        return [] if failed is None else [(trial.query, trial.changes, failed)]

    def recruit(self, width: int, asked: dict[tuple[int, int], int]) -> list[DrillTrial]:
        """Trials of untouched queries with all changes bad; those that failed there, with all good."""
        trials = [DrillTrial(q, 0) for q, stage in self._recruiting.items() if stage == 1][:width]
        for t in trials:
            self._recruiting[t.query] = 2
        count = max(min(RECRUITS, width - len(trials)), 0)
        new, self._untouched = self._untouched[:count], self._untouched[count:]
        self._recruiting |= dict.fromkeys(new, 0)
        trials += [DrillTrial(q, self._problem.full) for q in new]
        asked |= {(t.query, t.changes): 1 for t in trials}
        return trials

    def _hear_recruit(self, trial: DrillTrial, failed: bool | None) -> Heard:
        if failed is None or (trial.changes and not failed):
            del self._recruiting[trial.query]
        elif trial.changes:
            self._recruiting[trial.query] = 1
        else:
            del self._recruiting[trial.query]
            if not failed:
                self.fresh.append(trial.query)
        return []
