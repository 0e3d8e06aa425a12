"""The chance of a wrong name, divided: one alpha for a whole run, and a part of it for each family of tests.

A family is one question asked of every axis. Within a family the axes share its part by Holm's steps (1979); the parts of the
families add up to alpha (Bonferroni), so the chance that the run names any axis without a net cost is at most alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorBudget:
    """A run's alpha, and the part of it that each family of tests may spend."""

    alpha: float
    parts: Mapping[str, float]
    """Family to its part of alpha; the parts add up to 1 at most."""

    def __post_init__(self) -> None:
        if sum(self.parts.values()) > 1 + 1e-9:
            raise ValueError(f"the parts of an error budget add up to {sum(self.parts.values()):g}, more than 1")

    def of(self, family: str) -> float:
        """The alpha of a family; 0 for one that has no part."""
        return self.alpha * self.parts.get(family, 0.0)

    def describe(self) -> str:
        """How it is divided, in words."""
        shares = ", ".join(f"{name} {self.alpha * part:.3g}" for name, part in self.parts.items())
        return f"alpha = {self.alpha:g}, divided: {shares}"
