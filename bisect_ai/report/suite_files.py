"""The files of a regression suite beside its cases: the same for every run, so that no text of a log is ever code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_PYTEST = '''\
"""Queries that a bad release once broke, and controls. Which release is tested: BISECT_RELEASE (a file or a git revision), else `bad`.

Run: pytest test_regression.py
"""

import json
import os
from pathlib import Path

import pytest

from bisect_ai.facts.regression_suite import case_scores

SUITE = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))
CASES = SUITE["cases"]


@pytest.fixture(scope="module")
def scores():
    config = os.environ.get("BISECT_CONFIG", SUITE["config"])
    return case_scores(config, [case["query"] for case in CASES], release=os.environ.get("BISECT_RELEASE"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{case['kind']}-{n}" for n, case in enumerate(CASES)])
def test_case(number, scores):
    score = scores[number]
    assert score > 0.5 if SUITE["higher_is_better"] else score < 0.5
'''

_PROVIDER = '''\
"""Answers and scores a case for promptfoo, which sees its number only. BISECT_RELEASE names the release, else it is `bad`."""

import json
import os
from pathlib import Path

from bisect_ai.errors import BisectError
from bisect_ai.facts.regression_suite import case_scores

SUITE = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))


def call_api(prompt, options, context):
    query = SUITE["cases"][int(context["vars"]["case"])]["query"]
    try:
        config = os.environ.get("BISECT_CONFIG", SUITE["config"])
        (score,) = case_scores(config, [query], release=os.environ.get("BISECT_RELEASE"))
    except BisectError as error:
        return {"error": str(error)}
    return {"output": "pass" if (score > 0.5) == SUITE["higher_is_better"] else "fail"}
'''


def _promptfoo(cases: int) -> str:
    head = [
        "# Queries that a bad release once broke, and controls; their texts are in cases.json. Run: npx promptfoo eval",
        "description: bisect-ai regression suite",
        'prompts: ["case {{case}}"]',
        'providers: ["file://bisect_provider.py"]',
        "defaultTest: {assert: [{type: equals, value: pass}]}",
        "tests:",
    ]
    return "\n".join([*head, *(f"  - vars: {{case: {number}}}" for number in range(cases))]) + "\n"


SUITES: Mapping[str, Callable[[int], Mapping[str, str]]] = {
    "pytest": lambda cases: {"test_regression.py": _PYTEST},  # noqa: ARG005 - as every suite is built
    "promptfoo": lambda cases: {"promptfooconfig.yaml": _promptfoo(cases), "bisect_provider.py": _PROVIDER},
}
"""Tool to its files, for a number of cases."""
