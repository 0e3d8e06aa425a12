"""The planted incidents are what their truth files say, by running every combination on every query."""

from __future__ import annotations

import filecmp
import importlib.util
import itertools
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bisect_ai.errors import Infeasible
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings

PLANTED = Path(__file__).parents[2] / "fixtures" / "planted"
NAMES = sorted(path.parent.name for path in PLANTED.glob("*/truth.json"))
WITH_CAUSE = [name for name in NAMES if json.loads((PLANTED / name / "truth.json").read_text())["kind"] == "cause"]
Cell = frozenset[str]


def module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


@cache
def incidents() -> ModuleType:
    return module(PLANTED / "make.py", "planted_make")


def truth_of(name: str) -> dict[str, Any]:
    return json.loads((PLANTED / name / "truth.json").read_text())


@cache
def table(name: str) -> tuple[frozenset[str], dict[Cell, float | None]]:
    """The changed axes, and the share of right answers in every combination; None where it cannot run."""
    good, bad = incidents().releases(incidents().INCIDENTS[name])
    changed = frozenset(axis for axis in good if good[axis] != bad[axis])
    app = module(PLANTED / name / "app.py", f"planted_{name}")
    queries = load_queries(PLANTED / name / "log.jsonl", settings=LogSettings(sample=None)).queries

    def value(cell: Cell) -> float | None:
        release = {axis: (bad if axis in cell else good)[axis] for axis in good}
        try:
            return sum(app.answer(query, release) == query.reference for query in queries) / len(queries)
        except Infeasible:
            return None

    cells = itertools.chain.from_iterable(itertools.combinations(sorted(changed), n) for n in range(len(changed) + 1))
    return changed, {frozenset(cell): value(frozenset(cell)) for cell in cells}


def at(name: str, *axes: str) -> float:
    value = table(name)[1][frozenset(axes)]
    assert value is not None
    return value


def loss(name: str) -> float:
    return at(name) - at(name, *table(name)[0])


def test_all_kinds_of_incidents_are_here() -> None:
    assert set(NAMES) == set(incidents().INCIDENTS) and len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_between_three_and_four_axes_change(name: str) -> None:
    assert len(table(name)[0]) in (3, 4)


@pytest.mark.parametrize("name", WITH_CAUSE)
def test_the_causes_carry_the_loss_and_the_kept_axes_none(name: str) -> None:
    truth, (changed, cells) = truth_of(name), table(name)
    guilty = frozenset(axis for cause in truth["causes"] for axis in cause["axes"])
    assert loss(name) > 0.12 and sorted(changed - guilty) == truth["keep"]
    for cell, value in cells.items():
        without = cells[cell - guilty]
        if value is not None and without is not None and not cell & guilty:
            assert value >= at(name) - 0.03  # innocent or helpful, but for noise


@pytest.mark.parametrize("name", WITH_CAUSE)
def test_the_modes_are_right(name: str) -> None:
    for cause in truth_of(name)["causes"]:
        alone = [at(name) - at(name, axis) for axis in cause["axes"]]
        jointly = at(name) - at(name, *cause["axes"])
        if cause["mode"] == "together":
            assert max(alone) < 0.01 and jointly > 0.15
        elif cause["mode"] == "either":
            assert min(alone) > 0.15 and jointly == pytest.approx(max(alone))
        else:
            assert len(alone) == 1 and alone[0] > 0.12


@pytest.mark.parametrize("name", WITH_CAUSE)
def test_the_rollbacks_are_the_smallest_that_restore_the_loss(name: str) -> None:
    changed, cells = table(name)

    def restores(axes: tuple[str, ...]) -> bool:
        value = cells[changed - set(axes)]
        return value is not None and value - at(name, *changed) >= 0.8 * loss(name)

    for size in range(len(changed) + 1):
        enough = [list(axes) for axes in itertools.combinations(sorted(changed), size) if restores(axes)]
        if enough:
            assert enough == truth_of(name)["rollback"]
            return
    raise AssertionError("nothing restores the loss")


def test_two_additive_causes_add_up() -> None:
    name = "two_additive"
    alone = [at(name) - at(name, axis) for axis in ("corpus", "tools")]
    assert sum(alone) == pytest.approx(loss(name))


def test_the_masking_axis_helps() -> None:
    assert at("masking", "model") > at("masking") + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_run_is_named(name: str) -> None:
    missing = sorted(sorted(cell) for cell, value in table(name)[1].items() if value is None)
    assert missing == sorted(truth_of(name)["infeasible"])


@pytest.mark.parametrize("name", ["no_change", "not_reproduced", "drift", "traffic"])
def test_nothing_is_lost_where_no_axis_matters(name: str) -> None:
    assert set(table(name)[1].values()) == {at(name)}


@pytest.mark.parametrize("name", NAMES)
def test_the_log_shows_the_drop_that_was_seen(name: str) -> None:
    good, bad = load_queries(PLANTED / name / "log.jsonl").logged
    logged = (good.scores["correct"].mean or 0) - (bad.scores["correct"].mean or 0)
    outside = {"not_reproduced": 0.27, "drift": 0.3, "traffic": 0.27}
    expected = outside.get(name, loss(name))
    assert logged == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("name", NAMES)
def test_the_script_writes_what_is_committed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLANTED))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    incidents().write(name, incidents().INCIDENTS[name], tmp_path)
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 6
    assert filecmp.cmpfiles(tmp_path, PLANTED, written, shallow=False)[1:] == ([], [])
    assert (tmp_path / name / "log.jsonl").stat().st_size < 60_000
    sys.modules.pop("app", None)
