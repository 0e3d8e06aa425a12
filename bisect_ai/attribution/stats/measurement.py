"""A rollback measured in its own cell, on a random part of the base sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.problem import RESTORED, Floats, Ints
from bisect_ai.attribution.stats.estimate import PairedSample, ratio_interval, two_phase


@dataclass(frozen=True)
class Measurement:
    """A rollback and its cell, the queries that it is measured on, and their scores once they are in."""

    back: frozenset[int]
    cell: int
    queries: Ints
    scores: Floats | None = None

    def with_scores(self, scores: dict[tuple[int, int], float]) -> Measurement:
        """The measurement with what came back; NaN where there is no score."""
        found = np.array([scores.get((int(q), self.cell), math.nan) for q in self.queries])
        return replace(self, scores=found)

    def value(self, sample: PairedSample) -> tuple[float, Floats] | None:
        """The cell's population value and the influences of the sample's queries; None when a stratum has no score."""
        if self.cell == 0:
            return sample.mean(sample.good)
        scores = np.full(sample.n, np.nan)
        assert self.scores is not None
        scores[np.searchsorted(sample.queries, self.queries)] = self.scores
        if sample.binary:
            return two_phase(sample, sample.strata, scores)
        found = two_phase(sample, sample.strata, scores - sample.bad)
        value, influence = sample.mean(sample.bad)
        return None if found is None else (found[0] + value, found[1] + influence)

    def restores(self, sample: PairedSample) -> tuple[float, tuple[float, float] | None] | None:
        """The share of the loss that the cell brings back, with Fieller's interval."""
        found = self.value(sample)
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        if found is None or loss <= 0:
            return None
        moved = found[1] - other
        return (found[0] - bad) / loss, ratio_interval(sample, found[0] - bad, loss, moved, base)

    def restores_enough(self, sample: PairedSample) -> bool:
        """Whether some of the loss came back, and 80 % of it cannot be ruled out."""
        found = self.value(sample)
        if found is None:
            return False
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        moved, influence = found[0] - bad, found[1] - other
        error, _ = sample.error(influence - RESTORED * base)
        floor = 0.2 * loss if sample.binary else -sample.error(influence)[0]
        return moved >= floor and moved - RESTORED * loss >= -2 * error
