"""The linear model that a fixed design reports, and the small statistics of our own, against statsmodels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bisect_ai
from bisect_ai.attribution.designs.fractions import fraction
from bisect_ai.attribution.problem import Problem, interaction_contrast
from bisect_ai.attribution.stats import contrasts
from bisect_ai.attribution.stats.contrasts import factorial_contrast
from bisect_ai.attribution.stats.inference import ScoreTable, estimate, fit_regression, regression_terms
from bisect_ai.attribution.stats.smallest_loss import _smallest_effect
from bisect_ai.errors import InputError

AXES = ("model", "prompt", "tools")


def drawn(k: int, n: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 1 << k)) < 0.8 - 0.3 * rng.random(1 << k)).astype(float)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("clustered", [False, True])
def test_the_full_design_is_a_clustered_weighted_regression(clustered: bool, missing: float) -> None:
    rng, n = np.random.default_rng(1), 120
    scores = np.where(rng.random((n, 8)) < missing, np.nan, drawn(3, n))
    table = ScoreTable(scores, rng.uniform(0.5, 2.0, n), np.arange(n) // (2 if clustered else 1), float("inf"))
    fitted = fit_regression(table, AXES)
    rows, terms = fitted.model.exog.shape
    assert (rows, terms) == (np.isfinite(scores).sum(), 8)
    inflation = np.sqrt((rows - 1) / (rows - terms))
    for chosen in contrasts.subsets(3):
        ours, name = table.fit(interaction_contrast(3, chosen)), ":".join(AXES[a] for a in chosen)
        assert ours is not None
        assert ours.value == pytest.approx(fitted.params[name])
        assert ours.error == pytest.approx(fitted.bse[name] / inflation)
        assert fitted.conf_int().loc[name, 1] - ours.value == pytest.approx(inflation * (ours.interval()[1] - ours.value))
    assert all(name in str(fitted.summary()) for name in AXES)


@pytest.mark.parametrize("k", [4, 6, 8])
def test_a_fraction_names_what_it_cannot_tell_apart(k: int) -> None:
    axes = tuple("abcdefgh"[:k])
    design = fraction(axes)
    scores = np.full((60, 1 << k), np.nan)
    scores[:, design.cells] = drawn(k, 60)[:, design.cells]
    table = ScoreTable(scores, np.ones(60), np.arange(60), float("inf"))
    fitted = fit_regression(table, axes)
    for a, axis in enumerate(axes):
        contrast = factorial_contrast(k, (a,), table.mass > 0)
        assert contrast is not None
        assert fitted.params[axis] == pytest.approx(contrast @ np.nan_to_num(table.means))
    for group in design.aliases:
        (name,) = [name for name in fitted.params.index if ":".join(group[0]) in name.replace("-", "").split(" = ")]
        assert set(name.replace("-", "").split(" = ")) == {":".join(pair) for pair in group}


def test_good_and_bad_alone_tell_no_axis_from_another() -> None:
    assert list(regression_terms(AXES, np.array([0, 7]))) == ["const", "model = prompt = tools"]


def test_a_run_of_a_fixed_design_has_a_model_and_an_adaptive_one_says_why_not(tmp_path: Path) -> None:
    def ask(design: str) -> bisect_ai.Result:
        return bisect_ai.run(
            good={"prompt": "kind", "tools": "a"},
            bad={"prompt": "terse", "tools": "b"},
            queries=[{"id": f"q{i}", "input": f"{i}", "reference": "x"} for i in range(60)],
            target=lambda query, release: "y" if release["prompt"] == "terse" and int(query.input) % 3 else "x",
            scorers={"correct": lambda query, answer: query.reference in answer.text},
            design=design,
            budget={"calls": 240},
        )

    result = ask("full")
    (interaction,) = result.effects.query("kind == 'interaction'")["estimate"]
    assert interaction == pytest.approx(result.model.params["prompt:tools"], abs=1e-9)
    assert result.model.params["prompt"] == pytest.approx(2 / 3) and result.model.nobs == 240
    with pytest.raises(InputError, match=r"no linear model.*`design` is full or fractional"):
        print(ask("adaptive").model)


def test_a_run_that_is_not_asked_for_its_model_does_not_load_statsmodels() -> None:
    code = """
import sys, bisect_ai
queries = [{"id": f"q{i}", "input": "x", "reference": "x"} for i in range(40)]
result = bisect_ai.run(good={"p": "a", "q": "1"}, bad={"p": "b", "q": "2"}, queries=queries, design="full", budget={"calls": 160},
                       target=lambda query, release: release["p"], scorers={"c": lambda query, answer: answer.text == "a"})
result.to_html()
assert result.verdict.kind == "cause" and "statsmodels" not in sys.modules
assert result.model.params["p"] > 0.999 and "statsmodels" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_an_attributed_table_has_a_model() -> None:
    rows = [
        {"query": f"q{q}", "prompt": p, "model": m, "score": float((q + p * (q % 2)) % 3 > 0)}
        for q in range(30)
        for p in (0, 1)
        for m in (0, 1)
    ]
    result = bisect_ai.attribute(rows, axes=["prompt", "model"])
    assert list(result.model.params.index) == ["const", "prompt", "model", "prompt:model"]
    assert result.model.params["model"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("queries", "cells", "axes"), [(100, 8, 3), (400, 4, 2), (60, 16, 4)])
def test_the_smallest_effect_has_the_power_that_statsmodels_says(queries: int, cells: int, axes: int) -> None:
    from statsmodels.stats.power import NormalIndPower

    problem = Problem(axes=tuple("abcdef"[:axes]), queries=queries, budget=10_000, tolerance=0.02)
    effect = _smallest_effect(problem, queries, cells)
    deviation = np.sqrt(effect + 2 * 0.05 * 0.95 / (cells / 2))
    alpha = problem.alpha / (2 * axes)
    assert NormalIndPower().power(effect / deviation, queries, alpha, ratio=0) == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize("n", [5, 30, 200])
def test_without_variation_the_interval_is_that_of_no_case_in_n(n: int) -> None:
    """Clopper and Pearson's for 0 of n, times the range of the scores."""
    from statsmodels.stats.proportion import proportion_confint

    scores = np.ones((n, 2))
    scores[0] = 0.0
    interval = estimate(ScoreTable(scores, np.ones(n), np.arange(n), float("inf")), contrasts.loss(1), what="loss").interval
    assert interval is not None
    assert interval[1] == pytest.approx(proportion_confint(0, n, method="beta")[1]) == pytest.approx(-interval[0])
