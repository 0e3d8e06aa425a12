"""The contract between who writes a report and who reads it: every kind of report, read into its type, gives the same JSON again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import InputError
from bisect_ai.facts.saved_runs import history_rows
from bisect_ai.release.check import tree_of
from bisect_ai.release.load import Release, load_release
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.planning_text import render_plan
from bisect_ai.report.planning_values import HistoryRow, PlannedRun, ReleaseDiff
from bisect_ai.report.report_values import Report
from bisect_ai.runs.plan_run import plan_of
from bisect_ai.runs.prepare import prepare, settle
from tests.faults import test_tape as tapes
from tests.unit import test_auditing as audits
from tests.unit import test_canary as canaries
from tests.unit import test_drilling as drills
from tests.unit import test_verifying as fixes

GOLDEN = Path(__file__).parent.parent / "golden" / "reports"
NOT_REPORTS = {"diff", "plan"}


def drilled(_: Path) -> bisect_ai.Result:
    return drills.run(drills.rule_three)


def audited(_: Path) -> bisect_ai.Result:
    return audits.audit(audits.App(), None)


def verified(store: Path) -> bisect_ai.Result:
    app = fixes.App()
    run = fixes.a_run(app, store)
    return bisect_ai.verify(run, {**fixes.BAD, "prompt": "mended"}, **fixes.given(app, store))


def canary(_: Path) -> bisect_ai.Result:
    return canaries.look(canaries.traffic(0.0, answers=150))


def held_by_the_tape(_: Path) -> bisect_ai.Result:
    bad, _ = tapes.CANNOT_TELL["in some queries only"]
    return tapes.run(bad)


def full(_: Path) -> bisect_ai.Result:
    return fixes_run("full")


def fixes_run(design: str) -> bisect_ai.Result:
    app = fixes.App(b=range(20, 30))
    queries = [{**query, "team": "ab"[i % 2]} for i, query in enumerate(fixes.log(120))]
    given = {"good": fixes.GOOD, "bad": fixes.BAD, "target": app, "scorers": {"correct": fixes.correct}}
    return bisect_ai.run(**given, queries=queries, design=design, log={"segment": "team"}, budget={"calls": 2000})


def attributed(_: Path) -> bisect_ai.Result:
    rows = [
        {"query": f"q{i}", "prompt": p, "model": m, "score": float(not (p and i % 4 == 0))}
        for i in range(40)
        for p in (0, 1)
        for m in (0, 1)
    ]
    return bisect_ai.attribute(rows, axes=["prompt", "model"])


MADE: dict[str, Callable[[Path], bisect_ai.Result]] = {
    made.__name__: made for made in (drilled, audited, verified, canary, held_by_the_tape, full, attributed)
}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_report_is_read_and_written_as_it_is(path: Path) -> None:
    if path.stem not in NOT_REPORTS:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert as_mapping(read(Report, kept)) == kept


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_the_report_of_a_real_run_is_read_and_written_to_the_same_bytes(make: Callable[[Path], Any], tmp_path: Path) -> None:
    made = make(tmp_path / "store").to_dict()
    again = as_mapping(read(Report, made))
    assert again == made
    assert json.dumps(again) == json.dumps(made)


@pytest.mark.parametrize("place", [(), ("verdict",), ("loss",), ("cells", 0), ("verdict", "causes", 0), ("usage",)])
def test_a_field_that_no_type_knows_is_lost_and_so_is_seen(place: tuple[Any, ...]) -> None:
    kept = json.loads((GOLDEN / "cause_together.json").read_text(encoding="utf-8"))
    part = kept
    for step in place:
        part = part[step]
    part["surprise"] = 1
    assert as_mapping(read(Report, kept)) != kept


def test_a_plan_a_diff_and_a_history_are_read_and_written_to_the_same_bytes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    fixes.a_run(fixes.App(), store)
    given = {"good": fixes.GOOD, "bad": fixes.BAD, "target": fixes.App(), "scorers": {"correct": fixes.correct}}
    config, folder = settle(given, config=None, queries=fixes.log())
    planned = plan_of(prepare(config, folder=folder, queries=fixes.log()))
    changed = tree_of(frozen(fixes.GOOD, "good"), frozen(fixes.BAD, "bad"))
    history = json.loads(json.dumps(list(map(as_mapping, history_rows(store)))))
    for kind, made in ((PlannedRun, planned), (ReleaseDiff, changed), *((HistoryRow, row) for row in history)):
        assert json.dumps(as_mapping(read(kind, made))) == json.dumps(made)


def frozen(axes: dict[str, Any], name: str) -> Release:
    return load_release({"name": name, "axes": axes})


@pytest.mark.parametrize(("unit", "said"), [("seconds", "0.043 seconds"), (None, "4.3 points")])
def test_a_plan_tells_its_smallest_effect_in_the_unit_of_its_metric(unit: str | None, said: str) -> None:
    plan = json.loads((GOLDEN / "plan.json").read_text(encoding="utf-8"))
    assert f"smallest effect  {said} seen in 80 of 100 runs" in render_plan({**plan, "unit": unit})


def test_a_plan_of_a_metric_with_a_unit_names_it() -> None:
    scorer = [{"kind": "latency", "name": "latency"}]
    given = {
        "good": fixes.GOOD,
        "bad": fixes.BAD,
        "target": fixes.App(),
        "scorers": scorer,
        "metric": "latency",
        "tolerance": 0.1,
    }
    config, folder = settle(given, config=None, queries=fixes.log())
    assert plan_of(prepare(config, folder=folder, queries=fixes.log()))["unit"] == "seconds"


def test_what_a_report_may_lack_is_not_written() -> None:
    bare = {"metric": "m", "verdict": {"kind": "inconclusive"}}
    assert as_mapping(read(Report, {**bare, "loss": None, "unit": None, "axes": None})) == bare
    assert as_mapping(read(Report, {**bare, "log": None}))["log"] is None  # null is said, as `facts` says it


def test_what_is_no_report_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^cannot read the report: verdict: Field required; give what") as caught:
        read(Report, {"metric": "m"})
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"cells\.0\.value.*: Input should be"):
        read(Report, {"metric": "m", "verdict": {"kind": "cause"}, "cells": [{"bad_axes": [], "value": "much"}]})


def test_half_an_interval_is_none_and_ints_stay_ints() -> None:
    loss = read(Report, {"metric": "m", "verdict": {"kind": "x"}, "loss": {"estimate": 1, "interval": [None, 2]}}).loss
    assert loss.interval is None
    assert type(loss.estimate) is int
