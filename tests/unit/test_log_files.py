"""How a log is packed and named changes nothing: gzip, zstd, zip, SQLite; several files; files that say nothing of themselves."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zstandard

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.unpack import unpacked

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
ROWS = [{"id": f"q{i}", "input": f"question {i}", "release": "v1"} for i in range(6)]


def with_zstd(source: Path, target: Path) -> Path:
    """The archive with every member compressed by zstd, method 93, as Inspect writes them."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as write:
        sizes = {name: len(read.read(name)) for name in read.namelist()}
        for name in read.namelist():
            write.writestr(name, zstandard.compress(read.read(name)))
        places = [(info.filename, info.header_offset) for info in write.infolist()]
    data = bytearray(target.read_bytes())
    for name, offset in places:
        data[offset + 8 : offset + 10] = struct.pack("<H", 93)
        data[offset + 22 : offset + 26] = struct.pack("<I", sizes[name])
    at = data.find(b"PK\x01\x02")
    for name, _ in places:
        data[at + 10 : at + 12] = struct.pack("<H", 93)
        data[at + 24 : at + 28] = struct.pack("<I", sizes[name])
        at = data.find(b"PK\x01\x02", at + 4)
    target.write_bytes(data)
    return target


def test_an_inspect_archive_may_be_compressed_with_zstd(tmp_path: Path) -> None:
    packed = with_zstd(LOGS / "inspect" / "plants.eval", tmp_path / "plants.eval")
    assert load_queries(packed).queries == load_queries(LOGS / "inspect" / "plants.eval").queries


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = with_zstd(LOGS / "inspect" / "plants.eval", tmp_path / "plants.eval")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(QueryError, match="compressed with zstd, and the package zstandard is not installed") as raised:
        load_queries(packed)
    assert "damaged" not in str(raised.value)


