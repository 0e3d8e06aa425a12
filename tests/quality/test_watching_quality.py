"""What watching promises: drift named in few calls and seldom without cause; the onset's interval covers and is narrow.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem
from bisect_ai.attribution.questions.drift import DriftFinding, DriftRule, DriftSearch, mean_loss
from bisect_ai.attribution.stats.change_points import find_onset


def checked(*, breaks: float, mends: float, seed: int, queries: int = 1000) -> tuple[DriftFinding, int]:
    """A check of a release that breaks some of the queries that passed then, and mends some that did not."""
    rng = np.random.default_rng([seed, 4])
    then = (rng.random(queries) < 0.8).astype(float)
    moved = rng.random(queries)
    now = np.where(then == 1, moved >= breaks / 0.8, moved < mends / 0.2).astype(float)
    search = DriftSearch(Problem(axes=(), queries=queries, budget=queries, tolerance=0.02), DriftRule(tuple(then.tolist())))
    calls = 0
    while trials := search.ask(16):
        calls += len(trials)
        search.tell([Outcome(trial, float(now[trial.query])) for trial in trials])
    return search.finding(), calls


@pytest.mark.parametrize(("breaks", "mends"), [(0.1, 0.0), (0.12, 0.02)])
def test_ten_points_of_drift_are_named_in_few_calls(breaks: float, mends: float) -> None:
    found = [checked(breaks=breaks, mends=mends, seed=s) for s in range(100)]
    assert sum(each.kind == "drift" for each, _ in found) >= 95
    assert np.median([calls for _, calls in found]) <= 200


@pytest.mark.parametrize("churn", [0.0, 0.02, 0.05])
def test_churn_is_seldom_called_drift(churn: float) -> None:
    assert sum(checked(breaks=churn, mends=churn, seed=s)[0].kind == "drift" for s in range(200)) <= 13


def test_the_interval_of_a_drift_says_what_the_verdict_says() -> None:
    """A drift was proved beside an interval of its loss from -1.6 to 17.6 points."""
    for breaks, mends in ((0.1, 0.0), (0.12, 0.02), (0.05, 0.05)):
        found = [checked(breaks=breaks, mends=mends, seed=s)[0] for s in range(60)]
        ends = [each.loss.interval or (math.nan, math.nan) for each in found]
        assert all((low > 0) == (each.kind == "drift") for (low, _), each in zip(ends, found, strict=True))
        assert sum(low <= breaks - mends <= high for low, high in ends) >= 54


@pytest.mark.parametrize("moved", [1.0, 0.0, -1.0])
def test_scores_that_all_move_alike_have_an_interval(moved: float) -> None:
    low, high = mean_loss(np.full(40, moved), 0.1).interval or (math.nan, math.nan)
    assert -1 <= low <= moved <= high <= 1
    assert high - low < 1.2


def logs(seeds: int, *, loss: float, answers: int) -> Iterator[tuple[np.ndarray[tuple[int], np.dtype[np.float64]], int]]:
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        step = int(rng.uniform(0.1, 0.9) * answers)
        level = np.where(np.arange(answers) < step, 0.85, 0.85 - loss)
        yield (rng.random(answers) < level).astype(float), step


def test_the_interval_of_an_onset_covers_it_and_is_narrow() -> None:
    found = [(find_onset(scores), step) for scores, step in logs(150, loss=0.1, answers=10_000)]
    assert all(each is not None and each.evidence >= math.log(20) for each, _ in found)
    assert sum(each is not None and each.low <= step <= each.high for each, step in found) >= 0.95 * 150
    assert np.median([(each.high - each.low) / each.n for each, _ in found if each is not None]) <= 0.05


def test_no_onset_is_seldom_called_one() -> None:
    found = [find_onset(scores) for scores, _ in logs(200, loss=0.0, answers=2000)]
    assert sum(each is not None and each.evidence >= math.log(20) for each in found) <= 10
