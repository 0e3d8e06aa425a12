"""One alpha for a run, divided over families of tests."""

from __future__ import annotations

import re

import pytest

import bisect_ai
from bisect_ai.attribution.search.net_tests import AGAIN, IN_TURN, TABLE
from bisect_ai.attribution.stats.sequential import ErrorBudget


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
    in_turn = "0.03, 0.015 to the questions in the order they are asked"
    assert budget.describe() == f"alpha = 0.05, divided: {in_turn}, every query in every combination 0.005"
    assert [budget.ask(name) for name in ("introduced", "reverted", "introduced", "further")] == pytest.approx(
        [0.03, 0.015, 0.03, 0.0]
    )
    told = (
        "changed alone 0.03, taken back alone 0.015, taken back beside what is proved 0, every query in every combination 0.005"
    )
    assert budget.describe() == f"alpha = 0.05, divided: {told}"
    assert sum(budget.of(name) for name in ("introduced", "reverted", "further", "table")) <= 0.05


def test_it_says_how_it_is_divided() -> None:
    told = ErrorBudget(0.05, {"reverted": 0.6, "introduced": 0.4}).describe()
    assert told == "alpha = 0.05, divided: taken back alone 0.03, changed alone 0.02"


def test_a_report_tells_each_part_of_alpha_and_what_a_short_log_keeps_for_asking_again() -> None:
    axes = "prompt", "model", "tools"
    result = bisect_ai.run(
        good=dict.fromkeys(axes, "old"),
        bad=dict.fromkeys(axes, "new"),
        queries=[{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(30)],
        target=lambda query, release: "no" if release["prompt"] == "new" and int(query.id[1:]) % 2 else "yes",
        scorers={"correct": lambda query, answer: float(answer.text == query.reference)},
        drill=False,
        budget={"calls": 1000},
    )
    told = str(result.to_dict()["decision"]).partition("divided: ")[2].partition("; within")[0]
    assert "the same asked again while answers vary 0.005" in told
    assert sum(float(part) for part in re.findall(r"0\.\d+", told)) == pytest.approx(0.05)
