"""What a metric's scores mean: direction, unit, ends, and the way back from what was computed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisect_ai.scoring.metric import Metric, finite

UP, DOWN = Metric(), Metric(higher_is_better=False)
SHARE, FALLING_SHARE = Metric(bounded=(0.0, 1.0)), Metric(higher_is_better=False, bounded=(0.0, 1.0))


def test_an_oriented_value_comes_back_as_the_metric_has_it() -> None:
    assert UP.value(2.0) == 2.0 and DOWN.value(-2.0) == 2.0 and DOWN.value(None) is None
    assert DOWN.mean_ends((-3.0, -1.0)) == (1.0, 3.0)
    assert DOWN.loss_ends((-3.0, -1.0)) == (-3.0, -1.0), "a loss is positive in every metric"


@pytest.mark.parametrize("metric", [SHARE, Metric(seen_as_share=True)])
def test_shares_are_cut_at_their_ends(metric: Metric) -> None:
    assert metric.mean_ends((-0.25, 1.5)) == (0.0, 1.0)
    assert metric.loss_ends((-1.5, 0.25)) == (-1.0, 0.25)
    assert FALLING_SHARE.mean_ends((-1.5, -0.25)) == (0.25, 1.0)
    assert UP.mean_ends((-0.25, 1.5)) == (-0.25, 1.5)


def test_an_interval_without_end_is_none() -> None:
    assert finite((0.0, math.inf)) is None and UP.mean_ends((math.nan, 1.0)) is None and UP.loss_ends(None) is None


@pytest.mark.parametrize(
    ("metric", "scores", "is_share"),
    [
        (UP, [0.0, 1.0, math.nan], True),
        (DOWN, [0.5], True),
        (UP, [0.0, 1.01], False),
        (UP, [-0.01, 0.5], False),
        (Metric(unit="seconds"), [0.5], False),
        (Metric(unit="share"), [0.5], True),
        (UP, [math.nan], False),
        (UP, [], False),
        (SHARE, [], True),
    ],
)
def test_scores_are_shares_where_all_that_were_seen_lie_between_0_and_1(
    metric: Metric, scores: list[float], is_share: bool
) -> None:
    assert metric.as_seen(np.array(scores, float)).is_share is is_share


def test_oriented_ends_are_those_declared_else_a_shares() -> None:
    assert Metric(higher_is_better=False, bounded=(0.0, 5.0)).oriented_ends == (-5.0, 0.0)
    assert Metric(bounded=(-1.0, 1.0)).as_seen(np.array([0.5])).oriented_ends == (-1.0, 1.0)
    assert FALLING_SHARE.oriented_ends == (-1.0, 0.0) and UP.oriented_ends is None


@pytest.mark.parametrize("up", [True, False])
def test_a_score_on_a_scale_of_0_to_1_comes_back(up: bool) -> None:
    metric = Metric(higher_is_better=up, bounded=(-1.0, 3.0))
    scores = np.array([-2.0, -1.0, 0.0, 3.0])
    unit = metric.to_unit(scores)
    assert unit.tolist() == ([0.0, 0.0, 0.25, 1.0] if up else [1.0, 1.0, 0.75, 0.0])
    assert [metric.from_unit(float(each)) for each in unit] == [-1.0, -1.0, 0.0, 3.0] and metric.from_unit(None) is None
