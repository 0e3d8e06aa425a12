"""Standard streams that are closed, full or left, and a store that goes away: one line, a documented exit code, what was paid kept."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

RUN = shlex.join([sys.executable, "-m", "bisect_ai"])
ANSWER = """
import asyncio, os, shutil, threading
from pathlib import Path
here, calls, lock = Path(__file__).parent, [0], threading.Lock()

def strike():
    with lock:
        calls[0] += 1
        if calls[0] == STRIKE_AT:
            STRIKE

def said(query, release):
    return "no" if release["prompt"] == "long" and int(query.id[1:]) % 3 == 0 else query.reference

def sync(query, release):
    strike()
    return said(query, release)

async def later(query, release):
    await asyncio.sleep(0.001)
    strike()
    return said(query, release)
"""


def _folder(path: Path, *, function: str = "sync", strike: str = "pass", at: int = 30) -> Path:
    (path / "app.py").write_text(ANSWER.replace("STRIKE_AT", str(at)).replace("STRIKE", strike))
    rows = [{"id": f"q{i}", "input": f"i{i}", "reference": f"a{i}"} for i in range(60)]
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "good": {"prompt": "short", "model": "a"},
        "bad": {"prompt": "long", "model": "b"},
        "log": {"path": "log.jsonl"},
        "target": {"kind": "python", "function": f"app:{function}"},
        "scorers": [{"kind": "exact", "name": "correct"}],
        "budget": {"calls": 200},
        "drill": False,
    }
    (path / "bisect.yaml").write_text(json.dumps(settings))
    return path


def _shell(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        ["bash", "-c", words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def _own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("bisect-ai: ")]


STREAMS = {
    "closed": ("{run} run >&-", 2, "cannot write to standard output: Bad file descriptor; nothing was done"),
    "full": ("{run} run > /dev/full", 2, "cannot write to standard output: No space left on device; nothing was done"),
    "help": ("{run} --help > /dev/full", 2, "cannot write to standard output: No space left on device"),
    "version": ("{run} --version >&-", 2, "cannot write to standard output: Bad file descriptor"),
    "errors closed": ("{run} run 2>&-", 0, ""),
    "errors full": ("{run} run 2> /dev/full", 0, ""),
    "input closed": ("{run} run <&-", 0, ""),
    "left": ("{run} run | head -1; exit ${{PIPESTATUS[0]}}", 0, ""),
    "audit left": ("{run} audit --max-calls 200 | true; exit ${{PIPESTATUS[0]}}", 1, ""),
    "a plan": ("{run} plan > /dev/full", 2, "No space left on device; make room, and run the same command again"),
    "cut off": ("ulimit -f 4; {run} schema > out.json", 2, "File too large; make room, and run the same command again"),
    "cut off, no buffer": ("ulimit -f 4; PYTHONUNBUFFERED=1 {run} schema > out.json", 2, "File too large; make room"),
    "wrong, unheard": ("{run} run nowhere.yaml 2>&-", 2, ""),
    "all closed": ("{run} run nowhere.yaml <&- >&- 2>&-", 2, ""),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_that_fail_end_in_one_line(name: str, tmp_path: Path) -> None:
    words, code, told = STREAMS[name]
    done = _shell(_folder(tmp_path), words.format(run=RUN))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "fault of bisect-ai" not in done.stderr and "Exception ignored" not in done.stderr
    if told:
        assert [told in line for line in _own_lines(done.stderr)] == [True]
    if code == 2:
        assert not (tmp_path / ".bisect-ai").exists()


@pytest.mark.parametrize("there_before", [False, True])
def test_a_demo_that_does_not_fit_leaves_no_part_that_is_taken_for_the_whole(there_before: bool, tmp_path: Path) -> None:
    if there_before:
        (tmp_path / "there").mkdir()
    done = _shell(tmp_path, f"ulimit -f 1; {RUN} demo there")
    assert done.returncode == 2
    assert _own_lines(done.stderr) == ["bisect-ai: cannot write to there: File too large; name another folder"]
    assert [path.name for path in tmp_path.rglob("*")] == ["there"] * there_before


def test_output_that_fails_only_at_the_end_loses_nothing(tmp_path: Path) -> None:
    _folder(tmp_path, strike="os.dup2(os.open('/dev/full', os.O_WRONLY), 1)")
    done = _shell(tmp_path, f"{RUN} run --json report.json --write-rollback fixed.yaml")
    told = "bisect-ai: cannot write to standard output: No space left on device; the run is kept, `bisect-ai report` shows it again"
    assert (done.returncode, _own_lines(done.stderr)) == (2, [told])
    report = json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / "fixed.yaml").is_file()
    assert _shell(tmp_path, f"{RUN} report {report['run']}").stdout.startswith("prompt alone causes the drop")
    assert "this time: 0 calls made" in _shell(tmp_path, f"{RUN} run").stderr


def test_a_traceback_is_shown_without_the_key(tmp_path: Path) -> None:
    done = _shell(tmp_path, f"DB_PASS=sekret99x {RUN} --debug run sekret99x.yaml")
    assert done.returncode == 2 and "Traceback" in done.stderr and "sekret99x" not in done.stderr


GONE = {
    "deleted": "shutil.rmtree(here / '.bisect-ai')",
    "journal deleted": "shutil.rmtree(here / '.bisect-ai' / 'journal')",
    "moved": "(here / '.bisect-ai').rename(here / 'elsewhere')",
    "segments deleted": "[path.unlink() for path in (here / '.bisect-ai' / 'journal').iterdir()]",
}


@pytest.mark.parametrize("function", ["sync", "later"])
@pytest.mark.parametrize("how", GONE)
def test_a_store_that_goes_away_ends_the_run_in_one_line(how: str, function: str, tmp_path: Path) -> None:
    done = _shell(_folder(tmp_path, function=function, strike=GONE[how]), f"{RUN} run --concurrency 4")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "never retrieved" not in done.stderr and "fault of bisect-ai" not in done.stderr
    assert len(_own_lines(done.stderr)) == 1 and ("deleted" in done.stderr or "cannot" in done.stderr)
