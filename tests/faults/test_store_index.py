"""The index: locked down, shared, rebuilt whatever happens to it, and never in the way of a run (FAULTS A6, A7, A11, A16, C10)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.cli.looking import checked, runs_of
from bisect_ai.errors import StoreError
from bisect_ai.store import index as index_module
from bisect_ai.store.index import FILE, open_index
from bisect_ai.store.integrity import list_runs
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer
from tests.faults.loops import RUN, identity, kept

OTHER = "fedcba9876543210"
SETTINGS = {"good": {"name": "a"}, "bad": {"name": "b"}, "metric": "m"}
REPORT = {"verdict": {"kind": "cause", "sentence": "it is the prompt"}, "examples": [], "warnings": []}


def filled(path: Path, n: int = 40) -> Path:
    with Store(path) as store:
        store.begin(RUN, SETTINGS)
        for i in range(n):
            store.reserve(RUN, identity(i), usd=0.25, tokens=7)
        store.keep(RUN, [kept(i) for i in range(n)], [Scored(identity(i), "s", i / 7) for i in range(n)])
        store.charge(RUN, "judge", usd=0.5, tokens=11, calls=2)
        store.finish(RUN, {"seconds": 2.5})
        store.finish(RUN, {"report": REPORT})
    with Store(path) as store:
        store.begin(OTHER, SETTINGS)
        store.keep(OTHER, [Kept("x", OTHER, "lone \ud83d", ("a", "b"), 1, Answer(error="Timeout: \x00 no answer"))], [])
    return path


def test_it_answers_what_the_journal_holds(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    with open_index(store) as index:
        assert index.notices == ()
        assert index.rows("SELECT count(*), count(DISTINCT trial) FROM trials") == [(41, 41)]
        assert index.rows("SELECT text, bad_axes FROM trials WHERE trial = ?", [identity(3)]) == [
            (kept(3).answer.text, ["prompt"])
        ]
        assert index.rows("SELECT value FROM scores WHERE trial = $t", {"t": identity(3)}) == [(3 / 7,)]
        assert index.rows("SELECT query, error, bad_axes FROM trials WHERE run = ?", [OTHER]) == [
            ("lone ?", "Timeout: \x00 no answer", ["a", "b"])
        ]
        frame = index.frame("SELECT run, count(*) AS n FROM trials GROUP BY run ORDER BY n")
        assert frame["n"].tolist() == [1, 40]
        with pytest.raises(StoreError, match="cannot answer a query"):
            index.rows("SELECT nothing FROM nowhere")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH '{tmp}/other.duckdb'",
        "COPY trials TO '{tmp}/out.csv'",
        "EXPORT DATABASE '{tmp}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 8",
        "CREATE TABLE t (x INTEGER)",
        "DELETE FROM trials",
        "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    ],
)
def test_it_reaches_out_for_nothing_and_changes_nothing(tmp_path: Path, statement: str) -> None:
    store = filled(tmp_path / "store", 2)
    with open_index(store) as index:
        with pytest.raises(StoreError):
            index.rows(statement.format(tmp=tmp_path))
        assert index.rows("SELECT count(*) FROM trials") == [(3,)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_it_follows_the_journal_and_a_reader_keeps_its_snapshot(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    with Store(path) as writer, open_index(path) as before:
        writer.keep(RUN, [kept(50)], [])
        with open_index(path) as after:
            assert after.rows("SELECT count(*) FROM trials") == [(42,)]
        writer.keep(RUN, [kept(51)], [])
        with open_index(path) as later:
            assert later.rows("SELECT count(*) FROM trials") == [(43,)]
        assert before.rows("SELECT count(*) FROM trials") == [(41,)]
    with open_index(path) as whole:
        shutil.rmtree(path / "journal" / "nothing", ignore_errors=True)
        assert whole.rows("SELECT count(*) FROM segments WHERE closed") == [(3,)]


def test_the_same_tables_whether_grown_or_made_at_once(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    open_index(path).close()
    with Store(path) as writer:
        writer.keep(RUN, [kept(60)], [Scored(identity(60), "s", 1.0)])
    tables = ("segments", "runs", "trials", "scores", "costs", "reports")
    with open_index(path) as grown:
        first = [sorted(map(repr, grown.rows(f"SELECT * FROM {t}"))) for t in tables]
    (path / FILE).unlink()
    with open_index(path) as made:
        assert [sorted(map(repr, made.rows(f"SELECT * FROM {t}"))) for t in tables] == first


@pytest.mark.parametrize("count", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_whatever_is_damaged_in_it_the_answers_are_the_same(tmp_path: Path, count: int) -> None:
    path = filled(tmp_path / "store")
    expected = json.dumps(runs_of(path).plain)
    whole = (path / FILE).read_bytes()
    rng, noticed = random.Random(5), 0
    for _ in range(count):
        damaged = bytearray(whole)
        kind = rng.choice(["flips", "cut", "hole", "noise", "head"])
        start = rng.randrange(len(whole))
        if kind == "flips":
            for _ in range(64):
                damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del damaged[start:]
        elif kind == "head":
            damaged[: rng.randrange(1, 12288)] = b""
        else:
            size = min(70_000, len(whole) - start)
            damaged[start : start + size] = bytes(size) if kind == "hole" else rng.randbytes(size)
        (path / FILE).write_bytes(damaged)
        said = runs_of(path)
        assert json.dumps(said.plain) == expected
        noticed += bool(said.notices)
        assert all("renamed to" in notice for notice in said.notices)
    asides = list(path.glob(f"{FILE}.damaged-*"))
    assert len(asides) == noticed > count // 3


def test_an_index_of_another_schema_is_made_anew_beside(tmp_path: Path) -> None:
    path = filled(tmp_path / "store", 3)
    expected = runs_of(path).plain
    with duckdb.connect(str(path / FILE)) as connection:
        connection.execute("UPDATE meta SET schema = 99")
    said = runs_of(path)
    assert said.plain == expected
    assert "another schema" in said.notices[0]


def test_where_it_cannot_be_written_it_is_made_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "store", 3)
    expected = runs_of(path).plain
    (path / FILE).unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_module, "_build_index", full)
    said = runs_of(path)
    assert said.plain == expected
    assert "in memory" in said.notices[0]


KILLED_BUILDER = """
import os, signal, sys
from pathlib import Path
from bisect_ai.store import index
insert, calls = index._insert_all, []
def killed(*arguments):
    insert(*arguments)
    calls.append(arguments)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
