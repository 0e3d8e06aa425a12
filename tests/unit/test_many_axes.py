"""How many axes a plan and a run take: refused in a line before any call, and no other design is in the way of the chosen one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import InputError
from bisect_ai.runs.prepare import make_plan


def configured(folder: Path, axes: int) -> Path:
    for name, value in (("good", 1), ("bad", 2)):
        release = {"release": name, "axes": {f"axis{i}": {"value": value} for i in range(axes)}}
        (folder / f"{name}.yaml").write_text(json.dumps(release))
    rows = ({"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(30))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "good": "good.yaml",
        "bad": "bad.yaml",
        "log": {"path": "log.jsonl"},
        "target": {"kind": "http", "url": "http://127.0.0.1:9/"},
        "scorers": [{"kind": "exact", "name": "correct", "expected": "reference"}],
    }
    (folder / "bisect.yaml").write_text(json.dumps(settings))
    return folder / "bisect.yaml"


@pytest.mark.parametrize("axes", [2, 7, 13, 24])
def test_a_plan_tells_of_the_designs_that_can_run(axes: int, tmp_path: Path) -> None:
    plan = make_plan(configured(tmp_path, axes), {"design": "adaptive"})
    told = {each["design"] for each in plan["alternatives"]}
    assert plan["cells"] == 2**axes
    assert told == {"adaptive"} | ({"full"} if axes <= 6 else set()) | ({"fractional"} if 3 <= axes <= 12 else set())


@pytest.mark.parametrize(
    ("design", "axes", "message"),
    [
        ("full", 7, "design full: 7 axes changed, which makes 128 cells; it takes up to 6"),
        ("fractional", 13, "design fractional: 13 axes changed; it takes 3 to 12"),
        ("fractional", 2, "design fractional: 2 axes changed; it takes 3 to 12"),
        ("adaptive", 25, "design adaptive: 25 axes changed; it takes up to 24"),
    ],
)
def test_more_axes_than_a_design_takes_are_refused_before_any_call(
    design: str, axes: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(configured(tmp_path, axes), {"design": design, "budget": {"calls": 100_000}})
    asked: list[str] = []
    with pytest.raises(InputError, match=message):
        bisect_ai.run(
            good={f"axis{i}": 1 for i in range(axes)},
            bad={f"axis{i}": 2 for i in range(axes)},
            queries=[{"id": str(i), "input": "?"} for i in range(30)],
            target=lambda query, release: asked.append(query.id) or "yes",
            scorers={"correct": lambda query, answer: 1.0},
            design=design,
            budget={"calls": 100_000},
        )
    assert not asked
