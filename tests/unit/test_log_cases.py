"""Files that went wrong once, each with what it means (`../shared/cases/logs`, where that stands beside the repository)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bisect_ai.config import Log
from bisect_ai.errors import QueryError
from bisect_ai.queries.load import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import Sample

CASES = Path(__file__).parents[3] / "shared" / "cases" / "logs"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the repository")
QUESTIONS = [
    "Which gate does flight 12 leave from?",
    "How many bags are free?",
    "Is the lounge open at night?",
    "What does a seat change cost?",
    "Can a dog travel in the cabin?",
]
ANSWERS = ["B4", "two", "no", "9 euros", "yes"]


def case(name: str, **changed: Any) -> Sample:
    """The case's log as its own bisect.yaml reads it, with `changed` settings."""
    (folder,) = CASES.glob(f"{name}-*")
    told = {**yaml.safe_load((folder / "bisect.yaml").read_text())["log"], **changed}
    settings = replace(Log.model_validate(told).settings(0), sample=None)
    return load_queries(told["path"], settings=settings, folder=folder)


def by_question(sample: Sample) -> list[Query]:
    return sorted(sample.queries, key=lambda query: (QUESTIONS.index(query.input), query.id))


def test_messages_without_roles_ask_their_question() -> None:
    assert [q.input for q in by_question(case("31"))] == QUESTIONS
    for path, columns in (
        ("runs.jsonl", {"messages": "inputs.messages"}),
        ("runs2.jsonl", {}),
        ("sharegpt.jsonl", {"messages": "conversations"}),
    ):
        sample = case("48", path=path, columns=columns)
        assert {q.id: q.input for q in sample.queries} == {f"run-{i}": f"What is {i}+{i}?" for i in range(400)}


def test_a_chat_that_ends_with_the_answer() -> None:
    sample = case("06")
    assert [(q.input, q.output) for q in by_question(sample)] == list(zip(QUESTIONS, ANSWERS, strict=True))
    assert all([m["role"] for m in q.messages] == ["system", "user"] for q in sample.queries)


def test_an_object_as_input() -> None:
    assert {q.input for q in case("47").queries} == {f'{{"lang":"en","question":"{asked}"}}' for asked in QUESTIONS}
    assert [q.input for q in by_question(case("47", columns={"input": "input.question"}))] == QUESTIONS


def test_a_list_in_a_cell() -> None:
    queries = by_question(case("11"))
    assert [q.documents for q in queries] == [
        [f"Page {i}: {said}", "It's the traveller's guide"] for i, said in enumerate(ANSWERS)
    ]


def test_a_score_in_a_column() -> None:
    logged = {each.release: each.scores["correct"].mean for each in case("12").logged}
    assert logged == {"v1": 1.0, "v2": 0.4}


def test_lost_parts() -> None:
    with pytest.raises(QueryError, match=r"1 lost image.*on_lost: keep"):
        case("05")
    assert (case("05", on_lost="keep").lost, case("05", on_lost="keep").kept) == ({"lost image": 1}, 1)
    assert case("21").dropped == {"lost file": 1, "lost image": 1, "truncated": 1}
    assert case("20").dropped == {"truncated": 1}
