"""What the adaptive search has heard, and what follows from it: the loss, who is named, which rules explain the scores.

Which trials are asked for, and when enough is known, is the business of `adaptive`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from bisect_ai.attribution.base import Base
from bisect_ai.attribution.demands import OF_FLIPS, OF_SCORES, Demands
from bisect_ai.attribution.estimate import Sample
from bisect_ai.attribution.flips import Flips
from bisect_ai.attribution.inference import ScoreTable
from bisect_ai.attribution.naming import Structure
from bisect_ai.attribution.pairs import Pairs
from bisect_ai.attribution.problem import Floats, Ints, Outcome, Problem, Trial
from bisect_ai.attribution.response import Rule
from bisect_ai.attribution.settle import loss_boundary
from bisect_ai.attribution.squares import Squares
from bisect_ai.attribution.table import FEWEST, random_table

START = 24  # base queries before anything else
START_NUMERIC = 12
PLAIN_LOSS = 1.64  # standard errors above the tolerance: good and bad themselves say that there is a loss
MOST_AXES_TABLE = 4
Localiser = Flips | Pairs | Squares
Kind = Literal["base", "inner", "rollback"]
"""What a trial is for."""


class Evidence:
    """The base sample, the localiser that the scores called for, and all scores. `hear` outcomes, `recruit`, read the rest."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.base = Base(problem)
        self.localiser: Localiser | None = None
        self.scores: dict[tuple[int, int], float] = {}
        """The first score of each query in each cell."""
        self.infeasible = set(problem.infeasible)
        self.runs: dict[int, int] = {}
        """Trials by cell."""
        self.errors: dict[int, int] = {}
        """Trials without a score by cell."""
        self._watched = 0
        self._alpha = problem.alpha

    # -- hearing ---------------------------------------------------------------------------------------------------
    def hear(self, outcomes: Sequence[Outcome], out: dict[Trial, Kind]) -> None:
        """Take in what came back. `out`: the trials under way, each with what it is for; those that came back are taken off."""
        for cell in {o.trial.cell for o in outcomes if o.status == "infeasible"}:
            self._forbid(cell)
        inner: list[tuple[Trial, float]] = []
        for outcome in outcomes:
            trial, score, status, verdict, _ = outcome
            if verdict is not None:
                self.base.verdicts.hear(outcome)
            kind = out.pop(trial, None)
            if kind is None:
                continue
            query, cell, repeat = trial
            self.runs[cell] = self.runs.get(cell, 0) + 1
            if score is None or status != "ok" or math.isnan(score):
                score = math.nan
                self.errors[cell] = self.errors.get(cell, 0) + 1
            elif repeat == 0:
                self.scores[query, cell] = score
            if kind == "base":
                self.base.hear(trial, score)
            elif kind == "inner":
                inner.append((trial, score))
                self.base.note(score)
                self.base.hear_aside(trial, score)
        self._hear_inner(inner)

    def _forbid(self, cell: int) -> None:
        self.infeasible.add(cell)
        if self.localiser is not None:
            self.localiser.forbid(cell)

    def _hear_inner(self, heard: list[tuple[Trial, float]]) -> None:
        if not heard or self.localiser is None:
            return
        trials, scores = [t for t, _ in heard], np.array([s for _, s in heard])
        if isinstance(self.localiser, Flips):
            known = np.where(np.isnan(scores), -1, scores > self.base.lowest).astype(int)
            self.localiser.hear(trials, known)
        else:
            self.localiser.hear(trials, scores)

    @property
    def start(self) -> int:
        """Base queries before anything else."""
        p = self.problem
        return min(START if self.base.binary else START_NUMERIC, max(4, p.budget // 4), p.queries)

    def recruit(self) -> None:
        """New base queries join the localiser; the localiser is chosen by what the scores look like."""
        if self.base.heard < self.start:
            return
        sample_queries, good, bad = self.base.complete(self._watched)
        if self.localiser is None or (isinstance(self.localiser, Flips) and not self.base.binary):
            self._alpha = self.problem.alpha if self.localiser is None else self.problem.alpha / 2
            self.localiser = self._choose()
            sample_queries, good, bad = self.base.complete(0)
        if isinstance(self.localiser, Flips):
            self.localiser.watch(sample_queries[(good > bad)])
        elif isinstance(self.localiser, Squares):
            self.localiser.watch(sample_queries, good, bad)
        else:
            self.localiser.watch(_hardest_hit(sample_queries, good - bad), pairs=3, ran=True, chosen=True)
        self._watched = self.base.heard

    def _choose(self) -> Localiser:
        k, infeasible = self.problem.k, frozenset(self.infeasible)
        if k == 2:
            return Squares(infeasible, affordable=self.problem.budget)
        if self.base.binary:
            return Flips(k, infeasible)
        return Pairs(k, infeasible, affordable=self.problem.budget)

    # -- the loss --------------------------------------------------------------------------------------------------
    def sample(self) -> Sample:
        """The base sample; the noise that it needs to know errs upwards: gains count as noise."""
        bare = self.base.sample()
        bare = replace(bare, judge=self.base.verdicts.noise(bare.queries, np.array([0, self.problem.full])))
        if not isinstance(self.localiser, Flips) or not bare.n:
            return bare
        gained = float(bare.share[bare.strata == 1].sum()) / max(1 - float(bare.share[bare.strata == 2].sum()), 0.1)
        fitted = self.localiser.noise * (1 - self.localiser.noise)
        return replace(bare, noise=bare.reach**2 * max(fitted, gained))

    def below(self) -> float:
        """How many standard errors the loss lies below the tolerance."""
        return -self.base.sample().z(self.problem.tolerance)

    def shows_no_loss(self) -> bool:
        """Whether the loss is below the tolerance, when it is time for a look."""
        return self.base.look() and self.below() > loss_boundary(self.problem)

    def is_loss_likely(self, structure: Structure, chance: float) -> bool:
        """Whether the loss is above the tolerance with this chance.

        On numeric metrics of more than two axes the trials in other cells say as much about it: the base sample must not speak
        clearly against it, and must speak for it where other axes clearly win something back. With two, every query is in it.
        """
        z = -self.below()
        if self.base.binary:
            return NormalDist().cdf(z) >= chance
        if z > PLAIN_LOSS or isinstance(self.localiser, Squares):
            return z > PLAIN_LOSS
        gained = self.localiser.gained() if isinstance(self.localiser, Pairs) else 0.0
        net = sum(structure.weights) - gained
        return net > self.problem.tolerance and z > (0.5 if gained else -1.0)

    # -- the cause -------------------------------------------------------------------------------------------------
    def log(self) -> Floats:
        """(k,) evidence that each axis costs quality, as a logarithm; 0 where nothing was tried."""
        return np.zeros(self.problem.k) if self.localiser is None else self.localiser.log_evidence

    def named(self) -> frozenset[int]:
        """The axes that the evidence names; the only one of all when the loss itself is proven."""
        if self.problem.k == 1:
            proven = self.base.sample().z(0.0) > loss_boundary(self.problem)
            return frozenset({0}) if proven else frozenset()
        return self.localiser.named(self._alpha) if self.localiser is not None else frozenset()

    def explained(self, named: frozenset[int]) -> Structure:
        """The rules that explain the scores; on numeric metrics the strongest of the named axes is in one of them."""
        if self.problem.k == 1 or self.localiser is None:
            alone = Structure((Rule((0,), "alone"),), (1.0,), 1.0)
            return replace(alone, rivals=(alone,))
        if isinstance(self.localiser, Flips):
            return self.localiser.structure()
        log = self.localiser.log_evidence
        strongest = max(named, key=lambda a: float(log[a]))  # the others must earn their place
        return self.localiser.structure(frozenset({strongest}))

    @property
    def demands(self) -> Demands:
        """What rules must show."""
        return OF_SCORES if isinstance(self.localiser, Pairs) else OF_FLIPS

    # -- the table -------------------------------------------------------------------------------------------------
    def table_fills(self) -> bool:
        """Whether every cell has queries enough that chance put there, so that nothing needs to be kept for a rollback's cell."""
        return isinstance(self.localiser, Pairs) and self.problem.k <= MOST_AXES_TABLE and self.localiser.fewest >= FEWEST

    def table(self) -> ScoreTable | None:
        """Scores of queries that chance put into cells, when there are enough in every cell; None: cells ran on chosen queries."""
        if self.problem.k > MOST_AXES_TABLE or not isinstance(self.localiser, Pairs | Squares):
            return None
        return random_table(self.problem, self.scores, self.localiser.chosen, self.base.verdicts)


def _hardest_hit(queries: Ints, drops: Floats) -> Ints:
    """The half of the queries with the largest drops, largest first, when few queries carry the loss; else none."""
    if not len(drops) or abs(np.median(drops)) > 0.35 * abs(drops.mean()):
        return queries[:0]
    order = np.argsort(-drops, kind="stable")
    return queries[order[: math.ceil(len(order) / 2)]]
