"""The full factorial: right verdicts, few false names, intervals that cover. Seeds are fixed; nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.designs.factorial import FactorialSearch
from bisect_ai.attribution.problem import interaction_contrast
from bisect_ai.attribution.rules import Rule
from bisect_ai.attribution.stats import contrasts
from tests.quality.populations import AXES, Population, causes, truth

SEEDS = 20
INCIDENTS = {
    "alone": (Rule((2,), "alone", 0.18),),
    "two": (Rule((0,), "alone", 0.10), Rule((3,), "alone", 0.08)),
    "together": (Rule((1, 3), "together", 0.18),),
    "either": (Rule((0, 2), "either", 0.18),),
}


def solve(rules: tuple[Rule, ...], seed: int, *, noise: float = 0.05, budget: int = 6400):
    population = Population(rules, noise=noise, seed=seed)
    return population, *population.solve(FactorialSearch(population.problem(budget=budget)))


@pytest.mark.parametrize("name", INCIDENTS)
def test_the_right_causes_modes_and_rollback(name: str) -> None:
    rules = INCIDENTS[name]
    right = 0
    for seed in range(SEEDS):
        population, found, calls = solve(rules, seed)
        assert calls <= 6400
        assert found.kind == "cause"
        right += causes(found) == truth(rules) and restores(population, found) >= 0.7
    assert right >= 0.95 * SEEDS


def restores(population: Population, found) -> float:
    values = population.values()
    return float((values[found.rollback.cell] - values[-1]) / (values[0] - values[-1]))


def test_a_small_loss_is_found() -> None:
    rules = (Rule((1,), "alone", 0.06),)
    right = sum(causes(solve(rules, seed)[1]) == truth(rules) for seed in range(SEEDS))
    assert right >= 16  # of 20: a name also takes a loss whose own interval, at 92 %, lies above 0


def test_neither_of_two_that_act_only_together_is_said_to_act_alone_where_the_other_is_not_proved() -> None:
    """Beside a larger cause, on 200 queries: what one costs may well be twice as much, or nothing, with the other."""
    rules = (Rule((0,), "alone", 0.14), Rule((1, 3), "together", 0.07))
    said = [causes(solve(rules, seed, budget=3200)[1]) for seed in range(300, 330)]
    assert sum((frozenset({AXES[a]}), "alone") in found for found in said for a in (1, 3)) <= 2
    assert sum((frozenset({AXES[0]}), "alone") in found for found in said) >= 8


@pytest.mark.parametrize("budget", [320, 1600, 6400])
def test_no_change_no_name(budget: int) -> None:
    named = sum(solve((), seed, budget=budget)[1].kind == "cause" for seed in range(60))
    assert named <= 3


def test_intervals_cover() -> None:
    """Loss, introduced, reverted, Shapley and interaction of a joint cause: nominal 95 %, pooled over the seeds."""
    rules = INCIDENTS["together"]
    hits: dict[str, list[bool]] = {}
    for seed in range(100):
        population, found, _ = solve(rules, seed, budget=3200)
        values = population.values()
        note(hits, "loss", found.loss.interval, contrasts.loss(4) @ values)
        for effect in found.effects:
            place = [AXES.index(a) for a in effect.axes]
            vector = VECTORS[effect.kind](place)
            if set(place) <= {1, 3}:
                note(hits, effect.kind, effect.estimate.interval, vector @ values)
    for kind, covered in hits.items():
        assert 0.90 <= np.mean(covered) <= 0.99, (kind, np.mean(covered))
    assert 0.93 <= np.mean([c for covered in hits.values() for c in covered]) <= 0.975


VECTORS = {
    "net": lambda s: contrasts.shapley(4, s[0]),
    "introduced": lambda place: contrasts.introduced(4, place[0]),
    "reverted": lambda place: contrasts.reverted(4, place[0]),
    "shapley": lambda place: contrasts.shapley(4, place[0]),
    "interaction": lambda place: interaction_contrast(4, place),
}


def note(hits: dict[str, list[bool]], kind: str, interval: tuple[float, float] | None, true: float) -> None:
    if interval is not None:
        hits.setdefault(kind, []).append(interval[0] <= true <= interval[1])
