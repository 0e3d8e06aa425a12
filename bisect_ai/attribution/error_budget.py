"""The chance of a wrong name, divided: one alpha for a whole run, and a part of it for each family of tests.

A family is one question asked of every axis. Within a family the axes share its part by Holm's steps (1979); the parts of the
families add up to alpha (Bonferroni), so the chance that the run names any axis without a net cost is at most alpha.

Which question is asked first is seen only in a run. A part that is given "in turn" goes to the next question that is asked, before
any of its answers is heard: the parts still add up to alpha at most, and each is fixed by what came before it (alpha-spending over
an adaptive order of hypotheses: Foster and Stine 2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Family to what is said of it.
TOLD = {
    "net": "both net costs",
    "introduced": "changed alone",
    "reverted": "taken back alone",
    "further": "taken back beside what is proved",
    "table": "every query in every combination",
    "again": "the same asked again while answers vary",
}


@dataclass
class ErrorBudget:
    """A run's alpha, and the part of it that each family of tests may spend."""

    alpha: float
    # Family to its part of alpha; with `in_turn` they add up to 1 at most.
    parts: Mapping[str, float] = field(default_factory=dict)
    # Parts for the families that have none yet, in the order in which they are asked.
    in_turn: Sequence[float] = ()
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        total = sum(self.parts.values()) + sum(self.in_turn)
        if total > 1 + 1e-9:
            raise ValueError(f"the parts of an error budget add up to {total:g}, more than 1")

    def of(self, family: str) -> float:
        """The alpha of a family; 0 for one that has no part, or was not asked yet."""
        turns = dict(zip(self.asked, self.in_turn, strict=False))
        return self.alpha * self.parts.get(family, turns.get(family, 0.0))

    def ask(self, family: str) -> float:
        """The alpha of a family that is asked from now on."""
        if family not in self.parts and family not in self.asked:
            self.asked.append(family)
        return self.of(family)

    def describe(self) -> str:
        """How it is divided, in words."""
        shares = [f"{TOLD.get(name, name)} {self.alpha * part:.3g}" for name, part in self.parts.items()]
        told = ", ".join(f"{TOLD.get(name, name)} {self.of(name):.3g}" for name in self.asked)
        in_turn = ", ".join(f"{self.alpha * part:.3g}" for part in self.in_turn)
        if self.in_turn:
            shares.insert(0, told or f"{in_turn} to the questions in the order they are asked")
        return f"alpha = {self.alpha:g}, divided: {', '.join(shares)}"
