"""Which change one query turns on along a random order of the changes: noisy bisection, whatever the rule of the query.

Some changes are held bad from the start, the others join one by one in random order. Where the query starts to fail is its pivot; if
two changes break it together the pivot is the later one, if either does it is the earlier one. The posterior over positions is
bisected at its median (Horstein 1963; Burnashev and Zigangirov 1974; Ben-Or and Hassidim 2008): about log2 m / (1 - h(noise))
trials. The pivot of a random order is a draw from the query's Shapley shares (Castro, Gomez and Tejada 2009).
"""

from __future__ import annotations

import math

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints

SURE = 0.9  # belief at which a chain ends; a wrong end costs one of many pivots, so no more is paid for it
REPEATED = 0.03  # how much closer to the middle another trial at the same place must be


class Chain:
    """The search for the pivot of one query. `held`: units bad in every trial; `order`: the units that join."""

    def __init__(self, query: int, held: frozenset[int], order: Ints, *, starts: float, never: float) -> None:
        """`starts` and `never`: chances that the query fails with `held` alone, and that it passes with all of them."""
        self.query = query
        self.held = held
        self.order = order
        inner = max(1 - starts - never, 0.05)  # no place may be ruled out before it was asked
        prior = np.concatenate([[max(starts, 0.02)], np.full(len(order), inner / len(order)), [max(never, 0.02)]])
        self._log = np.log(prior)
        self._asked = np.zeros(len(order) + 1)
        self.trials = 0

    def place(self) -> int:
        """How many of the order join in the next trial."""
        failing = self.posterior.cumsum()[:-1]
        place = int(np.argmin(np.abs(failing - 0.5) + REPEATED * self._asked))
        self._asked[place] += 1
        return place

    def skip(self, place: int, *, forever: bool) -> None:
        """There was no answer at that place; `forever`: there never will be one."""
        self.trials += 1
        if forever:
            self._asked[place] = np.inf

    @property
    def blocked(self) -> bool:
        """Whether no place is left that can run."""
        return bool(np.isinf(self._asked).all())

    def hear(self, place: int, failed: bool, noise: float) -> None:
        """Takes in whether the query failed with the first `place` of the order bad."""
        agree, differ = math.log(1 - noise), math.log(noise)
        at_or_before, after = (agree, differ) if failed else (differ, agree)
        self._log[: place + 1] += at_or_before
        self._log[place + 1 :] += after
        self.trials += 1

    def favour(self, unit: int, factor: float) -> None:
        """Makes a unit likelier, by what other queries have shown."""
        self._log[1:-1][self.order == unit] += math.log(max(factor, 1.0))

    @property
    def posterior(self) -> Floats:
        """(len(order) + 2,) how likely the query starts to fail at each place; the last: never."""
        p = np.exp(self._log - self._log.max())
        return np.asarray(p / p.sum())

    @property
    def pivot(self) -> int | None:
        """The unit that the query turns on; None while it is not clear."""
        inner = self.posterior[1:-1]
        top = int(np.argmax(inner))
        return int(self.order[top]) if inner[top] >= SURE else None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to learn here: a pivot, none, or too many trials."""
        p = self.posterior
        most = 24 + 4 * math.log2(len(self.order) + 1)
        return self.blocked or self.pivot is not None or p[0] >= SURE or p[-1] >= SURE or self.trials >= most
