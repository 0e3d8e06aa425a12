"""What spends nothing, as frozen values: a plan, the diff of two releases, a row of the history; and what a run's report shares with
them: changes, the log, suspects. `plan` and `diff` load this and not the rest of the report."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from bisect_ai.report.value_types import Interval, Number, Omitted, Value


# -- changes ---------------------------------------------------------------------------------------------------------
class Provenance(Value, frozen=True):
    """Who made a change, when and why, as the release file or git has it: free text, or whatever a release file holds there."""

    owner: object = None
    author: object = None
    at: object = None
    date: object = None
    commit: object = None
    source: object = None
    subject: object = None
    # From the top of the repository, with the first `line` of it.
    file: object = None
    line: object = None
    why: object = None
    reason: object = None
    gaps: object = ()

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """What nobody recorded, in words."""
        return tuple(map(str, self.gaps)) if isinstance(self.gaps, list | tuple) else ()


class ShownCall(Value, frozen=True):
    """A tool call of an answer."""

    name: str = ""
    arguments: object = None
    error: object = None


class ShownAnswer(Value, frozen=True):
    """An answer of one release to a query."""

    text: str = ""
    score: Number | None = None
    tool_calls: tuple[ShownCall, ...] = ()
    # The call failed: `text` is its error.
    failed: Omitted[bool] = False


class FlippedQuery(Value, frozen=True):
    """A query that lost, with both answers."""

    query: str = ""
    segment: object = None
    input: object = None
    reference: object = None
    good: ShownAnswer = Field(default_factory=ShownAnswer)
    bad: ShownAnswer = Field(default_factory=ShownAnswer)


class ChangeReference(Value, frozen=True):
    """Where a change is."""

    axis: str
    path: str = ""
    summary: str = ""


class NamedChange(Value, frozen=True):
    """One change inside an axis: where it is, what it says, the text before and after, whose it was.

    `guilty`: named for a loss; False: shown not to matter; None: not known. What follows is known of guilty ones only.
    """

    axis: str = ""
    path: str = ""
    kind: str = ""
    summary: str = ""
    before: object = None
    after: object = None
    group: tuple[str, ...] = ()
    provenance: Mapping[str, object] = {}
    guilty: bool | None = None
    share: Number | None = None
    interval: Interval = None
    mode: str = "alone"
    # The changes that it acts together with, or instead of.
    with_: tuple[ChangeReference, ...] = ()
    method: str = ""
    n: int | None = None
    p_adjusted: Number | None = None
    # A few queries that it breaks, with the good and the bad answer.
    queries: tuple[FlippedQuery, ...] = ()

    @property
    def origin(self) -> Provenance:
        """Its provenance by fields."""
        return Provenance.model_validate(self.provenance)

    @property
    def is_white_space(self) -> bool:
        """Whether line ends or other white space are all that differs: before and after would look the same."""
        return self.summary.startswith(("only white space: ", "only the line ends: "))


# -- the log, and what the static check suspects -----------------------------------------------------------------------
class LogMixture(Value, frozen=True):
    """Records that one release, at some versions, answered."""

    release: str | None = None
    versions: Mapping[str, object] = {}
    n: int | None = None


class LogBlock(Value, frozen=True):
    """What became of the log's records: `read` is `kept` and the sum of `dropped`; `missing` counts `sampled` queries."""

    format: str = ""
    read: int | None = None
    kept: int | None = None
    dropped: Mapping[str, int] = {}
    # Sampled questions that lost images, files, audio or text in the log, by kind.
    lost: Mapping[str, int] = {}
    sampled: int | None = None
    missing: Mapping[str, int] = {}
    releases: tuple[LogMixture, ...] = ()


class ReportedSuspect(Value, frozen=True):
    """A suspect of the static check: no evidence."""

    axes: tuple[str, ...] = ()
    message: str = ""
    where: str = ""


