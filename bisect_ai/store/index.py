"""DuckDB over the journal: every question over runs, trials and scores in SQL. It can be deleted at any time.

    with open_index(Path(".bisect-ai")) as index:
        index.frame("SELECT run, count(*) AS trials FROM trials GROUP BY run")

No run depends on it: a run reads and writes the journal alone. Who asks brings the index up to date: a copy of the file is made
in a folder of its own, what the journal has beyond it is added (or all of it, when there is no index that can be used), and the
copy is renamed into its place. So the file under its name is always whole and never written to: readers share it, none waits,
and each goes on seeing the snapshot that it opened. An index that cannot be read is renamed aside and made anew. Where no file
can be written (a full disk, read-only media) the same tables are made in memory.

The database is locked down: no files, no network, no extensions, no settings; values are bound, never put into a statement.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bisect_ai.errors import StoreError
from bisect_ai.store.index_schema import SCHEMA, TABLES, rows
from bisect_ai.store.journal import segment_paths, sync_folder
from bisect_ai.store.locks import Presence, hold, is_locked
from bisect_ai.store.recovery import Reader

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

T = TypeVar("T")
FILE = "index.duckdb"
_BUILDING = "building-"
_BATCH = 10_000  # rows of one insert: DuckDB is slow row by row
_BATCH_BYTES = 32 << 20  # of their answers: Python and DuckDB hold each several times over until it is committed
_LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "memory_limit": "1GB",
    "threads": "2",
    "temp_directory": "",
}
# Files that every supported DuckDB reads.
_OLDEST = {"storage_compatibility_version": "v1.4.0"}


class IndexDamaged(StoreError):
    """The index cannot be read; it can be made anew."""


class Index:
    """An open snapshot of a store's index, read-only. Use as a context manager, or `close` it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, notices: Sequence[str] = ()) -> None:
        self._connection = connection
        # What the user should know: an index that was damaged, one that could not be written.
        self.notices = tuple(notices)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the snapshot go."""
        self._connection.close()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; parameters are bound. Raises `StoreError` when the database refuses it."""
        found: list[tuple[Any, ...]] = self._run_query(sql, parameters, lambda relation: relation.fetchall())
        return found

    def frame(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """The rows of a SELECT as a DataFrame; parameters are bound. Raises `StoreError`."""
        found: pd.DataFrame = self._run_query(sql, parameters, lambda relation: relation.df())
        return found

    def _run_query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any], fetch: Callable[[Any], Any]) -> Any:
        import duckdb

        asker = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.PermissionException)
        limits = (duckdb.OutOfMemoryException, duckdb.InterruptException)
        try:
            return fetch(self._connection.execute(sql, parameters))
        except (*asker, *limits) as error:
            raise StoreError(f"cannot answer a query on the index: {_reason_line(error)}; correct the query") from error
        except (duckdb.Error, RuntimeError) as error:
            if "interrupted" in str(error):  # Ctrl-C inside a query
                raise KeyboardInterrupt from error
            raise IndexDamaged(f"cannot read the index: {_reason_line(error)}; delete {FILE}, it is made anew") from error


def ask(store: Path, question: Callable[[Index], T]) -> tuple[T, tuple[str, ...]]:
    """The answer to a question of SELECTs, with notices; an index that breaks under way is made anew and asked once more."""
    try:
        with open_index(store) as index:
            return question(index), index.notices
    except IndexDamaged as error:
        notices = [_set_aside(store / FILE, error)]
    with open_index(store) as index:
        return question(index), (*notices, *index.notices)


def open_index(store: Path) -> Index:
    """A snapshot of everything that the store's journal holds now. Raises `StoreError` when the journal cannot be read."""
    notices: list[str] = []
    path = store / FILE
    with contextlib.closing(Presence(store)):
        try:
            if not _is_fresh(path, store, notices):
                _build_index(path, store)
            return Index(_open_linked(path), notices)
        except (OSError, _duckdb_error()) as error:
            notices.append(f"the index of {store} cannot be written ({_reason_line(error)}): it was made in memory")
            connection = _connect_index(":memory:", _OLDEST)
            _add_beyond(connection, store, {})
            return Index(_locked_down(connection), notices)


