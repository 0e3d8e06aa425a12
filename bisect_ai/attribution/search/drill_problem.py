"""The values that go into the drill-down and come out of it: changes, queries, sets of changes, named causes.

Changes are numbered 0..m-1, all inside the guilty axes. A set of changes is a bit mask: bit i set means that change i is taken
from the bad release. The rest of the release is held bad in every trial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bisect_ai.attribution.problem import Estimate, Floats, Ints, Mode, Status


class DrillTrial(NamedTuple):
    """One run of one query with a set of changes (a bit mask) bad, and a repeat number.

    Repeat 0 may be answered by an earlier trial of the run; a higher one asks for a fresh answer.
    """

    query: int
    changes: int
    repeat: int = 0


class DrillOutcome(NamedTuple):
    """What came back: `score` is None when nothing could be scored; `status` says why. Higher is better.

    `verdict` and `again` are a judge's, as in `Outcome`.
    """

    trial: DrillTrial
    score: float | None
    status: Status = "ok"
    verdict: str | None = None
    again: float | None = None


@dataclass(frozen=True)
class DrillProblem:
    """What the drill-down may know before its first trial. Queries are indices of the caller's, each list in random order."""

    # m, how many changes there are.
    changes: int
    # Queries that did better under good than under bad: where suspects are looked for, and nothing is proved.
    breaking: tuple[int, ...]
    # Trials that may be asked for, the most.
    budget: int
    # Queries that have not run: what is proved is proved on them.
    fresh: tuple[int, ...] = ()
    # Queries that ran, whatever came of it: for proofs once the fresh ones are used up.
    used: tuple[int, ...] = ()
    # Pairs of which the first change cannot be bad without the second.
    needs: tuple[tuple[int, int], ...] = ()
    # A score below it is a failure, in the search for suspects.
    threshold: float = 0.5
    # For each breaking query its own threshold (halfway between its scores under good and bad); empty: all `threshold`.
    thresholds: tuple[float, ...] = ()
    # Chance of naming a change without a net cost, over the whole drill-down.
    alpha: float = 0.05
    # The smallest cost worth acting on, in score points.
    tolerance: float = 0.02
    # Chance that an answer is not what the changes say, in the search for suspects.
    noise: float = 0.05
    # Queries in the log that the sample was drawn from; None: unknown or endless.
    population: int | None = None
    # What each of the caller's queries stands for; None: all alike.
    weights: Floats | None = None
    # The cluster of each of the caller's queries; None: every query its own.
    clusters: Ints | None = None
    seed: int = 0

    @property
    def full(self) -> int:
        """All changes bad."""
        return (1 << self.changes) - 1


@dataclass(frozen=True)
class DrillCause:
    """Changes that cost quality, how they act, and how sure that is."""

    changes: tuple[int, ...]
    mode: Mode
    # Share of what all the changes together cost, in [0, 1].
    share: Estimate
    # Chance at most that the drill-down names any innocent change.
    p_adjusted: float
    # A few queries that it breaks.
    queries: tuple[int, ...]


@dataclass(frozen=True)
class Finer:
    """The cell with only some changes good: its value and what it restores (1: all that the changes cost), over the population."""

    value: Estimate
    restores: Estimate
    # Whether some of the loss came back, and 80 % of it cannot be ruled out.
    enough: bool


@dataclass(frozen=True)
class DrillResult:
    """What the drill-down ends with."""

    kind: Literal["found", "no_single_change", "inconclusive"]
    causes: tuple[DrillCause, ...]
    reason: str
    calls: int
    # Share of what the changes cost that reverting the named ones leaves.
    unexplained: float | None = None
    # The smallest set of changes that brings the loss back, as measured.
    back: tuple[int, ...] = ()
    # What `back` was measured to restore.
    measured: Finer | None = None

    @property
    def changes(self) -> frozenset[int]:
        """Every named change."""
        return frozenset(c for cause in self.causes for c in cause.changes)


def changes_mask(changes: Iterable[int]) -> int:
    """The bit mask of a set of changes."""
    found = 0
    for c in changes:
        found |= 1 << int(c)
    return found


def members(changes: int) -> tuple[int, ...]:
    """The changes of a bit mask, ascending."""
    return tuple(i for i in range(changes.bit_length()) if changes >> i & 1)
