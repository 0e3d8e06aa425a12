"""The gate's promises on planted pull requests, half of them harmless, all with churn."""

from __future__ import annotations

import pytest

from bisect_ai.attribution.questions.audit import AuditRule
from bisect_ai.facts.audit_facts import ALPHA, MISS
from tests.quality.test_audit_quality import Traffic, week

RULE = AuditRule(ALPHA, 1, miss=MISS)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_bad_changes_are_stopped_and_good_ones_pass(noise: float) -> None:
    bad = [week(Traffic(0.1, churn=0.05, noise=noise), RULE, seed=s, whole=True).kind for s in range(50)]
    good = [week(Traffic(0.0, churn=0.05, noise=noise), RULE, seed=s, whole=True).kind for s in range(50)]
    assert bad.count("regression") >= 45
    assert good.count("regression") <= 1
    assert good.count("healthy") >= 45


@pytest.mark.slow
def test_two_hundred_planted_changes() -> None:
    bad = [week(Traffic(0.1, churn=0.05, noise=0.05), RULE, seed=1000 + s, whole=True).kind for s in range(100)]
    good = [week(Traffic(0.0, churn=0.05, noise=0.05), RULE, seed=1000 + s, whole=True).kind for s in range(100)]
    assert bad.count("regression") >= 90
    assert good.count("regression") <= 2
