"""The looks at a canary's growing log: what each says, the first verdict among them, and what the answers came to.

`canary.py` explains the rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from bisect_ai.attribution.problem import Bools, Estimate, Floats, Ints
from bisect_ai.attribution.questions.balance import TOO_FEW, ColumnBalance, LoggedColumn, Sides, adjustment
from bisect_ai.attribution.stats.adjusted import Contrast, Frame, contrast, log_evidence

# Share of answers without a score that a verdict may leave out, on either side.
FEW = 0.03
# p-value below which answers without a score lean to one release.
LEANS = 0.01
# Answers below which nothing is promoted: an imbalance would not show in them.
SEEN = 200
# Answers of a stretch of time.
STRETCH = 50
FIRST = 40
# Answers at the first look, and how much longer the log is at the next.
GROWTH = 1.06

Kind = Literal["promote", "roll_back", "wait"]
Bound = Literal["roll_back", "promote"]


@dataclass(frozen=True)
class CanaryRule:
    """What is fixed before the first look; `tolerance` is on the scale of the scores, which lie in [0, 1]."""

    tolerance: float = 0.02
    # Chance of a wrong verdict, over all looks.
    alpha: float = 0.05
    # The part of the traffic that was meant for the canary.
    share: float | None = None

    @property
    def bound(self) -> float:
        """What a wealth must pass."""
        return 1 / self.alpha


@dataclass(frozen=True)
class Guard:
    """A metric that may not pass a limit: (n,) values, higher is worse, NaN: none. The limit is a rise, or a part of the baseline's."""

    name: str
    value: Floats
    limit: float
    relative: bool = False


@dataclass(frozen=True)
class Answers:
    """Live answers in the order of time: arrays of one length. Scores in [0, 1], higher is better; NaN: none."""

    is_canary: Ints
    score: Floats
    cluster: Ints | None = None
    columns: tuple[LoggedColumn, ...] = ()
    guards: tuple[Guard, ...] = ()

    def __len__(self) -> int:
        return len(self.is_canary)

    def upto(self, n: int) -> Answers:
        """The first n answers."""
        return Answers(
            self.is_canary[:n],
            self.score[:n],
            None if self.cluster is None else self.cluster[:n],
            tuple(column.upto(n) for column in self.columns),
            tuple(replace(guard, value=guard.value[:n]) for guard in self.guards),
        )

    @cached_property
    def first(self) -> Ints:
        """(n,) 1 for the first answer of each cluster."""
        if self.cluster is None:
            return np.ones(len(self), int)
        found = np.zeros(len(self), int)
        found[np.unique(self.cluster, return_index=True)[1]] = 1
        return found


def looks_of(n: int) -> Iterator[int]:
    """The numbers of answers that are looked at, up to n."""
    k = FIRST
    while k <= n:
        yield k
        k = max(k + 1, int(k * GROWTH))


class CanaryEvidence:
    """One look: the adjustment, the contrast on the scores as they are and, where much is missing, on the worst that they could be."""

    def __init__(self, answers: Answers, rule: CanaryRule, look: int) -> None:
        self.answers, self._rule = answers, rule
        self.adjusted = adjustment(answers.columns, Sides(answers.is_canary, answers.score, answers.first), look=look)
        stretch = np.arange(len(answers)) // STRETCH
        self.frame = Frame(answers.is_canary, self.adjusted.covariates, stretch, answers.cluster, self.adjusted.absorbed)
        self.told = contrast(self.frame, answers.score)
        unscored = np.isnan(answers.score)
        self.leans = _leans(answers.is_canary, unscored)
        self.bounded = self.leans or any(_share_without(answers, unscored, side) > FEW for side in (0, 1))

    def contrasts(self, kind: Bound) -> list[Contrast | None]:
        """The contrasts that a verdict must hold on."""
        return [self.told, *([self._worst[kind]] if self.bounded else [])]

    @cached_property
    def _worst(self) -> dict[Bound, Contrast | None]:
        missing, canary = np.isnan(self.answers.score), self.answers.is_canary == 1
        filled: dict[Bound, Floats] = {"roll_back": canary.astype(float), "promote": (~canary).astype(float)}
        score = self.answers.score
        return {kind: contrast(self.frame, np.where(missing, each, score)) for kind, each in filled.items()}

    def wealth(self, kind: Bound) -> float:
        """The logarithm of the least wealth staked on a verdict."""
        return min(self._wealth(kind, found) for found in self.contrasts(kind))

    def _wealth(self, kind: Bound, found: Contrast | None) -> float:
        if found is None:
            return 0.0
        sign, against = (-1, 0.0) if kind == "roll_back" else (1, -self._rule.tolerance)
        return log_evidence(sign * found.estimate, found.error, found.spread, against)

    @cached_property
    def guards(self) -> tuple[Contrast | None, ...]:
        """For each guard how far the canary lies above its limit, taken of the baseline's values."""
        return tuple(self._beyond(guard) for guard in self.answers.guards)

    def _beyond(self, guard: Guard) -> Contrast | None:
        scaled = guard.value * np.where(self.answers.is_canary == 1, 1.0, 1.0 + guard.limit if guard.relative else 1.0)
        known = guard.value[~np.isnan(guard.value)]
        if not len(known):
            return None
        is_rate = bool(np.isin(np.abs(known), (0.0, 1.0)).all())  # none so far is no proof that there are none
        return contrast(self.frame, scaled, half=0.5 if is_rate else max(float(known.std()), 1e-12))

    def guard_wealth(self, kind: Bound) -> list[float]:
        """The logarithm of the wealth staked on each guard's violation, or on its being kept."""
        limits = [0.0 if guard.relative else guard.limit for guard in self.answers.guards]
        sign = 1 if kind == "roll_back" else -1
        return [
            0.0 if c is None else log_evidence(sign * c.estimate, c.error, c.spread, sign * limit)
            for c, limit in zip(self.guards, limits, strict=True)
        ]


