"""Full, failing and powerless disks: what was acknowledged is kept, and no further call is paid for (FAULTS A2, A3, A4; R2, R3)."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import StoreError
from bisect_ai.provider.usage import Usage
from bisect_ai.store import journal
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer
from tests.faults.disk import Disk, FailingDisk, FillingDisk, QuickDisk, RecordedDisk
from tests.faults.loops import RUN, identity, kept

STRIDE = 29
GROUPS = [[0, 1], [2], [3, 4, 5]]


def sitting(path: Path, acknowledged: list[int], disk: Disk | None = None, *, paid: list[int] | None = None) -> None:
    """A run that asks what is missing, each group under way at once; when the store refuses, what is under way is kept."""
    paid = [] if paid is None else paid
    with Store(path) as store:
        store.begin(RUN, {"metric": "m"})
        for group in GROUPS:
            under_way: list[int] = []
            refused = None
            for i in [i for i in group if not store.answered(identity(i))]:
                try:
                    store.reserve(RUN, identity(i), usd=1.0)
                except StoreError as error:
                    refused = error
                    break
                under_way.append(i)
            paid += under_way
            store.keep(RUN, [kept(i) for i in under_way], [Scored(identity(i), "s", float(i)) for i in under_way])
            acknowledged += under_way
            if isinstance(disk, RecordedDisk):
                disk.acknowledge(under_way)
            if refused is not None:
                raise refused


def assert_holds(path: Path, acknowledged: list[int]) -> None:
    with Store(path) as store:
        found = {i: store.answer(identity(i)) for group in GROUPS for i in group}
        assert all(found[i] is not None for i in acknowledged)
        assert all(k is None or k == kept(i) for i, k in found.items())
        assert all(store.score(identity(i), "s") == Scored(identity(i), "s", float(i)) for i in acknowledged)


def bytes_of_a_sitting(tmp_path: Path) -> int:
    sitting(tmp_path / "whole", [])
    return sum(p.stat().st_size for p in (tmp_path / "whole" / "journal").iterdir())


@pytest.mark.parametrize("stride", [STRIDE, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reserve", [1 << 20, 0])
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserve: int, stride: int) -> None:
    for room in range(0, bytes_of_a_sitting(tmp_path), stride):
        path, acknowledged, paid = tmp_path / f"store-{room}", [], []
        disk = FillingDisk(room, reserve=reserve)
        with monkeypatch.context() as patched:
            patched.setattr(journal, "os", disk)
            try:
                sitting(path, acknowledged, paid=paid)
            except StoreError as error:
                assert "No space left" in str(error) and "\n" not in str(error)
                assert "free space" in str(error)
        assert_holds(path, acknowledged)
        if reserve:  # what was under way when the disk filled up is kept as well: nothing paid for is lost
            assert acknowledged == paid or room == 0, room
        again: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(journal, "os", QuickDisk())
            sitting(path, again)
        assert sorted(acknowledged + again) == [0, 1, 2, 3, 4, 5]
        shutil.rmtree(path)


@pytest.mark.parametrize("n", range(1, 9))
def test_a_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    acknowledged: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(journal, "os", FailingDisk(n))
        failed = None
        try:
            sitting(tmp_path / "store", acknowledged)
        except StoreError as error:
            failed = str(error)
    assert failed is None or ("Input/output error" in failed and "store" in failed)
    assert failed is not None or len(acknowledged) == 6
    assert_holds(tmp_path / "store", acknowledged)


def test_after_a_failed_fsync_nothing_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "store") as store:
        store.begin(RUN, {})
        with monkeypatch.context() as patched:
            patched.setattr(journal, "os", FailingDisk(1))
            with pytest.raises(StoreError, match=r"Input/output error"):
                store.keep(RUN, [kept(1)], [])
        with pytest.raises(StoreError, match="no more records"):
            store.keep(RUN, [kept(2)], [])
        with pytest.raises(StoreError, match="Input/output error"):
            store.reserve(RUN, identity(3))


def test_a_store_deleted_under_way_is_noticed(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        store.begin(RUN, {})
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(StoreError, match="was deleted while it was written"):
            store.keep(RUN, [kept(1)], [])
        with pytest.raises(StoreError, match="was deleted"):
            store.reserve(RUN, identity(2))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_power_cut_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    disk = RecordedDisk()
    with monkeypatch.context() as patched:
        patched.setattr(journal, "os", disk)
        sitting(tmp_path / "whole", [], disk)
    for i, (files, acknowledged) in enumerate(disk.crashes(random.Random(11), count)):
        path = tmp_path / f"crashed-{i}"
        (path / "journal").mkdir(parents=True)
        for name, content in files.items():
            (path / "journal" / name).write_bytes(content)
        known = [one for group in acknowledged for one in group]
        assert_holds(path, known)
        if i % 10 == 0:
            again: list[int] = []
            sitting(path, again)
            assert_holds(path, [0, 1, 2, 3, 4, 5])
        shutil.rmtree(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], capture_output=True, check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_run_on_a_disk_that_fills_up_keeps_every_answer_and_goes_on_later(small_disk: Path) -> None:
    calls: list[tuple[str, str]] = []

    def wordy(query: Any, release: Mapping[str, Any]) -> Answer:
        calls.append((query.id, release["prompt"]))
        return Answer(text=query.id + " long" * 4000)

    wordy.version = "1"  # type: ignore[attr-defined]

    def run() -> bisect_ai.Result:
        calls.clear()
        return bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": "b"},
            queries=[{"id": f"q{i}", "input": "?"} for i in range(300)],
            target=wordy,
            scorers={"long": _long},
            design="full",
            budget={"calls": 600},
            store=small_disk / "store",
        )

    with pytest.raises(StoreError, match=r"No space left.*free space.*kept"):
        run()
    paid = list(calls)
    assert 200 < len(paid) < 600
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with Store(small_disk / "store") as store:
        (name,) = store.runs
        spent = store.spending(name)
    assert spent.calls == len(paid)
    assert spent.unsettled.calls <= 1
    run()
    assert len(calls) == 600 - len(paid)


def test_only_answers_that_the_full_disk_could_not_keep_are_asked_again_and_they_are_counted(small_disk: Path) -> None:
    """Short answers, then long ones, more of them under way than find room: those came back, and were never acknowledged."""
    asked: list[str] = []

    def growing(query: Any, release: Mapping[str, Any]) -> Answer:
        asked.append(query.id + release["prompt"])
        time.sleep(0.01)
        return Answer(text="x" * (20 if len(asked) < 5 else 300_000))

    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    growing.version = "1"  # type: ignore[attr-defined]

    def run() -> bisect_ai.Result:
        asked.clear()
        return bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": "b"},
            queries=[{"id": f"q{i}", "input": "?"} for i in range(14)],
            target=growing,
            scorers={"long": _long},
            design="full",
            drill=False,
            budget={"calls": 100},
            concurrency=16,
            store=small_disk / "store",
        )

    with pytest.raises(StoreError, match=r"No space left.*free space"):
        run()
    paid = set(asked)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with Store(small_disk / "store") as store:
        (name,) = store.runs
        spent = store.spending(name)
    assert spent.calls + spent.killed.calls == len(paid)  # what could not be kept is paid for, and counts
    assert spent.killed.calls <= 16
    run()
    assert len(paid & set(asked)) == spent.killed.calls
    assert len(asked) == 28 - spent.trials


def _long(query: Any, answer: Answer) -> float:
    return float(len(answer.text))


def test_a_disk_that_may_not_be_written_is_one_clear_line(small_disk: Path) -> None:
    with Store(small_disk / "store") as store:
        store.begin(RUN, {})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Store(small_disk / "store") as store:
        assert RUN in store.runs
        with pytest.raises(StoreError, match="Read-only file system"):
            store.keep(RUN, [Kept("i", RUN, "q", (), 0, Answer())], [])


def test_a_disk_that_cannot_hold_what_is_under_way_stops_dispatch_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen answers of 300 KB do not fit the space set aside: they came back, were paid for, and could not be kept."""
    long = Kept("a" * 64, "run", "q", (), 0, Answer(text="x" * 300_000, usage=Usage(1, 1)))
    with Store(tmp_path / "s") as store:
        store.keep("run", [long], [])
        space = os.statvfs(tmp_path)
        free = SimpleNamespace(f_bavail=1, f_frsize=1_000_000)
        monkeypatch.setattr(journal.os, "statvfs", lambda path: free)
        started = 0
        with pytest.raises(StoreError, match="No space left"):
            for started in range(20):
                store.reserve("run", f"{started:064x}")
        assert started == (journal.RESERVE + 1_000_000) // 300_000
        monkeypatch.setattr(journal.os, "statvfs", lambda path: space)
        store.keep("run", [long._replace(identity=f"{i:064x}") for i in range(started)], [])
        assert store.spending("run").trials == started + 1
