"""The scores of a search by cell, and the paired differences of two cells as they grow: what came in since is put behind the rest."""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.problem import Bools, Floats, Ints


class CellScores:
    """What came back from a cell, by query."""

    __slots__ = ("counts", "known", "order", "returned", "sums")

    def __init__(self, queries: int) -> None:
        # The sums of the scores.
        self.sums: Floats = np.zeros(queries)
        # (2, queries) scores, and calls that failed.
        self.counts: Ints = np.zeros((2, queries), np.int16)
        # Whether there is an outcome: a score, or a call that failed.
        self.known: Bools = np.zeros(queries, bool)
        # Whether something came back, censored or not.
        self.returned: Bools = np.zeros(queries, bool)
        # The queries that have an outcome, as they came in.
        self.order: list[int] = []

    def fail(self, query: int) -> None:
        """A call failed."""
        self.known[query] = True
        self.counts[1, query] += 1
        self.order.append(query)

    def add(self, query: int, score: float) -> bool:
        """Take in a score; whether it is another one than the query had before."""
        self.known[query] = True
        before = int(self.counts[0, query])
        varied = bool(before and score * before != self.sums[query])
        self.sums[query] += score
        self.counts[0, query] = before + 1
        self.order.append(query)
        return varied

    def scores(self, queries: Ints, *, worst: float | None, again: bool) -> Floats:
        """The mean score of each of these queries. `worst`: what a failed call counts as, where any did; `again`: some ran twice."""
        sums: Floats = self.sums[queries]
        if worst is not None:
            scored, failed = self.counts[:, queries]
            return np.asarray((sums + failed * worst) / (scored + failed))
        return np.asarray(sums / self.counts[0, queries]) if again else sums


class GrowingPair:
    """The queries that ran in both cells, ascending, and their differences as of the last look."""

    def __init__(self, high: CellScores, low: CellScores, queries: Ints, x: Floats) -> None:
        self._cells = high, low
        self._heard = len(high.order), len(low.order)
        self._n, room = len(queries), len(high.sums)
        self._queries, self._x = np.zeros(room, int), np.zeros(room)
        self._queries[: self._n], self._x[: self._n] = queries, x

    def grown(self, weights: Floats | None) -> tuple[Ints, Floats] | None:
        """With what came in since; None where that belongs between the others."""
        (high, low), (heard_high, heard_low) = self._cells, self._heard
        fresh = {*high.order[heard_high:], *low.order[heard_low:]}
        last = int(self._queries[self._n - 1]) if self._n else -1
        for query in sorted(fresh):
            if high.known[query] and low.known[query]:
                if query <= last:
                    return None
                x = high.sums[query] - low.sums[query]
                self._queries[self._n], self._x[self._n] = query, x if weights is None else x * weights[query]
                self._n += 1
        self._heard = len(high.order), len(low.order)
        return self._queries[: self._n], self._x[: self._n]
