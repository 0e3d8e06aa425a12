"""Runs whose answers take longer where they are worse, and runs that are killed: the same trials, in the same order, paid once."""

from __future__ import annotations

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
kill_at, slow = int(os.environ["KILL_AT"]), float(os.environ["SLOW"])
lock, calls = threading.Lock(), open("calls", "a")


def answer(query, release):
    i = int(query.id[1:])
    passes = base[i] and not (hit[i] and release["prompt"] == "bad" and release["tools"] == "bad")
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
    axes = ("model", "prompt", "corpus", "tools")
    result = bisect_ai.run(
        good=dict.fromkeys(axes, "good"), bad=dict.fromkeys(axes, "bad"), drill=False, concurrency=WORKERS, store="store",
        queries=[{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(600)], budget={"calls": 900},
        target={"kind": "python", "function": "program:answer"},
        scorers=[{"kind": "contains", "name": "s", "expected": "reference"}], metric="s",
    )
    print(json.dumps([asked, result.to_dict()["verdict"]]))
"""


def life(folder: Path, *, kill_at: int = 0, slow: float = 0.002) -> subprocess.CompletedProcess[str]:
    """One process of a run."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(f"KILLED, WORKERS = {KILLED}, {WORKERS}\n{PROGRAM}")
    env = {**os.environ, "KILL_AT": str(kill_at), "SLOW": str(slow)}
    return subprocess.run([sys.executable, "program.py"], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """What a run asks and says whose answers all take as long, and its calls."""
    folder = tmp_path_factory.mktemp("whole")
    done = life(folder)
    assert done.returncode == 0, done.stderr
    assert '"together"' in done.stdout
    return done.stdout, len((folder / "calls").read_text().splitlines())


def test_answers_that_take_longer_where_they_are_worse_change_nothing(whole: tuple[str, int], tmp_path: Path) -> None:
    assert life(tmp_path / "slow", slow=0.06).stdout == whole[0]


def test_a_killed_run_asks_the_same_again_and_pays_for_nothing_twice(whole: tuple[str, int], tmp_path: Path) -> None:
    for kill_at in (130, 210):
        assert life(tmp_path, kill_at=kill_at, slow=0.02).returncode == KILLED
    assert life(tmp_path, slow=0.02).stdout == whole[0]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert set(calls) and len(set(calls)) == whole[1]
    assert len(calls) - len(set(calls)) <= 2 * WORKERS  # what had not come in when it was killed
