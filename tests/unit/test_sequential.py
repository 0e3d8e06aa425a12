"""Tests of net cost that are looked at several times: exact tails, alpha that adds up, names that stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bisect_ai.attribution.stats import sequential
from bisect_ai.attribution.stats.sequential import FIRST, GROWTH, LossBelow, SequentialTests, look_sizes, standardised


def signs(worse: int, better: int, same: int = 0, size: float = 1.0) -> np.ndarray:
    return size * np.array([1.0] * worse + [-1.0] * better + [0.0] * same)


# -- one look ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("worse", "better"), [(1, 0), (10, 0), (9, 3), (5, 5), (2, 11), (60, 40)])
@pytest.mark.parametrize("size", [1.0, 0.25])
def test_pass_fail_has_the_binomial_tail(worse: int, better: int, size: float) -> None:
    """McNemar's exact test, its tail summed from binomial coefficients."""
    n = worse + better
    tail = sum(math.comb(n, i) for i in range(worse, n + 1)) / 2**n
    z = standardised(signs(worse, better, same=7, size=size))
    assert stats.norm.sf(z) == pytest.approx(tail, rel=1e-6)


def test_nothing_moved_says_nothing() -> None:
    assert standardised(np.zeros(50)) == 0.0
    assert standardised(np.zeros(0)) == 0.0


def test_only_better_says_the_opposite_of_a_cost() -> None:
    assert standardised(signs(0, 20)) < -5


def test_other_differences_have_students_tail() -> None:
    x = np.random.default_rng(3).normal(0.3, 1.0, 60)
    p = stats.ttest_1samp(x, 0, alternative="greater").pvalue
    assert stats.norm.sf(standardised(x)) == pytest.approx(p, rel=1e-6)


def test_a_few_alike_differences_prove_no_more_than_their_signs() -> None:
    x = np.array([0.5, 0.5001, 0.4999, 0.5, 0.5002])
    assert stats.norm.sf(standardised(x)) == pytest.approx(0.5**5)


def test_a_cluster_counts_once() -> None:
    x = np.ones(40)
    clusters = np.repeat(np.arange(8), 5)
    assert stats.norm.sf(standardised(x, clusters)) == pytest.approx(0.5**8)
    assert standardised(x) > standardised(x, clusters)


# -- several looks -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("horizon", [3, 12, 100, 2000])
def test_looks_grow_by_a_factor_within_the_horizon(horizon: int) -> None:
    sizes = look_sizes(horizon)
    assert sizes[0] == FIRST
    assert sizes[-1] <= max(horizon, FIRST)
    assert sizes[-1] * GROWTH > horizon - 1
    assert list(sizes) == sorted(set(sizes))


@pytest.mark.parametrize(("alpha", "horizon"), [(0.05, 60), (0.05, 1000), (0.005, 300)])
def test_looks_and_the_end_spend_alpha_together(alpha: float, horizon: int) -> None:
    """Random walks: how often one passes its bound at any look, beside alpha; 200,000 walks, 3.5 standard errors."""
    sizes = (*look_sizes(horizon), horizon + 7)
    bounds = np.array(sequential._look_bounds(sizes, len(sizes) - 1, alpha, True))
    rng, walks = np.random.default_rng(5), 200_000
    total, crossed = np.zeros(walks), np.zeros(walks, bool)
    for size, before, bound in zip(sizes, (0, *sizes[:-1]), bounds, strict=True):
        total += math.sqrt(size - before) * rng.standard_normal(walks)
        crossed |= total / math.sqrt(size) > bound
    assert crossed.mean() == pytest.approx(alpha, abs=3.5 * math.sqrt(alpha / walks) + 0.02 * alpha)


def test_planned_looks_alone_spend_only_their_part() -> None:
    sizes = look_sizes(300)
    bounds = sequential._look_bounds(sizes, len(sizes), 0.05, False)
    assert bounds[0] == pytest.approx(stats.norm.isf(sequential.EARLY * 0.05 / len(sizes)), abs=0.01)
    assert min(bounds) > stats.norm.isf(0.05)


@pytest.mark.parametrize("kind", ["pass/fail", "graded"])
def test_three_axes_without_a_cost_are_seldom_named(kind: str) -> None:
    """Family-wise error over three axes, all looks and the end: 1,200 runs, alpha 0.1."""
    wrong, runs = 0, 1200
    for seed in range(runs):
        rng = np.random.default_rng([seed, 8])
        tests = SequentialTests(3, 0.1, horizon=80)
        for axis in range(3):
            x = rng.choice([-1.0, 0.0, 1.0], 90) if kind == "pass/fail" else rng.standard_normal(90)
            for n in range(10, 91, 10):
                tests.hear(axis, x[:n])
            tests.end(axis, x)
        wrong += bool(tests.named())
    assert wrong / runs <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / runs)


