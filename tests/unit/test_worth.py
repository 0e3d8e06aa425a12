"""What is said of a judge: each fact of the report's block, and what is not known is said to be so."""

from __future__ import annotations

from typing import Any

from bisect_ai.report.accounting import judges_told
from bisect_ai.report.untrusted_text import MARKDOWN
from tests.reports import report_of

JUDGE: dict[str, Any] = {
    "name": "helpful",
    "model": "m",
    "answered_by": ["m"],
    "canaries": {"empty": {"score": 0.0, "should_be_good": False}, "known good": {"score": 1.0, "should_be_good": True}},
    "noise": {"n": 50, "changed": 0.1, "loss": {"share": 0.25, "half_width": 0.04, "half_width_without": 0.035}},
    "agreement": {"agreement": 0.9, "n": 60, "kappa": 0.8, "interval": [0.7, 0.9]},
    "unjudged": {"good": {"n": 0, "of": 60}, "bad": {"n": 2, "of": 60}},
    "usd": 1.5,
}


def said(**other: Any) -> str:
    report = {"metric": "helpful", "loss": {"good": 0.8, "bad": 0.7}, "judges": [{**JUDGE, **other}]}
    ((title, sentences),) = judges_told(report_of(report))
    assert title == "Judge: helpful"
    return ". ".join(sentences)


def test_a_report_without_a_judge_says_nothing() -> None:
    assert judges_told(report_of({})) == []


def test_every_fact_is_said() -> None:
    text = said()
    for part in (
        "model m; 1.50 USD in all sittings",
        "2 answers whose verdict is known: all judged right",
        "50 answers judged twice: 10 % of the verdicts changed",
        "25 % of the variance of the loss: the interval is ±4.0 points, without it ±3.5 points",
        "agrees with people on 90 % of 60 graded answers; Cohen's kappa 0.80 [0.70, 0.90]",
        "no verdict on 0 of 60 good and 2 of 60 bad answers",
    ):
        assert part in text


def test_a_canary_without_a_verdict_is_no_right_one() -> None:
    assert "misjudged empty, so its scores prove nothing" in said(canaries={"empty": {"score": None, "should_be_good": False}})


def test_what_is_not_known_is_said_to_be_so() -> None:
    text = said(noise=None, agreement=None, canaries={}, unjudged={})
    assert "its own noise is not known" in text and "agreement with people is not known" in text
    assert "kappa is undefined" in said(agreement={"agreement": 1.0, "n": 12, "kappa": None, "interval": None})


def test_names_are_quoted_for_the_format() -> None:
    report = {"metric": "m", "loss": {}, "judges": [{**JUDGE, "name": "a`b\n# c", "model": "[x](http://y)"}]}
    ((title, sentences),) = judges_told(report_of(report), quoting=MARKDOWN)
    assert "\n" not in title and "`[x](http://y)`" in sentences[0]
