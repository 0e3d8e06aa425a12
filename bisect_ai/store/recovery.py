"""Reading the journal: every intact record, once, and an exact account of what is not intact.

A reader remembers where it stopped, so that what other processes have added since is read without starting again. Lines are kept
when their checksum agrees, whatever lies around them. A record counts as lost when a later sequence number jumps over it, when a
line is damaged, or when a segment that was closed in order is shorter than it was (or gone). A line without its end is what a
kill leaves: it was never acknowledged, and is counted apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisect_ai.errors import StoreError
from bisect_ai.store.journal import closed_segments, segment_paths
from bisect_ai.store.locks import is_locked
from bisect_ai.store.record_lines import Contents, Record, check_schema, decode, is_sound

# A record with its place: (offset in bytes, head, payload).
Placed = tuple[int, dict[str, Any], bytes]
_TAIL = 4096  # bytes that hold the last record of an ended segment
# File systems may stamp two changes alike that are nearer than this (ext4: a jiffy, 10 ms at most).
_MOMENT_NS = 50_000_000


@dataclass
class Damage:
    """What could not be read: segment name to the number of records lost; segments that end in a torn line are counted apart."""

    lost: dict[str, int] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)


class Reader:
    """One segment, read from where the last reading stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Bytes read: whole lines only.
        self.size = 0
        self.records = 0
        # Bytes after the last whole line.
        self.pending = 0
        self.closed = False
        self.header: dict[str, Any] | None = None
        self._expected = 1
        self._missed = self._bad = 0

    @property
    def lost(self) -> int:
        """Records known to be lost."""
        return self._missed + self._bad

    @property
    def sequence(self) -> int:
        """The number that the next record should have."""
        return self._expected

    def resume(self, *, size: int, records: int, sequence: int, lost: int, closed: bool) -> None:
        """Go on from where an earlier reading of the same segment stopped."""
        self.size, self.records, self._expected, self._missed, self.closed = size, records, sequence, lost, closed

    def has_more(self) -> bool:
        """Whether the file has grown since it was read."""
        try:
            return self.path.stat().st_size > self.size + self.pending
        except OSError:
            return False

    def read(self) -> Iterator[Placed]:
        """The intact records that were not read before. Raises `StoreError` when the segment is of a later schema."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.size)
                yield from self._placed_lines(file)
        except FileNotFoundError:  # purged meanwhile, or never durable
            return
        except OSError as error:
            raise StoreError(f"cannot read the journal segment {self.path}: {error.strerror}; check its rights") from error

    def by_contents(self) -> Iterator[tuple[int, dict[str, Any], Any]]:
        """The contents of a closed segment (as payload of a record of that type) and the records they do not stand for.

        Nothing when there are none, or anything about them is wrong: then every line is to be read.
        """
        try:
            with self.path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - _TAIL))
                tail = file.read()
                last = _decoded_record(tail[tail.rfind(b"\n", 0, -1) + 1 :])
                named = last[1]["contents"]
                places = named if isinstance(named, list) else [named]
                contents = [Contents.from_payload(_record_at(file, place)[2]) for place in places]
                others = [place for each in contents for place in each.others]
                found = [(place, *_record_at(file, place)[1:]) for place in (0, *others)]
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        self.header = found[0][1]
        check_schema(self.path.name, self.header)
        self.size, self.closed = end, True
        self.records, self._expected = last[1]["records"] + 1, last[0] + 1
        yield from ((place, {"type": "contents"}, each) for place, each in zip(places, contents, strict=True))
        yield from found[1:]

    def _placed_lines(self, file: Any) -> Iterator[Placed]:
        self.pending = 0
        for line in file:
            record = decode(line)
            if record is None or not is_sound(record[1]):
                if line[-1:] != b"\n":
                    self.pending = len(line)
                    return
                self.size += len(line)
                self._bad += 1
                continue
            place = self.size
            self.size += len(line)
            sequence, head, payload = record
            self._count_record(sequence)
            kind = head["type"]
            if kind == "segment":
                check_schema(self.path.name, head)
                self.header = head
            elif kind == "end":
                self.closed = True
            yield place, head, payload

    def _count_record(self, sequence: int) -> None:
        self.records += 1
        if sequence == self._expected and not self._bad:
            self._expected += 1
            return
        self._missed += max(self._bad, sequence - self._expected, 0)
        self._bad = 0
        self._expected = max(self._expected, sequence + 1)


def _record_at(file: Any, place: int) -> Record:
    file.seek(place)
    return _decoded_record(file.readline())


def _decoded_record(line: bytes) -> Record:
    record = decode(line)
    if record is None or not is_sound(record[1]):
        raise ValueError("damaged")
    return record


class Folder:
    """All segments of a journal, in the order of their names (of one run: in the order of their beginning).

    Reading again costs a look at the folder and at each segment that is not closed, unless there is something new.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.readers: dict[str, Reader] = {}
        self._listed = 0

    def read(self, *, skip: str | None = None, contents: bool = False) -> Iterator[tuple[Reader, Placed]]:
        """Every intact record that was not read before, with the reader of its segment; not of the segment `skip`.

        `contents`: those of long closed segments may stand for their trials.
        """
        self._list_segments()
        for reader in list(self.readers.values()):
            if not reader.closed and reader.path.name != skip and reader.has_more():
                if contents and not reader.size:
                    yield from ((reader, placed) for placed in reader.by_contents())
                if not reader.closed:
                    yield from ((reader, placed) for placed in reader.read())

    def _list_segments(self) -> None:
        """Find new segments. A folder that changed this moment may change once more without a new time stamp."""
        changed = self.path.stat().st_mtime_ns
        if changed == self._listed:
            return
        self._listed = changed if time.time_ns() - changed > _MOMENT_NS else 0
        for path in segment_paths(self.path):
            self.readers.setdefault(path.name, Reader(path))

    def damage(self) -> Damage:
        """What is missing, as far as it has been read; the segments of living writers cannot be torn."""
        damage = Damage({name: r.lost for name, r in self.readers.items() if r.lost})
        for name, records in closed_segments(self.path).items():
            short = self._cut_short(name, records)
            if short:
                damage.lost[name] = max(damage.lost.get(name, 0), short)
        damage.torn = [name for name, r in self.readers.items() if r.pending and not is_locked(r.path)]
        return damage

    def _cut_short(self, name: str, records: int) -> int:
        """Records missing from a segment that was closed with so many: 0 when it is whole, or was closed since it was read."""
        reader = self.readers.get(name)
        if reader is None:
            return 0 if (self.path / name).exists() else records
        return 0 if reader.closed or reader.has_more() else max(1, records - reader.records)
