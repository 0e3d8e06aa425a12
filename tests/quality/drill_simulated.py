"""Changes with known guilt, a conversation with the drill-down about them, and the judgement of what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.search.drill import DrillSearch
from bisect_ai.attribution.search.drill_problem import DrillOutcome, DrillProblem, DrillResult, DrillTrial

QUERIES = 2000
FAMILIES = ("drill_one", "drill_two", "drill_three", "drill_together", "drill_null")


@dataclass(frozen=True)
class Incident:
    """m changes; `groups` of changes that break their queries (all of a group bad); `rule[q]`: group of query q, -1 none."""

    m: int
    noise: float
    mode: str
    groups: tuple[frozenset[int], ...]
    base: np.ndarray
    rule: np.ndarray
    elsewhere: np.ndarray
    """Queries that the rest of the release breaks."""
    stubborn: int | None = None
    """A seed: answers never vary, but each set of changes makes its own share of queries, `noise`, answer otherwise."""
    shuffles: np.ndarray | None = None
    """(2, queries, m) bool: fails because of change j good (0) or bad (1). It breaks as many as it mends."""

    @property
    def guilty(self) -> frozenset[int]:
        return frozenset().union(*self.groups)

    @property
    def causes(self) -> set[tuple[frozenset[int], str]]:
        return {(g, self.mode if len(g) > 1 else "alone") for g in self.groups}

    def passes(self, query: int, changes: int, rng: np.random.Generator, *, good: bool = False) -> bool:
        hit = bool(self.elsewhere[query]) and not good
        if self.rule[query] >= 0:
            bad = [bool(changes >> c & 1) for c in self.groups[self.rule[query]]]
            hit = hit or (any(bad) if self.mode == "either" else all(bad))
        if self.shuffles is not None:
            on = np.array([bool(changes >> j & 1) and not good for j in range(self.m)])
            hit = hit or bool(np.where(on, self.shuffles[1, query], self.shuffles[0, query]).any())
        if self.stubborn is not None:
            rng = np.random.default_rng([self.stubborn, query, changes, int(good)])
        return (bool(self.base[query]) and not hit) != (rng.random() < self.noise)


def make(family: str, *, m: int, noise: float, seed: int, churn: float = 0.0) -> Incident:
    """A seeded incident: 2,000 queries of which 1,700 pass under good, and 360 of those break under bad.

    With `churn` every change also breaks that share of the queries and mends as many others.
    """
    rng = np.random.default_rng([seed, m, 21])
    a, b, c = (int(i) for i in rng.choice(m, 3, replace=False))
    order = rng.permutation(QUERIES)
    base, rule, elsewhere = np.zeros(QUERIES, bool), np.full(QUERIES, -1), np.zeros(QUERIES, bool)
    base[order[:1700]] = True
    plan: dict[str, list[tuple[set[int], int]]] = {
        "drill_one": [({a}, 360)],
        "drill_two": [({a}, 200), ({b}, 160)],
        "drill_three": [({a}, 120), ({b}, 120), ({c}, 120)],
        "drill_together": [({a, b}, 360)],
        "either": [({a, b}, 360)],
        "drill_null": [],
        "noise_only": [],
        "scattered": [({i}, 360 // m) for i in range(m)],
        "dozen": [({i}, 24) for i in range(12)],
    }
    start = 0
    for number, (_, count) in enumerate(plan[family]):
        rule[order[start : start + count]] = number
        start += count
    if family == "drill_null":
        elsewhere[order[:360]] = True
    mode = "either" if family == "either" else "together"
    groups = tuple(frozenset(g) for g, _ in plan[family])
    return Incident(m, noise, mode, groups, base, rule, elsewhere, shuffles=_shuffles(rng, m, churn) if churn else None)


def _shuffles(rng: np.random.Generator, m: int, share: float) -> np.ndarray:
    size, sets = round(share * QUERIES), np.zeros((2, QUERIES, m), bool)
    for j in range(m):
        some = rng.permutation(QUERIES)
        sets[0, some[:size], j] = sets[1, some[size : 2 * size], j] = True
    return sets


def problem_of(incident: Incident, *, breaking: int, budget: int, seed: int, rng: np.random.Generator) -> DrillProblem:
    """What a run would know after good and bad ran on a growing random prefix of the queries."""
    order, broke, full = rng.permutation(QUERIES).tolist(), [], (1 << incident.m) - 1
    used = 0
    for used, q in enumerate(order, 1):  # noqa: B007  (read after the loop)
        good, bad = incident.passes(q, 0, rng, good=True), incident.passes(q, full, rng)
        broke += [q] if good and not bad else []
        if len(broke) >= breaking:
            break
    return DrillProblem(incident.m, tuple(broke), budget, tuple(order[used:]), tuple(order[:used]), seed=seed)


def converse(
    problem: DrillProblem, answer: Callable[[DrillTrial], float | None], *, width: int = 32
) -> tuple[DrillResult, int]:
    """What the search says in the end, and its calls; None as an answer is a failed trial."""
    search, calls = DrillSearch(problem), 0
    while trials := list(search.ask(width)):
        calls += len(trials)
        scores = [answer(t) for t in trials]
        search.tell([DrillOutcome(t, s, "ok" if s is not None else "error") for t, s in zip(trials, scores, strict=True)])
    assert calls <= problem.budget
    return search.result(), calls


def solve(incident: Incident, *, seed: int, breaking: int = 40, budget: int = 2400) -> DrillResult:
    """The drill-down's result on an incident."""
    rng = np.random.default_rng([seed, 22])
    problem = problem_of(incident, breaking=breaking, budget=budget, seed=seed, rng=rng)
    found, calls = converse(problem, lambda t: float(incident.passes(t.query, t.changes, rng)))
    assert calls == found.calls
    return found


def right(incident: Incident, said: DrillResult) -> bool:
    """Exactly the guilty changes; none where there are none."""
    return said.kind == ("found" if incident.guilty else "no_single_change") and said.changes == incident.guilty
