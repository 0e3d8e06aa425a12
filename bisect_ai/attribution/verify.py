"""Is it fixed? A candidate fix against good and bad on the queries that broke, and against good on others of the log.

**The queries that broke.** They were chosen by how they came out, so what they scored then says too much: chosen for passing under
good they pass less often when they are run again, and chosen for failing under bad they fail less often (regression to the mean).
So all three releases answer each of them anew, and x = (fix - bad) - RESTORE (good - bad) says how far the fix brings back
RESTORE of what is really lost there. Against "the mean x of these queries is 0 or less" (not fixed) and against "it is above 0"
(fixed) a gambler stakes a part L of the wealth: it is multiplied by 1 + L x, or 1 - L x. Scores lie in [0, 1], so x in [-1, 1].
The runs are independent, and a product of means is at most the power of their mean (the inequality of arithmetic and geometric
means), so over a whole pass through the queries the wealth grows by 1 at most in expectation when there is nothing to win: at the
ends of passes it is a nonnegative supermartingale, however the queries differ, and ever passes c with a chance of at most 1 / c (Ville
1939). Within the first pass, in random order, a prefix obeys the same bound by Maclaurin's inequality, but only at a size fixed
beforehand: EARLY says at which two a fix that brings nothing back is sent away; they and the ends of passes share its error.

**The others.** Good and fix answer one query after another, drawn at random without replacement from N logged ones, and d = good - fix
is bet on after each: against "the loss is the tolerance or more" (clean) and against "there is no loss" (collateral; claimed
only when the estimate reaches the tolerance too). If the mean of all N were m, that of those left is (N m - sum of d so far) / (N - n),
so d less that is a fair bet (Waudby-Smith and Ramdas 2020). The N are these very queries, so it does not matter whether some of them
come from one user; and the fewer are left, the less a loss can hide in them. Weights of a stratified sample multiply d.

Every claim needs evidence of 2 / alpha. Whatever is true, at most two of the claims are wrong, so the chance of any wrong
one is at most alpha: "fixed" needs the fix's evidence on both, so a wrong "fixed" has a chance of at most alpha / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bisect_ai.attribution.estimate import Sample, ratio_interval
from bisect_ai.attribution.problem import Attribution, Belief, CellValue, Estimate, Floats, Outcome, Problem, Trial
from bisect_ai.attribution.stats.sequences import loss_sequence
from bisect_ai.attribution.verify_findings import Again, Kind, Others, VerifyFinding, VerifyRule
from bisect_ai.attribution.wagers import Wealth, ruled_in

RESTORE = 0.8
"""The share of the loss that a fix must bring back, as of a rollback."""
EARLY = (0.25, 0.5)
"""Parts of the first pass after which "not fixed" is looked at."""
SHARES = 3
"""The error of "not fixed" has as many parts: two early looks and the ends of passes."""
PASSES = 6
ROUND = 48
"""Trials, the most: what is under way when it is settled is spent."""
FAILING = 0.03
"""The share of failed trials, of all or of the fix's, above which nothing is called fixed."""


@dataclass(frozen=True)
class Cells:
    """The masks of a verification's trials: of the others good and fix, of the broken queries good, bad and fix."""

    full: int

    @property
    def others(self) -> tuple[int, int]:
        """Good and fix."""
        return 0, self.full

    @property
    def again(self) -> tuple[int, int, int]:
        """Good, bad and fix."""
        return self.full + 1, self.full + 2, self.full + 3


