"""Looks at axes that no test knows well, on queries that ran without them: a report says of every axis what it breaks and mends."""

from __future__ import annotations

from collections.abc import Collection

from bisect_ai.attribution.search.back_sets import BATCH
from bisect_ai.attribution.search.net_tests import KNOWN, NetTests
from bisect_ai.attribution.search.query_rows import QueryRows

FEWEST = 12  # queries on which every axis is reverted at the end
AT_LEISURE = 0.5  # of the calls made, the part that this may take beyond the fewest


class Strangers:
    """The axes that nobody asked to be reverted for its own sake yet."""

    def __init__(self, rows: QueryRows, tests: NetTests) -> None:
        self._rows, self._tests = rows, tests
        self._axes = set(range(rows.problem.k))
        # Queries on which every axis is reverted at the end.
        self._wanted: int | None = None

    def acquaint(self, *, but: Collection[int] = ()) -> bool:
        """Queue each of them on a few queries, which say what it breaks and mends and what else it moves; whether any was."""
        axes = sorted(self._axes.difference(but))
        self._axes.difference_update(axes)
        return sum(self._acquaint(axis) for axis in axes) > 0

    def _acquaint(self, axis: int) -> bool:
        """These are the explored queries, all of them, where that is cheaper than as many that were not."""
        rows, (high, low) = self._rows, self._rows.problem.reverted_pair(axis)
        if self._wanted is None:
            self._wanted = min(max(round(AT_LEISURE * rows.spent / rows.problem.k), FEWEST), KNOWN)
        missing = self._wanted - len(rows.ran(high, low))
        if missing <= 0:
            return False
        if rows.explored - len(rows.chosen(high)) <= missing and rows.fill(range(rows.explored), high):
            return True
        return rows.fill(self._lacking(low, high)[:missing], high)

    def look_again(self, family: str, axis: int) -> bool:
        """Queue an axis that may do as much as a named one on queries that ran without it: half the price of fresh ones."""
        high, low = self._tests.pairs(family, axis)[0]
        inner, outer = (high, low) if family == "reverted" else (low, high)
        if len(self._rows.ran(inner)) >= KNOWN:
            return False
        return self._rows.fill(self._lacking(outer, inner)[:BATCH], inner)

    def _lacking(self, ran: int, cell: int) -> list[int]:
        """Queries that ran in one cell and not in another, the latest first; no explored ones."""
        rows = self._rows
        done = set(rows.returned(cell).tolist())
        return [int(q) for q in rows.ran(ran)[::-1] if int(q) not in done and int(q) >= rows.explored]
