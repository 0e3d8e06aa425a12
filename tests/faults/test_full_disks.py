"""Commands that write several files, or a folder, on a disk that is full or cannot be written: all of them or none, in one line."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.errors import BisectError
from bisect_ai.store import artefacts
from bisect_ai.store.artefacts import append_line, append_text
from tests.faults.provider import Provider
from tests.faults.test_artefacts import Failing
from tests.wire_shop import shop

APP = """
def answer(query, release):
    return "no" if release["prompt"] == "long" and int(query.id[1:]) % 3 == 0 else query.reference
"""
RESULTS = [
    {"prompt": {"raw": f"Say {side} {i}", "label": side}, "vars": {"q": f"{i}"}, "provider": {"id": "openai:gpt-4o"}}
    | {"response": {"output": "yes"}, "success": True, "score": 1, "testIdx": i}
    for side in ("one", "two")
    for i in range(20)
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A solved incident, a results file beside it, and the run's id."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "app.py").write_text(APP)
    rows = [{"id": f"q{i}", "input": f"i{i}", "reference": f"a{i}"} for i in range(90)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "results.json").write_text(json.dumps({"results": {"results": RESULTS}, "config": {"prompts": ["one", "two"]}}))
    for side, axes in (("good", {"prompt": "short", "model": "a"}), ("bad", {"prompt": "long", "model": "b"})):
        (folder / f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    settings = {
        **{side: f"{side}.yaml" for side in ("good", "bad")},
        "log": {"path": "log.jsonl"},
        "target": {"kind": "python", "function": "app:answer"},
        "scorers": [{"kind": "exact", "name": "correct"}],
        "budget": {"calls": 300},
        "drill": False,
    }
    (folder / "bisect.yaml").write_text(json.dumps(settings))
    done = CliRunner().invoke(main, ["run", str(folder / "bisect.yaml"), "--json", str(folder / "report.json")])
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "report.json").read_text())["run"]


SUITES = ("pytest", "promptfoo", "inspect", "langfuse")
WRITING = ("init", "init --ci", "init --from", "snapshot", "snapshot of a name", *(f"suite for {kind}" for kind in SUITES))


def words_of(command: str, study: tuple[Path, str], place: Path) -> list[str]:
    folder, run = study
    if command.startswith("suite"):
        asked = ["report", run, "--store", str(folder / ".bisect-ai"), "--config", str(folder / "bisect.yaml")]
        return [*asked, "--regression-suite", command.split()[-1], "--suite", str(place)]
    return {
        "init": ["init", str(place)],
        "init --ci": ["init", "--ci", "github", str(place)],
        "init --from": ["init", "--from", str(folder / "results.json"), str(place)],
        "snapshot": ["snapshot", str(folder / "good.yaml"), "-o", f"{place}/"],
        "snapshot of a name": ["snapshot", str(folder / "good.yaml"), "-o", str(place / "now.yaml")],
    }[command]


def one_line_of(done: Any) -> str:
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2 and line.startswith("bisect-ai: cannot write") and "fault of bisect-ai" not in line, done.output
    return str(line)


@pytest.mark.parametrize("command", WRITING)
def test_of_several_files_all_are_there_or_none(
    command: str, study: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, words = tmp_path / "out", words_of(command, study, tmp_path / "out")
    for n in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(artefacts, "os", Failing("write", n, errno.ENOSPC))
            done = CliRunner().invoke(main, words)
        if done.exit_code == 0:
            break
        assert "No space left on device" in one_line_of(done)
        assert list(tmp_path.rglob("*")) == []
    assert n >= 1 and done.exit_code == 0 and any(each.is_file() for each in place.rglob("*"))


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_cannot_be_made_is_said_in_one_line(command: str, study: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("x")
    line = one_line_of(CliRunner().invoke(main, words_of(command, study, tmp_path / "a file" / "out")))
    assert "Not a directory" in line and "name another" in line


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,ro", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_cannot_be_written_is_said_in_one_line(study: tuple[Path, str], read_only: Path) -> None:
    for command in WRITING:
        line = one_line_of(CliRunner().invoke(main, words_of(command, study, read_only / "out")))
        assert "Read-only file system" in line


LOOKING = {
    "compare": ["compare", "good.jsonl", "bad.jsonl"],
    "canary": ["canary", "live.jsonl", "--baseline", "good", "--canary", "bad"],
    "onset": ["onset", "live.jsonl"],
    "drift": ["drift"],
    "gate": ["gate", "--base", "main"],
    "verify": ["verify", "RUN", "good.yaml"],
    "report": ["report", "RUN"],
}


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("option", ["--json", "--html", "--markdown", "--junit", "--log-file"])
def test_every_command_with_a_report_says_first_that_there_is_no_room(
    command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it reads anything: neither the log nor the settings are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
    line = one_line_of(CliRunner().invoke(main, [*LOOKING[command], option, "out"]))
    assert line.endswith("cannot write to out: No space left on device; nothing was done: make room, or name another file")
    assert not (tmp_path / "out").exists() or (tmp_path / "out").read_bytes() == b""


def test_nothing_is_learnt_from_programs_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their requests are paid for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    agent = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"
    (tmp_path / "log.jsonl").write_text('{"id": "a", "input": "x", "reference": "y"}\n' * 3)
    (tmp_path / "bisect.yaml").write_text('{"log": "log.jsonl", "scorers": [{"kind": "contains", "name": "correct"}]}')
    command = ["run", "--learn", f"{sys.executable} {agent}", "--", sys.executable, str(agent)]
    with Provider(shop) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        with monkeypatch.context() as patch:
            patch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
            assert "releases/learned-good.yaml: No space left" in one_line_of(CliRunner().invoke(main, command))
        assert "cannot write to nowhere/x" in one_line_of(
            CliRunner().invoke(main, [*command[:1], "--html", "nowhere/x", *command[1:]])
        )
        (tmp_path / "releases").write_text("a file")
        one_line_of(CliRunner().invoke(main, command))
        assert provider.requests == []


def test_a_history_that_took_nothing_can_be_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audits.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
        with pytest.raises(BisectError, match="No space left"):
            append_line(path, '{"a": 1}')
    append_line(path, '{"a": 1}')
    assert path.read_text() == '{"a": 1}\n'


def test_a_log_takes_all_of_a_text_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.log"
    append_text(path, "what came before\n")
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "os", Failing("write", 0, errno.ENOSPC))
        with pytest.raises(BisectError, match="No space left"):
            append_text(path, "a report of many lines\n" * 100)
    append_text(path, "and after\n")
    assert path.read_text() == "what came before\nand after\n"
