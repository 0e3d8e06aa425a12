"""Where numeric metrics lose: queries run in a random cell and in its complement.

The difference within such a pair is free of the query's own level. For axis a a fair coin decides which half had it bad, given
all the other axes, so if a has no effect whatever the signed difference is symmetric around 0: the sum of signed differences
over the root of their sum of squares is a self-normalised sum of random signs, Gaussian to a good approximation and never
heavier in its tails (Efron 1969). It is compared with a group-sequential boundary. What the other axes are seen to do is
taken off first, and large differences are clipped: both leave the symmetry alone. A query's pairs are drawn without replacement and
add up to one term of the sum: when both pairs that differ in a alone are drawn, the coin is which of them came first. Where the other
one had to run (good and bad) or cannot run, the coin has one side only and the pair says nothing about a.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from bisect_ai.attribution.costs import Costs
from bisect_ai.attribution.levels import explain_levels
from bisect_ai.attribution.looks import Looks
from bisect_ai.attribution.naming import Structure
from bisect_ai.attribution.problem import Floats, Ints, Trial

CLEAR = 3.0  # standard errors


class Pairs:
    """The evidence from complementary pairs. `watch` queries, then `plan` trials and let it `hear` the outcomes."""

    def __init__(self, k: int, infeasible: frozenset[int], *, affordable: int) -> None:
        self._k = k
        self._full = (1 << k) - 1
        self._looks = Looks(k, units=affordable / 2)
        self._runs = np.ones(1 << k, bool)
        self._runs[list(infeasible)] = False
        self._ran: set[int] = set()
        self._drawn: dict[int, set[int]] = {}
        self._queue: deque[tuple[int, int]] = deque()
        self._waiting: dict[Trial, tuple[int, int]] = {}
        self._open: deque[int] = deque()
        self._chosen: set[int] = set()
        self._coin: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        self._half: dict[tuple[int, int], dict[int, float]] = {}
        self.costs = Costs(k)
        """What each axis costs in the pairs."""
        self._queries: list[int] = []
        self._cells: list[int] = []
        self._differences: list[float] = []
        self._tossed: list[Floats] = []
        self._coins: list[Floats] = []
        self._levels: list[tuple[int, int, float]] = []
        self._by_chance = np.zeros(1 << k, int)

    def watch(self, queries: Ints, *, pairs: int, ran: bool, chosen: bool = False) -> None:
        """Queries join the queue for so many pairs each.

        `ran`: they have been run under good and bad; `chosen`: they join because of what came of it.
        """
        self._chosen |= set(queries.tolist()) if chosen else set()
        for q in queries.tolist():
            if ran and q not in self._drawn:
                self._ran.add(q)
            self._drawn.setdefault(q, set())
            self._queue.append((q, pairs))

    @property
    def chosen(self) -> frozenset[int]:
        """Queries that were watched because of how they answered."""
        return frozenset(self._chosen)

    @property
    def fewest(self) -> int:
        """How many queries chance alone put into the cell that has fewest, of those that can run."""
        return int(self._by_chance[self._runs].min())

    @property
    def waiting(self) -> int:
        """Trials in the queue, about."""
        return 2 * sum(pairs for _, pairs in self._queue)

    def again(self, queries: int) -> None:
        """Queries that ran, at most so many, join for one more pair: the pairs of a query tell rules apart that one pair cannot."""
        for _ in range(min(queries, len(self._open))):
            self._queue.append((self._open.popleft(), 1))

    def forbid(self, cell: int) -> None:
        """The cell cannot run: no pair holds it, and no coin had it as a side."""
        self._runs[cell] = False
        self.costs = Costs(self._k)
        for i, other in enumerate(self._cells):
            for a in range(self._k):
                if not self._pair_runs(other ^ (1 << a)):
                    self._coins[i][a] = 0.0

    def plan(self, count: int, rng: np.random.Generator) -> list[Trial]:
        """At most `count` trials, in whole pairs, from the queries at the head of the queue."""
        trials: list[Trial] = []
        while len(trials) + 2 <= count and self._queue:
            q, pairs = self._queue.popleft()
            pair = self._pair(q, rng)
            trials += pair
            if pair and pairs > 1:
                self._queue.insert(len(self._queue) if q in self._ran else 0, (q, pairs - 1))
            elif pair:
                self._open.append(q)
        return trials

    def _pair(self, query: int, rng: np.random.Generator) -> list[Trial]:
        """A random cell that the query has not seen, and its complement, in random order; none when all are used."""
        drawn = self._drawn[query]
        used = drawn | {0} if query in self._ran else drawn
        free = [c for c in range((self._full + 1) // 2) if c not in used and self._pair_runs(c)]
        if not free:
            return []
        low = free[int(rng.integers(len(free)))]
        mirrored = [min(low ^ (1 << a), self._full ^ low ^ (1 << a)) for a in range(self._k)]
        tossed = np.array([float(m in free) for m in mirrored])
        self._coin[query, low] = tossed, np.maximum(tossed, [float(m in drawn) for m in mirrored])
        drawn.add(low)
        pair = [Trial(query, low), Trial(query, self._full ^ low)]
        self._waiting |= dict.fromkeys(pair, (query, low))
        return pair

    def hear(self, trials: list[Trial], scores: Floats) -> None:
        """What came of planned trials; NaN where there is no score."""
        whole = len(self._cells)
        self.costs.check(scores)
        for trial, score in zip(trials, scores.tolist(), strict=True):
            key = self._waiting.pop(trial)
            if np.isnan(score):
                continue
            self._levels.append((trial.query, trial.cell, score))
            self._by_chance[trial.cell] += trial.query not in self._chosen
            half = self._half.setdefault(key, {})
            half[trial.cell] = score
            if len(half) == 2:
                self._queries.append(key[0])
                self._cells.append(key[1])
                self._differences.append(half[key[1]] - half[self._full ^ key[1]])
                tossed, by_lot = self._coin[key]
                self._tossed.append(tossed)
                self._coins.append(by_lot)
        self._add_costs(whole)
        self._look()

    def _add_costs(self, start: int) -> None:
        """Pairs from `start` on join what each axis costs."""
        cells, coins = np.array(self._cells[start:], int), np.array(self._tossed[start:]).reshape(-1, self._k)
        signs = 1.0 - 2.0 * (cells[:, None] >> np.arange(self._k) & 1)
        self.costs.add(signs * np.array(self._differences[start:])[:, None] * coins, coins)

    @property
    def trials(self) -> int:
        """Trials heard."""
        return len(self._levels)

    def named(self, alpha: float) -> frozenset[int]:
        """Axes shown to cost quality at a look, with a chance of at most alpha that any of them has no effect."""
        return self._looks.named(alpha)

    @property
    def log_evidence(self) -> Floats:
        """(k,) the evidence on each axis on the scale of a log likelihood ratio."""
        return np.asarray(np.maximum(self.z(), 0) ** 2 / 2)

    def z(self) -> Floats:
        """(k,) standardised sums of signed differences; positive: the axis costs quality."""
        if len(self._cells) < 2:
            return np.zeros(self._k)
        signs = 1.0 - 2.0 * (np.array(self._cells)[:, None] >> np.arange(self._k) & 1)
        d = np.array(self._differences)
        scale = 1.5 * np.median(np.abs(d)) or float(np.abs(d).max()) or 1.0
        coins = np.array(self._coins)
        clipped = np.clip(d, -2 * scale, 2 * scale)
        rows = np.unique(self._queries, return_inverse=True)[1]
        z = np.zeros(self._k)
        for a in range(self._k):
            others = np.delete(np.arange(self._k), a)
            effects = np.linalg.lstsq(signs[:, others], clipped, rcond=None)[0]  # blind to a, as the coin demands
            rest = np.clip(d - signs[:, others] @ effects, -3 * scale, 3 * scale) * coins[:, a]
            sums = np.bincount(rows, signs[:, a] * rest)
            norm = float(np.sqrt((sums**2).sum()))
            z[a] = float(sums.sum()) / norm if norm > 0 else 0.0
        return z

    def gained(self) -> float:
        """What the axes that clearly raise the score raise it by, in score points."""
        if not self._cells:
            return 0.0
        signs = 1.0 - 2.0 * (np.array(self._cells)[:, None] >> np.arange(self._k) & 1)
        costs = (signs * np.array(self._differences)[:, None]).mean(0)
        return float(np.maximum(-costs, 0.0)[self.z() < -CLEAR].sum())

    def structure(self, held: frozenset[int]) -> Structure:
        """The rules that explain the levels, every axis of `held` in one of them."""
        rows = np.array([(q, c) for q, c, _ in self._levels])
        return explain_levels(self._k, rows[:, 0], rows[:, 1], np.array([s for *_, s in self._levels]), held=held)

    def suspicion(self) -> list[tuple[frozenset[int], float]]:
        """Single axes with a degree of suspicion."""
        z = np.maximum(self.z(), 0)
        total = float(z.sum()) or 1.0
        return [(frozenset({int(a)}), float(z[a] / total)) for a in np.argsort(-z, kind="stable")[:5] if z[a] > 0]

    def last_look(self) -> None:
        """The budget ends: the one look for which part of the error budget was kept. Later calls change nothing."""
        if self._cells:
            self._looks.end(len(self._cells), self.z())

    def _look(self) -> None:
        if self._looks.due(len(self._cells)):
            self._looks.take(len(self._cells), self.z())

    def _pair_runs(self, cell: int) -> bool:
        return bool(self._runs[cell] and self._runs[self._full ^ cell])
