"""The promises of `verify`: the right rollback is called fixed, what restores too little seldom is, and collateral damage shows.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.questions.verify import RESTORE, Cells, VerifySearch
from bisect_ai.attribution.questions.verify_findings import VerifyFinding, VerifyRule

FULL = 3
TOLERANCE = 0.02
RUN = 400  # queries that the stored run replayed
MOST = 40  # broken queries that are kept for replay


@dataclass(frozen=True)
class Case:
    """85 % of queries pass under good; `loss` of all break under bad, of which the fix restores `restores`; answers flip by chance
    (`noise`); the fix breaks `collateral` of all queries besides. `churn`: what other axes, which the fix leaves alone, break of all
    queries under bad and fix, and as much under good."""

    restores: float = 1.0
    collateral: float = 0.0
    noise: float = 0.0
    loss: float = 0.14
    graded: bool = False
    churn: float = 0.0


def verify(case: Case, *, seed: int, log: int = 2000, budget: int = 5000) -> tuple[VerifyFinding, bool]:
    """What a verification of one incident says, and whether the candidate is a fix by the means over the whole log."""
    rng = np.random.default_rng([seed, 77])
    passes = rng.random(log) < 0.85
    broken = passes & (rng.random(log) < case.loss / 0.85)
    kept = broken & (rng.random(log) >= case.restores)
    hurt = rng.random(log) < case.collateral
    level = np.clip(0.6 + 0.15 * rng.standard_normal(log), 0, 1)
    old, new = rng.random(log) < case.churn, rng.random(log) < case.churn
    fails = {"good": ~passes | old, "bad": ~passes | broken | new, "fix": ~passes | kept | hurt | new}

    def chance(query: int, release: str) -> float:
        if case.graded:
            return float(level[query] - 0.4 * (passes[query] and fails[release][query]))
        return float(case.noise + (1 - 2 * case.noise) * ~fails[release][query])

    def run(query: int, release: str) -> float:
        if case.graded:
            return float(np.clip(chance(query, release) + 0.1 * rng.standard_normal(), 0, 1))
        return float(rng.random() < chance(query, release))

    lost = [q for q in range(RUN) if run(q, "good") - run(q, "bad") > 0.25][:MOST]
    order = [*lost, *range(RUN, log), *range(RUN)]
    cells = Cells(FULL)
    release = dict(zip((*cells.drawn, *cells.again), ("good", "bad", "fix", "good", "bad", "fix"), strict=True))
    search = VerifySearch(
        Problem(("prompt", "model"), len(order), budget, seed=seed), VerifyRule(len(lost), log, tolerance=TOLERANCE)
    )
    asked: set[Trial] = set()
    while trials := search.ask(64):
        assert asked.isdisjoint(trials)
        asked |= set(trials)
        search.tell([Outcome(t, run(order[t.query], release[t.cell])) for t in trials])
    good, bad, fix = (np.mean([chance(q, name) for q in range(log)]) for name in ("good", "bad", "fix"))
    return search.finding(), bool(good - fix < max(TOLERANCE, (1 - RESTORE) * (good - bad)))


def findings(case: Case, *, seeds: int, **how: int) -> list[VerifyFinding]:
    return [verify(case, seed=s, **how)[0] for s in range(seeds)]


def share(found: list[VerifyFinding], *names: str) -> float:
    return sum(f.kind in names for f in found) / len(found)


def median_calls(found: list[VerifyFinding]) -> float:
    return float(np.median([f.trials for f in found]))


@pytest.mark.parametrize(
    ("case", "calls"),
    [
        (Case(), 600),
        (Case(churn=0.05), 1800),
        (Case(churn=0.1), 3300),
        (Case(noise=0.05), 3900),
        (Case(noise=0.02, churn=0.05), 3300),
        (Case(graded=True), 1200),
    ],
    ids=str,
)
def test_the_right_rollback_is_called_fixed(case: Case, calls: int) -> None:
    found = findings(case, seeds=6)
    assert share(found, "fixed") >= 0.8
    assert median_calls(found) <= calls


@pytest.mark.parametrize(
    ("case", "calls"),
    [
        (Case(restores=0.0), 300),
        (Case(restores=0.0, churn=0.05), 900),
        (Case(restores=0.0, noise=0.05), 900),
        (Case(restores=0.0, graded=True), 700),
        (Case(restores=0.55), 600),
    ],
    ids=str,
)
def test_what_restores_too_little_is_not_fixed(case: Case, calls: int) -> None:
    found = findings(case, seeds=6)
    assert share(found, "not_fixed") >= 0.8
    assert median_calls(found) <= calls


@pytest.mark.parametrize("churn", [0.0, 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_half_a_fix_is_never_called_fixed(noise: float, churn: float) -> None:
    assert share(findings(Case(restores=0.55, noise=noise, churn=churn), seeds=8), "fixed", "fixed_with_collateral") == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("restores", [0.55, 0.7, 0.78])
@pytest.mark.parametrize("churn", [0.0, 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_wrong_fixed_has_at_most_its_chance(restores: float, churn: float, noise: float) -> None:
    found = [verify(Case(restores=restores, churn=churn, noise=noise), seed=s, budget=2400) for s in range(100)]
    wrong = [f for f, is_fix in found if f.kind == "fixed" and not is_fix]
    assert len(wrong) <= 0.05 * 100


def test_collateral_is_seen_and_never_called_clean() -> None:
    found = findings(Case(collateral=0.05), seeds=10)
    assert share(found, "fixed_with_collateral") >= 0.8
    assert share(found, "fixed") == 0.0


def test_a_small_budget_leaves_it_undecided_and_the_calls_it_names_settle_it() -> None:
    found = [verify(Case(churn=0.05), seed=s, budget=450)[0] for s in range(15)]
    assert share(found, "not_fixed", "fixed_with_collateral") == 0.0
    undecided = {s: f.calls_needed for s, f in enumerate(found) if f.kind == "undecided"}
    named = {s: calls for s, calls in undecided.items() if calls is not None}
    assert len(undecided) >= 8
    assert len(named) >= 0.8 * len(undecided)
    settled = [
        verify(Case(churn=0.05), seed=s, budget=450 + round(1.5 * calls))[0].kind == "fixed" for s, calls in named.items()
    ]
    assert np.mean(settled) >= 0.7
