"""Why the store is no SQLite database: the same fault done to both (FAULTS A1, A5, A8).

The docstring of `bisect_ai.store` has the whole table. Where one of these fails because SQLite now holds, decide again.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from bisect_ai.store.trial_store import Store
from tests.faults.loops import RUN, identity, kept

ROOT = Path(__file__).parents[2]
COUNT = 40
DATABASE = """
import os, signal, sqlite3, subprocess, sys
def opened(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, text TEXT)")
    return connection
def write(connection, numbers):
    for number in numbers:
        connection.execute("INSERT INTO records VALUES (?, ?)", (number, "answer " * 200))
"""
JOURNAL = """
import os, signal, subprocess, sys
from pathlib import Path
from bisect_ai.store.trial_store import Store
from tests.faults.loops import RUN, kept
def opened(path):
    return Store(Path(path))
def write(store, numbers):
    for number in numbers:
        store.keep(RUN, [kept(number)], [])
"""
KILLED = """
mine = opened(sys.argv[1])
write(mine, range(int(sys.argv[2])))
os.kill(os.getpid(), signal.SIGKILL)
"""
READ_BY_ITSELF = """
if len(sys.argv) > 3:
    theirs = opened(sys.argv[1])
    write(theirs, [1000])
    theirs.close()
    raise SystemExit
mine = opened(sys.argv[1])
write(mine, [1001])
for folder, _, names in os.walk(os.path.dirname(sys.argv[1])):
    for name in names:
        open(os.path.join(folder, name), "rb").close()
subprocess.run([sys.executable, sys.argv[2], *sys.argv[1:3], "other"], check=True)
write(mine, range(40))
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_until_killed(folder: Path, code: str, *arguments: object) -> None:
    """Run code that writes COUNT records, each acknowledged, and then is killed."""
    script = folder / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}")
    done = subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 8
    path.write_bytes(content)


def records_in(path: Path) -> set[int]:
    """What anybody's SELECT finds, without an error and in a database that calls itself whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {number for (number,) in connection.execute("SELECT number FROM records")}


def test_a_flipped_byte_after_a_kill_costs_a_database_all_that_follows_and_nobody_is_told(tmp_path: Path) -> None:
    run_until_killed(tmp_path, DATABASE + KILLED, tmp_path / "records.db", COUNT)
    log = tmp_path / "records.db-wal"
    flip(log, log.stat().st_size // 2)
    assert len(records_in(tmp_path / "records.db")) < COUNT - 10
    assert not log.exists()  # what reading it left out is gone


def test_a_flipped_byte_after_a_kill_costs_the_journal_one_record_and_it_is_told(tmp_path: Path) -> None:
    run_until_killed(tmp_path, JOURNAL + KILLED, tmp_path / "store", COUNT)
    (segment,) = (tmp_path / "store" / "journal").glob("*.journal")
    flip(segment, segment.read_bytes().index(b"answer 20 "))
    with Store(tmp_path / "store") as store:
        assert [i for i in range(COUNT) if not store.answered(identity(i))] == [20]
        assert store.damage.lost == {segment.name: 1}


def test_a_database_that_its_own_process_reads_loses_what_it_acknowledges_afterwards(tmp_path: Path) -> None:
    """Closing any handle of a file gives up the process's POSIX locks on it: the next to close takes itself for the last one."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "records.db"
    run_until_killed(tmp_path, DATABASE + READ_BY_ITSELF, path, tmp_path / "script.py")
    assert records_in(path) == {1000, 1001}


def test_a_journal_that_its_own_process_reads_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data" / "store"
    run_until_killed(tmp_path, JOURNAL + READ_BY_ITSELF, path, tmp_path / "script.py")
    with Store(path) as store:
        assert all(store.answer(identity(i)) == kept(i) for i in [*range(COUNT), 1000, 1001])
        assert (store.spending(RUN).calls, store.damage.lost) == (COUNT + 2, {})