class VerifySearch:
    """`ask` and `tell` until `ask` has nothing more; then `finding`."""

    def __init__(self, problem: Problem, rule: VerifyRule) -> None:
        self._problem, self._rule = problem, rule
        self._cells = Cells(problem.full)
        self._scores: dict[Trial, float] = {}
        self._failures: set[Trial] = set()
        self._spent = 0
        weights = np.ones(problem.queries) if problem.weights is None else problem.weights
        others = weights[rule.broken :]
        self._weights = weights / (others.mean() if len(others) else 1.0)
        self._reach = float(self._weights[rule.broken :].max(initial=1.0))
        self._fixed, self._not_fixed, self._clean, self._collateral = (Wealth() for _ in range(4))
        looks = {max(4, round(part * rule.broken)) for part in EARLY}
        self._looks = sorted(size for size in looks if size < rule.broken)
        self._passes, self._asked = 0, 0
        self._losses: list[float] = []
        self._lost = 0.0
        self._evidence = (0.0, 0.0)
        self._next, self._taken = rule.broken, rule.broken
        self._again: Literal["fixed", "not_fixed", "spent"] | None = None if rule.broken else "spent"
        self._others: Literal["clean", "collateral", "spent"] | None = None

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round; empty when settled or spent."""
        left = self._problem.budget - self._spent
        width = min(max(width, 3), ROUND, left)
        if self._kind() is not None:
            return []
        trials = self._ask_again(width, left) if self._again is None else []
        if self._again == "spent":
            return []
        if self._others is None and (self._again == "fixed" or self._is_past_looks):
            reserved = 0 if self._again == "fixed" else 3 * (self._rule.broken - self._asked)
            trials += self._ask_others(min(width - len(trials), left - len(trials) - reserved) // 2)
        self._spent += len(trials)
        return trials

    def _ask_again(self, width: int, left: int) -> list[Trial]:
        """The next broken queries of this pass, no further than the next look."""
        start, end = self._asked, self._rule.broken
        if 3 * (end - start) > left:  # no whole pass any more, and only whole ones can be looked at
            self._again = "spent"
            return []
        look = next((size for size in self._looks if size > start), end) if self._passes == 0 else end
        self._asked = min(start + max(width // 3, 1), look)
        return [Trial(q, cell, self._passes) for q in range(start, self._asked) for cell in self._cells.again]

    @property
    def _is_past_looks(self) -> bool:
        return self._passes > 0 or self._asked > max(self._looks, default=0)

    def _ask_others(self, queries: int) -> list[Trial]:
        stop = min(self._next + max(queries, 0), self._problem.queries)
        trials = [Trial(query, cell) for query in range(self._next, stop) for cell in self._cells.others]
        self._next = stop
        if not trials and stop == self._problem.queries:
            self._others = "spent"
        return trials

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        for o in outcomes:
            self._scores[o.trial] = self._score(o)
            if o.status == "error":
                self._failures.add(o.trial)
        self._take_again()
        self._take_others()

    def _score(self, outcome: Outcome) -> float:
        """A call that failed is the lowest score: a fix may mend failures, and may make them. What is censored is NaN."""
        if outcome.status == "error":
            return self._rule.lowest
        return math.nan if outcome.score is None or outcome.status != "ok" else float(outcome.score)

    def belief(self) -> Belief:
        """What it believes now."""
        return Belief("verify", loss_sequence(self._sample(self._pairs())))

    # -- the queries that broke ------------------------------------------------------------------------------------
    def _take_again(self) -> None:
        """Looks at the sizes that were fixed beforehand, and at the ends of passes."""
        if self._again is not None or not self._is_heard(self._asked):
            return
        if self._asked == self._rule.broken:
            self._end_pass()
        elif self._passes == 0 and self._asked in self._looks:
            against = Wealth()
            for x in self._worths(0, self._asked):
                against.bet(-x)
            if against.value >= SHARES * self._rule.bound:
                self._again, self._evidence = "not_fixed", (0.0, against.value / SHARES)

    def _end_pass(self) -> None:
        for x in self._worths(self._passes, self._rule.broken):
            self._fixed.bet(x)
            self._not_fixed.bet(-x)
        self._evidence = self._fixed.value, self._not_fixed.value / SHARES
        self._passes, self._asked = self._passes + 1, 0
        if self._fixed.value >= self._rule.bound:
            self._again = "fixed"
        elif self._not_fixed.value >= SHARES * self._rule.bound:
            self._again = "not_fixed"
        elif self._passes == PASSES:
            self._again = "spent"

    def _is_heard(self, size: int) -> bool:
        return size > 0 and all(
            Trial(query, cell, self._passes) in self._scores for query in range(size) for cell in self._cells.again
        )

    def _worths(self, repeat: int, size: int) -> Iterator[float]:
        """x of each query that has all three scores."""
        for query in range(size):
            good, bad, fix = (self._rule.unit(s) for s in self._triple(query, repeat))
            x = (fix - bad) - RESTORE * (good - bad)
            if not math.isnan(x):
                yield x

    def _triple(self, query: int, repeat: int) -> list[float]:
        return [self._scores.get(Trial(query, cell, repeat), math.nan) for cell in self._cells.again]

    # -- the others --------------------------------------------------------------------------------------------------
    def _take_others(self) -> None:
        """Takes in the pairs that are complete, in the order of the sample, and looks after each."""
        while self._taken < self._next and self._others is None:
            pair = [self._scores.get(Trial(self._taken, cell)) for cell in self._cells.others]
            if pair[0] is None or pair[1] is None:
                return
            loss = float(self._weights[self._taken]) * (self._rule.unit(pair[0]) - self._rule.unit(pair[1]))
            self._taken += 1
            if not math.isnan(loss):
                self._look_at_others(loss)

    def _look_at_others(self, loss: float) -> None:
        """One more query's weighted loss: both bets on it, and a look."""
        left = max(self._rule.others - len(self._losses), 1)
        if_lossy = (self._rule.others * self._rule.margin - self._lost) / left
        if_lossless = -self._lost / left
        self._clean.bet(if_lossy - loss, worst=self._reach - if_lossy)
        self._collateral.bet(loss - if_lossless, worst=self._reach + if_lossless)
        self._losses.append(loss)
        self._lost += loss
        if self._clean.value >= self._rule.bound:
            self._others = "clean"
        elif self._collateral.value >= self._rule.bound and self._lost >= self._rule.margin * len(self._losses):
            self._others = "collateral"

    def _pairs(self) -> Floats:
        """(n, 3) query, good and fix of the other queries with both scores."""
        rows = [(q, *(self._scores[Trial(q, c)] for c in self._cells.others)) for q in range(self._rule.broken, self._taken)]
        found = np.array(rows, float).reshape(-1, 3)
        return np.asarray(found[~np.isnan(found).any(1)])

    def _sample(self, pairs: Floats) -> Sample:
        """Pairs of (query, before, after) as a sample whose clusters count."""
        queries = pairs[:, 0].astype(int)
        clusters = queries if self._problem.clusters is None else self._problem.clusters[queries]
        binary = len(np.unique(pairs[:, 1:])) <= 2
        return Sample(queries, pairs[:, 1], pairs[:, 2], self._weights[queries], clusters, math.inf, None, binary)

    # -- what it comes to ----------------------------------------------------------------------------------------------
    def _kind(self) -> Kind | None:
        if self._again == "not_fixed":
            return "not_fixed"
        if self._again == "fixed" and self._others in ("clean", "collateral"):
            return "fixed" if self._others == "clean" else "fixed_with_collateral"
        return None

    def finding(self) -> VerifyFinding:
        """What the evidence so far says."""
        failed = sum(self._is_unknown(trial) for trial in self._scores)
        kind, reason = self._kind() or "undecided", self._reason()
        if kind != "not_fixed" and self._is_failing():
            kind, reason = "undecided", f"{failed} of {len(self._scores)} trials failed: too many to call it fixed"
        return VerifyFinding(
            kind,
            reason,
            self._found_again(),
            self._found_others(),
            bound=self._rule.bound,
            failed=failed,
            trials=self._spent,
            calls_needed=self._needed() if kind == "undecided" else None,
            cells=(self._runs(0), self._runs(self._problem.full)),
        )

    def _is_failing(self) -> bool:
        """Whether too many trials are censored, or of the fix on either side have no score: failures of good and bad are outcomes."""
        runs = [self._runs(cell) for cell in (*self._cells.others, *self._cells.again)]
        censored = sum(math.isnan(score) for score in self._scores.values())
        return censored > FAILING * len(self._scores) or any(runs[i][1] > FAILING * runs[i][0] for i in (1, 4))

    def _is_unknown(self, trial: Trial) -> bool:
        """Whether no score came back."""
        return trial in self._failures or math.isnan(self._scores[trial])

    def _runs(self, cell: int) -> tuple[int, int]:
        trials = [trial for trial in self._scores if trial.cell == cell]
        return len(trials), sum(map(self._is_unknown, trials))

    def _found_again(self) -> Again:
        rows = [np.array([self._triple(q, r) for r in range(PASSES)]) for q in range(self._rule.broken)]
        whole = [r[~np.isnan(r).any(1)].mean(0) for r in rows if (~np.isnan(r).any(1)).any()]
        good, bad, fix = np.array(whole, float).reshape(-1, 3).T
        n = len(good)
        before = self._plain(good, bad)
        after = self._plain(good, fix)
        return Again(
            _restored(before, fix),
            before.estimate(good, "good release, run again", trials=1),
            before.estimate(bad, "bad release, run again", trials=1),
            after.estimate(fix, "candidate fix", trials=1),
            queries=n,
            passes=self._passes,
            fixed=self._evidence[0],
            not_fixed=self._evidence[1],
        )

    def _plain(self, before: Floats, after: Floats) -> Sample:
        rows = np.arange(len(before))
        binary = len(np.unique([*before, *after])) <= 2
        return Sample(rows, before, after, np.ones(len(rows)), rows, math.inf, None, binary)

    def _found_others(self) -> Others:
        sample = self._sample(self._pairs())
        return Others(
            self._loss(),
            sample.estimate(sample.good, "good release", trials=1),
            sample.estimate(sample.bad, "candidate fix", trials=1),
            queries=sample.n,
            clean=self._clean.value,
            collateral=self._collateral.value,
        )

    def _loss(self) -> Estimate:
        """The mean loss of the N others, with every value that neither bet rules out at 2.5 %."""
        n, span = len(self._losses), self._rule.highest - self._rule.lowest
        if not n:
            return Estimate(None, None, 0, "loss on other queries: none has both scores")
        low, high = ruled_in(np.array(self._losses), population=self._rule.others, reach=self._reach)
        how = "loss on other queries, paired; 95 % confidence sequence by betting, without replacement"
        return Estimate(span * self._lost / n, (span * low, span * high), n, how)

    def _reason(self) -> str:
        if self._again == "not_fixed":
            return "the evidence that the loss on the queries that broke is not back passed its bound"
        if self._again != "fixed":
            return "whether the queries that broke are back was not settled in the runs that could be made"
        return {
            "clean": "the evidence passed its bound on the queries that broke and on the others",
            "collateral": "the queries that broke are back, and the evidence of a loss on others passed its bound",
            "spent": "the queries that broke are back; there were too few others to rule out a loss of the tolerance",
        }.get(self._others or "", "the queries that broke are back; a loss on others is neither shown nor ruled out")

    def _needed(self) -> int | None:
        """Calls that the others would probably take yet, as fast as it went so far; None: not foreseeable."""
        seen = self._taken - self._rule.broken
        if self._again != "fixed" or self._others not in (None, "spent") or seen < 8:
            return None
        speed = max(self._clean.log, self._collateral.log) / seen
        left = math.log(self._rule.bound) - max(self._clean.log, self._collateral.log)
        return 2 * math.ceil(left / speed) if speed > 1e-4 else None


