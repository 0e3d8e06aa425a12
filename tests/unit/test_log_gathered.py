"""Records that belong together: one message a line, scores that came later, columns of a document, files beside the data."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings, Sample

TALK = [("user", "Which gate?"), ("assistant", "B4"), ("user", "And when?"), ("assistant", "At nine.")]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **asked: Any) -> Sample:
    return load_queries(path, settings=LogSettings(sample=None, **asked))


REPLY = {"text": "B4", "message": {"type": "constructor", "id": ["x", "AIMessage"], "kwargs": {"content": "B4"}}}
WRITTEN = {
    "role": lambda k, i, role, said: {"conversation_id": k, "turn": i, "role": role, "content": said},
    "sender": lambda k, i, role, said: {
        "threadId": k,
        "ts": 100.5 + i,
        "sender": "customer" if role == "user" else "agent",
        "text": said,
    },
    "text beside a role": lambda k, i, role, said: {
        "session": k,
        "created_at": f"2026-11-0{i + 1}",
        "role": role,
        "message": said,
    },
    "message inside": lambda k, i, role, said: {
        "type": role,
        "sessionId": k,
        "timestamp": f"2026-11-20T10:00:0{i}Z",
        "message": {"role": role, "content": [{"type": "text", "text": said}]},
    },
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_messages_of_one_conversation_are_one_query(tmp_path: Path, name: str, is_reversed: bool) -> None:
    rows = [WRITTEN[name](f"c{k}", i, role, said) for k in range(3) for i, (role, said) in enumerate(TALK)]
    rows = [{**row, "release": "good"} for row in rows]
    sample = read(lines(tmp_path / "log.jsonl", rows[::-1] if is_reversed else rows))
    assert {query.input for query in sample.queries} == {"And when?"}
    assert [query.output for query in sample.queries] == ["At nine."] * 3
    assert sorted(str(query["id"]) for query in sample.queries) == ["c0", "c1", "c2"]
    assert [len(query["messages"]) for query in sample.queries] == [3] * 3
    assert {query["release"] for query in sample.queries} == {"good"}
    assert any("one message a line" in notice for notice in sample.notices)


def test_lines_that_are_no_message_are_told(tmp_path: Path) -> None:
    rows = [WRITTEN["role"]("c", i, role, said) for i, (role, said) in enumerate(TALK)]
    assert (
        "; 2 lines are no message" in read(lines(tmp_path / "log.jsonl", [*rows, {"event": "end"}, {"event": "x"}])).notices[0]
    )


def test_messages_without_a_conversation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no column tells which; name it conversation_id"):
        read(lines(tmp_path / "log.jsonl", [{"role": role, "content": said, "n": i} for i, (role, said) in enumerate(TALK)]))


def test_questions_alone_with_their_sender_are_no_conversation(tmp_path: Path) -> None:
    rows = [{"sender": "customer", "text": f"Which gate, {i}?", "session": "one"} for i in range(4)]
    with pytest.raises(QueryError, match=r"write columns: \{input: text\}"):
        read(lines(tmp_path / "log.jsonl", rows))


def test_scores_that_came_later_are_those_of_their_record(tmp_path: Path) -> None:
    lines(
        tmp_path / "a.jsonl", [{"id": f"r{i}", "input": f"Gate {i}?", "release": "good" if i % 2 else "bad"} for i in range(6)]
    )
    lines(tmp_path / "b.jsonl", [{"id": f"r{i}", "scores": {"correct": i % 2}} for i in range(4)])
    lines(tmp_path / "c.jsonl", [{"id": "r0", "scores": {"brief": 1}}, {"id": "unknown", "scores": {"correct": 1}}])
    sample = load_queries(str(tmp_path / "*.jsonl"), settings=LogSettings(sample=None))
    scores = {str(query["id"]): query.get("scores") for query in sample.queries}
    assert scores["r1"] == {"correct": 1.0}
    assert scores["r2"] == {"correct": 0.0}
    assert scores["r5"] is None
    assert {each.release: (each.n, each.scores["correct"].n) for each in sample.logged if each.release} == {
        "good": (3, 2),
        "bad": (3, 1),
    }
    assert sample.dropped == {"no input": 1, "scores of another record": 5}
    assert (sample.read, sample.kept) == (12, 6)


def test_scores_that_came_later_in_a_large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisect_ai.queries.row_logs.LARGE", 0)
    asked = [{"id": f"r{i}", "input": f"Gate {i}?", "release": "good"} for i in range(6)]
    path = lines(tmp_path / "log.jsonl", [*asked, *({"id": f"r{i}", "scores": {"correct": i % 2}} for i in range(4))])
    sample = load_queries(path, settings=LogSettings())
    assert {query["id"]: query.get("scores") for query in sample.queries}["r1"] == {"correct": 1.0}
    assert sample.dropped == {"scores of another record": 4}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_failed_records_of_a_large_log_do_not_make_it_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Their scores are nobody else's, so that no reader has to join them row by row."""
    monkeypatch.setattr("bisect_ai.queries.row_logs.LARGE", 0)
    monkeypatch.setattr("bisect_ai.queries.load_log.ScoresJoined", None)
    rows = [{"id": f"r{i}", "input": None if i % 7 == 0 else f"Gate {i}?", "scores": {"correct": i % 2}} for i in range(30)]
    path = lines(tmp_path / "log.jsonl", rows)
    if suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path := tmp_path / "log.parquet")
    assert load_queries(path, settings=LogSettings()).dropped == {"no input": 5}