# -- a plan, a diff, a history ----------------------------------------------------------------------------------------
class ForecastCell(Value, frozen=True):
    """A combination: the share of its queries that will miss on the tape, at most, and why."""

    bad_axes: tuple[str, ...]
    tools: int = 0
    missing: Number
    most: Number
    why: tuple[str, ...] = ()


class ForecastTape(Value, frozen=True):
    """Good, bad, then each axis alone."""

    queries: int = 0
    cells: tuple[ForecastCell, ...] = ()


class PlannedDesign(Value, frozen=True):
    """What another design would take and see."""

    design: str
    calls: int | None = None
    usual_calls: int | None = None
    queries: int | None = None
    usd: Number | None = None
    smallest_effect: Number | None = None


class SentFunction(Value, frozen=True):
    """A tool that a message calls."""

    name: str = ""
    arguments: object = None


class SentCall(Value, frozen=True):
    """A tool call of a message."""

    id: str = ""
    type: str = ""
    function: SentFunction = Field(default_factory=SentFunction)


class SentMessage(Value, frozen=True):
    """A message as it would be sent."""

    role: str = ""
    content: object = None
    tool_calls: Omitted[tuple[SentCall, ...]] = ()
    tool_call_id: Omitted[str | None] = None
    name: Omitted[str | None] = None


class FirstQuestion(Value, frozen=True):
    """The first question as it would be sent, and what of its record is used: texts by length, lists by number."""

    query: str = ""
    messages: tuple[SentMessage, ...] = ()
    sent_to: str = "target"
    used: Mapping[str, object] = {}


class VoidAnswers(Value, frozen=True):
    """Answers of an earlier run that an edit of its releases made void, those that still count, and what the void ones cost."""

    run: str
    void: int
    kept: int
    usd: Number = 0.0


class PlannedRun(Value, frozen=True):
    """What a run would do, cost and be able to see. `smallest_effect` is in the metric's units."""

    good: str = ""
    bad: str = ""
    axes: tuple[str, ...] = ()
    design: str
    unit: Omitted[str | None] = None
    queries: int | None = None
    population: int | None = None
    cells: int | None = None
    calls: int | None = None
    tokens_estimated: Number | None = None
    usd_estimated: Number | None = None
    smallest_effect: Number | None = None
    alternatives: tuple[PlannedDesign, ...] = ()
    log: LogBlock | None = None
    first: Omitted[FirstQuestion | None] = None
    tape: Omitted[ForecastTape | None] = None
    void: Omitted[VoidAnswers | None] = None
    suspects: tuple[ReportedSuspect, ...] = ()
    warnings: tuple[str, ...] = ()


class DiffAxis(Value, frozen=True):
    """An axis with its changes; `owner` as the release file has it."""

    axis: str
    owner: object = None
    same: bool = False
    changes: tuple[NamedChange, ...] = ()


class ReleaseDiff(Value, frozen=True):
    """What changed between two releases."""

    good: str = ""
    bad: str = ""
    axes: tuple[DiffAxis, ...] = ()
    suspects: tuple[ReportedSuspect, ...] = ()


class HistoryRow(Value, frozen=True):
    """A question that was answered, in the history of a store; of one that ended without a verdict `reason` says why."""

    at: str | None = None
    question: str = ""
    run: str = ""
    good: str = ""
    bad: str = ""
    metric: str = ""
    kind: str
    axes: tuple[str, ...] = ()
    good_value: Number | None = None
    good_low: Number | None = None
    good_high: Number | None = None
    bad_value: Number | None = None
    bad_low: Number | None = None
    bad_high: Number | None = None
    loss: Number | None = None
    loss_low: Number | None = None
    loss_high: Number | None = None
    n: int | None = None
    # Whether the evidence began in earlier audits of the same two releases.
    carried: bool = False
    calls: int | None = None
    usd: Number | None = None
    reason: Omitted[str] = ""
