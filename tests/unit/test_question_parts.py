"""A column that belongs to the question is asked with it, or a notice says that it is not."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings

Rows = Sequence[Mapping[str, Any]]
ALPACA = [{"instruction": f"Say it {i} times.", "input": "" if i % 2 else f"text {i}", "output": "o"} for i in range(4)]
ASKED = {"Say it 0 times.\n\ntext 0", "Say it 1 times.", "Say it 2 times.\n\ntext 2", "Say it 3 times."}


def lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sheet(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def parquet(path: Path, rows: Rows) -> None:
    import duckdb

    lines(path.with_suffix(".jsonl"), rows)
    duckdb.sql(f"COPY (FROM read_ndjson('{path.with_suffix('.jsonl')}')) TO '{path}'")


@pytest.mark.parametrize(("name", "write"), [("a.jsonl", lines), ("a.csv", sheet), ("a.parquet", parquet)])
def test_an_instruction_is_asked_with_its_input(name: str, write: Callable[[Path, Rows], None], tmp_path: Path) -> None:
    write(tmp_path / name, ALPACA)
    sample = load_queries(tmp_path / name)
    assert {query.input for query in sample.queries} == ASKED
    assert sample.kept == sample.read == 4
    assert "columns: {input: instruction + input} (guessed)" in sample.notices[0]


def test_rows_of_which_none_has_an_input_ask_their_instruction() -> None:
    sample = load_queries([{**row, "input": ""} for row in ALPACA])
    assert {query.input for query in sample.queries} == {row["instruction"] for row in ALPACA}


def test_one_instruction_for_all_is_a_prompt_and_left_out_aloud() -> None:
    sample = load_queries([{"instruction": "Be brief.", "input": f"text {i}"} for i in range(4)])
    assert {query.input for query in sample.queries} == {f"text {i}" for i in range(4)}
    assert sample.notices == (
        "the column instruction of 4 of 4 sampled records is no part of their question, unless a prompt template names it; "
        "columns: {input: instruction + input} asks them together",
    )


def test_whoever_names_the_input_is_obeyed() -> None:
    sample = load_queries(ALPACA, settings=LogSettings(columns={"input": "input"}))
    assert {query.input for query in sample.queries} == {"text 0", "text 2"}
    assert sample.dropped == {"no input": 2}


@pytest.mark.parametrize(
    ("row", "column", "both"),
    [
        ({"question": "Which?", "choices": ["tea", "rum"]}, "choices", "question + choices"),
        ({"question": "Which?", "options": "['tea', 'rum']"}, "options", "question + options"),
        ({"input": "Who?", "context": "Ann met Bo."}, "context", "context + input"),
        ({"input": "Who?", "passage": "Ann met Bo."}, "passage", "passage + input"),
        ({"input": "Who?", "prompt": "Answer in rhymes."}, "prompt", "prompt + input"),
    ],
)
def test_a_column_that_belongs_to_the_question_is_told(row: dict[str, Any], column: str, both: str) -> None:
    assert any(
        f"the column {column} of 1 of 1" in told and f"{{input: {both}}}" in told for told in load_queries([row]).notices
    )
    asked = load_queries([row], settings=LogSettings(columns={"input": both}))
    assert len(asked.queries[0].input.split("\n\n")) == 2
    assert not asked.notices


@pytest.mark.parametrize(
    "row",
    [
        {"input": "Who met Bo?", "context": "met Bo"},  # it is there already
        {"input": "Who?", "choices": [{"message": {"content": "Ann"}}]},  # of a completion
        {"input": "Who?", "options": {"temperature": 0}},
        {"input": "Who?", "system": "You are Ann."},  # a release has its own
        {"input": "Who?", "context": ""},
    ],
)
def test_other_columns_of_such_names_are_not(row: dict[str, Any]) -> None:
    assert not load_queries([row]).notices


def test_labelled_choices_keep_their_labels() -> None:
    row = {"question": "Which?", "choices": {"text": ["tea", "rum"], "label": ["A", "B"]}}
    sample = load_queries([row], settings=LogSettings(columns={"input": "question + choices"}))
    assert sample.queries[0].input == "Which?\n\nA. tea\nB. rum"


def test_each_of_the_columns_that_are_asked_together_must_be_there() -> None:
    with pytest.raises(QueryError, match="no column 'contxt'; did you mean 'context'"):
        load_queries([{"context": "a", "input": "b"}], settings=LogSettings(columns={"input": "contxt + input"}))
