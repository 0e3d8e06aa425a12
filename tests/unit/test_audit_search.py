"""The audit's conversation: what it asks again, what counts, what it carries on."""

from __future__ import annotations

import math

import pytest

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.questions.audit import STAKES, AuditRule, AuditSearch

FULL = 3


def problem(queries: int = 100, budget: int = 1000) -> Problem:
    return Problem(("model", "prompt"), queries, budget)


def converse(search: AuditSearch, answer, *, width: int = 16) -> list[Trial]:
    asked: list[Trial] = []
    while trials := search.ask(width):
        asked += trials
        search.tell([Outcome(t, answer(t), "ok" if answer(t) is not None else "error") for t in trials])
    return asked


def test_only_queries_that_differed_run_again_and_a_second_time_only_if_they_did_so_again() -> None:
    def answer(t: Trial) -> float:
        if t.query == 3:  # breaks every time
            return float(t.cell == 0)
        if t.query == 5:  # breaks once
            return float(t.cell == 0 or t.repeat > 0)
        return 1.0

    asked = converse(AuditSearch(problem(), AuditRule()), answer)
    assert {t for t in asked if t.repeat} == {Trial(3, c, r) for c in (0, FULL) for r in (1, 2)} | {
        Trial(5, c, 1) for c in (0, FULL)
    }
    assert len(asked) == len(set(asked))


def test_an_alarm_stops_the_audit_and_says_by_what_bound() -> None:
    search = AuditSearch(problem(), AuditRule())
    converse(search, lambda t: float(t.cell == 0))
    found = search.finding()
    assert found.kind == "regression"
    assert found.evidence >= found.bound == 52 / 0.05
    assert found.queries < 20
    assert found.loss.value == pytest.approx(1.0)


def test_gains_are_no_alarm() -> None:
    search = AuditSearch(problem(), AuditRule())
    converse(search, lambda t: float(t.cell != 0))
    assert search.finding().kind == "healthy"


def test_evidence_is_carried_to_the_next_audit_of_the_same_pair() -> None:
    first = AuditSearch(problem(queries=8), AuditRule())
    converse(first, lambda t: float(t.cell == 0))
    assert first.finding().kind == "undecided"
    second = AuditSearch(problem(queries=8), AuditRule(carried=first.finding().carry))
    assert second.finding().evidence > first.finding().evidence
    converse(second, lambda t: float(t.cell == 0))
    assert second.finding().kind == "regression"


def test_a_carry_of_another_length_is_not_used() -> None:
    assert AuditSearch(problem(), AuditRule(carried=(50.0,))).finding().evidence == pytest.approx(1.0)


def test_failed_trials_count_as_the_worst_score_and_are_told() -> None:
    search = AuditSearch(problem(queries=20), AuditRule())
    converse(search, lambda t: None if t.query < 6 and t.cell else 1.0)
    assert search.finding().failed == 6
    assert search.finding().queries == 20


def test_the_budget_is_never_crossed() -> None:
    for budget in (2, 7, 40):
        search = AuditSearch(problem(budget=budget), AuditRule(detect=0.001))
        assert len(converse(search, lambda t: float(t.query % 2 or t.cell == 0))) <= budget


def test_the_order_of_answers_in_a_round_does_not_matter() -> None:
    def run(backwards: bool) -> tuple[float, ...]:
        search = AuditSearch(problem(), AuditRule(detect=0.01))
        while trials := search.ask(16):
            told = [Outcome(t, float((t.query * 7 + t.cell * 3 + t.repeat) % 5 > 0)) for t in trials]
            search.tell(told[::-1] if backwards else told)
        return search.finding().carry

    assert run(True) == run(False)
    assert len(run(True)) == len(STAKES)
    assert all(math.isfinite(x) for x in run(True))
