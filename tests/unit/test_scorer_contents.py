"""Scorers of JSON, refusals, hand-overs, documents and words, on answers that people and models write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bisect_ai.errors import ConfigError
from bisect_ai.queries.query import Query
from bisect_ai.scoring.scorer import score_answer
from bisect_ai.scoring.scorers import build_scorers
from bisect_ai.targets.answer import Answer


def score(settings: dict[str, Any], answer: Answer | str, **columns: Any) -> float | None:
    (scorer,) = build_scorers([settings]).values()
    given = Answer(text=answer) if isinstance(answer, str) else answer
    found = score_answer(scorer, Query({"id": "q", "input": "?", **columns}), given)
    assert found.error is None, found.error
    return found.value


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot share account details.",
        "I am unable to assist with this request.",
        "As an AI language model, I cannot give medical advice.",
        "I must decline.",
    ],
)
def test_refusals_are_seen(text: str) -> None:
    assert score({"kind": "refusal"}, text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry about the delay. Your parcel arrives tomorrow.",
        "You can't return opened goods, but unopened ones within 14 days.",
        "",
        "Refunds take 14 days. " * 30 + "I cannot help with anything else.",
    ],
)
def test_what_only_sounds_like_a_refusal_is_none(text: str) -> None:
    assert score({"kind": "refusal"}, text) == 0.0


def test_a_pattern_of_ones_own_is_added() -> None:
    assert score({"kind": "refusal", "patterns": ["leider nicht"]}, "Das kann ich leider nicht.") == 1.0
    with pytest.raises(ConfigError, match="not a regular expression"):
        build_scorers([{"kind": "escalation", "patterns": ["("]}])


def test_hand_overs_are_seen_in_words() -> None:
    assert score({"kind": "escalation"}, "Let me connect you to one of our human agents.") == 1.0
    assert score({"kind": "escalation"}, "Your agent is the user agent string of the browser.") == 0.0


def test_a_renamed_output_key_is_drift() -> None:
    wanted = {"order": {"customer_id": 7, "lines": [{"sku": "a"}]}}
    assert score({"kind": "json_keys"}, json.dumps(wanted), reference=wanted) == 1.0
    renamed = {"order": {"customerId": 7, "lines": [{"sku": "a"}]}}
    assert score({"kind": "json_keys"}, json.dumps(renamed), reference=wanted) == 3 / 5
    assert score({"kind": "json_keys"}, "no JSON at all", reference=wanted) == 0.0
    assert score({"kind": "json_keys"}, f"```json\n{json.dumps(wanted)}\n```", reference=wanted) == 1.0


def test_fields_that_the_log_does_not_expect_are_no_score() -> None:
    assert score({"kind": "json_fields", "fields": ["b"]}, '{"b": 1}', reference={"a": 1}) is None
    assert score({"kind": "json_fields"}, '{"a": 1}') is None


def test_documents_are_found_by_id_or_text() -> None:
    retrieved = Answer(documents=({"id": "a-1", "text": "Refunds arrive\nwithin 14 days."}, "plain text"))
    by_text = {"kind": "retrieval_hit", "by": "text"}
    assert score(by_text, retrieved, reference="14 days") == 1.0
    assert score({"kind": "retrieval_hit", "mode": "all"}, retrieved, reference=["a-1", "a-2"]) == 0.0
    assert score({"kind": "retrieval_hit"}, Answer(), reference="a-1") == 0.0


def test_rouge_l_agrees_with_the_reference_implementation() -> None:
    # rouge-score 0.1.2, RougeScorer(["rougeL"], use_stemmer=False)
    pairs = [
        ("Refunds arrive within 14 days.", "Your refund will arrive within 14 working days.", 0.6153846153846154, 0.8, 0.5),
        ("a b c d", "d c b a", 0.25, 0.25, 0.25),
        ("same", "same", 1.0, 1.0, 1.0),
    ]
    for wanted, said, *expected in pairs:
        got = [score({"kind": "rouge_l", "measure": m}, said, reference=wanted) for m in ("f1", "recall", "precision")]
        assert got == pytest.approx(expected)


def test_an_answer_that_cites_nothing_may_be_left_out() -> None:
    assert score({"kind": "citation"}, "No source.") == 0.0
    assert score({"kind": "citation", "required": False}, "No source.") is None
    assert score({"kind": "citation", "pattern": r"\((\d+)\)"}, Answer(text="So (3).", documents=({"id": "3"},))) == 1.0
