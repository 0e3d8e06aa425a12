"""The canary's promises, looked at as the log grows: wrong verdicts at most alpha, whatever the traffic does; its power.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.questions.balance import LoggedColumn, Sides, adjustment
from bisect_ai.attribution.questions.canary import find
from bisect_ai.attribution.questions.canary_looks import Answers, CanaryFinding, CanaryRule, Guard
from bisect_ai.attribution.questions.canary_slices import slice_losses
from bisect_ai.attribution.stats.adjusted import Frame

ALPHA = 0.2
"""Large, so that few seeds show whether the error is spent and not passed."""
SEEDS = 60


@dataclass(frozen=True)
class Traffic:
    """Live answers: `share` go to the canary, which loses `loss`; pass/fail or graded; the level wanders with the time of day."""

    answers: int = 1500
    share: float = 0.5
    loss: float = 0.0
    kind: str = "pass/fail"
    drift: float = 0.0
    users: int = 0
    """Answers come in runs of users, who differ; 0: every answer by itself."""
    unscored: tuple[float, float] = (0.0, 0.0)
    """Shares of wrong answers of baseline and canary that have no score."""


def live(traffic: Traffic, seed: int) -> Answers:
    rng = np.random.default_rng([seed, 77])
    n = traffic.answers
    user = rng.integers(0, traffic.users, n) if traffic.users else np.arange(n)
    easy = rng.standard_normal(user.max() + 1)[user] * (0.25 if traffic.users else 0)
    routed = rng.random(user.max() + 1)[user] if traffic.users else rng.random(n)  # a user stays with one release
    is_canary = (routed < traffic.share * (1 + traffic.drift * np.sin(np.arange(n) / 150))).astype(int)
    level = np.clip(0.75 + easy + traffic.drift * 0.3 * np.sin(np.arange(n) / 150), 0.02, 0.98) - traffic.loss * is_canary
    noise = rng.random(n)
    score = np.clip(level + 0.4 * noise - 0.2, 0, 1) if traffic.kind == "graded" else (noise < level).astype(float)
    lost = rng.random(n) < np.array(traffic.unscored)[is_canary]
    score[lost & (score < 0.5)] = np.nan
    return Answers(is_canary, score, user if traffic.users else None)


def verdicts(traffic: Traffic, *, tolerance: float, alpha: float = ALPHA, seeds: int = SEEDS) -> Counter[str]:
    rule = CanaryRule(tolerance, alpha)
    return Counter(find(live(traffic, s), rule, history=False).kind for s in range(seeds))


def most(alpha: float, seeds: int = SEEDS) -> float:
    """Wrong verdicts that chance allows at an error of alpha, but once in fifty times."""
    return alpha * seeds + 2 * math.sqrt(seeds * alpha * (1 - alpha))


NULLS = {
    "even": Traffic(),
    "small canary": Traffic(share=0.1),
    "large canary": Traffic(share=0.9),
    "graded": Traffic(kind="graded"),
    "day and night": Traffic(share=0.3, drift=0.9),
    "users": Traffic(users=150),
    "users, graded": Traffic(users=150, kind="graded"),
}


@pytest.mark.parametrize("name", NULLS)
def test_a_canary_that_loses_nothing_is_seldom_rolled_back(name: str) -> None:
    assert verdicts(NULLS[name], tolerance=0.02)["roll_back"] <= most(ALPHA)


def test_the_error_is_spent_and_not_kept() -> None:
    """The bound is no idle one: with a tolerance that is never shown, the wealth passes it now and then."""
    assert verdicts(Traffic(answers=3000), tolerance=0.001)["roll_back"] >= 3


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(loss=0.1),
        Traffic(loss=0.1, share=0.1),
        Traffic(loss=0.1, kind="graded"),
        Traffic(loss=0.1, share=0.3, drift=0.9),
    ],
)
def test_a_loss_of_the_tolerance_is_seldom_promoted(traffic: Traffic) -> None:
    assert verdicts(traffic, tolerance=0.1)["promote"] <= most(ALPHA)


def test_failures_that_are_not_scored_hide_no_loss() -> None:
    """Half of the canary's wrong answers have no score: as scored it looks better than it is, and it is still not promoted."""
    hidden = Traffic(answers=2500, loss=0.15, unscored=(0.0, 0.6))
    logs = [live(hidden, s) for s in range(5)]
    means = [[np.nanmean(a.score[a.is_canary == side]) for side in (0, 1)] for a in logs]
    assert np.mean([baseline - canary for baseline, canary in means]) < 0.05
    assert verdicts(hidden, tolerance=0.1, alpha=0.05, seeds=40)["promote"] <= 2


