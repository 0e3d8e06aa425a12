"""What spends nothing, as frozen values: a plan, the diff of two releases, a row of the history."""

from __future__ import annotations

from collections.abc import Mapping

from bisect_ai.report.json_edge import Number, Omitted, Value
from bisect_ai.report.report_values import NamedChange, ReportedSuspect
from bisect_ai.report.run_blocks import LogBlock


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
    function: SentFunction = SentFunction()


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
    carried: bool = False
    """Whether the evidence began in earlier audits of the same two releases."""
    calls: int | None = None
    usd: Number | None = None
    reason: Omitted[str] = ""
