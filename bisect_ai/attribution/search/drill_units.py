"""Which changes can be moved on their own: changes that need each other are one unit, the others keep their order.

A set of units is closed when it holds whatever its members need. Only closed sets can be built.

**Conflicts.** Which change cannot be bad without which other: found from one set that could not run, by two bisections.

Between a set that cannot run and all changes bad, which can, lies a change that makes it run when it joins; between what cannot run
without it and no change bad, which can, lies one that makes it run when it leaves. The second needs the first. That takes about
2 log2 m trials, and spares every later search the sets that have the one without the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from bisect_ai.attribution.problem import Ints


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
