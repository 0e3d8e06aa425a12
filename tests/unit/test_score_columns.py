"""One table of scores in every container that columns are taken from: the same verdict, and plain Python's own sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bisect_ai
from bisect_ai.attribution.stats import inference
from bisect_ai.attribution.stats.inference import LevelledTable, ScoreTable
from bisect_ai.errors import InputError

AXES = ["model", 'pro"mpt']


def made(seed: int, *, queries: int = 60, text: bool = True, gaps: float = 0.0, repeats: int = 1) -> pd.DataFrame:
    """Rows in random order: the second axis breaks a third of the queries; users have three queries each."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "query": f"it's {q}" if text else q * 7,
            "user": f"u{q // 3}",
            **{axis: cell >> i & 1 for i, axis in enumerate(AXES)},
            "score": np.nan if rng.random() < gaps else float(not (cell & 2 and q % 3 == 0) ^ (rng.random() < 0.05)),
            "bad_axes": [axis for i, axis in enumerate(AXES) if cell >> i & 1],
        }
        for q in range(queries)
        for cell in range(4)
        for _ in range(repeats)
    ]
    return pd.DataFrame(rows).iloc[rng.permutation(len(rows))].reset_index(drop=True)


def as_parquet(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "scores.parquet")
    return folder / "scores.parquet"


CONTAINERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "mappings": lambda frame, folder: frame.to_dict("records"),
    "objects": lambda frame, folder: frame.astype(object),
    "categories": lambda frame, folder: frame.assign(
        query=frame["query"].astype("category"), user=frame["user"].astype("category")
    ),
    "arrow": lambda frame, folder: pa.Table.from_pandas(frame),
    "dictionaries": lambda frame, folder: pa.table(
        {**{name: pa.array(frame[name]) for name in frame}, "query": pa.array(frame["query"]).dictionary_encode()}
    ),
    "reader": lambda frame, folder: pa.Table.from_pandas(frame).to_reader(max_chunksize=50),
    "duckdb": lambda frame, folder: duckdb.read_parquet(str(as_parquet(frame, folder))),
    "parquet": lambda frame, folder: as_parquet(frame, folder),
    "parquet pattern": lambda frame, folder: str(as_parquet(frame, folder).parent / "*.parquet"),
}


def facts(result: bisect_ai.Result) -> dict[str, Any]:
    return {name: value for name, value in result.to_dict().items() if name != "run"}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("table", "how"),
    [
        (made(0), {"axes": AXES}),
        (made(1, text=False), {"axes": AXES, "cluster": "user"}),
        (made(2, gaps=0.2), {"axes": AXES}),
        (made(3, repeats=2), {"axes": dict.fromkeys(AXES, (0, 1))}),
        (made(4, gaps=0.1), {"missing": "unscored"}),
        (made(11).assign(user="u1"), {"axes": AXES, "cluster": "user"}),
    ],
)
def test_every_container_gives_the_same_report_and_rows(
    container: str, table: pd.DataFrame, how: dict[str, Any], tmp_path: Path
) -> None:
    expected = bisect_ai.attribute(table, **how)
    found = bisect_ai.attribute(CONTAINERS[container](table, tmp_path), **how)
    assert facts(found) == facts(expected)
    pd.testing.assert_frame_equal(found.observations, expected.observations, check_dtype=False)
    assert [o.identity for o in found.trials] == [o.identity for o in expected.trials]