@pytest.mark.parametrize("is_text", [False, True])
def test_scores_that_came_later_in_tables(tmp_path: Path, is_text: bool) -> None:
    asked = [{"id": i, "input": f"Gate {i}?", "release": "good" if i % 2 else "bad"} for i in range(40)]
    late = [{"id": i, "scores": {"correct": float(i % 2)}} for i in range(30)]
    if is_text:
        late = [{**row, "scores": json.dumps(row["scores"])} for row in late]
    pd.DataFrame([*asked[:20], *late]).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(asked[20:]).to_parquet(tmp_path / "b.parquet")
    sample = load_queries(str(tmp_path / "*.parquet"), settings=LogSettings(sample=None))
    scores = {str(query["id"]): query.get("scores") for query in sample.queries}
    assert (scores["1"], scores["28"], scores["35"]) == ({"correct": 1.0}, {"correct": 0.0}, None)
    assert sample.dropped == {"scores of another record": 30}
    assert (sample.read, sample.kept, sample.format) == (70, 40, "parquet")
    assert {query["file"] for query in sample.queries} == {"a.parquet", "b.parquet"}


def test_scores_in_columns_of_their_own_are_joined_too(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [{"id": i, "input": f"Gate {i}?", "grade": None} for i in range(3)])
    lines(tmp_path / "b.jsonl", [{"id": i, "grade": "pass"} for i in range(3)])
    sample = load_queries(str(tmp_path / "*.jsonl"), settings=LogSettings(columns={"scores": {"ok": "grade"}}))
    assert [query["scores"] for query in sample.queries] == [{"ok": 1.0}] * 3


def test_a_record_that_failed_gives_its_score_to_nobody(tmp_path: Path) -> None:
    rows = [{"id": "a", "input": "Gate?", "scores": {"ok": 1}}, {"id": "b", "output": "", "scores": {"ok": 0}}]
    sample = read(lines(tmp_path / "log.jsonl", rows))
    assert sample.dropped == {"no input": 1}
    assert [query["scores"] for query in sample.queries] == [{"ok": 1}]


@pytest.mark.parametrize(
    "document",
    [
        {"question": ["Gate 1?", "Gate 2?"], "answer": ["B1", "B2"]},
        {"question": {"0": "Gate 1?", "1": "Gate 2?"}, "answer": {"0": "B1", "1": "B2"}},
    ],
)
def test_a_document_of_columns_is_a_table(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert {(query.input, query.output) for query in read(path).queries} == {("Gate 1?", "B1"), ("Gate 2?", "B2")}


def test_what_lies_beside_the_data_of_an_archive_is_left(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for part in range(2):
            archive.writestr(f"export/part-{part}.jsonl", json.dumps({"id": str(part), "input": f"Gate {part}?"}))
        archive.writestr("export/README.md", "What this is.")
        archive.writestr("export/logo.png", b"\x89PNG")
    assert len(read(tmp_path / "export.zip")) == 2


def test_the_body_of_a_logged_response_holds_the_answer(tmp_path: Path) -> None:
    said = {"output": {"message": {"role": "assistant", "content": [{"text": "B4"}]}}}
    row = {"input": "Gate?", "output": {"outputContentType": "application/json", "outputBodyJson": said}}
    answer = {"input": "Who?", "output": {"name": "Ada", "detail": {"role": "assistant", "content": "hi"}}}
    found = {query.input: query.output for query in read(lines(tmp_path / "log.jsonl", [row, answer])).queries}
    assert found["Gate?"] == "B4"
    assert json.loads(found["Who?"] or "") == answer["output"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"attributes": {"input": {"value": "Gate?"}, "output": {"value": "B4"}}}, "output: attributes.output.value"),
        ({"payload": {"request": {"prompt": "Gate?"}, "response": {"text": "B4"}}}, "output: payload.response.text"),
        (
            {"inputs": {"messages": [{"role": "user", "content": "Gate?"}]}, "outputs": {"generations": [[REPLY]]}},
            "output: outputs.generations",
        ),
    ],
)
def test_the_advice_names_the_answer_too(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        read(lines(tmp_path / "log.jsonl", [row] * 3))
    assert said in str(caught.value)


def test_an_id_is_not_advised_as_a_question(tmp_path: Path) -> None:
    with pytest.raises(QueryError) as caught:
        read(lines(tmp_path / "log.jsonl", [{"title": "gates", "parts": [{"qas": [{"n": 1}]}]}] * 3))
    assert "input: title" not in str(caught.value)


def test_a_list_of_named_scores_is_not_told_as_missing(tmp_path: Path) -> None:
    rows = [{"input": f"Gate {i}?", "feedback": [{"name": "correct", "value": 1}]} for i in range(3)]
    sample = read(lines(tmp_path / "log.jsonl", rows), columns={"scores": "feedback"})
    assert not [notice for notice in sample.notices if "missing" in notice]
    assert [query["scores"] for query in sample.queries] == [{"correct": 1.0}] * 3
