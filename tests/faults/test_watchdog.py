"""User code that holds the interpreter's lock for ever: no thread can leave it behind, and the program still ends."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bisect_ai.cli.group import main
from bisect_ai.provider import watchdog
from bisect_ai.provider.watchdog import Board, why
from bisect_ai.store.trial_store import Store

APP = """
import asyncio, os, re, time

def holds(query):
    if query.id == "q7" and not os.path.exists("mended"):
        re.match("^(a+)+$", "a" * 60 + "!")

def log(what, query, release):
    with open("asked.log", "a") as file:
        file.write(f"{what} {query.id} {release['prompt']} {release['model']}\\n")

def quick(query, release):
    log("asked", query, release)
    time.sleep(0.03)
    log("got", query, release)
    return "yes"

def threads(query, release):
    log("asked", query, release)
    time.sleep(0.03)
    holds(query)
    log("got", query, release)
    return "yes"

async def loop(query, release):
    log("asked", query, release)
    await asyncio.sleep(0.03)
    holds(query)
    log("got", query, release)
    return "yes"

def score(query, answer):
    holds(query)
    return True
"""
CONFIG = """
good: {{release: good, axes: {{prompt: old, model: a}}}}
bad: {{release: bad, axes: {{prompt: new, model: b}}}}
log: {{path: log.jsonl}}
target: {{kind: python, function: "app:{target}", concurrency: 4}}
scorers: [{scorer}]
design: full
budget: {{calls: 300}}
timeouts: {{target: 1, scorer: 1}}
keep_going: true
"""
EXACT = "{kind: exact, name: correct, expected: reference}"
OWN = '{kind: python, name: correct, function: "app:score"}'


def bisect_run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bisect_ai", "run"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def lines_of(folder: Path, what: str) -> list[str]:
    lines = (folder / "asked.log").read_text().splitlines()
    return [line.removeprefix(what) for line in lines if line.startswith(what)]


@pytest.mark.parametrize(
    ("target", "scorer", "who"),
    [("threads", EXACT, "the target"), ("loop", EXACT, "the target"), ("quick", OWN, "the scorer 'correct'")],
    ids=["a target in a thread", "a target in an event loop", "a scorer"],
)
def test_code_that_never_gives_the_interpreter_back_ends_the_run(tmp_path: Path, target: str, scorer: str, who: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "bisect.yaml").write_text(CONFIG.format(target=target, scorer=scorer))
    rows = [{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(40)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    started = time.monotonic()
    ended = bisect_run(tmp_path)
    assert time.monotonic() - started < 90
    assert ended.returncode == watchdog.STUCK, ended.stderr
    (told,) = [line for line in ended.stderr.splitlines() if "holds the interpreter" in line]
    assert re.search(rf"bisect-ai: stopped: {who} on the query 'q7'.*, past 1 s; everything answered so far is kept", told) or (
        target == "loop" and "more in its event loop" in told
    )
    assert "Traceback" not in ended.stderr
    got = lines_of(tmp_path, "got ")
    with Store(tmp_path / ".bisect-ai") as store:
        kept = sum(store.spending(run).trials for run in store.runs)
    assert len(got) - 8 <= kept <= len(got)  # what came back in the last moment was not yet acknowledged
    (tmp_path / "mended").touch()
    again = bisect_run(tmp_path)
    assert again.returncode == 0, again.stderr
    asked = lines_of(tmp_path, "asked ")
    assert len(asked) - len(set(asked)) <= 8


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(watchdog, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "_SAMPLE_SECONDS", 0.2)
    made, file = Board.fresh()
    os.close(file)
    return made


def test_a_pulse_that_beats_ends_nothing(board: Board) -> None:
    board.enter("the target on the query 'q1'", 0.0)
    board.end_at(time.monotonic() - 60)
    assert why(board, board.pulse[0], os.getpid()) is None


def test_a_still_pulse_ends_what_is_past_its_time(board: Board) -> None:
    place = board.enter("the target on the query 'q1'", 0.3)
    beaten = board.pulse[0]
    time.sleep(0.1)
    assert why(board, beaten, os.getpid()) is None
    time.sleep(0.3)
    told = why(board, beaten, os.getpid())
    assert told is not None and told.startswith("the target on the query 'q1' holds the interpreter") and "past 0.3 s" in told
    board.leave(place)
    assert why(board, beaten, os.getpid()) is None  # the program's own work


@pytest.mark.parametrize("at_work", [True, False])
def test_past_the_time_cap_a_still_pulse_is_enough(board: Board, at_work: bool) -> None:
    if at_work:
        board.enter("the target on the query 'q1'", 600)
    time.sleep(0.1)
    beaten = board.pulse[0]
    assert why(board, beaten, os.getpid()) is None
    board.end_at(time.monotonic() - 1)
    time.sleep(0.1)
    told = why(board, board.pulse[0], os.getpid())
    assert told is not None and "past the time cap and its grace time" in told
    assert told.startswith("the target on the query 'q1'" if at_work else "something holds the interpreter")
    board.end_at(math.inf)
    time.sleep(0.1)
    assert why(board, board.pulse[0], os.getpid()) is None


def test_of_several_threads_the_one_that_computes_is_named(board: Board) -> None:
    over, entered = threading.Event(), threading.Barrier(3)

    def works(name: str, busy: bool) -> None:
        board.enter(name, 0.1)
        entered.wait()
        while busy and not over.is_set():
            pass
        over.wait()

    threads = [threading.Thread(target=works, args=(name, name == "busy"), daemon=True) for name in ("busy", "idle")]
    for thread in threads:
        thread.start()
    entered.wait()
    beaten = board.pulse[0]
    time.sleep(0.2)
    told = why(board, beaten, os.getpid())
    over.set()
    for thread in threads:
        thread.join()
    assert told is not None and told.startswith("busy holds the interpreter")


def test_a_query_shows_neither_credentials_nor_control_bytes(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "canary-0123456789")
    monkeypatch.setattr(watchdog, "_board", board)
    with watchdog.AtWork("the target", "\x1b[2J\u202e canary-0123456789" + "x" * 500, 1):
        (unit,) = board.at_work()
        assert unit.what.startswith(r"the target on the query '\x1b[2J\u202e [redacted]") and len(unit.what) <= 200
    assert board.at_work() == []


def test_a_board_that_is_full_holds_no_one_up(board: Board) -> None:
    places = [board.enter("x", 1) for _ in range(2000)]
    assert places[-1] == -1 and len(board.at_work()) == places.index(-1)
    for place in places:
        board.leave(place)
    assert board.at_work() == []


def test_a_program_that_sleeps_is_told_from_one_that_is_stuck() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not watchdog._is_suspended(process.pid)
        process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 10
        while not watchdog._is_suspended(process.pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert watchdog._is_suspended(process.pid)
        process.kill()


def test_a_part_of_another_program_is_left_alone() -> None:
    assert not main.is_program
    with main.watched_over():
        assert watchdog._board is None


ENDS = """
import asyncio, ctypes, os, signal, threading