def _share_without(answers: Answers, unscored: Bools, side: int) -> float:
    own = answers.is_canary == side
    return float(unscored[own].mean()) if own.any() else 0.0


def _leans(is_canary: Ints, unscored: Bools) -> bool:
    """Whether answers of one release lack their score more often, by Fisher's exact test."""
    if not unscored.any():
        return False
    from scipy import stats

    table = [[int((unscored[is_canary == side] == lost).sum()) for lost in (True, False)] for side in (0, 1)]
    return bool(stats.fisher_exact(table).pvalue < LEANS)


class CanaryPath:
    """The looks so far: the first verdict, when it came, and what each guard came to."""

    def __init__(self, rule: CanaryRule, metrics: int) -> None:
        self._rule = rule
        self.harm_bound = metrics / rule.alpha
        self.kind: Kind = "wait"
        self.after: int | None = None
        self.by_guard: str | None = None
        self.at: CanaryEvidence | None = None
        self.most: dict[Bound, float] = {"roll_back": 0.0, "promote": 0.0}
        self.guards: dict[Bound, list[float]] = {kind: [0.0] * (metrics - 1) for kind in ("roll_back", "promote")}

    @property
    def is_settled(self) -> bool:
        """Whether no further look can change what is told."""
        return self.kind == "roll_back" or (self.kind == "promote" and not self.guards["promote"])

    def take(self, evidence: CanaryEvidence) -> None:
        """The next look. One at which a column waits for answers to be adjusted for says nothing."""
        withheld = evidence.adjusted.of_fate("withheld")
        if any(column.why == TOO_FEW for column in withheld):
            return
        for kind in self.most:
            if self.kind == "wait":
                self.most[kind] = max(self.most[kind], evidence.wealth(kind)) if kind == "roll_back" else evidence.wealth(kind)
            self.guards[kind] = [max(*pair) for pair in zip(self.guards[kind], evidence.guard_wealth(kind), strict=True)]
        if self.kind == "wait" and (found := self._found(evidence)) != "wait":
            self.kind, self.after, self.at = found, len(evidence.answers), evidence

    def _found(self, evidence: CanaryEvidence) -> Kind:
        limit, names = math.log(self.harm_bound), [guard.name for guard in evidence.answers.guards]
        violated = [name for name, wealth in zip(names, self.guards["roll_back"], strict=True) if wealth >= limit]
        if self.most["roll_back"] >= limit or violated:
            self.by_guard = None if self.most["roll_back"] >= limit else violated[0]
            return "roll_back"
        proofs = [self.most["promote"], *self.guards["promote"]]
        adjusted = evidence.adjusted
        is_seen = len(evidence.answers) >= SEEN and not adjusted.of_fate("withheld") and not adjusted.leaning
        is_well = is_seen and min(proofs) >= math.log(self._rule.bound)
        return "promote" if is_well else "wait"


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
    # The rise, a part of the baseline's mean where `relative`.
    rise: Estimate


@dataclass(frozen=True)
class SliceLoss:
    """What a part of the traffic loses, score points; the interval holds at every look for all slices together. `proved`: it does."""

    # A column and its value, or two or three of them that must all hold.
    where: tuple[tuple[str, str], ...]
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
    # Its interval holds at every look, each end but for a chance of alpha (shared with the guards at the lower one).
    loss: Estimate
    baseline: Estimate
    canary: Estimate
    # The wealth staked on harm, to be compared with `harm_bound`.
    harm: float
    harm_bound: float
    # The wealth staked against a loss of the tolerance or more, to be compared with the rule's bound.
    well: float
    # Answers until the verdict; None while waiting.
    decided_after: int | None
    sides: tuple[Side, Side]
    # Whether the verdict holds for every value of the missing scores.
    bounded: bool
    leans: bool
    if_no_loss: Needed
    # Should it lose twice the tolerance.
    if_loss: Needed
    # Whether the releases hardly answered at the same time, so that they cannot be compared.
    apart: bool
    balance: tuple[ColumnBalance, ...]
    withheld: tuple[Withheld, ...]
    guards: tuple[GuardFinding, ...]
    # The guard that rolled it back.
    by_guard: str | None
    slices: tuple[SliceLoss, ...]
    # The part of the answers that covariates made unneeded, and which.
    saved: float
    saved_by: tuple[str, ...]
    split_p: float | None
    # Rolled back on evidence that leaves a chance of at most 1 % of being wrong, of what can be compared.
    safe_to_revert: bool
    looks: tuple[Look, ...] = field(default=())
