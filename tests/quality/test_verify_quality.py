"""The promises of `verify`: a fix that did not fix is seldom called fixed, a fix is, and collateral damage shows.

Seeds are fixed, so every test is deterministic; margins leave room for the number of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.verify import RESTORE, Cells, VerifySearch
from bisect_ai.attribution.verify_findings import VerifyFinding, VerifyRule

FULL = 3
RUN = 400  # queries that the stored run replayed
MOST = 40  # broken queries that are replayed


@dataclass(frozen=True)
class Case:
    """85 % of queries pass under good; `loss` of all break under bad, of which the fix restores `restores`; answers flip by chance
    (`noise`); the fix breaks `collateral` of all queries besides."""

    restores: float = 1.0
    collateral: float = 0.0
    noise: float = 0.0
    loss: float = 0.14
    graded: bool = False


def verify(case: Case, *, seed: int, others: int = 1500, log: int = 100_000, budget: int = 5000, tolerance: float = 0.02):
    """What a verification says, whether the replayed queries are really fixed, and the fix's real loss on the others."""
    rng = np.random.default_rng([seed, 77])
    size = RUN + others
    passes = rng.random(size) < 0.85
    broken = passes & (rng.random(size) < case.loss / 0.85)
    kept = broken & (rng.random(size) >= case.restores)
    hurt = rng.random(size) < case.collateral
    level = np.clip(0.6 + 0.15 * rng.standard_normal(size), 0, 1)
    right = {"good": passes, "bad": passes & ~broken, "fix": passes & ~kept & ~hurt}

    def chance(query: int, release: str) -> float:
        if case.graded:
            return float(level[query] - 0.4 * (passes[query] and not right[release][query]))
        return case.noise + (1 - 2 * case.noise) * right[release][query]

    def run(query: int, release: str) -> float:
        if case.graded:
            return float(np.clip(chance(query, release) + 0.1 * rng.standard_normal(), 0, 1))
        return float(rng.random() < chance(query, release))

    lost = [q for q in range(RUN) if run(q, "good") - run(q, "bad") > 0.25][:MOST]
    order = [*lost, *range(RUN, size)]
    cells = Cells(FULL)
    release = dict(zip((*cells.others, *cells.again), ("good", "fix", "good", "bad", "fix"), strict=True))
    rule = VerifyRule(broken=len(lost), others=log, tolerance=tolerance)
    search = VerifySearch(Problem(("prompt", "model"), len(order), budget, seed=seed), rule)
    asked: set[Trial] = set()
    while trials := search.ask(64):
        assert asked.isdisjoint(trials)
        asked |= set(trials)
        search.tell([Outcome(t, run(order[t.query], release[t.cell])) for t in trials])
    x = [(chance(q, "fix") - chance(q, "bad")) - RESTORE * (chance(q, "good") - chance(q, "bad")) for q in lost]
    harm = np.mean([chance(q, "good") - chance(q, "fix") for q in range(RUN, size)])
    return search.finding(), float(np.mean(x)) > 0, float(harm)


def kinds(case: Case, *, seeds: range, **how: float) -> list[tuple[VerifyFinding, bool, float]]:
    return [verify(case, seed=s, **how) for s in seeds]  # type: ignore[arg-type]  # budget and others are whole numbers


def share(found: list[tuple[VerifyFinding, bool, float]], *names: str) -> float:
    return sum(f.kind in names for f, _, _ in found) / len(found)


NOT = [Case(restores=0.0), Case(restores=0.5), Case(restores=0.7, noise=0.02), Case(restores=0.0, noise=0.05, loss=0.05)]


@pytest.mark.parametrize("case", NOT, ids=str)
def test_what_is_not_fixed_is_not_called_fixed(case: Case) -> None:
    found = kinds(case, seeds=range(15))
    wrong = [f.kind for f, really, _ in found if f.kind.startswith("fixed") and not really]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("restores", [0.5, 0.7, 0.78])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_wrong_fixed_has_at_most_its_chance(restores: float, noise: float) -> None:
    found = kinds(Case(restores=restores, noise=noise), seeds=range(200), others=400)
    wrong = [f for f, really, _ in found if f.kind.startswith("fixed") and not really]
    assert len(wrong) <= 0.025 * 200


@pytest.mark.parametrize("case", [Case(restores=0.0), Case(restores=0.0, noise=0.05)], ids=str)
def test_what_brings_nothing_back_is_seen_in_60_calls(case: Case) -> None:
    found = kinds(case, seeds=range(15))
    assert share(found, "not_fixed") == 1.0
    assert np.median([f.trials for f, _, _ in found]) <= 60


def test_a_fix_is_called_fixed() -> None:
    found = kinds(Case(), seeds=range(15))
    assert share(found, "fixed") == 1.0
    assert np.median([f.trials for f, _, _ in found]) <= 620


def test_a_fix_is_called_fixed_through_noise_where_the_tolerance_allows() -> None:
    found = kinds(Case(noise=0.05), seeds=range(15), tolerance=0.05)
    assert share(found, "fixed") >= 0.8


def test_five_points_of_collateral_are_seen_and_never_called_clean() -> None:
    found = kinds(Case(collateral=0.05), seeds=range(15))
    assert share(found, "fixed_with_collateral") >= 0.9
    assert share(found, "fixed") == 0.0


@pytest.mark.parametrize("log", [400, 100_000])
def test_a_loss_of_the_tolerance_is_seldom_called_clean(log: int) -> None:
    """The others are all of the log, or a small part of it; users do not matter, for the queries are drawn one by one."""
    found = kinds(Case(collateral=0.024), seeds=range(40), others=400, log=log)
    wrong = [f for f, _, harm in found if f.kind == "fixed" and harm >= 0.02]
    assert len(wrong) <= 2


def test_a_graded_score_is_verified_too() -> None:
    assert share(kinds(Case(graded=True), seeds=range(10)), "fixed") >= 0.8
    assert share(kinds(Case(graded=True, restores=0.0), seeds=range(10)), "not_fixed") == 1.0