def test_what_a_mean_over_the_whole_log_gets_wrong_is_right_in_stretches() -> None:
    """The canary's share grows while the level falls (an outage): its mean is lower, though it loses nothing."""
    rng = np.random.default_rng(5)
    n = 4000
    share = np.linspace(0.05, 0.6, n)
    is_canary = (rng.random(n) < share).astype(int)
    score = (rng.random(n) < np.linspace(0.95, 0.6, n)).astype(float)
    found = find(Answers(is_canary, score), CanaryRule(0.1))
    assert score[is_canary == 0].mean() - score[is_canary == 1].mean() > 0.05
    assert found.kind == "promote"


@pytest.mark.parametrize(("loss", "kind"), [(0.0, "promote"), (0.1, "roll_back")])
def test_what_is_said_to_be_needed_is_about_what_it_takes(loss: float, kind: str) -> None:
    """The forecast after 400 answers against the answers that it then took: the median is right within a factor of 1.6."""
    ratios = []
    for s in range(30):
        answers = live(Traffic(answers=8000, loss=loss), 300 + s)
        early = find(Answers(answers.is_canary[:400], answers.score[:400]), CanaryRule(0.05), history=False)
        late = find(answers, CanaryRule(0.05), history=False)
        if early.kind == "wait" and late.kind == kind and late.decided_after:
            needed = early.if_no_loss if kind == "promote" else early.if_loss
            ratios.append((late.decided_after - 400) / ((needed.baseline or 0) + (needed.canary or 0)))
    assert len(ratios) >= 15
    assert 1 / 1.6 <= float(np.median(ratios)) <= 1.6


def answers_until(traffic: Traffic, tolerance: float, kind: str, seeds: int) -> tuple[float, float]:
    """The share of seeds that end with this verdict, and the median of answers until any."""
    found: list[CanaryFinding] = [find(live(traffic, 900 + s), CanaryRule(tolerance), history=False) for s in range(seeds)]
    return sum(f.kind == kind for f in found) / seeds, float(np.median([f.decided_after or traffic.answers for f in found]))


def test_ten_points_lost_are_rolled_back_and_none_lost_are_promoted() -> None:
    assert answers_until(Traffic(answers=3000, loss=0.1), 0.05, "roll_back", 20)[0] >= 0.9
    assert answers_until(Traffic(answers=10_000), 0.05, "promote", 20)[0] >= 0.9


