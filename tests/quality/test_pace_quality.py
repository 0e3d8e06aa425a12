"""How long a search takes beside its calls, in virtual time, and what more workers cost: nobody waits for the slowest of a round."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.runs.trial_window import TrialWindow, pace_of
from tests.quality.simulated import QUERIES, Population, judge, make

BUDGET = 5600
FAMILIES = ("alone", "together", "two", "either", "masking")
Latency = Callable[[float, np.random.Generator], float]


@dataclass(frozen=True)
class Begun:
    planned: Sequence[Trial]
    ends: float
    outcomes: list[Outcome]


class VirtualReplay:
    """Workers that answer in virtual seconds."""

    def __init__(self, population: Population, latency: Latency, *, workers: int, seed: int) -> None:
        self.population, self.latency = population, latency
        self.free = [0.0] * workers
        self.now = self.worked = 0.0
        self.asked: list[Trial] = []
        self.rng, self.clock = np.random.default_rng([seed, 12]), np.random.default_rng([seed, 13])
        self.order = self.rng.permutation(QUERIES)

    def begin(self, trials: Sequence[Trial]) -> Begun:
        scores = self.population.answer(list(trials), self.order, self.rng)
        ends = [self._ends(float(score)) for score in scores]
        self.asked += trials
        return Begun(trials, max(ends), [Outcome(t, float(s)) for t, s in zip(trials, scores, strict=True)])

    def _ends(self, score: float) -> float:
        seconds = self.latency(score, self.clock)
        start = max(self.now, heapq.heappop(self.free))
        heapq.heappush(self.free, start + seconds)
        self.worked += seconds
        return start + seconds

    def finish(self, begun: Begun) -> list[Outcome]:
        self.now = max(self.now, begun.ends)
        return begun.outcomes


def solved(
    family: str, *, workers: int, seed: int, latency: Latency = lambda score, rng: 1.0, noise: float = 0.0, churn: float = 0.02
) -> tuple[VirtualReplay, NetSearch]:
    population = make(family, noise=noise, seed=seed, churn=churn)
    replay = VirtualReplay(population, latency, workers=workers, seed=seed)
    search = NetSearch(Problem(tuple(f"axis{i}" for i in range(4)), QUERIES, BUDGET, seed=seed, population=QUERIES))
    pace = pace_of("adaptive", workers, budget=BUDGET)
    under_way = TrialWindow(replay.finish, pace)
    while True:
        if under_way.has_room(search.tell, search.decided) and (trials := search.ask(pace.width)):
            under_way.add(len(trials), replay.begin(trials), search.tell)
        elif under_way:
            under_way.tell_next()
        else:
            return replay, search


@pytest.mark.parametrize(("workers", "most"), [(16, 1.3), (64, 1.6)])
def test_the_verdict_comes_in_little_more_than_the_time_of_its_calls(workers: int, most: float) -> None:
    found = [solved(family, workers=workers, seed=s)[0] for family in ("together", "two") for s in range(3)]
    assert sum(r.now for r in found) <= most * sum(r.worked for r in found) / workers


def test_few_workers_hardly_ever_wait() -> None:
    """Measuring one of two sets that are as good as each other on what ran in the other, a few queries at a time, took 13 %."""
    found = [solved("together", workers=8, seed=s, noise=0.05, churn=0.05)[0] for s in range(16)]
    assert sum(r.now for r in found) <= 1.07 * sum(r.worked for r in found) / 8
    assert all(r.now <= 1.25 * r.worked / 8 for r in found)


def test_more_workers_cost_few_calls_and_no_truth() -> None:
    """Medians: a run in ten goes on for thousands of calls with any number of workers, and that hides what they cost."""
    paid, right = {}, {}
    for workers in (8, 32, 128):
        found = [[(r, q.result()) for r, q in (solved(f, workers=workers, seed=s) for s in range(24))] for f in FAMILIES]
        paid[workers] = sum(float(np.median([len(r.asked) for r, _ in family])) for family in found)
        right[workers] = np.mean([judge(r.population, said, len(r.asked)).right for family in found for r, said in family])
    assert max(paid.values()) <= 1.1 * paid[8]
    assert min(right.values()) >= 0.9


def test_slow_answers_that_are_worse_answers_change_nothing() -> None:
    """What is told is a prefix of what was asked, so the same is asked and found as if all answers took as long."""

    def slow(score: float, rng: np.random.Generator) -> float:
        return float(rng.exponential(1.0 if score > 0.5 else 10.0))

    for seed in range(2):
        even, uneven = (solved("together", workers=16, seed=seed, latency=each) for each in (lambda score, rng: 1.0, slow))
        assert even[0].asked == uneven[0].asked
        assert even[1].result() == uneven[1].result()
