"""Is it fixed? A candidate fix against good and bad on queries drawn at random: does it bring back the *net* loss?

Every change of a language model's input shuffles which queries fail. So queries that broke cannot judge a fix: a right rollback
keeps the churn of the axes that it leaves alone, and some of what "broke" stays broken while as much else is mended. What counts is
the mean over the log. Good, bad and fix answer one query after another, in an order drawn before any of them answered.

**The statistic.** A fix is one when its shortfall against good is below the tolerance or below 1 - RESTORE of the loss:
v(good) - v(fix) < tolerance, or x = (fix - bad) - RESTORE (good - bad) has a mean above 0. Scores lie in [0, 1], so x in [-1, 1].

**The decision.** An e-process bets on each number (`sequential.MeanAbove`). When its mean over the N logged queries, each answered
once, is 0 or less it passes c with a chance of at most 1 / c, however often it is looked at (Ville 1939).

- *Enough is back*: the average of the two e-processes for "shortfall below the tolerance" and "x above 0". When the fix is none,
  neither can be expected to grow, nor can their average. `fixed` needs it, and that of the gain fix - bad, above 2 / alpha.
- *Too little is back*: the e-processes for "shortfall above the tolerance" and "x below 0", both above 2 / alpha. Only then the
  queries that broke are run, to tell a loss that stays (`not_fixed`) from another (`fixed_with_collateral`): collateral is claimed
  when the evidence that RESTORE of *their* loss is back passes 2 / alpha too.
- Neither, at the end of the log or of the budget: `undecided`.

**The queries that broke** were chosen by how they came out, so all three releases answer each of them anew. The runs are
independent, and a product of means is at most the power of their mean (the inequality of arithmetic and geometric means), so at the
ends of passes the wealth is a nonnegative supermartingale, however the queries differ. Claims are made then and only then.

**The error.** When the fix is none, a wrong `fixed` and a wrong `fixed_with_collateral` have a chance of at most alpha / 2 each;
when it is one, a wrong `not_fixed` or `fixed_with_collateral` has one of at most alpha / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Attribution, Belief, CellValue, Estimate, Floats, Outcome, Problem, Trial
from bisect_ai.attribution.questions.verify_findings import Again, Kind, Others, VerifyFinding, VerifyRule
from bisect_ai.attribution.search.query_rows import BOUND, DRAWS, SETTLED, SLACK
from bisect_ai.attribution.stats.estimate import PairedSample, loss_sequence, ratio_interval
from bisect_ai.attribution.stats.sequential import MeanAbove, Wealth, ruled_in

# The share of the loss that a fix must bring back, as of a rollback.
RESTORE = 0.8
# Broken queries after which collateral is given up when they do not look mended: it spares an innocent axis 90 calls.
FIRST_LOOK = 10
# The sum of x up to which they do not: half of their loss is back, or less.
HOPELESS = (0.5 - RESTORE) * FIRST_LOOK
# Queries before which no number of calls is named.
FEWEST = 12
# Times that the queries that broke are run, the most.
PASSES = 6
# Trials, the most: what is under way when it is settled is spent.
ROUND = 48
# The share of failed trials, of all or of the fix's, above which nothing is called fixed.
FAILING = 0.03


@dataclass(frozen=True)
class Cells:
    """The masks of a verification's trials: of the random queries good, fix and bad, of the queries that broke good, bad and fix."""

    full: int

    @property
    def others(self) -> tuple[int, int]:
        """Good and fix."""
        return 0, self.full

    @property
    def drawn(self) -> tuple[int, int, int]:
        """Good, bad and fix, of queries drawn at random."""
        return 0, self.full + 2, self.full

    @property
    def again(self) -> tuple[int, int, int]:
        """Good, bad and fix, of the queries that broke."""
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
        tests = (MeanAbove(rule.others, reach=self._reach) for _ in range(5))
        self._gain, self._enough, self._too_little, self._clean, self._short = tests
        self._next, self._taken = rule.broken, rule.broken
        self._net: Literal["enough", "too_little", "spent"] | None = None
        self._mended = Wealth()
        self._passes, self._asked = 0, 0
        self._broken: Literal["mended", "not_mended"] | None = None if rule.broken else "not_mended"

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round; empty when settled or spent."""
        left = self._problem.budget - self._spent
        queries = min(max(width, 3), ROUND, left) // 3
        trials = self._ask_drawn(queries) if self._net is None else []
        if self._net == "too_little" and self._broken is None:
            trials = self._ask_again(queries, left)
        self._spent += len(trials)
        return trials

    def _ask_drawn(self, queries: int) -> list[Trial]:
        stop = min(self._next + queries, self._problem.queries)
        trials = [Trial(query, cell) for query in range(self._next, stop) for cell in self._cells.drawn]
        self._next = stop
        if not trials:
            self._net = "spent"
        return trials

    def _ask_again(self, queries: int, left: int) -> list[Trial]:
        """The next broken queries of this pass; only whole passes can be looked at."""
        start, end = self._asked, self._rule.broken
        if 3 * (end - start) > left:
            self._broken = "not_mended"
            return []
        limit = FIRST_LOOK if self._passes == 0 and start < FIRST_LOOK < end else end
        self._asked = min(start + max(queries, 1), limit)
        # repeat 0 may be the same query among those drawn
        return [Trial(q, cell, self._passes + 1) for q in range(start, self._asked) for cell in self._cells.again]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        for o in outcomes:
            self._scores[o.trial] = self._score(o)
            if o.status == "error":
                self._failures.add(o.trial)
        self._take_drawn()
        self._take_again()

    def _score(self, outcome: Outcome) -> float:
        """A call that failed is the lowest score: a fix may mend failures, and may make them. What is censored is NaN."""
        if outcome.status == "error":
            return self._rule.lowest
        return math.nan if outcome.score is None or outcome.status != "ok" else float(outcome.score)

    def belief(self) -> Belief:
        """What it believes now."""
        return Belief("verify", loss_sequence(self._sample_of_pairs(self._drawn_scores()[:, [0, 1, 3]])))

    # -- the queries drawn at random -------------------------------------------------------------------------------
    def _take_drawn(self) -> None:
        """Takes in the triples that are complete, in the order of the sample, and looks after each."""
        while self._taken < self._next and self._net is None:
            scores = [self._scores.get(Trial(self._taken, cell)) for cell in self._cells.drawn]
            if any(score is None for score in scores):
                return
            query, self._taken = self._taken, self._taken + 1
            good, bad, fix = (self._rule.unit(math.nan if score is None else score) for score in scores)
            if not math.isnan(good + bad + fix):
                self._look_at(float(self._weights[query]), good, bad, fix)

    def _look_at(self, weight: float, good: float, bad: float, fix: float) -> None:
        """One more query's scores, on the scale from 0 to 1: the bets on it, and a look."""
        back = (fix - bad) - RESTORE * (good - bad)
        shortfall = good - fix
        self._gain.hear(weight * (fix - bad))
        self._enough.hear(weight * back)
        self._too_little.hear(-weight * back)
        self._clean.hear(self._rule.margin - weight * shortfall, shift=self._rule.margin)
        self._short.hear(weight * shortfall - self._rule.margin, shift=-self._rule.margin)
        if self._is_enough() and self._gain.value >= self._rule.bound:
            self._net = "enough"
        elif min(self._too_little.value, self._short.value) >= self._rule.bound:
            self._net = "too_little"

    def _evidence_of_both(self) -> float:
        """That enough is back: the average of the two ways to be a fix."""
        return (self._enough.value + self._clean.value) / 2

    def _is_enough(self) -> bool:
        return self._evidence_of_both() >= self._rule.bound

    def _drawn_scores(self) -> Floats:
        """(n, 4) query, good, bad and fix of the drawn queries with all three scores."""
        rows = [(q, *(self._scores[Trial(q, c)] for c in self._cells.drawn)) for q in range(self._rule.broken, self._taken)]
        found = np.array(rows, float).reshape(-1, 4)
        return np.asarray(found[~np.isnan(found).any(1)])

    def _sample_of_pairs(self, pairs: Floats) -> PairedSample:
        """Pairs of (query, before, after) as a sample whose clusters count."""
        queries = pairs[:, 0].astype(int)
        clusters = queries if self._problem.clusters is None else self._problem.clusters[queries]
        binary = len(np.unique(pairs[:, 1:])) <= 2
        return PairedSample(queries, pairs[:, 1], pairs[:, 2], self._weights[queries], clusters, math.inf, binary)

    # -- the queries that broke ------------------------------------------------------------------------------------
    def _take_again(self) -> None:
        """After the first look only gives up; claims at the ends of passes."""
        if self._broken is not None or not self._asked or not self._is_heard(self._asked):
            return
        if self._asked == self._rule.broken:
            self._end_pass()
        elif self._asked == FIRST_LOOK and self._passes == 0 and sum(self._worths_of_repeats(1, FIRST_LOOK)) <= HOPELESS:
            self._broken = "not_mended"

    def _end_pass(self) -> None:
        self._passes, self._asked = self._passes + 1, 0
        worths = list(self._worths_of_repeats(self._passes, self._rule.broken))
        for x in worths:
            self._mended.bet(x)
        if self._mended.value >= self._rule.bound:
            self._broken = "mended"
        elif sum(worths) <= 0 or self._passes == PASSES:
            self._broken = "not_mended"

    def _is_heard(self, size: int) -> bool:
        return all(Trial(query, cell, self._passes + 1) in self._scores for query in range(size) for cell in self._cells.again)

    def _worths_of_repeats(self, repeat: int, size: int) -> Iterator[float]:
        """x of each broken query that has all three scores."""
        for query in range(size):
            good, bad, fix = (
                self._rule.unit(self._scores.get(Trial(query, cell, repeat), math.nan)) for cell in self._cells.again
            )
            x = (fix - bad) - RESTORE * (good - bad)
            if not math.isnan(x):
                yield x

    # -- what it comes to ----------------------------------------------------------------------------------------------
    def _kind(self) -> Kind:
        if self._net == "enough":
            return "fixed"
        if self._net == "too_little":
            return "fixed_with_collateral" if self._broken == "mended" else "not_fixed"
        return "undecided"

    def result(self) -> Attribution:
        """The finding as an attribution that names nobody."""
        return verify_attribution(self.finding(), self._problem)

    def finding(self) -> VerifyFinding:
        """What the evidence so far says."""
        failed = sum(self._is_unknown(trial) for trial in self._scores)
        kind, reason = self._kind(), self._reason()
        if kind in ("fixed", "fixed_with_collateral") and self._is_failing():
            kind, reason = "undecided", f"{failed} of {len(self._scores)} trials failed: too many to call it fixed"
        return VerifyFinding(
            kind,
            reason,
            self._found_again(),
            self._found_others(),
            bound=self._rule.bound,
            failed=failed,
            trials=self._spent,
            calls_needed=self._needed() if kind == "undecided" and self._net != "enough" else None,
            cells=(self._runs_of_cell(0), self._runs_of_cell(self._problem.full)),
        )

    def _is_failing(self) -> bool:
        """Whether too many trials are censored, or of the fix on either side have no score: failures of good and bad are outcomes."""
        runs = [self._runs_of_cell(cell) for cell in (*self._cells.others, *self._cells.again)]
        censored = sum(math.isnan(score) for score in self._scores.values())
        return censored > FAILING * len(self._scores) or any(runs[i][1] > FAILING * runs[i][0] for i in (1, 4))

    def _is_unknown(self, trial: Trial) -> bool:
        """Whether no score came back."""
        return trial in self._failures or math.isnan(self._scores[trial])

    def _runs_of_cell(self, cell: int) -> tuple[int, int]:
        trials = [trial for trial in self._scores if trial.cell == cell]
        return len(trials), sum(map(self._is_unknown, trials))

    def _found_again(self) -> Again:
        drawn = self._drawn_scores()
        before, after = self._sample_of_pairs(drawn[:, [0, 1, 2]]), self._sample_of_pairs(drawn[:, [0, 1, 3]])
        return Again(
            _restored_share(before, after.bad),
            before.estimate(before.good, "good release"),
            before.estimate(before.bad, "bad release"),
            after.estimate(after.bad, "candidate fix"),
            queries=before.n,
            passes=self._passes,
            fixed=self._evidence_of_both(),
            not_fixed=min(self._too_little.value, self._short.value),
        )

    def _found_others(self) -> Others:
        drawn = self._drawn_scores()
        sample = self._sample_of_pairs(drawn[:, [0, 1, 3]])
        return Others(
            self._loss_by_drawn(drawn),
            sample.estimate(sample.good, "good release"),
            sample.estimate(sample.bad, "candidate fix"),
            queries=sample.n,
            clean=self._clean.value,
            collateral=self._short.value,
        )

    def _loss_by_drawn(self, drawn: Floats) -> Estimate:
        """The mean shortfall of the N logged queries, with every value that neither bet rules out at 2.5 %."""
        n, span = len(drawn), self._rule.highest - self._rule.lowest
        if not n:
            return Estimate(None, None, 0, "loss: no query has all three scores")
        unit = np.vectorize(self._rule.unit)
        losses = self._weights[drawn[:, 0].astype(int)] * (unit(drawn[:, 1]) - unit(drawn[:, 3]))
        low, high = ruled_in(losses, population=self._rule.others, reach=self._reach)
        how = "loss, paired by query; 95 % confidence sequence by betting, without replacement"
        return Estimate(span * float(losses.mean()), (span * low, span * high), n, how)

    def _reason(self) -> str:
        if self._net == "enough":
            return "the evidence that the net loss is back passed its bound"
        if self._net == "too_little":
            where = ": the queries that broke are back, others are worse" if self._broken == "mended" else ""
            return f"the evidence that too little of the net loss is back passed its bound{where}"
        end = "log" if self._next == self._problem.queries else "budget"
        return f"whether the net loss is back was not settled by the end of the {end}"

    def _needed(self) -> int | None:
        """Calls that would probably settle it yet; None: no number can be named.

        The true means are not known: they are drawn from what the queries say, and for each draw the queries are counted until a
        mean lies BOUND standard errors from 0, which fall to 0 at the end of the log. The number settles SETTLED of the draws within
        SLACK times as many calls.
        """
        seen, available = len(self._drawn_scores()), self._problem.queries - self._rule.broken
        if seen < FEWEST:
            return None
        rng = np.random.default_rng([self._problem.seed, 8])
        back, back_error = self._enough.mean()
        room, room_error = self._clean.mean()
        backs = back + back_error * rng.standard_normal(DRAWS)
        rooms = room + room_error * rng.standard_normal(DRAWS)

        def queries(means: Floats, error: float) -> Floats:
            """n such that means = BOUND * spread * sqrt((1 - n / N) / n)."""
            endless = (BOUND * error * math.sqrt(seen) / np.maximum(means, 1e-9)) ** 2
            return np.where(means > 0, endless / (1 + endless / self._rule.others), np.inf)

        fixed = np.minimum(queries(backs, back_error), queries(rooms, room_error))
        not_fixed = np.maximum(queries(-backs, back_error), queries(-rooms, room_error))
        needed = float(np.sort(np.minimum(fixed, not_fixed))[math.ceil(SETTLED * DRAWS) - 1])
        return 3 * max(math.ceil((needed - seen) / SLACK), 1) if needed <= available else None


def _restored_share(sample: PairedSample, fix: Floats) -> Estimate:
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


def verify_attribution(found: VerifyFinding, problem: Problem) -> Attribution:
    """The finding as an attribution that names nobody: the loss is the fix's on the other queries."""
    values = zip((0, problem.full), (found.others.good, found.others.fix), found.cells, strict=True)
    cells = tuple(CellValue(cell, value, runs, errors, "run") for cell, value, (runs, errors) in values)
    kind: Literal["no_regression", "inconclusive"] = "no_regression" if found.kind == "fixed" else "inconclusive"
    others = found.others
    return Attribution(
        kind, others.loss, others.good, others.fix, cells=cells, calls_needed=found.calls_needed, reason=found.reason
    )
