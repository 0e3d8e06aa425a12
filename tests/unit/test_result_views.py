"""What a notebook sees: tidy frames with their documented columns, plots as matplotlib axes, a static safe display, stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest

import bisect_ai
from bisect_ai.errors import StoreError
from bisect_ai.result import Result
from bisect_ai.runs import frames
from bisect_ai.runs.ledger import Spending
from tests.faults.test_output_injection import load, poison
from tests.unit.test_tabular import AXES, table

matplotlib.use("agg")


@pytest.fixture(scope="module")
def result() -> Result:
    return bisect_ai.attribute(table(), axes=AXES)


def test_every_frame_has_its_columns_even_without_rows(result: Result) -> None:
    empty = Result({**result.report, "effects": [], "cells": [], "changes": []}, Spending())
    for each in (result, empty):
        assert tuple(each.effects.columns) == frames.EFFECTS
        assert tuple(each.cells.columns) == frames.CELLS
        assert tuple(each.changes.columns) == frames.CHANGES
        assert tuple(each.segments.columns) == frames.SEGMENTS
        assert tuple(each.side_metrics.columns) == frames.SIDE_METRICS
    assert tuple(empty.observations.columns) == frames.OBSERVATIONS
    assert set(frames.OBSERVATIONS) | {"score"} == set(result.observations.columns)


def test_the_columns_are_documented() -> None:
    for name, columns in {
        "effects": frames.EFFECTS,
        "cells": frames.CELLS,
        "changes": frames.CHANGES,
        "segments": frames.SEGMENTS,
        "side_metrics": frames.SIDE_METRICS,
        "observations": frames.OBSERVATIONS,
    }.items():
        text = getattr(Result, name).__doc__
        assert [column for column in columns if column not in text] == [], name


def test_undefined_is_nan_and_columns_are_numbers(result: Result) -> None:
    report = result.to_dict()
    report["effects"][0].update(estimate=None, interval=None, p_adjusted=None)
    frame = Result(report, Spending()).effects
    assert pd.isna(frame.loc[0, ["estimate", "low", "high", "p_adjusted"]]).all()
    assert {str(frame[c].dtype) for c in ("estimate", "low", "high", "p_adjusted")} == {"float64"}


@pytest.mark.parametrize("plot", ["plot_waterfall", "plot_effects", "plot_cells"])
def test_plots_are_axes_and_draw_where_they_are_told(plot: str, result: Result) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    drawn = getattr(result, plot)()
    assert isinstance(drawn, Axes)
    assert drawn.has_data()
    _, ax = plt.subplots()
    assert getattr(result, plot)(ax=ax) is ax
    plt.close("all")


def test_a_pair_that_matters_has_its_axes(result: Result) -> None:
    from matplotlib import pyplot as plt

    (drawn,) = result.plot_interactions()
    assert "prompt × tools" in drawn.get_title(loc="left")
    assert result.plot_effects(kind="shapley").has_data()
    plt.close("all")


def test_a_plot_without_data_says_why() -> None:
    from matplotlib import pyplot as plt

    bare = Result({**load("not_reproduced"), "effects": [], "cells": []}, Spending())
    for plot in (
        bare.plot_effects,
        bare.plot_cells,
        lambda: bare.plot_interactions()[0],
        lambda: bare.plot_effects(kind="shapley"),
    ):
        (text,) = plot().texts
        assert text.get_text().endswith(".")
    plt.close("all")


def test_the_notebook_display_is_static(result: Result) -> None:
    shown = result._repr_html_()
    assert result.verdict.sentence in shown
    assert "<svg" in shown
    for active in ("<script", "<a ", "<img", "onerror=", "http", "<style", "<link"):
        assert active not in shown


@pytest.mark.parametrize("payload", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"><b>", "\x1b[31m\u202e"])
def test_hostile_text_in_the_notebook_is_text(payload: str) -> None:
    shown = Result(poison(load("cause_together"), payload), Spending())._repr_html_()
    assert payload not in shown
    assert "<script" not in shown
    assert "\x1b" not in repr(Result(poison(load("cause_together"), payload), Spending()))


def test_a_stored_run_is_loaded_with_its_observations(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "good": {"prompt": "a", "model": "m"},
        "bad": {"prompt": "b", "model": "n"},
        "queries": [{"id": f"q{i}", "input": str(i)} for i in range(60)],
        "target": answer,
        "scorers": {"correct": correct},
        "budget": {"calls": 400},
        "store": tmp_path / "store",
    }
    ran = bisect_ai.run(**given)
    loaded = bisect_ai.load(ran.report["run"][:8], store=tmp_path / "store")
    assert loaded.report == ran.report
    assert loaded.usage.calls == ran.usage.calls
    assert {"nothing (good)", "everything (bad)"} <= set(ran.answers["combination"])
    assert ran.answers["input"].notna().all()
    assert not ran.answers.duplicated(["query", "bad_axes"]).any()
    sides = [{(r.query, r.bad_axes): r.answer for r in each.answers.itertuples()} for each in (ran, loaded)]
    assert sides[0] == sides[1]  # the answers are in the store, the texts of the queries are not
    assert loaded.answers["input"].isna().all()
    ours, theirs = (r.observations.sort_values(["query", "bad_axes", "repeat"]) for r in (loaded, ran))
    columns = ["query", "bad_axes", "repeat", "correct"]
    pd.testing.assert_frame_equal(ours[columns].reset_index(drop=True), theirs[columns].reset_index(drop=True))
    with pytest.raises(StoreError, match="no run"):
        bisect_ai.load("zzz", store=tmp_path / "store")
    with pytest.raises(StoreError, match="no store"):
        bisect_ai.load("zzz", store=tmp_path / "nowhere")


def answer(query: Any, release: Any) -> str:
    return "right" if release["prompt"] == "a" else "wrong"


def correct(query: Any, answer: Any) -> bool:
    return bool(answer.text == "right")


def test_cells_are_those_that_were_run_and_print_shows_the_card(result: Result) -> None:
    assert set(result.cells["status"]) == {"run"}
    lines = str(result).splitlines()
    assert len(lines) <= 20
    assert any("result.write_rollback(" in line for line in lines)
    assert any(line.startswith("More      result.to_html(") for line in lines)


def test_cells_hold_only_what_was_measured() -> None:
    good = {"bad_axes": [], "status": "run", "value": 0.9, "interval": [0.8, 1.0], "n": 40, "trials": 40, "errors": 0}
    chosen = {"bad_axes": ["prompt"], "status": "run", "value": None, "interval": None, "n": 0, "trials": 8, "errors": 0}
    failed = {"bad_axes": ["tools"], "status": "run", "value": None, "interval": None, "n": 0, "trials": 8, "errors": 8}
    report = {"metric": "m", "verdict": {"kind": "cause"}, "cells": [good, chosen, failed]}
    assert Result(report, Spending()).cells["bad_axes"].tolist() == [(), ("tools",)]
