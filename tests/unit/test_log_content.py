"""One door for content: question, messages, answer, documents and scores come out in one form, or are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.messages import answer_of
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import LogSettings, Sample

ASKED = "Which gate does flight 12 leave from?"


def one(row: dict[str, Any], **settings: Any) -> Query:
    (query,) = load_queries([row], settings=LogSettings(**settings)).queries
    return query


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        flat = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(flat).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SHAPES: dict[str, Any] = {
    "openai": [{"role": "user", "content": ASKED}],
    "parts": [{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}],
    "langchain": [{"type": "human", "content": ASKED}],
    "langchain data": [{"type": "human", "data": {"content": ASKED, "type": "human"}}],
    "langchain serialised": [
        [{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": ASKED}}]
    ],
    "sharegpt": [{"from": "human", "value": ASKED}],
    "chatgpt": [{"author": {"role": "user"}, "content": {"content_type": "text", "parts": [ASKED]}}],
    "gemini": {"contents": [{"role": "user", "parts": [{"text": ASKED}]}]},
    "llamaindex": [{"role": "user", "blocks": [{"block_type": "text", "text": ASKED}]}],
    "arguments": {"args": [ASKED], "kwargs": {}},
    "wrapped": {"messages": [{"role": "user", "content": ASKED}]},
    "quoted": json.dumps(json.dumps([{"role": "user", "content": ASKED}])),
    "python": str([{"role": "user", "content": ASKED}]),
    "speakers": [{"speaker": "Agent", "text": "Hello!"}, {"speaker": "Customer", "text": ASKED}],
    "senders": [{"sender": "client", "text": ASKED}, {"sender": "support", "text": "B4"}],
    "chatml": f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
    "llama": f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>",
}


@pytest.mark.parametrize("column", ["messages", "input"])
@pytest.mark.parametrize("shape", SHAPES)
def test_messages_of_every_shape_ask_the_same(shape: str, column: str) -> None:
    assert one({"id": 1, column: SHAPES[shape]}).input == ASKED


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_asks_nothing_is_counted_in_every_format(tmp_path: Path, suffix: str) -> None:
    asking = [{"id": f"a{i}", "messages": [{"type": "human", "content": f"What is {i}+{i}?"}]} for i in range(3)]
    empty = [
        {"id": "b", "messages": [{"type": "ai", "content": "hi"}]},
        {"id": "c", "messages": [{"type": "human", "content": "  "}]},
    ]
    sample = load_queries(written(tmp_path / f"log.{suffix}", [*asking, *empty]))
    assert (sample.kept, sample.dropped) == (3, {"no input": 2})
    assert {query.input for query in sample.queries} == {f"What is {i}+{i}?" for i in range(3)}


@pytest.mark.parametrize(
    "blank", ["", "  ", "\n\t", [], {}, [{"role": "user", "content": ""}], [{"role": "system", "content": "x"}]]
)
@pytest.mark.parametrize("column", ["messages", "input"])
def test_an_empty_question_is_never_asked(column: str, blank: Any) -> None:
    sample = load_queries([{"id": "a", "input": "x"}, {"id": "b", column: blank}])
    assert (sample.kept, sample.dropped) == (1, {"no input": 1})


def test_a_conversation_that_ends_with_the_answer_asks_its_question() -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "gate", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "B4"},
        {"role": "assistant", "content": "Gate B4."},
    ]
    query = one({"id": 1, "messages": talk})
    assert (query.input, query.output, query.messages) == (ASKED, "Gate B4.", talk[:4])
    assert query.tool_results == [{"name": "gate", "arguments": {}, "result": "B4"}]
    assert one({"id": 1, "messages": talk, "output": "as logged"}).output == "as logged"


def test_a_simulated_user_s_stop_mark_is_no_question() -> None:
    talk = [
        {"role": "user", "content": "Cancel my order"},
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": "Number 4"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "###STOP###"},
    ]
    query = one({"id": 1, "messages": talk})
    assert (query.input, query.output, query.messages) == ("Cancel my order", "Done.", talk[:1])


def test_copies_without_an_id_are_one_query_whatever_they_were_answered() -> None:
    rows = [
        {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": f"answer {i}"}]} for i in range(3)
    ]
    sample = load_queries(rows)
    assert (len(sample), sample.weights, sample.kept) == (1, (3.0,), 3)


def test_an_object_as_question_is_canonical_json_or_a_named_field() -> None:
    row = {"id": 1, "input": {"question": "Größe?", "lang": "de"}}
    assert one(row).input == '{"lang":"de","question":"Größe?"}'
    assert one(row).messages == [{"role": "user", "content": '{"lang":"de","question":"Größe?"}'}]
    assert one(row, columns={"input": "input.question"}).input == "Größe?"
    assert one({"id": 1, "input": [1, 2]}).input == "[1,2]"
    assert one({"id": 1, "input": 42}).input == "42"


def test_text_that_looks_like_json_stays_a_question() -> None:
    for text in ('["not a list"]', '{"order": 5}', '"to be or not to be"', '{"role": "admin", "name": "Bo"}', "[1, 2"):
        assert one({"id": 1, "input": text}).input == text


VERBATIM = [
    '{"a":1}',
    '{"role":"admin","name":"Bo"}',
    '{"choices":["x","y"]}',
    '[{"type":"refund","amount":5}]',
    '"quoted"',
    "[1]",
]


@pytest.mark.parametrize("text", VERBATIM)
def test_answers_that_are_json_stay_what_they_were(text: str) -> None:
    assert one({"id": 1, "input": "x", "output": text}).output == text
    assert answer_of(text) == text
    assert json.loads(answer_of(json.loads(text)) or "") == json.loads(text) if text != '"quoted"' else True


@pytest.mark.parametrize(
    "answer",
    [
        [{"from": "agent", "to": "X", "data": "y"}],
        {"from": "Berlin", "text": "x"},
        {"result": {"type": "agent", "value": 3}},
        {"message": {"code": 3}},
    ],
)
def test_answers_that_are_objects_stay_what_they_were(answer: Any) -> None:
    assert json.loads(str(one({"id": 1, "input": "x", "output": answer}).output)) == answer


def test_text_that_only_mentions_a_chat_template_is_a_question() -> None:
    for asked in ("<|im_start|> is what?", "<b>bold</b>?", "Explain <|im_start|>user\nhi<|im_end|>"):
        assert one({"id": 1, "input": asked}).input == asked


def test_answers_that_are_messages_are_their_text() -> None:
    for said in (
        {"role": "assistant", "content": "B4"},
        {"choices": [{"message": {"role": "assistant", "content": "B4"}}]},
        {"messages": [{"type": "human", "content": "?"}, {"type": "ai", "content": "B4"}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "B4"}]}}]},
        {"generations": [[{"text": "B4", "message": {"kwargs": {"content": "B4"}}}]]},
        [{"content": {"role": "model", "parts": [{"text": "B4"}]}}],
        {"outputBodyJson": {"output": {"message": {"role": "assistant", "content": [{"text": "B4"}]}}}},
        ["B4"],
    ):
        assert one({"id": 1, "input": "x", "output": said}).output == "B4"


@pytest.mark.parametrize(
    "given", [["a", "it's b"], str(["a", "it's b"]), json.dumps(["a", "it's b"]), {"documents": ["a", "it's b"]}]
)
def test_documents_are_a_list_in_whatever_notation(given: Any) -> None:
    assert one({"id": 1, "input": "x", "documents": given}).documents == ["a", "it's b"]
    assert one({"id": 1, "input": "x", "documents": "one text"}).documents == ["one text"]


@pytest.mark.parametrize(
    "hostile", ["[" * 500, "[" * 2_000 + "]" * 2_000, "[__import__('os')]", "[1e999]", "[{1, 2}]", "[" + "-" * 9_000 + "1]"]
)
def test_a_list_in_python_s_notation_is_read_and_never_run(hostile: str) -> None:
    assert one({"id": 1, "input": "x", "documents": hostile}).documents == [hostile]


LOST = [
    ([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}], "lost image"),
    ([{"type": "input_audio", "input_audio": {}}], "lost audio"),
    ([{"inlineData": {"mimeType": "image/png", "data": "x"}}], "lost image"),
    ([{"type": "document", "source": {}}], "lost file"),
    ("see @@@langfuseMedia:type=application/pdf|id=d|source=bytes@@@", "lost file"),
    ("look data:image/png;base64,AAAA", "lost image"),
    ("<truncated due to size exceeding limit>", "truncated"),
    ("long text ...[truncated 40 chars]", "truncated"),
]


@pytest.mark.parametrize(("content", "kind"), LOST)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_a_question_lost_is_counted_by_kind(tmp_path: Path, suffix: str, content: Any, kind: str) -> None:
    parts = [{"type": "text", "text": "What?"}, *content] if isinstance(content, list) else content
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "plain"}]},
        {"id": "b", "messages": [{"role": "user", "content": parts}]},
    ]
    if suffix == "parquet":
        rows = [{**row, "messages": json.dumps(row["messages"])} for row in rows]
    path = written(tmp_path / f"log.{suffix}", rows)
    dropped, kept = load_queries(path), load_queries(path, settings=LogSettings(on_lost="keep"))
    assert (dropped.kept, dropped.dropped, dropped.lost) == (1, {kind: 1}, {kind: 1})
    assert (kept.kept, kept.dropped, kept.lost) == (2, {}, {kind: 1})
    assert any(kind in line for line in dropped.notices) and any("asked all the same" in line for line in kept.notices)


def test_a_log_that_lost_all_says_what_to_set() -> None:
    row = {"id": 1, "input": "a data:image/png;base64,AAAA"}
    with pytest.raises(QueryError, match=r"1 lost image.*log.on_lost: keep"):
        load_queries([row])
    with pytest.raises(QueryError, match="use drop or keep"):
        LogSettings(on_lost="maybe")  # type: ignore[arg-type]


def graded(columns: Any, path: Path) -> Sample:
    return load_queries(path, settings=LogSettings(columns={"scores": columns}))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_score_may_stand_in_a_column_of_its_own(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": i, "input": f"q{i}", "release": "v1", "grade": i % 2, "tone": 0.5} for i in range(4)]
    path = written(tmp_path / f"log.{suffix}", rows)
    for columns, names in (("grade", {"grade"}), ({"correct": "grade"}, {"correct"}), (["grade", "tone"], {"grade", "tone"})):
        sample = graded(columns, path)
        assert {name for query in sample.queries for name in query.scores} == names
        (logged,) = sample.logged
        first = next(iter(logged.scores.values()))
        assert (set(logged.scores), first.mean, first.n) == (names, 0.5, 4)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_score_that_is_none_is_missing_and_not_zero(tmp_path: Path, suffix: str) -> None:
    told = ["1", "[1]", "PASS", None, "error", "NaN", "FAIL"]
    rows = [{"id": str(i), "input": f"q{i}", "grade": each} for i, each in enumerate(told)]
    sample = graded("grade", written(tmp_path / f"log.{suffix}", rows))
    assert {q.id: q.scores.get("grade") for q in sample.queries} == dict(
        zip("0123456", [1, 1, 1, None, None, None, 0], strict=True)
    )
    assert (sample.logged[0].scores["grade"].n, sample.logged[0].scores["grade"].total) == (4, 3.0)


def test_only_scores_may_have_several_columns() -> None:
    with pytest.raises(QueryError, match="maps input to a list"):
        load_queries([{"id": 1, "input": "x"}], settings=LogSettings(columns={"input": ["a", "b"]}))


def logged(path: Path, rows: list[dict[str, Any]], **asked: Any) -> Any:
    path.write_text("".join(json.dumps({"id": str(i), **row}) + "\n" for i, row in enumerate(rows)), encoding="utf-8")
    return load_queries(path, settings=LogSettings(sample=None, **asked))


def test_a_request_that_a_log_wraps_is_asked_as_it_was(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": [{"text": "Which gate?"}]}]}
    wrapped = {"contentType": "application/json", "body": body, "tokens": 5}
    sample = logged(
        tmp_path / "log.jsonl", [{"input": wrapped}, {"input": {"request": wrapped}}, {"input": {"a": body, "b": body}}]
    )
    asked = {query.id: query.input for query in sample.queries}
    assert asked["0"] == asked["1"] == "Which gate?"
    assert asked["2"].startswith('{"a":')  # two requests are no conversation


@pytest.mark.parametrize(("word", "score"), [("Yes", 1.0), ("no", 0.0), ("Correct", 1.0), ("incorrect", 0.0)])
def test_words_of_a_column_of_scores(tmp_path: Path, word: str, score: float) -> None:
    sample = logged(tmp_path / "log.jsonl", [{"input": "x", "grade": word}], columns={"scores": {"ok": "grade"}})
    assert sample.queries[0].scores == {"ok": score}


@pytest.mark.parametrize("columns", [{"scores": {"ok": "grade"}}, {"scores": "grade"}, {"scores": ["meta.grade"]}])
def test_a_score_that_was_asked_for_and_is_no_number_is_told(tmp_path: Path, columns: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [{"input": "x", "grade": "85 %", "meta": {"grade": "85 %"}}, {"input": "y"}]
    (notice,) = [each for each in logged(tmp_path / "log.jsonl", rows, columns=columns).notices if "missing everywhere" in each]
    assert "'85 %'" in notice and "grade" in notice


@pytest.mark.parametrize("empty", ['""', ' "" ', '"  "'])
def test_a_question_that_is_empty_in_quotes_is_not_asked(empty: str) -> None:
    sample = load_queries([{"id": "a", "input": empty}, {"id": "b", "input": '"What?" she asked'}])
    assert sample.dropped == {"no input": 1} and [query.input for query in sample.queries] == ['"What?" she asked']
