"""What a canary's live answers came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bisect_ai.attribution.problem import Estimate
from bisect_ai.attribution.questions.balance import ColumnBalance
from bisect_ai.attribution.questions.canary_looks import Kind


@dataclass(frozen=True)
class Needed:
    """What would probably bring a verdict: further scored answers of each release. None: no number of them would."""

    baseline: int | None
    canary: int | None


@dataclass(frozen=True)
class Side:
    """The answers of one release: all of them, and those without a score."""

    answers: int
    unscored: int


@dataclass(frozen=True)
class Look:
    """The interval after `answers` answers."""

    answers: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class GuardFinding:
    """What became of a guard: `limit` in its own units, the means of both releases, and their difference beyond the limit."""

    name: str
    kind: Literal["kept", "violated", "open"]
    limit: float
    relative: bool
    baseline: float | None
    canary: float | None
    rise: Estimate
    """The rise, a part of the baseline's mean where `relative`."""


@dataclass(frozen=True)
class SliceLoss:
    """What a part of the traffic loses, score points; the interval holds at every look for all slices together. `proved`: it does."""

    where: tuple[tuple[str, str], ...]
    """A column and its value, or two or three of them that must all hold."""
    answers: int
    loss: Estimate
    proved: bool


class Withheld(NamedTuple):
    """Why promoting is withheld: by a column, the split, or a segment that loses."""

    by: Literal["column", "split", "segment"]
    name: str
    why: str


@dataclass(frozen=True)
class CanaryFinding:
    """The verdict and what it rests on; estimates are of all answers so far, score points."""

    kind: Kind
    loss: Estimate
    """Its interval holds at every look, each end but for a chance of alpha (shared with the guards at the lower one)."""
    baseline: Estimate
    canary: Estimate
    harm: float
    """The wealth staked on harm, to be compared with `harm_bound`."""
    harm_bound: float
    well: float
    """The wealth staked against a loss of the tolerance or more, to be compared with the rule's bound."""
    decided_after: int | None
    """Answers until the verdict; None while waiting."""
    sides: tuple[Side, Side]
    bounded: bool
    """Whether the verdict holds for every value of the missing scores."""
    leans: bool
    if_no_loss: Needed
    if_loss: Needed
    """Should it lose twice the tolerance."""
    apart: bool
    """Whether the releases hardly answered at the same time, so that they cannot be compared."""
    balance: tuple[ColumnBalance, ...]
    withheld: tuple[Withheld, ...]
    guards: tuple[GuardFinding, ...]
    by_guard: str | None
    """The guard that rolled it back."""
    slices: tuple[SliceLoss, ...]
    saved: float
    """The part of the answers that covariates made unneeded, and which."""
    saved_by: tuple[str, ...]
    split_p: float | None
    safe_to_revert: bool
    """Rolled back on evidence that leaves a chance of at most 1 % of being wrong, of what can be compared."""
    looks: tuple[Look, ...] = field(default=())
