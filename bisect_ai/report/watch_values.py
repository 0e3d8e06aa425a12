"""Whether a release still answers as its log says, though nothing of it changed, and since when a log falls."""

from __future__ import annotations

from bisect_ai.report.canary_values import SegmentLoss
from bisect_ai.report.json_edge import Interval, Number, Omitted, Value


class PinnedScores(Value, frozen=True):
    """What the same queries score now with what the release pins: the part of the drift that comes with the axes in question."""

    axes: tuple[str, ...] = ()
    why: str = ""
    """Why it was not asked, or gave no answers."""
    value: Number | None = None
    """The mean score."""
    queries: int = 0
    back: Number | None = None
    """Score points that pinning brings back, with an interval."""
    interval: Interval = None
    share: Number | None = None
    """The part of the drift that it brings back."""


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
    pinned: Omitted[PinnedScores | None] = None
    """None: no drift is proved, or the release pins nothing."""


# -- since when ----------------------------------------------------------------------------------------------------------
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
