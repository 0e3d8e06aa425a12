"""The arithmetic of what is not the release's fault, on small windows whose parts are known."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.elsewhere import (
    Parts,
    Window,
    design_effect,
    query_mix,
    take_apart,
    two_sample,
    verdict_outside,
)

NONE = Estimate(0.0, (-0.01, 0.01), 100, "loss")


def window(then: list[float], now: list[float], times: int = 1) -> Window:
    n = len(then) * times
    return Window(np.array(then * times), np.array(now * times), np.ones(n), np.arange(n))


def drop(points: float, error: float = 0.02) -> Estimate:
    return Estimate(points, (points - 1.96 * error, points + 1.96 * error), 400, "logged")


def test_the_parts_are_differences_of_the_same_queries() -> None:
    good, bad = window([1, 1, 0, 1], [1, 0, 0, 1], 25), window([0, 1, 0, 0], [1, 1, 0, 0], 25)
    parts = take_apart(good, bad, drop=drop(0.5), loss=NONE)
    assert parts.drift is not None and parts.traffic is not None and parts.rest is not None
    assert parts.drift.value == pytest.approx(0.25)
    assert parts.traffic.value == pytest.approx(0.5 - 0.25 - 0.25)
    assert parts.rest.value == pytest.approx(0.25)


def test_the_query_mix_needs_no_logged_scores() -> None:
    good, bad = window([0], [1], 40), window([0, 0], [1, 0], 50)
    found = query_mix(good, bad)
    assert found is not None and found.value == pytest.approx(0.5) and found.interval is not None
    assert found.interval[0] == pytest.approx(0.5 - 1.96 * 0.5 / 99**0.5, abs=1e-3)
    assert query_mix(window([0], [1], 19), bad) is None


def test_few_queries_tell_nothing() -> None:
    parts = take_apart(window([1], [0], 19), window([1], [0], 19), drop=drop(0.3), loss=NONE)
    assert parts.drift is None and parts.traffic is None
    assert verdict_outside(parts, NONE, 0.02) is None


def test_one_verdict_for_each_part() -> None:
    same_good, same_bad = window([1, 1, 1, 0], [1, 1, 1, 0], 50), window([1, 0], [1, 0], 100)
    assert verdict_outside(take_apart(same_good, same_bad, drop=drop(0.25), loss=NONE), NONE, 0.02) == "traffic"
    moved = window([1, 1, 1, 0], [1, 0, 1, 0], 50)
    assert verdict_outside(take_apart(moved, same_bad, drop=drop(0.25), loss=NONE), NONE, 0.02) == "drift"
    failed = window([0, 0, 1, 0], [1, 0, 1, 0], 50)
    assert verdict_outside(take_apart(same_good, failed, drop=drop(0.25), loss=NONE), NONE, 0.02) == "not_reproduced"


def test_a_drop_that_may_be_luck_is_no_traffic() -> None:
    same_good, same_bad = window([1, 1, 1, 0], [1, 1, 1, 0], 50), window([1, 0], [1, 0], 100)
    assert verdict_outside(take_apart(same_good, same_bad, drop=drop(0.25, 0.15), loss=NONE), NONE, 0.02) is None


def test_a_loss_on_replay_is_never_hidden() -> None:
    moved, same = window([1, 1, 1, 0], [1, 0, 1, 0], 50), window([1, 0], [1, 0], 100)
    for loss in (Estimate(0.1, (0.05, 0.15), 200, ""), Estimate(0.05, (-0.05, 0.15), 200, ""), Estimate(None, None, 0, "")):
        assert verdict_outside(take_apart(moved, same, drop=drop(0.25), loss=loss), loss, 0.02) is None
    assert verdict_outside(Parts(), NONE, 0.02) is None


def test_clusters_widen_what_the_log_says() -> None:
    values = np.repeat([0.0, 1.0], 50)
    assert design_effect(values, np.arange(100)) == pytest.approx(1.0)
    assert design_effect(values, np.repeat(np.arange(10), 10)) == pytest.approx(10.0)
    assert design_effect(np.ones(5), np.arange(5)) == 1.0
    plain, clustered = (two_sample((0.9, 0.09, 100), (0.8, 0.16, 100), inflate=d) for d in (1.0, 10.0))
    assert plain.interval is not None and clustered.interval is not None
    assert np.ptp(clustered.interval) == pytest.approx(np.ptp(plain.interval) * np.sqrt(10))
