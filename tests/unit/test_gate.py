"""`gate` end to end: a change that is worse is stopped with its line, a harmless one is not, and what cannot be measured is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.report import payloads
from bisect_ai.report.payloads import LONGEST_COMMENT
from tests.unit.test_git_releases import START, SYSTEM, commit, git

CONFIG = """
axes: {prompt: prompts/**, tools: tools/*.json, corpus: kb/**, model: config/model.yaml}
log: {path: log.jsonl}
target: {kind: python, function: "answering:answer"}
scorers: [{kind: contains, name: correct, expected: reference}]
budget: {calls: 1200}
"""
ANSWERING = """
def answer(query, release):
    prompt = release["prompt"]["prompts/system.md"]
    if "crash" in prompt and int(query["id"][1:]) % 3 == 0:
        raise OSError("connection reset by <!-- peer -->")
    if "always down" in prompt:
        raise OSError("connection refused")
    bad = "friendly" in prompt and int(query["id"][1:]) % 4 == 0
    return "no" if bad else query["reference"]
"""
MARKER = "<!-- bisect-ai gate -->"
FILES = ("comment", "check-run", "sarif", "json", "junit", "markdown", "html")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "work"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    log = "".join(f'{{"id": "q{i}", "input": "{i}?", "reference": "yes {i}"}}\n' for i in range(300))
    files: dict[str, str | bytes | None] = {"bisect.yaml": CONFIG, "answering.py": ANSWERING, "log.jsonl": log}
    commit(top, {**START, **files, ".gitignore": ".bisect-ai\nout*\n"}, "Start")
    git(top, "checkout", "-q", "-b", "topic")
    monkeypatch.chdir(top)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return top


def propose(repo: Path, system: str, **more: str) -> None:
    commit(repo, {"prompts/system.md": system, **more}, "A voice", "Bea")


def gate(*arguments: str) -> Result:
    options = [word for name in FILES for word in (f"--{name}", f"out.{name}")]
    return CliRunner().invoke(main, ["gate", "--base", "main", *options, *arguments])


def written(name: str) -> Any:
    return json.loads(Path(f"out.{name}").read_text())


def test_a_worse_change_is_stopped_with_its_line(repo: Path, tmp_path: Path) -> None:
    propose(repo, SYSTEM.replace("brief", "friendly"), **{"kb/returns.md": "Ten days.\n"})
    done = gate()
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("gate: at most 1,200 calls")
    assert done.stdout.startswith("worse than main: prompt alone causes the drop")
    (result,) = written("sarif")["runs"][0]["results"]
    where = result["locations"][0]["physicalLocation"]
    assert (where["artifactLocation"]["uri"], where["region"]) == ("prompts/system.md", {"startLine": 3})
    (note,) = written("check-run")["output"]["annotations"]
    assert (note["path"], note["start_line"]) == ("prompts/system.md", 3) and "Bea" in note["message"]
    assert written("check-run")["conclusion"] == "failure"
    assert written("check-run")["head_sha"] == git(repo, "rev-parse", "HEAD")
    text = Path("out.comment").read_text()
    assert text.startswith(f"{MARKER}\n## worse than") and text.count(MARKER) == 1
    assert (tmp_path / "summary.md").read_text().startswith(text.removeprefix(f"{MARKER}\n"))
    cases = {case.get("name"): [e.tag for e in case] for case in ElementTree.parse("out.junit").iter("testcase")}
    assert cases["not worse than the base"] == ["failure"] and cases["axis prompt"] == ["failure"]
    assert written("json")["gate"]["most_calls"] == 1200
    asked = written("json")
    assert asked["usage"]["calls"] >= asked["audit"]["calls"] > 0 and f"{asked['usage']['calls']:,} calls" in done.stdout
    assert done.stderr.splitlines()[-1] == f"this time: {asked['usage']['calls']} calls made, 0 answered from the store"


def test_a_harmless_change_ends_early_and_the_second_time_costs_nothing(repo: Path, tmp_path: Path) -> None:
    propose(repo, SYSTEM.replace("brief", "terse"))
    done = gate()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("not worse than main: ")
    assert written("json")["audit"]["calls"] <= 200
    assert written("sarif")["runs"][0]["results"] == [] and written("check-run")["conclusion"] == "success"
    first = Path("out.comment").read_text()
    again = gate()
    assert "this time: 0 calls made" in again.stderr and Path("out.comment").read_text() == first
    assert (tmp_path / "summary.md").read_text().count("## not worse than `main`") == 2
    assert bisect_ai.history(repo / ".bisect-ai")["kind"].tolist() == ["healthy"]


def test_what_main_did_meanwhile_is_not_charged_to_the_change(repo: Path) -> None:
    propose(repo, SYSTEM.replace("brief", "terse"))
    git(repo, "checkout", "-q", "main")
    propose(repo, SYSTEM.replace("field names", "names"))
    git(repo, "checkout", "-q", "topic")
    done = gate()
    assert done.exit_code == 0, done.output
    assert written("json")["gate"]["base_commit"] == git(repo, "merge-base", "main", "HEAD") != git(repo, "rev-parse", "main")


def test_a_change_outside_the_release_makes_no_call(repo: Path) -> None:
    done = gate()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("not worse than main: no axis of the release differs")
    assert "certain: nothing that answers differs" in done.stdout and "it may be merged" in done.stdout
    assert "this time: 0 calls made" in done.stderr


@pytest.mark.parametrize("system", ["crash now and then", "always down"])
def test_calls_that_fail_are_neither_red_nor_green(repo: Path, system: str) -> None:
    propose(repo, system)
    done = gate("--concurrency", "4")
    assert done.exit_code == 4, done.output
    assert "no verdict on HEAD" in done.output
    assert "not known" in done.stdout and "see why calls fail" in done.stdout
    assert f"Cost      {written('json')['usage']['calls']:,} calls" in done.stdout and written("json")["usage"]["calls"] > 0
    card = " ".join(done.stdout.split())  # the log of a job is what people look at first
    assert "OSError: connection re" in card and "OSError: connection re" in Path("out.comment").read_text()
    assert "would probably have shown" not in card and "Loss " not in card
    run = written("sarif")["runs"][0]
    assert run["results"] == [] and run["invocations"][0]["executionSuccessful"] is False
    assert written("check-run")["conclusion"] == "action_required"
    assert written("json")["verdict"]["kind"] == "failed"
    text = Path("out.comment").read_text()
    assert text.count("<!--") == 1 and text.startswith(MARKER)
    cases = [[e.tag for e in case] for case in ElementTree.parse("out.junit").iter("testcase")]
    assert cases == [["error"]]
    assert Path("out.html").read_text().startswith("<!") and Path("out.markdown").read_text()


def test_too_few_calls_to_tell_is_yellow(repo: Path) -> None:
    propose(repo, SYSTEM.replace("brief", "terse"))
    done = gate("--max-calls", "12")
    assert done.exit_code == 3, done.output
    assert done.stdout.startswith("could not tell whether HEAD is worse than main")
    assert "with more queries or a larger --max-calls" in " ".join(done.stdout.split()) and "audit" not in done.stdout
    assert written("check-run")["conclusion"] == "neutral"
    cases = [[e.tag for e in case] for case in ElementTree.parse("out.junit").iter("testcase")]
    assert cases == [["skipped"]]


def test_files_are_written_for_bad_input_too(repo: Path) -> None:
    done = gate("--head", "nowhere")
    assert done.exit_code == 2, done.output
    assert "git has no such revision 'nowhere'" in done.output
    assert all(Path(f"out.{name}").is_file() for name in FILES)
    text, cases = Path("out.comment").read_text(), ElementTree.parse("out.junit").iter("testcase")
    assert "no such revision" in text
    assert "(empty)" not in text and "not estimated" not in text  # nothing was measured: of no metric, in no run
    assert [case.get("classname") for case in cases] == ["bisect-ai"]


def test_a_comment_of_any_length_fits_and_keeps_its_marker() -> None:
    long = {
        "metric": "correct",
        "gate": {"outcome": "worse", "base": "main"},
        "verdict": {"kind": "cause"},
        "warnings": ["x" * 900] * 99,
    }
    text = payloads.comment(long)
    assert text.startswith(MARKER) and len(text) < LONGEST_COMMENT and "too long for a comment" in text


def test_a_file_name_of_any_kind_is_data_in_sarif() -> None:
    change = {"axis": "prompt", "path": "a b/ü<x>.md:7", "summary": "\x1b[31m", "provenance": {}}
    cause = {"axes": ["prompt"], "mode": "alone", "share": 1.0, "changes": [change]}
    report = {"metric": "m", "gate": {"outcome": "worse"}, "audit": {"kind": "regression", "detect": 0.05}}
    told = json.loads(payloads.sarif({**report, "verdict": {"kind": "cause", "causes": [cause]}}))
    (result,) = told["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b/%C3%BC%3Cx%3E.md" and place["region"] == {"startLine": 7}
    assert "\x1b" not in result["message"]["text"]
