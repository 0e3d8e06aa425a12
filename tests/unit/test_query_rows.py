"""The scores of a search by query and cell: what is asked for, what came back, and differences within queries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.search.query_rows import NOTHING, Mean, QueryRows


def rows(queries: int = 6, budget: int = 100, k: int = 2, **more: object) -> QueryRows:
    return QueryRows(Problem(tuple("abcdef"[:k]), queries, budget, **more))  # type: ignore[arg-type]


def hear(found: QueryRows, scores: dict[tuple[int, int], float | None]) -> None:
    """Begins and takes whatever is needed, then hears these scores by (query, cell)."""
    for query in range(max(q for q, _ in scores) + 1):
        found.begin([c for q, c in scores if q == query])
    found.take(1000)
    found.hear([Outcome(Trial(q, c), s, "error" if s is None else "ok") for (q, c), s in scores.items()])


def test_queries_are_begun_in_order_each_in_cells_fixed_before() -> None:
    found = rows()
    assert found.begin([3, 0])
    assert found.begin([1])
    assert found.take(10) == [Trial(0, 0), Trial(0, 3), Trial(1, 1)]
    assert (found.asked, found.spent, found.out, found.queued) == (2, 3, 3, 0)


def test_a_query_that_the_budget_cannot_pay_whole_is_not_begun() -> None:
    found = rows(budget=3)
    assert found.begin([0, 3])
    assert not found.begin([0, 3])
    assert found.asked == 1
    assert found.left == 1


def test_the_log_ends() -> None:
    found = rows(queries=1)
    assert found.begin([0])
    assert found.exhausted
    assert not found.begin([0])


def test_a_cell_is_filled_in_for_queries_that_lack_it_within_the_budget() -> None:
    found = rows(budget=5)
    for _ in range(3):
        found.begin([0])
    assert found.fill([0, 1, 2], 3)
    assert [t.query for t in found.take(10) if t.cell == 3] == [0, 1]
    assert not found.fill([0, 1], 3)


def test_what_cannot_run_is_not_handed_out_and_costs_nothing() -> None:
    found = rows()
    found.begin([0, 1])
    found.begin([0, 1])
    first = found.take(2)
    found.hear([Outcome(first[0], 1.0), Outcome(first[1], None, "infeasible")])
    assert found.take(10) == [Trial(1, 0)]
    assert found.spent == 3
    assert found.infeasible == {1}
    assert found.ran(1).tolist() == []
    assert not found.fill([0, 1], 1)


def test_a_failed_call_counts_as_the_worst_answer() -> None:
    found = rows()
    hear(found, {(0, 0): 1.0, (0, 3): None, (1, 0): 1.0, (1, 3): 1.0})
    queries, x = found.differences(0, 3)
    assert queries.tolist() == [0, 1]
    assert x.tolist() == [1.0, 0.0]
    assert found.errors == {3: 1}
    assert found.runs == {0: 2, 3: 2}


@pytest.mark.parametrize(("scores", "worst"), [((0.4, 0.9), 0.0), ((3.0, 7.0), 3.0), ((-0.2, 0.5), -0.2)])
def test_the_worst_is_0_on_a_unit_scale_and_the_lowest_seen_elsewhere(scores: tuple[float, float], worst: float) -> None:
    found = rows()
    hear(found, {(0, 0): scores[0], (1, 0): scores[1], (2, 0): None})
    assert found.worst == worst
    assert found.scores(0, np.array([2])).tolist() == [worst]


def test_differences_are_taken_on_queries_that_ran_in_both() -> None:
    found = rows()
    hear(found, {(0, 0): 1.0, (0, 3): 0.0, (1, 0): 1.0, (2, 3): 1.0, (3, 0): 1.0, (3, 3): 1.0})
    queries, x = found.differences(0, 3)
    assert queries.tolist() == [0, 3]
    assert x.tolist() == [1.0, 0.0]
    assert found.ran(0, 1).tolist() == []


def test_a_query_weighs_what_it_stands_for() -> None:
    found = rows(queries=2, weights=np.array([1.0, 3.0]))
    hear(found, {(0, 0): 1.0, (0, 3): 0.0, (1, 0): 1.0, (1, 3): 1.0})
    assert found.mean(0, 3).value == pytest.approx(0.25)


def test_a_means_error_is_as_if_one_query_more_had_moved() -> None:
    found = rows()
    hear(found, {(q, c): 1.0 for q in range(4) for c in (0, 3)} | {(4, 0): 1.0, (4, 3): 0.0})
    mean = found.mean(0, 3)
    assert mean.value == pytest.approx(0.2)
    assert mean.error == pytest.approx(math.sqrt(0.8 + 1) / 5)
    assert mean.n == 5


def test_where_nothing_moved_the_error_is_not_0() -> None:
    found = rows()
    hear(found, {(q, c): float(q % 2) for q in range(6) for c in (0, 3)})
    assert found.mean(0, 3).value == 0
    assert found.mean(0, 3).error == pytest.approx(1 / 6)


def test_clusters_widen_the_error() -> None:
    scores = {(q, c): float(c == 0 or q >= 3) for q in range(6) for c in (0, 3)}
    alone, grouped = rows(), rows(clusters=np.array([0, 0, 0, 1, 1, 1]))
    hear(alone, scores)
    hear(grouped, scores)
    assert grouped.mean(0, 3).value == alone.mean(0, 3).value
    assert grouped.mean(0, 3).error > 1.4 * alone.mean(0, 3).error


def test_the_likelihood_ratio_is_that_of_two_normal_means() -> None:
    assert Mean(0.0, 0.05, 40).favours_nothing(0.1) == pytest.approx(2.0)
    assert Mean(0.1, 0.05, 40).favours_nothing(0.1) == pytest.approx(-2.0)
    assert NOTHING.favours_nothing(0.1) == 0.0
    assert NOTHING.z == 0.0


def test_a_table_has_the_columns_asked_for() -> None:
    found = rows(population=50)
    hear(found, {(0, 0): 1.0, (0, 3): 0.0, (1, 0): 0.5, (1, 3): None})
    table = found.table([3, 0], np.array([0, 1]))
    assert table.scores.tolist() == [[0.0, 1.0], [0.0, 0.5]]
    assert table.population == 50
