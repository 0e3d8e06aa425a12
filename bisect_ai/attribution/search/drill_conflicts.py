"""Which change cannot be bad without which other: found from one set that could not run, by two bisections.

Between a set that cannot run and all changes bad, which can, lies a change that makes it run when it joins; between what cannot run
without it and no change bad, which can, lies one that makes it run when it leaves. The second needs the first. That takes about
2 log2 m trials, and spares every later search the sets that have the one without the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


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