index._BATCH, index._insert_all = 7, killed
index.open_index(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("inserts", [2, 4])
@pytest.mark.parametrize("grown", [False, True])
def test_a_builder_killed_between_two_commits_leaves_no_half_an_index(tmp_path: Path, inserts: int, grown: bool) -> None:
    path = filled(tmp_path / "store")
    before = None
    if grown:
        open_index(path).close()
        before = (path / FILE).read_bytes()
        with Store(path) as writer:
            writer.keep(RUN, [kept(i) for i in range(100, 130)], [])
    done = subprocess.run([sys.executable, "-c", KILLED_BUILDER, str(path), str(inserts)], check=False)
    assert done.returncode == -signal.SIGKILL
    (half,) = path.glob(f"building-*/{FILE}")
    with duckdb.connect(str(half)) as connection:  # what was committed before the kill
        found = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("trials", "costs"))
    assert (82 if grown else 0) < found < (112 if grown else 82)
    assert ((path / FILE).read_bytes() if (path / FILE).exists() else None) == before
    with open_index(path) as index:
        assert index.notices == ()
        assert index.rows("SELECT count(*), count(DISTINCT trial) FROM trials") == [(71, 71) if grown else (41, 41)]


@pytest.mark.parametrize("bound", ["_BATCH", "_BATCH_BYTES"])
def test_the_same_tables_in_however_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    path = filled(tmp_path / "store")
    tables = ("segments", "runs", "trials", "scores", "costs", "reports")
    with open_index(path) as at_once:
        first = [at_once.rows(f"SELECT * FROM {t}") for t in tables]
    (path / FILE).unlink()
    monkeypatch.setattr(index_module, bound, 1)
    with open_index(path) as made:
        assert [made.rows(f"SELECT * FROM {t}") for t in tables] == first


def test_a_foreign_file_under_its_name_is_no_index(tmp_path: Path) -> None:
    path = filled(tmp_path / "store", 3)
    expected = runs_of(path).plain
    for content in (b"", b"\x80\x04\x95 no pickle", b"SQLite format 3\x00" + bytes(5000)):
        (path / FILE).write_bytes(content)
        assert runs_of(path).plain == expected


def test_many_ask_at_once_while_a_run_writes(tmp_path: Path) -> None:
    path = filled(tmp_path / "store", 5)
    code = (
        "import sys\nfrom pathlib import Path\nfrom bisect_ai.store.index import open_index\n"
        "for _ in range(4):\n"
        "    with open_index(Path(sys.argv[1])) as index:\n"
        "        assert index.notices == (), index.notices\n"
        "        assert index.rows('SELECT count(*) FROM trials')[0][0] >= 6\n"
    )
    readers = [subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE) for _ in range(4)]
    with Store(path) as writer:
        i = 100
        while any(r.poll() is None for r in readers):
            writer.keep(RUN, [kept(i)], [])
            i += 1
    assert [(r.returncode, r.communicate()[1]) for r in readers] == [(0, b"")] * 4
    assert not list(path.glob(f"{FILE}.damaged-*"))
    with open_index(path) as index:
        assert index.rows("SELECT count(*) FROM trials") == [(i - 100 + 6,)]
    assert not list(path.glob("building-*"))


