"""Suites of broken queries: they fail on the bad release, pass on the good one and on the rollback, and hold no text as code."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.facts.regression_suite import cases_pass
from bisect_ai.store.trial_store import Store

HOSTILE = [
    "'''\nimport os; os._exit(7)",
    "{{ 7 * 7 }} {% raw %}",
    "\\x1b[31m \u202e",
    '"""; raise SystemExit',
    "<script>${x}</script>",
]
GOOD = {"prompt": "short", "model": "a"}
BAD = {"prompt": "long", "model": "b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A solved incident: the long prompt breaks a quarter of the queries."""
    top = tmp_path_factory.mktemp("incident")
    (top / "app.py").write_text(
        "def answer(query, release):\n"
        "    return 'no' if release['prompt'] == 'long' and int(query['number']) % 4 == 0 else query.reference\n"
    )
    log = [
        {"id": f"{HOSTILE[i % 5]} {i}", "input": f"{HOSTILE[i % 5]} {i}", "reference": f"yes {i}", "number": i}
        for i in range(160)
    ]
    (top / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    for side, axes in (("good", GOOD), ("bad", BAD), ("rollback", {**BAD, "prompt": "short"})):
        (top / f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    (top / "bisect.yaml").write_text(
        "good: good.yaml\nbad: bad.yaml\nlog: {path: log.jsonl}\ntarget: {kind: python, function: app:answer}\n"
        "scorers: [{kind: exact, name: correct, expected: reference}]\n"
    )
    done = CliRunner().invoke(main, ["run", str(top / "bisect.yaml")])
    assert done.exit_code == 0 and done.stdout.startswith("prompt alone"), done.output
    for kind in ("pytest", "promptfoo", "inspect", "langfuse"):
        asked = ["--store", str(top / ".bisect-ai"), "--config", str(top / "bisect.yaml")]
        asked += ["--regression-suite", kind, "--suite", str(top / kind)]
        written = CliRunner().invoke(main, ["report", run_of(top), *asked])
        assert written.exit_code == 0 and "broken queries and" in written.output, written.output
    return top


def run_of(top: Path) -> str:
    with Store(top / ".bisect-ai") as store:
        return next(iter(store.runs))


def kinds(top: Path, tool: str) -> list[str]:
    return [case["kind"] for case in json.loads((top / tool / "cases.json").read_text())["cases"]]


@pytest.mark.parametrize(("release", "broken"), [("bad.yaml", "failed"), ("good.yaml", "passed"), ("rollback.yaml", "passed")])
def test_the_pytest_suite_fails_on_bad_and_passes_on_good_and_on_the_rollback(folder: Path, release: str, broken: str) -> None:
    environment = {**os.environ, "BISECT_RELEASE": str(folder / release)}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "test_regression.py"]
    done = subprocess.run(command, cwd=folder / "pytest", env=environment, capture_output=True, text=True, check=False)
    told = [line.split() for line in done.stdout.splitlines() if line.startswith(("PASSED", "FAILED"))]
    expected = [broken.upper() if kind == "broken" else "PASSED" for kind in kinds(folder, "pytest")]
    assert sorted(words[0] for words in told) == sorted(expected), done.stdout
    assert all(word == "PASSED" for word, name, *_ in told if "control" in name)
    assert done.returncode == (1 if broken == "failed" else 0)


def test_broken_queries_are_those_that_the_cause_breaks(folder: Path) -> None:
    cases = json.loads((folder / "pytest" / "cases.json").read_text())["cases"]
    numbers = {kind: [case["query"]["number"] % 4 for case in cases if case["kind"] == kind] for kind in ("broken", "control")}
    assert numbers["broken"] and set(numbers["broken"]) == {0}
    assert numbers["control"] and 0 not in numbers["control"]
    assert all("output" not in case["query"] for case in cases)


def test_the_promptfoo_suite_holds_numbers_only_and_its_provider_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = yaml.safe_load((folder / "promptfoo" / "promptfooconfig.yaml").read_text())
    assert told["tests"] == [{"vars": {"case": n}} for n in range(len(kinds(folder, "promptfoo")))]
    assert told["defaultTest"] == {"assert": [{"type": "equals", "value": "pass"}]}
    place = folder / "promptfoo" / told["providers"][0].removeprefix("file://")
    spec = importlib.util.spec_from_file_location("suite_provider", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for release, word in (("bad.yaml", "fail"), ("good.yaml", "pass")):
        monkeypatch.setenv("BISECT_RELEASE", str(folder / release))
        assert module.call_api("case 0", {}, {"vars": {"case": "0"}}) == {"output": word}
    monkeypatch.setenv("BISECT_RELEASE", str(folder / "nowhere.yaml"))
    assert "nowhere" in module.call_api("case 0", {}, {"vars": {"case": 0}})["error"]


def test_a_suite_moves_with_its_settings_file(folder: Path) -> None:
    """Suites are kept in a repository: no path of the machine that wrote them is in one."""
    for kind in ("pytest", "promptfoo", "inspect", "langfuse"):
        assert all(str(folder) not in file.read_text() for file in (folder / kind).iterdir() if file.is_file())
        assert json.loads((folder / kind / "cases.json").read_text())["config"] == "../bisect.yaml"


def test_no_text_of_the_log_is_in_a_file_that_is_run(folder: Path) -> None:
    for file in [*folder.glob("inspect/*.py"), *folder.glob("langfuse/*.py"), *folder.glob("pytest/*.py")]:
        text = file.read_text()
        compile(text, file, "exec")
        assert not any(each in text for each in HOSTILE)


def test_cases_pass_as_the_release_that_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = kinds(folder, "inspect")
    monkeypatch.setenv("BISECT_RELEASE", str(folder / "bad.yaml"))
    assert cases_pass(folder / "inspect") == [kind == "control" for kind in told]
    monkeypatch.setenv("BISECT_RELEASE", str(folder / "good.yaml"))
    assert cases_pass(folder / "inspect", [0]) == [True]
    monkeypatch.chdir(folder / "inspect")
    monkeypatch.setenv("BISECT_RELEASE", "../rollback.yaml")
    assert cases_pass(folder / "inspect", [0]) == [True]


def test_the_data_set_of_langfuse_is_what_its_interface_takes(folder: Path) -> None:
    """Fields of the requests that create a data set and its items, langfuse 5.0.4; ids are short, and once in a project."""
    told = json.loads((folder / "langfuse" / "dataset.json").read_text())
    assert set(told) == {"name", "description", "metadata", "items"}
    fields = {"datasetName", "id", "input", "expectedOutput", "metadata", "status"}
    assert all(set(item) == fields and item["datasetName"] == told["name"] for item in told["items"])
    assert len({item["id"] for item in told["items"]}) == len(told["items"]) and all(len(i["id"]) <= 255 for i in told["items"])
    asked = [item["input"]["number"] for item in told["items"] if item["metadata"]["kind"] == "broken"]
    assert asked and all(number % 4 == 0 for number in asked)
    assert all(item["expectedOutput"] == f"yes {item['input']['number']}" for item in told["items"])
    assert all("reference" not in item["input"] for item in told["items"])


def test_a_folder_with_something_in_it_is_left_alone(folder: Path) -> None:
    asked = ["--store", str(folder / ".bisect-ai"), "--config", str(folder / "bisect.yaml"), "--regression-suite", "pytest"]
    done = CliRunner().invoke(main, ["report", run_of(folder), *asked, "--suite", str(folder)])
    assert done.exit_code == 2 and "it is no empty folder" in done.output
