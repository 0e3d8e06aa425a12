"""Tables and lines as spreadsheets and scripts write them: separators, titles, comments, words for scores."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries import row_logs
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings

TABLES = {
    "excel": "sep=;\nid;input;score\n1;a, b?;0\n2;c?;1\n",
    "excel with commas": '\ufeff"sep=,"\r\nid,input,score\r\n1,"a, b?",0\r\n2,c?,1\r\n',
    "bars": "id|input|score\n1|a, b?|0\n2|c?|1\n",
    "spaces": 'id, input, score\n1, "a, b?", 0\n2, c?, 1\n',
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_with_other_separators_hold_the_same_rows(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.csv").write_text(TABLES[kind], newline="")
    sample = load_queries(tmp_path / "x.csv", settings=LogSettings(columns={"scores": "score"}))
    found = {query.id: (query.input, dict(query.scores)) for query in sample.queries}
    assert found == {"1": ("a, b?", {"score": 0.0}), "2": ("c?", {"score": 1.0})}


REFUSED = {
    "title.csv": (
        "Results of May,,,\n\nid,input,output,score\n1,a?,b,1\n",
        "names one column of 4, 'Results of May', as a title would",
    ),
    "sep.csv": ("sep=;\nid;input\n1;a;b\n", "line 3: 3 cells where the header has 2"),
    "dict.jsonl": ("{'id': 1, 'input': 'a?'}\n" * 2, "line 1: Python's notation, not JSON; write it with json.dumps"),
    "comment.jsonl": ('# made today\n{"input": "a?"}\n', "line 1: a comment, which JSON cannot have"),
    "comma.jsonl": ('{"input": "a?"},\n{"input": "b?"},\n', "line 1: a comma after the record"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_and_no_json_is_told_by_its_kind(tmp_path: Path, name: str) -> None:
    text, told = REFUSED[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(QueryError) as refused:
        load_queries(tmp_path / name)
    assert told in str(refused.value)


def test_a_file_in_utf16_without_a_mark_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes('{"input": "a?"}\n'.encode("utf-16-le"))
    with pytest.raises(QueryError, match="it is UTF-16; save it as UTF-8"):
        load_queries(tmp_path / "x.jsonl")


WORDS = ["yes", "No", "1", "0.5", True, 0, "pass", "\N{CHECK MARK}", "\N{THUMBS DOWN SIGN}", "y", "billing", None]
MEAN = (1 + 0 + 1 + 0.5 + 1 + 0 + 1 + 1 + 0 + 1) / 10


@pytest.mark.parametrize("kind", ["jsonl", "staged", "json column", "structs"])
def test_words_and_numbers_in_quotes_are_scores_in_an_object_too(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": f"q{k}", "input": f"question {k}", "scores": {"correct": each}} for k, each in enumerate(WORDS)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if kind == "staged":
        monkeypatch.setattr(row_logs, "LARGE", 0)
        monkeypatch.setattr(row_logs, "DOUBTFUL", 1.0)
    if kind in ("json column", "structs"):
        path = tmp_path / "x.parquet"
        column = "scores" if kind == "json column" else "{'correct': scores ->> 'correct'} AS scores"
        source = f"read_json('{tmp_path}/x.jsonl', columns = {{id: 'VARCHAR', input: 'VARCHAR', scores: 'JSON'}})"
        duckdb.sql(f"COPY (SELECT id, input, {column} FROM {source}) TO '{path}' (FORMAT parquet)")
    sample = load_queries(path)
    (logged,) = sample.logged
    assert logged.scores["correct"].n == 10
    assert logged.scores["correct"].mean == pytest.approx(MEAN)
    assert sorted(query.scores["correct"] for query in sample.queries if query.scores) == [0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1]


def test_a_score_that_some_rows_write_in_another_way_is_told(tmp_path: Path) -> None:
    rows = [{"id": f"q{k}", "input": f"question {k}", "grade": "85%" if k == 3 else "n/a" if k == 2 else 1} for k in range(10)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sample = load_queries(tmp_path / "x.jsonl", settings=LogSettings(columns={"scores": "grade"}))
    (told,) = sample.notices
    assert told.startswith("the score 'grade' is missing in 1 of 10 sampled records: grade holds for example '85%'")


def test_scores_of_a_mongodb_export_are_numbers(tmp_path: Path) -> None:
    wrapped = [{"$numberInt": "1"}, {"$numberDouble": "0.5"}, {"$numberLong": "0"}, {"$numberDecimal": "0.5"}]
    rows = [{"id": f"q{k}", "input": f"question {k}", "scores": {"correct": each}} for k, each in enumerate(wrapped)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (logged,) = load_queries(tmp_path / "x.jsonl").logged
    assert (logged.scores["correct"].n, logged.scores["correct"].mean) == (4, 0.5)


def test_the_header_of_a_joined_table_is_no_question(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,input\n1,a?\nid,input\n2,b?\n")
    sample = load_queries(tmp_path / "x.csv")
    assert [query.input for query in sample.queries] in (["a?", "b?"], ["b?", "a?"])
    assert (sample.read, sample.dropped) == (3, {"names of the columns again": 1})
