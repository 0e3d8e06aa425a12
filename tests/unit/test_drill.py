"""The drill-down's parts and its promises: units, bisection, evidence, and how a search ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bisect_ai.attribution.problem import bits, mask
from bisect_ai.attribution.search.drill import DrillSearch
from bisect_ai.attribution.search.drill_problem import DrillOutcome, DrillProblem, DrillTrial, Units
from bisect_ai.attribution.search.drill_suspects import Chain
from tests.quality.drill_simulated import converse, make, problem_of, right, solve


def test_masks_and_their_members() -> None:
    assert bits(mask([0, 3, 200])) == (0, 3, 200)
    assert mask([]) == 0


def test_changes_that_need_each_other_are_one_unit() -> None:
    units = Units(5, [(1, 3), (3, 1), (4, 1)])
    assert units.members == ((0,), (1, 3), (2,), (4,))
    assert units.needs[3] == {1}
    assert units.needed_by[1] == {3}


def test_every_prefix_of_an_order_can_be_built() -> None:
    units = Units(12, [(i, i + 1) for i in range(0, 11, 2)] + [(1, 8)])
    rng = np.random.default_rng(0)
    for _ in range(50):
        order = units.shuffled(np.arange(12), rng).tolist()
        assert sorted(order) == list(range(12))
        assert all(units.closed(set(order[:n])) for n in range(13))


@pytest.mark.parametrize("m", [2, 8, 512])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_bisection_finds_the_pivot_in_about_log_m_trials(m: int, noise: float) -> None:
    rng, right, trials = np.random.default_rng(m), 0, 0
    for run in range(100):
        chain = Chain(0, frozenset(), rng.permutation(m), starts=0.1, never=0.2)
        pivot = int(chain.order[run % m])
        while not chain.over:
            place = chain.place()
            failed = pivot in chain.order[:place]
            chain.hear(place, failed != (rng.random() < noise), noise)
        right += chain.pivot == pivot
        trials += chain.trials
    assert right >= 85
    assert trials / 100 <= 8 + (math.log2(m) + 4) / (1 + noise * math.log2(noise) + (1 - noise) * math.log2(1 - noise))


def test_sets_that_cannot_run_are_not_asked_for_again_and_nothing_is_read_into_them() -> None:
    rng, asked = np.random.default_rng(8), list[int]()
    problem = DrillProblem(12, tuple(range(60)), 900, fresh=tuple(range(60, 400)))
    search = DrillSearch(problem)
    while trials := list(search.ask(8)):
        outcomes = []
        for t in trials:
            half = t.changes >> 2 & 1 and not t.changes >> 7 & 1  # change 2 cannot run without change 7
            asked += [t.changes] if half else []
            passed = (t.changes >> 4 & 1 == 0) != (rng.random() < 0.05)
            outcomes.append(DrillOutcome(t, None if half else float(passed), "infeasible" if half else "ok"))
        search.tell(outcomes)
    assert len(asked) <= len(set(asked)) + 8
    assert search.result().changes == {4}


def test_the_only_change_is_found_without_a_call() -> None:
    said, calls = converse(DrillProblem(1, (0, 1, 2), 100), lambda t: 0.0)
    assert (said.kind, said.changes, calls) == ("found", frozenset({0}), 0)


def test_two_changes_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    said, _ = converse(
        DrillProblem(2, tuple(range(40)), 400, fresh=tuple(range(40, 200))),
        lambda t: float((t.changes & 2 == 0) != (rng.random() < 0.05)),
    )
    assert said.kind == "found"
    assert said.changes == {1}


def test_conflicts_are_never_asked_for() -> None:
    incident = make("drill_two", m=16, noise=0.05, seed=2)
    rng = np.random.default_rng(3)
    problem = problem_of(incident, breaking=40, budget=6000, seed=2, rng=rng)
    needs = tuple((i, (i + 3) % 16) for i in range(0, 12, 2))
    asked: list[int] = []

    def answer(trial: DrillTrial) -> float:
        asked.append(trial.changes)
        return float(incident.passes(trial.query, trial.changes, rng))

    said, _ = converse(DrillProblem(16, problem.breaking, 6000, problem.fresh, problem.used, needs, seed=2), answer)
    assert not [c for c in asked if any(c >> a & 1 and not c >> b & 1 for a, b in needs)]
    assert said.changes == incident.guilty


def test_the_budget_is_kept_and_a_small_one_names_nobody_innocent() -> None:
    for budget in (1, 7, 30, 60):
        incident = make("drill_three", m=32, noise=0.1, seed=budget)
        said = solve(incident, seed=1, budget=budget)
        assert said.calls <= budget
        assert said.changes <= incident.guilty


def test_failed_trials_end_the_search_within_the_budget() -> None:
    said, calls = converse(DrillProblem(16, tuple(range(30)), 300), lambda t: None)
    assert calls <= 300
    assert said.kind != "found"


def test_the_same_seed_asks_the_same() -> None:
    incident = make("drill_two", m=32, noise=0.05, seed=4)
    assert solve(incident, seed=4) == solve(incident, seed=4)


def test_a_numeric_score_is_judged_by_the_threshold_of_its_query() -> None:
    problem = DrillProblem(
        12, tuple(range(30)), 800, fresh=tuple(range(30, 200)), thresholds=tuple(10.0 + q for q in range(30))
    )
    said, _ = converse(problem, lambda t: 10.0 + t.query + (-1.0 if t.changes & 4 else 1.0))
    assert said.changes == {2}


def test_two_changes_that_only_break_together_are_named() -> None:
    """With both suspected there is no rest, so no rule with a part in it may explain the queries as well."""
    incident = make("drill_together", m=3, noise=0.02, seed=1)
    pair = replace(incident, m=2, groups=(frozenset({0, 1}),))
    said = solve(pair, seed=1)
    assert [(c.changes, c.mode) for c in said.causes] == [((0, 1), "together")]


@pytest.mark.parametrize("family", ["drill_two", "drill_together", "either"])
def test_three_changes_are_told_apart(family: str) -> None:
    """So few are put to the proof without being suspected first."""
    found = [(i := make(family, m=3, noise=0.02, seed=seed), solve(i, seed=seed)) for seed in range(6)]
    assert sum(right(i, r) for i, r in found) >= 5
    assert all(r.changes <= i.guilty for i, r in found)


def test_shares_are_shares_and_the_rollback_was_measured() -> None:
    for seed in range(4):
        said = solve(make("drill_two", m=16, noise=0.0, seed=seed), seed=seed)
        for cause in said.causes:
            assert 0 <= cause.share.value <= 1
            assert 0 <= cause.share.interval[0] <= cause.share.value <= cause.share.interval[1] <= 1
        assert set(said.back) == said.changes
        assert 0.6 < said.measured.restores.value <= 1


def test_a_change_that_cannot_be_good_while_another_is_bad_is_named_without_it() -> None:
    """Change 5 needs change 3, which is guilty: taking 3 back takes 5 back, and 5 is not blamed for it."""
    rng, used, fresh = np.random.default_rng(4), tuple(range(60)), tuple(range(60, 900))
    problem = DrillProblem(12, tuple(q for q in used if q % 4 == 0), 900, fresh, used, needs=((5, 3),))
    said, _ = converse(problem, lambda t: float(not (t.query % 4 == 0 and t.changes & 8) and rng.random() > 0.02))
    assert said.changes == {3}
    assert said.back == (3, 5)


@pytest.mark.parametrize(("needs", "back"), [((2, 4), {2}), ((4, 2), {2, 4})])
def test_a_change_that_needs_another_is_named_without_it(needs: tuple[int, int], back: set[int]) -> None:
    rng = np.random.default_rng(4)

    def answer(trial: DrillTrial) -> float | None:
        bad = {i for i in range(6) if trial.changes >> i & 1}
        return float((2 not in bad) != (rng.random() < 0.05))

    search = DrillSearch(DrillProblem(6, tuple(range(40)), 900, fresh=tuple(range(40, 400))))
    while trials := list(search.ask(8)):
        lacking = [bool(t.changes >> needs[0] & 1 and not t.changes >> needs[1] & 1) for t in trials]
        search.tell(
            [
                DrillOutcome(t, None if lacks else answer(t), "infeasible" if lacks else "ok")
                for t, lacks in zip(trials, lacking, strict=True)
            ]
        )
    said = search.result()
    assert said.changes == {2}
    assert set(said.back) == back
