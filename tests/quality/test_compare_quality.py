"""What a comparison's verdicts are worth: false regressions of equal sides, losses waved through, planted losses found."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from bisect_ai.attribution.questions.equivalence import EquivalenceRule, paired_tests, verdicts_on
from bisect_ai.attribution.questions.segments import Paired

RULE = EquivalenceRule(0.02)


def pair(rng: np.random.Generator, queries: int, *, noise: float, loss: float = 0.0, size: int = 1) -> Paired:
    """Pass/fail scores of 80 % of the queries; `noise` turns answers of both sides, `loss` of all queries' points breaks the bad side.

    `size`: queries of a cluster, which break together.
    """
    clusters = np.arange(queries) // size
    knows = rng.random(queries) < 0.8
    good, bad = (knows ^ (rng.random(queries) < noise) for _ in range(2))
    broken = (rng.random(clusters[-1] + 1) < loss / 0.8)[clusters]
    return Paired(good.astype(float), (bad & ~broken).astype(float), np.ones(queries), clusters)


def shares(runs: int, queries: int, *, seed: int, **world: float | int) -> Counter[str]:
    rng = np.random.default_rng(seed)
    kinds = Counter[str]()
    for _ in range(runs):
        tests = paired_tests(pair(rng, queries, **world), RULE, reach=1.0)  # type: ignore[arg-type]
        kinds[verdicts_on([tests], RULE)[0].kind] += 1
    return Counter({kind: n / runs for kind, n in kinds.items()})


@pytest.mark.parametrize("queries", [30, 100, 400])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.25])
def test_equal_sides_are_no_regression(queries: int, noise: float) -> None:
    found = shares(600, queries, noise=noise, seed=1)
    assert found["regression"] <= 0.05, found
    assert found["improvement"] <= 0.05, found


@pytest.mark.parametrize(("queries", "noise"), [(150, 0.0), (400, 0.005), (1000, 0.05)])
def test_a_loss_of_the_tolerance_is_seldom_waved_through(queries: int, noise: float) -> None:
    loss = 0.02 / (1 - 2 * noise) if noise else 0.02
    found = shares(600, queries, noise=noise, loss=loss, seed=2)
    assert found["equivalent"] + found["no_worse"] <= 0.08, found


def test_planted_losses_are_found_and_planted_equality_is_proved() -> None:
    assert shares(100, 300, noise=0.02, loss=0.1, seed=3)["regression"] >= 0.95
    assert shares(100, 300, noise=0.0, seed=4)["equivalent"] == 1.0
    assert shares(100, 1500, noise=0.01, seed=5)["equivalent"] >= 0.9


def test_a_planted_gain_is_an_improvement() -> None:
    rng = np.random.default_rng(6)
    kinds = Counter(
        verdicts_on([paired_tests(_turned(pair(rng, 300, noise=0.02, loss=0.1)), RULE, reach=1.0)], RULE)[0].kind
        for _ in range(50)
    )
    assert kinds["improvement"] >= 47


def _turned(paired: Paired) -> Paired:
    return Paired(paired.bad, paired.good, paired.weights, paired.clusters)


def test_whole_clusters_that_break_are_no_proof_of_many_queries() -> None:
    """Five queries that fall together are one: equal sides whose clusters break at random are seldom told apart."""
    rng = np.random.default_rng(7)
    kinds = Counter[str]()
    clusters = np.arange(200) // 5
    for _ in range(400):
        knows = rng.random(200) < 0.8
        good, bad = (knows & (rng.random(40) < 0.9)[clusters] for _ in range(2))
        both = Paired(good.astype(float), bad.astype(float), np.ones(200), clusters)
        kinds[verdicts_on([paired_tests(both, RULE, reach=1.0)], RULE)[0].kind] += 1
    assert kinds["regression"] <= 0.05 * 400, kinds


def test_several_comparisons_share_one_error_budget() -> None:
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(300):
        tests = [paired_tests(pair(rng, 100, noise=0.1), RULE, reach=1.0) for _ in range(5)]
        false += any(v.kind == "regression" for v in verdicts_on(tests, RULE))
    assert false <= 0.05 * 300


@pytest.mark.parametrize("tolerance", [0.02, 0.2])
def test_power_is_what_was_said(tolerance: float) -> None:
    """A loss of the size that a comparison says it can see is found in about 80 of 100."""
    rng, rule = np.random.default_rng(9), EquivalenceRule(tolerance)
    sees = paired_tests(pair(rng, 400, noise=0.1), rule, reach=1.0).sees
    assert sees is not None
    found = [paired_tests(pair(rng, 400, noise=0.1, loss=sees / 0.8), rule, reach=1.0).p_differs < 0.05 for _ in range(300)]
    assert 0.65 <= np.mean(found) <= 0.95


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("differ", [1, 2, 3, 5, 6, 8, 12, 20, 24])
def test_a_few_differing_queries_are_called_a_difference_with_at_most_the_stated_chance(differ: int, size: int) -> None:
    """Exact: every number of losses among the differing clusters, with its chance where losses and gains are alike."""
    chance, covered, n = 0.0, 0.0, 240
    for lost in range(differ + 1):
        moved = np.zeros(n)
        moved[: differ * size] = np.repeat([1.0] * lost + [-1.0] * (differ - lost), size)
        pairs = Paired((moved > 0).astype(float), (moved < 0).astype(float), np.ones(n), np.arange(n) // size)
        found = paired_tests(pairs, EquivalenceRule(0.0001), reach=1.0)
        weight = math.comb(differ, lost) / 2**differ
        chance += weight * (found.p_differs <= 0.05)
        assert found.loss.interval is not None
        low, high = found.loss.interval
        covered += weight * (low <= 1e-12 and high >= -1e-12)
    assert chance <= 0.05
    assert covered >= 0.95
