"""Where a search looks first: all single axes on a few queries that are known to break.

A query that passed under the good release and failed under the bad one tells in two calls an axis what an axis does: whether
reverting it alone brings the answer back, and whether introducing it alone breaks it. Eight such queries mostly tell one cause from
two, and "together" from "either". They were chosen for having failed, so they prove nothing (`QueryRows.advise` keeps them out of
every mean that is tested or reported): they say which question is asked first, of which axes, and how alpha is weighted over these,
all on queries that no test hears.

The same once axes are named, on queries that still fail when these are reverted: which axis is next.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, mask
from bisect_ai.attribution.search.query_rows import NOTHING, Mean, QueryRows

BROKEN = 8  # broken queries that are looked at in one go
BLOCKS = 3  # times at most
LONGEST = 64  # queries under good and bad alone, at most, before each of them
SCARCE = 8  # of the log, the part that is at most explored: no test hears these queries again
FEW = 20  # queries that are explored first, half as many at least after them; of these it is seen whether most scores differ
PART = 3  # of the calls left, the part that looking once may take
BEHIND = 1.5  # standard errors behind the leader, and less than half of it: pauses
HALF = 0.5
SWITCH = 1.2  # by how much introducing an axis must cost more than reverting any brings back, for that question to be asked
SURE = (
    1.5  # log likelihood ratio of "reverting one brings a quarter of the loss back" against "nothing": that question is asked
)
DENSE = 0.75  # of the queries, the part whose scores differ from which on nothing is explored
DOUBT = 1.5  # by how much the error of advice is widened beside that of fresh queries
REMAINS = 1.8  # standard errors of what named axes leave from which on the next one is looked for
# BROKEN, BLOCKS, SURE, DOUBT and REMAINS: the least calls on planted incidents (churn 0 to 5 %, noise 0 and 5 %), seeds 7100 to 7399


class Advice:
    """Which axes seem guilty, by queries that were chosen for having broken."""

    def __init__(self, rows: QueryRows, *, explores: bool) -> None:
        self._rows = rows
        self._explores = explores
        self._blocks = 0
        # Sets of named axes beside which the next one was looked for.
        self.sought: set[frozenset[int]] = set()

    # -- before anything is named --------------------------------------------------------------------------------------
    def explore(self, begin: Callable[[], bool]) -> bool:
        """Queue good and bad (`begin`) until enough queries broke, then single axes on these; False once that is done."""
        rows, p = self._rows, self._rows.problem
        if not self._explores or rows.out:
            return self._explores
        affordable = 2 * p.k * BROKEN * PART <= rows.left
        self._explores = self._blocks < BLOCKS and affordable and not self._is_settled() and not self._is_dense()
        if not self._explores:
            return False
        broken = [q for q in self._broken(p.full) if q >= rows.explored]
        if len(broken) >= BROKEN and self._loss.value >= p.tolerance:
            self._blocks += 1
            rows.close_exploration()
            return self._advise(broken, self._single_cells())
        most = (1 + self._blocks) * min(LONGEST, p.budget // 12, p.queries // SCARCE)
        wanted = min(self._missing(len(broken)), most - self._loss.n)
        self._explores = sum(begin() for _ in range(wanted)) > 0
        return self._explores

    def _missing(self, broken: int) -> int:
        """Queries that good and bad should run next: as many as have the broken ones in them that are missing, by those seen."""
        since = self._loss.n - self._rows.explored
        return max(math.ceil((BROKEN - broken) * since / broken), FEW // 2) if broken else max(since, FEW)

    def _advise(self, broken: list[int], cells: list[int]) -> bool:
        return sum(self._rows.advise(broken[:BROKEN], cell) for cell in cells) > 0

    def of(self, family: str, axis: int) -> Mean:
        """What a single axis did ("reverted" or "introduced"), as a part of the loss, less what the least axis did.

        Some of the chosen queries failed by chance and pass when they are asked again, whatever is reverted.
        """
        if not self._rows.explored:
            return NOTHING
        axes = range(self._rows.problem.k)
        return self._rows.once(("advice", family), lambda: self._scaled([self._tried(family, a) for a in axes]))[axis]

    def _scaled(self, tried: list[Mean]) -> list[Mean]:
        known = [m.value for m in tried if m.n]
        least = min(*known, HALF * max(known)) if known else 0.0  # each of them may be enough
        return [self._of_loss(m, least) for m in tried]

    def share_of(self, family: str, axis: int) -> Mean:
        """What a single axis did as a part of the loss: more than it does, where queries were chosen that failed by chance."""
        return self._of_loss(self._tried(family, axis))

    def _of_loss(self, tried: Mean, least: float = 0.0) -> Mean:
        if not tried.n:
            return NOTHING
        scale = max(self._loss.value, self._rows.problem.tolerance) / max(self._rows.once("lost", self._lost), 1e-9)
        return Mean((tried.value - least) * scale, tried.error * scale, tried.n)

    def favours_introducing(self) -> bool:
        """Whether introducing single axes breaks these queries, and reverting single ones hardly mends any."""
        introduced, reverted = self._best("introduced"), self._best("reverted")
        apart = introduced.value - SWITCH * reverted.value > BEHIND * math.hypot(introduced.error, reverted.error)
        return introduced.n > 0 and apart and reverted.value < HALF * introduced.value

    def _is_settled(self) -> bool:
        """Whether it tells which question to ask."""
        if not self._rows.explored:
            return False
        size = HALF * HALF * max(self._loss.value, self._rows.problem.tolerance)
        return self.favours_introducing() or self._best("reverted").favours_nothing(size) < -SURE

    def _is_dense(self) -> bool:
        """Whether so many scores move that any query tells as much as a broken one."""
        _, x = self._rows.differences(0, self._rows.problem.full)
        return len(x) >= BROKEN and bool(np.count_nonzero(x) > DENSE * len(x))

    def _best(self, family: str) -> Mean:
        return max((self.of(family, a) for a in range(self._rows.problem.k)), key=lambda m: m.value)

    def _tried(self, family: str, axis: int) -> Mean:
        full = self._rows.problem.full
        if family == "reverted":
            return self._mean_on(full & ~(1 << axis), full, full & ~(1 << axis))
        return self._mean_on(0, 1 << axis, 1 << axis)

    def _mean_on(self, high: int, low: int, inner: int) -> Mean:
        """The mean of y(high) - y(low) on the explored queries that were chosen for the cell `inner`."""
        queries = self._chosen(inner)
        if not len(queries):
            return NOTHING
        return self._rows.mean_of(queries, self._rows.scores(high, queries) - self._rows.scores(low, queries))

    def _chosen(self, cell: int) -> Ints:
        return self._rows.chosen(cell)

    def _lost(self) -> float:
        """What a chosen query lost on average."""
        rows = self._rows
        queries = np.unique(np.concatenate([self._chosen(inner) for inner in self._single_cells()]))
        return float((rows.scores(0, queries) - rows.scores(rows.problem.full, queries)).mean()) if len(queries) else 1.0

    def _single_cells(self) -> list[int]:
        p = self._rows.problem
        return [inner for a in range(p.k) for inner in (1 << a, p.full & ~(1 << a))]

    @property
    def _loss(self) -> Mean:
        return self._rows.mean(0, self._rows.problem.full)

    def _broken(self, cell: int) -> list[int]:
        """The queries that lost most from good to a cell, at least half of what is usual, the worst first."""
        queries, x = self._rows.differences(0, cell)
        if not len(x):
            return []
        lost = x > HALF * self._rows.step(x)
        return [int(q) for q in queries[lost][np.argsort(-x[lost], kind="stable")]]

    def look_closer(self, axis: int, most: int) -> bool:
        """Queue an axis, reverted, on broken queries that did not run so; False where any query tells as much."""
        cell = self._rows.problem.full & ~(1 << axis)
        done = set(self._rows.returned(cell).tolist()) | set(self._rows.chosen(cell).tolist())
        queries = [q for q in self._broken(self._rows.problem.full) if q not in done]
        return not self._is_dense() and self._rows.advise(queries[:most], cell)

    # -- beside what is named ------------------------------------------------------------------------------------------
    def seek(self, named: frozenset[int]) -> bool:
        """Queue every other axis on queries that still fail when the named ones are reverted, once for each set of these."""
        rows, cell = self._rows, self._rows.problem.full & ~mask(named)
        others = self._others(named)
        if named in self.sought or len(others) < 2 or rows.mean(0, cell).z < REMAINS:
            return False
        broken = self._broken(cell)
        if len(broken) < BROKEN // 2:
            return False
        self.sought.add(named)
        return self._advise(broken, [cell & ~(1 << a) for a in others])

    def next_axes(self, named: frozenset[int]) -> list[int]:
        """The axes that bring most of that back; none where it was not looked for, or nothing stands out."""
        if named not in self.sought:
            return []
        rows, cell = self._rows, self._rows.problem.full & ~mask(named)
        found: dict[int, Mean] = {}
        for a in self._others(named):
            queries = np.intersect1d(rows.chosen(cell & ~(1 << a)), rows.ran(cell))
            if len(queries):
                found[a] = rows.mean_of(queries, self._brought(cell, a, queries))
        lead = max(found.values(), key=lambda m: m.value, default=NOTHING)
        least = min((m.value for m in found.values()), default=0.0)
        if not lead.n or lead.value - least < BEHIND * lead.error:
            return []
        half = least + HALF * (lead.value - least)
        return [a for a, m in found.items() if m.value > half or lead.value - m.value < BEHIND * m.error]

    def _brought(self, cell: int, axis: int, queries: Ints) -> Floats:
        return self._rows.scores(cell & ~(1 << axis), queries) - self._rows.scores(cell, queries)

    def _others(self, named: frozenset[int]) -> list[int]:
        return [a for a in range(self._rows.problem.k) if a not in named]


def combined(mean: Mean, advice: Mean, *, doubt: float = DOUBT) -> Mean:
    """What fresh queries and advice say together, each by its precision."""
    if not advice.n:
        return mean
    error = doubt * advice.error
    if not mean.n:
        return Mean(advice.value, error, advice.n)
    own, other = mean.error**-2, error**-2
    return Mean((own * mean.value + other * advice.value) / (own + other), (own + other) ** -0.5, mean.n + advice.n)
