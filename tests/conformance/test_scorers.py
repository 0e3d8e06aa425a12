"""The suite that every scorer passes: what a score is, when there is none, and what a digest tells apart."""
# ruff: noqa: RUF012 - each suite is a table of constants

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from bisect_ai.provider.usage import Usage
from bisect_ai.queries.query import Query
from bisect_ai.scoring.scorer import SCORABLE, Score, Scorer, score_answer
from bisect_ai.scoring.scorers import KINDS, build_scorers
from bisect_ai.targets.answer import Answer, ToolCall
from tests.faults.judges import Embeds, StandIn, honest

HOSTILE = [
    "",
    "\0\ud800\u202e",
    "9" * 5_000,
    "1e999",
    "NaN",
    "[" * 5_000,
    '{"a": 1, "a": 2}',
    "-" * 500 + "." * 500,
    "a" * 100_000,
    "1," * 5_000,
    "\u2212" * 10,
    "<script>{{x}}</script>",
]


def by_module(query: Query, answer: Answer) -> float:
    return float(len(answer.text) < 5)


class ScorerSuite:
    """What holds of every scorer. A subclass names its settings, a query, an answer, and the score they give."""

    settings: dict[str, Any]
    other_settings: dict[str, Any]
    query: dict[str, Any] = {}
    answer: Answer = Answer(text="yes")
    score: float

    def build(self, **changes: Any) -> Scorer:
        (scorer,) = build_scorers([{**self.settings, **changes}]).values()
        return scorer

    def asked(self, **columns: Any) -> Query:
        return Query({"id": "q", "input": "?", **self.query, **columns})

    def test_it_gives_its_score(self) -> None:
        assert score_answer(self.build(), self.asked(), self.answer) == Score(self.score)

    def test_the_score_is_a_number_within_bounds(self) -> None:
        scorer = self.build()
        value = score_answer(scorer, self.asked(), self.answer).value
        assert type(value) is float and math.isfinite(value)
        assert scorer.bounded is None or scorer.bounded[0] <= value <= scorer.bounded[1]

    def test_it_is_the_same_twice(self) -> None:
        scorer = self.build()
        assert score_answer(scorer, self.asked(), self.answer) == score_answer(scorer, self.asked(), self.answer)

    def test_a_failure_of_infrastructure_is_no_score(self) -> None:
        assert score_answer(self.build(), self.asked(), replace(self.answer, error="Timeout: 30 s")) == Score(None)

    @pytest.mark.parametrize("outcome", ["filtered", "empty", "max_steps"])
    def test_an_answer_without_content_is_not_right(self, outcome: str) -> None:
        scorer = self.build()
        got = score_answer(scorer, self.asked(), replace(self.answer, outcome=outcome))
        lowest = scorer.bounded[0] if scorer.bounded else None
        assert got == (Score(lowest) if scorer.content else Score(self.score))
        assert outcome not in SCORABLE

    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_text_ends_in_a_score_or_one_line(self, text: str) -> None:
        odd = {"reference": text or None, "input": text}
        for query in (self.asked(), self.asked(**odd)):
            got = score_answer(self.build(), query, replace(self.answer, text=text))
            assert got.value is None or math.isfinite(got.value)
            assert got.error is None or (got.error.isprintable() and len(got.error) <= 200)

    def test_the_digest_tells_settings_apart_and_not_names(self) -> None:
        digest = self.build().digest
        assert digest is not None and len(digest) == 64
        assert self.build(name="another").digest == self.build().digest
        (other,) = build_scorers([self.other_settings]).values()
        assert other.digest != digest

    def test_an_unknown_key_is_refused(self) -> None:
        from bisect_ai.errors import ConfigError

        with pytest.raises(ConfigError, match="unknown key 'colour'"):
            self.build(colour=1)

    def test_it_says_what_its_numbers_mean(self) -> None:
        scorer = self.build()
        assert isinstance(scorer.higher_is_better, bool) and scorer.unit


class TestExact(ScorerSuite):
    settings = {"kind": "exact"}
    other_settings = {"kind": "exact", "ignore_case": True}
    query = {"reference": "yes"}
    score = 1.0


class TestContains(ScorerSuite):
    settings = {"kind": "contains", "mode": "any"}
    other_settings = {"kind": "contains", "mode": "all"}
    query = {"reference": ["no", "es"]}
    score = 1.0


class TestRegex(ScorerSuite):
    settings = {"kind": "regex", "pattern": "^y.s$"}
    other_settings = {"kind": "regex", "pattern": "^y.s"}
    score = 1.0


class TestNumeric(ScorerSuite):
    settings = {"kind": "numeric", "abs": 0.5}
    other_settings = {"kind": "numeric", "abs": 0.6}
    query = {"reference": 12}
    answer = Answer(text="It is 3 + 9 = 12.4")
    score = 1.0


class TestJsonSchema(ScorerSuite):
    settings = {"kind": "json_schema", "schema": {"type": "object", "required": ["a"]}}
    other_settings = {"kind": "json_schema", "schema": {"type": "object"}}
    answer = Answer(text=json.dumps({"a": 1}))
    score = 1.0


class TestJsonFields(ScorerSuite):
    settings = {"kind": "json_fields"}
    other_settings = {"kind": "json_fields", "fields": ["a"]}
    query = {"reference": {"a": 1, "b": {"c": [2], "d": "x"}}}
    answer = Answer(text=json.dumps({"a": 1.0, "b": {"c": [2], "d": "y"}, "e": 0}))
    score = 2 / 3


