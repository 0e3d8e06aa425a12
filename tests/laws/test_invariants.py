"""What every report keeps to, whatever a search concluded: over random attributions, and over random applications and designs."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bisect_ai
from bisect_ai.attribution.invariants import consistent
from bisect_ai.attribution.problem import Attribution, Cause, CellValue, Effect, Estimate, Rollback
from bisect_ai.facts.report_view import Facts, build, told_report
from bisect_ai.report import markdown, terminal
from bisect_ai.report.report_values import Report, Verdict

AXES = ("model", "prompt", "tools")
TOLERANCE = 0.02
ROUNDING = 1e-6


# -- the laws, on a finished report ----------------------------------------------------------------------------------------
def broken_laws(report: Mapping[str, Any]) -> list[str]:
    """Which invariants the report breaks, in words."""
    verdict = report["verdict"]
    laws = [*_numbers(report), *_rollback(report)]
    if verdict["kind"] == "cause":
        laws += _causes(report)
    if verdict["kind"] == "no_regression" and (report["loss"]["estimate"] or 0.0) > report["tolerance"] + ROUNDING:
        laws.append("no regression beside a loss above the tolerance")
    loss = report["loss"]
    if None not in (loss["good"], loss["bad"], loss["estimate"]) and "counted as wrong" not in verdict["sentence"]:
        apart = (loss["good"] - loss["bad"]) * (1 if report["higher_is_better"] else -1)
        if apart * loss["estimate"] < 0 and max(abs(apart), abs(loss["estimate"])) > 0.01 * abs(loss["good"]):
            laws.append(f"a loss of {loss['estimate']} from {loss['good']} to {loss['bad']}")
    if verdict["kind"] != "cause" and (verdict["causes"] or verdict["rollback"]):
        laws.append("causes or a rollback without the verdict")
    return laws + [f"{share} % in {text!r}" for text in _texts(report) for share in _shares_outside(text)]


def _numbers(report: Mapping[str, Any]) -> list[str]:
    highest = 1.0 if report["percent"] else math.inf
    loss, found = report["loss"], []
    rows = [("loss", loss["estimate"], loss["interval"], -highest, highest)]
    rows += [
        (side, loss[side], loss[f"{side}_interval"], 0.0 if report["percent"] else -highest, highest)
        for side in ("good", "bad")
    ]
    rows += [
        (str(c["bad_axes"]), c["value"], c["interval"], 0.0 if report["percent"] else -highest, highest)
        for c in report["cells"]
    ]
    rows += [
        (f"{e['kind']} {e['axes']}", e["estimate"], e["interval"], -highest, highest)
        for e in report["effects"]
        if e["kind"] != "interaction"
    ]
    rows += [(f"share of {c['axes']}", c["share"], c["interval"], 0.0, 1.0) for c in report["verdict"]["causes"]]
    if back := report["verdict"]["rollback"]:
        rows.append(("rollback", back["value"], back["interval"], 0.0 if report["percent"] else -highest, highest))
        rows.append(("restores", back["restores"], back["restores_interval"], 0.0, 1.0))
    rows += [
        (f"{m['name']} by {e['axis']}", e["estimate"], e["interval"], -math.inf, math.inf)
        for m in report["side_metrics"]
        for e in m["effects"]
    ]
    for name, value, interval, low, high in rows:
        if value is None:
            found += [f"{name} has an interval and no value"] if interval is not None else []
            continue
        if not math.isfinite(value) or not low - ROUNDING <= value <= high + ROUNDING:
            found.append(f"{name} is {value}, outside {low} to {high}")
        if interval is not None and not interval[0] - ROUNDING <= value <= interval[1] + ROUNDING:
            found.append(f"{name} is {value}, outside its interval {interval}")
    return found


def _causes(report: Mapping[str, Any]) -> list[str]:
    verdict, loss, found = report["verdict"], report["loss"]["estimate"], []
    named = [axis for cause in verdict["causes"] for axis in cause["axes"]]
    if not named:
        found.append("a cause without axes")
    if loss is None or loss < report["tolerance"] - ROUNDING or loss <= 0:
        found.append(f"a cause beside a loss of {loss}")
    if len(named) != len(set(named)) or not set(named) <= set(report["axes"]):
        found.append(f"axes named twice, or unknown: {named}")
    for cause in verdict["causes"]:
        if cause["mode"] not in (("alone", "unsettled") if len(cause["axes"]) == 1 else ("together", "either", "unsettled")):
            found.append(f"{cause['axes']} {cause['mode']}")
    net = {e["axes"][0]: e["estimate"] for e in report["effects"] if e["kind"] == "net"}
    found += [f"{axis} is named beside an estimated gain" for axis in named if (net.get(axis) or 0.0) < 0]
    if set(named) & set(verdict["keep"]):
        found.append("an axis is named and kept")
    return found


def _rollback(report: Mapping[str, Any]) -> list[str]:
    verdict = report["verdict"]
    back = verdict["rollback"]
    if not back:
        return []
    named = {axis for cause in verdict["causes"] for axis in cause["axes"]}
    found = [f"restores {back['restores']}"] if back["restores"] is not None and back["restores"] <= 0 else []
    if back["interval"] is not None and report["loss"]["bad"] is not None:
        better = _better(report, back["interval"], report["loss"]["bad"])
        found += [] if better else [f"rollback measured {back['interval']}, bad is {report['loss']['bad']}"]
    if set(back["axes"]) & set(verdict["keep"]):
        found.append("an axis is kept and rolled back")
    allowed = named | set(back.get("along", ()))  # what cannot run without the new version of a named one goes back with it
    if not back["axes"] or not (set(back["axes"]) <= allowed or set(back["axes"]) == set(report["axes"])):
        found.append(f"rolls back {back['axes']} though {named} are named")
    return found


def _better(report: Mapping[str, Any], interval: Sequence[float], bad: float) -> bool:
    """Whether the rollback's value may be better than the bad release's."""
    return interval[1] > bad - ROUNDING if report["higher_is_better"] else interval[0] < bad + ROUNDING


def _texts(report: Mapping[str, Any]) -> list[str]:
    return [report["verdict"]["sentence"], " ".join(terminal.render(report).split()), " ".join(markdown.render(report).split())]


def _shares_outside(text: str) -> list[str]:
    found = re.findall(r"(-?[\d,.]+) % of (?:the loss|it)\b", text)
    return [share for share in found if not 0 <= float(share.replace(",", "")) <= 100]


# -- random attributions ---------------------------------------------------------------------------------------------------
NUMBERS = st.one_of(st.floats(-1.5, 1.5), st.sampled_from([0.0, 0.02, math.nan, math.inf]))
ESTIMATES = st.builds(
    Estimate,
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS)),
    st.integers(0, 500),
    st.just("made up"),
)
NAMES = st.lists(st.sampled_from(AXES), min_size=1, max_size=3, unique=True).map(tuple)
MODES = st.sampled_from(["alone", "together", "either", "unsettled"])
EFFECTS = st.builds(
    Effect,
    st.sampled_from(AXES).map(lambda a: (a,)),
    st.sampled_from(["introduced", "reverted", "shapley", "net"]),
    ESTIMATES,
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.booleans(),
)
ROLLBACKS = st.builds(
    Rollback,
    NAMES,
    st.integers(0, 7),
    ESTIMATES,
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS)),
)
ATTRIBUTIONS = st.builds(
    Attribution,
    st.sampled_from(["cause", "cause", "cause", "no_regression", "inconclusive"]),
    ESTIMATES,
    ESTIMATES,
    ESTIMATES,
    st.lists(st.builds(Cause, NAMES, MODES, ESTIMATES), max_size=3).map(tuple),
    st.one_of(st.none(), ROLLBACKS),
    st.lists(st.sampled_from(AXES), max_size=3, unique=True).map(tuple),
    st.lists(EFFECTS, max_size=4, unique_by=lambda e: (e.axes, e.kind)).map(tuple),
    st.lists(
        st.builds(CellValue, st.integers(0, 7), ESTIMATES, st.integers(0, 9), st.just(0), st.just("run")),
        max_size=3,
        unique_by=lambda c: c.cell,
    ).map(tuple),
    st.lists(st.tuples(NAMES, NUMBERS), max_size=2).map(tuple),
    st.one_of(st.none(), st.integers(-5, 900)),
)


def report_of(found: Attribution, *, sign: float = 1.0, bounded: bool = True) -> dict[str, Any]:
    report = Report(
        run="run",
        good="good",
        bad="bad",
        metric="correct",
        higher_is_better=sign > 0,
        percent=bounded,
        axes=AXES,
        design="adaptive",
        tolerance=TOLERANCE,
        verdict=Verdict(kind=found.kind),
    )
    return told_report(build(Facts(report, found)))


def range_of(sign: float, bounded: bool) -> tuple[float, float]:
    return (-math.inf, math.inf) if not bounded else (0.0, 1.0) if sign > 0 else (-1.0, 0.0)


@settings(max_examples=400, deadline=None)
@given(ATTRIBUTIONS, st.sampled_from([1.0, -1.0]), st.booleans())
def test_any_attribution_becomes_a_report_that_contradicts_nothing(found: Attribution, sign: float, bounded: bool) -> None:
    made = consistent(found, axes=AXES, tolerance=TOLERANCE, within=range_of(sign, bounded))
    assert broken_laws(report_of(made, sign=sign, bounded=bounded)) == []


@settings(max_examples=200, deadline=None)
@given(ATTRIBUTIONS)
def test_what_is_consistent_stays_as_it_is(found: Attribution) -> None:
    made = consistent(found, axes=AXES, tolerance=TOLERANCE, within=(0.0, 1.0))
    assert consistent(made, axes=AXES, tolerance=TOLERANCE, within=(0.0, 1.0)) == made


# -- what is taken back, and how it is said ----------------------------------------------------------------------------------
def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value, (value - half, value + half), 240, "paired")


def cause_of(*causes: Cause, loss: float = 0.18, back: tuple[str, ...] = ("prompt",), **more: Any) -> Attribution:
    rollback = Rollback(back, 5, estimate(0.86), 0.95, (0.8, 1.1))
    known: dict[str, Any] = {"rollback": rollback, "keep": ("model", "tools"), **more}
    return Attribution("cause", estimate(loss), estimate(0.87), estimate(0.87 - loss), causes, **known)


PROMPT = Cause(("prompt",), "alone", estimate(0.9))


def checked(found: Attribution) -> Attribution:
    return consistent(found, axes=AXES, tolerance=TOLERANCE, within=(0.0, 1.0))


def test_a_sound_cause_is_left_alone() -> None:
    found = checked(cause_of(PROMPT))
    assert (found.kind, found.keep) == ("cause", ("model", "tools"))
    assert found.rollback is not None
    assert (found.rollback.axes, found.rollback.restores, found.rollback.interval) == (("prompt",), 0.95, (0.8, 1.0))


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (0.01, "prompt costs quality on average, but the loss beside it is estimated at 0.01, below the tolerance of 0.02"),
        (-0.06, "prompt costs quality on average, but the release gains 0.06 in all"),
    ],
)
def test_no_cause_beside_a_gain_or_a_loss_below_the_tolerance(loss: float, reason: str) -> None:
    found = checked(cause_of(PROMPT, loss=loss))
    assert (found.kind, found.reason, found.causes, found.rollback, found.keep) == ("inconclusive", reason, (), None, ())


def test_an_axis_that_is_estimated_to_gain_is_not_named() -> None:
    gain = Effect(("model",), "net", estimate(-0.06, 0.03), None, 0.1, 0.16, True)
    model = Cause(("model",), "alone", estimate(0.1))
    found = checked(cause_of(PROMPT, model, effects=(gain,), keep=("tools",)))
    assert [c.axes for c in found.causes] == [("prompt",)]
    alone = checked(cause_of(model, effects=(gain,)))
    assert (alone.kind, alone.reason) == ("inconclusive", "no axis that was suspected is estimated to cost quality on average")


def test_causes_that_share_an_axis_become_one_that_is_not_settled() -> None:
    found = checked(cause_of(PROMPT, Cause(("prompt", "tools"), "together", estimate(0.9)), keep=("model",)))
    assert [(c.axes, c.mode, c.share.value) for c in found.causes] == [(("prompt", "tools"), "unsettled", None)]


@pytest.mark.parametrize(
    "harmful",
    [
        Rollback(("prompt",), 5, estimate(0.5), -2.6, (-3.0, -2.0)),
        Rollback(("prompt",), 5, estimate(0.5), None),
        Rollback(("prompt",), 5, estimate(0.86), 2e-173, None),
        Rollback(("prompt", "model"), 4, estimate(0.86), 0.95),
    ],
)
def test_a_rollback_that_harms_or_takes_back_an_innocent_is_the_whole_release(harmful: Rollback) -> None:
    found = checked(cause_of(PROMPT, rollback=harmful))
    assert found.rollback is not None
    assert (found.rollback.axes, found.rollback.cell, found.rollback.value.value) == (AXES, 0, 0.87)
    assert found.keep == ()
    assert "only the whole release recovers it" in report_of(found)["verdict"]["sentence"]


def test_the_frame_of_an_audit_may_find_no_regression_beside_a_small_loss() -> None:
    found = replace(cause_of(PROMPT, loss=0.03), kind="no_regression", causes=(), rollback=None)
    assert checked(found).kind == "inconclusive"
    assert consistent(found, axes=AXES, tolerance=TOLERANCE, judges=False).kind == "no_regression"


# -- random applications and designs ----------------------------------------------------------------------------------------
@st.composite
def incidents(draw: st.DrawFn) -> dict[str, Any]:
    """A small application in which combinations of axes break or mend queries, with noise, failures, side effects of its own."""
    k = draw(st.integers(1, 3))
    axes = AXES[:k]
    subsets = [s for size in range(1, k + 1) for s in itertools.combinations(axes, size)]
    effects = draw(st.lists(st.tuples(st.sampled_from(subsets), st.sampled_from([-0.3, -0.1, 0.2, 0.4, 0.6])), max_size=3))
    return {
        "axes": axes,
        "effects": effects,
        "churn": draw(st.sampled_from([0.0, 0.05])),
        "base": draw(st.sampled_from([0.6, 0.9])),
        "kind": draw(st.sampled_from(["share", "cost", "seconds"])),
        "failing": draw(st.one_of(st.none(), st.sampled_from(axes))),
        "refused": draw(st.one_of(st.none(), st.none(), st.sampled_from(subsets))),
        "design": draw(st.sampled_from(["adaptive", "adaptive", "full"])),
        "calls": draw(st.sampled_from([30, 160, 480, 480])),
        "seed": draw(st.integers(0, 99)),
    }


def run(incident: Mapping[str, Any]) -> dict[str, Any]:
    axes, seed = incident["axes"], incident["seed"]
    lower = incident["kind"] == "cost"

    def target(query: Any, release: Mapping[str, Any]) -> dict[str, Any]:
        bad = {axis for axis in axes if release[axis] == "bad"}
        if incident["refused"] is not None and bad == set(incident["refused"]) and len(bad) < len(axes):
            raise bisect_ai.Infeasible("cannot be mixed")
        own = np.random.default_rng([seed, int(query.id[1:])]).random(12)
        if incident["failing"] in bad and own[11] < 0.1:
            raise RuntimeError("gone")
        level = incident["base"] - sum(size for axes_of, size in incident["effects"] if set(axes_of) <= bad)
        passes = own[0] < level
        for i, axis in enumerate(axes):
            if axis in bad and own[i + 1] < incident["churn"]:
                passes = own[i + 5] < 0.5
        return {"text": "yes" if passes else "no", "usage": {"usd": 0.01 * (1 + ("prompt" in bad)) * (1 + own[10])}}

    def score(query: Any, answer: bisect_ai.Answer) -> float:
        passed = float(answer.text == "yes")
        return {"share": passed, "cost": 3 - 2 * passed, "seconds": 40 + 20 * passed}[incident["kind"]]

    scorer = {"kind": "python", "name": "metric", "function": score, "higher_is_better": not lower}
    return bisect_ai.run(
        good=dict.fromkeys(axes, "good"),
        bad=dict.fromkeys(axes, "bad"),
        queries=[{"id": f"q{i}", "input": f"question {i}"} for i in range(60)],
        target=target,
        scorers=[scorer],
        metric="metric",
        tolerance={"share": 0.02, "cost": 0.04, "seconds": 0.4}[incident["kind"]],
        design=incident["design"],
        budget={"calls": incident["calls"]},
        seed=seed,
        store=None,
        keep_going=True,  # a target at random may well give ten answers of one score
    ).to_dict()


@settings(max_examples=25, deadline=None)
@given(incidents())
def test_no_run_says_what_its_own_numbers_contradict(incident: dict[str, Any]) -> None:
    assert broken_laws(run(incident)) == []
