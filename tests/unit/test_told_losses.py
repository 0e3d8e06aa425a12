"""What a log holds and cannot be read is counted or told in a line, and no advice names a column of ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.normalise import logged_number
from bisect_ai.queries.sample import LogSettings

ASKED = {"key": "input.value", "value": {"stringValue": "hi?"}}
KIND = {"key": "openinference.span.kind", "value": {"stringValue": "LLM"}}
SPAN = {"traceId": "a", "spanId": "b", "name": "n", "attributes": [KIND, ASKED]}
EXPORT = {"resourceSpans": [{"scopeSpans": [{"spans": [5, SPAN, None]}]}]}
CASE = {"name": "a", "input": "2+2", "actualOutput": "4"}
TRACE = {"id": "t", "name": "desk", "bookmarked": False, "input": "hi?", "output": "ho", "timestamp": "2026-05-01T10:00:00Z"}
SEEN = {"id": "o", "type": "GENERATION", "traceId": "t", "startTime": "2026-05-01T10:00:00Z", "input": "hi?", "output": "ho"}
FILES: dict[str, tuple[Any, int]] = {
    "deepeval": ({"testRunData": {"testCases": [CASE, 5, "x", None]}}, 3),
    "otlp": (EXPORT, 2),
    "ragas": ([{"user_input": "a", "response": "b"}, 7, []], 2),
    "langfuse": ({"trace": TRACE, "observations": [SEEN, 5]}, 1),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_object_in_a_list_of_records_is_counted(name: str, tmp_path: Path) -> None:
    value, others = FILES[name]
    (tmp_path / "log.json").write_text(json.dumps(value))
    sample = load_queries(tmp_path / "log.json")
    assert sample.format == name
    assert sample.dropped["no object"] == others
    assert sample.read == sample.kept + sum(sample.dropped.values())
    assert sample.kept == 1


def test_an_empty_record_of_an_api_is_a_fragment(tmp_path: Path) -> None:
    stored = {"id": "resp_1", "object": "response", "input": "hi?", "output": []}
    (tmp_path / "log.json").write_text(json.dumps({"object": "list", "data": [stored, {}]}))
    sample = load_queries(tmp_path / "log.json")
    assert (sample.format, sample.read, sample.kept) == ("openai", 2, 1)


def test_also_in_exports_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text((json.dumps(EXPORT) + "\n") * 2)
    assert load_queries(tmp_path / "log.jsonl").dropped["no object"] == 4


def test_a_row_with_a_list_of_texts_called_data_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"input": "a", "data": ["x"]}\n{"input": "b", "data": [1]}\n')
    assert {query.input for query in load_queries(tmp_path / "log.jsonl").queries} == {"a", "b"}


@pytest.mark.parametrize("written", ["11/29/26", "29.11.26 10:00", "29-Nov-26", "26-11-29"])
@pytest.mark.parametrize("tabular", [False, True])
def test_a_year_of_two_digits_is_refused(written: str, *, tabular: bool, tmp_path: Path) -> None:
    rows = [{"id": "a", "input": "x?", "at": "2026-11-29"}, {"id": "b", "input": "y?", "at": written}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "log.jsonl"
    if tabular:
        import duckdb

        path = tmp_path / "log.parquet"
        listed = "{id: 'VARCHAR', input: 'VARCHAR', 'at': 'VARCHAR'}"
        duckdb.sql(f"COPY (FROM read_ndjson('{tmp_path / 'log.jsonl'}', columns = {listed})) TO '{path}'")
    with pytest.raises(QueryError, match=r"cannot tell the year of .* write the year with four digits"):
        load_queries(path, settings=LogSettings(since="2026-01-01"))


def scored(scores: Any) -> list[str]:
    rows = [{"id": str(i), "input": f"x{i}?", "scores": scores} for i in range(3)]
    return [told for told in load_queries(rows).notices if "score" in told]


@pytest.mark.parametrize(
    ("scores", "name", "shown"),
    [
        ({"x": {"label": "PASS", "score": None}, "y": 1}, "x", "PASS"),
        ([{"name": "x", "label": "so so", "score": None}], "x", "so so"),
        ({"x": "rather good"}, "x", "rather good"),
        ("rather good", "score", "rather good"),
    ],
)
def test_a_score_that_is_a_label_is_missing_aloud(scores: Any, name: str, shown: str) -> None:
    (told,) = scored(scores)
    assert told.startswith(f"the score {name!r} is missing in 3 of 3 sampled records")
    assert f"{shown!r}; of labels, columns: {{scores: {{NAME: scores.NAME.label}}}}" in told


@pytest.mark.parametrize("scores", [{"x": {"score": None}}, {"x": "n/a", "y": 1}, {"x": "pass"}, {"x": None}, {}])
def test_a_score_that_is_none_is_missing_without_a_word(scores: Any) -> None:
    assert not scored(scores)


def test_the_label_can_be_read_as_the_notice_says() -> None:
    rows = [{"id": "a", "input": "x?", "scores": {"x": {"label": "PASS", "score": None}}}]
    sample = load_queries(rows, settings=LogSettings(columns={"scores": {"x": "scores.x.label"}}))
    assert sample.queries[0].scores == {"x": 1.0}
    assert not sample.notices


@pytest.mark.parametrize("name", ["requestId", "_id", "ID", "id", "uuid", "trace_id", "request-id", "requestid", "user ID"])
def test_no_advice_names_a_column_of_ids(name: str) -> None:
    rows = [{name: f"a long name of a record {i}", "body2": "some text"} for i in range(3)]
    with pytest.raises(QueryError, match=r"columns: \{input: body2\}"):
        load_queries(rows)
    with pytest.raises(QueryError, match=r"columns: \{input: …\}"):
        load_queries([{name: "a long name of a record", "n": 1}])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question_id": 1, "category": "w", "turns": ["Write.", "Again."]}, "turns lists 2 texts, and not who says them"),
        ({"What is 2+2?": "4", "Who is he?": "Bo"}, "the keys are the questions; write one record for each"),
        ({"paid": "no text of mine", "n": 1}, r"columns: \{input: paid\}"),
        ({"instruction": "Sum it up", "context": "A long text it is", "n": 1}, r"columns: \{input: instruction\}"),
    ],
)
def test_rows_that_hold_their_question_otherwise_are_told_how_to_write_it(row: dict[str, Any], told: str) -> None:
    with pytest.raises(QueryError, match=told):
        load_queries([row])


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_score_beyond_all_numbers_is_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        logged_number(number)