def indexed_segments(index: Index) -> dict[str, tuple[int, int]]:
    """Segment name to (inode, bytes read) of what an index holds."""
    return {name: (inode, size) for name, inode, size in index.rows("SELECT segment, inode, bytes FROM segments")}


def open_existing(store: Path) -> Index | None:
    """The index as it is, not brought up to date; None: there is none. Raises `duckdb.Error` when it cannot be read."""
    path = store / FILE
    return Index(_open_linked(path)) if path.exists() else None


def drop_index(store: Path) -> int:
    """Delete the index, those renamed aside and what was left of building one; gives the number of files and folders."""
    gone = [*store.glob(f"{FILE}*"), *store.glob(f"{_BUILDING}*")]
    for path in gone:
        _remove_index(path)
    return len(gone)


# -- building ------------------------------------------------------------------------------------------------------------
def _is_fresh(path: Path, store: Path, notices: list[str]) -> bool:
    """Whether the file holds all that the journal has. One that cannot be used is renamed aside."""
    if not path.exists():
        return False
    try:
        with Index(_open_linked(path)) as index:
            if index.rows("SELECT schema FROM meta") != [(SCHEMA,)]:
                raise StoreError("it is of another schema")
            return indexed_segments(index) == {
                p.name: (p.stat().st_ino, _whole_lines(p)) for p in segment_paths(store / "journal")
            }
    except (StoreError, RuntimeError, _duckdb_error()) as error:
        notices.append(_set_aside(path, error))
        return False


def _set_aside(path: Path, error: BaseException) -> str:
    """Rename an index that cannot be used, never delete it; gives what to tell the user."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{FILE}.damaged-{stamp}-{secrets.token_hex(2)}")
    with contextlib.suppress(FileNotFoundError):  # another reader was faster
        path.rename(aside)
    return f"the index could not be used ({_reason_line(error)}): renamed to {aside.name} and made anew from the journal"


def _whole_lines(path: Path) -> int:
    """Bytes of a segment up to its last line break: what a reader takes in."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _build_index(path: Path, store: Path) -> None:
    """Make the index up to date beside itself, then rename it into its place."""
    with _private_workshop(store) as shop:
        copy = shop / FILE
        if path.exists():
            shutil.copyfile(path, copy)
        connection = _connect_index(str(copy), _OLDEST)
        try:
            copy.chmod(0o600)
            with contextlib.closing(_locked_down(connection)):
                known = _known_segments(connection)
                _forget_segments(connection, known, store)
                _add_beyond(connection, store, known)
                connection.execute("CHECKPOINT")
        finally:
            connection.close()
        copy.chmod(0o600)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        copy.replace(path)
        sync_folder(store)


