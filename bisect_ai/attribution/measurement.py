"""A rollback measured in its own cell, on a random part of the base sample.

Where the calls are spent and chance has put queries into every cell, the table of all of these says it instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.estimate import Sample, ratio_interval, two_phase
from bisect_ai.attribution.findings import ratio
from bisect_ai.attribution.inference import ScoreTable, estimate
from bisect_ai.attribution.problem import RESTORED, Estimate, Floats, Ints

SHORT_IN_TABLE = 2.5  # standard errors; one cell's mean is rough, and no calls are left to look again


@dataclass(frozen=True)
class Measurement:
    """A rollback and its cell, the queries that it is measured on, and their scores once they are in."""

    back: frozenset[int]
    cell: int
    queries: Ints
    scores: Floats | None = None
    table: ScoreTable | None = None
    """Stands in for the queries: chance has put some into every cell."""

    def with_scores(self, scores: dict[tuple[int, int], float]) -> Measurement:
        """The measurement with what came back; NaN where there is no score."""
        found = np.array([scores.get((int(q), self.cell), math.nan) for q in self.queries])
        return replace(self, scores=found)

    def value(self, sample: Sample) -> tuple[float, Floats] | None:
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

    def ran(self, sample: Sample) -> int:
        """Queries with a score in the cell."""
        return sample.n if self.scores is None or self.cell == 0 else int((~np.isnan(self.scores)).sum())

    def unit(self, sample: Sample) -> float:
        """The part of the value that rests on one answer, the most."""
        if self.cell == 0 or self.scores is None or not sample.binary:
            return 0.0
        ran = np.isin(sample.queries, self.queries[~np.isnan(self.scores)])
        mass = np.bincount(sample.strata, sample.share, minlength=4)
        return float((mass / np.maximum(np.bincount(sample.strata[ran], minlength=4), 1)).max())

    def restores(self, sample: Sample) -> tuple[float, tuple[float, float] | None] | None:
        """The share of the loss that the cell brings back, with Fieller's interval."""
        found = self.value(sample)
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        if found is None or loss <= 0:
            return None
        moved = found[1] - other
        return (found[0] - bad) / loss, ratio_interval(sample, found[0] - bad, loss, moved, base)

    def restores_enough(self, sample: Sample) -> bool:
        """Whether some of the loss came back, and 80 % of it cannot be ruled out."""
        if self.table is not None:
            short = self.table.fit(self._less(RESTORED))
            return short is not None and short.value >= -SHORT_IN_TABLE * short.error
        found = self.value(sample)
        if found is None:
            return False
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        moved, influence = found[0] - bad, found[1] - other
        error, _ = sample.error(influence - RESTORED * base)
        floor = 0.2 * loss if sample.binary else -sample.error(influence)[0]
        return moved >= floor and moved - RESTORED * loss >= -2 * error

    def _less(self, part: float) -> Floats:
        """(cells,) the contrast of what the cell brings back, less this part of the loss."""
        assert self.table is not None
        contrast = np.zeros(len(self.table.mass))
        contrast[self.cell] += 1.0
        contrast[-1] += part - 1.0
        contrast[0] -= part
        return contrast

    def estimate(self, sample: Sample) -> Estimate:
        """The cell's population value with its interval."""
        if self.table is not None:
            return estimate(self.table, np.eye(len(self.table.mass))[self.cell], what="cell mean")
        found = self.value(sample)
        if found is None:
            return Estimate(None, None, 0, "double sampling: a stratum has no score")
        interval = sample.interval(*found, unit=self.unit(sample))
        return Estimate(found[0], interval, self.ran(sample), "double sampling for stratification, 95 % t interval")

    def share(self, sample: Sample, what: str) -> Estimate:
        """The part of the loss that the cell brings back; `what` was reverted."""
        if self.table is not None:
            return ratio(
                self.table, self._less(0.0), self._less(0.0) - self._less(1.0), what=f"restored by {what}, of the loss"
            )
        restored, interval = self.restores(sample) or (None, None)
        how = f"restored by {what}, of the loss; Fieller 95 % interval"
        if restored is None:
            how = f"restored by {what}: undefined, the estimate of the loss is not positive"
        elif interval is None:
            how += ": not bounded, the loss is too uncertain"
        return Estimate(restored, interval, self.ran(sample), how)