def ends(query):
    if query.id == "q7" and not os.path.exists("mended"):
        HOW

def threads(query, release):
    ends(query)
    return "yes"

async def loop(query, release):
    await asyncio.sleep(0.01)
    ends(query)
    return "yes"

def score(query, answer):
    ends(query)
    return True
"""


def incident(folder: Path, app: str, target: str, scorer: str) -> None:
    (folder / "app.py").write_text(app)
    (folder / "bisect.yaml").write_text(CONFIG.format(target=target, scorer=scorer))
    rows = [{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(40)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(("target", "scorer"), [("threads", EXACT), ("loop", EXACT), ("threads", OWN)])
@pytest.mark.parametrize("status", [0, 9])
def test_code_that_exits_at_once_fails_and_the_run_goes_on(tmp_path: Path, target: str, scorer: str, status: int) -> None:
    how = f"os._exit({status})"
    incident(tmp_path, ENDS.replace("HOW", how), target, scorer)
    ended = bisect_run(tmp_path)
    assert "no regression" in ended.stdout and "Traceback" not in ended.stderr, (ended.stdout, ended.stderr)
    kept = b"".join(file.read_bytes() for file in (tmp_path / ".bisect-ai" / "journal").rglob("*") if file.is_file())
    assert f"RuntimeError: {how} was called, which would end the whole run".encode() in kept


@pytest.mark.parametrize(
    ("how", "signalled"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", signal.SIGKILL),
        ("ctypes.string_at(0)", signal.SIGSEGV),
        ("os.abort()", signal.SIGABRT),
    ],
)
def test_a_program_that_is_ended_is_told_in_one_line(tmp_path: Path, how: str, signalled: int) -> None:
    incident(tmp_path, ENDS.replace("HOW", how), "threads", EXACT)
    ended = bisect_run(tmp_path)
    assert ended.returncode == -signalled
    (told,) = [line for line in ended.stderr.splitlines() if line.startswith("bisect-ai: stopped: the program was ended")]
    assert "the target on the query 'q7'" in told and told.endswith("so far is kept: run the same command again")
    (tmp_path / "mended").touch()
    again = bisect_run(tmp_path)
    assert again.returncode == 0 and "the program was ended" not in again.stderr, again.stderr


def test_what_slept_is_not_stuck(tmp_path: Path) -> None:
    """The machine, and with it who watches: the pulse of before says nothing."""
    board, file = Board.fresh()
    board.end_at(time.monotonic() - 60)
    code = "import sys; from bisect_ai.provider.watchdog import serve; serve(*map(int, sys.argv[1:]))"
    with subprocess.Popen(["sleep", "60"]) as program:
        command = [sys.executable, "-c", code, str(file), str(program.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(file,)) as beside:
            for _ in range(8):
                time.sleep(0.25)
                board.beat()
            beside.send_signal(signal.SIGSTOP)
            time.sleep(watchdog.QUIET_SECONDS + 1)
            beside.send_signal(signal.SIGCONT)
            for _ in range(8):
                time.sleep(0.25)
                board.beat()
            assert program.poll() is None
            _, told = beside.communicate(b".", timeout=30)
        program.kill()
    os.close(file)
    assert told == b""
