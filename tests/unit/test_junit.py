"""JUnit XML: one case a check, its state by the verdict."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bisect_ai.report import junit
from tests.faults.test_output_injection import load


def states(name: str) -> dict[str, str]:
    root = ElementTree.fromstring(junit.render(load(name)).encode())
    return {case.attrib["name"]: case[0].tag if len(case) else "passed" for case in root.iter("testcase")}


def test_a_cause_fails_the_check_and_its_axes() -> None:
    found = states("cause_together")
    assert found["no regression"] == found["axis prompt"] == found["axis tools"] == "failure"
    assert found["axis corpus"] == found["axis model"] == "passed"


@pytest.mark.parametrize(
    ("name", "check", "log"),
    [
        ("no_regression", "passed", "passed"),
        ("not_reproduced", "passed", "failure"),
        ("drift", "error", "failure"),
    ],
)
def test_the_other_verdicts(name: str, check: str, log: str) -> None:
    found = states(name)
    assert found["no regression"] == check
    assert found.get("replay agrees with the log", "passed") == log


def test_inconclusive_is_an_error_and_decides_no_axis() -> None:
    found = states("inconclusive_hostile")
    assert found["no regression"] == "error"
    assert {state for name, state in found.items() if name.startswith("axis")} == {"skipped"}


def test_the_totals_are_those_of_the_cases() -> None:
    root = ElementTree.fromstring(junit.render(load("cause_together")).encode())
    suite = root[0]
    for holder in (root, suite):
        assert int(holder.attrib["tests"]) == len(list(root.iter("testcase")))
        assert int(holder.attrib["failures"]) == len(list(root.iter("failure"))) == 3
    assert suite.find("system-out").text.startswith(load("cause_together")["verdict"]["sentence"])  # type: ignore[union-attr]  # it is there
