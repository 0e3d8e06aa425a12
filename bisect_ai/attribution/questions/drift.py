"""Does a release still score as it did? Its answers now against its answers then, query by query, however often it is looked at.

A query's difference, then less now, has mean 0 where nothing moved. Gamblers who stake parts of their wealth on it being above 0 pass
1 / alpha, ever, with a chance of at most alpha (Ville 1939; Waudby-Smith and Ramdas 2024): drift. Others bet against "the loss is
`detect` or more"; when they pass 1 / miss, a drift of that size is excluded. On scores beyond [0, 1] the sign of the difference counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Attribution, Belief, CellValue, Estimate, Floats, Outcome, Problem, Trial
from bisect_ai.attribution.stats.adjusted import least
from bisect_ai.attribution.stats.sequential import mean_wealth

# Parts of the wealth that are bet, in equal shares. Proofs of losses of 5 to 100 points take 1.3 to 1.6 times the pairs that
# the best single stake for each would take (tests/quality/test_stakes.py).
STAKES = np.array([0.1, 0.2, 0.4, 0.7, 0.95])
# Queries asked at once, the most: what is under way when it ends is spent.
ROUND = 16
# Queries that a drift is told by, once it is proved: fewer say too little of its size and of segments.
TOLD = 64
# Of an interval 2 wide: the end is right to 2e-9.
HALVINGS = 30
# Queries before an interval is told.
FEWEST = 8
# Variance of a made-up difference: few that agree are not certain.
SMALL = 0.25

DriftKind = Literal["drift", "steady", "undecided"]


@dataclass(frozen=True)
class DriftRule:
    """What is fixed before the first call; `reference` (n,) are the scores then, oriented, NaN for none."""

    reference: tuple[float, ...]
    alpha: float = 0.05
    detect: float = 0.05
    miss: float = 0.1


@dataclass(frozen=True)
class DriftFinding:
    """What the answers now came to; `queries` and `differences` (then less now) in the order in which they were counted."""

    kind: DriftKind
    loss: Estimate
    then: Estimate
    now: Estimate
    evidence: float
    bound: float
    queries: tuple[int, ...]
    differences: tuple[float, ...]
    failed: int


class DriftSearch:
    """`ask` and `tell` until `ask` has nothing more; then `finding`. Only cell 0, the release itself, is run."""

    def __init__(self, problem: Problem, rule: DriftRule) -> None:
        self._problem, self._rule = problem, rule
        self._waiting = [q for q, score in enumerate(rule.reference) if not math.isnan(score)]
        self._asked: list[int] = []
        self._scores: dict[int, float] = {}
        self._counted: list[int] = []
        self._seen = 0
        self._harm: Floats = np.zeros(len(STAKES))
        self._well: Floats = np.zeros(len(STAKES))
        self._most = 1.0
        self._kind: DriftKind | None = None

    def ask(self, width: int) -> Sequence[Trial]:
        """The next queries in the sample's order; empty when settled or spent."""
        if self._kind == "steady" or (self._kind == "drift" and len(self._asked) >= TOLD):
            return []
        width = min(width, ROUND, self._problem.budget - len(self._asked))
        chosen = self._waiting[len(self._asked) :][: max(width, 0)]
        self._asked += chosen
        return [Trial(query, 0) for query in chosen]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back."""
        for outcome in outcomes:
            known = outcome.status == "ok" and outcome.score is not None
            self._scores[outcome.trial.query] = float(outcome.score or 0.0) if known else math.nan
        while self._seen < len(self._asked) and self._asked[self._seen] in self._scores and self._kind != "steady":
            self._count(self._asked[self._seen])
            self._seen += 1

    def _count(self, query: int) -> None:
        """Takes in one query that is answered, and looks."""
        then, now = self._rule.reference[query], self._scores[query]
        if math.isnan(now):
            return
        self._counted.append(query)
        moved = then - now if min(then, now) >= -1e-9 and max(then, now) <= 1 + 1e-9 else float(np.sign(then - now))
        self._harm = self._harm + np.log1p(STAKES * moved)
        self._most = max(self._most, mean_wealth(self._harm))
        self._well = self._well + np.log1p(STAKES * (self._rule.detect - moved) / (1 + self._rule.detect))
        if self._kind is None and self._evidence >= 1 / self._rule.alpha:
            self._kind = "drift"
        elif self._kind is None and mean_wealth(self._well) >= 1 / self._rule.miss:
            self._kind = "steady"

    @property
    def _evidence(self) -> float:
        """The most that the wealth ever was."""
        return self._most

    def belief(self) -> Belief:
        """What is believed now."""
        return Belief("drift", self._loss())

    def result(self) -> Attribution:
        """The finding as an attribution that names nobody."""
        found = self.finding()
        cell = CellValue(0, found.now, len(self._scores), found.failed, "run")
        return Attribution("inconclusive", found.loss, found.then, found.now, cells=(cell,), reason="")

    def finding(self) -> DriftFinding:
        """What the evidence so far says."""
        then, now = self._pairs()
        n = len(then)
        return DriftFinding(
            self._kind or "undecided",
            self._loss(),
            Estimate(float(then.mean()) if n else None, None, n, "scores then"),
            Estimate(float(now.mean()) if n else None, None, n, "scores now"),
            self._evidence,
            1 / self._rule.alpha,
            tuple(self._counted),
            tuple((then - now).tolist()),
            sum(math.isnan(score) for score in self._scores.values()),
        )

    def _pairs(self) -> tuple[Floats, Floats]:
        return (
            np.array([self._rule.reference[q] for q in self._counted], float),
            np.array([self._scores[q] for q in self._counted], float),
        )

    def _loss(self) -> Estimate:
        then, now = self._pairs()
        return mean_loss(then - now, 2 * self._rule.alpha)


def mean_loss(differences: Floats, alpha: float) -> Estimate:
    """The mean of paired differences with an interval that holds at every look, each end but for a chance of alpha / 2.

    Differences in [-1, 1] have the means that no stake passed 2 / alpha against: above 0 exactly where a loss is proved.
    """
    n = len(differences)
    if n < FEWEST:
        return Estimate(None, None, n, f"loss: fewer than {FEWEST} queries with both scores")
    mean = float(differences.mean())
    if np.abs(differences).max() <= 1:
        ends, how = (_lowest(differences, alpha / 2), -_lowest(-differences, alpha / 2)), "betting"
    else:
        spread = math.sqrt(float(differences.var()) + SMALL / n)
        error = spread / math.sqrt(n)
        ends, how = (least(mean, error, spread, alpha / 2), -least(-mean, error, spread, alpha / 2)), "asymptotic"
    return Estimate(mean, ends, n, f"then less now, paired by query, {100 * (1 - alpha):g} % {how} confidence sequence")


def is_loss(differences: Floats, alpha: float) -> bool:
    """Whether differences in [-1, 1] (others count by their sign) prove a loss, wrongly with a chance of at most alpha."""
    moved = differences if len(differences) == 0 or np.abs(differences).max() <= 1 else np.sign(differences)
    return _is_passed(moved, 0.0, alpha)


def _lowest(moved: Floats, alpha: float) -> float:
    """The lowest mean that was never proved to be passed; wealth falls in the mean, so halving finds it."""
    low, high = -1.0, float(moved.mean())
    for _ in range(HALVINGS if high > low else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if _is_passed(moved, middle, alpha) else (low, middle)
    return low


def _is_passed(moved: Floats, mean: float, alpha: float) -> bool:
    """Whether the wealth staked on a mean above `mean` ever passed 1 / alpha, differences in [-1, 1] in their order."""
    paths = np.cumsum(np.log1p(STAKES * ((moved - mean) / (1 + mean))[:, None]), 0)
    return bool(len(moved) and np.exp(np.minimum(paths, 700.0)).mean(1).max() >= 1 / alpha)
