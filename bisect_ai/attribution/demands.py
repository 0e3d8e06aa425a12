"""What the rules that explain the scores must show before the search stops looking.

Rules are a matter of likelihood, so they are asked for more of it while there is budget to get it: a high belief, all their axes
proven, and a further rule unlikely. At the end of the budget what is known is told if it carries nearly all that any rules explain.
"""

from __future__ import annotations

from dataclasses import dataclass

from bisect_ai.attribution.naming import Structure


@dataclass(frozen=True)
class Demands:
    """Beliefs and doubts (`Structure`) that are asked for."""

    early: float
    """Belief, in the first 60 % of the budget."""
    late: float
    """Belief, after that."""
    enough: float
    """Trust in reverting all named axes, at the end of the budget."""
    scale: float
    """Of the doubts on the way: -2.5 in the first half of the budget, -1.5 in the next quarter, then 0."""
    last: float
    """Doubt at the end of the budget."""

    def explains_all(self, structure: Structure, named: frozenset[int], spent: float) -> bool:
        """Whether the rules are believed, all their axes named, and a further rule unlikely; `spent`: the part of the budget."""
        believed = structure.belief >= (self.early if spent < 0.6 else self.late)
        doubt = self.scale * (-2.5 if spent < 0.5 else -1.5 if spent < 0.75 else 0.0)
        return bool(structure.axes) and structure.axes <= named and believed and structure.doubt <= doubt

    def explains_enough(self, structure: Structure, named: frozenset[int]) -> bool:
        """Whether, at the end of the budget, the rules whose axes are named carry nearly all that any rules explain."""
        known = structure.only(named)
        most = sum(known.weights) >= 0.8 * sum(structure.weights)
        return bool(known.rules) and most and structure.trust(named) >= self.enough and structure.doubt <= self.last


OF_FLIPS = Demands(early=0.8, late=0.6, enough=0.5, scale=1.0, last=1.5)
OF_SCORES = Demands(early=0.95, late=0.9, enough=0.7, scale=0.5, last=4.0)
"""A score says less than a flip, so more rules fit about as well (simulated: two axes that cost quality each for itself)."""