# -- unlike traffic, covariates, guards ------------------------------------------------------------------------------------
def coded(name: str, codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> LoggedColumn:
    return LoggedColumn(name, codes=codes, names=tuple(map(str, range(int(codes.max()) + 1))))


def uneven(column: str, seed: int, *, answers: int, loss: float, tilted: bool = True) -> Answers:
    """A canary that gets the easier traffic by one of the columns (`tilted`), and loses `loss` within each of its values."""
    rng = np.random.default_rng([seed, *map(ord, column)])
    on_trial = rng.random(answers) < 0.5
    tilt = on_trial if tilted else rng.random(answers) < 0.5
    power = rng.random(answers) < np.where(tilt & (column == "plan"), 0.8, np.where(column == "plan", 0.2, 0.4))
    tools = np.where(tilt & (column == "tool"), rng.choice(4, answers, p=[0.6, 0.3, 0.05, 0.05]), rng.choice(4, answers))
    turns = rng.poisson(np.where(tilt & (column == "turns"), 1, 3)).astype(float)
    length = np.exp(rng.normal(4, 0.8, answers)) * np.where(tilt & (column == "length"), 0.6, 1.4)
    hour = np.where(tilt & (column == "hour"), rng.integers(6, 22, answers), rng.integers(0, 24, answers)).astype(float)
    easy = {
        "plan": 0.3 * power,
        "tool": -0.12 * tools,
        "turns": -0.07 * turns,
        "length": -0.12 * np.log(length),
        "hour": 0.25 * ((hour >= 8) & (hour < 20)),
    }[column]
    level = np.clip(0.7 + easy - easy.mean() - loss * on_trial, 0.02, 0.98)
    columns = (coded("plan", power.astype(int)), coded("tool", tools), LoggedColumn("turns", turns))
    more = (LoggedColumn("length", length), LoggedColumn("hour", hour))
    return Answers(on_trial.astype(int), (rng.random(answers) < level).astype(float), None, (*columns, *more))


@pytest.mark.parametrize("column", ["plan", "tool", "turns", "length", "hour"])
def test_a_canary_with_easier_traffic_is_seldom_promoted_while_it_loses_in_all_of_it(column: str) -> None:
    found = [find(uneven(column, s, answers=1500, loss=0.05), CanaryRule(0.05), history=False) for s in range(20)]
    assert sum(each.kind == "promote" for each in found) <= 2
    assert all(b.fate != "balanced" for each in found for b in each.balance if b.name == column)
    assert np.mean([each.loss.value or 0 for each in found]) == pytest.approx(0.05, abs=0.015)


def of_users(seed: int, *, users: int, loss: float, tilt: float, clustered: bool) -> Answers:
    """Users differ; what the canary answers depends on the user by `tilt`. Users are a column, or what answers are clustered by."""
    rng = np.random.default_rng([seed, users, 9])
    user, skill = rng.integers(0, users, 1500), rng.standard_normal(users)
    on_trial = rng.random(1500) < 1 / (1 + np.exp(-tilt * skill[user]))
    level = np.clip(0.7 + 0.15 * skill[user] - loss * on_trial, 0.02, 0.98)
    names = tuple(map(str, range(users)))
    column = LoggedColumn("user", codes=user, names=names, is_unit=clustered)
    score = (rng.random(1500) < level).astype(float)
    return Answers(on_trial.astype(int), score, user if clustered else None, (column,))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("users", [30, 150, 400])
def test_a_canary_that_answers_the_easier_users_is_not_promoted_while_it_loses(users: int, clustered: bool) -> None:
    """Users were told apart by the 23 commonest alone, and not at all where they were the clusters: all of 8 were promoted."""
    logs = [of_users(s, users=users, loss=0.05, tilt=1.5, clustered=clustered) for s in range(6)]
    assert all(find(each, CanaryRule(0.05), history=False).kind != "promote" for each in logs)


def test_users_of_few_answers_each_who_differ_a_little_wait_for_more() -> None:
    """At 200 answers of 150 users they lean for certain and are not shared enough to compare within: 5 of these 60 were promoted."""
    logs = [of_users(s, users=150, loss=0.05, tilt=1.5, clustered=False) for s in range(1000, 1060)]
    assert sum(find(each, CanaryRule(0.05), history=False).kind == "promote" for each in logs) <= 1


@pytest.mark.parametrize("clustered", [False, True])
def test_users_who_are_shared_by_chance_withhold_nothing(clustered: bool) -> None:
    logs = [of_users(s, users=150, loss=-0.1, tilt=0.0, clustered=clustered) for s in range(8)]
    found = [find(each, CanaryRule(0.05), history=False) for each in logs]
    assert all(each.kind == "promote" and not each.withheld for each in found)


def test_an_imbalance_of_hours_is_adjusted_for_after_two_hundred_answers() -> None:
    """Each of 24 hours has too few of them to be compared; five parts of the day have enough."""
    logs = [uneven("hour", s, answers=200, loss=0.05) for s in range(20)]
    found = [adjustment(a.columns, Sides(a.is_canary, a.score, a.first), look=29) for a in logs]
    assert sum("hour" in each.sharpened_by or "hour" in [b.name for b in each.of_fate("adjusted")] for each in found) >= 17


def test_a_small_canary_is_not_promoted_by_few_answers_that_happen_to_be_right() -> None:
    """Twenty answers of which all are right seem to have no scatter: 4 of these 200 canaries were promoted by that."""
    small = Traffic(answers=300, share=0.1, loss=0.04)
    assert verdicts(small, tolerance=0.02, alpha=0.05, seeds=200)["promote"] <= 2


def test_even_traffic_is_seldom_withheld_and_columns_cost_few_answers() -> None:
    logs = [uneven("plan", s, answers=3000, loss=-0.02, tilted=False) for s in range(20)]
    found = [find(each, CanaryRule(0.1), history=False) for each in logs]
    bare = [find(Answers(each.is_canary, each.score), CanaryRule(0.1), history=False) for each in logs]
    assert not any(each.withheld for each in found)
    taken, without = (np.median([each.decided_after or 3000 for each in some]) for some in (found, bare))
    assert taken <= 1.1 * without


@pytest.mark.parametrize(("loss", "kind"), [(0.1, "roll_back"), (0.0, "promote")])
def test_a_covariate_that_foretells_the_score_saves_three_answers_in_ten(loss: float, kind: str) -> None:
    """It foretells 41 % of what the scores scatter, which is the most that it can save; stopping times scatter, hence the seeds."""
    taken, without, right = [], [], 0
    for seed in range(30):
        rng = np.random.default_rng([seed, 8])
        arm, level = rng.integers(0, 2, 5000), rng.normal(size=5000)
        score = (level + 0.55 * rng.normal(size=5000) > -0.8).astype(float)
        score[(arm == 1) & (rng.random(5000) < loss)] = 0
        found = find(Answers(arm, score, None, (LoggedColumn("level", level),)), CanaryRule(0.05), history=False)
        taken.append(found.decided_after or 5000)
        without.append(find(Answers(arm, score), CanaryRule(0.05), history=False).decided_after or 5000)
        right += found.kind == kind
    assert np.median(taken) <= 0.7 * np.median(without)
    assert np.mean(taken) <= 0.7 * np.mean(without)
    assert right >= 28


def test_eight_metrics_of_which_seven_lie_at_their_limits_seldom_end_wrongly() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(40):
        rng = np.random.default_rng([seed, 9])
        arm = rng.integers(0, 2, 1200)
        costs = [Guard(f"cost {i}", rng.gamma(3, 1, 1200) * (1 + 0.1 * arm), 0.1, relative=True) for i in range(4)]
        rates = [Guard(f"rate {i}", (rng.random(1200) < 0.1 + 0.01 * arm).astype(float), 0.01) for i in range(3)]
        answers = Answers(arm, (rng.random(1200) < 0.8).astype(float), None, (), (*costs, *rates))
        kinds[find(answers, CanaryRule(0.05), history=False).kind] += 1
    assert kinds["wait"] >= 36


@pytest.mark.parametrize("loss", [0.0, 0.08])
def test_combinations_are_seldom_told_where_all_traffic_is_alike(loss: float) -> None:
    """Six columns of four values each: 240 pairs and 1,280 triples, of which none loses more than all does."""
    told = 0
    for seed in range(16):
        rng = np.random.default_rng([seed, 10])
        arm = rng.integers(0, 2, 3000)
        columns = tuple(coded(f"column {i}", rng.integers(0, 4, 3000)) for i in range(6))
        answers = Answers(arm, (rng.random(3000) < 0.85 - loss * arm).astype(float), None, columns)
        frame = Frame(arm, np.zeros((3000, 0)), np.arange(3000) // 50)
        told += any(part.proved and len(part.where) > 1 for part in slice_losses(answers, frame))
    assert told <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_wrong_verdicts_at_the_default_alpha(name: str) -> None:
    from dataclasses import replace

    null = replace(NULLS[name], answers=3000)
    assert verdicts(null, tolerance=0.02, alpha=0.05, seeds=500)["roll_back"] <= most(0.05, 500)
    worse = replace(null, loss=0.08)
    assert verdicts(worse, tolerance=0.08, alpha=0.05, seeds=500)["promote"] <= most(0.05, 500)
