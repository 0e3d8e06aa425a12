"""Confirm: which rollback is measured for the rules that were found, on which queries, and whether it restores enough."""

from __future__ import annotations

import math

from bisect_ai.attribution.evidence import Evidence
from bisect_ai.attribution.flips import Flips
from bisect_ai.attribution.measurement import Measurement
from bisect_ai.attribution.naming import Structure, smallest_rollback
from bisect_ai.attribution.pairs import Pairs
from bisect_ai.attribution.problem import Trial
from bisect_ai.attribution.response import Rule
from bisect_ai.attribution.squares import Squares
from bisect_ai.attribution.table import FEWEST

LAST = 150  # calls kept back for measuring a rollback, pass/fail
LAST_NUMERIC = 40
SURE = 0.9  # trust in the smallest rollback below which all axes of the rules are reverted, numeric metrics
LIKELY = 0.6  # trust in that below which every named axis is reverted


class Confirmation:
    """The rollback being measured, if any: `choose` it, `take` its trials, `judge` it. One that restores too little is dropped."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.structure: Structure | None = None
        """The rules whose rollback is measured."""
        self.measured: Measurement | None = None
        self.shares: dict[Rule, Measurement] | None = None
        """What each of several causes restores by itself; None until the rollback was accepted."""
        self._waiting: list[Trial] = []
        self._failed: dict[int, int] = {}
        """Rollbacks (masks) that restored too little, with the size of the base sample then."""

    @property
    def reserve(self) -> int:
        """Calls to keep back for measuring a rollback."""
        budget, localiser = self._evidence.problem.budget, self._evidence.localiser
        if isinstance(localiser, Squares):
            return 0  # it ran on every query
        if isinstance(localiser, Pairs):
            return 0 if self._evidence.table_fills() else min(max(budget // 25, 8), LAST_NUMERIC)
        return min(max(budget // 8, 8), LAST)

    @property
    def waits(self) -> bool:
        """Whether trials wait to be taken."""
        return bool(self._waiting)

    def take(self, width: int) -> list[Trial]:
        """The next trials of what is measured."""
        now, self._waiting = self._waiting[:width], self._waiting[width:]
        return now

    def choose(self, structure: Structure, left: int) -> bool:
        """Fix the smallest rollback of the rules and where it is measured.

        Nothing is fixed when no rollback is allowed, or (True) when this one failed and the base sample must grow before it may again.
        """
        back = self._rollback(structure)
        if self._evidence.base.heard < 1.2 * self._failed.get(sum(1 << a for a in back), 0):
            return True
        if back:
            self.structure = structure
            self._measure(back, left)
        return False

    def _rollback(self, structure: Structure) -> frozenset[int]:
        problem, localiser = self._evidence.problem, self._evidence.localiser
        flips = localiser.watched if isinstance(localiser, Flips) else 100
        margin = min(0.4 / math.sqrt(max(flips, 1)), 0.19)
        forbidden = frozenset(problem.full ^ c for c in self._evidence.infeasible)
        named = self._evidence.named()
        smallest = smallest_rollback(structure, problem.k, forbidden=forbidden, margin=margin)
        if not isinstance(localiser, Pairs) or structure.trust(smallest) >= SURE:
            return smallest
        larger = structure.axes if structure.trust(structure.axes) >= LIKELY else named  # all that was shown to cost quality
        return smallest if sum(1 << a for a in larger) in forbidden else larger

    def _measure(self, back: frozenset[int], left: int) -> None:
        evidence = self._evidence
        cell = evidence.problem.full ^ sum(1 << a for a in back)
        again = 1 + (evidence.problem.full ^ cell in self._failed)
        whole = isinstance(evidence.localiser, Squares)
        queries = evidence.base.sample().queries if whole else evidence.base.subsample(left, again)
        self.measured = Measurement(back, cell, queries)
        if left < FEWEST and evidence.table_fills():
            self.measured = Measurement(back, cell, queries[:0], table=evidence.table())
        elif cell:
            wanted = [Trial(int(q), cell) for q in self.measured.queries]
            self._waiting = [] if whole else [t for t in wanted if (t.query, t.cell) not in evidence.scores][:left]

    def judge(self, left: int) -> bool:
        """Whether the rollback restores enough and all shares are measured; else there is more to measure, or it was dropped."""
        assert self.measured is not None
        assert self.structure is not None
        scores = self._evidence.scores
        if self.shares is None:
            self.measured = self.measured.with_scores(scores)
            if not self.measured.restores_enough(self._evidence.sample()):
                self._failed[self._evidence.problem.full ^ self.measured.cell] = self._evidence.base.heard
                self.structure, self.measured = None, None
                return False
            self.shares = {} if self._evidence.table() else self._share_measurements(self.structure, self.measured, left)
            found = [Trial(int(q), m.cell) for m in self.shares.values() for q in m.queries]
            self._waiting = [t for t in dict.fromkeys(found) if (t.query, t.cell) not in scores and t.cell]
        if self._waiting:
            return False
        self.shares = {rule: m.with_scores(scores) for rule, m in self.shares.items()}
        return True

    def _share_measurements(self, structure: Structure, measured: Measurement, left: int) -> dict[Rule, Measurement]:
        """Where to measure what each of several causes costs: its own reversion, on the queries of the rollback."""
        full, queries = self._evidence.problem.full, measured.queries
        chosen = {}
        for rule in structure.rules if len(structure.rules) > 1 else ():
            back = structure.undone(rule, measured.back)
            cell = full ^ sum(1 << a for a in back)
            left -= len(queries)
            if cell not in self._evidence.infeasible and left >= 0:
                chosen[rule] = Measurement(back, cell, queries)
        return chosen
