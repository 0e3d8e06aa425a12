"""The page as bytes: the same for the same report on any machine, written where it is told, and safe without its style."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.report import html
from bisect_ai.store.trial_store import Store
from tests.faults.test_output_injection import REPORTS, load


def test_the_same_report_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    code = (
        "import json, sys; from bisect_ai.report import html, junit, markdown\n"
        "report = json.load(open(sys.argv[1]))\n"
        "sys.stdout.write(html.render(report) + junit.render(report) + markdown.render(report))"
    )
    path = str(REPORTS / "cause_together.json")
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code, path],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    )
    assert first == second
    assert len(first) > 50_000


def test_the_policy_allows_nothing_but_the_style_of_the_page() -> None:
    page = html.render(load("no_regression"), pictures=html.sketch_all)
    (style,) = re.findall(r"(?s)<style>(.*?)</style>", page)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert "url(" not in style
    assert "@import" not in style


def test_a_report_without_the_optional_fields_renders() -> None:
    bare = {"metric": "correct", "verdict": {"kind": "inconclusive", "calls_needed": None}, "loss": None}
    page = html.render(bare)
    assert "no number of calls can be named that would settle it" in page
    assert 'id="cause"' not in page and "not estimated" not in page.partition('id="folds"')[0]
    for nothing in ("Half-normal", "Interactions", "Segments", "Examples", "Side metrics"):  # a section of nothing is not shown
        assert nothing not in page


@pytest.mark.parametrize("option", ["--html", "--junit", "--markdown", "--json"])
def test_the_report_command_writes_every_format(option: str, tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.begin("abc", {"axes": [], "scorers": {}, "metric": "correct"})
        store.finish("abc", {"report": load("cause_together")})
    target = tmp_path / "report"
    done = CliRunner().invoke(main, ["report", "abc", "--store", str(tmp_path), option, str(target)])
    assert done.exit_code == 0, done.output
    starts = {"--html": "<!doctype html>", "--junit": "<?xml", "--markdown": "## ", "--json": "{"}
    assert target.read_text(encoding="utf-8").startswith(starts[option])
    assert done.output.startswith("prompt and tools together cause the drop")
    printed = CliRunner().invoke(main, ["report", "abc", "--store", str(tmp_path), option, "-"]).output
    assert printed == target.read_text(encoding="utf-8")


def test_a_gate_that_measured_nothing_shows_no_empty_numbers() -> None:
    gate = {"outcome": "failed", "base": "main", "head": "HEAD", "config": "bisect.yaml", "reason": "calls failed"}
    told = {"metric": "", "gate": gate, "verdict": {"kind": "failed"}, "usage": {"calls": 27, "errors": 27}}
    page = html.render(told)
    assert "27 calls" in page and "good release" not in page and "<h2>Cause</h2>" not in page and "run ." not in page


def test_a_drift_tells_its_own_loss_first() -> None:
    page = html.render(load("drift"))
    assert page.index("Lost since the log") < page.index("Loss between the releases")
