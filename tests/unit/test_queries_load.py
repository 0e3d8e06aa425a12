"""A sample of a log: where it comes from, what its records look like, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.files import instead, read_table
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings

ROWS: list[dict[str, Any]] = [
    {
        "id": f"q{i}",
        "input": f"question {i}",
        "plan": "pro" if i % 3 else "free",
        "user": f"u{i // 2}",
        "history": [{"role": "user", "content": f"before {i}"}],
        "scores": {"correct": i % 2, "length": i / 4},
        "release": "good" if i < 30 else "bad",
        "reference": {"name": "find", "arguments": {"id": i}},
    }
    for i in range(60)
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    flat = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
    pd.DataFrame(flat).to_csv(path, index=False)
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_parquet(path)
    return path


WRITERS = {"jsonl": jsonl, "csv": csv, "parquet": parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_records_of_the_list(tmp_path: Path, suffix: str) -> None:
    settings = LogSettings(sample=20, segment="plan", cluster="user")
    listed = load_queries(ROWS, settings=settings)
    filed = load_queries(str(WRITERS[suffix](tmp_path / f"log.{suffix}", ROWS)), settings=settings)
    assert {query["file"] for query in filed.queries} == {f"log.{suffix}"}
    named = [{name: value for name, value in query.items() if name != "file"} for query in filed.queries]
    assert named == [dict(query) for query in listed.queries]
    assert filed == listed


@pytest.mark.parametrize("sample", [12, 60, None])
def test_small_segments_are_drawn_alike_from_tables(tmp_path: Path, sample: int | None) -> None:
    rows = [
        {**ROWS[i % 60], "id": f"q{i}", "user": f"u{i // 3}", "plan": f"plan {i // 600 if i % 20 else 9}"} for i in range(2_000)
    ]
    rows[7]["plan"], rows[8]["input"] = "rare", "<truncated due to size exceeding limit>"
    settings = LogSettings(sample=sample, segment="plan", cluster="user", floor=2)
    listed, filed = (load_queries(each, settings=settings) for each in (rows, parquet(tmp_path / "log.parquet", rows)))
    assert [query["id"] for query in filed.queries] == [query["id"] for query in listed.queries]
    assert (filed.weights, filed.dropped, filed.logged) == (listed.weights, listed.dropped, listed.logged)
    assert filed.segments is not None and "rare" in filed.segments


def test_a_data_frame_gives_the_records_of_the_list() -> None:
    settings = LogSettings(sample=20)
    assert load_queries(pd.DataFrame(ROWS), settings=settings) == load_queries(ROWS, settings=settings)


def test_the_sample_says_what_it_stands_for() -> None:
    sample = load_queries(ROWS, settings=LogSettings(sample=15, segment="plan", cluster="user"))
    assert sample.population == sample.kept == sample.read == 60
    assert sample.segments is not None and sorted(set(sample.segments)) == ["free", "pro"]
    assert sample.segments.count("free") == 5  # a third of the log, a third of the sample
    assert sum(sample.weights) == pytest.approx(60)
    assert sample.clusters == tuple(query["user"] for query in sample.queries)


def test_all_queries_when_the_sample_is_larger_than_the_log() -> None:
    whole = load_queries(ROWS, settings=LogSettings(sample=None))
    assert whole == load_queries(ROWS, settings=LogSettings(sample=1_000))
    assert {query.id for query in whole.queries} == {row["id"] for row in ROWS}
    assert set(whole.weights) == {1.0}


@pytest.mark.parametrize("suffix", WRITERS)
def test_logged_scores_are_added_up_over_the_whole_log(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"log.{suffix}", ROWS)
    logged = load_queries(path, settings=LogSettings(sample=2)).logged
    assert [(each.release, each.n) for each in logged] == [("bad", 30), ("good", 30)]
    tally = logged[1].scores["length"]
    values = pd.Series([i / 4 for i in range(30)])
    assert (tally.n, tally.mean, tally.variance) == (30, pytest.approx(values.mean()), pytest.approx(values.var()))


def test_logged_scores_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "input": "x", "scores": json.dumps(s)} for i, s in enumerate([{"a": True}, {"a": "half"}, {"a": None}])
    ]
    for path in (jsonl(tmp_path / "a.jsonl", rows), parquet(tmp_path / "a.parquet", rows)):
        (logged,) = load_queries(path).logged
        assert logged.release is None and logged.n == 3
        assert (logged.scores["a"].total, logged.scores["a"].n) == (1.0, 1)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_columns_are_mapped_and_kept(tmp_path: Path, suffix: str) -> None:
    rows = [{"key": i, "payload": {"question": f"q{i}", "deep": {"gold": "x"}}, "extra": i} for i in range(5)]
    path = WRITERS[suffix](tmp_path / f"log.{suffix}", rows)
    columns = {"id": "key", "input": "payload.question", "reference": "payload.deep.gold"}
    query = load_queries(path, settings=LogSettings(columns=columns)).queries[0]
    assert (query.input, query.reference, query.id) == (f"q{query['extra']}", "x", str(query["key"]))
    assert query["payload"]["question"] == query.input


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_without_a_question_are_counted(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"id": "a", "input": "x", "messages": None},
        {"id": "b", "input": None, "messages": [{"role": "user", "content": "y"}]},
        {"id": "c", "input": "", "messages": []},
        {"id": "d", "input": None, "messages": None},
    ]
    sample = load_queries(WRITERS[suffix](tmp_path / f"log.{suffix}", rows))
    assert sorted(query.id for query in sample.queries) == ["a", "b"]
    assert (sample.read, sample.kept, sample.dropped) == (4, 2, {"no input": 2})


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_without_ids_are_known_by_what_was_asked(tmp_path: Path, suffix: str) -> None:
    turn = {"role": "user", "content": "hi", "name": None}
    rows = [{"input": f"question {i // 2}", "history": [turn], "at": i} for i in range(6)]
    if suffix != "parquet":
        rows = [{**row, "history": [{"role": "user", "content": "hi"}]} for row in rows]
    sample = load_queries(WRITERS[suffix](tmp_path / f"log.{suffix}", rows))
    listed = load_queries([{**row, "history": [{"role": "user", "content": "hi"}]} for row in rows])
    assert [query.id for query in sample.queries] == [query.id for query in listed.queries]
    assert len(sample) == 3 and sample.weights == (2.0, 2.0, 2.0) and sample.population == 6


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_same_record_twice_counts_once(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"log.{suffix}", [*ROWS, *ROWS[:7]])
    doubled, once = load_queries(path, settings=LogSettings(sample=20)), load_queries(ROWS, settings=LogSettings(sample=20))
    assert doubled.dropped == {"duplicate": 7} and doubled.read == 67
    assert (doubled.digest, doubled.weights, doubled.logged) == (once.digest, once.weights, once.logged)


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_id_for_two_records_is_refused(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"log.{suffix}", [*ROWS, {**ROWS[0], "input": "another"}])
    with pytest.raises(QueryError, match="'q0' names records that differ"):
        load_queries(path)


def test_values_of_tables_become_plain_json(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "input": ["x", "y"],
            "at": pd.to_datetime(["2026-11-20T16:02:00Z", None]),
            "day": pd.to_datetime(["2026-11-20", None]),
            "price": [float("nan"), 1.5],
            "tags": [["a"], None],
        }
    )
    frame.to_parquet(tmp_path / "log.parquet")
    for source in (frame, tmp_path / "log.parquet"):
        records = {query.id: dict(query) for query in load_queries(source).queries}
        assert records["1"]["at"] == "2026-11-20T16:02:00+00:00" and records["1"]["day"] == "2026-11-20T00:00:00"
        assert (records["1"]["price"], records["1"]["tags"]) == (None, ["a"])
        assert (records["2"]["at"], records["2"]["price"], records["2"]["tags"]) == (None, 1.5, None)


def test_json_text_is_parsed_in_nested_columns_but_not_in_texts() -> None:
    row = {
        "id": "a",
        "input": '["not a list"]',
        "history": '[{"role": "user", "content": "x"}]',
        "reference": "[1]",
        "plan": "{",
    }
    from_json, from_table = load_queries([row]).queries[0], load_queries(pd.DataFrame([row])).queries[0]
    assert from_json.history == from_table.history == [{"role": "user", "content": "x"}]
    assert from_json.input == from_table.input == '["not a list"]'
    assert (from_json.reference, from_table.reference) == ("[1]", [1])
    assert from_table["plan"] == "{"


def test_a_pattern_reads_every_file(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS[:10])
    jsonl(tmp_path / "b.jsonl", ROWS[10:])
    sample = load_queries("*.jsonl", settings=LogSettings(sample=20), folder=tmp_path)
    assert sample == load_queries(ROWS, settings=LogSettings(sample=20))


def test_a_json_array_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps(ROWS))
    assert load_queries(tmp_path / "log.json") == load_queries(ROWS)


def test_a_query_without_a_cluster_is_its_own() -> None:
    sample = load_queries([{"id": "a", "input": "x", "cluster": "u"}, {"id": "b", "input": "y"}])
    assert sorted(sample.clusters or ()) == ["query b", "u"]
    assert load_queries([{"id": "a", "input": "x"}]).clusters is None


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], LogSettings(), "no records"),
        (
            [{"id": 1, "my question": "x"}],
            LogSettings(),
            r"replayed \(1 no input\); text is in my question; write columns: \{input: my question\}",
        ),
        ([{"id": 1, "input": "x", "intent": "a"}], LogSettings(segment="intents"), "did you mean 'intent'"),
        ([{"id": 1, "input": "x"}], LogSettings(columns={"reference": "gold"}), "no column 'gold'"),
        (["x"], LogSettings(), r"queries\[0\] is a str"),
        ([{"id": i, "input": "x"} for i in range(1_001)], LogSettings(segment="id"), "more than 1000 values"),
        ([{"id": 1, "input": "x", "messages": "hi"}], LogSettings(), "messages must be a list"),
        ([{"id": 1, "input": "x", "size": float("inf")}], LogSettings(), "size is inf"),
        ([{"id": 1, "input": "x", "object": object()}], LogSettings(), "object is a object"),
        (7, LogSettings(), "queries is a int"),
    ],
)
def test_what_cannot_be_sampled_is_refused(rows: Any, settings: LogSettings, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        load_queries(rows, settings=settings)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(QueryError, match="format 'xml' is unknown"):
        LogSettings(format="xml")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="sample is 0"):
        LogSettings(sample=0)
    with pytest.raises(QueryError, match="no log is named"):
        load_queries()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_is_read_whole(tmp_path: Path, suffix: str) -> None:
    rows = [{"query": f"q{i}", "bad_axes": ["prompt"], "text": "x", "error": None} for i in range(3)]
    table = read_table(WRITERS[suffix](tmp_path / f"t.{suffix}", rows))
    assert table == [{"query": f"q{i}", "bad_axes": ["prompt"], "text": "x"} for i in range(3)]


def test_two_thousand_records_load_at_once() -> None:
    import time

    rows = [{**row, "id": f"{row['id']}-{i}"} for i in range(34) for row in ROWS]
    load_queries(rows[:10])  # imports
    started = time.process_time()
    assert load_queries(rows).population == 2_040
    assert time.process_time() - started < 1  # a tenth of a second is meant; the rest is for slow machines


def test_a_name_with_line_ends_does_not_break_the_line() -> None:
    assert instead("input", ["hi", "y\no", "a\u2028b"]) == "; it has a b, hi, y o"


@pytest.mark.parametrize(
    ("head", "mark", "columns"),
    [
        ("id;question;expected_answer", ";", {"input": "question", "reference": "expected_answer"}),
        ("input_text,ground_truth", ",", {"input": "input_text", "reference": "ground_truth"}),
        ("Question\tAnswer\tgold", "\t", {"input": "Question", "output": "Answer", "reference": "gold"}),
        ("User Query,Expected Output", ",", {"input": "User Query", "reference": "Expected Output"}),
    ],
)
def test_columns_whose_names_leave_no_doubt_are_guessed_and_said(
    head: str, mark: str, columns: dict[str, str], tmp_path: Path
) -> None:
    width = len(head.split(mark))
    rows = [mark.join(f"say {n} of {i}" for i in range(width)) for n in range(5)]
    (tmp_path / "log.csv").write_text("\n".join([head, *rows]) + "\n")
    sample = load_queries(tmp_path / "log.csv")
    assert len(sample.queries) == 5
    said = ", ".join(f"{ours}: {name}" for ours, name in columns.items())
    assert f"read as columns: {{{said}}} (guessed)" in sample.notices[0]
    assert all(query.reference is not None for query in sample.queries)


@pytest.mark.parametrize("head", ["foo;bar", "question;query", "note;expected_answer"])
def test_what_is_in_doubt_is_not_guessed(head: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{head}\na b;c d\n")
    with pytest.raises(QueryError, match="none of the 1 records can be replayed"):
        load_queries(tmp_path / "log.csv")
