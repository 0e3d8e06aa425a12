"""What taking the named changes back restores, measured in its own cell on queries that the drill-down never saw.

The base sample ran under good and under bad. A part of its breaking queries, drawn by lot before the first trial, is set aside for
this; the strata that do not break are not searched at all. So the value of the cell is the population mean, by double sampling
for stratification, as for the rollback of an axis (see `estimate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.base import Base
from bisect_ai.attribution.estimate import Sample
from bisect_ai.attribution.measurement import Measurement
from bisect_ai.attribution.problem import Estimate, Floats, Ints, Outcome, Problem, Trial

FLIPPED = 2  # the stratum of queries that pass under good and fail under bad
ASIDE = 12
NUMERIC = 40


@dataclass(frozen=True)
class Finer:
    """The cell with only the named changes good: its value and what it restores (1: all of the loss), over the population."""

    value: Estimate
    restores: Estimate
    enough: bool
    """Whether some of the loss came back, and 80 % of it cannot be ruled out."""


class Basis:
    """The base sample as a drill-down uses it: which queries it may search, and which it must leave for the measurement."""

    def __init__(self, problem: Problem, corners: Iterable[Outcome]) -> None:
        """`corners`: what came back for good and bad, repeat 0, in any order."""
        heard = {(o.trial.query, o.trial.cell): o for o in corners if o.trial.repeat == 0}
        both = {q for q, c in heard if c == 0} & {q for q, c in heard if c == problem.full}
        self._full = problem.full
        self._base = Base(problem)
        self._base.ask(next(q for q in range(problem.queries + 1) if q not in both))
        for (q, c), o in heard.items():
            if q < self._base.asked:
                score = math.nan if o.score is None or o.status != "ok" else o.score
                self._base.hear(Trial(q, c), score)
        self._by_lot = self._base.by_lot()
        self._sample = self._base.sample()

    @property
    def binary(self) -> bool:
        """Whether all scores take two values at most."""
        return self._base.binary

    @property
    def asked(self) -> int:
        """The queries 0..asked-1 ran under good and bad."""
        return self._base.asked

    @property
    def middle(self) -> float:
        """Halfway between the lowest and the highest score."""
        scores = np.concatenate([self._sample.good, self._sample.bad])
        return float(scores.min() + scores.max()) / 2 if len(scores) else 0.5

    def breaking(self) -> tuple[int, ...]:
        """Queries to search, those that lost most for numeric scores; the ones set aside are left out."""
        if self.binary:
            hit = self._by_lot.get(FLIPPED, np.zeros(0, int))
            return tuple(int(q) for q in hit[self._aside(len(hit)) :][::-1])
        open_ = self._by_lot.get(0, np.zeros(0, int))
        open_ = open_[self._aside(len(open_), NUMERIC) :][::-1]
        drops = self._drops(open_)
        hit = open_[drops > max(float(np.median(drops)), 0.0)] if len(drops) else open_
        return tuple(int(q) for q in hit)

    def thresholds(self, queries: Sequence[int]) -> tuple[float, ...]:
        """For each query the score halfway between good and bad."""
        at = np.searchsorted(self._sample.queries, np.array(queries, dtype=int))
        return tuple(float(v) for v in (self._sample.good[at] + self._sample.bad[at]) / 2)

    def _drops(self, queries: Ints) -> Floats:
        at = np.searchsorted(self._sample.queries, queries)
        return np.asarray(self._sample.good[at] - self._sample.bad[at])

    def _aside(self, size: int, most: int = ASIDE) -> int:
        return min(most, size // 3)

    def to_measure(self, tried: frozenset[int], left: int) -> Ints:
        """Which queries the cell should run on, at most `left`: part of every stratum by the lot, none that was searched."""
        chosen = []
        for h, size in self._base.sizes(self._sample, left).items():
            kept = self._by_lot[h] if self.binary else self._by_lot[h][: self._aside(self._sample.n, NUMERIC)]
            unseen = [int(q) for q in kept if int(q) not in tried]
            chosen += unseen[: max(size, 1)]
        return np.sort(np.array(chosen[:left], dtype=int))

    def measured(self, cell: int, queries: Ints, outcomes: Iterable[Outcome], *, noise: float) -> Finer:
        """The value and what it restores, from the outcomes of the cell's trials."""
        scores = {(o.trial.query, cell): o.score for o in outcomes if o.score is not None and o.status == "ok"}
        measurement = Measurement(frozenset(), cell, queries).with_scores(scores)
        sample = replace(self._sample, noise=self._sample.reach**2 * noise * (1 - noise)) if self.binary else self._sample
        found, ran = measurement.value(sample), len(scores)
        if found is None:
            reason = "not measured: a stratum of the queries has no score in this cell"
            return Finer(Estimate(None, None, ran, reason), Estimate(None, None, ran, reason), enough=False)
        return _finer(sample, measurement, found, ran)


def _finer(sample: Sample, measurement: Measurement, found: tuple[float, Floats], ran: int) -> Finer:
    value = Estimate(found[0], sample.interval(*found), ran, "double sampling for stratification, 95 % t interval")
    how = "restored by taking back these changes only, of the loss; Fieller 95 % interval"
    share, interval = measurement.restores(sample) or (None, None)
    if share is None:
        how = "restored: undefined, the estimate of the loss is not positive"
    return Finer(value, Estimate(share, interval, ran, how), enough=measurement.restores_enough(sample))
