"""Simulated populations with known truth: each query follows one rule over the axes that are bad, and answers flip by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Attribution, Outcome, Problem, Search
from bisect_ai.attribution.rules import Rule

AXES = ("model", "prompt", "corpus", "tools", "context", "sampling", "memory", "guard")


@dataclass(frozen=True)
class Population:
    """`size` queries, of which 85 % pass under good; rule i breaks its `weight` of them; `noise`: chance that an answer flips."""

    rules: tuple[Rule, ...]
    k: int = 4
    noise: float = 0.05
    size: int = 2000
    seed: int = 0

    def chances(self) -> np.ndarray:
        """(size, 2^k) chance that a query passes in a cell."""
        rng = np.random.default_rng([self.seed, 7])
        order = rng.permutation(self.size)
        passes = np.zeros((self.size, 1 << self.k), bool)
        passes[order[: int(0.85 * self.size)]] = True
        start = 0
        for rule in self.rules:
            hit = order[start : (start := start + round(rule.weight * self.size))]
            broken = [cell for cell in range(1 << self.k) if rule.breaks(cell)]
            passes[np.ix_(hit, broken)] = False
        return passes * (1 - 2 * self.noise) + self.noise

    def values(self) -> np.ndarray:
        """(2^k,) the true value of each cell over the population."""
        return np.asarray(self.chances().mean(0))

    def problem(self, *, budget: int) -> Problem:
        return Problem(axes=AXES[: self.k], queries=self.size, budget=budget, population=self.size, seed=self.seed)

    def solve(self, search: Search, *, width: int = 4096) -> tuple[Attribution, int]:
        """What the search ends with, and the calls it made."""
        chances, rng, calls = self.chances(), np.random.default_rng([self.seed, 8]), 0
        order = np.random.default_rng([self.seed, 9]).permutation(self.size)
        while trials := search.ask(width):
            calls += len(trials)
            passes = rng.random(len(trials)) < [chances[order[t.query], t.cell] for t in trials]
            search.tell([Outcome(t, float(p)) for t, p in zip(trials, passes, strict=True)])
        return search.result(), calls


def causes(found: Attribution) -> set[tuple[frozenset[str], str]]:
    return {(frozenset(c.axes), c.mode) for c in found.causes}


def truth(rules: Sequence[Rule]) -> set[tuple[frozenset[str], str]]:
    return {(frozenset(AXES[a] for a in r.axes), r.mode) for r in rules}
