"""The live view's intervals of each axis hold at every look, whatever the search asks for, and they tighten.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisect_ai.attribution.adaptive import AdaptiveSearch
from bisect_ai.attribution.costs import Costs, coin_terms
from bisect_ai.attribution.problem import Belief, Outcome, Problem
from tests.quality.simulated import QUERIES, make

SEEDS = 60


def most(share: float, n: int) -> float:
    return share * n + 2 * math.sqrt(n * share * (1 - share))


def chased(seed: int, *, trials: int = 120) -> tuple[list[bool], float, float]:
    """Per axis whether the true running cost left its interval at any look; the widths of the first axis early and late.

    A search that chases its luck: the chances of the next cell follow the answers so far, the guesses are anybody's.
    """
    rng = np.random.default_rng([seed, 41])
    k, cells = 2, 4
    costs, missed = Costs(k), [False] * k
    total, weight = np.zeros(k), np.zeros(k)
    lucky, widths = np.ones(cells), []
    for t in range(trials):
        rates = np.clip(rng.beta(1, 1) - np.array([0.0, 0.5, 0.0, 0.8]) * rng.random(), 0.0, 1.0)  # every query is another
        chances = (lucky / lucky.sum() * 0.8 + 0.05)[None, :]
        cell = np.array([rng.choice(cells, p=chances[0] / chances[0].sum())])
        guesses = rng.random((1, cells))
        score = int(rng.random() < rates[cell[0]])
        terms, weights = coin_terms(guesses, chances, cell, np.array([score]))
        costs.add(terms, weights)
        lucky[cell[0]] = 0.5 * lucky[cell[0]] + (3.0 if score else 0.2)
        ends = [estimate.interval for estimate in costs.estimates()]
        for a in range(k):
            rest = cell[0] & ~(1 << a)
            total[a] += weights[0, a] * (rates[rest] - rates[rest | 1 << a])
            weight[a] += weights[0, a]
            shown = ends[a]
            missed[a] |= shown is not None and not shown[0] <= total[a] / weight[a] <= shown[1]
        shown = ends[0]
        widths += [shown[1] - shown[0]] if shown and t in (30, trials - 1) else []
    return missed, widths[0], widths[-1]


def test_the_cost_of_what_was_tried_lies_inside_at_every_look() -> None:
    runs = [chased(s) for s in range(SEEDS)]
    for a in range(2):
        assert sum(missed[a] for missed, _, _ in runs) <= most(0.05, SEEDS)
    assert np.median([late / early for _, early, late in runs]) < 0.6


def beliefs(family: str, *, seed: int, k: int, budget: int = 400) -> tuple[list[Belief], frozenset[str]]:
    """What a search believed after each round, and the axes that are guilty."""
    population = make(family, k=k, seed=seed)
    rng = np.random.default_rng([seed, 3])
    order, axes = rng.permutation(QUERIES), tuple(f"axis{i}" for i in range(k))
    search, seen = AdaptiveSearch(Problem(axes, QUERIES, budget=budget, seed=seed)), []
    while trials := list(search.ask(32)):
        scores = population.answer(trials, order, rng)
        search.tell([Outcome(t, float(s)) for t, s in zip(trials, scores, strict=True)])
        seen.append(search.belief())
    return seen, frozenset(axes[a] for a in population.guilty)


@pytest.mark.parametrize(("family", "k"), [("alone", 4), ("alone", 2), ("together", 4)])
def test_an_innocent_axis_has_nothing_inside_its_interval_and_a_guilty_one_shows_its_cost(family: str, k: int) -> None:
    left, looked, shown, tighter = 0, 0, 0, []
    for seed in range(25):
        seen, guilty = beliefs(family, seed=seed, k=k)
        for axis in {axis for belief in seen for axis in belief.costs} - guilty:
            ends = [belief.costs[axis].interval for belief in seen if axis in belief.costs]
            left += any(e is not None and not e[0] <= 0 <= e[1] for e in ends)
            looked += any(e is not None for e in ends)
            widths = [e[1] - e[0] for e in ends if e is not None]
            tighter.append(widths[-1] / widths[0])
        shown += all((c := seen[-1].costs[axis].interval) is not None and c[0] > 0.1 for axis in guilty)
    assert looked == len(tighter) == 25 * (k - len(guilty))
    assert left <= most(0.05, looked)
    assert np.median(tighter) < 0.7
    assert shown >= (20 if (family, k) == ("alone", 4) else 0)


def test_scores_without_bounds_have_no_interval() -> None:
    seen, _ = beliefs("graded", seed=1, k=4)
    assert seen[-1].costs
    assert all(cost.interval is None for cost in seen[-1].costs.values())


def test_no_cost_is_shown_beyond_what_two_scores_can_differ_by() -> None:
    """A ratio of sums may be: the coins of few trials fell as they fell."""
    costs = Costs(1)
    costs.add(np.ones((6, 1)), np.full((6, 1), 0.5))
    (shown,) = costs.estimates()
    assert shown.value == 1.0
    assert shown.interval is not None
    assert shown.interval[0] <= shown.value <= shown.interval[1]
