"""`where`, time windows, floors and whole clusters: the same records count in every format."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings, Sample

ROWS: list[dict[str, Any]] = [
    {
        "id": f"q{i:03}",
        "input": f"ask {i}",
        "plan": "pro" if i % 3 else "it's",
        "latency": i / 10,
        "scores": {"correct": i % 2},
        "at": f"2026-11-{10 + i // 10:02}T{i % 10:02}:00:00Z",
        "release": None if i % 5 == 0 else "old" if i < 50 else "new",
        "user": f"u{i // 4}",
        "intent": "rare" if i % 20 == 0 else "usual",
    }
    for i in range(100)
]
SUFFIXES = ("rows", "jsonl", "csv", "parquet")


def sampled(tmp_path: Path, suffix: str, **settings: Any) -> Sample:
    path = tmp_path / f"log.{suffix}"
    if suffix == "rows":
        return load_queries(ROWS, settings=LogSettings(**settings))
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif suffix == "csv":
        pd.DataFrame([{**row, "scores": json.dumps(row["scores"])} for row in ROWS]).to_csv(path, index=False)
    else:
        pd.DataFrame(ROWS).to_parquet(path)
    return load_queries(path, settings=LogSettings(**settings))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_condition_leaves_records_out_and_counts_them(tmp_path: Path, suffix: str) -> None:
    sample = sampled(tmp_path, suffix, where="latency > 4.95 and plan = 'it''s'", sample=None)
    wanted = {row["id"] for row in ROWS if row["latency"] > 4.95 and row["plan"] == "it's"}
    assert {query.id for query in sample.queries} == wanted
    assert sample.dropped == {"left out by where": 100 - len(wanted)}
    assert sum(each.n for each in sample.logged) == len(wanted)


@pytest.mark.parametrize("suffix", ["rows", "jsonl", "parquet"])
def test_a_condition_reaches_into_objects(tmp_path: Path, suffix: str) -> None:
    sample = sampled(tmp_path, suffix, where="scores.correct = 1", sample=None)
    assert sample.kept == 50


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_window_of_time_leaves_records_out(tmp_path: Path, suffix: str) -> None:
    sample = sampled(tmp_path, suffix, since="2026-11-12", until="2026-11-13T05:00:00+00:00", sample=None)
    assert sorted(query.id for query in sample.queries) == [f"q{i:03}" for i in range(20, 35)]
    assert sample.dropped == {"outside the time window": 85}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_windows_of_releases_name_what_has_no_release(tmp_path: Path, suffix: str) -> None:
    windows = {"old": {"until": "2026-11-14"}, "new": {"since": "2026-11-16", "until": "2026-11-18"}}
    sample = sampled(tmp_path, suffix, windows=windows, sample=None)
    assert [(each.release, each.n) for each in sample.logged] == [("new", 20), ("old", 40)]
    assert {query.id for query in sample.queries if query.release == "old"} == {f"q{i:03}" for i in range(40)}
    assert sample.dropped == {"outside the time window": 40}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_clusters_are_drawn_whole(tmp_path: Path, suffix: str) -> None:
    sample = sampled(tmp_path, suffix, cluster="user", sample=10)
    assert 10 <= len(sample) <= 13
    assert set(Counter(sample.clusters or ()).values()) == {4}
    assert sum(sample.weights) == pytest.approx(100)
    listed = sampled(tmp_path, "rows", cluster="user", sample=10)
    assert [query.id for query in sample.queries] == [query.id for query in listed.queries]


def test_a_cluster_larger_than_the_sample_is_cut() -> None:
    rows = [{"id": str(i), "input": f"ask {i}", "cluster": "bot"} for i in range(100)]
    assert len(load_queries(rows, settings=LogSettings(sample=10))) == 10


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_segment_has_its_floor(tmp_path: Path, suffix: str) -> None:
    sample = sampled(tmp_path, suffix, segment="intent", sample=20, floor=4)
    assert Counter(sample.segments) == {"usual": 16, "rare": 4}
    assert sum(sample.weights) == pytest.approx(100)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "condition",
    [
        "latency >",
        "latncy > 1",
        "latency > 1) OR (",
        "latency > 1; DROP TABLE x",
        "latency > (SELECT count(*) FROM read_text('/etc/hostname'))",
        "latency > 1 AND getenv('HOME') = 'x'",
        "error('latency')::BOOLEAN",
    ],
)
def test_a_condition_that_cannot_be_used_is_one_line(tmp_path: Path, suffix: str, condition: str) -> None:
    with pytest.raises(QueryError, match=r"cannot use log\.where") as caught:
        sampled(tmp_path, suffix, where=condition)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"since": "soon"}, "cannot read 'soon' as a time"),
        ({"since": "2026-11-20", "until": "2026-11-19"}, "is empty"),
        ({"windows": {"a": {"until": "2026-11-20"}, "b": {"since": "2026-11-19"}}}, "windows of a and b overlap"),
        ({"until": "2020-01-01"}, "widen log.where, since, until or windows"),
        ({"floor": 0}, "floor is 0"),
    ],
)
def test_filters_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    for suffix in ("rows", "parquet"):
        with pytest.raises(QueryError, match=message):
            sampled(tmp_path, suffix, **settings)


@pytest.mark.parametrize("at", [{"$date": "2026-11-20T10:00:00Z"}, {"$date": {"$numberLong": "1795168800000"}}])
def test_times_as_a_document_database_exports_them(at: Any) -> None:
    rows = [{"id": 1, "input": "hi", "at": at}, {"id": 2, "input": "ho", "at": {"$date": "2026-11-19T10:00:00Z"}}]
    sample = load_queries(rows, settings=LogSettings(since="2026-11-20"))
    assert [query.input for query in sample.queries] == ["hi"]


def test_recognition_reads_a_few_rows_of_a_table_and_no_more(tmp_path: Path) -> None:
    from bisect_ai.queries.sandbox import ParquetRows

    pd.DataFrame(ROWS).to_parquet(tmp_path / "log.parquet")
    assert len(list(ParquetRows(tmp_path / "log.parquet", most=3).rows())) == 3
    assert len(list(ParquetRows(tmp_path / "log.parquet").rows())) == 100
