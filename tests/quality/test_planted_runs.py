"""The planted incidents of fixtures/planted, each solved through `bisect_ai.run` by every design, against its truth file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bisect_ai

PLANTED = Path(__file__).parents[2] / "fixtures" / "planted"
NAMES = sorted(path.parent.name for path in PLANTED.glob("*/truth.json"))


def test_every_kind_of_incident_is_there() -> None:
    assert len(NAMES) == 11


@pytest.mark.parametrize("design", ["full", "adaptive"])
@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_is_the_truth(name: str, design: str, tmp_path: Path) -> None:
    truth = json.loads((PLANTED / name / "truth.json").read_text())
    result = bisect_ai.run(PLANTED / name / "bisect.yaml", design=design, store=tmp_path / "store")
    verdict = result.verdict
    assert verdict.kind == truth["kind"], verdict.sentence
    assert named(verdict.causes) == {(frozenset(c["axes"]), c["mode"]) for c in truth["causes"]}
    if truth["kind"] == "cause":
        assert verdict.rollback is not None
        assert sorted(verdict.rollback.axes) in [sorted(r) for r in truth["rollback"]]
        assert sorted(verdict.keep) == sorted(truth["keep"])
    check_infeasible(result, truth)


def named(causes: Any) -> set[tuple[frozenset[str], str]]:
    return {(frozenset(c.axes), c.mode) for c in causes}


def check_infeasible(result: bisect_ai.Result, truth: dict[str, Any]) -> None:
    """What the run found that it cannot run is what the truth says cannot; a full design finds all of it."""
    cells = result.to_dict()["cells"]
    found = {frozenset(c["bad_axes"]) for c in cells if c["status"] == "infeasible"}
    planted = {frozenset(c) for c in truth["infeasible"]}
    assert found <= planted
    if result.report["design"] == "full":
        assert found == planted
