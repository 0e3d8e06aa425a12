"""What watching finds: since when a log has a loss, and what was deployed then; whether a release still answers as its log says."""

from __future__ import annotations

from bisect_ai.report.canary_values import SegmentLoss
from bisect_ai.report.json_edge import Interval, Number, Omitted, Value


class NearDeploy(Value, frozen=True):
    """A deploy: `inside` the interval of the onset, or the last one before it."""

    at: str
    what: str
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


class DriftBlock(Value, frozen=True):
    """One release against its own log. `changes`: what the provider says of itself that it did not say then."""

    reference: str = "log"
    """What the scores then are: those of stored answers, of logged answers scored now, or the log's own."""
    stored_on: str | None = None
    """By which day the answers in the store that are the reference were given; None: the log is the reference."""
    evidence: Number | None = None
    bound: Number | None = None
    detect: Number | None = None
    """The loss that it should not miss."""
    queries: int = 0
    failed: int = 0
    changes: tuple[str, ...] = ()
    segments: tuple[SegmentLoss, ...] = ()
