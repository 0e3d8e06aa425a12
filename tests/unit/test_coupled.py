"""Axes that do not run apart: one that only runs beside another's new version is measured there, and named and rolled back alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import bisect_ai
from bisect_ai.attribution.problem import Attribution, Outcome, Problem, Trial
from bisect_ai.attribution.search.coupled import design_search
from bisect_ai.queries.query import Query

AXES = ("code", "prompt", "tools", "corpus")
Needs = Sequence[tuple[str, str]]


def solved(
    guilty: Sequence[str],
    needs: Needs,
    *,
    axes: tuple[str, ...] = AXES,
    design: str = "adaptive",
    budget: int = 1200,
    status: str = "infeasible",
    seed: int = 0,
) -> tuple[Attribution, list[Trial]]:
    """A search over queries of which a fifth fails for each guilty axis; a mixture that lacks a need does not run.

    The tolerance is what a search that ends after some 400 calls can exclude of the other axes.
    """
    search = design_search(design, Problem(axes=axes, queries=600, budget=budget, population=600, seed=seed, tolerance=0.06))
    rng = np.random.default_rng(seed)
    asked: list[Trial] = []
    while trials := search.ask(24):
        asked += trials
        search.tell([_outcome(t, axes, guilty, needs, status, rng) for t in trials])
    return search.result(), asked


def _outcome(
    trial: Trial, axes: tuple[str, ...], guilty: Sequence[str], needs: Needs, status: str, rng: np.random.Generator
) -> Outcome:
    bad = {a for i, a in enumerate(axes) if trial.cell >> i & 1}
    if any(first in bad and second not in bad for first, second in needs):
        return Outcome(trial, None, status)  # type: ignore[arg-type]  # one of the words
    lost = any(a in bad and (trial.query * 0.618034 + i / 3) % 1 < 0.2 for i, a in enumerate(guilty))
    return Outcome(trial, float(lost == (rng.random() < 0.03)))


def causes(found: Attribution) -> list[tuple[tuple[str, ...], str]]:
    return [(c.axes, c.mode) for c in found.causes]


@pytest.mark.parametrize("design", ["adaptive", "full"])
@pytest.mark.parametrize("axes", [("code", "prompt"), ("prompt", "code"), AXES])
def test_an_axis_that_needs_anothers_new_version_is_blamed_alone(axes: tuple[str, ...], design: str) -> None:
    found, _ = solved(["prompt"], [("prompt", "code")], axes=axes, design=design)
    assert causes(found) == [(("prompt",), "alone")]
    assert found.causes[0].beside_new == ("code",)
    assert found.rollback is not None
    assert found.rollback.axes == ("prompt",)
    assert "code" in found.keep
    assert "code" not in {a for e in found.effects if e.proved for a in e.axes}


@pytest.mark.parametrize("design", ["adaptive", "full"])
@pytest.mark.parametrize("axes", [("code", "prompt"), AXES])
def test_a_rollback_takes_along_what_cannot_run_without_it(axes: tuple[str, ...], design: str) -> None:
    found, asked = solved(["code"], [("prompt", "code")], axes=axes, design=design)
    assert causes(found) == [(("code",), "alone")]
    assert found.causes[0].beside_old == ("prompt",)
    assert found.rollback is not None
    assert set(found.rollback.axes) == {"code", "prompt"}
    assert sum(t.cell == found.rollback.cell for t in asked) >= 30
    assert set(found.keep) == {"tools", "corpus"} & set(axes)


def test_two_axes_that_need_a_third_are_told_apart() -> None:
    found, _ = solved(["tools"], [("prompt", "code"), ("tools", "code")])
    assert causes(found) == [(("tools",), "alone")]
    assert found.rollback is not None
    assert found.rollback.axes == ("tools",)
    assert set(found.keep) == {"code", "prompt", "corpus"}


def test_axes_of_which_neither_runs_without_the_other_are_one() -> None:
    found, _ = solved(["prompt"], [("prompt", "code"), ("code", "prompt")])
    assert causes(found) == [(("code", "prompt"), "unsettled")]
    assert found.rollback is not None
    assert set(found.rollback.axes) == {"code", "prompt"}
    assert any("one unit" in note for note in found.notes)


def test_a_mixture_whose_calls_all_fail_is_one_that_cannot_run() -> None:
    found, _ = solved(["prompt"], [("prompt", "code")], status="error")
    assert causes(found) == [(("prompt",), "alone")]
    assert found.rollback is not None
    assert found.rollback.axes == ("prompt",)


@pytest.mark.parametrize("seed", range(4))
def test_calls_of_a_release_that_fail_are_no_mixture_that_cannot_run(seed: int) -> None:
    search = design_search("adaptive", Problem(axes=AXES, queries=600, budget=1200, population=600, seed=seed))
    while trials := search.ask(24):
        search.tell([_failing_model(trial) for trial in trials])
    found = search.result()
    assert found.notes == ()
    assert not [cell for cell in found.cells if cell.status == "infeasible"]
    assert [cause.axes for cause in found.causes] == [("code",)]


def _failing_model(trial: Trial) -> Outcome:
    """A quarter of the calls fail wherever the first axis has its new version."""
    is_failing = trial.cell & 1 and trial.query * 0.618034 % 1 < 0.25
    return Outcome(trial, None, "error") if is_failing else Outcome(trial, 1.0)


@pytest.mark.parametrize("design", ["adaptive", "full"])
def test_both_guilty_each_has_its_part(design: str) -> None:
    found, _ = solved(["code", "prompt"], [("prompt", "code")], design=design, budget=2400)
    assert {c.axes for c in found.causes} == {("code",), ("prompt",)}
    assert found.rollback is not None
    assert set(found.rollback.axes) == {"code", "prompt"}
    shares = [c.share.value for c in found.causes]
    assert sum(s or 0.0 for s in shares) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("needs", [[("prompt", "code")], [("prompt", "code"), ("tools", "code")]])
def test_nobody_is_blamed_without_a_loss(needs: Needs) -> None:
    named = [bool(solved([], needs, budget=600, seed=seed)[0].causes) for seed in range(8)]
    assert sum(named) <= 1


def test_a_budget_holds_with_probes() -> None:
    for budget in (1, 30, 60, 200):
        _, asked = solved(["prompt"], [("prompt", "code"), ("tools", "code")], budget=budget)
        assert len(asked) <= budget


@pytest.mark.parametrize("design", ["adaptive", "full", "fractional"])
def test_a_rollback_that_could_not_run_says_so(design: str) -> None:
    """The old prompt runs with nothing new: nobody knows what taking back the prompt alone would bring."""

    def answer(query: Query, release: Any) -> str:
        if release["prompt"] == "old" and (release["model"], release["tools"]) != ("a", "o"):
            raise bisect_ai.Infeasible("the old prompt knows neither")
        return "no" if release["prompt"] == "new" and int(query.id[1:]) % 4 == 0 else "yes"

    result = bisect_ai.run(
        good={"prompt": "old", "model": "a", "tools": "o"},
        bad={"prompt": "new", "model": "b", "tools": "n"},
        queries=[{"id": f"q{i}", "input": f"x {i}", "reference": "yes"} for i in range(200)],
        target=answer,
        scorers={"correct": lambda query, answer: answer.text == query.reference},
        design=design,
        drill=False,
    )
    assert result.verdict.rollback is not None
    assert result.verdict.rollback.axes == ("prompt", "model", "tools")
    if design == "fractional":  # which cannot tell apart what needs what
        assert "prompt, model and tools, which only run together" in result.verdict.sentence
    else:
        assert "(model and tools cannot run without the new version) recovers all of it" in result.verdict.sentence


@pytest.mark.parametrize(
    ("guilty", "told"),
    [
        (
            "code",
            "code, measured beside the new prompt (alone it cannot start: KeyError: 'tone') and measured beside the new tools "
            "(alone it cannot start: no module x)",
        ),
        ("prompt", "prompt, measured beside the old code (without it the new code cannot start: KeyError: 'tone')"),
        ("tools", "tools, measured beside the old code (without it the new code cannot start: no module x)"),
    ],
)
def test_of_three_coupled_axes_each_need_has_its_own_reason(guilty: str, told: str) -> None:
    """The smallest mixture lacks both: what it says is why the one of them cannot run, not the other."""

    def target(query: Query, release: Any) -> str:
        new = {axis for axis in AXES if release[axis] == "new"}
        for lacking, why in (("prompt", "KeyError: 'tone'"), ("tools", "no module x")):
            if "code" in new and lacking not in new:
                raise bisect_ai.Infeasible(why)
        return "no" if guilty in new and int(query.id) % 3 == 0 else "yes"

    result = bisect_ai.run(
        good=dict.fromkeys(AXES, "old"),
        bad=dict.fromkeys(AXES, "new"),
        queries=[{"id": str(i), "input": f"{i}?", "reference": "yes"} for i in range(600)],
        target=target,
        scorers={"correct": lambda query, answer: answer.text == query.reference},
        budget={"calls": 1500},
        drill=False,
    )
    assert result.verdict.sentence.startswith(f"{told}, causes the drop")
