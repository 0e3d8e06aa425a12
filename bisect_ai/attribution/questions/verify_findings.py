"""What a verification fixes before its first call, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bisect_ai.attribution.problem import Estimate

Kind = Literal["fixed", "not_fixed", "fixed_with_collateral", "undecided"]


@dataclass(frozen=True)
class VerifyRule:
    """What is fixed before the first call. Scores are oriented; `lowest` and `highest` clip what is bet on, in their units."""

    # The first queries of the problem are those that broke in the run; the rest are drawn at random from the log.
    broken: int
    # N: the logged queries that the rest were drawn from.
    others: int
    alpha: float = 0.05
    # Score points: a smaller shortfall against good is none.
    tolerance: float = 0.02
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def bound(self) -> float:
        """What the evidence for a claim must pass."""
        return 2 / self.alpha

    def unit(self, score: float) -> float:
        """A score on the scale from 0 (lowest) to 1 (highest)."""
        return min(max((score - self.lowest) / (self.highest - self.lowest), 0.0), 1.0)

    @property
    def margin(self) -> float:
        """The tolerance on that scale."""
        return self.tolerance / (self.highest - self.lowest)


@dataclass(frozen=True)
class Again:
    """Queries drawn at random, answered anew by all three releases. `restored` is the share of the net loss that is back."""

    restored: Estimate
    good: Estimate
    bad: Estimate
    fix: Estimate
    queries: int
    # Times that the queries that broke were run: only when too little is back, to tell collateral from a loss that stays.
    passes: int
    # Evidence that enough is back (all but the tolerance, or the share wanted), and (`not_fixed`) that it is not; to be
    # compared with the bound.
    fixed: float
    not_fixed: float


@dataclass(frozen=True)
class Others:
    """The same queries: the fix's shortfall against good. Evidence that it is below the tolerance (`clean`), or above it."""

    loss: Estimate
    good: Estimate
    fix: Estimate
    queries: int
    clean: float
    collateral: float


@dataclass(frozen=True)
class VerifyFinding:
    """What a verification ends with. Scores are oriented: higher is better."""

    kind: Kind
    reason: str
    again: Again
    others: Others
    bound: float
    failed: int
    trials: int
    calls_needed: int | None
    # (trials, failed trials) of the queries drawn at random under good and under the fix.
    cells: tuple[tuple[int, int], tuple[int, int]]
