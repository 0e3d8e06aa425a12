"""Drift, traffic and a drop that replay does not show get their own verdict; and they hide no real cause."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.quality.windows_simulated import World, rows, solved

OUTSIDE = {"drift", "traffic", "not_reproduced"}
PLANTED = {
    "drift": World(drift=0.15),
    "drift after both windows": World(drift=0.15, late=True),
    "traffic": World(hard_later=0.6),
    "not_reproduced": World(production=0.15),
}
NOT_PLANTED = {"nothing": World(), "nothing, users of 10 queries": World(cluster=10)}
WITH_CAUSE = {
    "cause": World(release=0.12),
    "cause and drift": World(release=0.12, drift=0.12),
    "cause and traffic": World(release=0.12, hard_later=0.5),
    "cause and failures in production": World(release=0.12, production=0.12),
}


def kinds(world: World, seeds: int) -> Counter[str]:
    return Counter(solved(world, seed).verdict.kind for seed in range(seeds))


@pytest.mark.parametrize("name", PLANTED)
def test_what_lies_outside_gets_its_own_verdict(name: str) -> None:
    assert kinds(PLANTED[name], 4)[name.split()[0]] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_what_lies_outside_gets_its_own_verdict_in_95_of_100(name: str) -> None:
    assert kinds(PLANTED[name], 100)[name.split()[0]] >= 95


def test_drift_behind_both_windows_is_not_hidden_by_its_own_other_side() -> None:
    assert (
        solved(PLANTED["drift after both windows"], 16).verdict.kind == "drift"
    )  # the bad window lost as much, seen the other way


def test_a_search_goes_on_when_more_queries_do_not_bear_out_what_stopped_it() -> None:
    result = solved(PLANTED["drift after both windows"], 36)
    assert result.verdict.kind == "drift" and result.report["loss"]["n"] > 400


@pytest.mark.parametrize(("hard_later", "told"), [(0.6, True), (0.2, False)])
def test_without_logged_scores_a_shift_of_the_queries_is_told(hard_later: float, told: bool) -> None:
    world = World(hard_later=hard_later)
    unscored = [{key: value for key, value in row.items() if key != "scores"} for row in rows(world, 1)]
    result = solved(world, 1, queries=unscored)
    assert result.verdict.kind != "traffic"  # the log shows no drop, so none can be laid on the queries
    assert any("may come with the queries" in line for line in result.report["warnings"]) == told


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_PLANTED)
def test_what_is_not_there_is_not_seen(name: str) -> None:
    seen = kinds(NOT_PLANTED[name], 100)
    assert sum(seen[kind] for kind in OUTSIDE) <= 5 and seen["cause"] <= 5


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_CAUSE)
def test_a_real_cause_is_named_whatever_else_moved(name: str) -> None:
    seen = kinds(WITH_CAUSE[name], 100)
    assert seen["cause"] >= 95 and sum(seen[kind] for kind in OUTSIDE) <= 5


def test_a_cause_is_named_beside_drift_and_the_drift_is_told() -> None:
    told = 0
    for seed in range(1, 7):
        result = solved(World(release=0.2, drift=0.2), seed)
        assert result.verdict.kind == "cause"
        assert {axis for cause in result.verdict.causes for axis in cause.axes} == {"prompt"}
        drift = result.report["loss"]["parts"]["drift"]
        warned = any("something outside the recorded axes moved as well" in line for line in result.report["warnings"])
        assert warned == (drift is not None and drift["interval"][0] > 0.03)
        told += warned
    assert told >= 2  # a cause that is plain after 40 queries leaves too few of the good window to measure drift


def test_the_points_of_the_drop_add_up() -> None:
    parts = solved(World(hard_later=0.6), 2).report["loss"]["parts"]
    went = sum(parts[name]["estimate"] for name in ("drift", "traffic", "release", "not_reproduced"))
    assert went == pytest.approx(parts["drop"]["estimate"])
    assert parts["traffic"]["estimate"] > 0.5 * parts["drop"]["estimate"]
