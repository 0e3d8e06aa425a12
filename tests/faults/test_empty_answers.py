"""Answers with nothing in them: no text, no tool call, no document. What they score is no verdict on two releases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import bisect_ai

QUERIES = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(300)]
Says = Callable[[Any, Mapping[str, Any]], Any]


def run(target: Says, *, scorers: Any = None, queries: Any = None, **more: Any) -> bisect_ai.Result:
    study: dict[str, Any] = {
        "good": {"prompt": "old", "model": "a"},
        "bad": {"prompt": "new", "model": "b"},
        "queries": queries or QUERIES,
        "target": target,
        "scorers": scorers or [{"kind": "exact", "name": "correct"}],
        "budget": {"calls": 1200},
        "drill": False,
    }
    return bisect_ai.run(**{**study, **more})


def warned(result: bisect_ai.Result) -> list[str]:
    return [line for line in result.to_dict()["warnings"] if line.startswith("nearly every answer is empty")]


@pytest.mark.parametrize("design", ["adaptive", "full"])
@pytest.mark.parametrize("empty", ["", " \n", {"text": ""}, {"text": "", "outcome": "empty"}], ids=repr)
def test_releases_that_both_say_nothing_are_no_verdict_and_soon_told(empty: Any, design: str) -> None:
    result = run(lambda query, release: empty, design=design)
    assert result.verdict.kind == "inconclusive"
    assert "nearly every answer is empty (no text, no tool call) under both releases" in result.verdict.sentence
    assert "another `store`" in result.verdict.sentence
    assert warned(result)
    assert result.usage.calls <= 400  # of 1,200: 40 answers of each release are enough


def test_a_scorer_that_likes_nothing_does_not_make_it_a_verdict() -> None:
    result = run(lambda query, release: "", scorers=[{"kind": "length", "name": "length"}])
    assert result.verdict.kind == "inconclusive"


def test_few_answers_in_twenty_do_not_make_it_one() -> None:
    result = run(lambda query, release: "yes" if query.id.endswith("00") else "", queries=QUERIES[:60])
    assert "nearly every answer is empty" in result.verdict.sentence


def test_a_release_that_says_nothing_is_a_cause_and_told() -> None:
    result = run(lambda query, release: "" if release["prompt"] == "new" else "yes")
    assert [tuple(cause.axes) for cause in result.verdict.causes] == [("prompt",)]
    assert "of the bad release" in warned(result)[0]
    assert "of the good release" not in warned(result)[0]


@pytest.mark.parametrize(
    "says",
    [
        lambda query, release: "yes",
        lambda query, release: "" if int(query.id[1:]) % 5 else "yes",
        lambda query, release: {"text": "", "tool_calls": [{"name": "get", "arguments": {}}]},
        lambda query, release: {"text": "", "documents": ["a"]},
    ],
    ids=["text", "four in five", "tool calls", "documents"],
)
def test_answers_with_something_in_them_are_as_they_were(says: Says) -> None:
    result = run(says, queries=QUERIES[:100])
    assert result.verdict.kind == "no_regression"
    assert not warned(result)


def test_calls_that_failed_are_not_empty_answers() -> None:
    def fails(query: Any, release: Any) -> str:
        raise OSError("away")

    with pytest.raises(bisect_ai.BisectError, match="away"):
        run(fails)


def test_who_insists_goes_on_and_still_gets_no_verdict() -> None:
    stopped, insisted = (run(lambda query, release: "", design="full", keep_going=going) for going in (False, True))
    assert insisted.verdict.kind == "inconclusive"
    assert insisted.usage.calls > stopped.usage.calls