def test_a_cost_is_named_and_stays_named() -> None:
    tests = SequentialTests(2, 0.05, horizon=200)
    x = np.concatenate([np.ones(20), -np.ones(150)])
    tests.hear(0, x[:20])
    assert tests.named() == {0}
    tests.hear(0, x)
    tests.end(0, x)
    assert tests.named() == {0}


def test_a_look_is_on_exactly_so_many_queries_however_they_come() -> None:
    rng = np.random.default_rng(2)
    x = rng.choice([0.0, 1.0, -1.0], 100, p=[0.6, 0.25, 0.15])
    at_once, one_by_one = (SequentialTests(1, 0.05, horizon=100) for _ in range(2))
    at_once.hear(0, x)
    for n in range(1, 101):
        one_by_one.hear(0, x[:n])
    assert at_once.progress(0) == one_by_one.progress(0) > 0


def test_the_end_is_looked_at_once() -> None:
    tests = SequentialTests(1, 0.05, horizon=100)
    tests.hear(0, signs(4, 0, same=9))
    tests.end(0, signs(4, 0, same=10))
    before = tests.progress(0)
    tests.end(0, signs(60, 0))
    tests.hear(0, signs(60, 0))
    assert tests.progress(0) == before
    assert not tests.named()


def test_an_axis_with_more_weight_needs_less() -> None:
    def is_named(weight: float, worse: int) -> bool:
        tests = SequentialTests(2, 0.05, horizon=12)
        tests.weights = np.array([weight, 1 - weight])
        tests.hear(0, signs(worse, 0, same=12 - worse))
        return 0 in tests.named()

    assert [next(n for n in range(1, 13) if is_named(weight, n)) for weight in (0.95, 0.05)] == [
        5,
        9,
    ]  # 1/32 < 0.038, 1/512 < 0.002


def test_holms_second_step_has_what_the_first_left() -> None:
    """Five of twelve queries broken and none mended: p = 1/32, between the look's part of half of alpha and of all of it."""
    strong, weak = signs(12, 0), signs(5, 0, same=7)
    both, alone = (SequentialTests(2, 0.05, horizon=12) for _ in range(2))
    both.hear(0, strong)
    both.hear(1, weak)
    alone.hear(1, weak)
    assert both.named() == {0, 1}
    assert alone.named() == frozenset()


def test_a_family_without_alpha_names_nobody() -> None:
    tests = SequentialTests(1, 0.0, horizon=100)
    tests.hear(0, np.ones(100))
    assert tests.named() == frozenset()
    assert tests.progress(0) == 0.0


def test_a_look_is_expected_to_be_passed_where_what_was_heard_goes_on_like_that() -> None:
    tests = SequentialTests(2, 0.05, horizon=200)
    assert not tests.is_expected(0, 2.0, 30, planned=30)
    assert tests.is_expected(0, 2.0, 30, planned=200)  # 2 errors of 30 queries are 5 of 180
    assert not tests.is_expected(0, -2.0, 30, planned=200)
    tests.hear(0, np.ones(30))
    assert tests.named() == {0}
    assert not tests.is_expected(0, 2.0, 30, planned=200)
    assert not SequentialTests(2, 0.0, horizon=200).is_expected(0, 2.0, 30, planned=200)


# -- no loss -------------------------------------------------------------------------------------------------------------
def test_a_loss_at_the_bound_is_seldom_shown_to_be_below_it() -> None:
    rng, runs, wrong = np.random.default_rng(4), 2000, 0
    for _ in range(runs):
        below, walk = LossBelow(0.1, horizon=400), rng.standard_normal(400).cumsum()
        for n in range(8, 401, 4):
            below.hear(n, walk[n - 1] / math.sqrt(n))
        wrong += below.shown
    assert wrong / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_a_loss_far_below_is_shown_at_the_first_look() -> None:
    below = LossBelow(0.05, horizon=400)
    below.hear(FIRST - 1, 9.0)
    assert not below.shown
    below.hear(FIRST, 9.0)
    assert below.shown
    below.hear(40, -9.0)
    assert below.shown
