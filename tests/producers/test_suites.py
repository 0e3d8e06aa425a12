"""Regression suites in the tools they are for, newest versions: they fail on bad, and pass on good and on the rollback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.producers.test_producers import QUIET, python_tool
from tests.unit.test_regression_suite import folder, kinds

__all__ = ["folder"]
pytestmark = pytest.mark.producers
RELEASES = [("bad.yaml", False), ("good.yaml", True), ("rollback.yaml", True)]


def shared(python: Path) -> None:
    """Lets an environment see this one's packages too, after its own."""
    (found,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (found / "zz_tested.pth").write_text("".join(f"{place}\n" for place in sys.path if place))


def asked(folder: Path, tool: str, release: str, *command: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **QUIET, "BISECT_RELEASE": str(folder / release), "LANGFUSE_TRACING_ENABLED": "false"}
    environment |= {"LANGFUSE_PUBLIC_KEY": "none", "LANGFUSE_SECRET_KEY": "none", "LANGFUSE_HOST": "http://127.0.0.1:9"}
    place = folder / tool
    return subprocess.run(
        list(map(str, command)), cwd=place, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def test_inspect(folder: Path, tmp_path: Path) -> None:
    python = python_tool(tmp_path, "inspect-ai")
    shared(python)
    read = "import json, sys; from inspect_ai.log import read_eval_log as read; log = read(sys.argv[1])\n"
    read += "print(json.dumps([[s.metadata['kind'], s.scores['match'].value] for s in log.samples]))"
    for release, good in RELEASES:
        logs = tmp_path / release
        command = (
            "-m",
            "inspect_ai",
            "eval",
            "inspect_regression.py",
            "--model",
            "none",
            "--display",
            "none",
            "--log-dir",
            logs,
        )
        done = asked(folder, "inspect", release, python, *command)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        told = asked(folder, "inspect", release, python, "-c", read, next(logs.glob("*.eval")))
        expected = Counter((kind, "C" if good or kind == "control" else "I") for kind in kinds(folder, "inspect"))
        assert Counter(map(tuple, json.loads(told.stdout.splitlines()[-1]))) == expected


def test_langfuse(folder: Path, tmp_path: Path) -> None:
    python = python_tool(tmp_path, "langfuse")
    shared(python)
    broken = kinds(folder, "langfuse").count("broken")
    cases = len(kinds(folder, "langfuse"))
    for release, good in RELEASES:
        done = asked(folder, "langfuse", release, python, "langfuse_regression.py", "--local")
        assert f"{cases if good else cases - broken} of {cases} cases passed" in done.stdout, done.stderr[-2000:]
        assert done.returncode == (0 if good else 1)
    valid = "import json; from langfuse.api.core.serialization import convert_and_respect_annotation_metadata as read\n"
    valid += "from langfuse.api.dataset_items.types import CreateDatasetItemRequest as Item\n"
    valid += "items = json.load(open('dataset.json'))['items']\n"
    valid += "told = [Item(**read(object_=item, annotation=Item, direction='read')) for item in items]\n"
    valid += "assert all(not item.model_extra for item in told)"
    done = asked(folder, "langfuse", "bad.yaml", python, "-c", valid)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_promptfoo(folder: Path, tmp_path: Path) -> None:
    install = ["npm", "install", "--no-audit", "--no-fund", "promptfoo"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False).returncode:
        pytest.skip("cannot install promptfoo")
    program = tmp_path / "node_modules" / ".bin" / "promptfoo"
    for release, good in RELEASES:
        out = tmp_path / f"{release}.json"
        python = f"PROMPTFOO_PYTHON={sys.executable}"
        done = asked(folder, "promptfoo", release, "env", python, program, "eval", "--no-cache", "--no-write", "-o", out)
        assert done.returncode == (0 if good else 100), done.stdout[-2000:] + done.stderr[-2000:]
        passed = [row["success"] for row in json.loads(out.read_text())["results"]["results"]]
        assert sum(passed) == len(passed) - (0 if good else kinds(folder, "promptfoo").count("broken"))
