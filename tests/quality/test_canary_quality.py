"""The canary's promises, looked at as the log grows: wrong verdicts at most alpha, whatever the traffic does; its power.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.questions.canary import find
from bisect_ai.attribution.questions.canary_findings import CanaryFinding
from bisect_ai.attribution.questions.canary_looks import Answers, CanaryRule

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


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_wrong_verdicts_at_the_default_alpha(name: str) -> None:
    from dataclasses import replace

    null = replace(NULLS[name], answers=3000)
    assert verdicts(null, tolerance=0.02, alpha=0.05, seeds=500)["roll_back"] <= most(0.05, 500)
    worse = replace(null, loss=0.08)
    assert verdicts(worse, tolerance=0.08, alpha=0.05, seeds=500)["promote"] <= most(0.05, 500)
