"""Scores that an application gives its own answers: they decide without a scorer."""

from __future__ import annotations

import json
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import BisectError, ConfigError
from bisect_ai.targets.answer import Answer, as_answer
from bisect_ai.targets.http_target import read_answer

QUERIES = [{"id": f"q{i}", "input": str(i)} for i in range(120)]


def run(scores: Any, **more: Any) -> bisect_ai.Result:
    """A run whose prompt makes every third answer score 0."""

    def target(query: Any, release: Any) -> Any:
        wrong = release["prompt"] == "new" and int(query.input) % 3 == 0
        return {"text": "x", "scores": scores(0 if wrong else 1)}

    sides = {"good": {"prompt": "old", "model": "a"}, "bad": {"prompt": "new", "model": "b"}}
    return bisect_ai.run(**sides, queries=QUERIES, target=target, budget={"calls": 480}, **more)


def test_the_only_score_of_the_answers_decides() -> None:
    result = run(lambda value: {"correct": value})
    assert [c.axes for c in result.verdict.causes] == [("prompt",)]


def test_metric_names_one_of_several_and_others_are_scorers_of_kind_answer() -> None:
    result = run(lambda value: {"correct": value, "style": 1 - value / 2}, metric="correct")
    assert [c.axes for c in result.verdict.causes] == [("prompt",)]
    assert result.report["metric"] == "correct"
    both = [{"kind": "answer", "name": "ok", "score": "correct"}, {"kind": "answer", "name": "style"}]
    named = run(lambda value: {"correct": value, "style": 1}, scorers=[both[0], {**both[1], "score": "style"}], metric="ok")
    assert [c.axes for c in named.verdict.causes] == [("prompt",)]


def test_several_scores_without_a_metric_stop_the_run_after_ten_answers() -> None:
    with pytest.raises(BisectError, match=r"not one score: it has 'a', 'b'; name one of its scores as `metric`"):
        run(lambda value: {"a": value, "b": value})
    with pytest.raises(BisectError, match=r"no score 'correct': it brought no `scores`"):
        run(lambda value: None, metric="correct")


def test_answers_of_a_model_bring_none() -> None:
    with pytest.raises(ConfigError, match="the key 'scorers' is missing"):
        bisect_ai.run(good={"model": "a"}, bad={"model": "b"}, queries=QUERIES, target={"kind": "litellm"})


def test_scores_of_services_and_programs_are_numbers_and_kept_with_the_answer() -> None:
    answer = read_answer(json.loads('{"text": "x", "scores": {"ok": true, "part": 0.5, "none": null}}'))
    assert answer.scores == {"ok": 1.0, "part": 0.5, "none": None}
    assert Answer.from_dict(answer.to_dict()) == answer
    assert read_answer({"scores": {"ok": 1}}).outcome == "ok"
    for wrong in ({"ok": "good"}, {"ok": float("nan")}, {"ok": 1e308}, ["ok"]):
        with pytest.raises(ValueError, match="the answer's score"):
            read_answer({"text": "x", "scores": wrong})
        with pytest.raises(ValueError, match="the answer's score"):
            as_answer({"text": "x", "scores": wrong})
