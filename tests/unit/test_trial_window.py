"""Runs whose answers take longer where they are worse, and runs that are killed: the same trials, in the same order, paid once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKERS = 8
KILLED = 9
PROGRAM = """
import json, os, random, sys, threading, time
import bisect_ai
from bisect_ai.runs.trials import Replay

rnd = random.Random(1)
hit, base = [rnd.random() < 0.25 for _ in range(600)], [rnd.random() < 0.9 for _ in range(600)]
kill_at, slow, drill = int(os.environ["KILL_AT"]), float(os.environ["SLOW"]), os.environ["DRILL"] == "yes"
lock, calls = threading.Lock(), open("calls", "a")


def answer(query, release):
    i = int(query.id[1:])
    passes = base[i] and not (hit[i] and "bad 3." in release["prompt"] and release["tools"] == "bad")
    time.sleep(0.002 if passes else slow * random.random())
    with lock:
        answer.count += 1
        if answer.count == kill_at:
            os._exit(KILLED)
        calls.write(json.dumps([query.id, dict(release)]) + "\\n")
        calls.flush()
    return "yes" if passes else "no"


answer.count = 0
asked, begin = [], Replay.begin


def noted(self, trials, ground, engine):
    asked.extend([ground.level, *t] for t in trials)
    return begin(self, trials, ground, engine)


if __name__ == "__main__":
    Replay.begin = noted
    others = ("model", "corpus", "tools", *("context", "limits") * drill)
    lines = {side: "".join(f"{side} {i}.\\n" for i in range(16)) for side in ("good", "bad")}
    good, bad = ({**dict.fromkeys(others, side), "prompt": text} for side, text in lines.items())
    result = bisect_ai.run(
        good=good, bad=bad, drill=drill, concurrency=WORKERS, store="store",
        queries=[{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(600)],
        budget={"calls": 4000 if drill else 900},
        target={"kind": "python", "function": "program:answer"},
        scorers=[{"kind": "contains", "name": "s", "expected": "reference"}], metric="s", seed=7 * drill,
    )
    print(json.dumps([asked, result.to_dict()["verdict"]]))
"""


def life(folder: Path, *, kill_at: int = 0, slow: float = 0.002, drill: bool = False) -> subprocess.CompletedProcess[str]:
    """One process of a run."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(f"KILLED, WORKERS = {KILLED}, {WORKERS}\n{PROGRAM}")
    env = {**os.environ, "KILL_AT": str(kill_at), "SLOW": str(slow), "DRILL": "yes" if drill else "no"}
    return subprocess.run([sys.executable, "program.py"], cwd=folder, env=env, capture_output=True, text=True, check=False)


def told_whole(folder: Path, *, drill: bool = False) -> tuple[str, list[str]]:
    """What a run asks and says whose answers all take as long, and the calls that it makes."""
    done = life(folder, drill=drill)
    assert done.returncode == 0, done.stderr
    assert '"together"' in done.stdout
    return done.stdout, (folder / "calls").read_text().splitlines()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    return told_whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A run that looks into the guilty axes too, while it still measures them."""
    return told_whole(tmp_path_factory.mktemp("drilled"), drill=True)


def test_answers_that_take_longer_where_they_are_worse_change_nothing(whole: tuple[str, list[str]], tmp_path: Path) -> None:
    assert life(tmp_path / "slow", slow=0.06).stdout == whole[0]


def test_a_killed_run_asks_the_same_again_and_pays_for_nothing_twice(whole: tuple[str, list[str]], tmp_path: Path) -> None:
    for kill_at in (130, 210):
        assert life(tmp_path, kill_at=kill_at, slow=0.02).returncode == KILLED
    assert life(tmp_path, slow=0.02).stdout == whole[0]
    assert_paid_once(tmp_path, whole[1], kills=2)


def test_the_drill_down_begins_while_axes_are_measured_in_an_order_that_no_clock_decides(
    drilled: tuple[str, list[str]], tmp_path: Path
) -> None:
    levels = [level for level, *_ in json.loads(drilled[0])[0]]
    assert "axes" in levels[levels.index("changes") :]
    assert life(tmp_path / "slow", slow=0.02, drill=True).stdout == drilled[0]
    ahead = levels.index("changes")
    for kill_at in (ahead + 20, ahead // 2, 60):
        assert life(tmp_path, kill_at=kill_at, slow=0.01, drill=True).returncode == KILLED
    assert life(tmp_path, slow=0.01, drill=True).stdout == drilled[0]
    assert_paid_once(tmp_path, drilled[1], kills=3)


def assert_paid_once(folder: Path, calls: list[str], *, kills: int) -> None:
    made = (folder / "calls").read_text().splitlines()
    assert set(made) == set(calls)
    assert len(made) - len(calls) <= kills * WORKERS  # what had not come in when it was killed
