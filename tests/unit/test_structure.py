"""Which rules explain the losses of cells, and when none is said to."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.rules import Rule, explain, partitions


def losses(rules: list[Rule], axes: int) -> np.ndarray:
    return np.array([sum(r.weight for r in rules if r.breaks(cell)) for cell in range(1 << axes)])


CASES = {
    "alone": ([Rule((0,), "alone", 0.2)], 1),
    "two": ([Rule((0,), "alone", 0.1), Rule((1,), "alone", 0.08)], 2),
    "together": ([Rule((0, 1), "together", 0.18)], 2),
    "either": ([Rule((0, 1), "either", 0.18)], 2),
    "alone and together": ([Rule((2,), "alone", 0.1), Rule((0, 1), "together", 0.12)], 3),
    "three together": ([Rule((0, 1, 2), "together", 0.2)], 3),
    "three alone": ([Rule((i,), "alone", 0.1) for i in range(3)], 3),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_rules_are_found_again(name: str, noise: float) -> None:
    rules, axes = CASES[name]
    rng = np.random.default_rng(0)
    seen = losses(rules, axes) + noise * rng.standard_normal(1 << axes)
    seen[0] = 0
    covariance = max(noise, 1e-6) ** 2 * np.eye(1 << axes)
    found = explain(seen, covariance, queries=400)
    assert found is not None
    assert {(r.axes, r.mode) for r in found} == {(r.axes, r.mode) for r in rules}


def test_an_axis_with_a_part_of_its_own_and_a_joint_one_is_not_settled() -> None:
    seen = losses([Rule((0,), "alone", 0.1), Rule((0, 1), "together", 0.1)], 2)
    assert explain(seen, 0.005**2 * np.eye(4), queries=400) is None


def test_two_explanations_that_do_about_as_well_are_not_settled() -> None:
    seen = losses([Rule((0,), "alone", 0.06), Rule((1,), "alone", 0.06)], 2)
    assert explain(seen, 0.05**2 * np.eye(4), queries=400) is None


@pytest.mark.parametrize(("axes", "count"), [(0, 1), (1, 1), (2, 3), (3, 9), (4, 35)])
def test_partitions_put_every_axis_into_one_rule(axes: int, count: int) -> None:
    """Set partitions, with two modes for every group of several axes: sum of S(n, blocks) by size, counted by hand."""
    found = partitions(tuple(range(axes)))
    assert len(found) == count
    assert all(sorted(a for r in rules for a in r.axes) == list(range(axes)) for rules in found)
