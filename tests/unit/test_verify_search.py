"""The conversation of a verification: what it asks, when it looks, what it claims."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.questions.verify import Cells, VerifySearch, verify_attribution
from bisect_ai.attribution.questions.verify_findings import VerifyFinding, VerifyRule
from bisect_ai.attribution.stats.sequential import MeanAbove, ruled_in

FULL = 3
CELLS = Cells(FULL)
BAD = CELLS.full + 2
FIXES = (CELLS.full, CELLS.full + 3)  # of the queries drawn, of those that broke


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


def test_a_perfect_fix_is_fixed_without_the_queries_that_broke_and_no_trial_is_asked_twice() -> None:
    found, asked = converse(mended)
    assert found.kind == "fixed"
    assert found.again.passes == 0
    assert min(t.query for t in asked) == 40
    assert found.again.restored.value == pytest.approx(1.0)
    assert len(asked) == len(set(asked)) == found.trials
    assert found.again.fixed >= found.bound == 40


def test_what_brings_nothing_back_is_not_fixed() -> None:
    found, asked = converse(lambda t: float(t.cell in (0, CELLS.full + 1)))
    assert found.kind == "not_fixed"
    assert len(asked) <= 48 + 30  # a round, and the first look at those that broke
    assert found.again.not_fixed >= 40


def test_half_a_fix_is_not_fixed() -> None:
    found, _ = converse(lambda t: float(t.cell != BAD and not (t.cell in FIXES and t.query % 2)), others=600)
    assert found.kind == "not_fixed"
    assert found.again.restored.value == pytest.approx(0.5, abs=0.05)


def test_churn_of_what_the_fix_leaves_alone_is_not_held_against_it() -> None:
    """A tenth of the queries fail under good only, another tenth under bad and fix only; bad loses a further fifth."""

    def answer(trial: Trial) -> float:
        kind = trial.query % 10
        if kind == 0:
            return float(trial.cell in (BAD, *FIXES))
        if kind == 1:
            return float(trial.cell not in (BAD, *FIXES))
        return float(not (kind in (2, 3) and trial.cell == BAD))

    found, _ = converse(answer, others=1000)
    assert found.kind == "fixed"
    assert found.again.restored.value == pytest.approx(1.0, abs=0.15)


def test_a_loss_on_others_is_collateral() -> None:
    """What broke is mended, but as much else is broken. The first 40 queries are those that broke in the run."""

    def answer(trial: Trial) -> float:
        breaks = trial.query < 40 or trial.query % 5 == 0
        if trial.cell == CELLS.full:
            return float(trial.query % 5 != 1)
        return float(not (breaks and trial.cell == BAD))

    found, _ = converse(answer)
    assert found.kind == "fixed_with_collateral"
    assert found.again.passes == 1
    assert found.others.loss.interval is not None
    assert found.others.loss.interval[0] > 0


def test_collateral_is_not_claimed_without_queries_that_broke() -> None:
    found, _ = converse(lambda t: float(t.cell not in (BAD, *FIXES)), broken=0)
    assert found.kind == "not_fixed"


def test_in_a_small_log_less_can_hide() -> None:
    small, large = (
        converse(lambda t: float(t.cell != BAD or t.query % 10 > 0), others=others, tolerance=0.001)[0].trials
        for others in (150, 2000)
    )
    assert small < large


def test_the_budget_is_never_crossed_and_only_whole_queries_are_asked() -> None:
    for budget in (2, 40, 61):
        found, asked = converse(lambda t: float(t.cell != BAD or t.query % 10 > 0), budget=budget)
        assert len(asked) == budget - budget % 3
        assert found.kind == "undecided"
        assert "end of the budget" in found.reason


def test_undecided_names_calls_that_settle_it() -> None:
    def answer(trial: Trial) -> float:
        return float(trial.cell != BAD or trial.query % 10 > 0)

    found, asked = converse(answer, others=2000, budget=200)
    assert found.kind == "undecided"
    assert found.calls_needed is not None
    more, _ = converse(answer, others=2000, budget=len(asked) + round(1.5 * found.calls_needed))
    assert more.kind == "fixed"


def test_failed_trials_count_for_nobody_and_many_of_them_forbid_a_verdict() -> None:
    found, _ = converse(lambda t: None if t.cell in FIXES and t.query % 10 == 0 else mended(t))
    assert found.kind == "undecided"
    assert found.failed > 0
    assert found.again.queries <= found.trials // 3  # what was censored leaves its triple out; a failed call is the worst score
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


def test_a_mean_of_nothing_is_seldom_called_above_0() -> None:
    """Values of a population whose mean is 0, drawn without replacement to its end; a bound of 20 may be passed by 5 %."""

    def passes(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        values = rng.permutation(np.repeat([0.2, -0.8, 0.0], [80, 20, 200]))
        test, most = MeanAbove(300), 0.0
        for x in values:
            test.hear(float(x))
            most = max(most, test.value)
        return most >= 20

    assert sum(passes(seed) for seed in range(200)) <= 17  # 5 % of 200, and two standard errors


def test_the_interval_narrows_to_the_truth_when_all_are_known() -> None:
    losses = np.array([1.0] * 10 + [0.0] * 90)[np.random.default_rng(2).permutation(100)]
    low, high = ruled_in(losses, population=100)
    assert low < 0.1 < high
    assert high - low < 0.08
    low, high = ruled_in(losses, population=10**9)
    assert high - low > 0.12


def test_only_fixed_is_no_regression() -> None:
    found, _ = converse(mended)
    told = verify_attribution(found, Problem(("prompt", "model"), 340, 5000))
    assert told.kind == "no_regression"
    assert [c.cell for c in told.cells] == [0, FULL]
