"""Failures that depend on the release: the loss of the answers that are left has the wrong sign, the bounds have not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bisect_ai
from bisect_ai.attribution.stats.missing import Bounds, bound_loss

N, EASY, FAILS = 400, 0.7, 0.35


def scenario(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Scores of good and bad (NaN: timed out), and the true loss with time-outs as wrong answers.

    The bad release answers easy questions a little better and loses the hard ones, which it also mostly fails to answer in
    time: of the answers that come back its mean is 8.9 points above the good release's.
    """
    rng = np.random.default_rng([seed, 31])
    easy = rng.random(N) < EASY
    level = np.where(easy, 0.80, 0.75), np.where(easy, 0.889, 0.30)
    late = ~easy & (rng.random(N) < 0.95)
    good, bad = ((rng.random(N) < p).astype(float) for p in level)
    truth = EASY * (0.80 - 0.889) + (1 - EASY) * (0.75 - 0.05 * 0.30)
    return good, np.where(late, np.nan, bad), truth


def bounds(seed: int) -> Bounds:
    good, bad, _ = scenario(seed)
    found = bound_loss(good, bad, lowest=0.0, highest=1.0, weights=np.ones(N), clusters=np.arange(N), population=float("inf"))
    assert found is not None
    return found


def test_the_answers_that_are_left_mislead() -> None:
    left = np.mean([np.nanmean(bad - good) for good, bad, _ in map(scenario, range(100))])
    assert left == pytest.approx(0.08, abs=0.02)  # the release that is worse looks better


def test_the_sign_is_right_and_the_interval_covers() -> None:
    truth = scenario(0)[2]
    found = [bounds(seed) for seed in range(300)]
    assert truth > 0.1 and all((b.composite.value or 0.0) > 0 for b in found)
    assert np.mean([b.interval[0] <= truth <= b.interval[1] for b in found]) >= 0.93
    inside = [b.composite.interval for b in found]
    assert np.mean([i is not None and i[0] <= truth <= i[1] for i in inside]) >= 0.93


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_few_failures_by_chance_need_no_bounds(share: float) -> None:
    rng = np.random.default_rng(3)
    needed = 0
    for _ in range(50):
        sides = [np.where(rng.random(N) < share, np.nan, rng.random(N) < 0.8) for _ in range(2)]
        how = {"lowest": 0.0, "highest": 1.0, "population": float("inf")}
        needed += bound_loss(*sides, weights=np.ones(N), clusters=np.arange(N), **how) is not None
    assert needed <= 10


def test_a_run_does_not_call_a_release_fine_whose_failures_are_the_loss() -> None:
    def answer(query: Any, release: Any) -> str:
        if release["model"] == "n" and int(query.id[1:]) % 10 < 3 and int(query.id[1:]) % 20 != 2:
            raise TimeoutError("late")
        return "right"

    result = bisect_ai.run(
        good={"prompt": "a", "model": "m"},
        bad={"prompt": "b", "model": "n"},
        queries=[{"id": f"q{i}", "input": f"question {i}"} for i in range(200)],
        target=answer,
        scorers={"correct": lambda query, answer: answer.text == "right"},
        budget={"calls": 800},
        design="full",
        drill=False,
    )
    loss = result.report["loss"]
    assert [c.axes for c in result.verdict.causes] == [("model",)]
    assert "model alone makes answers fail: 25 % of them, 0 % with it reverted" in result.verdict.sentence
    assert loss["estimate"] == pytest.approx(0.25) and loss["interval"][0] > 0 and loss["bounds"][0] <= 0
    rows = {row["name"]: row for row in result.report["side_metrics"]}
    assert rows["failed"]["bad"] == pytest.approx(0.25) and rows["length"]["change"] == 0


def test_side_metrics_are_told_unasked_and_by_axis() -> None:
    def answer(query: Any, release: Any) -> dict[str, Any]:
        text = "a long answer" if release["prompt"] == "b" else "short"
        calls = [{"name": "find", "arguments": {}}] * (2 if release["model"] == "n" else 1)
        return {"text": text, "tool_calls": calls, "usage": {"input_tokens": 9, "output_tokens": 1, "usd": 0.001}}

    result = bisect_ai.run(
        good={"prompt": "a", "model": "m"},
        bad={"prompt": "b", "model": "n"},
        queries=[{"id": f"q{i}", "input": f"question {i}", "luck": i % 3} for i in range(60)],
        target=answer,
        scorers={"correct": lambda query, answer: query["luck"] > 0 or answer.text == "short"},
        budget={"calls": 240},
        design="full",
        drill=False,
    )
    rows = {row["name"]: row for row in result.report["side_metrics"]}
    assert {"length", "refusal", "cost", "latency", "tokens", "requests", "calls of find"} <= set(rows)
    assert rows["calls of find"]["good"] == 1 and rows["calls of find"]["bad"] == 2
    by_axis = {e["axis"]: e["estimate"] for e in rows["length"]["effects"]}
    assert by_axis == {"prompt": pytest.approx(8), "model": pytest.approx(0)}
    assert result.verdict.causes[0].axes == ("prompt",)
