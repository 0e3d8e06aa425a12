"""The audit's promises: a year of nothing stays quiet, a real loss is caught by the second week, a healthy week is cheap.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.questions.audit import AuditFinding, AuditRule, AuditSearch, audit_attribution

WEEK = 400  # queries


@dataclass(frozen=True)
class Traffic:
    """A week's queries: 85 % pass under good, a share of `loss` of all breaks under bad, answers flip with chance `noise`."""

    loss: float = 0.0
    noise: float = 0.05
    kind: str = "pass/fail"  # or: graded (in [0, 1]), unbounded
    churn: float = 0.0  # a share of the queries trades places: half of it breaks, as much is mended


def week(traffic: Traffic, rule: AuditRule, *, seed: int, queries: int = WEEK, whole: bool = False) -> AuditFinding:
    """One audit; `whole`: the sample is all of the log."""
    rng = np.random.default_rng([seed, 31])
    passes = rng.random(queries) < 0.85
    broken = passes & (rng.random(queries) < traffic.loss / 0.85)
    half = round(traffic.churn * queries / 2)
    bad = passes & ~broken
    if half:
        bad[rng.permutation(np.flatnonzero(bad))[:half]], bad[rng.permutation(np.flatnonzero(~passes))[:half]] = False, True
    level = np.clip(0.65 + 0.2 * rng.standard_normal(queries), 0, 1)

    def answer(t: Trial) -> float:
        if traffic.kind == "graded":
            return float(np.clip(level[t.query] - traffic.loss * (t.cell != 0) + 0.15 * rng.standard_normal(), 0, 1))
        if traffic.kind == "unbounded":
            return -float(np.exp(level[t.query] + rng.standard_t(2)) * (1 + traffic.loss * (t.cell != 0)))
        right = bool((bad if t.cell else passes)[t.query])
        return float(right != (rng.random() < traffic.noise))

    population = queries if whole else None
    search = AuditSearch(Problem(("prompt", "model"), queries, population=population, budget=10_000, seed=seed), rule)
    while trials := search.ask(64):
        search.tell([Outcome(t, answer(t)) for t in trials])
    return search.finding()


def alarms_in_a_year(traffic: Traffic, *, seed: int, rule: AuditRule | None = None, same_pair: bool) -> int:
    """Weeks with an alarm; a release pair that stays the same carries its evidence on."""
    rule, alarms = rule or AuditRule(), 0
    for w in range(52):
        found = week(traffic, rule, seed=1000 * seed + w)
        alarms += found.kind == "regression"
        if same_pair:
            rule = AuditRule(rule.alpha, rule.per_year, rule.detect, rule.miss, carried=found.carry)
    return alarms


@pytest.mark.parametrize("same_pair", [False, True])
def test_a_year_of_nothing_raises_no_alarm(same_pair: bool) -> None:
    years = [alarms_in_a_year(Traffic(noise=0.1), seed=s, same_pair=same_pair) for s in range(1)]
    assert years == [0]


@pytest.mark.slow
@pytest.mark.parametrize("same_pair", [False, True])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_hundred_years_of_nothing(same_pair: bool, noise: float) -> None:
    years = [alarms_in_a_year(Traffic(noise=noise), seed=s, same_pair=same_pair) for s in range(100)]
    assert sum(a > 0 for a in years) <= 5


def years_of_churn(years: int, noise: float) -> tuple[int, int]:
    """Years with an alarm and audits left undecided, of releases that break and mend 5 % and lose nothing."""
    found = [
        [week(Traffic(noise=noise, churn=0.05), AuditRule(), seed=1000 * (year + 1) + w).kind for w in range(52)]
        for year in range(years)
    ]
    return sum("regression" in kinds for kinds in found), sum(kinds.count("undecided") for kinds in found)


def test_a_year_of_churn_raises_no_alarm_and_is_settled() -> None:
    alarms, undecided = years_of_churn(1, 0.05)
    assert alarms == 0 and undecided <= 5


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_forty_years_of_churn(noise: float) -> None:
    alarms, undecided = years_of_churn(40, noise)
    assert alarms <= 2 and undecided <= 208


