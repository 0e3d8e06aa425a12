"""Releases told apart: by another column (the file, the run, a prompt's name), or by windows of time in microseconds of UTC."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from bisect_ai.errors import QueryError

# The first instant inside, and the first after; None: no bound.
Window = tuple[int | None, int | None]
# A bare number is seconds, milliseconds or microseconds (else nanoseconds), by its size: (below, microseconds per unit).
SCALES = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
# What MongoDB's exports wrap times and numbers in.
MONGO = ("$date", "$numberLong")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Labels:
    """The rule of `release: {by: file, good: "a*.json", bad: "b*.json"}`: a column, and a pattern for each label."""

    by: str
    patterns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rule: Mapping[str, Any] | None) -> Labels | None:
        """The rule that a setting writes; None for none. Raises `QueryError` for a rule that names no column or no label."""
        if rule is None:
            return None
        by = rule.get("by")
        patterns = tuple((str(name), str(pattern)) for name, pattern in rule.items() if name != "by")
        if not isinstance(by, str) or not by or not patterns:
            raise QueryError(
                'log.release names no column or no label; write release: {by: file, good: "a*.json", bad: "b*.json"}, '
                "where `by` is file, run_id, run_name or a column of the log"
            )
        return cls(by, patterns)

    def label(self, value: str | None) -> str | None:
        """The first label whose pattern the value matches; None for none."""
        if value is None:
            return None
        return next((name for name, pattern in self.patterns if matches(value, pattern, is_path=self.by == "file")), None)


def matches(value: str, pattern: str, *, is_path: bool) -> bool:
    """Whether a value matches a shell pattern; of paths only as many last parts count as both have."""
    if not is_path:
        return fnmatchcase(value, pattern)
    own, wanted = PurePath(value).parts, PurePath(pattern).parts
    depth = min(len(own), len(wanted))
    return bool(depth) and all(fnmatchcase(a, b) for a, b in zip(own[-depth:], wanted[-depth:], strict=True))


def file_names(paths: Sequence[Path]) -> list[str]:
    """What each of a log's files is called: its path below the folder that they share, so that a name tells them apart."""
    if len(paths) == 1:
        return [paths[0].name]
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(shared).as_posix() for path in paths]


# -- times ----------------------------------------------------------------------------------------------------------------
def microseconds(value: Any) -> int | None:
    """The instant that a cell holds; None for none. Without a zone it is UTC."""
    while isinstance(value, Mapping) and len(value) == 1 and (held := next((key for key in MONGO if key in value), None)):
        value = value[held]
    if isinstance(value, str):
        value = _parsed_time(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - EPOCH) // (EPOCH.resolution)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**19:
        return None
    return next((int(value * unit) for below, unit in SCALES if abs(value) < below), int(value // 1000))


def told_time(instant: int) -> str:
    """An instant as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(instant // 10**6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parsed_time(text: str) -> Any:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def window(since: Any, until: Any, name: str) -> Window:
    """The window between two instants as users write them. Raises `QueryError` for what is no instant, or an empty window."""
    bounds = [None if bound is None else microseconds(bound) for bound in (since, until)]
    for bound, written in zip(bounds, (since, until), strict=True):
        if bound is None and written is not None:
            raise QueryError(f"cannot read {written!r} as a time ({name}); write 2026-11-20 or 2026-11-20T16:00:00Z")
    if bounds[0] is not None and bounds[1] is not None and bounds[0] >= bounds[1]:
        raise QueryError(f"the time window of {name} is empty: {since} is not before {until}")
    return bounds[0], bounds[1]


def inside(instant: int, bounds: Window) -> bool:
    """Whether an instant lies in a window."""
    return (bounds[0] is None or instant >= bounds[0]) and (bounds[1] is None or instant < bounds[1])


def refuse_overlap(windows: Mapping[str, Window]) -> None:
    """Raise `QueryError` when two releases share an instant: a record without a release would be guessed."""
    lowest, highest = -(2**63), 2**63
    ordered = sorted(
        (low if low is not None else lowest, high if high is not None else highest, name)
        for name, (low, high) in windows.items()
    )
    for (_, end, first), (start, _, second) in pairwise(ordered):
        if start < end:
            raise QueryError(f"the time windows of {first} and {second} overlap; end one where the other begins")
