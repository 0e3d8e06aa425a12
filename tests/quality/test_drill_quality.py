"""The drill-down on incidents with known guilty changes: right with few calls, silent where no change is to blame.

The seeds are fixed, so every test is deterministic; the margins leave room for the number of seeds, not for luck.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from tests.quality.drill_simulated import FAMILIES, make, right, solve


@pytest.mark.parametrize("m", [8, 32, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_guilty_changes(family: str, m: int) -> None:
    found = [(i := make(family, m=m, noise=0.05, seed=s), solve(i, seed=s)) for s in range(20)]
    assert sum(right(i, r) for i, r in found) >= 18
    assert sum(bool(r.changes - i.guilty) for i, r in found) <= 1
    assert statistics.median(r.calls for _, r in found) <= 400


@pytest.mark.parametrize("family", ["drill_one", "drill_three", "drill_together"])
def test_calls_grow_like_the_logarithm(family: str) -> None:
    calls = {}
    for m in (32, 512):
        found = [(i := make(family, m=m, noise=0.05, seed=s), solve(i, seed=s)) for s in range(12)]
        assert sum(right(i, r) for i, r in found) >= 11
        calls[m] = statistics.median(r.calls for _, r in found)
    assert calls[512] <= 2.5 * calls[32]


@pytest.mark.parametrize("family", ["drill_null", "noise_only"])
def test_nobody_is_named_where_no_change_is_guilty(family: str) -> None:
    found = [solve(make(family, m=60, noise=0.1, seed=s), seed=s, budget=600, breaking=30) for s in range(30)]
    assert sum(bool(r.changes) for r in found) <= 1
    assert sum(r.kind == "no_single_change" for r in found) >= 27


def test_sixty_small_causes_are_no_single_change() -> None:
    found = [solve(make("scattered", m=60, noise=0.05, seed=s), seed=s, budget=500) for s in range(4)]
    assert all(r.kind != "found" for r in found)


def test_either_of_two_changes() -> None:
    found = [(i := make("either", m=32, noise=0.05, seed=s), solve(i, seed=s)) for s in range(15)]
    assert sum(right(i, r) for i, r in found) >= 13
    assert sum({(frozenset(c.changes), c.mode) for c in r.causes} == i.causes for i, r in found) >= 13


def test_few_breaking_queries_are_made_up_for_by_recruits() -> None:
    found = [(i := make("drill_two", m=32, noise=0.05, seed=s), solve(i, seed=s, breaking=8)) for s in range(5)]
    assert sum(right(i, r) for i, r in found) >= 4


@pytest.mark.parametrize("m", [3, 4, 5])
@pytest.mark.parametrize("family", ["drill_one", "drill_two", "drill_together"])
def test_few_changes_whose_answers_never_vary(family: str, m: int) -> None:
    """As a model at temperature 0 answers: a query that broke by chance breaks so each time, and repeating it proves nothing."""
    found = []
    for seed in range(16):
        incident = replace(make(family, m=m, noise=0.05, seed=seed), stubborn=seed)
        found.append((incident, solve(incident, seed=seed, breaking=20, budget=600)))
    assert sum(right(i, r) for i, r in found) >= 13
    assert sum(bool(r.changes - i.guilty) for i, r in found) <= 2
    assert statistics.median(r.calls for _, r in found) <= 250
