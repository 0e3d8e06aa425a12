"""What the figures show, as numbers: tested without drawing anything."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest

from bisect_ai.attribution.stats.inference import t_quantile
from bisect_ai.report import figure_data, figure_values
from bisect_ai.report.figure_values import Absent, Point
from tests.reports import report_of

AXES = ["model", "prompt", "tools"]
COST = {"prompt": 0.04, "model": -0.01}
TOGETHER = 0.2


def value(bad: tuple[str, ...]) -> float:
    pair = TOGETHER if {"prompt", "tools"} <= set(bad) else 0.0
    return 0.9 - sum(COST.get(axis, 0.0) for axis in bad) - pair


def full_report(**changes: Any) -> dict[str, Any]:
    """A full factorial over three axes: prompt costs 0.04, model gains 0.01, prompt and tools together cost 0.2."""
    subsets = [s for size in range(4) for s in itertools.combinations(AXES, size)]
    cells = [
        {"bad_axes": list(s), "value": value(s), "interval": [value(s) - 0.02, value(s) + 0.02], "trials": 100, "status": "run"}
        for s in subsets
    ]
    shares = {"model": -0.01, "prompt": 0.14, "tools": 0.1}
    effects = [_effect([a], "shapley", share) for a, share in shares.items()]
    effects += [_effect([a], "introduced", value(()) - value((a,))) for a in AXES]
    effects += [_effect([a], "reverted", value(tuple(b for b in AXES if b != a)) - value(tuple(AXES))) for a in AXES]
    effects += [_effect(["prompt", "tools"], "interaction", TOGETHER), _effect(["model", "prompt"], "interaction", 0.0)]
    loss = {"estimate": 0.23, "interval": [0.2, 0.26], "good": 0.9, "bad": 0.67, "n": 100}
    verdict = {"kind": "cause", "causes": [], "rollback": {"axes": ["tools"], "value": 0.87, "interval": [0.85, 0.89]}}
    report = {"metric": "correct", "percent": True, "axes": AXES, "loss": loss, "verdict": verdict, "effects": effects}
    return {**report, "cells": cells, **changes}


def _effect(axes: list[str], kind: str, estimate: float) -> dict[str, Any]:
    p = 0.001 if abs(estimate) > 0.05 else 0.9
    return {"axes": axes, "kind": kind, "estimate": estimate, "interval": [estimate - 0.02, estimate + 0.02], "p_adjusted": p}


def adaptive_report() -> dict[str, Any]:
    """A few cells only, and the share of one cause."""
    report = full_report(design="adaptive")
    kept = [c for c in report["cells"] if c["bad_axes"] in ([], ["model", "prompt"], AXES)]
    report["effects"] = [e for e in report["effects"] if e["kind"] == "reverted" and e["axes"] == ["tools"]]
    cause = {"axes": ["prompt", "tools"], "mode": "together", "share": 0.8, "interval": [0.6, 1.0]}
    return {**report, "cells": kept, "verdict": {**report["verdict"], "causes": [cause]}}


def test_the_steps_of_the_waterfall_lead_from_good_to_bad() -> None:
    fall = figure_data.waterfall(report_of(full_report()))
    assert isinstance(fall, figure_values.Waterfall)
    assert [step.label for step in fall.steps] == ["prompt", "tools", "model"]
    assert fall.steps[0].start == fall.good.value == 0.9
    assert [step.start for step in fall.steps[1:]] == [step.end for step in fall.steps[:-1]]
    assert fall.steps[-1].end == pytest.approx(fall.bad.value)
    assert fall.good.interval == (0.88, 0.92)  # of its cell: the loss has none


def test_where_lower_is_better_the_waterfall_rises() -> None:
    report = full_report(higher_is_better=False)
    report["loss"].update(good=0.67, bad=0.9)
    fall = figure_data.waterfall(report_of(report))
    assert isinstance(fall, figure_values.Waterfall)
    assert fall.steps[0].end == pytest.approx(0.67 + 0.14)
    assert fall.steps[-1].end == pytest.approx(0.9)


def test_without_shapley_shares_the_waterfall_has_the_measured_shares_of_the_causes() -> None:
    fall = figure_data.waterfall(report_of(adaptive_report()))
    assert isinstance(fall, figure_values.Waterfall)
    assert [step.label for step in fall.steps] == ["prompt and tools together", "everything else"]
    assert fall.steps[0].cost.value == pytest.approx(0.8 * 0.23)
    assert fall.steps[0].cost.interval == pytest.approx((0.6 * 0.23, 0.23))
    assert fall.steps[1].cost.interval is None
    assert fall.basis == "share of each cause as its rollback measured it"


def test_shares_that_were_not_measured_are_not_invented() -> None:
    report = adaptive_report()
    report["verdict"]["causes"][0]["share"] = None
    fall = figure_data.waterfall(report_of(report))
    assert isinstance(fall, Absent)
    assert "not measured apart" in fall.reason


def test_effects_are_paired_by_axis_and_the_missing_are_named() -> None:
    found = figure_data.effects(report_of(full_report()))
    assert isinstance(found, figure_values.Effects)
    assert [row.axis for row in found.rows] == ["prompt", "tools", "model"]
    assert found.rows[0].introduced is not None
    assert found.rows[0].introduced.value == pytest.approx(0.04)
    assert found.rows[1].reverted is not None
    assert found.rows[1].reverted.value == pytest.approx(0.2)
    few = figure_data.effects(report_of(adaptive_report()))
    assert isinstance(few, figure_values.Effects)
    assert few.missing == ("model", "prompt")
    assert few.rows[0].introduced is None


def test_a_pair_that_matters_shows_its_four_cells() -> None:
    (pair,) = figure_data.interactions(report_of(full_report()))  # type: ignore[misc]  # an Absent would fail to unpack, which is the test
    assert (pair.first, pair.second) == ("prompt", "tools")
    values = [pair.neither.value, pair.first_bad.value, pair.second_bad.value, pair.both.value]
    assert values == pytest.approx([0.9, 0.86, 0.9, 0.66])
    assert pair.effect == Point(TOGETHER, (TOGETHER - 0.02, TOGETHER + 0.02))


def test_pairs_without_their_cells_are_absent_with_the_reason() -> None:
    found = figure_data.interactions(report_of(adaptive_report()))
    assert isinstance(found, Absent)
    assert "four combinations" in found.reason


def test_cells_know_their_role() -> None:
    found = figure_data.cells(report_of(full_report()))
    assert isinstance(found, figure_values.CellPoints)
    assert [row.role for row in found.rows] == ["good", "", "", "", "rollback", "", "", "bad"]
    assert found.rows[4].bad == (True, True, False)
    assert found.left_out == 0


def test_of_many_cells_those_next_to_good_and_bad_stay() -> None:
    axes = list("abcdef")
    subsets = [s for size in range(7) for s in itertools.combinations(axes, size)]
    cells = [{"bad_axes": list(s), "value": 0.5, "interval": None, "trials": 1, "status": "run"} for s in subsets]
    found = figure_data.cells(report_of(full_report(axes=axes, cells=cells, verdict={"kind": "inconclusive"})))
    assert isinstance(found, figure_values.CellPoints)
    assert len(found.rows) == figure_data.MOST_CELLS
    assert found.left_out == 64 - figure_data.MOST_CELLS
    assert sum(sum(row.bad) in (0, 1, 5, 6) for row in found.rows) == 14


def test_the_half_normal_plot_has_the_textbook_effects() -> None:
    plot = figure_data.half_normal(report_of(full_report()))
    assert isinstance(plot, figure_values.HalfNormal)
    sizes = dict(zip(plot.labels, plot.sizes, strict=True))
    assert len(sizes) == 7
    assert sizes["prompt"] == pytest.approx(0.04 + TOGETHER / 2)
    assert sizes["prompt × tools"] == pytest.approx(TOGETHER / 2)
    assert sizes["model"] == pytest.approx(0.01)
    assert sizes["model × tools"] == pytest.approx(0.0, abs=1e-12)
    assert list(plot.sizes) == sorted(plot.sizes)
    # Quantile of the i-th of m: Phi^-1(0.5 + 0.5 (i - 0.5) / m), Daniel (1959)
    assert plot.quantiles[0] == pytest.approx(0.0896, abs=1e-4)
    assert list(plot.quantiles) == sorted(plot.quantiles)


def test_lenths_margin_on_a_known_example() -> None:
    """Lenth (1989): with sizes 1 to 7, s0 = 1.5 * 4 = 6, none is trimmed, PSE = 6, margin = t(0.975, 7/3) * 6."""
    assert figure_data._pseudo_error([1, 2, 3, 4, 5, 6, 7]) == 6
    assert figure_data._pseudo_error([1, 2, 3, 4, 5, 6, 100]) == 1.5 * 3.5
    assert t_quantile(7 / 3) == pytest.approx(3.764, abs=0.001)


@pytest.mark.parametrize("missing", [1, 7])
def test_the_half_normal_plot_needs_every_cell(missing: int) -> None:
    report = full_report()
    report["cells"] = report["cells"][missing:]
    found = figure_data.half_normal(report_of(report))
    assert isinstance(found, Absent)
    assert f"{8 - missing} of 8" in found.reason


def test_segments_come_with_the_overall_loss() -> None:
    rows = [
        {"name": "a", "share": 0.5, "loss": 0.1, "interval": [0.0, 0.2], "n": 50},
        {"name": "b", "share": 0.5, "loss": 0.36, "interval": [0.3, 0.42], "n": 50},
        {"name": "c", "share": 0.0, "loss": None, "interval": None, "n": 0},
    ]
    found = figure_data.segments(report_of(full_report(segments=rows)))
    assert isinstance(found, figure_values.Segments)
    assert [row.name for row in found.rows] == ["b", "a"]
    assert found.overall == Point(0.23, (0.2, 0.26))
    assert isinstance(figure_data.segments(report_of(full_report())), Absent)


def test_a_segment_that_was_given_and_found_is_told_once() -> None:
    row = {"name": "intent = a", "where": {"intent": "a"}, "share": 0.5, "loss": 0.1, "interval": [0.0, 0.2], "n": 50}
    other = {**row, "name": "plan = b", "where": {"plan": "b"}, "found_by": "search", "loss": 0.3}
    found = figure_data.segments(
        report_of(full_report(segments=[{**row, "found_by": "given"}, {**row, "found_by": "search"}, other]))
    )
    assert isinstance(found, figure_values.Segments)
    assert [each.name for each in found.rows] == ["plan = b (found by search)", "intent = a"]


def test_nothing_measured_gives_reasons_and_no_numbers() -> None:
    bare = {"metric": "m", "verdict": {"kind": "inconclusive"}, "loss": None}
    for data in (
        figure_data.waterfall,
        figure_data.effects,
        figure_data.interactions,
        figure_data.cells,
        figure_data.half_normal,
        figure_data.segments,
    ):
        found = data(report_of(bare))
        assert isinstance(found, Absent)
        assert found.reason.endswith(".")


def test_series_need_no_drawing_library() -> None:
    code = (
        "import sys; from bisect_ai.report import figure_data; from tests.unit.test_series import full_report, report_of\n"
        "figure_data.waterfall(report_of(full_report())); assert 'matplotlib' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
