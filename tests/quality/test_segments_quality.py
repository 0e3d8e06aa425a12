"""A loss confined to a slice is found and named; where none is planted, none is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bisect_ai
from bisect_ai.attribution.questions.segments import Condition, Paired, find_slices

SLICE = {("intent", "refund"), ("channel", "app")}


def planted(seed: int, *, n: int = 800, loss: float = 0.4, uniform: float = 0.0, noise: float = 0.05, users: int = 0) -> Any:
    """Conditions of three columns and 30 words, and scores that flip in `noise` of runs; the slice holds 6 % of the queries."""
    rng = np.random.default_rng([seed, 21])
    cluster = np.arange(n) if not users else rng.integers(0, users, n)
    of_user = rng.random(int(cluster.max()) + 1)
    columns = {
        "intent": rng.choice(["refund", "order", "login", "invoice", "other"], n),
        "channel": rng.choice(["app", "web", "phone"], n, p=[0.3, 0.4, 0.3]),
        "plan": rng.choice(["free", "team", "pro"], n),
    }
    facts = [Condition(c, f"{c} = {v}", v, column == v) for c, column in columns.items() for v in sorted(set(column))]
    facts += [Condition("input", f"has w{i}", f"w{i}", rng.random(n) < rng.uniform(0.03, 0.4)) for i in range(30)]
    hit = (columns["intent"] == "refund") & (columns["channel"] == "app")
    passes = rng.random(n) < (0.85 if not users else 0.5 + 0.5 * of_user[cluster])
    broken = rng.random(n) < np.where(hit, loss, uniform) / 0.85
    good, bad = (np.where(rng.random(n) < noise, rng.random(n) < 0.5, p).astype(float) for p in (passes, passes & ~broken))
    return facts, Paired(good, bad, np.ones(n), cluster)


def found(seed: int, **how: Any) -> list[set[tuple[str, Any]]]:
    facts, paired = planted(seed, **how)
    return [set(s.where.items()) for s in find_slices(facts, paired, tolerance=0.02, alpha=0.05, seed=seed)]


def test_a_slice_that_loses_40_points_is_named_in_18_of_20() -> None:
    assert sum(SLICE in found(seed) for seed in range(20)) >= 18


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_slice_is_named_in_90_of_100_seeds(noise: float) -> None:
    assert sum(SLICE in found(seed, noise=noise) for seed in range(100)) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"uniform": 0.1}, {"noise": 0.0, "uniform": 0.1}, {"users": 60}, {"n": 200}])
def test_false_slices_are_rare(how: dict[str, Any]) -> None:
    assert sum(bool(found(seed, loss=how.get("uniform", 0.0), **how)) for seed in range(100)) <= 5


def test_with_nothing_planted_hardly_ever_a_slice() -> None:
    assert sum(bool(found(seed, loss=0.0)) for seed in range(15)) <= 2


def test_a_run_names_the_slice_although_the_loss_is_small() -> None:
    rng = np.random.default_rng(5)
    intents = rng.choice(["refund", "order", "login", "invoice", "other"], 900)
    channels, luck = rng.choice(["app", "web", "tel"], 900), rng.random(900)
    asked = [{"id": f"q{i}", "input": f"question {i}"} for i in range(900)]
    rows = [
        {**row, "intent": str(intent), "channel": str(channel), "luck": float(chance)}
        for row, intent, channel, chance in zip(asked, intents, channels, luck, strict=True)
    ]

    def answer(query: Any, release: Any) -> str:
        hit = query["intent"] == "refund" and query["channel"] == "app" and release["prompt"] == "b"
        return "right" if query["luck"] < (0.45 if hit else 0.87) else "wrong"

    result = bisect_ai.run(
        good={"prompt": "a", "model": "x"},
        bad={"prompt": "b", "model": "y"},
        queries=rows,
        target=answer,
        scorers={"correct": lambda query, answer: answer.text == "right"},
        log={"sample": None, "segment": "intent"},
        tolerance=0.06,
        budget={"calls": 2000},
        design="full",
        drill=False,
    )
    assert result.verdict.kind == "no_regression"
    assert "the queries with channel = app and intent = refund" in result.verdict.sentence
    table = result.segments
    assert set(table.found_by) == {"given", "search"} and (table.groupby("found_by").size()["given"]) == 5
    worst = table[table.found_by == "given"].iloc[0]
    assert worst["name"] == "intent = refund" and worst.low > 0 and worst.p_adjusted < 0.05
