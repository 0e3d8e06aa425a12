"""How axes act is read off the most precise evidence, and a rollback off its own cell."""

from __future__ import annotations

from collections.abc import Iterable

from bisect_ai.attribution.problem import Outcome, Problem
from bisect_ai.attribution.search.back_sets import BackSets, mode_of
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
    return BackSets(rows, lambda axis: rows.mean(FULL & ~(1 << axis), FULL)).smallest(named)


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
