"""Since when: the onset of a loss in a log, and what was deployed about then."""

from __future__ import annotations

from bisect_ai.report.json_edge import Interval, Number, Omitted, Value


class NearDeploy(Value, frozen=True):
    """A deploy: `inside` the interval of the onset, or the last one before it."""

    at: str
    what: str
    who: Omitted[str | None] = None
    """Who deployed it; None: not recorded."""
    inside: bool = True


class OnsetBlock(Value, frozen=True):
    """Whether scores began to be lower at some time: `kind` is onset, or steady where none is proved.

    Times are ISO 8601; without logged times `first`, `low` and `high` (places of answers in the log, from 1) tell it.
    """

    kind: str
    evidence: Number | None = None
    bound: Number | None = None
    answers: int = 0
    first: int | None = None
    low: int | None = None
    high: int | None = None
    at: Omitted[str | None] = None
    since: Omitted[str | None] = None
    until: Omitted[str | None] = None
    before: Number | None = None
    after: Number | None = None
    interval: Interval = None
    """Of the loss, score points."""
    deploys: tuple[NearDeploy, ...] = ()
    events: int = 0
    """Deploys that were looked through."""
