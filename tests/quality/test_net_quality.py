"""The adaptive search on populations with known causes: right with few calls, silent when it cannot know, honest intervals.

The seeds are fixed, so every test is deterministic; the margins leave room for the number of seeds, not for luck.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import pytest
from bisect_ai.attribution.adaptive import AdaptiveSearch

from bisect_ai.study import pace_of
from tests.quality.simulated import Verdict, judge, make, solve

FIGURES = {"alone": 400, "together": 400, "masking": 400, "graded": 300, "either": 800, "two": 1200, "small": 1600}


def verdicts(
    family: str, *, budget: int, seeds: int, noise: float = 0.05, k: int = 4, width: int = 32, **more: float
) -> list[Verdict]:
    found = []
    for seed in range(seeds):
        population = make(family, k=k, noise=noise, seed=seed, **more)  # type: ignore[arg-type]
        found.append(judge(population, *solve(population, AdaptiveSearch, budget=budget, seed=seed, width=width)))
    return found


def share(values: Iterable[bool | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known)


@pytest.mark.parametrize("family", FIGURES)
def test_right_within_the_budget(family: str) -> None:
    found = verdicts(family, budget=FIGURES[family], seeds=40)
    assert share(v.right for v in found) >= 0.9
    assert share(v.modes for v in found) >= 0.9
    assert share(v.blamed for v in found) <= 0.05


@pytest.mark.parametrize("family", FIGURES)
def test_stops_early_with_a_large_budget(family: str) -> None:
    found = verdicts(family, budget=6400, seeds=11)
    assert statistics.median(v.calls for v in found) <= 1.5 * FIGURES[family]
    assert share(v.right for v in found) >= 0.9


@pytest.mark.parametrize("family", ["alone", "together", "either"])
def test_half_the_calls_without_noise(family: str) -> None:
    found = verdicts(family, budget=FIGURES[family] // 2, seeds=30, noise=0.0)
    assert share(v.right for v in found) >= 0.9


@pytest.mark.parametrize("concurrency", [4, 16, 128])
def test_a_small_budget_is_asked_for_in_rounds_that_leave_time_to_decide(concurrency: int) -> None:
    width = pace_of("adaptive", concurrency, budget=200).width
    found = verdicts("together", budget=200, seeds=20, noise=0.0, width=width)
    assert share(v.right for v in found) >= 0.9


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("budget", [100, 800])
def test_no_cause_is_named_where_there_is_none(noise: float, budget: int) -> None:
    assert share(v.right for v in verdicts("null", budget=budget, seeds=60, noise=noise)) >= 0.95


@pytest.mark.parametrize("budget", [50, 130, 240])
@pytest.mark.parametrize("family", ["alone", "two", "either", "masking", "graded"])
def test_a_small_budget_blames_nobody_innocent(family: str, budget: int) -> None:
    found = verdicts(family, budget=budget, seeds=30, noise=0.1)
    assert share(v.blamed for v in found) <= 0.05
    assert all(v.calls <= budget for v in found)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("alone", {"flaky": 300}),
        ("null", {"flaky": 500}),
        ("alone", {"strength": 0.5}),
        ("triple", {}),
        ("mixed", {}),
    ],
)
def test_queries_outside_the_model_cost_calls_and_not_truth(family: str, more: dict[str, float]) -> None:
    found = verdicts(family, budget=1600, seeds=30, **more)
    assert share(v.blamed for v in found) <= 0.05
    assert share(v.right for v in found) >= 0.8


def test_graded_with_much_noise_is_right_about_as_often_as_a_full_factorial() -> None:
    found = verdicts("graded", budget=600, seeds=60, noise=0.1)
    assert share(v.right for v in found) >= 0.8
    assert share(v.blamed for v in found) <= 0.05


@pytest.mark.parametrize("family", ["graded two", "graded together", "graded either"])
def test_two_axes_that_lower_a_graded_metric_are_told_apart(family: str) -> None:
    found = verdicts(family, budget=1600, seeds=24)
    assert share(v.right for v in found) >= 0.9
    assert share(v.modes for v in found) >= 0.9
    assert share(v.blamed for v in found) <= 0.05


def test_a_graded_metric_whose_noise_hides_the_second_axis_seldom_gets_a_useless_rollback() -> None:
    found = verdicts("graded either", budget=1200, seeds=50, noise=0.1)
    assert share(v.short for v in found) <= 0.25
    assert share(v.right for v in found) >= 0.25


def test_a_rollback_in_doubt_reverts_all_that_is_named_and_says_so() -> None:
    said, _ = solve(make("graded two", noise=0.1, seed=22), AdaptiveSearch, budget=1200, seed=22)
    assert said.rollback is not None
    assert [cause.axes for cause in said.causes] == [("axis1",)]
    assert said.rollback.axes == ("axis1", "axis2")
    assert said.keep == ("axis0", "axis3")
    assert any("also reverts axis2" in note for note in said.notes)


def test_a_graded_loss_that_a_gain_cancels_is_no_cause_when_both_axes_ran_on_every_query() -> None:
    found = verdicts("graded cancelled", budget=600, seeds=40, k=2)
    assert share(v.right for v in found) >= 0.85


def test_intervals_cover_when_the_budget_of_a_graded_metric_ends() -> None:
    found = [v for v in verdicts("graded", budget=600, seeds=150, noise=0.1) if not v.inconclusive]
    assert len(found) >= 120
    assert 0.91 <= share(v.loss_covered for v in found) <= 0.99
    assert 0.91 <= share(v.rollback_covered for v in found) <= 0.99


def test_no_axis_is_named_on_a_graded_metric_without_a_loss() -> None:
    found = verdicts("flat", budget=300, seeds=120)
    assert share(v.right for v in found) >= 0.94


@pytest.mark.parametrize(("family", "budget"), [("alone", 400), ("either", 800), ("two", 1200), ("together", 800)])
def test_two_axes(family: str, budget: int) -> None:
    found = verdicts(family, budget=budget, seeds=25, k=2)
    assert share(v.right for v in found) >= 0.9
    assert share(v.modes for v in found) >= 0.9
    assert share(v.blamed for v in found) <= 0.05


def test_two_axes_and_no_loss() -> None:
    found = verdicts("null", budget=600, seeds=60, k=2)
    assert share(v.right for v in found) >= 0.95


def test_population_intervals_cover() -> None:
    found = verdicts("alone", budget=500, seeds=300)
    assert 0.925 <= share(v.loss_covered for v in found) <= 0.985
    assert 0.925 <= share(v.rollback_covered for v in found) <= 0.985


def test_population_intervals_cover_when_the_classes_are_wrong() -> None:
    found = verdicts("alone", budget=600, seeds=300, flaky=300)
    assert 0.925 <= share(v.loss_covered for v in found) <= 0.985
    assert 0.925 <= share(v.rollback_covered for v in found) <= 0.985


def test_more_axes_cost_little_more() -> None:
    found = verdicts("together", budget=500, seeds=20, k=6)
    assert share(v.right for v in found) >= 0.9
