"""What a post-mortem knows beside the run's report: times, releases, who answered, who was hit, what nobody recorded."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from bisect_ai.report.value_types import Interval, Number, Value


class HitQuery(Value, frozen=True):
    """A query that was probably hit, how likely, and what says so."""

    id: str
    probability: Number
    basis: str
    why: str


class TimelineEvent(Value, frozen=True):
    """An instant (UTC), what it was (ours), and of what (text of others)."""

    at: str | None = None
    what: str
    of: str | None = None


class LoggedWindow(Value, frozen=True):
    """The logged queries that a release answered, from first to last instant."""

    release: str
    queries: int
    first: str | None = None
    last: str | None = None


class LoggedWindows(Value, frozen=True):
    """The windows of both releases; None: not looked for."""

    good: LoggedWindow | None = None
    bad: LoggedWindow | None = None


class ReleaseState(Value, frozen=True):
    """A release with the digest of each axis; `axes` None: it could not be read."""

    name: str
    digest: str
    axes: Mapping[str, str] | None = None


class ReleaseStates(Value, frozen=True):
    """Both releases."""

    good: ReleaseState
    bad: ReleaseState


class RequestedModels(Value, frozen=True):
    """What each release asks for; None: not known."""

    good: object = None
    bad: object = None


class ReturnedModel(Value, frozen=True):
    """A model that answered, as it named itself, in `n` answers."""

    model: str | None = None
    fingerprint: str | None = None
    n: int


class ReturnedModels(Value, frozen=True):
    """What answered under each release, the most frequent first."""

    good: tuple[ReturnedModel, ...] = ()
    bad: tuple[ReturnedModel, ...] = ()


class ModelState(Value, frozen=True):
    """The models that were asked for, and those that answered."""

    requested: RequestedModels
    returned: ReturnedModels


class ScorerState(Value, frozen=True):
    """A scorer of the run; `settings` None: not known any more."""

    name: str
    digest: str
    decides: bool
    settings: object = None


class SegmentShift(Value, frozen=True):
    """A segment's share of the queries of both windows."""

    segment: str
    good: Number
    bad: Number


class TrafficShift(Value, frozen=True):
    """How the queries of both windows spread over the segments of a column, the largest shift first."""

    column: str | None = None
    good_queries: int
    bad_queries: int
    segments: tuple[SegmentShift, ...] = ()


class BlastRadius(Value, frozen=True):
    """How many queries were hit. `window`: bad (the log names releases), log (it names none), None (no log)."""

    window: str | None = None
    queries: int | None = None
    replayed: int
    measured_hits: int
    expected_measured: Number
    others: int
    expected_others: Number | None = None
    expected: Number | None = None
    interval: Interval = None
    learnt_from: int | None = None
    logged_scores: bool = False
    told_apart_by: tuple[str, ...] = ()
    method: str


class FixVerification(Value, frozen=True):
    """What `verify` said of a fix."""

    at: str | None = None
    run: str
    fix: str
    kind: str
    sentence: str


class PostmortemFacts(Value, frozen=True):
    """Everything beside the report."""

    schema_: str = ""
    run: str = ""
    made_at: str | None = None
    timeline: tuple[TimelineEvent, ...] = ()
    windows: LoggedWindows = Field(default_factory=LoggedWindows)
    releases: ReleaseStates
    model: ModelState
    scorers: tuple[ScorerState, ...] = ()
    traffic: TrafficShift | None = None
    blast: BlastRadius
    verifications: tuple[FixVerification, ...] = ()
    unknown: tuple[str, ...] = ()
