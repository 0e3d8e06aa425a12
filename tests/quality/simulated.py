"""Populations with known causes, a conversation with a search about them, and the judgement of what it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Attribution, Estimate, Floats, Outcome, Problem, Search, Trial

QUERIES = 2000
Rules = list[tuple[frozenset[int], str]]


@dataclass(frozen=True)
class Population:
    """Expected scores (cells, queries), and how one trial scatters around them."""

    k: int
    expected: Floats
    causes: Rules
    spread: float = 0.0
    """Numeric metrics: standard deviation of one trial; 0: pass/fail."""

    @property
    def values(self) -> Floats:
        """(cells,) truth."""
        return np.asarray(self.expected.mean(1))

    @property
    def guilty(self) -> frozenset[int]:
        return frozenset().union(*(axes for axes, _ in self.causes))

    def answer(self, trials: list[Trial], order: Floats, rng: np.random.Generator) -> Floats:
        """(trials,) scores; `order` maps the search's queries to those of the population."""
        level = self.expected[[t.cell for t in trials], order[[t.query for t in trials]]]
        if self.spread:
            return np.asarray(level + self.spread * rng.standard_normal(len(level)))
        return np.asarray((rng.random(len(level)) < level).astype(float))

    def restores(self, axes: frozenset[int]) -> float:
        """Share of the loss that comes back when `axes` are reverted."""
        v, full = self.values, (1 << self.k) - 1
        return float((v[full & ~sum(1 << a for a in axes)] - v[full]) / (v[0] - v[full]))

    def smallest_rollback(self) -> int:
        for size in range(1, self.k + 1):
            if any(self.restores(frozenset(s)) >= 0.8 for s in itertools.combinations(sorted(self.guilty), size)):
                return size
        return 0


@dataclass(frozen=True)
class Verdict:
    """How a run went."""

    right: bool
    modes: bool
    misread: bool
    """Just the guilty are named, and a mode is claimed that is not the true one; `unsettled` claims none."""
    blamed: bool
    inconclusive: bool
    short: bool
    """Its rollback truly restores less than 70 %."""
    calls: int
    loss_covered: bool | None
    rollback_covered: bool | None


def make(
    family: str,
    *,
    k: int = 4,
    noise: float = 0.05,
    seed: int = 0,
    flaky: int = 0,
    strength: float = 1.0,
    churn: float = 0.0,
    churning: str = "all",
) -> Population:
    """A seeded population. `flaky` queries pass 7 times in 10 whatever runs; broken ones fail with chance `strength`.

    `churn`: every axis (`churning` "one": one innocent axis) fails a share of the queries in its good version and another in its bad
    one (graded: costs 0.3 there), so that it breaks and mends about as much and costs nothing.
    """
    rng = np.random.default_rng([seed, k, 11])
    a, b, c = (int(x) for x in (*rng.permutation(k), 0)[:3])
    plan: dict[str, list[tuple[set[int], str, int]]] = {
        "alone": [({a}, "alone", 360)],
        "small": [({a}, "alone", 120)],
        "two": [({a}, "alone", 200), ({b}, "alone", 160)],
        "together": [({a, b}, "together", 360)],
        "triple": [({a, b, c}, "together", 360)],
        "four": [({x}, "alone", 100) for x in range(4)],
        "mixed": [({a}, "alone", 200), ({b, c}, "together", 160)],
        "lesser pair": [({a}, "alone", 260), ({b, c}, "together", 140)],
        "either": [({a, b}, "either", 360)],
        "masking": [({a}, "alone", 500)],
        "graded": [({a}, "alone", QUERIES)],
        "graded two": [({a}, "alone", QUERIES), ({b}, "alone", QUERIES)],
        "graded together": [({a, b}, "together", QUERIES)],
        "graded either": [({a, b}, "either", QUERIES)],
        "graded cancelled": [],
        "flat": [],
        "null": [],
    }
    causes = [(frozenset(axes), mode) for axes, mode, _ in plan[family]]
    order, cells = rng.permutation(QUERIES), np.arange(1 << k)
    if family.startswith(("graded", "flat")):
        one, two = (cells >> a & 1)[:, None], (cells >> b & 1)[:, None]
        cost = {"flat": 0.0 * one, "graded": 0.1 * one, "graded two": 0.08 * one + 0.06 * two}
        cost |= {"graded together": 0.1 * (one & two), "graded either": 0.1 * (one | two)}
        cost["graded cancelled"] = 0.1 * one - 0.1 * two
        level = rng.normal(0.65, 0.2, QUERIES) - cost[family] - 0.3 * _shuffled(k, churn, churning, causes, seed)
        return Population(k, level, causes, max(3 * noise, 1e-6))
    passes = np.ones((1 << k, QUERIES))
    passes[:, order[1700:]] = 0.0
    start = 0
    for axes, mode, count in plan[family]:
        inside = cells & sum(1 << x for x in axes)
        hit = inside > 0 if mode == "either" else inside == sum(1 << x for x in axes)
        passes[np.ix_(hit, order[start : start + count])] = 1 - strength
        start += count
    if family == "masking":
        passes[np.ix_((cells >> b & 1) > 0, order[1700:1900])] = 1.0
    expected = passes * ~_shuffled(k, churn, churning, causes, seed) * (1 - 2 * noise) + noise
    expected[:, order[start : start + flaky]] = 0.7
    return Population(k, expected, causes)


