"""Instants of a log as microseconds since 1970 in UTC, and windows of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from itertools import pairwise
from typing import Any

from bisect_ai.errors import QueryError

Window = tuple[int | None, int | None]
"""The first instant inside, and the first after; None: no bound."""
SCALES = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
"""A bare number is seconds, milliseconds or microseconds (else nanoseconds), by its size: (below, microseconds per unit)."""
MONGO = ("$date", "$numberLong")
"""What MongoDB's exports wrap times and numbers in."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
