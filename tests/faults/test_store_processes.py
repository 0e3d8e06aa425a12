"""Killed, crowded and forked: what the store acknowledged is there, and little is paid for twice (FAULTS A1, A8, A9; R1, R5)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.loops import CONCURRENCY

ROOT = Path(__file__).parents[2]


def started(name: str, folder: Path, *numbers: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.loops", name, str(folder), *map(str, numbers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path, count: int) -> None:
    found = started("kills", tmp_path, count, 7)
    assert found["killed"] == count
    assert (found["lost"], found["wrong"], found["understated"]) == (0, 0, 0)
    assert found["asked_again"] <= count * CONCURRENCY
    assert found["last_ended"]
    assert found["calls_when_all_is_there"] == 0


def test_eight_processes_on_one_store_lose_nothing_and_pay_once(tmp_path: Path) -> None:
    found = started("crowd", tmp_path, 8)
    assert found["codes"] == [0] * 9
    assert [r["kind"] for r in found["results"]] == ["cause"] * 8
    assert {r["trials"] for r in found["results"]} == {240}
    assert found["distinct"] == 240
    assert found["calls_on_record"] == [found["calls"]]
    assert sum(r["calls"] for r in found["results"]) == found["calls"]
    assert found["calls"] == 240


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    found = started("fork", tmp_path)
    assert found["code"] == 0
    assert "forked" in found["said"]
    assert found["kept"] == [False, True]
    assert found["lost"] == {}
