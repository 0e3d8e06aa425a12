"""Contrasts and their inference against other packages and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.problem import interaction_contrast
from bisect_ai.attribution.stats import contrasts
from bisect_ai.attribution.stats.inference import ScoreTable, estimate, holm


def table(scores: np.ndarray, *, clusters: np.ndarray | None = None, population: float = float("inf")) -> ScoreTable:
    n = len(scores)
    return ScoreTable(scores, np.ones(n), np.arange(n) if clusters is None else clusters, population)


def scores_of(k: int, n: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chance = np.clip(0.8 - 0.3 * rng.random(1 << k), 0, 1)
    return (rng.random((n, 1 << k)) < chance).astype(float)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_shapley_agrees_with_shapiq(k: int) -> None:
    import shapiq

    values = np.random.default_rng(k).random(1 << k)

    def game(coalitions: np.ndarray) -> np.ndarray:
        return values[0] - values[coalitions.astype(int) @ (1 << np.arange(k))]

    exact = shapiq.ExactComputer(game, n_players=k)("SV", 1)
    ours = [contrasts.shapley(k, a) @ values for a in range(k)]
    assert ours == pytest.approx([exact[(a,)] for a in range(k)])
    assert sum(ours) == pytest.approx(contrasts.loss(k) @ values)


@pytest.mark.parametrize("k", [2, 4])
def test_interactions_agree_with_shapiq_banzhaf(k: int) -> None:
    import shapiq

    values = np.random.default_rng(k).random(1 << k)

    def game(coalitions: np.ndarray) -> np.ndarray:
        return values[0] - values[coalitions.astype(int) @ (1 << np.arange(k))]

    exact = shapiq.ExactComputer(game, n_players=k)("BII", k)
    for axes in contrasts.subsets(k, smallest=2):
        assert interaction_contrast(k, axes) @ values == pytest.approx(exact[axes])


def test_without_missing_scores_it_is_the_paired_difference() -> None:
    scores = scores_of(1, 40)
    fit = table(scores).fit(contrasts.loss(1))
    difference = scores[:, 0] - scores[:, 1]
    assert fit is not None
    assert fit.value == pytest.approx(difference.mean())
    assert fit.error == pytest.approx(difference.std(ddof=1) / np.sqrt(40))
    assert fit.freedom == 39


def test_closed_forms_on_a_tiny_table() -> None:
    values = np.array([0.9, 0.9, 0.8, 0.5])  # 0, a, b, ab
    assert contrasts.introduced(2, 0) @ values == pytest.approx(0.0)
    assert contrasts.introduced(2, 1) @ values == pytest.approx(0.1)
    assert contrasts.reverted(2, 0) @ values == pytest.approx(0.3)
    assert contrasts.reverted(2, 1) @ values == pytest.approx(0.4)
    assert contrasts.shapley(2, 0) @ values == pytest.approx(0.15)
    assert interaction_contrast(2, (0, 1)) @ values == pytest.approx(0.3)


def test_a_missing_cell_makes_its_contrasts_undefined_and_no_others() -> None:
    scores = scores_of(2, 30)
    scores[:, 1] = np.nan
    missing = estimate(table(scores), contrasts.introduced(2, 0), what="introduced")
    assert missing.value is None
    assert missing.interval is None
    assert "no score" in missing.method
    assert estimate(table(scores), contrasts.loss(2), what="loss").value is not None


def test_clusters_widen_the_interval_when_queries_of_one_move_together() -> None:
    base = scores_of(1, 20)
    scores = np.repeat(base, 5, axis=0)
    loose = table(scores).fit(contrasts.loss(1))
    strict = table(scores, clusters=np.repeat(np.arange(20), 5)).fit(contrasts.loss(1))
    single = table(base).fit(contrasts.loss(1))
    assert loose is not None and strict is not None and single is not None
    assert strict.error == pytest.approx(single.error)
    assert strict.error > 1.5 * loose.error


def test_weights_count_as_repeated_queries() -> None:
    scores = scores_of(1, 20)
    weights = np.where(np.arange(20) < 5, 3.0, 1.0)
    weighted = ScoreTable(scores, weights, np.arange(20), float("inf")).fit(contrasts.loss(1))
    repeated = np.repeat(scores, weights.astype(int), axis=0)
    assert weighted is not None
    assert weighted.value == pytest.approx((repeated[:, 0] - repeated[:, 1]).mean())


def test_no_variation_still_leaves_an_interval() -> None:
    scores = np.tile([1.0, 1.0], (30, 1))
    scores[0] = [0.0, 0.0]
    low, high = estimate(table(scores), contrasts.loss(1), what="loss").interval or (0.0, 0.0)
    assert -0.2 < low < 0 < high < 0.2


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_holm_agrees_with_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(0).random(12) ** 3
    assert holm(list(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1])
