"""Side metrics by axis: what an innocent axis moves is told as that axis's, in every design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import bisect_ai
from bisect_ai.report.change_report import side_lines
from tests.reports import report_of

GOOD = {"model": "m1", "prompt": "be exact", "corpus": "c1", "tools": "t1"}
BAD = {"model": "m2", "prompt": "be brief", "corpus": "c2", "tools": "t2"}
QUERIES = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes", "weight": 1} for i in range(400)]


def application(query: Any, release: Mapping[str, Any]) -> dict[str, Any]:
    """Brief prompts break every fourth query; the new corpus triples the cost and makes every third answer a refusal."""
    number = int(query.id[1:])
    broken = release["prompt"] == "be brief" and number % 4 == 0
    dear = release["corpus"] == "c2"
    text = "nay" if broken else "yes"
    if dear and number % 3 == 1:
        text += ". I'm sorry, but I can't help with that."
    return {
        "text": text,
        "latency_s": 0.2,
        "usage": {"usd": (0.03 if dear else 0.01) * (1 + number % 7 / 10), "input_tokens": 10},
    }


def correct(query: Any, answer: bisect_ai.Answer) -> bool:
    return answer.text.startswith("yes")


def run(design: str, *, calls: int) -> dict[str, Any]:
    return bisect_ai.run(
        good=GOOD,
        bad=BAD,
        queries=QUERIES,
        target=application,
        scorers={"correct": correct},
        metric="correct",
        design=design,
        budget={"calls": calls},
    ).to_dict()


@pytest.mark.parametrize(("design", "calls"), [("adaptive", 1200), ("full", 3200), ("fractional", 1600)])
def test_an_innocent_axis_that_triples_the_cost_is_told(design: str, calls: int) -> None:
    report = run(design, calls=calls)
    assert [c["axes"] for c in report["verdict"]["causes"]] == [["prompt"]]
    cost = next(row for row in report["side_metrics"] if row["name"] == "cost")
    assert [e["axis"] for e in cost["effects"]] == list(report["axes"])
    moved = {e["axis"]: e for e in cost["effects"] if e["p_adjusted"] is not None and e["p_adjusted"] < 0.05}
    assert list(moved) == ["corpus"]
    effect = moved["corpus"]
    assert effect["bad"] / effect["good"] == pytest.approx(3)
    assert effect["interval"][0] <= effect["estimate"] <= effect["interval"][1]
    assert effect["n"] >= 8
    lines = side_lines(report_of(report))
    assert any(line.startswith("corpus: cost +") and "(x 3)" in line for line in lines)
    assert any(line.startswith("corpus: refusal +") for line in lines)
    assert not [line for line in lines if not line.startswith("corpus:")]


def test_every_axis_of_an_adaptive_run_has_its_part_with_interval_and_n() -> None:
    report = run("adaptive", calls=1200)
    for row in report["side_metrics"]:
        assert [e["axis"] for e in row["effects"]] == list(report["axes"])
        for effect in row["effects"]:
            assert (effect["estimate"] is None) == (effect["interval"] is None)
            assert effect["estimate"] is None or effect["n"] >= 8
            assert effect["method"]
