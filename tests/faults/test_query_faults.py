"""Broken and hostile logs: one clear line that names file and line, or a counted loss, never a traceback or a wrong sample."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries import values
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.parquet import ParquetLog
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import LogSettings

GOOD = b'{"id": "a", "input": "x"}\n'
BAD_LINES = {
    "nan": (b'{"id": "b", "input": "x", "score": NaN}', "NaN is not JSON"),
    "overflow": (b'{"id": "b", "input": "x", "score": 1e999}', "1e999 is out of range"),
    "long number": (b'{"id": "b", "input": ' + b"9" * 5_000 + b"}", "Exceeds the limit"),
    "deep": (b'{"id": "b", "input": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nested more than 64 deep"),
    "deep enough": (b'{"id": "b", "input": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 deep"),
    "twice": (b'{"id": "b", "id": "c", "input": "x"}', "the key 'id' is there twice"),
    "raw NUL": (b'{"id": "b", "input": "\0"}', "column 23"),
    "cut": (b'{"id": "b", "inp', "column 13"),
    "not utf-8": (b'{"id": "b", "input": "\xff"}', "byte 23 is not UTF-8"),
    "a list": (b'["b"]', "a list, not an object"),
    "two": (b'{"id": "b", "input": "x"} {"id": "c", "input": "x"}', "Extra data"),
}


@pytest.mark.parametrize("fault", BAD_LINES)
def test_a_bad_line_is_named_or_counted(tmp_path: Path, fault: str) -> None:
    line, message = BAD_LINES[fault]
    log = tmp_path / "log.jsonl"
    log.write_bytes(GOOD + b"\n" + line + b"\n" + b'{"id": "z", "input": "y"}')
    with pytest.raises(QueryError, match=f"log.jsonl line 3: .*{message}.*skip_bad"):
        load_queries(log)
    sample = load_queries(log, settings=LogSettings(skip_bad=True))
    assert sorted(query.id for query in sample.queries) == ["a", "z"]
    assert (sample.read, sample.kept, sample.dropped) == (3, 2, {"unreadable": 1})


def test_an_endless_line_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisect_ai.queries.readers.MAX_LINE", 2**20)
    log = tmp_path / "log.jsonl"
    log.write_bytes(GOOD + b'{"id": "b", "input": "' + b"x" * (3 * 2**20) + b'"}\n{"id": "c", "input": "x"}\n')
    with pytest.raises(QueryError, match="line 2: longer than 1 MiB"):
        load_queries(log)
    sample = load_queries(log, settings=LogSettings(skip_bad=True))
    assert sorted(query.id for query in sample.queries) == ["a", "c"]


def test_odd_strings_are_data(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(
        b'\xef\xbb\xbf{"id": "\\ud83d", "input": "a\\u0000b\\u2028"}\r\n{"id": "\xc3\xa9", "input": "\xe2\x80\xa8"}\r\n'
    )
    queries = {query.id: query for query in load_queries(log).queries}
    assert queries["\ud83d"].input == "a\0b\u2028" and queries["é"].input == "\u2028"
    assert len({query.digest for query in queries.values()}) == 2


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "json"])
def test_utf16_is_refused(tmp_path: Path, suffix: str) -> None:
    log = tmp_path / f"log.{suffix}"
    log.write_text('{"id": 1}', encoding="utf-16")
    with pytest.raises(QueryError, match="it is UTF-16; save it as UTF-8"):
        load_queries(log)


BAD_CELLS = {
    "ragged": (b"b,x,y,z\n", "4 cells where the header has 2"),
    "short": (b"b\n", "1 cells where the header has 2"),
    "NUL": (b"b,\0\n", "it holds a NUL byte"),
    "not utf-8": (b"b,\xff\n", "it is not UTF-8"),
    "quotes": (b'b,"x"y\n', "expected after"),
}


@pytest.mark.parametrize("fault", BAD_CELLS)
def test_a_bad_csv_line_is_named_or_counted(tmp_path: Path, fault: str) -> None:
    line, message = BAD_CELLS[fault]
    log = tmp_path / "log.csv"
    log.write_bytes(b'id,input\na,"two\nlines"\n' + line + b"z,y\n")
    with pytest.raises(QueryError, match=f"log.csv line 4: .*{message}.*skip_bad"):
        load_queries(log)
    sample = load_queries(log, settings=LogSettings(skip_bad=True))
    assert sorted((query.id, query.input) for query in sample.queries) == [("a", "two\nlines"), ("z", "y")]
    assert sample.dropped == {"unreadable": 1}


def test_csv_fields_may_be_long_and_start_with_a_hash(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"\ufeffid;input\n#1;{'x' * 300_000}\n\n'2';\"=cmd()\"\n", encoding="utf-8")
    queries = {query.id: query.input for query in load_queries(log).queries}
    assert queries == {"#1": "x" * 300_000, "'2'": "=cmd()"}


def test_a_csv_header_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("id,input,input\n1,x,y\n")
    with pytest.raises(QueryError, match="the column 'input' is there twice"):
        load_queries(tmp_path / "log.csv")


def test_an_open_quote_at_the_end_of_a_csv_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('id,input\n1,x\n2,"y\n')
    with pytest.raises(QueryError, match=r"log.csv line 3: unexpected end of data"):
        load_queries(tmp_path / "log.csv")


def parquet(path: Path) -> Path:
    import pandas as pd

    pd.DataFrame({"id": ["a", "b"], "input": ["x", "y"]}).to_parquet(path)
    return path


def test_damaged_parquet_is_one_line_or_the_whole_log(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "log.parquet").read_bytes()
    rng, damaged = random.Random(0), tmp_path / "damaged.parquet"
    for _ in range(8):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        if len(data) == len(whole):
            data[rng.randrange(len(data))] ^= 0xFF
        damaged.write_bytes(data)
        try:
            assert load_queries(damaged).read == 2
        except QueryError as error:
            assert "\n" not in str(error)


def test_quotes_in_a_parquet_file_name_are_no_sql(tmp_path: Path) -> None:
    folder = tmp_path / "it's; DROP TABLE x --"
    folder.mkdir()
    assert len(load_queries(parquet(folder / 'o"k.parquet'))) == 2


def test_quotes_in_column_names_are_no_sql(tmp_path: Path) -> None:
    import pandas as pd

    odd = "a\"; DROP TABLE x; --'"
    pd.DataFrame({"id": [1], "input": ["x"], odd: [{odd: "deep"}]}).to_parquet(tmp_path / "log.parquet")
    settings = LogSettings(segment=odd, columns={"cluster": f"{odd}.{odd}"})
    assert load_queries(tmp_path / "log.parquet", settings=settings).queries[0][odd] == {odd: "deep"}


def test_a_parquet_name_that_is_a_pattern_to_duckdb_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a1.parquet")
    with pytest.raises(QueryError, match="rename the file"):
        load_queries(parquet(tmp_path / "a[1].parquet"))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('{other}')",
        "SELECT * FROM read_text('{other}')",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/x.duckdb'",
        "EXPORT DATABASE '{folder}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/']",
        "SET memory_limit = '99GB'",
    ],
)
def test_the_connection_reaches_the_log_and_nothing_else(tmp_path: Path, statement: str) -> None:
    (tmp_path / "other.csv").write_text("secret\n1\n")
    log = ParquetLog([parquet(tmp_path / "log.parquet")], Shape.of(LogSettings(), tabular=True))
    with pytest.raises(QueryError), log._open() as run:
        run(statement.format(other=tmp_path / "other.csv", folder=tmp_path)).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.parquet", "other.csv"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jsonl", "no such file"),
        ("folder.jsonl", "not a regular file"),
        ("pipe.jsonl", "not a regular file"),
        ("log.xlsx", "cannot tell the format"),
        ("mixed*", "mixes formats"),
        ("broken.json", "column 14"),
    ],
)
def test_what_is_not_a_log_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    for other in ("log.xlsx", "mixed.csv", "mixed.jsonl"):
        (tmp_path / other).write_text("x")
    (tmp_path / "broken.json").write_text('[{"id": "a", }]')
    with pytest.raises(QueryError, match=message):
        load_queries(name, folder=tmp_path)


def test_random_bytes_end_in_one_line(tmp_path: Path) -> None:
    rng = random.Random(1)
    seeds = [GOOD * 3, b"id,input\n1,x\n2,y\n", json.dumps([{"id": 1, "input": "x"}]).encode()]
    for number in range(300):
        data = bytearray(seeds[number % 3])
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        log = tmp_path / f"log.{('jsonl', 'csv', 'json')[number % 3]}"
        log.write_bytes(data)
        try:
            sample = load_queries(log, settings=LogSettings(skip_bad=number % 2 == 0))
            assert sample.read == sample.kept + sum(sample.dropped.values())
        except QueryError as error:
            assert len(str(error)) < 600


def test_json_text_in_a_cell_is_read_strictly() -> None:
    assert values.embedded('{"a": NaN}') == '{"a": NaN}'
    assert values.embedded("[" * 5_000) == "[" * 5_000
    assert values.embedded(' [1, {"a": 2}]') == [1, {"a": 2}]
