"""The journal: append-only segments, one per process and run. What it acknowledges is on the disk.

A segment's first record names its schema and writer, its last one (`end`) the number of records before it; when it is closed in
order its name goes into the file `closed` as well, so that a segment cut short, or gone, is missed. `append` returns when its
records are on the disk; several threads share one fsync (group commit). A failed write or fsync is final: nothing is retried as
if it had not happened. One exception: when the disk is full, a file that was allocated beforehand is freed, and the records of
calls already paid for are written into its place; `trouble` then says why nothing more should be started.

Files have mode 0600 in folders of mode 0700. New files and folders are made durable by an fsync of the folder above them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bisect_ai.errors import StoreError
from bisect_ai.store.locks import hold, is_locked
from bisect_ai.store.record_lines import NEEDS, SCHEMA, Entry, encode

SUFFIX = ".journal"
CLOSED = "closed"
# Bytes set aside so that what is under way, or has come in and waits to be written, still fits when the disk is full: the
# three rounds that a fixed design has out, about a hundred answers, at 20 KB each.
RESERVE = 5 << 19
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class JournalSegment:
    """One segment being written. `append` returns when its records are on the disk; a failed write is final."""

    def __init__(self, folder: Path, *, run: str) -> None:
        began = time.time_ns() // 1000
        self.path = folder / f"{run}-{began:014x}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self.trouble: StoreError | None = None
        self._folder = folder
        self._pid = os.getpid()
        self._writing, self._syncing = threading.RLock(), threading.Lock()
        self._sequence = self._size = self._synced = self._longest = 0
        self._broken: StoreError | None = None
        try:
            self._reserve: _Reserve | None = _Reserve(folder)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            hold(self._file)
            sync_folder(folder)
        except OSError as error:
            raise StoreError(
                f"cannot create a journal segment in {folder}: {_write_reason(error, folder, needed=RESERVE)}"
            ) from error
        head = {"type": "segment", "schema": SCHEMA, "needs": NEEDS, "run": run, "pid": self._pid}
        self.append([({**head, "host": socket.gethostname(), "at": began}, None)])

    def append(self, entries: Iterable[Entry], *, wait: bool = True) -> list[int]:
        """Write the records and wait for the disk; gives the place of each line in bytes. Raises `StoreError`; then it is over.

        Without `wait` they reach the kernel only: a killed process does not lose them, a power cut may.
        """
        with self._writing:
            self._check_writable()
            lines = [encode(self._sequence + i, entry) for i, entry in enumerate(entries, 1)]
            places = _places_of_lines(lines, self._size)
            self._put_bytes(b"".join(lines))
            self._sequence += len(lines)
            self._longest = max(self._longest, *map(len, lines), 0)
            end = self._size
        if wait:
            self._sync_to(end)
        return places

    def check_room(self, under_way: int) -> None:
        """In trouble when so many records as long as the longest so far may not find room: they are on their way, and paid for."""
        need = under_way * self._longest
        if need <= RESERVE or self.trouble is not None:
            return
        space = os.statvfs(self._folder)
        if space.f_bavail * space.f_frsize + RESERVE < need:
            self.trouble = StoreError(_disk_message(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), need))

    def close(self, contents: Iterable[Entry] = ()) -> None:
        """Write the closing record, so that a later cut is noticed, after the contents if there are any, and release the file."""
        with self._writing:
            if self._file < 0:
                return
            if self._broken is None and os.getpid() == self._pid:
                with contextlib.suppress(StoreError, OSError):  # unclosed is what a killed run leaves: nothing is lost by it
                    places = [self.append([entry], wait=False)[0] for entry in contents]
                    records = self._sequence
                    end = {"type": "end", "records": records, **({"contents": places} if places else {})}
                    self.append([(end, None)])
                    _note_closed(self._folder, self.path.name, records)
            self._free_reserve()
            os.close(self._file)
            self._file = -1
            self._broken = self._broken or StoreError(f"journal segment {self.path.name} takes no more records: it was closed")

    def _check_writable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"journal segment {self.path.name} takes no more records: this process was forked from the one that writes it; "
                "start processes by spawn, or open the store in the child"
            )
        if self._broken is not None:
            raise StoreError(f"journal segment {self.path.name} takes no more records after: {self._broken}")

    def _put_bytes(self, data: bytes) -> None:
        try:
            _write_all(self._file, data)
        except OSError as error:
            if not (error.errno in _FULL and self._put_into_reserve(data, error)):
                raise self._broken_by(error, len(data)) from error
        self._size += len(data)

    def _put_into_reserve(self, data: bytes, full: OSError) -> bool:
        """Whether the records could be written after all, in the place of the reserve."""
        if self._reserve is None:
            return False
        message = StoreError(_disk_message(self.path, full, len(data)))
        self._free_reserve()
        try:
            os.ftruncate(self._file, self._size)  # what is left of the failed write
            _write_all(self._file, data)
        except OSError:
            return False
        self.trouble = message
        return True

    def _sync_to(self, end: int) -> None:
        with self._syncing:
            if self._synced >= end:
                return
            self._check_writable()
            target = self._size
            try:
                os.fsync(self._file)
                gone = os.fstat(self._file).st_nlink == 0
            except OSError as error:
                raise self._broken_by(error, end - self._synced) from error
            if gone:
                self._broken = StoreError(
                    f"the journal segment {self.path} was deleted while it was written; do not clean a store in use"
                )
                raise self._broken
            self._synced = target

    def _broken_by(self, error: OSError, need: int) -> StoreError:
        self._broken = StoreError(_disk_message(self.path, error, need))
        self.trouble = self._broken
        return self._broken

    def _free_reserve(self) -> None:
        if self._reserve is not None:
            self._reserve.release()
            self._reserve = None


class _Reserve:
    """A file of RESERVE bytes that nobody reads, locked while its process lives. Those of ended processes are swept first."""

    def __init__(self, folder: Path) -> None:
        for old in folder.glob("reserve-*"):
            if not is_locked(old):
                with contextlib.suppress(OSError):
                    old.unlink()
        self._path = folder / f"reserve-{os.getpid()}-{secrets.token_hex(4)}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        hold(self._file)
        try:
            _allocate_space(self._file)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give the space back."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)


def _allocate_space(file: int) -> None:
    try:
        os.posix_fallocate(file, 0, RESERVE)
    except OSError as error:
        if error.errno in _FULL:
            raise
        _write_all(file, bytes(RESERVE))  # a file system that allocates by writing only


def open_folder(path: Path) -> Path:
    """The store's journal folder, created private (mode 0700) when it isn't there."""
    folder = path / "journal"
    try:
        made = [p for p in (folder, path) if not p.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        for each in made:
            sync_folder(each.parent)
    except OSError as error:
        why = "a file has that name" if isinstance(error, FileExistsError) else error.strerror
        raise StoreError(f"cannot create the store {path}: {why}; name another folder with `store`") from error
    return folder


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a journal by name: of one run in the order of their beginning."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def closed_segments(folder: Path) -> dict[str, int]:
    """Name and number of records of every segment that was closed in order. Damaged lines are left out."""
    try:
        lines = (folder / CLOSED).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    return dict(_closed_names(lines))


def _closed_names(lines: Sequence[bytes]) -> Iterator[tuple[str, int]]:
    for line in lines:
        text, _, crc = line.rpartition(b" ")
        name, _, records = text.rpartition(b" ")
        if crc == b"%08x" % zlib.crc32(text) and records.isdigit():
            yield name.decode("ascii", "replace"), int(records)


def _note_closed(folder: Path, name: str, records: int) -> None:
    text = f"{name} {records}".encode("ascii", "replace")
    path = folder / CLOSED
    new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # Begun on a new line: the one before may have been torn.
        _write_all(file, b"%s%s %08x\n" % (b"" if new else b"\n", text, zlib.crc32(text)))
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        sync_folder(folder)


def _places_of_lines(lines: Sequence[bytes], start: int) -> list[int]:
    places = []
    for line in lines:
        places.append(start)
        start += len(line)
    return places


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_message(path: Path, error: OSError, need: int) -> str:
    return f"cannot write {need} bytes to the journal {path.name}: {_write_reason(error, path.parent)}"


def _write_reason(error: OSError, folder: Path, *, needed: int = 0) -> str:
    wanted = f", {needed} are needed" if needed else ""
    try:
        space = os.statvfs(folder)
        free = f" ({space.f_bavail * space.f_frsize} bytes free in {folder}{wanted})"
    except OSError:
        free = ""
    if error.errno in _FULL:
        return f"{error.strerror}{free}; free space, then run the same command again: all that was acknowledged is kept"
    return (
        f"{error.strerror}{free}; check the disk and its rights, then run the same command again: what was acknowledged is kept"
    )
