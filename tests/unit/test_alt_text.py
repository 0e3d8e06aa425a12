"""Figures in a notebook bring words for who cannot see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bisect_ai.report import figure_data, figure_values, figures
from bisect_ai.report.figure_values import LONGEST, alt_text
from tests.reports import report_of

REPORTS = Path(__file__).parents[1] / "golden" / "reports"
TOGETHER = report_of(json.loads((REPORTS / "cause_two_of_six.json").read_text(encoding="utf-8")))


def test_every_series_is_told_with_its_numbers() -> None:
    told = alt_text(figure_data.waterfall(TOGETHER))
    assert told.startswith("correct from 90 % (good) to 72 % (bad); cost of each step: ")
    assert alt_text(figure_data.effects(TOGETHER)).startswith(
        "cost of each axis in correct, changed alone and taken back alone: "
    )
    assert alt_text(figure_data.cells(TOGETHER)).startswith(
        "correct of each combination, by what is new in it: nothing (good) 90"
    )
    assert alt_text(figure_data.half_normal(TOGETHER)).startswith("effects by size; beyond what chance gives: ")
    pairs = figure_data.interactions(TOGETHER)
    assert isinstance(pairs, tuple)
    assert alt_text(pairs[0]).startswith("correct with the new version of neither ")
    assert alt_text(figure_values.Absent("why not")) == "why not"
    assert len(alt_text(figure_data.cells(TOGETHER))) <= LONGEST


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_a_notebook_hears_it_beside_the_picture_that_jupyter_draws() -> None:
    import matplotlib.pyplot as plt

    axes = figures.shown(figures.waterfall, figure_data.waterfall(TOGETHER))
    data, metadata = axes.figure._repr_mimebundle_(include=None, exclude=None)  # type: ignore[union-attr]
    assert data == {}
    assert metadata["image/png"]["alt"].startswith("correct from 90 %")
    plt.close("all")