class TestJsonKeys(ScorerSuite):
    settings = {"kind": "json_keys", "keys": ["customer_id", "items", "items[].price"]}
    other_settings = {"kind": "json_keys", "keys": ["customer_id"]}
    answer = Answer(text=json.dumps({"customerId": 7, "items": [{"price": 3}, {"price": 4}]}))
    score = 0.5


class TestRougeL(ScorerSuite):
    settings = {"kind": "rouge_l"}
    other_settings = {"kind": "rouge_l", "measure": "recall"}
    query = {"reference": ["the cat sat on the mat", "dogs"]}
    answer = Answer(text="The cat lay on the mat today.")
    score = 0.7692307692307693  # rouge-score 0.1.2 gives 0.7692307692307692


class TestRefusal(ScorerSuite):
    settings = {"kind": "refusal"}
    other_settings = {"kind": "refusal", "patterns": ["nope"]}
    answer = Answer(text="I\u2019m sorry, but I can\u2019t share that.")
    score = 1.0

    @pytest.mark.parametrize("outcome", ["filtered", "empty"])
    def test_an_answer_without_content_is_not_right(self, outcome: str) -> None:
        got = score_answer(self.build(), self.asked(), Answer(text="", outcome=outcome))
        assert got == Score(float(outcome == "filtered"))  # what a filter took was refused


class TestEscalation(ScorerSuite):
    settings = {"kind": "escalation", "tools": ["open_ticket"]}
    other_settings = {"kind": "escalation"}
    answer = Answer(text="Done.", tool_calls=(ToolCall("open_ticket"),))
    score = 1.0


class TestRetrievalHit(ScorerSuite):
    settings = {"kind": "retrieval_hit", "expected": "article", "k": 2}
    other_settings = {"kind": "retrieval_hit", "expected": "article", "k": 1}
    query = {"article": ["a-7", "a-8"]}
    answer = Answer(documents=({"id": "a-1", "text": "x"}, {"id": "a-8", "text": "y"}))
    score = 1.0


class TestCitation(ScorerSuite):
    settings = {"kind": "citation"}
    other_settings = {"kind": "citation", "required": False}
    answer = Answer(text="See [a-1] and [a-9].", documents=({"id": "a-1", "text": "x"},))
    score = 0.5


class TestToolOrder(ScorerSuite):
    settings = {"kind": "tool_order", "expected": "calls"}
    other_settings = {"kind": "tool_order"}
    query = {"calls": ["find", "check", "send"]}
    answer = Answer(tool_calls=(ToolCall("check"), ToolCall("find"), ToolCall("send")))
    score = 2 / 3


class TestRepeatedCalls(ScorerSuite):
    settings = {"kind": "repeated_calls"}
    other_settings = {"kind": "steps"}
    answer = Answer(tool_calls=(ToolCall("find", {"a": 1}), ToolCall("find", {"a": 2}), ToolCall("find", {"a": 1})))
    score = 1.0


class TestSteps(ScorerSuite):
    settings = {"kind": "steps"}
    other_settings = {"kind": "repeated_calls"}
    answer = Answer(steps=3)
    score = 3.0


class TestToolCall(ScorerSuite):
    settings = {"kind": "tool_call", "expected": "call"}
    other_settings = {"kind": "tool_call", "expected": "call", "arguments": "subset"}
    query = {"call": {"name": "find", "arguments": {"id": 1}}}
    answer = Answer(tool_calls=(ToolCall("find", {"id": 1}),))
    score = 1.0


class TestLength(ScorerSuite):
    settings = {"kind": "length", "unit": "words"}
    other_settings = {"kind": "length"}
    answer = Answer(text="three words  here")
    score = 3.0


class TestCost(ScorerSuite):
    settings = {"kind": "cost"}
    other_settings = {"kind": "latency"}
    answer = Answer(usage=Usage(usd=0.25))
    score = 0.25


class TestLatency(ScorerSuite):
    settings = {"kind": "latency"}
    other_settings = {"kind": "cost"}
    answer = Answer(latency_s=1.5)
    score = 1.5


class TestBrought(ScorerSuite):
    settings = {"kind": "answer", "score": "ok"}
    other_settings = {"kind": "answer"}
    answer = Answer(text="yes", scores={"ok": 0.5, "style": 1.0})
    score = 0.5


class TestPython(ScorerSuite):
    settings = {"kind": "python", "function": by_module}
    other_settings = {"kind": "python", "function": by_module, "higher_is_better": False}
    score = 1.0


class TestJudge(ScorerSuite):
    settings = {"kind": "judge", "model": "stand/j", "custom_providers": {"stand": StandIn(honest)}}
    other_settings = {**settings, "rubric": "Is it kind?"}
    answer = Answer(text="right")
    score = 1.0


class TestEmbedding(ScorerSuite):
    settings = {"kind": "embedding", "model": "vectors/e", "custom_providers": {"vectors": Embeds()}}
    other_settings = {**settings, "expected": "output"}
    query = {"reference": "yes"}
    score = 1.0

    def test_it_gives_its_score(self) -> None:
        got = score_answer(self.build(), self.asked(), Answer(text="yyyy"))
        assert got.value == pytest.approx(3**-0.5)


def test_every_kind_passes_the_suite() -> None:
    assert {suite.settings["kind"] for suite in ScorerSuite.__subclasses__()} == set(KINDS)
