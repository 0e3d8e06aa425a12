"""`init --ci`: the recipes parse, their command lines are ours, they keep what must be kept, and 3 is no red."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.cli.starter import RECIPES

KINDS = tuple(RECIPES)


def written(kind: str, folder: Path) -> str:
    done = CliRunner().invoke(main, ["init", "--ci", kind, str(folder)])
    assert done.exit_code == 0 and len(done.output.splitlines()) == 1, done.output
    return (folder / RECIPES[kind]).read_text()


def scripts(kind: str, text: str) -> Iterator[str]:
    """What a shell runs."""
    if kind == "cron":
        yield re.sub(r"^(\S+ ){5}", "", text.splitlines()[-1])
        return
    for document in yaml.safe_load_all(text):
        yield from _scripts(document)


def _scripts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from each if key in ("script", "before_script") else [each] if key == "run" else _scripts(each)
    elif isinstance(value, list):
        yield from [value[2]] if value[:2] == ["sh", "-c"] else [s for each in value for s in _scripts(each)]


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of ours in a script, as words."""
    for found in re.findall(r"bisect-ai ((?:audit|gate)[^|>\n]*)", text):
        yield shlex.split(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scripts_are_shell_and_the_command_lines_are_ours(kind: str, tmp_path: Path) -> None:
    all_scripts = list(scripts(kind, written(kind, tmp_path)))
    for script in all_scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    found = [words for script in all_scripts for words in commands(script)]
    assert [words[0] for words in found] == (["gate", "audit"] if kind in ("github", "gitlab") else ["audit"])
    for name, *words in found:
        main.commands[name].make_context(name, list(words))  # raises for an option that is none of ours
        assert name == "gate" or "--history" in words


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "red"), [(0, False), (1, True), (3, False), (4, True)])
def test_three_is_yellow_and_one_is_red(kind: str, code: int, red: bool, tmp_path: Path) -> None:
    text = written(kind, tmp_path)
    if kind == "gitlab":
        assert yaml.safe_load(text)[".bisect-ai"]["allow_failure"] == {"exit_codes": 3}
        return
    ours = f"echo told\nexit {code}\n"
    for name, does in (("bisect-ai", ours), (".venv/bin/bisect-ai", ours), ("flock", 'shift 2\nexec "$@"\n')):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "APP": str(tmp_path), "BASE": "main"}
    for script in [s for s in scripts(kind, text) if "bisect-ai audit" in s or "bisect-ai gate" in s]:
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        if kind == "cron":  # a mail is what is printed
            assert (done.stdout == "told\n") is red and (tmp_path / "audit.log").read_text() == "told\n"
            continue
        assert (done.returncode != 0) is red, (script, done)
        assert kind != "github" or ("::warning" in done.stdout) is (code == 3)


def test_store_and_history_are_kept_whatever_the_run_ends_with(tmp_path: Path) -> None:
    jobs = yaml.safe_load(written("github", tmp_path))["jobs"]
    for name, kept in (("gate", [".bisect-ai"]), ("audit", [".bisect-ai", "audits.jsonl"])):
        restore, save = (s for s in jobs[name]["steps"] if s.get("uses", "").startswith("actions/cache/"))
        assert restore["with"]["path"].split() == save["with"]["path"].split() == kept
        assert save["if"] == "always()" and restore["with"]["key"].startswith(restore["with"]["restore-keys"])
    gitlab = yaml.safe_load(written("gitlab", tmp_path))
    assert gitlab["bisect-ai audit"]["cache"] == {
        "key": "bisect-ai-audit",
        "paths": [".bisect-ai/", "audits.jsonl"],
        "when": "always",
    }
    volume, job = yaml.safe_load_all(written("kubernetes", tmp_path))
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
    assert pod["containers"][0]["command"][2].count(pod["containers"][0]["volumeMounts"][0]["mountPath"]) == 3


def test_no_text_of_a_pull_request_is_put_into_a_script(tmp_path: Path) -> None:
    assert all("${{" not in script for script in scripts("github", written("github", tmp_path)))


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bisect-ai.cron").write_text("mine")
    done = CliRunner().invoke(main, ["init", "--ci", "cron", str(tmp_path)])
    assert done.exit_code == 2 and "it is there already" in done.output
    assert (tmp_path / "bisect-ai.cron").read_text() == "mine"
