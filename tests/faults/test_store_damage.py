"""Bit rot and cut files: nothing is silently different, little is lost, and what is lost is counted (FAULTS A5, R4)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisect_ai.cli.looking import checked, runs_of
from bisect_ai.errors import StoreError
from bisect_ai.provider.usage import Usage
from bisect_ai.store.journal import JournalSegment, open_folder
from bisect_ai.store.record_lines import decode, encode
from bisect_ai.store.recovery import Damage, Folder
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer

RUN = "0123456789abcdef"


def a_store(path: Path, n: int = 3) -> Path:
    """A closed store of one segment; gives that segment."""
    with Store(path) as store:
        store.begin(RUN, {"metric": "m"})
        for i in range(n):
            store.reserve(RUN, f"{i:064x}", usd=0.5, tokens=9)
            answer = Answer(text=f"answer {i}", usage=Usage(1, 2, 0.25))
            store.keep(RUN, [Kept(f"{i:064x}", RUN, f"q{i}", ("a",), 0, answer)], [Scored(f"{i:064x}", "s", float(i))])
    (segment,) = (path / "journal").glob("*.journal")
    return segment


Read = tuple[list[tuple[dict[str, Any], bytes]], Damage]


def read(folder: Path) -> Read:
    journal = Folder(folder)
    return [(head, payload) for _, (_, head, payload) in journal.read()], journal.damage()


def assert_told(good: Read, found: Read, place: int) -> None:
    """Every record that was read is one that was written, at most two are missing, and then damage is reported."""
    assert all(record in good[0] for record in found[0]), place
    assert len(found[0]) >= len(good[0]) - 2, place
    assert found == good or sum(found[1].lost.values()) > 0 or found[1].torn, place


@pytest.mark.parametrize("bit", [0, 3, 5])
def test_every_flipped_byte_is_told(tmp_path: Path, bit: int) -> None:
    path = a_store(tmp_path / "store")
    whole, good = path.read_bytes(), read(path.parent)
    assert good[1] == Damage()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        assert_told(good, read(path.parent), place)


def test_every_truncation_of_a_closed_segment_is_told(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    whole, good = path.read_bytes(), read(path.parent)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        found, damage = read(path.parent)
        assert found == good[0][: len(found)]
        assert len(found) == whole[:size].count(b"\n")
        assert damage.lost[path.name] == max(1, whole[:-1].count(b"\n") - len(found)), size


def test_a_missing_segment_is_told(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    path.unlink()
    assert read(path.parent)[1].lost == {path.name: 8}


def test_a_killed_writer_leaves_a_torn_line_that_is_no_loss(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "store")
    segment = JournalSegment(folder, run=RUN)
    segment.append([({"type": "x", "i": i}, None) for i in range(4)])
    whole = segment.path.read_bytes()
    segment.close()
    (folder / "closed").unlink()
    for size in range(len(whole)):
        segment.path.write_bytes(whole[:size])
        found, damage = read(folder)
        assert len(found) == whole[:size].count(b"\n")
        assert (damage.lost, bool(damage.torn)) == ({}, size > 0 and whole[size - 1 : size] != b"\n")


def test_flipped_bytes_of_the_first_format_are_told_too(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "fixtures" / "stores" / "journal-1"
    shutil.copytree(source, tmp_path / "store")
    path = next((tmp_path / "store" / "journal").glob("5f*"))
    whole, good = path.read_bytes(), read(path.parent)
    last = whole[:-1].rfind(b"\n")
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        found = read(path.parent)
        assert all(record in good[0] for record in found[0]), place
        assert len(found[0]) >= len(good[0]) - 2
        assert found[1] != good[1] or place > last or len(found[0]) == len(good[0])


def test_a_damaged_answer_is_asked_again_and_only_that(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"answer 1", b"answer x"))
    with Store(tmp_path / "store") as store:
        assert [store.answered(f"{i:064x}") for i in range(3)] == [True, False, True]
        assert store.damage.lost == {path.name: 1}
        assert store.score(f"{1:064x}", "s") is None


def test_damage_after_opening_is_no_answer_either(tmp_path: Path) -> None:
    path = a_store(tmp_path / "store")
    with Store(tmp_path / "store") as store:
        path.write_bytes(path.read_bytes().replace(b"answer 1", b"answer x"))
        assert store.answer(f"{1:064x}") is None
        assert store.answer(f"{2:064x}").answer.text == "answer 2"  # type: ignore[union-attr]
        assert not store.answered(f"{1:064x}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([b"\n", b"1 2 3 {}", b"2 2 a3830485 {}\n", b" ", b"\t{"]))))
def test_any_bytes_are_read_without_a_traceback(tmp_path: Path, pieces: list[bytes]) -> None:
    folder = open_folder(tmp_path / "fuzzed")
    (folder / "x.journal").write_bytes(b"".join(pieces))
    (folder / "closed").write_bytes(b"".join(reversed(pieces)))
    try:
        with Store(tmp_path / "fuzzed") as store:
            assert store.runs == {}
    except StoreError as error:
        assert "\n" not in str(error)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=5))
def test_any_overwriting_is_read_without_a_traceback(tmp_path: Path, writes: list[tuple[int, bytes]]) -> None:
    folder = tmp_path / "store"
    path = a_store(folder) if not folder.exists() else next((folder / "journal").glob("*.journal"))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for place, data in writes:
        start = place % len(whole)
        damaged[start : start + len(data)] = data
    path.write_bytes(damaged)
    try:
        with Store(folder) as store:
            found = [store.answer(f"{i:064x}") for i in range(3)]
        assert all(k is None or k.answer.text == f"answer {i}" for i, k in enumerate(found))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"1\n", b"1 2 zz {}\n", b"-1 2 a3830485 {}\n", b"1 2 a3830485 {}", b"1 2 a3830485 []\n"]
)
def test_no_line_of_another_form_is_a_record(line: bytes) -> None:
    assert decode(line) is None


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"type": "trial"},
        {"type": "trial", "trial": 7, "failed": False, "run": RUN, "usd": None, "tokens": 1},
        {"type": "trial", "trial": "t", "failed": False, "run": [], "usd": "x", "tokens": 1, "scores": 3},
        {"type": "attempt", "run": RUN},
        {"type": "finished", "run": RUN, "seconds": "long"},
        {"type": ["run"], "run": {}},
    ],
)
def test_records_that_bisect_ai_never_wrote_are_left_out_and_counted(tmp_path: Path, head: dict[str, Any]) -> None:
    path = a_store(tmp_path / "store")
    with path.open("ab") as file:
        file.write(encode(10, (head, {"text": "x"})))
    with Store(tmp_path / "store") as store:
        assert store.damage.lost == {path.name: 1}
        assert store.answer(f"{2:064x}").answer.text == "answer 2"  # type: ignore[union-attr]
    assert checked(tmp_path / "store").wrong is not None
    assert [row["calls"] for row in runs_of(tmp_path / "store").plain] == [3]
