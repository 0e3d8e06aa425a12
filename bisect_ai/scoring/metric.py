"""What the scores of a metric mean: which way is better, what one point is, between which ends they lie.

All that attribution computes with is oriented: turned so that higher is better, a loss being positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Ends = tuple[float, float]
Floats: TypeAlias = "NDArray[np.float64]"
SHARE: Ends = (0.0, 1.0)
# Units that say no more than that the metric is a score.
UNITLESS = ("", "score", "share")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The direction, the ends and the unit of a metric's scores."""

    higher_is_better: bool = True
    # The lowest and the highest score; None: not declared.
    bounded: Ends | None = None
    unit: str = "score"
    # Whether all scores that were seen lie in [0, 1] and have no unit.
    seen_as_share: bool = False

    def as_seen(self, scores: Floats) -> Metric:
        """The metric when these are all of its scores (NaN: none): shares where they lie in [0, 1]; half a second is no share."""
        import numpy as np

        lowest, highest = np.fmin.reduce(scores, initial=np.inf), np.fmax.reduce(scores, initial=-np.inf)
        return replace(self, seen_as_share=self.own_unit is None and bool(0 <= lowest <= highest <= 1))

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is: a score times it is oriented, an oriented one times it the score."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def own_unit(self) -> str | None:
        """What one point is; None: nothing but a score."""
        return None if self.unit in UNITLESS else self.unit

    @property
    def is_share(self) -> bool:
        """Whether the scores are shares, as declared or as seen: means lie in [0, 1], and two differ by 1 at most."""
        return self.seen_as_share or self.bounded == SHARE

    @property
    def oriented_ends(self) -> Ends | None:
        """The lowest and the highest oriented score; None: not known."""
        ends = self.bounded or (SHARE if self.is_share else None)
        return ends if ends is None or self.higher_is_better else (-ends[1], -ends[0])

    # -- from what was computed to what is told --------------------------------------------------------------------------
    def value(self, oriented: float | None) -> float | None:
        """An oriented score as the metric has it; None: undefined."""
        return None if oriented is None else self.sign * oriented

    def mean_ends(self, oriented: Ends | None) -> Ends | None:
        """The interval of an oriented mean as the metric has it; a mean of shares has no values outside 0 and 1."""
        if (ends := finite(oriented)) is None:
            return None
        low, high = ends if self.higher_is_better else (-ends[1], -ends[0])
        return (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)) if self.is_share else (low, high)

    def loss_ends(self, loss: Ends | None) -> Ends | None:
        """The interval of a loss, in score points."""
        if (ends := finite(loss)) is None or not self.is_share:
            return ends
        return min(max(ends[0], -1.0), 1.0), min(max(ends[1], -1.0), 1.0)

    # -- on a scale of 0 to 1 --------------------------------------------------------------------------------------------
    @property
    def scale(self) -> Ends:
        """The ends that were declared, else 0 and 1."""
        return self.bounded or SHARE

    @property
    def span(self) -> float:
        """The length of that scale."""
        return self.scale[1] - self.scale[0]

    def to_unit(self, scores: Floats) -> Floats:
        """(n,) the scores on a scale from 0 (the worst) to 1; what lies beyond an end counts as it."""
        import numpy as np

        shares = (np.clip(scores, *self.scale) - self.scale[0]) / self.span
        return np.asarray(shares if self.higher_is_better else 1 - shares)

    def from_unit(self, share: float | None) -> float | None:
        """The score at a place on that scale."""
        low, high = self.scale
        if share is None:
            return None
        return low + self.span * share if self.higher_is_better else high - self.span * share


def finite(interval: Ends | None) -> Ends | None:
    """An interval of plain numbers; None also where an end is not finite."""
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    return float(interval[0]), float(interval[1])
