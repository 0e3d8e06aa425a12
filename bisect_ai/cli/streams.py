"""Standard streams that a caller closed, or that cannot be written: neither stumble over them nor lend their numbers out."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def hold_standard_streams() -> None:
    """Occupy the numbers 0 to 2 where they are closed, or the next file opened (a segment of the store) would get what is printed.

    A closed standard output then fails when it is written, as a full one does; what goes to a standard error that fails is dropped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)  # the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # a number, and for the process's life
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stdout = _written_whole(sys.stdout)
    sys.stderr = _Unheard(sys.stderr)


def _written_whole(stream: Any) -> Any:
    """The stream with a buffer. Without one (PYTHONUNBUFFERED) Python drops in silence what a nearly full disk does not take."""
    if not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    encoding, errors = stream.encoding, stream.errors
    return io.TextIOWrapper(io.BufferedWriter(stream.detach()), encoding=encoding, errors=errors, line_buffering=True)


class _Unheard:
    """A stream whose failures to write are no errors."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The characters taken, whether anybody got them or not."""
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Pass on what can be passed on."""
        try:
            self._stream.flush()
        except OSError:
            return
