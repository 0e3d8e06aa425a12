"""Files that went wrong once, each with what it means (`../shared/cases/logs`, where that stands beside the repository)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bisect_ai.config import LogOptions
from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
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
    settings = replace(LogOptions.model_validate(told).settings(0), sample=None)
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


def test_two_runs_of_one_tool() -> None:
    sample = case("01")
    assert (sample.kept, len(sample.queries), sample.dropped) == (10, 10, {})
    told = {(q["file"], q["run_id"], q["run_at"], q["run_name"]) for q in sample.queries}
    assert told == {(f"{n}.json", f"ev-run{i}", f"2026-05-0{i}", "airport") for i, n in ((1, "good"), (2, "bad"))}
    assert {q["id_in_run"] for q in sample.queries} == {f"{i}-epoch-1" for i in range(1, 6)}
    for rule in (
        {"release": {"by": "file", "good": "good*.json", "bad": "bad.json"}},
        {"windows": {"good": {"until": "2026-05-02"}, "bad": {"since": "2026-05-02"}}},
        {"release": {"by": "run_id", "good": "ev-run1", "bad": "*2"}},
    ):
        assert {each.release: each.scores["match"].n for each in case("01", **rule).logged} == {"good": 5, "bad": 5}


def test_two_runs_of_promptfoo() -> None:
    sample = case("14")
    assert [(each.release, each.n, each.scores["score"].mean) for each in sample.logged] == [
        ("eval-aaa", 5, 1.0),
        ("eval-bbb", 5, 0.4),
    ]
    assert {(q["file"], q["run_id"], q["run_at"][:10]) for q in sample.queries} == {
        ("good.json", "eval-aaa", "2026-05-01"),
        ("bad.json", "eval-bbb", "2026-05-08"),
    }
    named = case("14", columns={}, release={"by": "file", "good": "good.json", "bad": "bad.json"})
    assert [(each.release, each.n) for each in named.logged] == [("bad", 5), ("good", 5)]


def test_the_variable_is_the_question_and_repeats_are_one_query() -> None:
    assert [q.input for q in by_question(case("15"))] == QUESTIONS
    repeated = case("16")
    assert [q.input for q in by_question(repeated)] == QUESTIONS
    assert (repeated.read, repeated.kept, repeated.dropped) == (20, 5, {"repeat of another record": 15})
    assert all(len(q["repeats"]) == 4 for q in repeated.queries)


def test_scores_of_failed_rows_are_missing() -> None:
    (logged,) = case("18").logged
    assert (logged.n, logged.scores["score"].n, logged.scores["score"].mean) == (5, 3, 1.0)
    assert sum(q.output is None for q in case("18").queries) == 2


def test_answers_that_are_json_or_objects() -> None:
    told = {q.id: q.output for q in case("46").queries}
    assert told == {
        "r0": '{"a":1}',
        "r1": '{"role":"admin","name":"Bo"}',
        "r2": '{"choices":["x","y"]}',
        "r3": '[{"type":"refund","amount":5}]',
    }
    assert by_question(case("17"))[0].output == '{"answer": "B4"}'


def test_a_csv_with_a_block_for_each_provider() -> None:
    sample = case("40")
    assert (sample.format, sample.kept) == ("promptfoo", 4)
    assert {(q.input, q["model"], q.output, q.scores["score"]) for q in sample.queries} == {
        (asked, provider, said, score)
        for asked, right in zip(QUESTIONS[:2], ANSWERS[:2], strict=True)
        for provider, said, score in (("one", right, 1.0), ("two", "hm", 0.0))
    }


def test_a_question_that_a_solver_added() -> None:
    (query,) = case("04").queries
    assert (query.input, query.history) == (QUESTIONS[0], [{"role": "user", "content": "You answer travellers in rhyme."}])


def test_rows_inside_or_one_after_another() -> None:
    assert [q.input for q in by_question(case("09"))] == QUESTIONS
    assert [q.input for q in by_question(case("09", rows="results"))] == QUESTIONS
    assert [(q.id, q.input) for q in by_question(case("24"))] == [(str(i), asked) for i, asked in enumerate(QUESTIONS)]


@pytest.mark.parametrize("path", ["traces.json", "traces.jsonl", "traces.csv"])
def test_a_page_of_traces(path: str) -> None:
    sample = case("44", path=path)
    assert [(q.input, q.output) for q in by_question(sample)] == list(zip(QUESTIONS, ANSWERS, strict=True))
    assert {each.release: (each.n, each.scores["correct"].mean) for each in sample.logged} == {"r7": (3, 1.0), "r8": (2, 0.0)}


@pytest.mark.parametrize(("name", "said"), [("07", "B4"), ("08", "Gate B4.")])
def test_a_trace_with_its_observations(name: str, said: str) -> None:
    (query,) = case(name).queries
    told = (query.input, query.output, query.scores, query.release, query.cluster, query["run_id"])
    assert told == (QUESTIONS[0], said, {"helpful": 1}, "r7", "u1", "p")


@pytest.mark.parametrize(("name", "release"), [("25", "7"), ("33", None)])
def test_spans(name: str, release: str | None) -> None:
    told = [(q.input, q.output, q.release) for q in by_question(case(name))]
    assert told == [(asked, said, release) for asked, said in zip(QUESTIONS, ANSWERS, strict=True)]


@pytest.mark.parametrize("name", ["10", "11", "26", "29", "31", "34", "39", "41", "19"])
def test_every_question_of_a_producer(name: str) -> None:
    sample = case(name)
    assert [q.input for q in by_question(sample)] == QUESTIONS
    said = ["B4"] * 5 if name == "10" else ANSWERS
    assert [q.output for q in by_question(sample)] == said
    assert sample.format != "jsonl"


def test_scores_of_result_files() -> None:
    assert {name: round(each.mean or 0, 9) for name, each in case("10").logged[0].scores.items()} == {
        "Correctness": 0.28,
        "Faithfulness": 0.9,
        "success": 0.2,
    }
    assert {name: (each.mean, each.n) for name, each in case("11").logged[0].scores.items()} == {
        "faithfulness": (0.7, 5),
        "answer_relevancy": (0.8, 4),
    }
    assert {name: each.mean for name, each in case("26").logged[0].scores.items()} == {
        "exact_match,strict-match": 1.0,
        "exact_match,flexible-extract": 0.0,
    }
    assert [q["run_name"] for q in case("26").queries] == ["desk"] * 5
    assert (case("29").logged[0].scores["match"].mean, case("29").queries[0]["run_id"]) == (0.8, "r1")
    assert {(each.release, each.scores["correct"].mean) for each in case("31").logged} == {("abc", 1.0)}
    assert {q.reference for q in case("29").queries} == set(ANSWERS)


def test_what_read_well_still_does() -> None:
    assert [query.id for query in case("36").queries if len(query.input) > 100] == ["a"]
    assert {q.input for q in case("23").queries} == {
        "cut emoji \ud83d here",
        "whole 😀 emoji",
        "nul \0 and bell \a and rtl \u202e",
    }
