"""Where the lines of a large file begin: a count of line ends for each block, made in one pass."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 2**18
"""Bytes that are searched for one line."""
END = 10


class LineIndex:
    """The lines of a file, which are counted from 1. `lines` is their number."""

    def __init__(self, path: Path) -> None:
        self._path, self._ends = path, [0]
        last = b"\n"
        with path.open("rb") as stream:
            while data := stream.read(BLOCK):
                self._ends.append(self._ends[-1] + _count(data))
                last = data[-1:]
        self.lines = self._ends[-1] + (last != b"\n")

    def offsets(self, lines: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(line, byte offset) of each of the lines, in order."""
        import numpy as np

        held, ends = -1, np.empty(0, dtype=np.int64)
        with self._path.open("rb") as stream:
            for line in sorted(lines):
                if line == 1:
                    yield 1, 0
                    continue
                block = bisect_right(self._ends, line - 2) - 1  # the block that holds the end of the line before
                if block != held:
                    stream.seek(block * BLOCK)
                    held, ends = block, np.flatnonzero(np.frombuffer(stream.read(BLOCK), np.uint8) == END)
                yield line, block * BLOCK + int(ends[line - 2 - self._ends[block]]) + 1


def _count(data: bytes) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == END))
