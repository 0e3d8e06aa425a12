"""Which rules explain the losses of cells, and which rollback undoes them."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.structure import Rule, explain, smallest_rollback


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
    "own part and joint part": ([Rule((0,), "alone", 0.1), Rule((0, 1), "together", 0.1)], 2),
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
    assert {(r.axes, r.mode) for r in found} == {(r.axes, r.mode) for r in rules}


def test_the_smallest_rollback_undoes_four_fifths() -> None:
    assert smallest_rollback([Rule((3,), "alone", 0.2)]) == (3,)
    assert smallest_rollback([Rule((0,), "alone", 0.1), Rule((1,), "alone", 0.08)]) == (0, 1)
    assert smallest_rollback([Rule((0,), "alone", 0.17), Rule((1,), "alone", 0.03)]) == (0,)
    assert len(smallest_rollback([Rule((0, 1), "together", 0.2)])) == 1
    assert smallest_rollback([Rule((0, 1), "either", 0.2)]) == (0, 1)


def test_a_rollback_must_have_run() -> None:
    rules = [Rule((0, 1), "together", 0.2)]
    assert smallest_rollback(rules, allowed={0b10}) == (1,)
    assert smallest_rollback(rules, allowed=set()) == ()
