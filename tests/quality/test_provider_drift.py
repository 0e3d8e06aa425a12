"""A provider that gets worse while the run goes on: trials are spread over time at random, so no axis is blamed for it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

import bisect_ai

AXES = ("prompt", "model", "corpus", "tools")
SPAN = 1_200
"""Calls after which the provider is as bad as it gets."""


def blamed(seed: int, *, cause: float, worse: float, design: str = "adaptive") -> tuple[str, ...]:
    """The axes named as cause. The bad prompt fails a share `cause` of queries, chance a share of answers that grows up to `worse`."""
    rng, queries = random.Random(seed), range(250)
    hard, hit, calls = [rng.random() < 0.15 for _ in queries], [rng.random() < cause for _ in queries], itertools.count()

    def target(query: Any, release: Any) -> str:
        number, fault = next(calls), int(query.id)
        late = worse * min(number / SPAN, 1.0)
        wrong = hard[fault] or (release["prompt"] == "bad" and hit[fault]) or random.Random(f"{seed} {number}").random() < late
        return "wrong" if wrong else "right"

    verdict = bisect_ai.run(
        good=dict.fromkeys(AXES, "good"),
        bad=dict.fromkeys(AXES, "bad"),
        queries=[{"id": str(i), "input": f"question {i}"} for i in queries],
        target=target,
        scorers={"correct": lambda query, answer: answer.text == "right"},
        metric="correct",
        tolerance=0.03,
        budget={"calls": 1_500},
        design=design,
        drill=False,
        seed=seed,
    ).verdict
    return tuple(sorted(axis for cause in verdict.causes for axis in cause.axes)) if verdict.kind == "cause" else ()


@pytest.mark.parametrize("design", ["adaptive", "full"])
@pytest.mark.parametrize("worse", [0.3, 0.6])
def test_no_axis_is_blamed_for_a_provider_that_gets_worse(design: str, worse: float) -> None:
    assert [blamed(seed, cause=0.0, worse=worse, design=design) for seed in range(3)] == [()] * 3


def test_the_cause_is_named_all_the_same() -> None:
    found = [blamed(seed, cause=0.25, worse=0.3) for seed in range(8)]
    assert set(found) <= {("prompt",), ()} and found.count(("prompt",)) >= 7


@pytest.mark.slow
@pytest.mark.parametrize("design", ["adaptive", "full"])
@pytest.mark.parametrize(("cause", "worse"), [(0.0, 0.3), (0.0, 0.6), (0.2, 0.3), (0.2, 0.6)])
def test_innocent_axes_are_blamed_in_5_of_100_at_most(cause: float, worse: float, design: str) -> None:
    seen = Counter(blamed(seed, cause=cause, worse=worse, design=design) for seed in range(100))
    assert 100 - seen[()] - (seen["prompt",] if cause else 0) <= 5, seen
