"""The recipes of the guides for schedules: they parse, and the command lines in them are ours and run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from tests.docs.pages import ALL_PAGES, blocks
from tests.unit.test_auditing import BAD, GOOD, week


def recipe(kind: str) -> dict[str, object]:
    (found,) = [y for block in blocks("yaml") if isinstance(y := yaml.safe_load(block), dict) and kind in y]
    return found


def commands() -> list[list[str]]:
    """The argument lists of every audit that a recipe runs."""
    action, job = recipe("jobs"), recipe("kind")
    steps = [s["run"] for s in action["jobs"]["audit"]["steps"] if "run" in s]  # type: ignore[index]
    shell = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]  # type: ignore[index]
    (cron,) = re.findall(r"^0 6 \* \* 1 .*$", ALL_PAGES, re.MULTILINE)
    lines = [*steps, shell[2].split("&& ")[1], cron.split("&& ")[1]]
    found = [shlex.split(line) for line in lines]
    return [words[1:] for words in found if words[0].endswith("bisect-ai")]


def test_the_recipes_parse_and_say_when() -> None:
    action, job = recipe("jobs"), recipe("kind")
    assert action[True]["schedule"] == [{"cron": "0 6 * * 1"}]  # type: ignore[index]  # YAML 1.1 reads `on` as true
    assert job["spec"]["schedule"] == "0 6 * * 1"  # type: ignore[index]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"  # type: ignore[index]


def test_the_command_line_of_every_recipe_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text("def answer(query, release):\n    return query.reference\n")
    Path("log.jsonl").write_text("\n".join(json.dumps(q) for q in week(0)))
    for side, axes in (("good", GOOD), ("bad", BAD)):
        Path(f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    Path("bisect.yaml").write_text(
        "good: good.yaml\nbad: bad.yaml\nlog: {path: log.jsonl}\ntarget: {kind: python, function: app:answer}\n"
        "scorers: [{kind: exact, name: correct, expected: reference}]\n"
    )
    assert len(commands()) == 3
    for arguments in commands():
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    assert len(Path("audits.jsonl").read_text().splitlines()) == 1  # the same audit, three times
    assert Path("audit.html").read_text().startswith("<!")
