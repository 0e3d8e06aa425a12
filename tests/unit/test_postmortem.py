"""`report --postmortem`: filled from a stored run and its files, honest about what is gone, the same bytes each time."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.facts.postmortem_facts import gather
from bisect_ai.report import postmortem

PLANTED = Path(__file__).parents[2] / "fixtures" / "planted"
GOLDEN = Path(__file__).parents[1] / "golden" / "reports"


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("planted") / "incident"
    shutil.copytree(PLANTED / "single_axis", folder)
    shutil.copy(PLANTED / "app.py", folder)
    done = CliRunner().invoke(main, ["run", str(folder / "bisect.yaml"), "--json", str(folder / "r.json")])
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "r.json").read_text())["run"]


def told(solved: tuple[Path, str], *more: str) -> Any:
    folder, run = solved
    return CliRunner().invoke(main, ["report", run, "--store", str(folder / ".bisect-ai"), "--postmortem", *more])


def test_every_part_is_filled_and_what_nobody_recorded_is_listed(solved: tuple[Path, str]) -> None:
    done = told(solved)
    assert done.exit_code == 0, done.output
    titles = re.findall(r"^## (.*)$", done.stdout, re.M)
    assert titles == [
        *("Summary", "Impact: which queries were hit", "Timeline", "Cause", "Prompt", "Model", "Documents", "Tools"),
        *("How answers were scored", "Traffic", "Rollback and fix", "What is unknown"),
    ]
    assert "`prompt` alone causes the drop" in done.stdout
    assert "The bad release answered 140 queries of the log." in done.stdout
    assert "parcel-1-2026-10-01" in done.stdout
    assert "Recommended: take back `prompt` (owner prompt team): measured" in done.stdout
    assert "By `topic`" in done.stdout
    assert done.stdout.rstrip().endswith("what was told to those who were hit")


def test_it_is_the_same_each_time_and_calls_nothing(solved: tuple[Path, str]) -> None:
    before = sorted(p.stat().st_size for p in (solved[0] / ".bisect-ai" / "journal").iterdir())
    assert told(solved).stdout == told(solved).stdout
    assert sorted(p.stat().st_size for p in (solved[0] / ".bisect-ai" / "journal").iterdir()) == before


def test_the_blast_radius_is_near_the_truth_and_exported(solved: tuple[Path, str]) -> None:
    folder, run = solved
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    bad = [r for r in records if r["release"] == "2026-11-20"]
    truth = {r["id"] for r in bad if r["several_orders"] and r["order"] % 10 < 9}
    found = gather(run, store=folder / ".bisect-ai", config=folder / "bisect.yaml")
    low, high = found.facts.blast.interval
    assert low <= len(truth) <= high
    likely = {row.id for row in found.hits if row.probability >= 0.5}
    assert len(likely & truth) >= 0.9 * len(truth)
    # As many as the chances say: the run ends when its cause is proved, with some 20 queries of the window replayed.
    chances = [1 - row.probability for row in found.hits if row.id in likely]
    spread = math.sqrt(sum(p * (1 - p) for p in chances))
    assert len(likely - truth) <= min(sum(chances) + spread, 0.25 * len(likely))
    for name in ("hits.csv", "hits.jsonl"):
        done = CliRunner().invoke(
            main, ["report", run, "--store", str(folder / ".bisect-ai"), "--blast-radius", str(folder / name)]
        )
        assert (done.exit_code, done.stdout) == (0, "")
    rows = list(csv.DictReader((folder / "hits.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (folder / "hits.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rows] == [r["id"] for r in lines] == [r.id for r in found.hits]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--log", "/nowhere/log.jsonl"), "the log could not be read"),
        (("--config", "/nowhere/bisect.yaml"), "was not found, so releases and log could not be read"),
    ],
)
def test_what_moved_is_said(solved: tuple[Path, str], more: tuple[str, str], says: str) -> None:
    done = told(solved, *more)
    assert done.exit_code == 0, done.output
    assert says in done.stdout
    assert "Only replayed ones are told" in done.stdout
    assert "is not known" in done.stdout


def test_a_release_that_changed_since_is_not_told_as_it_is_now(solved: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(solved[0], folder)
    path = folder / "releases" / "bad.yaml"
    path.write_text(path.read_text().replace("parcel-1-2026-10-01", "parcel-9"))
    done = told((folder, solved[1]))
    assert "the bad release on disk is not the one that the run compared" in done.stdout
    assert "parcel-9" not in done.stdout


def test_an_interrupted_run_has_no_post_mortem(solved: tuple[Path, str], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", "none", "--store", str(tmp_path), "--postmortem"])
    assert done.exit_code == 2


def test_secrets_do_not_leak(solved: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARCEL_API_KEY", "prompt team")
    assert "prompt team" not in told(solved).stdout


def facts(**more: Any) -> dict[str, Any]:
    hostile = "<b>x</b> | [a](http://x) `y`\n# z\x1b[31m"
    return {
        "timeline": [{"at": "2026-11-20T10:00:00Z", "what": "prompt changed by " + hostile, "of": hostile}],
        "windows": {},
        "releases": {side: {"name": hostile, "digest": "0" * 64, "axes": {"prompt": "1" * 64}} for side in ("good", "bad")},
        "model": {
            "requested": {"good": {"model": hostile}, "bad": None},
            "returned": {"good": [{"model": hostile, "fingerprint": hostile, "n": 3}], "bad": []},
        },
        "scorers": [{"name": hostile, "digest": "2" * 64, "decides": True, "settings": {"kind": hostile}}],
        "traffic": {
            "column": hostile,
            "good_queries": 10,
            "bad_queries": 12,
            "segments": [{"segment": hostile, "good": 0.5, "bad": 0.75}],
        },
        "blast": {
            "window": "bad", "queries": 12, "replayed": 6, "measured_hits": 3, "expected_measured": 2.8, "others": 6,
            "expected_others": 2.4, "expected": 5.2, "interval": [3.8, 7.8], "learnt_from": 6, "logged_scores": False,
            "told_apart_by": ["what they touch"], "method": "made up",
        },
        "verifications": [{"at": None, "run": hostile, "fix": hostile, "kind": "fixed", "sentence": hostile}],
        "unknown": [hostile],
        **more,
    }  # fmt: skip


HITS = [{"id": "<script>|`x`\n", "probability": 0.9, "basis": "measured", "why": "[a](http://x)"}]


@pytest.mark.parametrize("name", ["cause_drilled", "inconclusive_hostile"])
def test_page_is_as_read(name: str) -> None:
    report = json.loads((GOLDEN / f"{name}.json").read_text())
    rendered = postmortem.render(report, facts(), HITS)
    path = GOLDEN / f"{name}.postmortem.md"
    if os.environ.get("BISECT_UPDATE_GOLDEN"):
        path.write_text(rendered)
    assert rendered == path.read_text()


def test_hostile_text_starts_no_line_and_is_no_markup() -> None:
    report = json.loads((GOLDEN / "inconclusive_hostile.json").read_text())
    rendered = postmortem.render(report, facts(), HITS)
    assert "\x1b" not in rendered
    outside = re.sub(r"(?s)```+.*?```+|(`+).*?\1", "", rendered)
    assert not re.search(r"(?<!\\)<[a-z/]|(?<!\\)\]\(", outside)
    assert all(line == line.lstrip() or line.startswith("  ") for line in rendered.splitlines())
    assert [line for line in rendered.splitlines() if line.startswith("# ")] == [rendered.splitlines()[0]]
