"""The drill-down's parts and its promises: units, bisection, evidence, and how a search ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bisect_ai.attribution.drill import DrillSearch
from bisect_ai.attribution.drill_chain import Chain
from bisect_ai.attribution.drill_lineup import Bet, Lineup, drill_classes
from bisect_ai.attribution.drill_problem import DrillOutcome, DrillProblem, DrillTrial, mask, members
from bisect_ai.attribution.drill_units import Units
from bisect_ai.attribution.naming import Mixture
from tests.quality.drill_simulated import converse, make, problem_of, right, solve


def test_masks_and_their_members() -> None:
    assert members(mask([0, 3, 200])) == (0, 3, 200)
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


def test_bets_on_a_change_without_effect_gain_nothing_on_average() -> None:
    lineup = Lineup(0.05, 0.05)
    lineup.suspect(3)
    rng = np.random.default_rng(1)
    passes = rng.random(6) * 0.9 + 0.05
    chances = rng.dirichlet(np.ones(6))
    for rest in range(3):
        for truth in (0.1, 0.7):
            mean = 0.0
            for bit in (0, 1):
                cell = 2 * rest + bit
                coin = chances[cell] / (chances[2 * rest] + chances[2 * rest + 1])
                (_, fails, passed), *_ = lineup.bets(passes, chances, cell)
                mean += coin * (truth * passed + (1 - truth) * fails)
            assert mean == pytest.approx(1.0)


def test_a_failing_call_is_no_evidence_though_failing_hangs_on_the_coin() -> None:
    """A change without effect on scores that makes every answer fail which would have passed (or failed) with it bad."""
    rng = np.random.default_rng(2)
    lineup = Lineup(0.05, 0.05)
    lineup.suspect(3)
    for _ in range(20):
        passes, chances = rng.random(6) * 0.9 + 0.05, rng.dirichlet(np.ones(6))
        for rest in range(3):
            for truth in (0.1, 0.7):
                for lost in (True, False):
                    mean = 0.0
                    for bit in (0, 1):
                        cell = 2 * rest + bit
                        coin = chances[cell] / (chances[2 * rest] + chances[2 * rest + 1])
                        (_, fails, passed), *_ = lineup.bets(passes, chances, cell)
                        worst = min(fails, passed)
                        seen = {True: passed, False: fails} | ({lost: worst} if bit else {})
                        mean += coin * (truth * seen[True] + (1 - truth) * seen[False])
                    assert mean <= 1.0 + 1e-9


def test_a_missing_answer_costs_the_bet_its_worse_side() -> None:
    paid = []
    for passed in (True, False, None):
        lineup = Lineup(0.05, 0.05)
        lineup.suspect(0)
        lineup.pay([Bet(0, (0, frozenset({0, 1})), 1.0, 1.8, 0.4)], passed)
        paid.append(lineup.log_wealth(0))
    assert paid[2] == paid[0] < 0 < paid[1]


def test_one_coin_of_one_query_proves_no_more_than_one_toss_however_often_it_is_tossed() -> None:
    lineup = Lineup(0.05, 0.05)
    lineup.suspect(0)
    coin = 7, frozenset({0, 1})
    lineup.pay([Bet(0, coin, 0.7 * 0.3**n, 2.0, 0.0) for n in range(50)], passed=False)
    assert lineup.log_wealth(0) <= math.log(2)
    lineup.pay([Bet(0, coin, 0.7 * 0.3**n, 2.0, 0.0) for n in range(50, 99)], passed=True)
    assert math.isfinite(lineup.log_wealth(0))


def test_sets_that_cannot_run_are_not_asked_for_again_and_nothing_is_read_into_them() -> None:
    rng, asked = np.random.default_rng(8), list[int]()
    problem = DrillProblem(12, tuple(range(60)), 900)
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


def test_later_suspects_need_more_evidence_and_all_share_the_error_budget() -> None:
    lineup = Lineup(0.05, 0.05)
    for unit in range(40):
        lineup.suspect(unit)
    prices = [lineup._price[u] for u in range(40)]
    assert prices == sorted(prices)
    assert sum(math.exp(-p) for p in prices) <= 0.05


def test_cells_with_half_of_the_rest_are_between_the_two_others() -> None:
    state = drill_classes(2).state
    assert state.shape[1] == 12
    assert np.allclose(state[:, 8:], (state[:, :4] + state[:, 4:8]) / 2)


def test_the_only_change_is_found_without_a_call() -> None:
    said, calls = converse(DrillProblem(1, (0, 1, 2), 100), lambda t: 0.0)
    assert (said.kind, said.changes, calls) == ("found", frozenset({0}), 0)


def test_two_changes_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    said, _ = converse(DrillProblem(2, tuple(range(40)), 400), lambda t: float((t.changes & 2 == 0) != (rng.random() < 0.05)))
    assert said.kind == "found"
    assert said.changes == {1}


def test_conflicts_are_never_asked_for() -> None:
    incident = make("drill_two", m=16, noise=0.05, seed=2)
    rng = np.random.default_rng(3)
    problem = problem_of(incident, breaking=40, budget=800, seed=2, rng=rng)
    needs = tuple((i, (i + 3) % 16) for i in range(0, 12, 2))
    asked: list[int] = []

    def answer(trial: DrillTrial) -> float:
        asked.append(trial.changes)
        return float(incident.passes(trial.query, trial.changes, rng))

    said, _ = converse(DrillProblem(16, problem.breaking, 800, problem.untouched, needs, seed=2), answer)
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
    problem = DrillProblem(8, tuple(range(30)), 400, thresholds=tuple(10.0 + q for q in range(30)))
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
    """With two suspects the third is the only one left, so that a chain can be over before its first trial."""
    for seed in range(8):
        incident = make(family, m=3, noise=0.05, seed=seed)
        assert right(incident, solve(incident, seed=seed, budget=600))


def test_what_a_query_speaks_against_by_thousands_of_nats_can_still_be_mixed() -> None:
    """Thousands of answers of one query that never vary: the likelihood of the only rule in the mixture is too small for a number."""
    plain, rules = np.full((1, 3), -3000.0), np.array([[0.0, -2000.0]])
    scores, weights = Mixture(plain, rules, np.zeros(2), np.ones(2, bool)).scores(np.array([[1]]))
    assert np.isfinite(scores).all()
    assert np.isfinite(weights).all()