def _restored(sample: Sample, fix: Floats) -> Estimate:
    """The share of the loss that is back, with Fieller's interval over the queries."""
    if sample.n < 2:
        return Estimate(None, None, sample.n, "restored: fewer than two queries with all three scores")
    loss, base = sample.mean(sample.good - sample.bad)
    moved, influence = sample.mean(fix - sample.bad)
    if loss <= 0:
        return Estimate(None, None, sample.n, "restored: undefined, run again the queries show no loss")
    interval = ratio_interval(sample, moved, loss, influence, base)
    how = "share of the loss that is back; Fieller 95 % interval"
    return Estimate(moved / loss, interval, sample.n, how if interval else f"{how}: not bounded, the loss is too uncertain")


def as_attribution(found: VerifyFinding, problem: Problem) -> Attribution:
    """The finding as an attribution that names nobody: the loss is the fix's on the other queries."""
    values = zip((0, problem.full), (found.others.good, found.others.fix), found.cells, strict=True)
    cells = tuple(CellValue(cell, value, runs, errors, "run") for cell, value, (runs, errors) in values)
    kind: Literal["no_regression", "inconclusive"] = "no_regression" if found.kind == "fixed" else "inconclusive"
    others = found.others
    return Attribution(
        kind, others.loss, others.good, others.fix, cells=cells, calls_needed=found.calls_needed, reason=found.reason
    )
