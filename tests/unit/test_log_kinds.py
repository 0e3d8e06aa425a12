"""Files of producers that no reader knows: each is read right, or refused in one line that names the setting which reads it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings

ASKED = [f"Which gate for flight {i}?" for i in range(4)]
SAID = {"role": "assistant", "content": "B4"}


def asks(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


ROWS: dict[str, list[dict[str, Any]]] = {
    "gateway": [
        {"request_body": {"model": "m", "messages": asks(q)}, "response_body": {"choices": [{"message": SAID}]}} for q in ASKED
    ],
    "vertex": [{"request": {"contents": [{"role": "user", "parts": [{"text": q}]}]}, "at": "2026-11-20"} for q in ASKED],
    "wrapped body": [
        {"input": {"contentType": "json", "body": {"messages": [{"role": "user", "content": [{"text": q}]}]}}} for q in ASKED
    ],
    "conversations": [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": "B4"}]} for q in ASKED],
    "blocks": [{"messages": [{"role": "user", "blocks": [{"block_type": "text", "text": q}]}, SAID]} for q in ASKED],
    "constructors": [
        {"input": {"messages": [[{"lc": 1, "type": "constructor", "id": ["x", "HumanMessage"], "kwargs": {"content": q}}]]}}
        for q in ASKED
    ],
    "fields": [{"id": str(i), "fields": {"prompt": q}, "responses": [{"values": {"ok": "yes"}}]} for i, q in enumerate(ASKED)],
    "stored responses": [
        {"request": {"instructions": "Be brief.", "input": q}, "response": {"output": [{"type": "message", **SAID}]}}
        for q in ASKED
    ],
    "help desk": [{"talk": [{"speaker": "customer", "text": q}, {"speaker": "agent", "text": "B4"}]} for q in ASKED],
    "template": [
        {"text": f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\nB4<|im_end|>", "n": i} for i, q in enumerate(ASKED)
    ],
    "images": [{"messages": [{"role": "user", "content": [{"type": "text", "text": q}, {"type": "image"}]}]} for q in ASKED],
}
DOCUMENTS: dict[str, Any] = {
    "deep": {"experiment": {"runs": {"items": [{"payload": {"user": {"text": q}}, "result": "B4"} for q in ASKED]}}},
    "two lists": {"train": [{"input": "a"}], "test": [{"input": q} for q in ASKED]},
    "pretty": {"version": 1, "data": [{"question": q, "answer": "B4"} for q in ASKED]},
}
TABLES = {
    "german": "id\tfrage\tantwort\n" + "".join(f"{i}\t{q}\tB4\n" for i, q in enumerate(ASKED)),
    "object in a cell": "id,payload\n"
    + "".join(f'{i},"{{""question"": ""{q}"", ""lang"": ""de""}}"\n' for i, q in enumerate(ASKED)),
}


def stored(name: str, folder: Path) -> Path:
    if name in ROWS:
        path, text = folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS[name])
    elif name in DOCUMENTS:
        path, text = folder / "log.json", json.dumps(DOCUMENTS[name], indent=1)
    else:
        path, text = folder / "log.csv", TABLES[name]
    path.write_text(text, encoding="utf-8")
    return path


def questions(path: Path, **asked: Any) -> set[str]:
    return {query.input for query in load_queries(path, settings=LogSettings(sample=None, **asked)).queries}


@pytest.mark.parametrize("name", ["wrapped body", "blocks", "constructors", "pretty"])
def test_what_is_read_by_itself(tmp_path: Path, name: str) -> None:
    assert questions(stored(name, tmp_path)) == set(ASKED)


@pytest.mark.parametrize(
    "name",
    [
        *("gateway", "vertex", "conversations", "fields", "deep", "two lists", "german", "object in a cell"),
        *("stored responses", "help desk", "template"),
    ],
)
def test_what_is_refused_names_the_settings_that_read_it(tmp_path: Path, name: str) -> None:
    path = stored(name, tmp_path)
    with pytest.raises(QueryError) as caught:
        questions(path)
    told = str(caught.value)
    assert "\n" not in told
    at = max(told.rfind(each) for each in ("columns: {", "rows: "))
    assert questions(path, **yaml.safe_load(told[at:])) == set(ASKED), told


@pytest.mark.parametrize("name", ["gateway", "stored responses", "help desk", "template"])
def test_the_settings_that_are_named_read_the_answers_too(tmp_path: Path, name: str) -> None:
    path = stored(name, tmp_path)
    with pytest.raises(QueryError) as caught:
        questions(path)
    columns = yaml.safe_load(str(caught.value).partition("columns: ")[2])
    sample = load_queries(path, settings=LogSettings(sample=None, columns=columns))
    assert {query.output for query in sample.queries} == {"B4"}, columns


def test_messages_that_say_nothing_are_not_advised(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": ""}], "n": 1}\n')
    with pytest.raises(QueryError, match=r"\(1 no input\); map the question with columns: \{input: …\}; it has messages, n"):
        questions(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("id;frage\n1;Wo ist Tür 4?\n".encode("latin-1"), "line 2: it is not UTF-8"),
        ("id,input\n1,hi\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "log.csv").write_bytes(data)
    with pytest.raises(QueryError, match=said):
        questions(tmp_path / "log.csv")


def test_lost_images_are_named(tmp_path: Path) -> None:
    path = stored("images", tmp_path)
    with pytest.raises(QueryError, match=r"4 lost image.*log\.on_lost: keep"):
        questions(path)
    assert questions(path, on_lost="keep") == {f"{q}\n[image not replayed]" for q in ASKED}


def test_a_packed_log_with_a_mark_of_byte_order(tmp_path: Path) -> None:
    text = "".join(json.dumps({"input": q}) + "\r\n" for q in ASKED)
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    assert questions(tmp_path / "log.jsonl.gz") == set(ASKED)
