"""The verdict in one sentence, for every kind, and how numbers are written."""

from __future__ import annotations

from typing import Any

import pytest

from bisect_ai.report.accounting import usage_sentence
from bisect_ai.report.blocks import Scale, count, duration, listed, money, plain_number, scale_for
from bisect_ai.report.phrases import change_name, loss_phrase, share_phrase
from bisect_ai.report.planning_values import ChangeReference
from bisect_ai.report.report_values import NamedCause, RunUsage
from bisect_ai.report.untrusted_text import MARKDOWN, PLAIN
from bisect_ai.report.value_types import ReportedEstimate
from bisect_ai.report.verdict_sentence import verdict_sentence
from tests.reports import report_of

LOSS: dict[str, Any] = {
    "estimate": 0.18,
    "interval": [0.13, 0.23],
    "good": 0.87,
    "bad": 0.69,
    "n": 240,
    "method": "paired",
}
SMALL: dict[str, Any] = {"estimate": 0.004, "interval": [-0.006, 0.014], "good": 0.87, "bad": 0.866, "n": 900}
FALLS = "correct falls from 87 % to 69 % (a loss of 18 points, 95 % interval 13 to 23)"
ROLLBACK = {"axes": ["tools"], "value": 0.86, "interval": [0.82, 0.9], "restores": 0.95}
PROVED = "that it costs quality is proved, how much is not"
BACK = "reverting tools alone recovers 95 % of it (measured: 86 %, 95 % interval 82 to 90)"


def cause(axes: list[str], mode: str, share: float | None = 0.91) -> dict[str, Any]:
    return {
        "axes": axes,
        "mode": mode,
        "share": share,
        "interval": None if share is None else [0.7, 1.0],
        "changes": [],
    }


def sentence(kind: str, *, loss: dict[str, Any] = LOSS, more: dict[str, Any] | None = None, **verdict: Any) -> str:
    return verdict_sentence(
        report_of({"metric": "correct", "loss": loss, "verdict": {"kind": kind, **verdict}, **(more or {})})
    )


@pytest.mark.parametrize(
    ("causes", "head"),
    [
        ([cause(["prompt"], "alone")], "prompt alone causes the drop: "),
        ([cause(["prompt", "tools"], "together")], "prompt and tools together cause the drop: "),
        ([cause(["a", "b", "c"], "together")], "a, b and c together cause the drop: "),
        ([cause(["prompt", "tools"], "either")], "prompt and tools, either of which is enough, cause the drop: "),
        ([cause(["a", "b", "c"], "either")], "a, b and c, any of which is enough, cause the drop: "),
        (
            [cause(["prompt"], "alone", 0.6), cause(["corpus", "tools"], "together", None)],
            "2 causes of the drop: prompt alone (70 % of the loss, 95 % interval 70 to 100) and "  # never outside its interval
            "corpus and tools together (share of the loss not estimated); ",
        ),
    ],
)
def test_cause(causes: list[dict[str, Any]], head: str) -> None:
    assert sentence("cause", causes=causes, rollback=ROLLBACK) == f"{head}{FALLS}; {BACK}."


def test_cause_without_a_rollback_says_so() -> None:
    told = sentence("cause", causes=[cause(["prompt"], "alone")], rollback=None)
    assert told.endswith("; no rollback that was run restores at least 80 % of it.")


def test_rollback_of_several_axes_that_restores_an_unknown_share() -> None:
    rollback = {"axes": ["prompt", "tools"], "value": None, "interval": None, "restores": None}
    told = sentence("cause", causes=[cause(["prompt"], "alone")], rollback=rollback)
    assert "reverting prompt and tools recovers a share (not estimated) of it" in told
    assert "(measured: not estimated, 95 % interval not estimated)" in told


def test_axes_whose_joint_action_is_not_settled() -> None:
    told = sentence("cause", causes=[cause(["prompt", "corpus"], "unsettled")], rollback=ROLLBACK)
    assert told == f"prompt and corpus each cost quality; how they act together is not settled: {FALLS}; {BACK}."
    two = sentence("cause", causes=[cause(["prompt", "corpus"], "unsettled", 0.6), cause(["tools"], "alone", 0.4)])
    assert "prompt and corpus (each costs quality; how they act together is not settled) (70 % of the loss" in two


