"""The notebooks run without an error, and are committed with outputs that name no path of a machine.

After a change on purpose: BISECT_UPDATE_NOTEBOOKS=1 pytest tests/docs/test_notebooks.py, then read them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    target = path if os.environ.get("BISECT_UPDATE_NOTEBOOKS") else tmp_path / path.name
    settings = {**os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    script = Path(__file__).with_name("execute_notebook.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path), str(target)], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = _code(nbformat.read(target, as_version=4))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_committed_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    shown = [out for cell in _code(notebook) for out in cell["outputs"]]
    assert any("image/png" in out.get("data", {}) for out in shown)
    for cell in _code(notebook):
        drawn = [out for out in cell["outputs"] if "image/png" in out.get("data", {})]
        assert drawn or ".plot_" not in cell["source"], cell["source"]
    assert any("text/html" in out.get("data", {}) for out in shown)
    assert not [out for out in shown if out["output_type"] == "error" or out.get("name") == "stderr"]
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(work|root|home|tmp|var|Users)/\w", text)
    assert not re.search(r"<script|javascript:", text)
    assert path.stat().st_size < 700_000


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["another_tools_table", "incident", "statistics"]


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
