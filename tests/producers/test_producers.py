"""The real tools, newest versions, each run on a stand-in for its model: what they write today is read, compared, and made releases of.

`pytest -m producers` installs each into a folder of its own (pip, npm), so it needs the network and minutes; nothing is pinned, for its
purpose is to notice the day a format moves. `-s` shows the versions that passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.queries.result_files import read_results
from bisect_ai.queries.sample import LogSettings

pytestmark = pytest.mark.producers
QUESTIONS = 12
QUIET = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "NO_COLOR": "1",
}

INSPECT = """\
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message
for name, wrong in (("good", 0), ("bad", 6)):
    outputs = [ModelOutput.from_content("mockllm/model", "no" if i < wrong else "yes") for i in range(12)]
    for each in outputs:  # else Inspect fetches a tokenizer to count them
        each.usage = ModelUsage(input_tokens=9, output_tokens=1, total_tokens=10)
    data = MemoryDataset([Sample(id=f"q{i}", input=f"Question {i}?", target="yes", metadata={"part": i % 2}) for i in range(12)])
    task = Task(name="desk", dataset=data, solver=[system_message(f"Be {name}."), generate()], scorer=match())
    eval(task, model=get_model("mockllm/model", custom_outputs=outputs), log_dir=name, max_connections=1, max_samples=1, display="none")
"""
DEEPEVAL = """\
from deepeval import evaluate
from deepeval.evaluate import AsyncConfig, CacheConfig, DisplayConfig
from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase
import pathlib, shutil

class Same(BaseMetric):
    threshold, async_mode = 0.5, False
    def measure(self, case, *args, **options):
        self.score = float(case.actual_output == case.expected_output); self.reason = "compared"; self.success = self.score >= 0.5
        return self.score
    async def a_measure(self, case, *args, **options):
        return self.measure(case)
    def is_successful(self):
        return self.success
    @property
    def __name__(self):
        return "Same"

for name, wrong in (("good", 0), ("bad", 6)):
    cases = [LLMTestCase(input=f"Question {i}?", actual_output="no" if i < wrong else "yes", expected_output="yes") for i in range(12)]
    shown = DisplayConfig(show_indicator=False, print_results=False)
    one, kept = AsyncConfig(run_async=False), CacheConfig(write_cache=True)
    evaluate(cases, [Same()], async_config=one, display_config=shown, cache_config=kept)
    found = sorted(pathlib.Path(".deepeval").glob("*latest_test_run*.json")) or sorted(pathlib.Path(".deepeval").glob("*.json"))
    shutil.copy(found[0], f"{name}.json")
"""
PROMPTFOO = {
    "prompts": [{"label": "v1", "raw": "yes"}, {"label": "v2", "raw": "{{answer}}"}],
    "providers": ["echo"],
    "tests": [
        {
            "vars": {"question": f"Question {i}?", "answer": "no" if i < 6 else "yes"},
            "assert": [{"type": "equals", "value": "yes"}],
        }
        for i in range(QUESTIONS)
    ],
}


def python_tool(folder: Path, *packages: str) -> Path:
    """The Python of a fresh environment with the newest versions of the packages; skips where they cannot be installed.

    By `uv` where there is one: pip takes minutes for what uv installs in seconds.
    """
    uv, python = shutil.which("uv"), folder / "venv" / "bin" / "python"
    venv.create(folder / "venv", with_pip=uv is None)
    tool = [uv, "pip", "install", "-p", python] if uv else [python, "-m", "pip", "install"]
    done = subprocess.run([*tool, "-q", *packages], capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"cannot install {packages[0]}: {done.stderr.strip().splitlines()[-1:]}")
    for name in (package.partition("[")[0] for package in packages):
        asked = f"import importlib.metadata as m; print({name!r}, m.version({name!r}))"
        subprocess.run([python, "-c", asked], check=True)
    return python


def ran(folder: Path, *command: object) -> None:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode in (0, 100), done.stdout[-3000:] + done.stderr[-3000:]  # promptfoo ends with 100 when a test failed


def loses_half(*files: Path, metric: str | None = None) -> None:
    """Every question is read and paired, and half of them are seen to break."""
    report = bisect_ai.compare(*files, metric=metric, tolerance=0.1).report
    pair = report["compare"]["pairs"][0]
    assert (report["loss"]["n"], pair["lost"], pair["gained"]) == (QUESTIONS, 6, 0)
    assert report["loss"]["estimate"] == 0.5 and report["verdict"]["kind"] == "regression"


def test_inspect(tmp_path: Path) -> None:
    python = python_tool(tmp_path, "inspect-ai")
    (tmp_path / "make.py").write_text(INSPECT)
    ran(tmp_path, python, "make.py")
    good, bad = (next((tmp_path / side).glob("*.eval")) for side in ("good", "bad"))
    loses_half(good, bad)
    found = read_results([good, bad], settings=LogSettings(sample=None))
    assert [c.settings["system prompt"].split(" (")[0] for c in found.configurations] == ["Be good.", "Be bad."]
    made = CliRunner().invoke(main, ["init", "--from", str(good), "--from", str(bad), str(tmp_path / "made")])
    assert made.exit_code == 0 and "they differ in: prompt" in made.output, made.output


def test_deepeval(tmp_path: Path) -> None:
    python = python_tool(tmp_path, "deepeval")
    (tmp_path / "make.py").write_text(DEEPEVAL)
    ran(tmp_path, python, "make.py")
    loses_half(tmp_path / "good.json", tmp_path / "bad.json")


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_promptfoo(tmp_path: Path) -> None:
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "promptfoo"], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        pytest.skip(f"cannot install promptfoo: {done.stderr.strip().splitlines()[-1:]}")
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(PROMPTFOO))
    command = [
        tmp_path / "node_modules" / ".bin" / "promptfoo",
        "eval",
        "-c",
        "promptfooconfig.json",
        "--no-cache",
        "-o",
        "results.json",
    ]
    ran(tmp_path, *command)
    print("promptfoo", json.loads((tmp_path / "results.json").read_text())["metadata"]["promptfooVersion"])
    loses_half(tmp_path / "results.json")
    for source in ("results.json", "promptfooconfig.json"):
        made = CliRunner().invoke(main, ["init", "--from", str(tmp_path / source), str(tmp_path / f"from-{source}")])
        assert made.exit_code == 0 and f"{QUESTIONS} questions; scored by equals" in made.output, made.output
