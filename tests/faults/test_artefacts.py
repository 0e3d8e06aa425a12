"""Files for people: all of it or what was there before, whatever fails; a history whose every line can be read."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import BisectError, ReleaseError
from bisect_ai.release.load import load_release
from bisect_ai.result import Result
from bisect_ai.runs.release_writer import write_release
from bisect_ai.store import artefacts
from bisect_ai.store.artefacts import append_line, check_place, write_text
from tests.faults.disk import Disk

OLD, NEW = "old " * 5_000, "new " * 10_000


class Failing(Disk):
    """Its `n`-th call of `name` fails, a write after half of its bytes."""

    def __init__(self, name: str, n: int, code: int) -> None:
        self.name, self.left, self.code, self.failed = name, n, code, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name != self.name:
            return real

        def call(*given: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                return real(*given)
            self.failed += 1
            if name == "write" and self.failed == 1:
                return real(given[0], bytes(given[1])[: len(given[1]) // 2])
            raise OSError(self.code, os.strerror(self.code))

        return call


FAULTS = [(name, code) for name in ("open", "write", "fsync") for code in (errno.ENOSPC, errno.EIO)]


@pytest.mark.parametrize(("name", "code"), FAULTS)
def test_a_file_is_whole_or_the_old_one(name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text(OLD)
    monkeypatch.setattr(artefacts, "os", Failing(name, 0, code))
    with pytest.raises(BisectError, match=f"cannot write the report to .*report.html: {os.strerror(code)}; the run is kept"):
        write_text(path, NEW, what="the report", then="the run is kept")
    assert path.read_text() == OLD
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    monkeypatch.setattr(artefacts, "os", os)
    write_text(path, NEW)
    assert path.read_text() == NEW
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_mode_and_link_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_text(OLD)
    real.chmod(0o640)
    link.symlink_to(real)
    write_text(link, NEW)
    assert link.is_symlink() and real.read_text() == NEW
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_text(pipe, NEW)
    reader.join(10)
    assert got == [NEW] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_standard_output_by_its_path_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    code = "from bisect_ai.store.artefacts import write_text; write_text('/dev/stdout', 'whole'); print('more')"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with out.open("a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, env=environment, check=True)
    assert out.read_text() == "wholemore\n"


def test_the_gate_stands_before_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "canary-of-files-1")
    write_text(tmp_path / "a", "x canary-of-files-1")
    append_line(tmp_path / "b", '{"a": "canary-of-files-1"}')
    assert (tmp_path / "a").read_text() == "x [redacted]"
    assert json.loads((tmp_path / "b").read_text()) == {"a": "[redacted]"}


# -- history ------------------------------------------------------------------------------------------------------------
ROW = json.dumps({"run": "abc", "axes": ["prompt", "tools"], "kind": "cause"})


def test_a_line_torn_anywhere_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "audits.jsonl"
    for cut in range(1, len(ROW)):
        assert_cut_off(path, ROW[:cut])


@pytest.mark.parametrize("zeros", [1, 4096])
@pytest.mark.parametrize("before", ["", ROW[:20]])
def test_the_zeros_that_a_power_cut_leaves_are_no_line(zeros: int, before: str, tmp_path: Path) -> None:
    assert_cut_off(tmp_path / "audits.jsonl", before + "\0" * zeros)


def assert_cut_off(path: Path, torn: str) -> None:
    path.write_text(f"{ROW}\n{torn}")
    told = append_line(path, ROW)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [json.loads(ROW)] * 2
    assert told is not None and f"a torn line of {len(torn)} bytes" in told


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), (f"{ROW}\n", f"{ROW}\n"), (ROW, f"{ROW}\n"), ("a note", "a note\n"), ("{", "")]
)
def test_what_is_no_torn_line_is_kept(before: str, after: str, tmp_path: Path) -> None:
    path = tmp_path / "audits.jsonl"
    path.write_text(before)
    append_line(path, ROW)
    assert path.read_text() == f"{after}{ROW}\n"


@pytest.mark.parametrize(("name", "code"), [("write", errno.ENOSPC), ("write", errno.EIO), ("fsync", errno.EIO)])
def test_a_line_that_does_not_fit_leaves_no_part(name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audits.jsonl"
    path.write_text(f"{ROW}\n")
    monkeypatch.setattr(artefacts, "os", Failing(name, 0, code))
    with pytest.raises(BisectError, match=f"cannot write the history to .*: {os.strerror(code)}"):
        append_line(path, ROW, what="the history")
    assert path.read_text() == f"{ROW}\n"


def test_lines_of_several_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "audits.jsonl"
    rows = [json.dumps({"writer": i, "text": "x" * 20_000}) for i in range(8)]
    threads = [threading.Thread(target=lambda row=row: [append_line(path, row) for _ in range(5)]) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text().splitlines()) == sorted(rows * 5)


# -- before anything is spent ---------------------------------------------------------------------------------------------
def _folder(path: Path) -> Path:
    (path / "app.py").write_text(
        "from pathlib import Path\n"
        "def answer(query, release):\n"
        "    with Path(__file__).with_name('calls.txt').open('a') as file:\n"
        "        file.write('x')\n"
        "    return 'no' if release['prompt'] == 'long' and int(query.id[1:]) % 3 == 0 else query.reference\n"
    )
    rows = [{"id": f"q{i}", "input": f"i{i}", "reference": f"a{i}"} for i in range(60)]
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "good": {"prompt": "short", "model": "a"},
        "bad": {"prompt": "long", "model": "b"},
        "log": {"path": "log.jsonl"},
        "target": {"kind": "python", "function": "app:answer"},
        "scorers": [{"kind": "exact", "name": "correct"}],
        "budget": {"calls": 200},
        "drill": False,
        "store": "kept/here",
    }
    (path / "bisect.yaml").write_text(json.dumps(settings))
    return path


def _cli(*words: str) -> Any:
    return CliRunner().invoke(main, list(words))


PLACES = {"no folder": "nowhere/x", "a folder": "there", "a full device": "/dev/full"}


@pytest.mark.parametrize("command", [["run"], ["audit"]])
@pytest.mark.parametrize("place", ["no folder", "a folder"])
@pytest.mark.parametrize("option", ["--json", "--markdown", "--html", "--junit", "--write-rollback", "--history"])
def test_a_place_that_cannot_be_written_is_said_before_any_call(
    option: str, place: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if option == "--history" and command == ["run"]:
        command = ["audit"]
    monkeypatch.chdir(_folder(tmp_path))
    (tmp_path / "there").mkdir()
    done = _cli(*command, option, PLACES[place])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert f"cannot write to {PLACES[place]}: " in done.stderr
    assert not (tmp_path / "calls.txt").exists() and not (tmp_path / "kept").exists()


def test_a_disk_that_is_full_already_is_said_before_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_folder(tmp_path))
    monkeypatch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
    done = _cli("run", "--html", "report.html")
    assert done.exit_code == 2 and "cannot write to report.html: No space left" in done.stderr
    assert not (tmp_path / "calls.txt").exists()
    with pytest.raises(BisectError, match="No space left"):
        check_place(tmp_path / "x")
    assert not list(tmp_path.glob(".*new*"))


def test_one_report_that_fails_takes_no_other_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_folder(tmp_path))
    words = ("--json", "a.json", "--markdown", "/dev/full", "--junit", "a.xml", "--write-rollback", "fixed.yaml")
    done = _cli("run", *words)
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("bisect-ai: ")] == [
        "bisect-ai: cannot write the report to /dev/full: No space left on device; the run is kept, `bisect-ai report` writes it again"
    ]
    assert json.loads((tmp_path / "a.json").read_text())["verdict"]["kind"] == "cause"
    assert (tmp_path / "a.xml").read_text().startswith("<?xml") and (tmp_path / "fixed.yaml").is_file()
    assert done.stdout.startswith("prompt alone causes the drop")
    assert _cli("report", json.loads((tmp_path / "a.json").read_text())["run"]).stdout.endswith(done.stdout)  # the card


def test_a_result_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result: Result = bisect_ai.run(_folder(tmp_path) / "bisect.yaml")
    result.to_html(tmp_path / "report.html")
    whole = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
    for write in (result.to_html, result.to_markdown, result.to_junit):
        with pytest.raises(BisectError, match="No space left"):
            write(tmp_path / "report.html")
    with pytest.raises(BisectError, match="No space left"):
        result.write_rollback(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == whole


# -- where runs and report look -------------------------------------------------------------------------------------------
def test_runs_and_report_read_the_store_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_folder(tmp_path))
    done = _cli("run", "--json", "-")
    run = json.loads(done.stdout)["run"]
    assert run in _cli("runs").stdout
    assert json.loads(_cli("report", run, "--json", "-").stdout) == json.loads(done.stdout)
    assert run in _cli("runs", "--store", "kept/here").stdout
    assert _cli("report", run, "--postmortem").exit_code == 0
    monkeypatch.chdir(tmp_path / "kept")
    assert "there is none" in _cli("runs").stderr
    assert _cli("report", run, "--config", "../bisect.yaml").stdout.startswith("prompt alone")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bisect.yaml").write_text('{"store": null}')
    told = _cli("runs")
    assert told.exit_code == 2 and "store is null" in told.stderr and "--store" in told.stderr


# -- rollbacks ------------------------------------------------------------------------------------------------------------
HIDDEN = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    "\u200b\u200e\u200f\u061c\u2060\ufeff\u2028\u2029\u00ad\u180e\u3164\ufe0f"
)


@pytest.mark.parametrize("character", HIDDEN)
def test_what_turns_text_around_or_hides_is_escaped_in_a_rollback(character: str, tmp_path: Path) -> None:
    axes = {"prompt": {"system": f"Run{character} nothing.\nनमस्ते, grüße", f"key{character}": [f"{character}", "plain: 'x'"]}}
    release = load_release({**axes, "tools": "no"})
    for name in ("fix.yaml", "fix.json"):
        write_release(release, tmp_path / name)
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert character not in text
        assert load_release(tmp_path / name).digest == release.digest
    assert "नमस्ते, grüße" in (tmp_path / "fix.yaml").read_text(encoding="utf-8")


def test_a_rollback_that_would_spread_a_key_is_refused(tmp_path: Path) -> None:
    release = load_release({"prompt": "use AKIAQZ7F3A90BXYY1234", "tools": "no"})
    with pytest.raises(ReleaseError, match="holds what looks like a key") as refused:
        write_release(release, tmp_path / "fix.yaml")
    assert not list(tmp_path.iterdir()) and "AKIA" not in str(refused.value)
