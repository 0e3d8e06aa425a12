"""Population values from the base sample and from parts of it."""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.stats.estimate import PairedSample, ratio_interval


def _sample(n: int, seed: int) -> PairedSample:
    rng = np.random.default_rng(seed)
    good, bad = (rng.random((2, n)) < [[0.85], [0.6]]).astype(float)
    return PairedSample(np.arange(n), good, bad, np.ones(n), np.arange(n), np.inf, True)


def test_ratio_to_nothing_is_not_bounded() -> None:
    sample = _sample(60, 2)
    _, influence = sample.mean(sample.good - sample.bad)
    assert ratio_interval(sample, 0.1, 0.0, influence, influence) is None
