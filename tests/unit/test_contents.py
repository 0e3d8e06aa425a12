"""Opening a store by the contents of its segments gives what reading every line gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.canonical import digest
from bisect_ai.cli.looking import checked, runs_of
from bisect_ai.provider.usage import Usage
from bisect_ai.store import record_lines
from bisect_ai.store.purge import purge_query
from bisect_ai.store.recovery import Reader
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer

RUN, OTHER = "0123456789abcdef", "fedcba9876543210"
SETTINGS = {"good": {"name": "a"}, "bad": {"name": "b"}, "metric": "m"}


def identity(i: int) -> str:
    return digest(["trial", i])


def kept(i: int, run: str = RUN) -> Kept:
    answer = Answer(
        text=f"answer {i}", usage=Usage(i, 1, None if i % 5 == 0 else 0.1 * i), error="Timeout" if i % 7 == 3 else None
    )
    return Kept(identity(i), run, f"q{i}", ("prompt",), 0, answer, "cannot run" if i == 6 else None, calls=int(i % 14 != 3))


def scored(i: int) -> list[Scored]:
    value, error = (None, "no number") if i % 4 == 1 else (None, None) if i % 4 == 2 else (i / 3, None)
    return [Scored(identity(i), "s", value, error), Scored(identity(i), "t", float(i))]


@pytest.fixture(params=[4, record_lines.MOST], ids=["in pieces", "in one"])
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    monkeypatch.setattr(record_lines, "FEWEST", 1)
    monkeypatch.setattr(record_lines, "MOST", request.param)
    with Store(tmp_path / "store") as store:
        store.begin(RUN, SETTINGS)
        for i in range(30):
            store.reserve(RUN, identity(i), usd=1.0, tokens=5)
            if i != 29:
                store.keep(RUN, [kept(i)], scored(i) if i % 7 != 3 else [])
        store.begin(OTHER, {**SETTINGS, "seed": 1})
        store.keep(OTHER, [kept(40, OTHER)], [])
        store.keep(OTHER, [], [Scored(identity(0), "late", 0.5)])
        store.charge(OTHER, "judge", usd=0.25, tokens=9)
        store.finish(RUN, {"seconds": 2.0, "report": {"verdict": {"kind": "cause", "sentence": "s"}}})
    return tmp_path / "store"


def held(path: Path) -> dict[str, Any]:
    with Store(path) as store:
        names = [identity(i) for i in range(45)]
        return {
            "answers": [store.answer(name) for name in names],
            "scores": [store.score(name, scorer) for name in names for scorer in ("s", "t", "late")],
            "spending": [store.spending(run) for run in (RUN, OTHER)],
            "runs": store.runs,
            "reports": [store.report(run) for run in (RUN, OTHER)],
            "damage": store.damage,
        }


def test_the_same_by_contents_and_line_by_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_contents = held(path)
    reads = []
    original = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self: (reads.append(1), original(self))[1])
    assert held(path) == by_contents
    assert reads == []
    monkeypatch.setattr(Reader, "by_contents", lambda self: iter(()))
    assert held(path) == by_contents
    assert reads
    assert by_contents["answers"][0] == kept(0)
    assert by_contents["spending"][0].killed.calls == 1


def test_a_score_that_does_not_apply_is_in_the_columns(path: Path) -> None:
    """Or else a run with such a scorer is read line by line."""
    (segment,) = (path / "journal").glob("*.journal")
    records = [record_lines.decode(line) for line in segment.read_bytes().splitlines(keepends=True)]
    pieces = [record_lines.Contents.from_payload(each[2]) for each in records if each and each[1]["type"] == "contents"]
    listed = {each.key(row).hex(): value for each in pieces for row, value in zip(*each.scores["s"], strict=True)}
    assert math.isnan(listed[identity(2)]) and listed[identity(4)] == 4 / 3
    assert identity(1) not in listed  # why there is none stands in its line


def test_what_was_held_back_is_no_failed_call(path: Path) -> None:
    """Of 29 trials 4 failed: of two of them nothing left."""
    spent = held(path)["spending"][0]
    assert (spent.trials, spent.calls, spent.errors, spent.held) == (29, 27, 2, 2)
    listed = next(row for row in runs_of(path).plain if row["run"] == RUN)
    assert (listed["calls"], listed["errors"]) == (27, 2)


def test_whatever_is_wrong_with_them_every_line_is_read(path: Path) -> None:
    expected = held(path)
    segment = next((path / "journal").glob("*.journal"))
    whole = segment.read_bytes()
    start = whole.rindex(b"\n", 0, whole.index(b'"type":"contents"')) + 1
    for place in (*range(start, len(whole), 5), len(whole) - 1):
        segment.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = held(path)
        assert found.pop("damage").lost, place
        assert found == {k: v for k, v in expected.items() if k != "damage"}


def test_a_damaged_line_they_stand_for_is_no_answer(path: Path) -> None:
    segment = next((path / "journal").glob("*.journal"))
    segment.write_bytes(segment.read_bytes().replace(b"answer 8", b"answer x"))
    with Store(path) as store:
        assert store.answer(identity(8)) is None
        assert not store.answered(identity(8))
        assert store.answer(identity(7)) == kept(7)
    assert "1 records lost" in str(checked(path).wrong)


def test_a_short_segment_has_none_and_a_purged_one_neither(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = runs_of(path).plain
    assert purge_query(path, "q7").trials == 1
    (segment,) = (path / "journal").glob("*.journal")
    assert b'"contents"' not in segment.read_bytes()
    assert runs_of(path).plain == rows
    assert checked(path).wrong is None
    with Store(path) as store:
        assert store.answer(identity(7)) is None
        assert store.answer(identity(8)) == kept(8)
    monkeypatch.setattr(record_lines, "FEWEST", 1000)
    with Store(path) as store:
        store.keep(RUN, [kept(50)], [])
    assert not any(b'"contents"' in p.read_bytes() for p in (path / "journal").glob("*.journal"))
