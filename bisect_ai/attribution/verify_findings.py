"""What a verification fixes before its first call, and what it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bisect_ai.attribution.problem import Estimate

Kind = Literal["fixed", "not_fixed", "fixed_with_collateral", "undecided"]


@dataclass(frozen=True)
class VerifyRule:
    """What is fixed before the first call. Scores are oriented; `lowest` and `highest` clip what is bet on, in their units."""

    broken: int
    """The first queries of the problem are those that broke; the rest are the others."""
    others: int
    """N: the logged queries that the others were drawn from."""
    alpha: float = 0.05
    tolerance: float = 0.02
    """Score points: the smallest loss among the others that counts as collateral."""
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
    """The queries that broke, run anew. `restored` is the share of their loss that came back."""

    restored: Estimate
    good: Estimate
    bad: Estimate
    fix: Estimate
    queries: int
    passes: int
    fixed: float
    """Evidence that the share wanted of the loss, or more, is back, and (`not_fixed`) that it is not; to be compared with the bound."""
    not_fixed: float


@dataclass(frozen=True)
class Others:
    """The other queries: the fix's loss against good. Evidence that it is below the tolerance (`clean`), or above 0."""

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
    cells: tuple[tuple[int, int], tuple[int, int]]
    """(trials, failed trials) of the other queries under good and under the fix."""