def test_a_cause_with_a_part_of_the_loss_is_not_told_as_all_of_it() -> None:
    part = cause(["prompt"], "alone", 0.4) | {"interval": [0.3, 0.5]}
    told = sentence("cause", causes=[part], rollback=ROLLBACK)
    assert told.startswith("prompt alone causes a part of the drop (40 % of the loss, 95 % interval 30 to 50): ")


def test_causes_that_sum_to_more_than_the_loss_do_not_add_up_to_it() -> None:
    told = sentence("cause", causes=[cause(["prompt"], "alone", 0.9), cause(["tools"], "alone", 0.8)], rollback=ROLLBACK)
    assert told.startswith("2 causes of the drop: prompt alone (90 % of the loss")


@pytest.mark.parametrize(
    ("shares", "head"), [((0.5, 0.4), "2 causes add up to the drop: "), ((0.3, 0.3), "2 causes of the drop: ")]
)
def test_causes_add_up_to_the_drop_only_where_hardly_anything_is_left(shares: tuple[float, float], head: str) -> None:
    parts = [cause([axis], "alone", s) | {"interval": [0.1, 0.6]} for axis, s in zip(("prompt", "tools"), shares, strict=True)]
    assert sentence("cause", causes=parts, rollback=ROLLBACK).startswith(head)


def test_an_axis_that_is_neither_guilty_nor_innocent_is_open() -> None:
    axes = {"axes": ["prompt", "tools", "corpus", "model"]}
    parts = [cause(["prompt"], "alone", 0.3) | {"interval": [0.1, 0.5]}]
    told = sentence("cause", causes=parts, rollback=ROLLBACK, keep=["corpus"], more=axes)
    assert told.endswith(" Whether model costs quality too is open.")
    model = {"axis": "model", "at_most": 0.06}
    told = sentence("cause", causes=parts, rollback=ROLLBACK, keep=["corpus"], open=[model], more=axes)
    assert told.endswith(" Whether model (at most 6 points) costs quality too is open.")
    calm = sentence("cause", causes=parts, rollback=ROLLBACK, keep=["corpus"], open=[model | {"leans": False}], more=axes)
    assert "is open" not in calm
    known = sentence("cause", causes=parts, rollback=ROLLBACK, keep=["corpus", "model"], more=axes)
    assert "is open" not in known


def test_only_the_whole_release_brings_it_back() -> None:
    whole = {"axes": ["prompt", "tools"], "value": 0.87, "interval": [0.83, 0.91], "restores": 1.0}
    one = [cause(["prompt"], "alone")]
    told = sentence("cause", causes=one, rollback=whole, more={"axes": ["prompt", "tools"]})
    assert told.startswith("prompt alone causes at least a part of the drop: ")
    assert told.endswith("; only the whole release recovers it (measured: 87 %, 95 % interval 83 to 91).")
    finer = {
        "changes": [{"axis": "prompt", "path": "prompt:3"}],
        "finer": {"value": 0.87, "interval": [0.8, 0.9], "restores": 1.0},
    }
    told = sentence("cause", causes=one, rollback=whole | finer, more={"axes": ["prompt", "tools"]})
    assert "of whole axes, only taking all of them back recovers it (measured: 87 %" in told and "only the whole" not in told
    told = sentence("cause", causes=one, rollback=whole | {"along": ["tools"]}, more={"axes": ["prompt", "tools"]})
    assert "reverting prompt and tools (tools cannot run without the new version) recovers all of it" in told
    both = sentence(
        "cause", causes=[cause(["prompt", "tools"], "together")], rollback=whole, more={"axes": ["prompt", "tools"]}
    )
    assert "reverting prompt and tools recovers all of it" in both


def test_what_a_rollback_restores_is_told_with_its_interval() -> None:
    back = ROLLBACK | {"restores_interval": [0.8, 1.1]}
    told = sentence("cause", causes=[cause(["tools"], "alone")], rollback=back)
    assert "reverting tools alone recovers 95 % of it, 95 % interval 80 to 100 (measured: 86 %" in told


