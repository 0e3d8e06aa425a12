"""The conversation of a verification: what it asks, when it looks, what it claims."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.verify import PASSES, Cells, VerifySearch, as_attribution
from bisect_ai.attribution.verify_findings import VerifyFinding, VerifyRule
from bisect_ai.attribution.wagers import ruled_in

FULL = 3
CELLS = Cells(FULL)
GOOD, BAD, FIX = CELLS.again


def converse(
    answer: Callable[[Trial], float | None], *, broken: int = 40, others: int = 300, budget: int = 5000, **rule: float
) -> tuple[VerifyFinding, list[Trial]]:
    problem = Problem(("prompt", "model"), broken + others, budget)
    search = VerifySearch(problem, VerifyRule(broken, others, **rule))  # type: ignore[arg-type]  # floats throughout
    asked: list[Trial] = []
    while trials := search.ask(48):
        asked += trials
        search.tell([Outcome(t, answer(t), "ok" if answer(t) is not None else "error") for t in trials])
    return search.finding(), asked


def mended(trial: Trial) -> float:
    return float(trial.cell != BAD)


def test_a_perfect_fix_is_fixed_by_one_pass_and_no_trial_is_asked_twice() -> None:
    found, asked = converse(mended)
    assert found.kind == "fixed"
    assert (found.again.passes, found.again.queries) == (1, 40)
    assert found.again.restored.value == pytest.approx(1.0)
    assert len(asked) == len(set(asked)) == found.trials
    assert found.again.fixed >= found.bound == 40
    assert found.others.clean >= 40


def test_few_queries_are_run_in_several_passes() -> None:
    found, asked = converse(mended, broken=8)
    assert found.kind == "fixed"
    assert found.again.passes > 1
    assert {t.repeat for t in asked if t.cell == FIX} == set(range(found.again.passes))


def test_what_brings_nothing_back_is_sent_away_at_the_first_look_without_a_call_for_the_others() -> None:
    found, asked = converse(lambda t: float(t.cell == GOOD))
    assert found.kind == "not_fixed"
    assert len(asked) == 30
    assert found.again.not_fixed >= 40


def test_half_a_fix_is_not_fixed() -> None:
    found, _ = converse(lambda t: float(t.cell in (GOOD, *CELLS.others) or (t.cell == FIX and t.query % 2 == 0)))
    assert found.kind == "not_fixed"
    assert found.again.restored.value == pytest.approx(0.5)


def test_a_loss_on_others_is_collateral() -> None:
    found, _ = converse(lambda t: float(t.cell != BAD and not (t.cell == FULL and t.query % 10 == 0)))
    assert found.kind == "fixed_with_collateral"
    assert found.others.loss.interval is not None
    assert found.others.loss.interval[0] > 0


def test_in_a_small_log_less_can_hide() -> None:
    found, _ = converse(mended, others=120)
    assert found.kind == "fixed"
    assert found.others.queries < 120


def test_the_budget_is_never_crossed_and_only_whole_passes_are_begun() -> None:
    for budget in (2, 100, 121, 250):
        found, asked = converse(mended, budget=budget)
        assert len(asked) <= budget
        assert found.kind == "undecided"
        assert len([t for t in asked if t.cell in CELLS.again]) in (0, 120)


def test_it_gives_up_after_some_passes() -> None:
    rng = np.random.default_rng(1)
    found, _ = converse(lambda t: float(rng.random() < (0.9 if t.cell == GOOD else 0.1 if t.cell == BAD else 0.74)), broken=4)
    assert found.kind == "undecided"
    assert found.again.passes == PASSES


def test_failed_trials_count_for_nobody_and_many_of_them_forbid_a_verdict() -> None:
    found, _ = converse(lambda t: None if t.cell == FIX and t.query < 2 else mended(t))
    assert (found.kind, found.failed) == ("undecided", 2 * found.again.passes)
    assert "too many to call it fixed" in found.reason


def test_the_order_of_answers_in_a_round_does_not_matter() -> None:
    def run(backwards: bool) -> tuple[float, ...]:
        search = VerifySearch(Problem(("prompt", "model"), 340, 2000), VerifyRule(40, 300))
        while trials := search.ask(48):
            told = [Outcome(t, float((t.query * 7 + t.cell * 3 + t.repeat) % 9 > 0 and t.cell != BAD)) for t in trials]
            search.tell(told[::-1] if backwards else told)
        found = search.finding()
        return found.again.fixed, found.again.not_fixed, found.others.clean, found.others.collateral

    assert run(True) == run(False)


def test_unbounded_scores_are_clipped_to_the_scale() -> None:
    found, _ = converse(
        lambda t: -900.0 if t.cell == BAD else -100.0 if t.query % 50 else -1e9, lowest=-1000.0, highest=0.0, tolerance=20
    )
    assert found.kind == "fixed"


def test_the_interval_narrows_to_the_truth_when_all_are_known() -> None:
    losses = np.array([1.0] * 10 + [0.0] * 90)[np.random.default_rng(2).permutation(100)]
    low, high = ruled_in(losses, population=100)
    assert low < 0.1 < high
    assert high - low < 0.08
    low, high = ruled_in(losses, population=10**9)
    assert high - low > 0.12


def test_only_fixed_is_no_regression() -> None:
    found, _ = converse(mended)
    told = as_attribution(found, Problem(("prompt", "model"), 340, 5000))
    assert told.kind == "no_regression"
    assert [c.cell for c in told.cells] == [0, FULL]