@contextlib.contextmanager
def _private_workshop(store: Path) -> Iterator[Path]:
    """A private folder in the store to build in, locked while its owner lives; those of killed owners are swept first.

    DuckDB gives its write-ahead log the mode that the umask leaves: only the folder keeps that one private.
    """
    for old in _left_over(store):
        _remove_index(old)
    shop = store / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
    shop.mkdir(mode=0o700)
    mark = os.open(shop / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    hold(mark)
    try:
        yield shop
    finally:
        shutil.rmtree(shop, ignore_errors=True)
        os.close(mark)


def _left_over(store: Path) -> list[Path]:
    """What builders and readers that were killed left behind."""
    minute_ago = time.time() - 60  # younger ones may not have taken their lock yet
    found = []
    for path in store.glob(f"{_BUILDING}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ctime < minute_ago and not is_locked(path / "lock"):
                found.append(path)
    return found


def _remove_index(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _known_segments(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """What the tables, made now if there are none, hold of each segment."""
    connection.execute("CREATE TABLE IF NOT EXISTS meta (schema INTEGER)")
    if not connection.execute("SELECT * FROM meta").fetchall():
        connection.execute("INSERT INTO meta VALUES (?)", [SCHEMA])
    for table, columns in TABLES.items():
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(f'{n} {t}' for n, t in columns.items())})")
    names = list(TABLES["segments"])
    return {row[0]: dict(zip(names, row, strict=True)) for row in connection.execute("SELECT * FROM segments").fetchall()}


def _forget_segments(connection: duckdb.DuckDBPyConnection, known: dict[str, dict[str, Any]], store: Path) -> None:
    """Delete the rows of segments that are gone, or were rewritten."""
    now = {p.name: p.stat().st_ino for p in segment_paths(store / "journal")}
    for name in [n for n, row in known.items() if now.get(n) != row["inode"]]:
        del known[name]
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE segment = ?", [name])  # noqa: S608 - a name of ours


def _add_beyond(connection: duckdb.DuckDBPyConnection, store: Path, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what the journal has beyond the tables.

    It is committed batch by batch, as DuckDB holds in memory what is not: whoever is killed in between leaves a copy under a name
    that nobody reads.
    """
    if not known:
        _known_segments(connection)
    batches: dict[str, list[Sequence[Any]]] = {table: [] for table in TABLES}
    size = 0
    connection.execute("BEGIN")
    for path in segment_paths(store / "journal"):
        reader = _resumed_reader(path, known.get(path.name))
        if not reader.has_more() and path.name in known:
            continue
        for place, head, payload in reader.read():
            for table, row in rows(path.name, place, head, payload):
                batches[table].append(row)
            size += len(payload)
            if len(batches["trials"]) + len(batches["costs"]) >= _BATCH or size >= _BATCH_BYTES:
                _insert_all(connection, batches)
                connection.execute("COMMIT")
                connection.execute("BEGIN")
                size = 0
        connection.execute("DELETE FROM segments WHERE segment = ?", [path.name])
        batches["segments"].append(_index_row(reader, known.get(path.name)))
    _insert_all(connection, batches)
    connection.execute("COMMIT")


def _resumed_reader(path: Path, row: Mapping[str, Any] | None) -> Reader:
    reader = Reader(path)
    if row is not None:
        reader.resume(
            size=row["bytes"], records=row["records"], sequence=row["sequence"], lost=row["lost"], closed=row["closed"]
        )
    return reader


def _index_row(reader: Reader, before: Mapping[str, Any] | None) -> Sequence[Any]:
    header, before = reader.header or {}, before or {}
    told = (header.get("run", before.get("run")), header.get("at", before.get("started_us")))
    inode = reader.path.stat().st_ino
    return (reader.path.name, inode, reader.size, reader.sequence, reader.records, reader.lost, reader.closed, *told)


def _insert_all(connection: duckdb.DuckDBPyConnection, batches: Mapping[str, list[Sequence[Any]]]) -> None:
    for table, batch in batches.items():
        if batch:
            _insert_rows(connection, table, batch)
            batch.clear()


def _insert_rows(connection: duckdb.DuckDBPyConnection, table: str, batch: Sequence[Sequence[Any]]) -> None:
    import numpy as np

    columns = TABLES[table]
    arrays = {}
    for name, values in zip(columns, zip(*batch, strict=True), strict=True):
        arrays[name] = np.empty(len(batch), dtype=object)
        arrays[name][:] = values
    connection.register("batch", arrays)
    chosen = ", ".join(_cast_column(name, kind) for name, kind in columns.items())
    connection.execute(f"INSERT INTO {table} SELECT {chosen} FROM batch")  # noqa: S608 - names of ours
    connection.unregister("batch")


def _cast_column(name: str, kind: str) -> str:
    return f"from_json({name}, '[\"VARCHAR\"]')" if kind == "VARCHAR[]" else f"CAST({name} AS {kind})"


# -- connections ---------------------------------------------------------------------------------------------------------
def _open_linked(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection by a name of its own: DuckDB takes a path that it has open for the same database, replaced or not."""
    own = path.with_name(f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}.reading")
    try:
        os.link(path, own)
    except OSError:  # read-only media, or no hard links
        return _locked_down(_connect_index(str(path), {}, read_only=True))
    try:
        return _locked_down(_connect_index(str(own), {}, read_only=True))
    finally:
        own.unlink(missing_ok=True)


def _connect_index(path: str, more: Mapping[str, str], *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(path, read_only=read_only, config={**_LOCKED, **more})
    connection.execute("SET enable_progress_bar = false")  # it would go to the terminal
    return connection


def _locked_down(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    connection.execute("SET lock_configuration = true")
    return connection


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error


def _reason_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
