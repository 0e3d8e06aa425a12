"""`canary --on-rollback`: a command that hangs, spams or does not read ends in time, and is told as what it is."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from bisect_ai.cli import main, notifying
from tests.unit.test_canary import traffic

ROWS = "".join(json.dumps({**row, "input": f"{row.get('input')} {'x' * 2000}"}) + "\n" for row in traffic(0.4))
LEEWAY = 15
MARK = "HOOK_OF_A_TEST"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MARK, str(tmp_path))
    (tmp_path / "live.jsonl").write_text(ROWS)
    return tmp_path / "live.jsonl"


def roll_back(log: Path, code: str) -> Result:
    (log.parent / "hook.py").write_text("import os, signal, subprocess, sys, time\n" + code)
    hook = f"{sys.executable} {log.parent / 'hook.py'}"
    return CliRunner().invoke(main, ["canary", str(log), "--baseline", "v1", "--canary", "v2", "--on-rollback", hook])


def started_by(log: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(log.parent):
                found.append(process)
        except psutil.Error:
            continue
    return found


HANGS = {
    "sleeps": "time.sleep(600)",
    "ignores signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)",
    "waits for a child": "subprocess.run(['sleep', '600'])",
    "spams": "while True: print('x' * 1000)",
}


@pytest.mark.parametrize("name", HANGS)
def test_a_command_that_hangs_is_ended_with_what_it_started(name: str, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "HOOK_SECONDS", 2.0)
    began = time.monotonic()
    done = roll_back(log, HANGS[name])
    assert time.monotonic() - began < 2 + LEEWAY
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("bisect-ai: ")]
    assert done.exit_code == 2 and told.endswith("took more than 2 s and was ended; look whether the canary was rolled back")
    _, left = psutil.wait_procs(started_by(log), timeout=LEEWAY)  # what was killed takes a moment to be gone
    assert done.stdout.startswith("roll back") and left == []
    assert len(done.stderr) < 2000


ENDS = {
    "reads nothing": ("sys.exit(0)", "to roll the canary back"),
    "fails": (
        "print('no such service', file=sys.stderr); sys.exit(7)",
        "ended with 7; look whether the canary was rolled back",
    ),
    "dies": ("os.kill(os.getpid(), signal.SIGKILL)", "ended with -9; look whether"),
    "floods": ("sys.stdout.write('x' * 5_000_000)", "to roll the canary back"),
    "speaks no text": ("sys.stdout.buffer.write(bytes(range(256)) * 9)", "to roll the canary back"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_command_ended_is_told(name: str, log: Path) -> None:
    code, said = ENDS[name]
    done = roll_back(log, code)
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("bisect-ai: ")]
    assert said in told and done.exit_code == (1 if said.startswith("to roll") else 2)
    assert all(line.isprintable() and len(line) < 500 for line in done.stderr.splitlines())


def test_what_a_command_leaves_running_on_purpose_is_not_waited_for_and_goes_on(log: Path) -> None:
    """A roll-out that goes on in the background holds the command's streams open."""
    began = time.monotonic()
    done = roll_back(log, "subprocess.Popen(['sleep', '300'])")
    assert time.monotonic() - began < 2 * LEEWAY and done.exit_code == 1 and "to roll the canary back" in done.stderr
    (left,) = started_by(log)
    left.send_signal(signal.SIGKILL)
