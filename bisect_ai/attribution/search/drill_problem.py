"""The values that go into the drill-down and come out of it: changes, queries, sets of changes, named causes; and their units.

Changes are numbered 0..m-1, all inside the guilty axes. A set of changes is a bit mask: bit i set means that change i is taken
from the bad release. The rest of the release is held bad in every trial.

Changes that need each other are one unit, the others keep their order. A set of units is closed when it holds whatever its members
need. Only closed sets can be built.

**Conflicts.** Which change cannot be bad without which other: found from one set that could not run, by two bisections.

Between a set that cannot run and all changes bad, which can, lies a change that makes it run when it joins; between what cannot run
without it and no change bad, which can, lies one that makes it run when it leaves. The second needs the first. That takes about
2 log2 m trials, and spares every later search the sets that have the one without the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

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
    # Whether changes that are not named cost quality, too.
    is_spread: bool = False

    @property
    def changes(self) -> frozenset[int]:
        """Every named change."""
        return frozenset(c for cause in self.causes for c in cause.changes)


class Units:
    """The units of m changes under `needs` (pairs: the first cannot be bad without the second)."""

    def __init__(self, changes: int, needs: Iterable[tuple[int, int]]) -> None:
        direct: dict[int, set[int]] = {}
        for first, second in needs:
            if first != second:
                direct.setdefault(first, set()).add(second)
        reach = {i: _reachable(i, direct) for i in direct}
        self._unit_of = np.arange(changes)
        for i in sorted(reach):
            mutual = [j for j in reach[i] if i in reach.get(j, ())]
            self._unit_of[i] = min([i, *mutual])
        labels, self._unit_of = np.unique(self._unit_of, return_inverse=True)
        self.count = len(labels)
        self.members: tuple[tuple[int, ...], ...] = _grouped(self._unit_of, self.count)
        self._masks = [sum(1 << c for c in group) for group in self.members]
        self.needs = [self._lifted(group, reach) for group in self.members]
        self.needed_by = _turned(self.needs)

    def mask(self, units: Iterable[int]) -> int:
        """The bit mask over changes of a set of units."""
        found = 0
        for u in units:
            found |= self._masks[u]
        return found

    def of(self, change: int) -> int:
        """The unit of a change."""
        return int(self._unit_of[change])

    def inside(self, changes: int) -> frozenset[int]:
        """The units of a bit mask over changes."""
        return frozenset(u for u, own in enumerate(self._masks) if changes & own)

    def shuffled(self, units: Ints, rng: np.random.Generator) -> Ints:
        """The units in a random order in which every prefix is closed as far as the units themselves go."""
        order = rng.permutation(units)
        if not any(self.needs[u] for u in units):
            return np.asarray(order)
        inside, placed = set(units.tolist()), dict[int, None]()
        for u in order.tolist():
            for needed in sorted(self.needs[u] & inside, key=lambda v: len(self.needs[v])):
                placed.setdefault(needed)
            placed.setdefault(u)
        return np.array(list(placed))

    def closed(self, units: set[int]) -> bool:
        """Whether the set holds all that its members need."""
        return all(self.needs[u] <= units for u in units)

    def _lifted(self, group: tuple[int, ...], reach: dict[int, set[int]]) -> frozenset[int]:
        own = int(self._unit_of[group[0]])
        return frozenset(int(self._unit_of[j]) for c in group for j in reach.get(c, ())) - {own}


def _reachable(start: int, direct: dict[int, set[int]]) -> set[int]:
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        for j in direct.get(waiting.pop(), ()):
            if j not in seen:
                seen.add(j)
                waiting.append(j)
    return seen


def _grouped(unit_of: Ints, count: int) -> tuple[tuple[int, ...], ...]:
    groups: list[list[int]] = [[] for _ in range(count)]
    for change, unit in enumerate(unit_of.tolist()):
        groups[unit].append(change)
    return tuple(tuple(g) for g in groups)


def _turned(needs: list[frozenset[int]]) -> list[frozenset[int]]:
    found: list[set[int]] = [set() for _ in needs]
    for u, needed in enumerate(needs):
        for v in needed:
            found[v].add(u)
    return [frozenset(f) for f in found]


class Probe:
    """`units()` is the next set to try, `hear` takes in whether it ran; then `found` is (needing, needed)."""

    def __init__(self, stuck: Collection[int], order: Sequence[int]) -> None:
        """`stuck`: units that could not run together; `order`: all units in random order, `stuck` being no prefix of it."""
        self._inside = [u for u in order if u in set(stuck)]
        self._outside = [u for u in order if u not in set(stuck)]
        self._low, self._high = 0, len(self._outside)  # with `low` of them it cannot run, with `high` it can
        self._needed: int | None = None
        self.found: tuple[int, int] | None = None
        self._step()

    def units(self) -> frozenset[int]:
        """The set to try next."""
        middle = (self._low + self._high) // 2
        if self._needed is None:
            return frozenset((*self._inside, *self._outside[:middle]))
        return frozenset(self._inside[middle:])

    def hear(self, *, ran: bool) -> None:
        """Takes in whether the set ran."""
        middle = (self._low + self._high) // 2
        if ran:
            self._high = middle
        else:
            self._low = middle
        self._step()

    def _step(self) -> None:
        if self._high - self._low > 1:
            return
        if self._needed is None:
            self._needed = self._outside[self._low]
            self._inside += self._outside[: self._low]
            self._low, self._high = 0, len(self._inside)
            self._step()
        else:
            self.found = (self._inside[self._low], self._needed)