@pytest.mark.parametrize("gaps", [0.0, 0.15])
def test_values_are_those_of_sums_row_by_row(gaps: float) -> None:
    table = made(5, gaps=gaps, repeats=2)
    seen: defaultdict[tuple[int, ...], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.to_dict("records"):
        seen[tuple(row[axis] for axis in AXES)][row["query"]].append(0.0 if np.isnan(row["score"]) else row["score"])
    result = bisect_ai.attribute(table, axes=AXES)
    for cell in result.cells.to_dict("records"):
        answers = seen[tuple(int(axis in cell["bad_axes"]) for axis in AXES)]
        assert cell["value"] == pytest.approx(np.mean([np.mean(each) for each in answers.values()]))
        assert cell["trials"] == sum(map(len, answers.values()))
    assert result.cells["errors"].sum() == table["score"].isna().sum()
    counted = result.observations.groupby(["query", "bad_axes"])["repeat"].agg(list)
    assert all(sorted(repeats) == [0, 1] for repeats in counted)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(score="good"), "column 'score' must hold numbers"),
        (lambda t: t.assign(model=t["model"] + 1), r"axis 'model': its column must hold 0 or 1 .* got 2"),
        (lambda t: t.assign(query=t["query"].where(t["user"] != "u1")), "rows have nothing in column 'query'"),
        (
            lambda t: t.assign(model=t["model"].astype("Int8").where(t.index != 3)),
            r"axis 'model': its column must hold 0 or 1 .* got None",
        ),
        (
            lambda t: t.assign(model=t["model"].astype("boolean").where(t.index != 3)),
            r"axis 'model': its column must hold 0 or 1",
        ),
        (lambda t: t.assign(score=t["score"] * 1.7e308), r"column 'score' holds 1\.7e\+308, beyond 1e\+100"),
        (lambda t: t.assign(score=t["score"].replace(1.0, np.inf)), "column 'score' holds inf"),
        (lambda t: t.drop(columns="model"), "no column 'model'"),
        (lambda t: t.assign(score=np.nan), "column 'score' has no score"),
        (lambda t: t[(t["query"] != "it's 5") | (t["model"] == 0)], r"1 of 60 queries lack a cell .*first \"it's 5\""),
    ],
)
def test_what_is_wrong_is_said_of_every_container(container: str, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        bisect_ai.attribute(CONTAINERS[container](change(made(6)), tmp_path), axes=AXES)


@pytest.mark.parametrize("container", ["mappings", "arrow", "duckdb", "parquet"])
def test_rows_at_no_level_are_left_out(container: str, tmp_path: Path) -> None:
    table = made(12, repeats=2)
    gone = table.assign(model=table["model"].astype("Int8").where(table.index % 9 != 0))
    levels = dict.fromkeys(AXES, (0, 1))
    found = bisect_ai.attribute(CONTAINERS[container](gone, tmp_path), axes=levels, incomplete="keep")
    assert facts(found) == facts(bisect_ai.attribute(table[table.index % 9 != 0], axes=levels, incomplete="keep"))


@pytest.mark.parametrize("container", ["mappings", "arrow", "duckdb", "parquet"])
def test_queries_without_a_cluster_are_clusters_of_their_own(container: str, tmp_path: Path) -> None:
    table = made(13)
    named = table.assign(user=table["query"])
    some = named.assign(user=[None if q.endswith("3") else q for q in named["query"]])
    found = bisect_ai.attribute(CONTAINERS[container](some, tmp_path), axes=AXES, cluster="user")
    assert found.to_dict()["loss"] == bisect_ai.attribute(named, axes=AXES, cluster="user").to_dict()["loss"]


@pytest.mark.parametrize("wrap", [lambda q: {"of": [q]}, lambda q: [q, [1]], lambda q: q.encode()])
def test_queries_of_any_type_are_told_apart(wrap: Callable[[str], Any]) -> None:
    table = made(14)
    found = bisect_ai.attribute(table.assign(query=table["query"].map(wrap)), axes=AXES)
    assert found.to_dict()["loss"] == bisect_ai.attribute(table, axes=AXES).to_dict()["loss"]


def test_a_frame_with_a_column_twice_is_refused_and_numbered_columns_are_found() -> None:
    table = made(15)[["query", *AXES, "score"]]
    table.columns = ["query", 0, 1, "score"]
    assert bisect_ai.attribute(table, axes=["0", "1"]).to_dict()["verdict"]["causes"][0]["axes"] == ["1"]
    table.columns = ["query", "model", "model", "score"]
    with pytest.raises(InputError, match="more than one column 'model'"):
        bisect_ai.attribute(table, axes=["model"])


def test_scores_written_as_text_are_numbers(tmp_path: Path) -> None:
    table = made(7, gaps=0.1)
    written = table.assign(score=[None if np.isnan(s) else f" {s}" for s in table["score"]])
    for container in ("objects", "arrow", "parquet"):
        found = bisect_ai.attribute(CONTAINERS[container](written, tmp_path), axes=AXES)
        assert facts(found) == facts(bisect_ai.attribute(table, axes=AXES))


def test_a_number_and_the_same_number_as_text_are_one_query() -> None:
    table = made(8, text=False)
    mixed = table.assign(query=[q if i % 2 else str(q) for i, q in enumerate(table["query"])])
    assert facts(bisect_ai.attribute(mixed, axes=AXES)) == facts(bisect_ai.attribute(table, axes=AXES))


def test_a_damaged_parquet_file_is_refused_in_a_line(tmp_path: Path) -> None:
    path = as_parquet(made(9), tmp_path)
    path.write_bytes(path.read_bytes()[:-400] + b"\0" * 396 + b"PAR1")
    with pytest.raises(InputError, match=r"cannot read .*scores.parquet"):
        bisect_ai.attribute(path, axes=AXES)


@pytest.mark.parametrize("kind", [ScoreTable, LevelledTable])
@pytest.mark.parametrize("gaps", [0.0, 0.2])
@pytest.mark.parametrize("alike", [1, 4])
@pytest.mark.parametrize("population", [float("inf"), 500.0])
def test_a_large_table_gives_the_fits_of_a_small_one(
    kind: type[ScoreTable], gaps: float, alike: int, population: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(10)
    scores = np.repeat(rng.random((200, 1)).round(1), 8, axis=1)  # cells 0 to 3 answer alike: their differences cancel exactly
    scores[:, 4:] += rng.normal(0, 1e-3, (200, 4))
    scores[rng.random(scores.shape) < gaps] = np.nan
    contrasts = [*np.eye(8), *(np.eye(8)[i] - np.eye(8)[j] for i, j in ((0, 1), (2, 3), (0, 4), (4, 7)))]

    def fits() -> list[Any]:
        table = kind(scores, np.ones(200), np.arange(200) // alike, population)
        return [table.fit(c) for c in contrasts]

    expected = fits()
    monkeypatch.setattr(inference, "LARGE", 1)
    for found, fit in zip(fits(), expected, strict=True):
        assert (found.queries, found.freedom, found.value) == (fit.queries, fit.freedom, fit.value)
        assert found.error == pytest.approx(fit.error, rel=1e-8, abs=1e-15)


def test_no_file_of_the_current_folder_is_imported_by_the_process_that_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_parquet(made(16), tmp_path)
    (tmp_path / "duckdb.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert bisect_ai.attribute(path, axes=AXES).verdict.kind
    assert not (tmp_path / "ran").exists()
