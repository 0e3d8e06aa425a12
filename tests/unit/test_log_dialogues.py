"""Conversations and questions as data sets and chat tools nest them: turns of speakers, ChatGPT's tree, SQuAD's paragraphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.messages import text_of_content
from bisect_ai.queries.sample import LogSettings, Sample


def read(folder: Path, held: Any, **settings: Any) -> Sample:
    path = folder / "log.json"
    path.write_text(json.dumps(held))
    return load_queries(path, settings=LogSettings(**settings))


TURNS = {
    "speaker and utterance": [("speaker", "utterance"), ("USER", "SYSTEM")],
    "speaker and text": [("speaker", "text"), ("customer", "agent")],
    "sender and message": [("sender", "message"), ("user", "bot")],
    "from and message": [("from", "message"), ("human", "gpt")],
    "role and utterance": [("role", "utterance"), ("user", "assistant")],
}


@pytest.mark.parametrize("column", ["dialogue", "turns", "chat_messages", "messages"])
@pytest.mark.parametrize("kind", TURNS)
def test_turns_of_two_speakers_are_a_conversation(tmp_path: Path, kind: str, column: str) -> None:
    (who, said), (user, assistant) = TURNS[kind]
    talk = [(user, "Hello"), (assistant, "Hi"), (user, "What is the price?"), (assistant, "5 euro")]
    turns = [{who: speaker, said: text} for speaker, text in talk]
    rows = [{"id": f"d{k}", column: turns} for k in range(3)]
    if column != "messages":
        with pytest.raises(QueryError, match=rf"write columns: {{messages: {column}}}"):
            read(tmp_path, rows)
    sample = read(tmp_path, rows, columns={"messages": column})
    assert [query.output for query in sample.queries] == ["5 euro"] * 3
    assert sample.queries[0].messages == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What is the price?"},
    ]


def test_a_system_that_speaks_first_is_no_assistant(tmp_path: Path) -> None:
    turns = [{"speaker": "system", "text": "Be short."}, {"speaker": "user", "text": "What is the price?"}]
    (query,) = read(tmp_path, [{"id": "a", "messages": turns}]).queries
    assert [each["role"] for each in query.messages] == ["system", "user"]


def node(name: str, role: str | None, parts: list[Any], parent: str | None, **details: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": parts}
    author = {"role": role, "name": None, "metadata": {}}
    message = {"id": name, "author": author, "create_time": 1796000000.5, "content": content, "metadata": details}
    return {"id": name, "message": message if role else None, "parent": parent, "children": []}


def chat(last: str = "answer", asked: Any = "What is the price?") -> dict[str, Any]:
    nodes = [
        node("root", None, [], None),
        node("hidden", "system", ["secret"], "root", is_visually_hidden_from_conversation=True),
        node("hello", "user", ["Hello"], "hidden"),
        node("hi", "assistant", ["Hi"], "hello"),
        node("question", "user", [asked], "hi"),
        node("answer", "assistant", ["5 euro"], "question", model_slug="gpt-5"),
        node("other answer", "assistant", ["6 euro"], "question", model_slug="gpt-5-mini"),
    ]
    return {"title": "Prices", "mapping": {each["id"]: each for each in nodes}, "current_node": last, "conversation_id": "c1"}


@pytest.mark.parametrize(("last", "output", "model"), [("answer", "5 euro", "gpt-5"), ("other answer", "6 euro", "gpt-5-mini")])
def test_of_a_chatgpt_tree_the_branch_on_screen_is_read(tmp_path: Path, last: str, output: str, model: str) -> None:
    sample = read(tmp_path, [chat(last)])
    (query,) = sample.queries
    assert (sample.format, query.id, query.input, query.output) == ("chatgpt", "c1", "What is the price?", output)
    assert [each["content"] for each in query.messages] == ["Hello", "Hi", "What is the price?"]
    assert (query["model"], query["at"]) == (model, 1796000000.5)


def test_an_image_in_a_chatgpt_question_is_lost_and_told(tmp_path: Path) -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}
    sample = read(tmp_path, [chat(), {**chat(asked=image), "conversation_id": "c2"}])
    assert [query.id for query in sample.queries] == ["c1"]
    assert sample.dropped == {"lost image": 1}


def test_a_tree_with_a_circle_ends(tmp_path: Path) -> None:
    circle = chat()
    circle["mapping"]["root"]["parent"] = "answer"
    assert read(tmp_path, [circle]).queries[0].input == "What is the price?"


@pytest.mark.parametrize("odd", [{"a": "text"}, ["text"], 7, None])
def test_a_message_of_no_known_kind_of_content_is_read_all_the_same(odd: Any, tmp_path: Path) -> None:
    made = {**chat(), "conversation_id": {"a": "c"}}
    made["mapping"]["answer"]["message"]["content"]["content_type"] = odd
    made["mapping"]["answer"]["message"]["metadata"] = {"model_slug": ["m"]}
    (query,) = read(tmp_path, [made]).queries
    assert (query.id, query.output, query["model"]) == ('{"a": "c"}', "5 euro", '["m"]')


QUESTIONS = [{"id": f"q{k}", "question": f"What is {k}?", "answers": [{"text": str(k), "answer_start": 0}]} for k in range(3)]
SQUAD = {"version": "1.1", "data": [{"title": "Numbers", "paragraphs": [{"context": "0 1 2", "qas": QUESTIONS}]}]}


@pytest.mark.parametrize("settings", [{}, {"rows": "data.paragraphs.qas"}])
def test_questions_inside_of_paragraphs_are_rows_with_their_context(tmp_path: Path, settings: dict[str, str]) -> None:
    sample = read(tmp_path, SQUAD, **settings)
    assert {query.id: query.input for query in sample.queries} == {"q0": "What is 0?", "q1": "What is 1?", "q2": "What is 2?"}
    assert {(query["title"], query["context"]) for query in sample.queries} == {("Numbers", "0 1 2")}


def test_paragraphs_without_questions_and_questions_without_text_are_counted(tmp_path: Path) -> None:
    paragraphs = [{"context": "0", "qas": [QUESTIONS[0], {"id": "empty"}]}, {"context": "1", "qas": []}]
    sample = read(tmp_path, {"data": [{"title": "Numbers", "paragraphs": paragraphs}]})
    assert [query.input for query in sample.queries] == ["What is 0?"]
    assert (sample.read, sample.dropped) == (2, {"no input": 1})


def test_rows_that_ask_keep_their_inner_lists(tmp_path: Path) -> None:
    rows = [{"id": "a", "input": "What is 1?", "candidates": [{"question": "no"}, {"question": "neither"}]}]
    (query,) = read(tmp_path, {"results": rows}).queries
    assert query.input == "What is 1?"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "text", "text": "a"}, "a"),
        ({"type": "tool", "content": [{"b": None}]}, '[{"b": null}]'),
        ({"type": "image_url", "image_url": {}}, "[image_url]"),
        ({"type": ["odd"]}, "[part]"),
    ],
)
def test_a_part_that_is_no_text_is_its_json_or_its_kind(part: dict[str, Any], text: str) -> None:
    assert text_of_content([part]) == text
