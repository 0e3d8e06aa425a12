"""The values that go into the drill-down and come out of it: changes, queries that break, sets of changes, named causes.

Changes are numbered 0..m-1, all inside the guilty axes. A set of changes is a bit mask: bit i set means that change i is taken
from the bad release. The rest of the release is held bad in every trial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bisect_ai.attribution.problem import Estimate, Mode, Status


class DrillTrial(NamedTuple):
    """One run of one query with a set of changes (a bit mask) bad, and a repeat number.

    Repeat 0 may be answered by an earlier trial of the run; a higher one asks for a fresh answer.
    """

    query: int
    changes: int
    repeat: int = 0


class DrillOutcome(NamedTuple):
    """What came back: `score` is None when nothing could be scored; `status` says why. Higher is better."""

    trial: DrillTrial
    score: float | None
    status: Status = "ok"


@dataclass(frozen=True)
class DrillProblem:
    """What the drill-down may know before its first trial. Queries are indices of the caller's, each list in random order."""

    changes: int
    """m, how many changes there are."""
    breaking: tuple[int, ...]
    """Queries that did better under good than under bad."""
    budget: int
    """Trials that may be asked for, the most."""
    untouched: tuple[int, ...] = ()
    """Queries that have not run: a reserve for when the breaking ones run out."""
    needs: tuple[tuple[int, int], ...] = ()
    """Pairs of which the first change cannot be bad without the second."""
    threshold: float = 0.5
    """A score below it is a failure."""
    thresholds: tuple[float, ...] = ()
    """For each breaking query its own threshold (halfway between its scores under good and bad); empty: all `threshold`."""
    alpha: float = 0.05
    """Chance of naming a change that has no effect, over the whole drill-down."""
    tolerance: float = 0.25
    """The smallest share of what breaks that is worth finding."""
    noise: float = 0.05
    """First guess of the chance that an answer is not what the changes say."""
    seed: int = 0

    @property
    def full(self) -> int:
        """All changes bad."""
        return (1 << self.changes) - 1


@dataclass(frozen=True)
class DrillCause:
    """Changes that break queries, how they act, and how sure that is."""

    changes: tuple[int, ...]
    mode: Mode
    share: Estimate
    """Share of the breaking queries that this cause explains."""
    e_value: float
    """Evidence that each of `changes` has an effect: the smallest of theirs (chance 1/e under the null, at any time)."""
    p_adjusted: float
    """Chance at most of such evidence for any innocent change that the search suspected."""
    queries: tuple[int, ...]
    """A few queries that it breaks, the clearest first."""


@dataclass(frozen=True)
class DrillResult:
    """What the drill-down ends with."""

    kind: Literal["found", "no_single_change", "inconclusive"]
    causes: tuple[DrillCause, ...]
    reason: str
    calls: int
    shares: tuple[tuple[int, float], ...] = ()
    """Suspected changes with the fitted share of the breaking queries that rules with them explain, largest first."""
    unexplained: float | None = None
    """Fitted share of the breaking queries that the named causes do not explain."""
    noise: float = 0.0
    """Fitted chance that an answer is not what the changes say."""
    tried: frozenset[int] = frozenset()
    """Queries that the search has looked at."""

    @property
    def changes(self) -> frozenset[int]:
        """Every named change."""
        return frozenset(c for cause in self.causes for c in cause.changes)


def mask(changes: Iterable[int]) -> int:
    """The bit mask of a set of changes."""
    found = 0
    for c in changes:
        found |= 1 << int(c)
    return found


def members(changes: int) -> tuple[int, ...]:
    """The changes of a bit mask, ascending."""
    return tuple(i for i in range(changes.bit_length()) if changes >> i & 1)
