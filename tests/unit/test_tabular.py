"""Tables of scores from elsewhere: the verdict is that of the full design, mistakes are named, nothing is replayed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

import bisect_ai
from bisect_ai.errors import InputError

AXES = ["model", "prompt", "tools"]


def table(queries: int = 60, *, seed: int = 0) -> pd.DataFrame:
    """A crossed table in which prompt and tools together break three queries in ten."""
    rng = np.random.default_rng(seed)
    rows = []
    for q in range(queries):
        fragile = rng.random() < 0.3
        for bits in itertools.product([0, 1], repeat=3):
            broken = fragile and bits[1] and bits[2]
            noise = rng.random() < 0.02
            rows.append(
                {"query": f"q{q}", **dict(zip(AXES, bits, strict=True)), "score": float(not (broken ^ noise)), "user": q // 3}
            )
    return pd.DataFrame(rows)


def test_the_planted_pair_is_named_without_a_replay() -> None:
    result = bisect_ai.attribute(table(), axes=AXES)
    assert result.verdict.kind == "cause"
    assert set(result.verdict.causes[0].axes) == {"prompt", "tools"}
    assert result.verdict.causes[0].mode == "together"
    assert result.usage.calls == 0
    assert len(result.cells) == 8
    assert len(result.observations) == 480
    assert result.report["design"] == "table"


def test_the_numbers_are_those_of_a_run_on_the_same_outcomes() -> None:
    frame = table()
    known = {(r["query"], *(r[a] for a in AXES)): r["score"] for _, r in frame.iterrows()}
    run = bisect_ai.run(
        good=dict.fromkeys(AXES, 0),
        bad=dict.fromkeys(AXES, 1),
        queries=[{"id": q, "input": q} for q in frame["query"].unique()],
        target=lambda query, release: str(known[(query.id, *(release[a] for a in AXES))]),
        scorers={"score": lambda query, answer: float(answer.text)},
        design="full",
        drill=False,
        budget={"calls": 480},
    )
    told = bisect_ai.attribute(frame, axes=AXES)
    assert run.verdict.causes[0].axes == told.verdict.causes[0].axes
    ours, theirs = (r.effects.set_index(["axes", "kind"])["estimate"].sort_index() for r in (told, run))
    pd.testing.assert_series_equal(ours, theirs)


@pytest.mark.parametrize("written", ["list", "text", "commas"])
def test_the_cells_may_be_named_in_one_column(written: str) -> None:
    frame = table()
    names = [[a for a in AXES if row[a]] for _, row in frame.iterrows()]
    how: dict[str, Any] = {"list": names, "text": ["+".join(n) for n in names], "commas": [", ".join(n) for n in names]}
    result = bisect_ai.attribute(frame.drop(columns=AXES).assign(bad_axes=how[written]))
    assert set(result.verdict.causes[0].axes) == {"prompt", "tools"}


def test_levels_are_picked_from_a_table_with_more_of_them() -> None:
    frame = table()
    frame["prompt"] = frame["prompt"].map({0: "v1", 1: "v2"})
    more = pd.concat([frame, frame.assign(prompt="v3", score=0.0)])
    result = bisect_ai.attribute(more, axes={"prompt": ("v1", "v2"), "tools": (0, 1), "model": (0, 1)})
    assert set(result.verdict.causes[0].axes) == {"prompt", "tools"}
    assert result.report["loss"]["n"] == 60


def test_a_file_reads_as_the_frame_does(tmp_path: Path) -> None:
    frame = table(20)
    frame.to_csv(tmp_path / "scores.csv", index=False)
    ours, theirs = bisect_ai.attribute(tmp_path / "scores.csv", axes=AXES), bisect_ai.attribute(frame, axes=AXES)
    assert ours.report["loss"] == theirs.report["loss"]


def test_where_lower_is_better_a_rise_is_the_loss() -> None:
    frame = table()
    frame["seconds"] = 3 - 2 * frame["score"]
    result = bisect_ai.attribute(frame, axes=AXES, score="seconds", higher_is_better=False, tolerance=0.1)
    assert result.report["loss"]["estimate"] > 0
    assert result.report["loss"]["good"] < result.report["loss"]["bad"]
    assert set(result.verdict.causes[0].axes) == {"prompt", "tools"}


def test_clusters_widen_the_interval_when_queries_of_a_user_are_alike() -> None:
    frame = table(60)
    frame["user"] = frame["query"].map({f"q{i}": i % 30 for i in range(60)})
    twice = pd.concat([frame, frame.assign(query=frame["query"] + "again")])
    loose, tight = (bisect_ai.attribute(twice, axes=AXES, cluster=c).report["loss"]["interval"] for c in ("user", None))
    assert loose[1] - loose[0] > 1.2 * (tight[1] - tight[0])


def test_repeats_are_averaged_and_failed_rows_are_errors() -> None:
    frame = table()
    noisy = pd.concat([frame, frame.iloc[:8].assign(score=np.nan)])
    result = bisect_ai.attribute(noisy, axes=AXES)
    assert result.cells["errors"].sum() == 8
    assert result.cells["trials"].sum() == 488
    assert "8 of 488 rows have no score" in " ".join(result.report["warnings"])


def test_an_unfinished_table_is_refused_or_pruned() -> None:
    frame = table().iloc[:-3]
    with pytest.raises(InputError, match=r"1 of 60 queries lack a cell that others have \(first 'q59', which lacks"):
        bisect_ai.attribute(frame, axes=AXES)
    assert bisect_ai.attribute(frame, axes=AXES, incomplete="drop").report["loss"]["n"] == 59
    assert bisect_ai.attribute(frame, axes=AXES, incomplete="keep").report["loss"]["n"] == 60


def test_a_fraction_of_the_cells_says_what_it_cannot_tell() -> None:
    frame = table()
    half = frame[(frame["model"] + frame["prompt"] + frame["tools"]) % 2 == 1]
    corners = frame[(frame["model"] == frame["prompt"]) & (frame["prompt"] == frame["tools"])]
    result = bisect_ai.attribute(pd.concat([half, corners[corners["model"] == 0]]), axes=AXES)
    assert "3 of 8 combinations are not in the table" in " ".join(result.report["warnings"])
    assert result.effects["estimate"].isna().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="query"), "no column 'query'"),
        (lambda f: f.drop(columns="score"), "no column 'score'"),
        (lambda f: f.drop(columns="tools"), "no column 'tools'"),
        (lambda f: f.assign(score="good"), "must hold numbers"),
        (lambda f: f.assign(score=np.nan), "has no score"),
        (lambda f: f.assign(prompt=f["prompt"] + 1), "its column must hold 0 or 1"),
        (lambda f: f[f["tools"] == 1], "no row for the good release"),
        (lambda f: f[f["tools"] == 0], "no row for the bad release"),
        (lambda f: f.iloc[:0], "has no rows"),
        (lambda f: f[f["query"] == "q0"], "fewer than 2 queries"),
    ],
)
def test_what_is_wrong_is_said(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bisect_ai.attribute(change(table(4)), axes=AXES)


def test_without_axes_the_message_says_what_to_give() -> None:
    with pytest.raises(InputError, match="name the axes' columns by `axes`"):
        bisect_ai.attribute(table(4))
    with pytest.raises(InputError, match="two levels as"):
        bisect_ai.attribute(table(4), axes={"prompt": ("v1",)})  # type: ignore[dict-item]  # that is the mistake


DAYS = date(2026, 11, 13), date(2026, 11, 20)
TIMES = pd.Timestamp("2026-11-13", tz="Europe/Berlin"), pd.Timestamp("2026-11-20 12:00", tz="Europe/Berlin")
CENTS = Decimal("0.10"), Decimal("0.2")


def prompts(levels: tuple[Any, Any]) -> Any:
    return lambda frame: frame.assign(prompt=[levels[bit] for bit in frame["prompt"]])


def with_text(text: str) -> Any:
    return lambda frame: frame.assign(score=[text if i == 31 else str(score) for i, score in enumerate(frame["score"])])


def outcome(given: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The report and the names of the queries, or the first words of what is wrong."""
    try:
        result = bisect_ai.attribute(given, **options)
    except InputError as error:
        return str(error).split(": ")[:2], None
    return result.to_dict(), list(result.observations["query"])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda f: f, {}),
        (lambda f: f.assign(user=True), {"cluster": "user"}),
        (lambda f: f.assign(prompt=True), {}),
        (lambda f: f.assign(query=[int(q[1:]) - 30 for q in f["query"]]).astype({"query": "Int64"}), {}),
        (lambda f: f.assign(user=[None if i % 5 == 0 else u / 4 for i, u in enumerate(f["user"])]), {"cluster": "user"}),
        (lambda f: f.assign(query=[Decimal(q[1:]) / 4 for q in f["query"]], score=f["score"] > 0), {}),
        (lambda f: f.assign(query=[TIMES[0] + pd.Timedelta(hours=int(q[1:])) for q in f["query"]]), {}),
        (prompts(("v1", "v2")), {"axes": {"prompt": ("v1", "v2"), "tools": (0, 1)}}),
        (prompts(DAYS), {"axes": {"prompt": DAYS, "tools": (0, 1)}}),
        (prompts(TIMES), {"axes": {"prompt": TIMES, "tools": (0, 1)}}),
        (prompts(CENTS), {"axes": {"prompt": (0.1, Decimal("0.2")), "tools": (0, 1)}}),
        (prompts((Decimal("0.00"), Decimal("1.00"))), {}),
        *((with_text(text), {}) for text in ("nan", "\t0.5 ", "1_0", "1\u00a0")),
    ],
)
def test_every_holder_of_a_table_gives_the_same(change: Any, options: Any, tmp_path: Path) -> None:
    frame = change(table(20))
    whole = pyarrow.table({name: pyarrow.array(frame[name], from_pandas=name != "user") for name in frame})  # a user may be NaN
    arrow = pyarrow.concat_tables([whole.slice(0, 77), whole.slice(77)])
    pyarrow.parquet.write_table(whole, tmp_path / "table.parquet", row_group_size=50)
    relation = duckdb.connect().from_arrow(arrow)
    expected = outcome(frame, {"axes": AXES, **options})
    for given in (arrow, relation, tmp_path / "table.parquet", arrow.to_pylist()):
        assert outcome(given, {"axes": AXES, **options}) == expected


def test_what_duckdb_cannot_hold_is_said() -> None:
    whole = pyarrow.Table.from_pandas(table(4))
    twice = whole.append_column("score", whole["query"])
    halves = whole.append_column("half", pyarrow.array(np.zeros(len(whole)), pyarrow.float16()))
    for given, message in ((twice, "more than one column 'score'"), (halves, "cannot read the table")):
        with pytest.raises(InputError, match=message):
            bisect_ai.attribute(given, axes=AXES)