def packed(path: Path, data: bytes, kind: str) -> Path:
    place = path.with_name(f"{path.name}.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr(path.name, data)
    else:
        place.write_bytes(gzip.compress(data) if kind == "gz" else zstandard.compress(data))
    return place


@pytest.mark.parametrize("kind", ["gz", "zst", "zip"])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_a_packed_log_is_the_log(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"log.{suffix}"
    frame = pd.DataFrame(ROWS)
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text(json.dumps(ROWS) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in ROWS))
    sample = load_queries(packed(path, path.read_bytes(), kind))
    assert sample == load_queries(ROWS)
    assert {query["file"] for query in sample.queries} == {f"log.{suffix}.{kind}"}


@pytest.mark.parametrize("kind", ["gz", "zst", "zip"])
def test_a_packed_export_of_a_tool_is_known(tmp_path: Path, kind: str) -> None:
    plain = LOGS / "promptfoo" / "results.json"
    sample = load_queries(packed(tmp_path / "results.json", plain.read_bytes(), kind))
    assert (sample.format, sample.queries) == ("promptfoo", load_queries(plain).queries)


def test_packed_and_plain_files_are_one_log(tmp_path: Path) -> None:
    packed(tmp_path / "a.jsonl", json.dumps(ROWS[0]).encode(), "gz")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    sample = load_queries(str(tmp_path / "*.jsonl*"))
    assert {(query.id, query["file"]) for query in sample.queries} == {
        (f"q{i}", "b.jsonl" if i else "a.jsonl.gz") for i in range(6)
    }


@pytest.mark.parametrize("kind", ["gz", "zst", "zip"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, kind: str) -> None:
    whole = packed(tmp_path / "log.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS * 50), kind)
    whole.write_bytes(whole.read_bytes()[:-40] if kind != "zip" else whole.read_bytes()[:60])
    with pytest.raises(QueryError, match=r"cannot read .*; "):
        load_queries(whole)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisect_ai.queries.unpack.FREE", 2**20)
    with pytest.raises(QueryError, match="more than a log holds"):
        load_queries(packed(tmp_path / "log.jsonl", b"0" * 2**25, "zst"))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    load_queries(packed(tmp_path / "log.jsonl", json.dumps(ROWS[0]).encode(), "gz"))
    gc.collect()
    assert list((tmp_path / "t").iterdir()) == []


def database(path: Path, results: list[dict[str, Any]]) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE evals (id TEXT, created_at INTEGER, description TEXT, prompts TEXT)")
    columns = "id, eval_id, prompt_idx, test_idx, test_case, prompt, provider, response, error, failure_reason, success, score"
    connection.execute(f"CREATE TABLE eval_results ({columns}, grading_result, named_scores, cost, latency_ms)")
    prompts = json.dumps([{"raw": "Desk. {{question}}", "label": "v1"}])
    connection.execute("INSERT INTO evals VALUES ('eval-1', 1777629600000, 'desk', ?)", [prompts])
    for i, row in enumerate(results):
        told = [f"r{i}", "eval-1", 0, i, json.dumps({"vars": {"question": row["asked"]}})]
        told += [json.dumps({"raw": f"Desk. {row['asked']}", "label": "v1"}), json.dumps({"id": "acme:one"})]
        told += [json.dumps({"output": row["said"]}), None, 0, 1, row["score"], None, "{}", 0.1, 5]
        connection.execute(f"INSERT INTO eval_results VALUES ({', '.join('?' * len(told))})", told)
    connection.commit()
    connection.close()
    return path


def test_what_a_kill_left_is_removed_by_the_next_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    log = tmp_path / "log.jsonl.gz"
    log.write_bytes(gzip.compress(json.dumps(ROWS[0]).encode()))
    kept = unpacked([log])
    left = tmp_path / "temp" / "bisect-ai-log-left"
    left.mkdir()
    for folder in (tmp_path / "temp").iterdir():
        os.utime(folder, (0, 0))
    again = unpacked([log])
    assert not left.exists()
    assert kept[0].is_file() and again[0].is_file()


def test_promptfoo_s_database_is_read(tmp_path: Path) -> None:
    sample = load_queries(database(tmp_path / "promptfoo.db", [{"asked": "2+2", "said": "4", "score": 1.0}]))
    (query,) = sample.queries
    assert (sample.format, query.input, query.output, query.scores["score"]) == ("promptfoo", "2+2", "4", 1.0)
    assert (query["run_id"], query["run_at"], query["run_name"], query["model"]) == (
        "eval-1",
        1777629600000,
        "desk",
        "acme:one",
    )


def test_a_database_of_something_else_is_one_line(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    with pytest.raises(QueryError, match="no database of promptfoo, or damaged"):
        load_queries(tmp_path / "x.db")


def test_repeats_are_one_query_with_the_mean_of_their_scores(tmp_path: Path) -> None:
    rows = [
        {"id": f"{i}", "promptIdx": 0, "testIdx": i, "provider": {"id": "p"}, "vars": {"question": "2+2"}, "score": i % 2}
        | {"prompt": {"raw": "Desk: 2+2", "label": "v"}, "response": {"output": str(i)}, "success": bool(i % 2)}
        for i in range(4)
    ]
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (query,) = load_queries(tmp_path / "a.jsonl").queries
    assert (query.input, query.scores["score"], [each["output"] for each in query["repeats"]]) == ("2+2", 0.5, list("0123"))
    assert load_queries(tmp_path / "a.jsonl").dropped == {"repeat of another record": 3}


def test_a_prompt_that_cannot_be_taken_apart_is_told(tmp_path: Path) -> None:
    row = {
        "promptIdx": 0,
        "testIdx": 0,
        "provider": "p",
        "vars": {"city": "Rome", "day": "Monday"},
        "score": 1,
        "success": True,
    }
    row |= {"prompt": {"raw": "Weather in Rome on Monday?"}, "response": {"output": "fine"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    sample = load_queries(tmp_path / "a.jsonl")
    assert sample.queries[0].input == "Weather in Rome on Monday?"
    assert any("the old prompt would be asked inside the new one" in line for line in sample.notices)


def test_ids_that_repeat_over_files_are_told_apart(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        rows = [{"id": i, "input": f"q{i}", "output": name, "scores": {"ok": name == "good"}} for i in range(3)]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rule = {"by": "file", "old": "good/*", "new": "bad/log.*"}
    sample = load_queries("*/log.jsonl", settings=LogSettings(release=rule), folder=tmp_path)
    assert {(q.id, q["id_in_run"], q.release, q.output) for q in sample.queries} == {
        (f"{i} @ {name}/log.jsonl", str(i), label, name) for i in range(3) for name, label in (("good", "old"), ("bad", "new"))
    }
    frames = [pd.read_json(tmp_path / name / "log.jsonl", lines=True) for name in ("good", "bad")]
    for name, frame in zip(("good", "bad"), frames, strict=True):
        frame.to_parquet(tmp_path / name / "log.parquet")
    table = load_queries("*/log.parquet", settings=LogSettings(release=rule), folder=tmp_path)
    assert [(q.release, q["id_in_run"], q.output) for q in table.queries if q.release] and table.kept == sample.kept == 6
    assert [(each.release, each.n, each.scores["ok"].mean) for each in table.logged] == [("new", 3, 0.0), ("old", 3, 1.0)]


def test_paths_may_be_listed_and_copied_without_changing_what_is_asked(tmp_path: Path) -> None:
    for name, row in zip(("a.jsonl", "b.jsonl"), ROWS, strict=False):
        (tmp_path / name).write_text(json.dumps(row))
    both = load_queries([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert {query["file"] for query in both.queries} == {"a.jsonl", "b.jsonl"}
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "renamed.jsonl")
    renamed, named = load_queries(tmp_path / "renamed.jsonl"), load_queries(tmp_path / "a.jsonl")
    assert (renamed.digest, renamed.queries[0].digest) == (named.digest, named.queries[0].digest)


def test_a_rule_without_labels_is_refused() -> None:
    with pytest.raises(QueryError, match="names no column or no label"):
        load_queries(ROWS, settings=LogSettings(release={"by": "file"}))