def test_a_proved_cost_without_a_loss_is_told_as_that() -> None:
    net = {"axes": ["prompt"], "kind": "net", "estimate": 0.04, "interval": [0.01, 0.07], "proved": True}
    told = sentence("inconclusive", loss=SMALL, more={"effects": [net]}, calls_needed=None)
    assert "prompt costs 4.0 points on average, 95 % interval 1.0 to 7.0, but no loss worth acting on is seen beside it" in told


def test_no_regression() -> None:
    loss = "a loss of 0.4 points, 95 % interval -0.6 to 1.4"
    told = f"no regression: correct falls from 87.0 % to 86.6 % ({loss}), below the tolerance"
    assert sentence("no_regression", loss=SMALL) == told + "."
    assert sentence("no_regression", loss=SMALL, more={"tolerance": 0.02}) == told + " of 2.0 points."


def test_a_gain_is_not_a_negative_loss() -> None:
    gain = ReportedEstimate(estimate=-0.012, interval=(-0.02, -0.004))
    assert loss_phrase(gain, Scale(share=True)) == "a gain of 1.2 points, 95 % interval 0.4 to 2.0"


def test_not_reproduced() -> None:
    logged = {"good": 0.88, "bad": 0.7, "loss": 0.18, "n": 4180, "interval": [0.15, 0.21]}
    assert sentence("not_reproduced", loss=SMALL | {"logged": logged}) == (
        "the drop does not show on replay: in the log correct went from 88.0 % to 70.0 % (a loss of 18.0 points, "
        "95 % interval 15.0 to 21.0) over 4,180 queries; replayed, correct falls from 87.0 % to 86.6 % "
        "(a loss of 0.4 points, 95 % interval -0.6 to 1.4)."
    )


def test_drift_takes_the_interval_of_the_good_cell() -> None:
    logged = {"good": 0.95, "bad": 0.94, "loss": 0.01, "n": 300}
    drift = {"estimate": 0.08, "interval": [0.05, 0.11]}
    cells = [{"bad_axes": [], "value": 0.87, "interval": [0.84, 0.9]}]
    told = sentence("drift", loss=SMALL | {"logged": logged, "drift": drift}, more={"cells": cells})
    assert told == (
        "drift: the good release no longer scores what it did, so something outside the recorded axes moved: correct was "
        "95.0 % in the log and is 87.0 % on replay, 95 % interval 84.0 to 90.0 (a loss of 8.0 points, "
        "95 % interval 5.0 to 11.0 against the log)."
    )


def test_traffic() -> None:
    told = sentence("traffic", loss=SMALL | {"logged": {"good": 0.9, "bad": 0.7, "loss": 0.2, "n": 90}})
    assert told.startswith("the drop comes with the queries, not with the release: in the log correct went from 90.0 % to")
    assert "on the same queries correct falls from 87.0 % to 86.6 %" in told


def test_inconclusive_says_what_is_known_and_what_would_settle_it() -> None:
    candidates = [{"axes": ["tools"], "belief": 0.62}, {"axes": ["prompt", "tools"], "belief": 0.21}]
    told = sentence("inconclusive", candidates=candidates, calls_needed=1200)
    assert told == (
        f"inconclusive: {FALLS}; the cause may be tools (6 in 10) or prompt and tools together (2 in 10) by the answers so far; "
        "about 1,200 more calls would probably settle it."
    )
    unlikely = [*candidates[:1], {"axes": ["prompt"], "belief": 0.05}]
    assert "may be tools (6 in 10) by the answers so far; " in sentence("inconclusive", candidates=unlikely, calls_needed=1200)
    assert "may be" not in sentence("inconclusive", candidates=unlikely[1:], calls_needed=1200)
    assert sentence("inconclusive", calls_needed=None).endswith("; no number of calls can be named that would settle it.")


def test_nothing_known_is_said_in_words() -> None:
    told = sentence("inconclusive", loss={"estimate": None, "good": None, "bad": None}, calls_needed=1)
    assert told == (
        "inconclusive: correct could not be estimated on both releases; about 1 more call would probably settle it."
    )


def test_names_are_written_as_the_format_wants() -> None:
    verdict = {"kind": "cause", "causes": [cause(["a`b\x1b"], "alone")], "rollback": ROLLBACK}
    report = report_of({"metric": "correct", "loss": LOSS, "verdict": verdict})
    assert verdict_sentence(report).startswith(r"a`b\x1b alone causes the drop: correct falls")
    assert verdict_sentence(report, quoting=MARKDOWN).startswith(r"``a`b\x1b`` alone causes the drop: `correct` falls")


