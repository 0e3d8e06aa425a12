"""The queries on which suspects are looked for: those known to break, and recruits.

A recruit is a query that had not run: it joins when it fails with all changes bad and passes with all of them good. Recruits come
from the end of the fresh queries, and none that was tried serves as proof afterwards, whatever came of it.
"""

from __future__ import annotations

from bisect_ai.attribution.search.drill_problem import DrillProblem, DrillTrial

RECRUITS = 8  # untouched queries tried at once, good and bad, where those that broke are used up
PASSED_ON = 1  # the stage of a recruit that failed with all changes bad: it is to run with all of them good
TURNS = 2  # bisections of one query, each along an order of its own


class Stock:
    """Which breaking query is bisected next."""

    def __init__(self, problem: DrillProblem) -> None:
        self._problem = problem
        self._waiting = [q for _ in range(TURNS) for q in problem.breaking]
        own = problem.thresholds or (problem.threshold,) * len(problem.breaking)
        self._thresholds = dict(zip(problem.breaking, own, strict=True))
        self._recruiting: dict[int, int] = {}
        # Fresh queries that were not recruited.
        self.untouched = list(problem.fresh)

    def take(self) -> int | None:
        """The next query to bisect; None when there is none."""
        return self._waiting.pop(0) if self._waiting else None

    def failed(self, trial: DrillTrial, score: float) -> bool:
        """Whether the score is a failure of that query."""
        return score < self._thresholds.get(trial.query, self._problem.threshold)

    def recruits(self, query: int) -> bool:
        """Whether the query is on trial as a recruit."""
        return query in self._recruiting

    @property
    def recruiting(self) -> bool:
        """Whether a trial of a recruit is under way."""
        return any(stage != PASSED_ON for stage in self._recruiting.values())

    def recruit(self, width: int) -> list[DrillTrial]:
        """Trials of untouched queries with all changes bad; of those that failed there, with all good."""
        trials = [DrillTrial(q, 0) for q, stage in self._recruiting.items() if stage == PASSED_ON][:width]
        for t in trials:
            self._recruiting[t.query] = 2
        count = max(min(RECRUITS, width - len(trials), len(self.untouched)), 0)
        new = [self.untouched.pop() for _ in range(count)]
        self._recruiting |= dict.fromkeys(new, 0)
        return trials + [DrillTrial(q, self._problem.full) for q in new]

    def hear_recruit(self, trial: DrillTrial, failed: bool | None) -> None:
        """Takes in how a recruit did. None: there was no score."""
        if failed is None or (trial.changes and not failed):
            del self._recruiting[trial.query]
        elif trial.changes:
            self._recruiting[trial.query] = PASSED_ON
        else:
            del self._recruiting[trial.query]
            if not failed:
                self._waiting += [trial.query] * TURNS