def test_two_threads_may_ask_at_once(tmp_path: Path) -> None:
    path, found = filled(tmp_path / "store", 5), []
    threads = [threading.Thread(target=lambda: found.append(list_runs(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 4
    assert found[0][1] == ()


def test_all_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = filled(tmp_path / "store", 3)
        seen: set[tuple[str, int]] = set()
        original = index_module._add_beyond

        def looking(*args: object) -> None:
            original(*args)  # type: ignore[arg-type]
            seen.update((p.name.split("-")[0], stat.S_IMODE(p.stat().st_mode)) for p in path.rglob("*") if p.suffix != ".wal")

        index_module._add_beyond = looking  # type: ignore[assignment]
        try:
            open_index(path).close()
        finally:
            index_module._add_beyond = original
    finally:
        os.umask(before)
    assert seen
    modes = {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in (path, *path.rglob("*"))}
    assert modes == {(True, 0o700), (False, 0o600)}
    assert ("building", 0o700) in seen
    assert {mode for _, mode in seen} <= {0o700, 0o600}


def test_a_looser_store_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path / "store", 3)
    path.chmod(0o755)
    with Store(path) as store:
        assert ["chmod 700" in notice for notice in store.notices] == [True]
    assert any("may be read by others" in line for line in checked(path).lines)


# -- bisect-ai runs ------------------------------------------------------------------------------------------------------
def runs(path: Path, *options: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["runs", "--store", str(path), *options])
    return done.exit_code, done.stdout, done.stderr


def test_runs_lists_calls_money_and_verdict(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    code, out, err = runs(path)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"{RUN}  a -> b  m  40 calls  0.54 USD  it is the prompt"
    assert second == f"{OTHER}  a -> b  m  1 calls  interrupted: run the same command again to go on"
    (row, _) = json.loads(runs(path, "--json")[1])
    assert (row["run"], row["status"], row["verdict"], row["calls"]) == (RUN, "finished", "cause", 40)
    assert (row["usd"], row["tokens"], row["seconds"]) == (0.54, 91, 2.5)
    assert row["unsettled"] == {"calls": 0, "usd": 0.0, "tokens": 0, "unpriced": 0}
    assert isinstance(row["started_us"], int)


def test_the_index_and_the_store_count_the_same(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    with Store(path) as store:
        store.begin("0" * 16, SETTINGS)
        store.reserve("0" * 16, identity(1), usd=0.125, tokens=3)
        store.reserve("0" * 16, identity(2), tokens=4)
        assert runs_of(path).plain[-1]["status"] == "running"
    said = runs_of(path)
    assert (
        "2 calls were under way or about to leave when the run was stopped or killed and may be billed: at most 0.125 USD, "
        "1 of them at an unknown price" in said.lines[-1]
    )
    with Store(path) as store:
        for row in said.plain:
            spent = store.spending(row["run"])
            assert (row["calls"], row["errors"], row["usd"], row["tokens"]) == (
                spent.calls,
                spent.errors,
                spent.usd,
                spent.tokens,
            )
            assert (row["seconds"], row["unsettled"]["calls"]) == (spent.seconds, spent.unsettled.calls)
            assert spent.killed == spent.unsettled
            assert row["unsettled"]["usd"] == spent.unsettled.usd


def test_verify_says_what_is_lost_and_ends_accordingly(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    code, out, err = runs(path, "--verify")
    assert (code, err) == (0, "")
    assert [line.split("  ")[1:] for line in out.splitlines()[:2]] == [["86 records", "whole"], ["4 records", "whole"]]
    assert "index: not there" in out
    runs(path)
    assert "index: agrees with the journal" in runs(path, "--verify")[1]
    segment = next((path / "journal").glob(f"{RUN}-*"))
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"answer 7 answer 7", b"answer x answer 7"))
    code, out, err = runs(path, "--verify")
    assert code == 2
    assert "85 records  damaged: 1 records lost" in out
    assert err.startswith("bisect-ai: the store") and "1 records lost in 1 of 2 segments" in err
    segment.write_bytes(whole[:-20])
    assert runs(path, "--verify")[0] == 2
    segment.unlink()
    code, out, _ = runs(path, "--verify")
    assert (code, "the file is gone, 85 records lost" in out) == (2, True)
    plain = json.loads(runs(path, "--verify", "--json")[1])
    assert (plain["whole"], plain["lost"]) == (False, 85)


def test_verify_tells_a_kill_from_damage_and_a_wrong_index(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    runs(path)
    with duckdb.connect(str(path / FILE)) as connection:
        connection.execute("DELETE FROM scores WHERE value > 3")
    code, out, err = runs(path, "--verify")
    assert (code, "disagrees with the journal on scores" in out, "delete index.duckdb" in err) == (2, True, True)
    (path / FILE).write_bytes(b"x" * 20000)
    code, out, err = runs(path, "--verify")
    assert (code, "index: damaged" in out) == (2, True)
    (path / FILE).unlink()
    with Store(path) as store:
        store.keep(RUN, [kept(70)], [])
        name = max((path / "journal").glob("*.journal"), key=lambda p: p.stat().st_mtime_ns).name
        assert f"{name}  2 records  being written" in runs(path, "--verify")[1]
        cut = (path / "journal" / name).read_bytes()
    (path / "journal" / name).write_bytes(cut + b"4 100 deadbeef {")
    (path / "journal" / "closed").unlink()
    code, out, _ = runs(path, "--verify")
    assert code == 0
    assert "2 records  not closed: its run was killed, or still starts, ends in 16 bytes of a record" in out


def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    command = f"{sys.executable} -m bisect_ai runs --store {path} --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[", "")
