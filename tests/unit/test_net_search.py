"""The adaptive search as a conversation: it keeps its budget, its word, and goes on when cells and trials fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from bisect_ai.attribution.problem import Attribution, Outcome, Problem, Trial
from bisect_ai.attribution.search.conclude import why_more_goes_back
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.attribution.search.query_rows import QueryRows

AXES = ("model", "prompt", "corpus", "tools")
Answer = Callable[[Trial, np.random.Generator], Outcome]


def breaks(cell_mask: int, *, share: float = 0.2, noise: float = 0.03, infeasible: frozenset[int] = frozenset()) -> Answer:
    """Queries pass, except that a share of them fails when all of `cell_mask` is bad."""

    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        if trial.cell in infeasible:
            return Outcome(trial, None, "infeasible")
        hit = trial.query * 0.618034 % 1 < share and trial.cell & cell_mask == cell_mask
        return Outcome(trial, float(hit == (rng.random() < noise)))

    return answer


def converse(search: NetSearch, answer: Answer, *, width: int = 24, seed: int = 1) -> list[Trial]:
    rng, asked = np.random.default_rng(seed), []
    while trials := search.ask(width):
        asked += trials
        search.tell([answer(t, rng) for t in trials])
    return asked


def solve(
    answer: Answer, *, budget: int = 600, axes: tuple[str, ...] = AXES, draws: int = 1, **more: object
) -> tuple[Attribution, list[Trial]]:
    search = NetSearch(Problem(axes=axes, queries=800, budget=budget, population=800, **more))  # type: ignore[arg-type]
    asked = converse(search, answer, seed=draws)
    return search.result(), asked


def test_names_the_axis_and_measures_its_rollback() -> None:
    found = [solve(breaks(0b0010), draws=draws) for draws in range(1, 11)]
    for result, asked in found:
        assert result.kind == "cause"
        assert [c.axes for c in result.causes] == [("prompt",)]
        assert result.rollback is not None
        assert result.rollback.axes == ("prompt",)
        assert sum(t.cell == result.rollback.cell for t in asked) >= 10
    assert [result.causes[0].mode for result, _ in found].count("alone") >= 7
    assert [result.keep for result, _ in found].count(("model", "corpus", "tools")) >= 6


def test_one_of_two_that_is_proved_when_the_budget_ends_is_not_said_to_act_alone() -> None:
    """Of 40 seeds 13 prove one of two, and all told it as acting alone; of 30 that prove the only one 24 still do."""
    axes = ("model", "prompt", "corpus", "tools", "context")
    both, one = (
        [solve(breaks(mask, share=0.19), budget=300, axes=axes, draws=s, seed=s)[0] for s in range(20)]
        for mask in (0b1010, 0b10)
    )
    halves = [found for found in both if sum(len(c.axes) for c in found.causes) == 1]
    assert len(halves) >= 3
    for found in halves:
        (cause,) = found.causes
        (other,) = {"prompt", "tools"} - set(cause.axes)
        assert cause.mode == "unsettled" and other not in found.keep
        assert any(other in note and f"as costly as {cause.axes[0]}" in note for note in found.notes)
    assert sum(c.mode == "alone" for found in one for c in found.causes) >= 8


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("width", [1, 24])
def test_any_of_several_axes_may_be_enough(count: int, width: int) -> None:
    """Each of them breaks the same queries, so none stands out beside the others, and reverting one brings nothing back."""
    enough = (1 << count) - 1

    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, float(not (trial.query * 0.618034 % 1 < 0.2 and trial.cell & enough)))

    search = NetSearch(Problem(axes=AXES, queries=800, budget=1000, population=800))
    converse(search, answer, width=width)
    result = search.result()
    assert {a for c in result.causes for a in c.axes} == set(AXES[:count])
    assert {c.mode for c in result.causes} <= {"either", "unsettled"}
    assert result.rollback is not None
    assert result.rollback.axes == AXES[:count]


@pytest.mark.parametrize("budget", [1, 3, 50, 77, 300])
@pytest.mark.parametrize("width", [1, 7, 128])
def test_budget_is_never_exceeded(budget: int, width: int) -> None:
    search = NetSearch(Problem(axes=AXES, queries=800, budget=budget))
    assert len(converse(search, breaks(0b0010), width=width)) <= budget


def test_rounds_are_about_as_wide_as_asked() -> None:
    search = NetSearch(Problem(axes=AXES, queries=800, budget=500))
    rng = np.random.default_rng(0)
    while trials := search.ask(32):
        assert len(trials) <= 33
        search.tell([breaks(0b0001)(t, rng) for t in trials])


def test_same_seed_same_conversation() -> None:
    assert solve(breaks(0b0100)) == solve(breaks(0b0100))


def test_no_trial_is_asked_for_twice() -> None:
    _, asked = solve(breaks(0b0011, noise=0.1), budget=900)
    assert len(set(asked)) == len(asked)


def test_settled_search_stays_settled() -> None:
    search = NetSearch(Problem(axes=AXES, queries=800, budget=2000))
    asked = converse(search, breaks(0b0010))
    assert len(asked) < 1000
    assert list(search.ask(32)) == []


def test_infeasible_cells_are_left_out_once_known() -> None:
    gone = frozenset({0b0011, 0b0110})
    result, asked = solve(breaks(0b0010, infeasible=gone))
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert {c.cell for c in result.cells if c.status == "infeasible"} <= gone
    first = {cell: next((i for i, t in enumerate(asked) if t.cell == cell), 0) for cell in gone}
    assert all(i < first[t.cell] + 24 for i, t in enumerate(asked) if t.cell in gone)


def test_rollback_routes_around_a_cell_that_cannot_run() -> None:
    result, _ = solve(breaks(0b0010, infeasible=frozenset({0b1101})), infeasible=frozenset({0b1101}))
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert result.rollback is not None
    assert set(result.rollback.axes) > {"prompt"}


def test_corner_that_cannot_run_is_inconclusive() -> None:
    result, asked = solve(breaks(0b0010, infeasible=frozenset({0b1111})))
    assert result.kind == "inconclusive"
    assert result.loss.value is None
    assert len(asked) <= 24


def test_missing_trials_are_survived_and_counted() -> None:
    whole = breaks(0b0010)

    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, None, "error") if rng.random() < 0.15 else whole(trial, rng)

    result, _ = solve(answer, budget=900, draws=2)
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert sum(c.errors for c in result.cells) > 20


def test_nothing_scored_is_inconclusive() -> None:
    result, _ = solve(lambda trial, rng: Outcome(trial, None, "error"), budget=120)
    assert result.kind == "inconclusive"
    assert result.loss.value is None


def test_clusters_widen_the_interval() -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        hit = (trial.query // 8) % 4 == 0 and trial.cell & 2
        return Outcome(trial, float(not hit))

    clusters = np.arange(800) // 8
    alone, _ = solve(answer, budget=160)
    grouped, _ = solve(answer, budget=160, clusters=clusters)
    assert alone.loss.interval is not None
    assert grouped.loss.interval is not None
    assert np.ptp(grouped.loss.interval) > 1.5 * np.ptp(alone.loss.interval)


def test_numeric_metric_of_any_scale() -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        level = 1000.0 * (1 + trial.query % 7)
        return Outcome(trial, -level * (1.3 if trial.cell & 4 else 1.0) * float(np.exp(0.1 * rng.standard_normal())))

    result, _ = solve(answer, budget=400)
    assert [(c.axes, c.mode) for c in result.causes] == [(("corpus",), "alone")]


def test_outcomes_may_come_one_by_one_in_any_order() -> None:
    search, rng = NetSearch(Problem(axes=AXES, queries=800, budget=600)), np.random.default_rng(5)
    while trials := search.ask(24):
        for i in rng.permutation(len(trials)):
            search.tell([breaks(0b0010)(trials[i], rng)])
    assert [c.axes for c in search.result().causes] == [("prompt",)]


def test_weights_move_the_loss() -> None:
    even, _ = solve(breaks(0b0010, noise=0.0), budget=200)
    heavy = np.where(np.arange(800) * 0.618034 % 1 < 0.2, 4.0, 1.0)
    weighted, _ = solve(breaks(0b0010, noise=0.0), budget=200, weights=heavy)
    assert even.loss.value is not None
    assert weighted.loss.value is not None
    assert weighted.loss.value > 1.5 * even.loss.value


def test_one_axis_needs_no_inner_cells() -> None:
    result, asked = solve(breaks(0b1), axes=("prompt",))
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert {t.cell for t in asked} == {0, 1}


def test_belief_says_something_after_each_round() -> None:
    search = NetSearch(Problem(axes=AXES, queries=800, budget=400))
    assert search.belief().loss.value is None
    converse(search, breaks(0b0010))
    belief = search.belief()
    assert belief.stage == "confirm"
    assert belief.harm["prompt"] == 1.0
    assert belief.loss.interval is not None


def test_budget_too_small_says_what_is_missing() -> None:
    result, _ = solve(breaks(0b0010), budget=90)
    assert result.kind == "inconclusive"
    assert result.calls_needed is None
    assert "budget ended" in result.reason
    assert {e.axes for e in result.effects if e.kind == "reverted"} == {(a,) for a in AXES}


def test_rounds_may_be_asked_for_before_the_last_was_told() -> None:
    search, rng = NetSearch(Problem(axes=AXES, queries=800, budget=700)), np.random.default_rng(5)
    out: deque[list[Trial]] = deque()
    asked: list[Trial] = []
    while True:
        trials = list(search.ask(24))
        asked += trials
        if trials:
            out.append(trials)
        if not out:
            break
        if len(out) > 2 or not trials:
            search.tell([breaks(0b0010)(t, rng) for t in out.popleft()])
    result = search.result()
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert result.rollback is not None
    assert result.rollback.value.n >= 10
    assert len(asked) == len(set(asked)) <= 700


def test_two_causes_are_both_named_with_what_they_cost() -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        place = trial.query * 0.618034 % 1
        hit = (place < 0.15 and trial.cell & 1) or (0.15 < place < 0.3 and trial.cell & 4)
        return Outcome(trial, float(bool(hit) == (rng.random() < 0.03)))

    result, _ = solve(answer, budget=1500)
    assert {a for c in result.causes for a in c.axes} == {"model", "corpus"}
    assert sum(c.share.value or 0.0 for c in result.causes) == pytest.approx(1.0, abs=0.4)
    assert all(c.share.interval is not None for c in result.causes)
    assert result.rollback is not None
    assert set(result.rollback.axes) == {"model", "corpus"}
    net = {e.axes: e for e in result.effects if e.kind == "net"}
    for axis in ("model", "corpus"):
        assert net[axis,].proved
        assert net[axis,].estimate.value == pytest.approx(0.14, abs=0.08)
    assert not net["prompt",].proved


@pytest.mark.parametrize("mask", [0b01, 0b10, 0b11])
def test_two_axes_run_in_all_four_cells(mask: int) -> None:
    result, asked = solve(breaks(mask), axes=("model", "prompt"), budget=800)
    assert {a for c in result.causes for a in c.axes} == {a for i, a in enumerate(("model", "prompt")) if mask >> i & 1}
    assert len(asked) == len(set(asked))
    net = [e.estimate.value for e in result.effects if e.kind == "net"]
    assert len(net) == 2
    assert sum(v or 0.0 for v in net) == pytest.approx(0.19, abs=0.08)


def test_two_axes_have_shapley_shares() -> None:
    result, _ = solve(breaks(0b01), axes=("model", "prompt"), budget=800)
    assert sum(e.estimate.value or 0.0 for e in result.effects if e.kind == "shapley") == pytest.approx(0.19, abs=0.08)


def test_two_axes_and_answers_that_never_vary_name_nobody_without_a_loss() -> None:
    def frozen(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, float(np.random.default_rng([trial.query, trial.cell]).random() < 0.8))

    result, _ = solve(frozen, axes=("model", "prompt"), budget=1600)
    assert result.kind != "cause"


def test_two_axes_with_a_cell_that_cannot_run() -> None:
    result, _ = solve(breaks(0b01, infeasible=frozenset({2})), axes=("model", "prompt"), budget=800)
    assert [c.axes for c in result.causes] == [("model",)]


def test_numeric_effects_are_population_values() -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, trial.query % 5 - 0.5 * bool(trial.cell & 2) + 1.0 * rng.standard_normal())

    result, _ = solve(answer, budget=500, draws=2)
    found = {e.axes: e.estimate for e in result.effects if e.kind == "net"}
    shown = found["prompt",].interval
    assert shown is not None
    assert shown[0] <= 0.5 <= shown[1]
    for axis in ("model", "corpus", "tools"):
        interval = found[axis,].interval
        assert interval is not None
        assert interval[0] < 0.25
        assert interval[1] > -0.25


def churns(trial: Trial, rng: np.random.Generator) -> Outcome:
    """Tools break 8 % and mend 8 % of the queries for nothing; the prompt breaks another 16 %."""
    place = trial.query * 0.618034 % 1
    shuffled = place < 0.08 if trial.cell & 8 else 0.08 <= place < 0.16
    broken = 0.3 <= place < 0.46 and trial.cell & 2
    return Outcome(trial, float(not (shuffled or broken)))


def test_churn_is_told_and_not_blamed() -> None:
    result, _ = solve(churns, budget=1500)
    assert [c.axes for c in result.causes] == [("prompt",)]
    assert result.rollback is not None
    assert result.rollback.axes == ("prompt",)
    (tools,) = (e for e in result.effects if e.kind == "net" and e.axes == ("tools",))
    assert tools.breaks == pytest.approx(0.08, abs=0.06)
    assert tools.mends == pytest.approx(0.08, abs=0.06)
    assert not tools.proved


@pytest.mark.parametrize("budget", [200, 800, 3200])
def test_an_axis_that_helps_is_never_a_cause(budget: int) -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        place = trial.query * 0.618034 % 1
        mended = place < 0.16 and trial.cell & 8
        broken = (0.16 <= place < 0.26 and trial.cell & 8) or (0.3 <= place < 0.5 and trial.cell & 2)
        return Outcome(trial, float(bool(mended) or not (place < 0.16 or broken)))

    result, _ = solve(answer, budget=budget)
    assert all("tools" not in c.axes for c in result.causes)
    assert result.rollback is None or "tools" not in result.rollback.axes


def test_a_lone_gain_is_no_cause() -> None:
    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, float(trial.query * 0.618034 % 1 < (0.8 if trial.cell & 1 else 0.7)))

    result, _ = solve(answer, budget=1200)
    assert result.kind != "cause"


def test_a_larger_budget_keeps_the_verdict() -> None:
    found = [solve(breaks(0b0010), budget=budget)[0] for budget in (600, 610, 1200, 5000)]
    assert [[c.axes for c in r.causes] for r in found] == [[("prompt",)]] * 4


def test_a_short_log_whose_answers_vary_is_asked_again_and_scores_are_means() -> None:
    queries, rng = 60, np.random.default_rng(3)
    passes = rng.random(queries)

    def answer(trial: Trial, rng: np.random.Generator) -> Outcome:
        return Outcome(trial, float(rng.random() < passes[trial.query] - 0.1 * (trial.cell & 1)))

    search = NetSearch(Problem(axes=AXES[:2], queries=queries, budget=5000, population=queries, seed=2))
    asked = converse(search, answer, seed=4)
    repeats = {n: [t for t in asked if t.repeat == n] for n in {t.repeat for t in asked}}
    assert len(asked) == len(set(asked)) and set(repeats) > {0, 1}
    assert all({(t.query, t.cell) for t in trials} == {(t.query, t.cell) for t in repeats[0]} for trials in repeats.values())
    cell = next(c for c in search.result().cells if c.cell == 0)
    assert cell.trials == queries * len(repeats) and cell.estimate.n == queries


def test_answers_that_repeat_are_not_paid_for_again() -> None:
    axes, queries = AXES[:2], 60
    for budget in (240, 5000):
        search = NetSearch(Problem(axes=axes, queries=queries, budget=budget, population=queries, seed=2))
        asked = converse(search, lambda trial, _: Outcome(trial, float((trial.query * 7 + trial.cell * 3) % 10 < 7)))
        assert sum(t.repeat == 0 for t in asked) == 240
        assert sum(t.repeat > 0 for t in asked) <= 24


def test_a_failure_counts_as_the_worst_score_beside_the_other_runs_of_a_query() -> None:
    rows = QueryRows(Problem(axes=AXES, queries=4, budget=40, bounds=(0.0, 1.0)))
    rows.begin({0})
    rows.hear([Outcome(t, 1.0) for t in rows.take(1)])
    assert rows.again({0}, range(1)) and not rows.again({0}, range(1))
    rows.hear([Outcome(t, None, "error") for t in rows.take(1)])
    assert rows.scores(0, np.array([0])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("back", "ran", "told"),
    [
        (
            (0, 1, 2),
            True,
            "no smaller set of the changed axes was measured to bring the loss back: only the whole release does",
        ),
        ((0, 1, 2), False, "what reverting a without the other axes brings back is not known: that combination hardly ran"),
        ((0, 2), True, "the rollback also reverts c: no combination without it was run"),
    ],
)
def test_why_axes_go_back_that_nobody_named(back: tuple[int, ...], ran: bool, told: str) -> None:
    problem = Problem(axes=("a", "b", "c"), queries=10, budget=100, population=10)
    assert why_more_goes_back(problem, back=back, named=(0,), along=(), meant=(0,), ran=ran).startswith(told)