def test_scales() -> None:
    assert scale_for(None, [0.2, None, 1.0]).value(0.874) == "87.4 %"
    assert scale_for("score", [0.2, 1.0]).difference(0.2) == "20.0 points"
    assert scale_for("score", [0.2, 4.0]).value(4.0) == "4.00"
    assert scale_for("", [0.2, 3.0]).value(3.0) == "3.00"
    assert scale_for("s", [0.2]).difference(0.25) == "0.250 s"
    assert scale_for("s", [0.2]).between([0.1, 0.3]) == "95 % interval 0.100 to 0.300"
    assert Scale(share=True).bracket(-0.0001, [-0.01, 0.01]) == "0.0 [-1.0, 1.0]"
    assert Scale(share=True).bracket(0.1, None) == "10.0 [no interval]"
    assert Scale(share=False).bracket(0.113, [8.69e-06, 0.225]) == "0.113 [0, 0.225]"
    assert Scale(share=False).bracket(2.6e-05, [1.7e-05, 3.5e-05]) == "2.60e-05 [1.70e-05, 3.50e-05]"
    assert Scale(share=True).bracket(None, None) == "not estimated"
    assert Scale(share=True).value(float("nan")) == "not estimated"


def test_the_report_says_itself_whether_its_metric_is_a_share() -> None:
    report = report_of({"metric": "rating", "loss": LOSS, "verdict": {"kind": "no_regression"}, "percent": False})
    assert "rating falls from 0.870 to 0.690 (a loss of 0.180, 95 % interval 0.130 to 0.230)" in verdict_sentence(report)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (plain_number(1240.4), "1,240"),
        (plain_number(12.44), "12.4"),
        (plain_number(-1.244), "-1.24"),
        (plain_number(0.0), "0"),
        (plain_number(2e9), "2.00e+09"),
        (plain_number(0.00004), "4.00e-05"),
        (money(None), "cost unknown"),
        (money(1.934), "1.93 USD"),
        (money(0.00123), "0.0012 USD"),
        (money(0), "0.00 USD"),
        (duration(None), "time unknown"),
        (duration(0.42), "0.4 s"),
        (duration(59.6), "1 min 0 s"),
        (duration(61.0), "1 min 1 s"),
        (duration(7525), "2 h 5 min"),
        (count(1, "call"), "1 call"),
        (count(4000, "query", "queries"), "4,000 queries"),
        (count(None, "query", "queries"), "queries not estimated"),
        (listed([]), ""),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"], last=" or "), "a, b or c"),
        (
            usage_sentence(RunUsage(calls=2, cached=1, errors=0, tokens=3, usd=None, seconds=2)),
            "2 calls, 1 answer from the store, 3 tokens, no price known, 2.0 s",
        ),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("share", "interval", "said"),
    [
        (0.91, [0.7, 1.0], "91 % of the loss, 95 % interval 70 to 100"),
        (1.0, [0.9, 1.1], "all of the loss, 95 % interval 90 to 100"),
        (1.0, [1.0, 1.0], "all of the loss"),
        (1.59, [0.95, 4.26], "all of the loss, 95 % interval 95 to 100"),
        (1.6, [1.2, 2.1], "all of the loss: other changes win part of it back"),
        (1.6, None, "all of the loss, 95 % interval not estimated"),
        (0.21, [-0.1, 0.54], f"21 % of the loss, 95 % interval 0 to 54: {PROVED}"),
        (-0.1, [-0.3, 0.1], f"at most 10 % of the loss: {PROVED}"),
        (-0.2, [-0.3, -0.1], f"an unknown part of the loss: {PROVED}"),
    ],
)
def test_a_share_is_never_below_nothing_or_above_all_of_the_loss(share: float, interval: list[float] | None, said: str) -> None:
    assert share_phrase(NamedCause(axes=(), mode="alone", share=share, interval=interval)) == said


def test_a_change_that_is_the_whole_axis_is_named_once() -> None:
    assert change_name(ChangeReference(axis="units", path="units"), PLAIN) == "units"
    assert change_name(ChangeReference(axis="prompt", path="system:11"), PLAIN) == "prompt system:11"
