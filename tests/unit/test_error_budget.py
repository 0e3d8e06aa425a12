"""One alpha for a run, divided over families of tests."""

from __future__ import annotations

import pytest

from bisect_ai.attribution.error_budget import ErrorBudget
from bisect_ai.attribution.search.net_tests import AGAIN, IN_TURN, TABLE


def test_a_family_has_its_part_and_others_have_nothing() -> None:
    budget = ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.3, "further": 0.1})
    assert budget.of("reverted") == pytest.approx(0.03)
    assert budget.of("introduced") == pytest.approx(0.015)
    assert budget.of("table") == 0.0


def test_more_than_all_cannot_be_spent() -> None:
    with pytest.raises(ValueError, match=r"1\.1, more than 1"):
        ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.5})


@pytest.mark.parametrize("size", IN_TURN)
def test_what_the_search_divides_is_all_of_alpha(size: str) -> None:
    assert sum(IN_TURN[size]) + TABLE[size] + AGAIN[size] == pytest.approx(1)


def test_a_part_in_turn_goes_to_the_question_that_is_asked_next() -> None:
    budget = ErrorBudget(0.05, {"table": 0.1}, (0.6, 0.3))
    assert budget.of("introduced") == 0.0
    assert budget.describe() == "alpha = 0.05, divided: 0.03, 0.015 to the questions in the order they are asked, table 0.005"
    assert [budget.ask(name) for name in ("introduced", "reverted", "introduced", "further")] == pytest.approx(
        [0.03, 0.015, 0.03, 0.0]
    )
    assert budget.describe() == "alpha = 0.05, divided: introduced 0.03, reverted 0.015, further 0, table 0.005"
    assert sum(budget.of(name) for name in ("introduced", "reverted", "further", "table")) <= 0.05


def test_it_says_how_it_is_divided() -> None:
    told = ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.4}).describe()
    assert told == "alpha = 0.05, divided: reverted 0.03, introduced 0.02"
