"""A store written by any earlier release opens, with every trial, score, run and report that it held."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.cli.looking import runs_of
from bisect_ai.facts.saved_runs import read_run
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer

STORES = Path(__file__).parents[2] / "fixtures" / "stores"
FORMATS = sorted(path.name for path in STORES.iterdir() if path.is_dir() and path.name.startswith("journal-"))


def held(name: str) -> dict[str, Any]:
    return json.loads((STORES / f"{name}.json").read_text(encoding="ascii"))


def kept(r: dict[str, Any]) -> Kept:
    answer = Answer.from_dict(r["answer"])
    return Kept(r["trial"], r["run"], r["query"], tuple(r["bad_axes"]), r["repeat"], answer, r["infeasible"])


@pytest.fixture(params=FORMATS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / "store"
    shutil.copytree(STORES / request.param, folder)
    return folder, held(request.param)


def test_the_first_format_is_among_them() -> None:
    assert FORMATS[0] == "journal-1"


def test_every_trial_and_score_is_there(old: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = old
    answered = [kept(r) for r in expected["trials"] if r["answer"]["error"] is None]
    with Store(folder) as store:
        assert len(answered) == 11
        assert [store.answer(k.identity) for k in answered] == answered
        for r in expected["scores"]:
            assert store.score(r["trial"], r["scorer"]) == Scored(r["trial"], r["scorer"], r["value"], r["error"])
        assert {run: kept["settings"] for run, kept in store.runs.items()} == expected["runs"]
        assert (sum(store.damage.lost.values()), len(store.damage.torn)) == (0, 1)


def test_an_error_of_then_still_answers_nothing(old: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = old
    failed = [r["trial"] for r in expected["trials"] if r["answer"]["error"] is not None]
    with Store(folder) as store:
        assert [store.answer(identity) for identity in failed] == [None]


def test_its_report_and_its_list_of_runs_are_read(old: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = old
    assert read_run(folder, "5f0c").report == expected["report"]
    said = runs_of(folder)
    lines = said.lines
    assert said.notices == ()
    assert [r["calls"] for r in said.plain] == [8, 4]
    assert len(lines) == 2
    assert "prompt alone causes the drop" in lines[0]
    assert "interrupted" in lines[1]


def test_reading_it_changes_nothing(old: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = old
    before = {p.name: p.read_bytes() for p in (folder / "journal").iterdir()}
    with Store(folder):
        pass
    assert {p.name: p.read_bytes() for p in (folder / "journal").iterdir() if p.name in before} == before
