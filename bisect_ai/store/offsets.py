"""Where each trial's record is, and each trial's scores, in some two hundred bytes a trial.

A trial is known here by the 32 bytes of its digest, and has a row in columns of plain numbers.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from pathlib import Path
from typing import Any

from bisect_ai.store.record_lines import decode

_OPEN_FILES = 32  # a process may hold 256 on some systems, and clients need theirs
_FIRST_READ = 4096  # most records fit: one read
_NOWHERE = 2**64 - 1  # no record is known; no file is as long
_UNKNOWN, _VALUE, _NONE, _ERROR = range(4)


def key_of(identity: str) -> bytes:
    """The key of a trial: its SHA-256 in bytes, or its text when it is no digest."""
    try:
        return bytes.fromhex(identity) if len(identity) == 64 else identity.encode("utf-8", "surrogatepass")
    except ValueError:
        return identity.encode("utf-8", "surrogatepass")


class Places:
    """Trial to its scores and to the place of its record; `read` gets the record from there, `held` from memory without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._rows: dict[bytes, int] = {}
        self._scores: dict[str, _Column] = {}
        self._segments: dict[str, int] = {}
        self._names: list[str] = []
        self._segment, self._offset = array("I"), array("Q")
        self._memory: list[Any] = []
        self._files: OrderedDict[str, int] = OrderedDict()
        self._guard = threading.Lock()

    def row(self, key: bytes) -> int:
        """The row of a trial, a new one if it has none yet."""
        row = self._rows.setdefault(key, len(self._offset))
        if row == len(self._offset):
            self._segment.append(0)
            self._offset.append(_NOWHERE)
        return row

    def set(self, row: int, segment: str, offset: int) -> None:
        """Note where a trial's record is; the first record of a trial stands."""
        if self._offset[row] == _NOWHERE:
            self._segment[row], self._offset[row] = self._number_of(segment), offset

    def get(self, key: bytes) -> tuple[str, int] | None:
        """The place of a trial's record: segment name and offset."""
        row = self._rows.get(key)
        if row is None or self._offset[row] == _NOWHERE:
            return None
        return self._names[self._segment[row]], self._offset[row]

    def forget(self, key: bytes) -> None:
        """Take a trial for unanswered: its record turned out to be damaged."""
        self._offset[self._rows[key]] = _NOWHERE

    def set_score(self, row: int, scorer: str, value: float | None, error: str | None) -> None:
        """Keep a score; the first one stands."""
        column = self._scores.get(scorer)
        if column is None:
            column = self._scores[scorer] = _Column()
        column.set(row, value, error)

    def get_score(self, key: bytes, scorer: str) -> tuple[float | None, str | None] | None:
        """A score and why there is none; None when it was never scored."""
        row, column = self._rows.get(key), self._scores.get(scorer)
        return None if row is None or column is None else column.get(row)

    def hold(self, payload: Any) -> int:
        """Keep a payload in memory, if there is one; gives its place."""
        if payload is not None:
            self._memory.append(payload)
        return len(self._memory) - 1

    def held(self, offset: int) -> Any:
        """The payload that is kept in memory at a place."""
        return self._memory[offset]

    def read(self, segment: str, offset: int) -> tuple[dict[str, Any], bytes] | None:
        """Head and payload of the record at a place; None when it is damaged or gone."""
        record = decode(self._line_at(segment, offset))
        return None if record is None else record[1:]

    def close(self) -> None:
        """Close the files that are open for reading."""
        with self._guard:
            while self._files:
                os.close(self._files.popitem()[1])

    def _number_of(self, segment: str) -> int:
        if segment not in self._segments:
            self._segments[segment] = len(self._names)
            self._names.append(segment)
        return self._segments[segment]

    def _line_at(self, segment: str, offset: int) -> bytes:
        try:
            with self._guard:
                file = self._file_of(segment)
                line = os.pread(file, _FIRST_READ, offset)
                while b"\n" not in line and (more := os.pread(file, 16 * len(line), offset + len(line))):
                    line += more
        except OSError:
            return b""
        return line[: line.find(b"\n") + 1]

    def _file_of(self, segment: str) -> int:
        assert self._folder is not None
        if segment not in self._files:
            self._files[segment] = os.open(self._folder / segment, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) > _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(segment)
        return self._files[segment]


class _Column:
    """The scores of one scorer, by row."""

    def __init__(self) -> None:
        self._values, self._states = array("d"), bytearray()
        self._errors: dict[int, str] = {}

    def set(self, row: int, value: float | None, error: str | None) -> None:
        missing = row + 1 - len(self._states)
        if missing > 0:
            self._states.extend(bytes(missing))
            self._values.extend([0.0] * missing)
        if self._states[row] == _UNKNOWN:
            self._states[row] = _ERROR if error is not None else _NONE if value is None else _VALUE
            self._values[row] = 0.0 if value is None else value
            if error is not None:
                self._errors[row] = error

    def get(self, row: int) -> tuple[float | None, str | None] | None:
        state = self._states[row] if row < len(self._states) else _UNKNOWN
        if state == _UNKNOWN:
            return None
        return (self._values[row] if state == _VALUE else None), self._errors.get(row)
