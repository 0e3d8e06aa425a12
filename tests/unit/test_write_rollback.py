"""`--write-rollback`: the recommended release as a frozen file that loads as exactly what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.errors import ReleaseError
from bisect_ai.release.load import load_release
from bisect_ai.runs.release_writer import rolled_back, write_release
from tests.unit.test_auditing import BAD, GOOD, folder

__all__ = ["folder"]  # a fixture

ODD = {"prompt": "no", "tools": [{"file": "a.txt"}, 1.0, None, True], "corpus": {"documents": {"a\u2028b": "x: 'y'\n\t- z\n"}}}


@pytest.mark.parametrize("name", ["fix.yaml", "fix.json"])
def test_it_reads_back_as_what_was_written(tmp_path: Path, name: str) -> None:
    release = load_release({**ODD, "model": "1.10"})
    write_release(release, tmp_path / name)
    again = load_release(tmp_path / name)
    assert again.digest == release.digest
    assert dict(again.axes) == dict(release.axes)  # {"file": …} stands for itself: nothing is read
    assert again.name == release.name
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_changed_file_is_refused_and_an_old_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "fix.yaml"
    write_release(load_release(GOOD), path)
    text = path.read_text()
    path.write_text(text.replace("short", "shorter"))
    with pytest.raises(ReleaseError, match="changed after it was written"):
        load_release(path)
    path.write_text(text)
    with pytest.raises(ReleaseError, match="cannot write the release"):
        write_release(load_release({"prompt": "a\ud800b"}), path)
    assert path.read_text() == text


def test_each_axis_says_where_it_is_from(tmp_path: Path) -> None:
    good = load_release({"release": "g", "axes": GOOD, "provenance": {"prompt": {"owner": "writers"}}})
    bad = load_release({"release": "b", "axes": BAD, "provenance": {"model": {"owner": "platform"}}})
    fixed = rolled_back(good, bad, ["prompt"], measured="run 1 measured it")
    assert dict(fixed.axes) == {**BAD, "prompt": "short"}
    assert dict(fixed.provenance["prompt"]) == {"owner": "writers", "release": "g", "why": "run 1 measured it"}
    assert dict(fixed.provenance["model"]) == {"owner": "platform", "release": "b"}
    assert fixed.name == "b, prompt of g"


def test_on_the_command_line(folder: Path) -> None:
    path = folder / "fix.yaml"
    done = CliRunner().invoke(main, ["run", str(folder / "bisect.yaml"), "--write-rollback", str(path)])
    assert done.exit_code == 0, done.output
    fixed = load_release(path)
    assert dict(fixed.axes) == {**BAD, "prompt": "short"}
    assert "measured correct 1" in str(fixed.provenance["prompt"]["why"])
    assert yaml.safe_load(path.read_text())["digest"] == fixed.digest


def test_no_rollback_is_said_and_is_no_error(folder: Path) -> None:
    (folder / "bad.yaml").write_text(json.dumps({"release": "bad", "axes": {**BAD, "prompt": "shorter"}}))
    done = CliRunner().invoke(main, ["audit", str(folder / "bisect.yaml"), "--write-rollback", str(folder / "fix.yaml")])
    assert done.exit_code == 0, done.output
    assert "recommends none" in done.stderr
    assert not (folder / "fix.yaml").exists()
