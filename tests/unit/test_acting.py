"""How axes act is read off the most precise evidence, and a rollback off its own cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from bisect_ai.attribution.problem import Outcome, Problem
from bisect_ai.attribution.search.back_sets import BackSets
from bisect_ai.attribution.search.modes import Acting, OwnCost, mode_of
from bisect_ai.attribution.search.query_rows import QueryRows

AXES = ("model", "prompt", "corpus")
FULL = 0b111


def rows_of(passes: dict[int, float], queries: int, rows: QueryRows | None = None) -> QueryRows:
    """That many queries more; in each cell a share of them, the first ones, passes."""
    rows = rows or QueryRows(Problem(axes=AXES, queries=2000, budget=20000))
    first = rows.asked
    for _ in range(queries):
        rows.begin(set(passes))
    rows.hear([Outcome(t, float(t.query - first < passes[t.cell] * queries)) for t in rows.take(20000)])
    return rows


def left_by(rows: QueryRows, named: Iterable[int]) -> tuple[int, ...]:
    return BackSets(rows, lambda axis: rows.mean(FULL & ~(1 << axis), FULL), partial(mode_of, rows)).smallest(named)


def test_a_few_queries_of_a_question_that_was_left_do_not_say_how_axes_act() -> None:
    """300 queries say that two axes add up; 22 on which introducing them happened to help say nothing against that."""
    rows = rows_of({0: 0.9, FULL: 0.7, 0b110: 0.8, 0b101: 0.8}, 300)
    rows_of({0: 0.75, 0b001: 1.0, 0b010: 1.0}, 22, rows)
    assert mode_of(rows, (0, 1)) == "alone"


def test_few_queries_say_how_axes_act_where_there_are_no_others() -> None:
    rows = rows_of({0: 1.0, FULL: 0.5, 0b001: 0.5, 0b010: 0.5}, 60)
    assert mode_of(rows, (0, 1)) == "either"


def test_one_of_two_axes_is_no_rollback_where_its_own_cell_falls_short() -> None:
    """Each alone seems to bring all of it back, measured on few queries; on many, either leaves half."""
    rows = rows_of({0: 0.9, FULL: 0.7, 0b110: 0.9, 0b101: 0.9}, 40)
    rows_of({0: 0.9, 0b110: 0.7, 0b101: 0.7}, 400, rows)
    assert left_by(rows, (0, 1)) == (0, 1)


def test_one_of_two_axes_that_act_together_is_the_rollback() -> None:
    assert len(left_by(rows_of({0: 0.9, FULL: 0.7, 0b110: 0.9, 0b101: 0.9}, 200), (0, 1))) == 1


# -- the queries that an axis moved -----------------------------------------------------------------------------------


def moved_by(costs: Callable[[int, int], bool]) -> tuple[OwnCost, QueryRows]:
    """80 queries in the bad release and with each axis reverted; `costs`: whether a query fails in a cell."""
    rows = QueryRows(Problem(axes=AXES, queries=2000, budget=20000))
    for _ in range(80):
        rows.begin({0, FULL, 0b110, 0b101, 0b011})
    own = OwnCost(rows, lambda axis: ["reverted"], lambda family, axis: [(FULL & ~(1 << axis), FULL)])
    while trials := rows.take(64) or (own.look((0, 1), doubted=True) and rows.take(64)):
        rows.hear([Outcome(t, float(not costs(t.query, t.cell))) for t in trials])
    return own, rows


def test_axes_that_fail_queries_of_their_own_act_alone_by_few_calls() -> None:
    own, rows = moved_by(
        lambda query, cell: bool(cell & (1 << query % 4))
    )  # the third of four numbers is that of the third axis
    assert own.acting((0, 1)).alone == {0, 1}
    assert rows.spent <= 80 * 5 + 2 * 12


def test_two_that_fail_queries_only_together_are_told_and_enter_no_mean() -> None:
    own, rows = moved_by(lambda query, cell: cell & 0b011 == 0b011 and query % 3 == 0)
    assert own.acting((0, 1)).joint == (((0, 1), "together"),)
    assert own.contradicts([((0,), "alone"), ((1,), "alone")])
    assert not len(rows.ran(0b001))


def test_one_that_needs_an_axis_that_is_not_named_does_not_act_alone() -> None:
    own, _ = moved_by(lambda query, cell: cell & 0b101 == 0b101 if query % 2 else bool(cell & 0b010))
    assert own.acting((0, 1)) == Acting(alone=frozenset({1}), joint=(), partial=frozenset({0}))


def test_what_an_axis_shuffles_says_nothing_of_how_it_acts() -> None:
    """It fails every tenth query in its old version and every tenth in its new one, whatever else runs."""
    own, _ = moved_by(lambda query, cell: query % 10 == (0 if cell & 1 else 5) or bool(cell & 0b010 and query % 10 == 7))
    assert 0 not in own.acting((0, 1)).settled
