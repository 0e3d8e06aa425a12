"""The journal: append-only segments of checksummed JSON lines. What it acknowledges is on the disk.

A line is `<sequence> <length> <crc32> <json>\\n`: decimal sequence number within the segment, length of the JSON in bytes, CRC-32
of it as eight hex digits, canonical ASCII JSON. One segment per process and run, created with mode 0600 in a folder of mode
0700. A reader keeps every line whose length and checksum agree, and counts the rest; a torn last line is normal after a kill.
"""

from __future__ import annotations

import os
import secrets
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisect_ai.canonical import canonical
from bisect_ai.errors import StoreError

SCHEMA = "bisect-ai/journal@1"
SUFFIX = ".journal"


class Segment:
    """One segment being written. `append` returns when its records are on the disk; a failed write is final."""

    def __init__(self, folder: Path, *, run: str) -> None:
        self.path = folder / f"{run}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sequence = 0
        self._broken = False
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            _sync_folder(folder)
        except OSError as error:
            raise StoreError(
                f"cannot create a journal segment in {folder}: {error.strerror}; check the disk and rights"
            ) from error
        self.append([{"type": "segment", "schema": SCHEMA, "run": run}])

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write the records and wait for the disk. Raises `StoreError`; then nothing more is accepted."""
        with self._lock:
            if self._broken or os.getpid() != self._pid:
                raise StoreError(f"journal segment {self.path.name} takes no more records after a failed write or a fork")
            lines = b"".join(self._line(record) for record in records)
            try:
                _write_all(self._file, lines)
                os.fsync(self._file)
            except OSError as error:
                self._broken = True
                raise StoreError(_disk_message(self.path, error, len(lines))) from error

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if not self._broken:
                self._broken = True
                os.close(self._file)

    def _line(self, record: Mapping[str, Any]) -> bytes:
        body = canonical(record).encode("ascii")
        self._sequence += 1
        return b"%d %d %08x %s\n" % (self._sequence, len(body), zlib.crc32(body), body)


@dataclass
class Damage:
    """What could not be read: segment name to the number of lines lost; a torn last line is counted apart."""

    lost: dict[str, int] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)


def open_folder(path: Path) -> Path:
    """The store's journal folder, created private (mode 0700) when it isn't there."""
    folder = path / "journal"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create the store {path}: {error.strerror}; name another folder with `store`") from error
    return folder


def read_folder(folder: Path, damage: Damage) -> Iterator[dict[str, Any]]:
    """Every intact record of every segment, in order of segment name and sequence; what is not goes into `damage`."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield from read_segment(path, damage)


def read_segment(path: Path, damage: Damage) -> Iterator[dict[str, Any]]:
    """The intact records of one segment. Raises `StoreError` when it is of a later schema."""
    expected = 1
    with path.open("rb") as file:
        for line in file:
            parsed = _parse(line)
            if parsed is None:
                if line.endswith(b"\n"):
                    continue
                damage.torn.append(path.name)
                return
            sequence, record = parsed
            if sequence > expected:
                damage.lost[path.name] = damage.lost.get(path.name, 0) + sequence - expected
            expected = sequence + 1
            if record.get("type") == "segment" and record.get("schema") != SCHEMA:
                raise StoreError(
                    f"{path.name} is of schema {record.get('schema')!r}; this version reads {SCHEMA}: upgrade bisect-ai"
                )
            yield record


def _parse(line: bytes) -> tuple[int, dict[str, Any]] | None:
    import json

    parts = line.split(b" ", 3)
    if len(parts) != 4 or not line.endswith(b"\n"):
        return None
    body = parts[3][:-1]
    try:
        if int(parts[1]) != len(body) or int(parts[2], 16) != zlib.crc32(body):
            return None
        return int(parts[0]), json.loads(body)
    except ValueError:
        return None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_message(path: Path, error: OSError, need: int) -> str:
    space = os.statvfs(path.parent)
    return (
        f"cannot write {need} bytes to the journal {path.name}: {error.strerror} ({space.f_bavail * space.f_frsize} bytes free); "
        "free space or name another store, then run the same command: all that was acknowledged is kept"
    )
