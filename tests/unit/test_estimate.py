"""Population values from the base sample and from parts of it."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.stats.estimate import PairedSample, ratio_interval, two_phase


def _sample(n: int, seed: int) -> PairedSample:
    rng = np.random.default_rng(seed)
    good, bad = (rng.random((2, n)) < [[0.85], [0.6]]).astype(float)
    return PairedSample(np.arange(n), good, bad, np.ones(n), np.arange(n), np.inf, None, True)


def test_two_phase_on_everything_is_the_mean() -> None:
    sample = _sample(120, 0)
    found = two_phase(sample, sample.strata, sample.good)
    assert found is not None
    assert found[0] == pytest.approx(sample.good.mean())


def test_two_phase_is_undefined_where_a_stratum_has_no_score() -> None:
    sample = _sample(120, 1)
    assert two_phase(sample, sample.strata, np.where(sample.strata == 2, np.nan, sample.good)) is None


def test_ratio_to_nothing_is_not_bounded() -> None:
    sample = _sample(60, 2)
    _, influence = sample.mean(sample.good - sample.bad)
    assert ratio_interval(sample, 0.1, 0.0, influence, influence) is None
