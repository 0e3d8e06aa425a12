"""The blocks of a report that only some runs have: audit, gate, verification, tape, judges, log, trend, provider."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from bisect_ai.report.value_types import Interval, Number, Omitted, ReportedEstimate, Value


class TrendBlock(Value, frozen=True):
    """Scores moved by `move` (higher is better) at about trial `at` of `trials`; `strong`: large beside the loss."""

    move: Number
    at: int | None = None
    trials: int | None = None
    p: Number | None = None
    strong: bool = False


# -- the tape --------------------------------------------------------------------------------------------------------
class TapeCell(Value, frozen=True):
    """Trials of a cell, and how many of them rest on a tool call that the log does not have."""

    bad_axes: tuple[str, ...]
    trials: int
    missing: int
    rate: Number


class TapeLean(Value, frozen=True):
    """Misses come with one side of these axes: `every` of them on it, or any; `told_apart`: other axes were seen not to be it."""

    axes: tuple[str, ...]
    side: str
    every: bool = True
    told_apart: bool = False
    rate: Number
    elsewhere: Number | None = None


class UnansweredCall(Value, frozen=True):
    """A tool call that the log never saw."""

    tool: str
    call: str
    queries: int | None = None


class TapeInside(Value, frozen=True):
    """Trials of single changes, and how many of them rest on a call that nothing answered."""

    trials: int = 0
    missing: int = 0


class TapeBlock(Value, frozen=True):
    """What the tool calls of the replay were answered by, and how many by nothing. `held`: so nothing is claimed."""

    axes: tuple[str, ...] = ()
    trials: int = 0
    missing: int = 0
    inside: TapeInside = Field(default_factory=TapeInside)
    cells: tuple[TapeCell, ...] = ()
    leans: TapeLean | None = None
    calls: tuple[UnansweredCall, ...] = ()
    more_calls: int = 0
    rules: Mapping[str, int] = {}
    guessed: tuple[str, ...] = ()
    held: bool = False


# -- who answered, who judged ----------------------------------------------------------------------------------------
class ProviderCell(Value, frozen=True):
    """Answers of a cell that are not whole, by kind."""

    bad_axes: tuple[str, ...]
    trials: int
    outcomes: Mapping[str, int] = {}


class FailedWith(Value, frozen=True):
    """The first line of an error, and how many calls failed with it."""

    error: str = ""
    calls: int = 0


class ProviderBlock(Value, frozen=True):
    """What targets and providers did: failed attempts and answers that are not whole by kind, seconds waited."""

    answers: int | None = None
    requests: int | None = None
    faults: Mapping[str, int] = {}
    waited_s: Number = 0.0
    outcomes: Mapping[str, int] = {}
    cells: tuple[ProviderCell, ...] = ()
    endpoints: Omitted[Mapping[str, int] | None] = None
    failed: str | None = None
    # What calls failed with, the most frequent first.
    errors: Omitted[tuple[FailedWith, ...]] = ()


class KnownAnswer(Value, frozen=True):
    """A judge's score of an answer whose verdict is known."""

    score: Number | None = None
    should_be_good: bool = False

    @property
    def is_right(self) -> bool:
        """Whether it was judged as it should be."""
        return self.score is not None and (self.score > 0.5 if self.should_be_good else self.score < 0.5)


class NoiseInLoss(Value, frozen=True):
    """What of the loss's interval is the judge's noise."""

    share: Number
    half_width: Number
    half_width_without: Number


class RepeatNoise(Value, frozen=True):
    """How answers fared that were judged twice: `changed` is the share of verdicts that did."""

    variance: Number | None = None
    changed: Number
    n: int
    loss: NoiseInLoss | None = None


class PeopleAgreement(Value, frozen=True):
    """Cohen's kappa of people and judge, and the share of answers on which they agree."""

    kappa: Number | None = None
    interval: Interval = None
    agreement: Number
    n: int | None = None
    method: str = ""


class UnjudgedAnswers(Value, frozen=True):
    """Answers without a verdict."""

    n: int = 0
    of: int = 0


class InstructingAnswers(Value, frozen=True):
    """Answers that speak to the judge like instructions, and the loss with and without their queries."""

    good: int = 0
    bad: int = 0
    loss_with: Number | None = None
    loss_without: Number | None = None


class JudgeBlock(Value, frozen=True):
    """What a judge is worth: canaries, its own noise, agreement with people, what it did not judge, what it cost."""

    name: str
    model: str = ""
    answered_by: tuple[str, ...] = ()
    reliable: bool = False
    canaries: Mapping[str, KnownAnswer] = {}
    noise: RepeatNoise | None = None
    agreement: PeopleAgreement | None = None
    unjudged: Mapping[str, UnjudgedAnswers] = {}
    like_instructions: InstructingAnswers = Field(default_factory=InstructingAnswers)
    requests: int = 0
    usd: Number | None = None


# -- audit, verification ---------------------------------------------------------------------------------------------
class AuditBlock(Value, frozen=True):
    """What an audit found: healthy, regression or undecided, by evidence and its bound."""

    kind: str
    evidence: Number | None = None
    bound: Number | None = None
    detect: Number
    per_year: int | None = None
    carried: bool = False
    queries: int | None = None
    failed_queries: int | None = None
    calls: int | None = None
    run: str = ""


class RepairEvidence(Value, frozen=True):
    """Evidence that what was lost is back, and that it is not."""

    fixed: Number
    not_fixed: Number


class CollateralEvidence(Value, frozen=True):
    """Evidence that the fix loses nothing, and that it does."""

    clean: Number
    collateral: Number


class VerifiedAgain(Value, frozen=True):
    """Good, bad and fix anew: how much of the net loss is back. `passes` over those that `broke` tell whether they are mended."""

    queries: int
    broke: int | None = None
    passes: int | None = None
    restored: ReportedEstimate
    good: ReportedEstimate
    bad: ReportedEstimate
    fix: ReportedEstimate
    evidence: RepairEvidence


class VerifiedOthers(Value, frozen=True):
    """Good against fix on queries drawn at random, of `population`."""

    queries: int
    population: int | None = None
    untouched: int | None = None
    touched: int | None = None
    loss: ReportedEstimate
    good: ReportedEstimate
    fix: ReportedEstimate
    evidence: CollateralEvidence


class VerifyBlock(Value, frozen=True):
    """What a verification of a candidate fix found."""

    kind: str
    run: str
    bad: str
    fix: str
    bound: Number
    restore: Number
    tolerance: Number
    again: VerifiedAgain
    others: VerifiedOthers
    failed: int | None = None
    calls: int | None = None


class GateBlock(Value, frozen=True):
    """A change against the commit that it began from. `outcome`: not_worse, worse, undecided, or failed: nothing was measured."""

    outcome: str
    # As it was asked for: a branch, most often.
    base: str = ""
    head: str = ""
    base_commit: str = ""
    head_commit: str = ""
    # The loss that it should not let pass.
    detect: Number | None = None
    most_calls: int | None = None
    # What was said beforehand that it may cost at the most.
    most_usd: Number | None = None
    # The settings file, from the top of the repository.
    config: str = ""
    # Why nothing was measured, or what is open.
    reason: str = ""
