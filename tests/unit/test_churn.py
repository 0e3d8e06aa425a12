"""Churn and side metrics in sentences: what axes do that are not to blame."""

from __future__ import annotations

from typing import Any

import pytest

from bisect_ai.report import html, markdown, terminal
from bisect_ai.report.card import card_of
from bisect_ai.report.change_report import churn_lines, side_lines
from tests.reports import report_of


def net(axis: str, breaks: float, mends: float, interval: list[float], *, proved: bool = False) -> dict[str, Any]:
    row = {"axes": [axis], "kind": "net", "estimate": breaks - mends, "interval": interval, "breaks": breaks}
    return row | {"mends": mends, "proved": proved, "p_adjusted": None, "n": 400, "method": "net effect"}


def report(*effects: dict[str, Any], **more: Any) -> dict[str, Any]:
    cause = {"axes": ["prompt"], "mode": "alone", "share": 0.9, "interval": [0.8, 1.0], "changes": []}
    verdict = {"kind": "cause", "causes": [cause], "rollback": None, "keep": ["model"], "calls_needed": None}
    loss = {"estimate": 0.18, "interval": [0.13, 0.23], "good": 0.87, "bad": 0.69, "n": 400, "method": "paired"}
    shared = {"metric": "correct", "percent": True, "tolerance": 0.02, "axes": ["prompt", "model"], "loss": loss}
    return {**shared, "verdict": verdict, "effects": list(effects), **more}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (net("model", 0.05, 0.05, [-0.02, 0.02]), "model shuffles answers: breaks 5 %, mends 5 %, costs nothing (-2 to 2)"),
        (
            net("model", 0.01, 0.012, [-0.01, 0.01]),
            "model shuffles answers: breaks 1.0 %, mends 1.2 %, costs nothing (-1.0 to 1.0)",
        ),
        (net("model", 0.10, 0.16, [-0.09, -0.03]), "model helps: breaks 10 %, mends 16 %, gains 6 points (3 to 9)"),
        (
            net("model", 0.0, 0.08, [-0.18, 0.01]),
            "model shuffles answers: breaks 0 %, mends 8 %, costs nothing (-18 to 1)",
        ),
        (net("model", 0.10, 0.08, [-0.04, 0.08]), "model shuffles answers: breaks 10 %, mends 8 %, no cost is shown (-4 to 8)"),
    ],
)
def test_churn_is_told_as_its_own_fact(row: dict[str, Any], said: str) -> None:
    assert churn_lines(report_of(report(row))) == [said]


@pytest.mark.parametrize(
    "row",
    [
        net("prompt", 0.20, 0.02, [0.13, 0.23], proved=True),  # named
        net("model", 0.004, 0.004, [-0.01, 0.01]),  # too little to tell
        net("model", 0.06, 0.02, [0.01, 0.07]),  # may cost something: no churn
    ],
)
def test_what_is_named_small_or_suspect_is_not_churn(row: dict[str, Any]) -> None:
    assert churn_lines(report_of(report(row))) == []


def test_churn_of_a_metric_in_its_unit() -> None:
    row = net("model", 1.5, 1.2, [-0.4, 1.0])
    told = churn_lines(report_of(report(row, percent=False, unit="seconds", tolerance=1.0)))
    assert told == ["model shuffles answers: breaks 1.50 seconds, mends 1.20 seconds, costs nothing (-0.400 to 1.00)"]


def side(name: str, unit: str, *, good: float, bad: float, effect: dict[str, Any]) -> dict[str, Any]:
    row = {"name": name, "unit": unit, "higher_is_better": False, "good": good, "bad": bad, "change": bad - good}
    return row | {"interval": None, "n": 400, "effects": [{"axis": "corpus", "n": 400, "method": "paired"} | effect]}


def test_side_metrics_of_an_innocent_axis_are_told_as_that_axis() -> None:
    refusal = {"estimate": 0.21, "interval": [0.15, 0.27], "p_adjusted": 0.0001, "good": 0.02, "bad": 0.23}
    cost = {"estimate": 0.02, "interval": [0.018, 0.022], "p_adjusted": 0.0001, "good": 0.01, "bad": 0.03}
    unclear = {"estimate": 0.02, "interval": [0.001, 0.04], "p_adjusted": 0.2, "good": 0.02, "bad": 0.04}
    rows = [
        side("refusal", "share", good=0.02, bad=0.23, effect=refusal),
        side("cost", "USD", good=0.01, bad=0.03, effect=cost),
        side("failed", "share", good=0.02, bad=0.04, effect=unclear),
    ]
    assert side_lines(report_of(report(side_metrics=rows))) == [
        "corpus: refusal +21.0 points, 95 % interval 15.0 to 27.0",
        "corpus: cost +0.020 USD (x 3), 95 % interval 0.018 to 0.022",
    ]


def test_every_report_tells_churn_and_side_metrics() -> None:
    refusal = {"estimate": 0.21, "interval": [0.15, 0.27], "p_adjusted": 0.0001, "good": 0.02, "bad": 0.23}
    rows = [side("refusal", "share", good=0.02, bad=0.23, effect=refusal)]
    told = report(net("model", 0.05, 0.05, [-0.02, 0.02]), side_metrics=rows)
    for text in (terminal.render(told, width=120), markdown.render(told), html.render(told)):
        assert "model shuffles answers: breaks 5 %, mends 5 %, costs nothing (-2 to 2)" in text.replace("\\", "").replace(
            "`", ""
        )
        assert "corpus: refusal +21.0 points" in text.replace("\\", "").replace("`", "")


def test_a_card_says_which_innocent_change_helps() -> None:
    told = report(net("model", 0.10, 0.16, [-0.09, -0.03]))
    assert card_of(report_of(told)).innocent == "model (helps)"
    assert card_of(report_of(report(net("model", 0.05, 0.05, [-0.02, 0.02])))).innocent == "model"


def test_a_card_says_which_changes_probably_cost_nothing_and_what_they_cost_at_most() -> None:
    told = report(axes=["prompt", "model", "tools", "corpus"])
    told["verdict"]["open"] = [{"axis": "tools", "at_most": 0.05, "leans": False}, {"axis": "corpus", "at_most": 0.09}]
    card = card_of(report_of(told))
    assert card.innocent == "model; probably tools (at most 5 points)"
    assert card.beware == "whether corpus (at most 9 points) costs quality too is open"
