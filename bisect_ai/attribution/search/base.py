"""The base sample as it grows: the queries that run under good and under bad."""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, Problem, Trial
from bisect_ai.attribution.stats.estimate import PairedSample


class Base:
    """The queries run under good and under bad: a growing prefix of the sample, which comes in random order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.asked = 0
        self.heard = 0
        self._scores = np.full((2, problem.queries), np.nan)
        self._answers = bytearray(problem.queries)
        self._values: set[float] = set()
        self._known: PairedSample | None = None
        self._lot = np.random.default_rng([problem.seed, 4]).random(problem.queries)

    def ask(self, queries: int) -> list[Trial]:
        """Both corner trials of the next `queries` queries."""
        stop = min(self.asked + max(queries, 0), self._problem.queries)
        corners = (0, self._problem.full)
        trials = [Trial(q, c) for q in range(self.asked, stop) for c in corners]
        self.asked = stop
        return trials

    def hear(self, trial: Trial, score: float) -> None:
        """A corner trial's score, NaN when missing."""
        self._known = None
        self._scores[int(trial.cell != 0), trial.query] = score
        self._answers[trial.query] += 1
        self.note(score)
        while self.heard < self.asked and self._answers[self.heard] == 2:
            self.heard += 1

    def note(self, score: float) -> None:
        """A score that was seen."""
        if len(self._values) < 3 and not math.isnan(score):
            self._known = None
            self._values.add(score)

    @property
    def binary(self) -> bool:
        """Whether all scores so far take two values at most."""
        return len(self._values) <= 2

    def complete(self, start: int) -> tuple[Ints, Floats, Floats]:
        """Queries from `start` on with both scores, and these scores."""
        good, bad = self._scores[:, start : self.heard]
        both = np.flatnonzero(~np.isnan(good) & ~np.isnan(bad))
        return both + start, good[both], bad[both]

    def sample(self) -> PairedSample:
        """The complete pairs so far."""
        self._known = self._known or self._sample()
        return self._known

    def _sample(self) -> PairedSample:
        queries, good, bad = self.complete(0)
        p = self._problem
        weights = np.ones(len(queries)) if p.weights is None else p.weights[queries]
        clusters = queries if p.clusters is None else p.clusters[queries]
        population = math.inf if p.population is None else float(p.population)
        return PairedSample(queries, good, bad, weights, clusters, population, self.binary)
