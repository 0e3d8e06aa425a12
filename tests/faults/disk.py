"""Disks that fill up, fail and lose power, in the place of the `os` that the journal writes through."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Disk:
    """The real `os`; what a fault needs is overridden."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class QuickDisk(Disk):
    """Does not wait for the platter: for faults that lie elsewhere."""

    def fsync(self, file: int) -> None:
        """Nothing."""


class FillingDisk(QuickDisk):
    """Takes `room` bytes, then no more; the journal's reserve, once it is given back, makes room for `reserve` bytes."""

    def __init__(self, room: int, *, reserve: int) -> None:
        self.room, self._reserve = room, reserve
        self.full = False

    def posix_fallocate(self, file: int, start: int, size: int) -> None:
        """The reserve is accounted for by `reserve`."""

    def write(self, file: int, data: bytes) -> int:
        if not self.room:
            if not self.full:
                self.full, self.room = True, self._reserve
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = os.write(file, bytes(data)[: self.room])
        self.room -= taken
        return taken


class FailingDisk(Disk):
    """Its `n`-th fsync fails."""

    def __init__(self, n: int) -> None:
        self._left = n

    def fsync(self, file: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(file)


@dataclass
class _File:
    created_durably: bool = False
    synced: bytes = b""
    unsynced: list[bytes] = field(default_factory=list)


class RecordedDisk(Disk):
    """Remembers what was written, synced and acknowledged, in order: `crashes` are the disks that a power cut may leave."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, Any]] = []
        self._names: dict[int, str] = {}

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        file = os.open(path, flags, mode)
        self._names[file] = "" if flags & os.O_DIRECTORY else Path(path).name
        if flags & os.O_CREAT:
            self.events.append(("create", Path(path).name, None))
        return file

    def write(self, file: int, data: bytes) -> int:
        taken = os.write(file, data)
        self.events.append(("write", self._names[file], bytes(data)[:taken]))
        return taken

    def fsync(self, file: int) -> None:
        os.fsync(file)
        self.events.append(("sync", self._names[file], None))

    def acknowledge(self, what: Any) -> None:
        self.events.append(("acknowledged", "", what))

    def crashes(self, rng: random.Random, count: int) -> Iterator[tuple[dict[str, bytes], list[Any]]]:
        """(file name to content, what had been acknowledged) for `count` moments and fates of what was not synced."""
        for _ in range(count):
            files, acknowledged = self._until(rng.randrange(1, len(self.events) + 1))
            yield {name: _after(file, rng) for name, file in files.items() if _is_there(file, rng)}, acknowledged

    def _until(self, moment: int) -> tuple[dict[str, _File], list[Any]]:
        files: dict[str, _File] = {}
        acknowledged: list[Any] = []
        for kind, name, what in self.events[:moment]:
            if kind == "acknowledged":
                acknowledged.append(what)
            elif kind == "sync" and name == "":
                for file in files.values():
                    file.created_durably = True
            elif kind == "create":
                files.setdefault(name, _File())
            elif kind == "write":
                files[name].unsynced.append(what)
            else:
                files[name].synced += b"".join(files[name].unsynced)
                files[name].unsynced = []
        return files, acknowledged


def _is_there(file: _File, rng: random.Random) -> bool:
    return file.created_durably or rng.random() < 0.5


def _after(file: _File, rng: random.Random) -> bytes:
    """What was synced, and any part of what was not: dropped, torn, holes before later data, old bytes in its place."""
    tail = b""
    for piece in file.unsynced:
        fate = rng.choice(["kept", "dropped", "torn", "hole", "garbage"])
        cut = rng.randrange(len(piece) + 1)
        tail += {
            "kept": piece,
            "dropped": b"",
            "torn": piece[:cut],
            "hole": bytes(cut) + piece[cut:],
            "garbage": piece[:cut] + rng.randbytes(len(piece) - cut),
        }[fate]
        if fate in ("dropped", "torn") and rng.random() < 0.7:
            break
    return file.synced + tail
