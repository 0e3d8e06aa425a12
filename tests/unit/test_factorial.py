"""Full and fractional designs as searches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bisect_ai.attribution.designs.factorial import FactorialSearch, FractionalSearch
from bisect_ai.attribution.designs.findings import ratio
from bisect_ai.attribution.designs.fractions import GENERATORS, fraction
from bisect_ai.attribution.problem import Attribution, Outcome, Problem, Search, Trial, interaction_contrast
from bisect_ai.attribution.stats.contrasts import depends_on_another, factorial_contrast
from bisect_ai.attribution.stats.inference import Fit, ScoreTable
from bisect_ai.errors import InputError

NAMES = ("model", "prompt", "corpus", "tools", "context", "sampling", "memory", "guard", "router", "cache", "voice", "filter")


def problem(k: int = 3, *, queries: int = 200, budget: int = 3200, population: int = 2000, **more: object) -> Problem:
    return Problem(axes=NAMES[:k], queries=queries, budget=budget, population=population, **more)  # type: ignore[arg-type]


def drive(search: Search, answer: Callable[[Trial], Outcome], *, width: int = 50) -> tuple[Attribution, list[Trial]]:
    asked: list[Trial] = []
    while trials := search.ask(width):
        asked += trials
        search.tell([answer(t) for t in trials])
    return search.result(), asked


def breaks(*guilty: int, share: float = 0.3, noise: float = 0.0, seed: int = 0) -> Callable[[Trial], Outcome]:
    """A share of the queries fails when all guilty axes are bad."""
    rng = np.random.default_rng(seed)
    needed = sum(1 << g for g in guilty)

    def answer(trial: Trial) -> Outcome:
        hit = trial.query % 100 < 100 * share and trial.cell & needed == needed
        return Outcome(trial, float(hit == (rng.random() < noise)))

    return answer


def test_every_query_meets_every_cell_once_and_cells_are_interleaved() -> None:
    _, asked = drive(FactorialSearch(problem()), breaks(0))
    assert len(asked) == len(set(asked)) == 200 * 8
    inner = [t.cell for t in asked[400:]]
    assert max(len(list(run)) for run in np.split(inner, np.flatnonzero(np.diff(inner)) + 1)) < 12


def test_the_guilty_axis_and_its_rollback() -> None:
    found, _ = drive(FactorialSearch(problem()), breaks(1, noise=0.05))
    assert found.kind == "cause"
    assert [(c.axes, c.mode) for c in found.causes] == [(("prompt",), "alone")]
    assert found.rollback is not None
    assert found.rollback.axes == ("prompt",)
    assert found.rollback.restores == pytest.approx(1.0, abs=0.25)
    assert found.keep == ("model", "corpus")


def test_two_axes_that_break_only_together() -> None:
    found, _ = drive(FactorialSearch(problem(4)), breaks(1, 3, noise=0.05))
    assert [(c.axes, c.mode) for c in found.causes] == [(("prompt", "tools"), "together")]
    assert found.rollback is not None
    assert len(found.rollback.axes) == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_one_of_two_that_break_only_together_is_not_said_to_act_alone(axis: int) -> None:
    """Of three axes two act together and one was not proved: what the other costs is nothing beside its good side."""
    values = np.array([1.0, 1.0, 1.0, 0.8, 1.0, 1.0, 1.0, 0.8])
    assert depends_on_another(values, [axis], [1 - axis, 2], error=lambda c: 0.0)
    assert not depends_on_another(values, [axis], [2], error=lambda c: 0.0)
    assert depends_on_another(values, [axis], [2], error=lambda c: 0.5)  # a change so large is not excluded


def test_no_difference_stops_after_good_and_bad() -> None:
    found, asked = drive(FactorialSearch(problem()), breaks(0, share=0.0))
    assert found.kind == "no_regression"
    assert {t.cell for t in asked} == {0, 7}


@pytest.mark.parametrize(("answer", "goes_on"), [(breaks(0), True), (breaks(0, share=0.0), False)])
def test_inner_cells_wait_for_good_and_bad_only_while_a_loss_is_in_doubt(
    answer: Callable[[Trial], Outcome], goes_on: bool
) -> None:
    search = FactorialSearch(problem())
    heard, out = search.ask(300), search.ask(100)
    search.tell([answer(t) for t in heard])
    inner = search.ask(50)
    assert bool(inner) == goes_on
    assert any(t.cell not in (0, 7) for t in inner) == goes_on
    search.tell([answer(t) for t in (*out, *inner)])
    found, asked = drive(search, answer)
    assert found.kind == ("cause" if goes_on else "no_regression")
    assert len(heard) + len(out) + len(inner) + len(asked) == (
        200 * 8 if goes_on else 360
    )  # a tenth of good and bad is kept for later


def test_a_budget_too_small_says_so() -> None:
    with pytest.raises(InputError, match="raise the budget"):
        FactorialSearch(problem(budget=10))


def test_few_queries_are_inconclusive_not_a_guess() -> None:
    found, asked = drive(FactorialSearch(problem(budget=80)), breaks(1, share=0.01, noise=0.1))
    assert len(asked) <= 80
    assert found.kind == "inconclusive"
    assert found.causes == ()


def test_a_log_that_is_used_up_promises_no_number_of_calls() -> None:
    rng = np.random.default_rng(1)
    scores = {(q, c): float(rng.random() < 0.7 - 0.03 * (c & 1)) for q in range(200) for c in range(8)}

    def answer(trial: Trial) -> Outcome:
        return Outcome(trial, scores[trial.query, trial.cell])

    used_up, longer = (drive(FactorialSearch(problem(population=n)), answer)[0] for n in (200, 100_000))
    assert used_up.kind == longer.kind == "inconclusive"
    assert used_up.calls_needed is None and used_up.reason.endswith("more needs a longer log")
    assert longer.calls_needed is not None and "longer log" not in longer.reason


def test_a_combination_that_cannot_run_is_left_out_and_named() -> None:
    def answer(trial: Trial) -> Outcome:
        if trial.cell & 0b101 == 0b100:  # corpus new, model old
            return Outcome(trial, None, "infeasible")
        return breaks(1)(trial)

    found, _ = drive(FactorialSearch(problem()), answer)
    assert [(c.axes, c.mode) for c in found.causes] == [(("prompt",), "alone")]
    assert {c.cell for c in found.cells if c.status == "infeasible"} == {0b100, 0b110}
    assert any("cannot run" in note for note in found.notes)


def test_failed_trials_are_counted_and_have_no_score() -> None:
    rng = np.random.default_rng(1)

    def answer(trial: Trial) -> Outcome:
        return Outcome(trial, None, "error") if rng.random() < 0.03 else breaks(1)(trial)

    found, asked = drive(FactorialSearch(problem()), answer)
    assert found.kind == "cause"
    assert sum(c.errors for c in found.cells) == pytest.approx(0.03 * len(asked), rel=0.4)
    assert sum(c.trials for c in found.cells) == len(asked)


def test_too_many_axes_for_full() -> None:
    with pytest.raises(InputError, match="up to 6"):
        FactorialSearch(problem(7))


@pytest.mark.parametrize("k", GENERATORS)
def test_a_fraction_tells_main_effects_and_model_by_prompt(k: int) -> None:
    axes = NAMES[:k]
    cells = fraction(axes).cells
    assert {0, (1 << k) - 1} <= set(cells)
    assert len(set(cells)) == len(cells)
    ran = np.zeros(1 << k, bool)
    ran[list(cells)] = True
    for a in range(k):
        assert factorial_contrast(k, (a,), ran) is not None
    pair = factorial_contrast(k, (0, 1), ran)
    assert pair is not None
    value = -pair @ np.array([float((c & 3) == 3) for c in range(1 << k)])
    assert value == pytest.approx(1.0)
    if ran.all():
        assert pair == pytest.approx(interaction_contrast(k, (0, 1)))


def test_a_fraction_prints_what_it_cannot_tell_apart() -> None:
    found, asked = drive(FractionalSearch(problem(6, budget=3200)), breaks(1, noise=0.05))
    assert len({t.cell for t in asked}) == 32
    assert [(c.axes, c.mode) for c in found.causes] == [(("prompt",), "alone")]
    aliased = fraction(NAMES[:5]).aliases
    assert aliased
    assert all(("model", "prompt") not in group for group in aliased)


def test_the_rollback_of_a_fraction_is_the_smallest_set_that_ran() -> None:
    """No two of its 32 cells differ in one axis: an innocent axis goes along, and that is said."""
    found, asked = drive(FractionalSearch(problem(6, budget=3200)), breaks(1, noise=0.05))
    assert found.rollback is not None
    assert found.rollback.cell in {t.cell for t in asked}
    assert len(found.rollback.axes) == 2
    assert "prompt" in found.rollback.axes
    assert not set(found.rollback.axes) & set(found.keep)
    assert any("also reverts" in note for note in found.notes)


def test_the_same_seed_asks_the_same() -> None:
    first = drive(FactorialSearch(problem(seed=4)), breaks(1))[1]
    assert first == drive(FactorialSearch(problem(seed=4)), breaks(1))[1]
    assert first != drive(FactorialSearch(problem(seed=5)), breaks(1))[1]


@pytest.mark.parametrize(
    ("design", "k"), [(FactorialSearch, 5), (FractionalSearch, 5), (FractionalSearch, 7), (FractionalSearch, 12)]
)
def test_scores_that_no_axis_moves_blame_nobody(design: Callable[[Problem], Search], k: int) -> None:
    """What is left of sums that cancel is many times its equally small error."""
    for score in (lambda t: Outcome(t, 1.0), lambda t: Outcome(t, 100.0 + t.query % 7)):
        found, _ = drive(design(problem(k, queries=3, budget=1600, tolerance=0.0)), score)
        assert not found.causes


@pytest.mark.parametrize(("freedom", "p"), [(1, 0.5), (2, 0.25), (20, 0.5**20)])
def test_differences_that_are_all_alike_prove_no_more_than_their_number(freedom: int, p: float) -> None:
    assert Fit(0.3, 0.0, freedom, freedom + 1).p == p
    assert Fit(0.0, 0.0, freedom, freedom + 1).p == 1.0


def test_a_share_that_no_query_contradicts_has_the_interval_of_a_share_of_as_many() -> None:
    """20 of 100 queries lose and all are mended: up to 1 - 0.025^(1/20) of the loss may not be; of the whole log nothing is unseen."""
    lost = np.arange(100) < 20
    scores = np.column_stack([np.ones(100), 1.0 - lost, np.ones(100)])
    part, whole = np.array([0.0, -1.0, 1.0]), np.array([1.0, -1.0, 0.0])
    unseen = 1 - 0.025 ** (1 / 20)
    for population, clusters, half in (
        (math.inf, np.arange(100), unseen),
        (200, np.arange(100), unseen / 2),
        (100, np.arange(100), 0.0),
        (math.inf, np.arange(100) // 2, 1 - 0.025 ** (1 / 10)),
    ):
        share = ratio(ScoreTable(scores, np.ones(100), clusters, population), part, whole, what="share")
        assert share.value == 1.0
        assert share.interval == pytest.approx((1 - half, 1 + half))