def _shuffled(k: int, churn: float, churning: str, causes: Rules, seed: int) -> np.ndarray:
    """(cells, queries) whether an axis's version fails the query for no reason that its other version would share."""
    rng, size, found = np.random.default_rng([seed, k, 7]), round(churn * QUERIES), np.zeros((1 << k, QUERIES), bool)
    guilty = frozenset[int]().union(*(axes for axes, _ in causes))
    axes = range(k) if churning == "all" else [a for a in range(k) if a not in guilty][:1]
    for a in axes:
        order, bad = rng.permutation(QUERIES), np.arange(1 << k) >> a & 1 > 0
        found[np.ix_(~bad, order[:size])] = True
        found[np.ix_(bad, order[size : 2 * size])] = True
    return found


def solve(
    population: Population, search_for: Callable[[Problem], Search], *, budget: int, seed: int, width: int = 32
) -> tuple[Attribution, int]:
    """What the search says in the end, and its calls."""
    rng = np.random.default_rng([seed, 12])
    order = rng.permutation(QUERIES)
    axes = tuple(f"axis{i}" for i in range(population.k))
    search = search_for(Problem(axes, QUERIES, budget, seed=seed, population=QUERIES))
    calls = 0
    while trials := list(search.ask(width)):
        calls += len(trials)
        scores = population.answer(trials, order, rng)
        search.tell([Outcome(t, float(s)) for t, s in zip(trials, scores, strict=True)])
    assert calls <= budget
    return search.result(), calls


def judge(population: Population, said: Attribution, calls: int) -> Verdict:
    """`right`: exactly the guilty, and a rollback of the right size that truly restores 70 %."""
    causes = {(frozenset(int(name[4:]) for name in c.axes), c.mode) for c in said.causes}
    named = frozenset().union(*(axes for axes, _ in causes))
    back = frozenset(int(name[4:]) for name in said.rollback.axes) if said.rollback else frozenset()
    right = said.kind != "cause"
    if population.causes:
        size = len(back) == population.smallest_rollback()
        right = said.kind == "cause" and named == population.guilty and size and population.restores(back) >= 0.7
    values = population.values
    cell = said.rollback.cell if said.rollback else 0
    return Verdict(
        right,
        causes == set(population.causes),
        named == population.guilty and any(m != "unsettled" and (axes, m) not in population.causes for axes, m in causes),
        bool(named - population.guilty),
        said.kind == "inconclusive",
        bool(population.causes and back) and population.restores(back) < 0.7,
        calls,
        _covers(said.loss, float(values[0] - values[-1])),
        _covers(said.rollback.value, float(values[cell])) if said.rollback else None,
    )


def _covers(estimate: Estimate, truth: float) -> bool | None:
    if estimate.interval is None:
        return None
    return estimate.interval[0] <= truth <= estimate.interval[1]
