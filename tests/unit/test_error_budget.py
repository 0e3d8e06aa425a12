"""One alpha for a run, divided over families of tests."""

from __future__ import annotations

import pytest

from bisect_ai.attribution.error_budget import ErrorBudget
from bisect_ai.attribution.search.net_search import PARTS


def test_a_family_has_its_part_and_others_have_nothing() -> None:
    budget = ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.3, "further": 0.1})
    assert budget.of("reverted") == pytest.approx(0.03)
    assert budget.of("introduced") == pytest.approx(0.015)
    assert budget.of("table") == 0.0


def test_more_than_all_cannot_be_spent() -> None:
    with pytest.raises(ValueError, match=r"1\.1, more than 1"):
        ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.5})


@pytest.mark.parametrize("parts", PARTS.values(), ids=[f"{few}-{table}" for few, table in PARTS])
def test_what_the_search_divides_is_all_of_alpha(parts: dict[str, float]) -> None:
    budget = ErrorBudget(0.05, parts)
    assert sum(budget.of(family) for family in parts) == pytest.approx(0.05)


def test_it_says_how_it_is_divided() -> None:
    told = ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.4}).describe()
    assert told == "alpha = 0.05, divided: reverted 0.03, introduced 0.02"
