"""How fast bets at several stakes prove a loss, beside the best single stake for that loss, which nobody knows beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from bisect_ai.attribution.problem import Floats
from bisect_ai.attribution.questions import audit, drift
from bisect_ai.attribution.stats.sequential import PURSES, STAKES

LOSSES = {(0.05, 0.0): 1_000, (0.2, 0.05): 600, (0.3, 0.1): 600, (0.5, 0.0): 60, (1.0, 0.0): 20}
"""Parts of the queries that lose and that gain, and more pairs than the best stake needs."""
SINGLE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def pairs_to_proof(differences: Floats, stakes: Floats, shares: Floats, bound: float) -> float:
    """The median number of pairs, over rows of differences, until the wealth passes the bound."""
    logs = np.log(shares) + np.cumsum(np.log1p(differences[:, :, None] * stakes), axis=1)
    passed = np.logaddexp.reduce(logs, axis=2) >= np.log(bound)
    return float(np.median(np.where(passed.any(axis=1), passed.argmax(axis=1) + 1, np.inf)))


@pytest.mark.parametrize(
    ("stakes", "shares", "bound", "most"),
    [
        (audit.STAKES, np.full(len(audit.STAKES), 1 / len(audit.STAKES)), 20.0, 1.4),
        (drift.STAKES, np.full(len(drift.STAKES), 1 / len(drift.STAKES)), 20.0, 1.6),
        (STAKES, PURSES, 40.0, 1.7),
    ],
    ids=["audit", "drift", "verify"],
)
def test_several_stakes_take_little_longer_than_the_best_one(stakes: Floats, shares: Floats, bound: float, most: float) -> None:
    rng = np.random.default_rng(0)
    for (lost, gained), pairs in LOSSES.items():
        u = rng.random((200, pairs))
        x = np.where(u < lost, 1.0, np.where(u < lost + gained, -1.0, 0.0))
        best = min(pairs_to_proof(x, np.array([one]), np.ones(1), bound) for one in SINGLE)
        assert best < pairs and pairs_to_proof(x, stakes, shares, bound) <= most * best


def test_half_of_the_shares_on_the_largest_stake_settle_answers_that_repeat_sooner() -> None:
    always = np.ones((1, 20))
    assert pairs_to_proof(always, STAKES, PURSES, 40.0) < pairs_to_proof(always, STAKES, np.full(6, 1 / 6), 40.0)