def test_the_bound_holds_when_an_audit_never_ends_early() -> None:
    """The whole error is spent: one audit a year with alpha 0.2, looked at after every query, all queries used."""
    rule = AuditRule(alpha=0.2, per_year=1, detect=1e-6)
    alarms = [week(Traffic(noise=0.3), rule, seed=s, queries=120).kind == "regression" for s in range(80)]
    assert 0 < sum(alarms) <= 0.2 * 80 + 2 * math.sqrt(80 * 0.2 * 0.8)


@pytest.mark.parametrize("traffic", [Traffic(0.05, 0.0), Traffic(0.05, 0.05), Traffic(0.05, kind="graded")])
def test_five_points_are_caught_by_the_second_audit(traffic: Traffic) -> None:
    caught = 0
    for s in range(20):
        first = week(traffic, AuditRule(), seed=100 + s)
        again = week(traffic, AuditRule(carried=first.carry), seed=500 + s) if first.kind != "regression" else first
        caught += again.kind == "regression"
    assert caught >= 18


def fixed_size(traffic: Traffic, *, power: float, alpha: float) -> int:
    """Calls of the audit that replays every query once under good and bad and tests the paired mean once."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    shift = traffic.loss * (1 - 2 * traffic.noise)
    variance = 2 * traffic.noise * (1 - traffic.noise) + shift - shift**2
    return 2 * math.ceil(z**2 * variance / shift**2)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_healthy_audit_spends_two_fifths_of_a_fixed_one_at_most(noise: float) -> None:
    loss, rule = Traffic(0.05, noise), AuditRule()
    caught = sum(week(loss, rule, seed=100 + s).kind == "regression" for s in range(20)) / 20
    fixed = fixed_size(loss, power=min(caught, 0.95), alpha=rule.alpha / rule.per_year)
    healthy = [week(Traffic(0.0, noise), rule, seed=900 + s) for s in range(20)]
    assert all(h.kind == "healthy" for h in healthy)
    assert np.mean([h.trials for h in healthy]) <= 0.4 * fixed


def test_unbounded_scores_are_judged_by_their_signs() -> None:
    quiet = [week(Traffic(0.0, kind="unbounded"), AuditRule(), seed=s).kind for s in range(10)]
    dearer = [week(Traffic(8.0, kind="unbounded"), AuditRule(), seed=s).kind for s in range(10)]
    assert "regression" not in quiet
    assert dearer.count("regression") >= 9


@pytest.mark.parametrize(("noise", "queries"), [(0.0, 200), (0.05, 200), (0.0, 400)])
def test_releases_that_only_churn_are_well_within_the_budget(noise: float, queries: int) -> None:
    """Of 60 logs of 200 queries without noise 16 were undecided while the rest of a log was not reckoned with."""
    found = [week(Traffic(churn=0.05, noise=noise), AuditRule(), seed=s, queries=queries, whole=True) for s in range(60)]
    kinds = [f.kind for f in found]
    assert kinds.count("undecided") <= 6 and kinds.count("regression") <= 3


def test_a_small_sample_of_a_large_log_is_seldom_undecided_and_sends_few_losses_away() -> None:
    """Of 200 sampled queries a week whose answers flip with 5 % a third of the audits were undecided."""
    quiet = [week(Traffic(churn=0.05, noise=0.05), AuditRule(), seed=s, queries=200).kind for s in range(100)]
    worse = [week(Traffic(0.05 / 0.9, churn=0.05, noise=0.05), AuditRule(), seed=s, queries=200).kind for s in range(100)]
    assert quiet.count("undecided") <= 10 and "regression" not in quiet
    assert worse.count("healthy") <= 10


def test_an_undecided_sample_says_what_it_excludes_and_how_many_queries_would_do() -> None:
    found = next(
        f
        for s in range(40)
        if (f := week(Traffic(churn=0.1, noise=0.05), AuditRule(), seed=s, queries=200)).kind == "undecided"
    )
    assert found.excluded is not None and 0.05 < found.excluded < 0.15
    assert found.needed is not None and 200 < found.needed < 2000
    said = audit_attribution(found, Problem(("prompt",), 200, budget=2), AuditRule()).reason
    assert "200 sampled queries exclude a loss of 0.0" in said and "would probably exclude 0.05" in said


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_loss_in_a_log_that_is_asked_through_is_seldom_sent_away(noise: float) -> None:
    loss = Traffic(0.05 / (1 - 2 * noise), noise=noise)
    found = [week(loss, AuditRule(), seed=s, queries=400, whole=True) for s in range(30)]
    assert sum(f.kind == "healthy" for f in found) <= 6
