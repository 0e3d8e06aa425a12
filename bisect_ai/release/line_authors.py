"""Who wrote each line of a file, so that lines by different people are different changes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from bisect_ai.errors import ReleaseError
from bisect_ai.release.checkout import Checkout
from bisect_ai.release.git import git_output

_SECONDS = 20.0
"""That blaming all files of a diff may take; hunks of what is left stay whole."""
_HEAD = re.compile(rb"([0-9a-f]{40,64}) [0-9]+ [0-9]+(?: [0-9]+)?")


class LineAuthors:
    """Authors by file of a checkout, each asked for once."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._known: dict[str, Sequence[str]] = {}
        self._left = _SECONDS

    def __call__(self, path: str) -> Sequence[str]:
        """The author of each line of the file `path` (below `repo`); nothing when git does not say in time."""
        if path not in self._known:
            start = time.monotonic()
            self._known[path] = self._blamed(path) if self._left > 0 else ()
            self._left -= time.monotonic() - start
        return self._known[path]

    def _blamed(self, path: str) -> Sequence[str]:
        side = self._checkout
        where = (*((side.commit,) if side.commit else ()), "--", side.prefix + path)
        try:
            return authors_of(
                git_output(side.top, "-c", "blame.ignoreRevsFile=", "blame", "--porcelain", *where, seconds=self._left)
            )
        except ReleaseError:
            return ()


def authors_of(porcelain: bytes) -> list[str]:
    """The author of each line of a porcelain blame."""
    authors: dict[bytes, str] = {}
    lines, commit = [], b""
    for line in porcelain.split(b"\n"):
        if line.startswith(b"\t"):
            lines.append(authors.get(commit, ""))
        elif (head := _HEAD.fullmatch(line)) is not None:
            commit = head[1]
        elif line.startswith(b"author "):
            authors.setdefault(commit, line[7:].decode("utf-8", "replace"))
    return lines
