"""The blocks of reports on live answers: a canary's, since when a log scores lower, and whether a release still answers as its log."""

from __future__ import annotations

from bisect_ai.report.value_types import Interval, Number, Omitted, Value


class VerdictEvidence(Value, frozen=True):
    """The wealth staked on each verdict of a canary, and what each must pass."""

    roll_back: Number | None = None
    promote: Number | None = None
    roll_back_bound: Number | None = None
    promote_bound: Number | None = None


class AnswerTally(Value, frozen=True):
    """Answers of one release: all, those without a score, and when the first and the last were given (ISO 8601)."""

    answers: int
    unscored: int
    since: str | None = None
    until: str | None = None


class AnswerTallies(Value, frozen=True):
    """Both releases' answers."""

    baseline: AnswerTally
    canary: AnswerTally


class FurtherAnswers(Value, frozen=True):
    """What would probably settle it if the canary loses `if_loss`; None: no number would."""

    if_loss: Number | None = None
    baseline: int | None = None
    canary: int | None = None


class FurtherNeeded(Value, frozen=True):
    """What each verdict would probably take."""

    promote: FurtherAnswers
    roll_back: FurtherAnswers


class ColumnFate(Value, frozen=True):
    """A column's balance: `p` is paid for over columns and looks; shares of `level`, which differs most; what was done."""

    name: str
    fate: str
    p: Number
    level: str = ""
    baseline: Number = 0
    canary: Number = 0
    why: str = ""


class WithheldReason(Value, frozen=True):
    """Why promoting is withheld: by a column, the split of the traffic, or a segment that loses."""

    by: str
    name: str
    why: str = ""


class GuardedMetric(Value, frozen=True):
    """A guard: kept, violated or open; `limit` and the rise in its units, or parts of the baseline's mean where `relative`."""

    name: str
    kind: str
    limit: Number
    relative: bool
    # Whether a fall is what is guarded against: `limit` and `rise` are of the fall then.
    falls: bool = False
    # Whether it is told in points of 100.
    points: bool = False
    baseline: Number | None = None
    canary: Number | None = None
    rise: Number | None = None
    interval: Interval = None


class SegmentValue(Value, frozen=True):
    """A column and one of its values."""

    column: str
    level: str


class SegmentLoss(Value, frozen=True):
    """What one value of a column loses; the interval holds at every look and for all segments together."""

    column: str
    level: str
    # The value of a second column that must hold too.
    beside: Omitted[SegmentValue | None] = None
    # And that of a third.
    also: Omitted[SegmentValue | None] = None
    answers: int
    loss: Number | None = None
    interval: Interval = None
    proved: bool = False


class CanaryLook(Value, frozen=True):
    """The loss over all answers so far, with its always-valid interval."""

    answers: int
    loss: Number | None = None
    interval: Interval = None


class SavedAnswers(Value, frozen=True):
    """The part of the answers that covariates made unneeded."""

    share: Number
    by: tuple[str, ...] = ()


class CanaryBlock(Value, frozen=True):
    """What the live answers of a canary say: promote, roll_back or wait."""

    kind: str
    # Whether a machine may roll it back: wrong with a chance of 1 % at most.
    safe_to_revert: bool = False
    tolerance: Number
    alpha: Number | None = None
    bounds: tuple[Number, Number] | None = None
    evidence: VerdictEvidence
    decided_after: int | None = None
    by_guard: str | None = None
    answers: AnswerTallies
    # Whether the releases hardly answered at the same time.
    apart: bool = False
    missing_bounded: bool = False
    needed: FurtherNeeded
    segment: str | None = None
    # The share of traffic that was meant for the canary.
    share: Omitted[Number | None] = None
    split_p: Omitted[Number | None] = None
    balance: tuple[ColumnFate, ...] = ()
    withheld: tuple[WithheldReason, ...] = ()
    guards: tuple[GuardedMetric, ...] = ()
    segments: tuple[SegmentLoss, ...] = ()
    saved: Omitted[SavedAnswers | None] = None
    looks: tuple[CanaryLook, ...] = ()


class NearDeploy(Value, frozen=True):
    """A deploy: `inside` the interval of the onset, or the last one before it."""

    at: str
    what: str
    # Who deployed it; None: not recorded.
    who: Omitted[str | None] = None
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
    # Of the loss, score points.
    interval: Interval = None
    deploys: tuple[NearDeploy, ...] = ()
    # Deploys that were looked through.
    events: int = 0


class PinnedScores(Value, frozen=True):
    """What the same queries score now with what the release pins: the part of the drift that comes with the axes in question."""

    axes: tuple[str, ...] = ()
    # Why it was not asked, or gave no answers.
    why: str = ""
    # The mean score.
    value: Number | None = None
    queries: int = 0
    # Score points that pinning brings back, with an interval.
    back: Number | None = None
    interval: Interval = None
    # The part of the drift that it brings back.
    share: Number | None = None


class DriftBlock(Value, frozen=True):
    """One release against its own log. `changes`: what the provider says of itself that it did not say then."""

    # What the scores then are: those of stored answers, of logged answers scored now, or the log's own.
    reference: str = "log"
    # By which day the answers in the store that are the reference were given; None: the log is the reference.
    stored_on: str | None = None
    evidence: Number | None = None
    bound: Number | None = None
    # The loss that it should not miss.
    detect: Number | None = None
    queries: int = 0
    failed: int = 0
    # Whether nothing was asked anew: all answers are those of a check within the hour.
    repeated: bool = False
    changes: tuple[str, ...] = ()
    segments: tuple[SegmentLoss, ...] = ()
    # None: no drift is proved, or the release pins nothing.
    pinned: Omitted[PinnedScores | None] = None
