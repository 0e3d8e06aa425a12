"""A purged query leaves no byte of its text, its costs stay, and a purge that is cut short can be finished (FAULTS E3, A17)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.canonical import digest
from bisect_ai.cli import main
from bisect_ai.cli.looking import checked, runs_of
from bisect_ai.errors import StoreError
from bisect_ai.provider.usage import Usage
from bisect_ai.store import purge
from bisect_ai.store.purge import purge_query
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer, ToolCall
from tests.faults.loops import RUN

SETTINGS = {"good": {"name": "a"}, "bad": {"name": "b"}, "metric": "m"}
SECRET = "Frieda Müller, IBAN DE02 1203"
REPORT = {
    "verdict": {"kind": "cause", "sentence": "the prompt"},
    "examples": [
        {"query": "q-frieda", "input": f"I am {SECRET}", "good": {"text": f"Hello {SECRET}"}, "bad": {"text": "no"}},
        {"query": "q-other", "input": "Where is it?", "good": {"text": "here"}, "bad": {"text": "there"}},
    ],
    "warnings": [f"scorer s failed, first with: cannot read 'Hello {SECRET}'", "2 trials failed"],
}


def trial(query: str, repeat: int, text: str, run: str = RUN) -> Kept:
    tool = ToolCall("lookup", {"name": text}, {"found": text}, None)
    return Kept(
        digest([query, repeat]), run, query, ("prompt",), repeat, Answer(text, (tool,), (text,), usage=Usage(5, 5, 0.5))
    )


def a_store(path: Path) -> Path:
    with Store(path) as store:
        store.begin(RUN, SETTINGS)
        trials = [
            trial("q-frieda", 0, f"Hello {SECRET}"),
            trial("q-other", 0, "Hello you"),
            trial("q-frieda", 1, f"Bye {SECRET}"),
        ]
        for each in trials:
            store.reserve(RUN, each.identity, usd=1.0)
        store.keep(RUN, trials, [Scored(t.identity, "s", None, f"cannot read {SECRET}") for t in trials[::2]])
        store.keep(RUN, [], [Scored(trials[0].identity, "late", None, f"late: {SECRET}")])
        store.finish(RUN, {"seconds": 1.0, "report": REPORT})
    with Store(path) as store:
        store.begin("f" * 16, SETTINGS)
        store.keep("f" * 16, [trial("q-other", 2, "Hello again", "f" * 16)], [])
    return path


def hits(path: Path) -> list[str]:
    needles = [text.encode(code) for text in ("Frieda", "DE02 1203", "frieda") for code in ("utf-8", "utf-16-le")]
    return [str(p) for p in path.rglob("*") if p.is_file() and any(n in p.read_bytes() for n in needles)]


def test_no_byte_of_it_is_left_and_the_costs_are(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    before = runs_of(path).plain
    (path / "index.duckdb.damaged-20260101T000000Z").write_text(SECRET)
    assert hits(path)
    done = CliRunner().invoke(main, ["runs", "--store", str(path), "--purge-query", "q-frieda"])
    assert done.exit_code == 0
    assert "removed 2 answers, 3 scores, 1 examples and 1 warnings" in done.stdout
    assert "no byte of its id or its texts is left" in done.stdout
    assert hits(path) == []
    assert runs_of(path).plain == before
    assert hits(path) == []
    assert checked(path).wrong is None
    with Store(path) as store:
        assert store.answer(digest(["q-frieda", 0])) is None
        assert store.answer(digest(["q-other", 0])) == trial("q-other", 0, "Hello you")
        assert store.score(digest(["q-frieda", 0]), "late") is None
        report = store.report(RUN)
        assert report is not None
        assert [e["query"] for e in report["examples"]] == ["q-other"]
        assert report["warnings"] == ["2 trials failed"]
        assert store.spending(RUN).unsettled.calls == 0
        assert (store.spending(RUN).calls, store.spending(RUN).usd) == (3, 1.5)


def test_purging_again_finds_nothing_and_changes_nothing(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    purge_query(path, "q-frieda")
    before = {p.name: p.read_bytes() for p in (path / "journal").iterdir()}
    done = CliRunner().invoke(main, ["runs", "--store", str(path), "--purge-query", "q-frieda"])
    assert "nothing of it was in the store" in done.stdout
    assert {p.name: p.read_bytes() for p in (path / "journal").iterdir()} == before


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_purge_that_is_cut_short_leaves_a_whole_store_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    path, steps = a_store(tmp_path / "store"), 0

    def step(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        for name in ("_new_file", "sync_folder", "_sought_identities", "_copy_without"):
            original = getattr(purge, name)
            patched.setattr(purge, name, lambda *a, original=original: (step(), original(*a))[1])
        try:
            purge_query(path, "q-frieda")
        except KeyboardInterrupt:
            assert checked(path).wrong is None
            assert {row["calls"] for row in runs_of(path).plain} == {3, 1}
    purge_query(path, "q-frieda")
    assert hits(path) == []
    assert checked(path).wrong is None


def test_a_store_that_is_open_is_not_rewritten(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    with Store(path), pytest.raises(StoreError, match="another process has it open"):
        purge_query(path, "q-frieda")
    purge_query(path, "q-frieda")


def test_damaged_lines_do_not_keep_the_text(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    segment = next((path / "journal").glob(f"{RUN}-*"))
    segment.write_bytes(segment.read_bytes().replace(b"Bye Frieda", b"Bye_Frieda"))
    done = purge_query(path, "q-frieda")
    assert done.trials == 1
    assert hits(path) == []
    assert "1 records lost" in str(checked(path).wrong)


def test_a_store_of_the_first_format_is_purged_and_then_needs_this_version(tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(Path(__file__).parents[2] / "fixtures" / "stores" / "journal-1", path)
    done = purge_query(path, "q3")
    assert (done.trials, done.scores, done.examples) == (1, 1, 1)
    assert not any(b'"q3"' in p.read_bytes() for p in path.rglob("*") if p.is_file())
    first = next((path / "journal").glob("5f*")).read_bytes().splitlines()[0]
    assert json.loads(first.split(b" ", 3)[3])["schema"] == "bisect-ai/journal@2"
    with Store(path) as store:
        assert store.spending("5f0c1a2b3c4d5e6f").calls == 8
        assert store.damage.lost == {}


def answer(query: bisect_ai.Query, release: object) -> str:
    return f"to {query.id}"


def test_a_purged_query_is_asked_again_if_it_is_still_in_the_log(tmp_path: Path) -> None:
    def run() -> int:
        result = bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": "b"},
            queries=[{"id": f"q{i}", "input": "?", "reference": "x"} for i in range(20)],
            target=answer,
            scorers=[{"kind": "length", "name": "length"}],
            design="full",
            store=tmp_path / "store",
        )
        return result.usage.calls

    assert run() == 40
    assert purge_query(tmp_path / "store", "q7").trials == 2
    assert run() == 2
