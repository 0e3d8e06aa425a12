"""What was deployed when, from a file of events: JSON lines, or rows of any log format, with a time and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import source_of
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.times import microseconds
from bisect_ai.queries.values import missing, text_of

TIMES = ("at", "time", "timestamp", "date", "deployed_at", "created_at")
WORDS = ("what", "name", "title", "message", "service", "release", "version", "ref", "sha", "commit", "environment")
"""Where an event holds its time, and what it was, the likeliest first."""
MOST_EVENTS = 100_000
LONGEST = 80


class DeployEvent(NamedTuple):
    """Something that was deployed: `at` in microseconds since 1970."""

    at: int
    what: str


def read_events(source: Any, folder: Path | None = None) -> tuple[DeployEvent, ...]:
    """The events of a file, in order of time. Raises `QueryError` for one that cannot be read, or an event without a time."""
    _, rows, _ = source_of(source, LogSettings(), folder or Path())
    found = []
    for spot, row in rows.rows():
        at = next((at for name in TIMES if (at := microseconds(row.get(name))) is not None), None)
        if at is None:
            raise QueryError(f"{rows.where(spot)}: the event has no time; name it `at`, like 2026-11-12T09:32:00Z")
        told = [text_of(row[name])[:LONGEST] for name in WORDS if not missing(row.get(name))]
        found.append(DeployEvent(at, " ".join(dict.fromkeys(told[:3])) or "a deploy"))
        if len(found) > MOST_EVENTS:
            raise QueryError(f"more than {MOST_EVENTS:,} events; name a file of deploys, not a log")
    return tuple(sorted(found))
