"""The scheduled audit: is the bad release worse than the good one? Few calls when all is well, and a year of looks paid for.

**What is counted.** Both releases answer one query after another, in the sample's random order. On pass/fail scores a query counts 1
when it breaks (passes under good, fails under bad) and does so in two fresh pairs of runs as well, -1 when it gains three times,
0 else: the *reproduced loss*. Noise seldom breaks one query three times, so it hardly counts, and only queries that differed
are run again. On other scores within [0, 1] the paired difference counts, on unbounded ones (cost, latency) its sign.

**Alarm.** A gambler stakes a part L of the wealth on harm: it is multiplied by 1 + L x. Where both releases answer alike, x is as
likely positive as negative and the wealth is a nonnegative martingale (Waudby-Smith and Ramdas 2024; several L are mixed). Each
audit of a pair of releases starts a gambler anew *and* lets the earlier ones go on with what they have: the sum over them,
R_t = (R_{t-1} + 1) E_t, has expectation t when nothing is wrong, so the chance that it ever passes c in T audits is at most T / c
(Doob's inequality; the Shiryaev-Roberts e-detector of Shin, Ramdas and Rinaldo 2024). With c = per_year / alpha a year of audits
raises an alarm about nothing with a chance of at most alpha, however often each of them looks.

**All well.** A second gambler bets against "the loss is `detect` or more"; when its wealth passes 1 / miss the audit ends: a real loss
of that size is sent away with a chance of at most `miss`, and the next audit looks again. How much of such a loss noise keeps from
being reproduced is estimated from the gains seen so far; if that is wrong it costs calls or a later alarm, never a false one. Of a log
of known size the bet is on what is left of it (sampling without replacement, Waudby-Smith and Ramdas 2024, section 5): a loss that
has not come yet would have to come in the rest, so a log that is asked through leaves little open. How many of its losses noise
happens to hide is allowed for.

**At the end of a sample** of a larger log a test of fixed size has the part `LAST` of `miss`, and the gambler what is left: the size
was known beforehand, and at it such a test excludes more than a bet that could have ended at any query. It is a score test: the
mean against the target, in standard errors that are no smaller than such a loss alone would make them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from bisect_ai.attribution.problem import Attribution, Belief, CellValue, Estimate, Floats, Ints, Outcome, Problem, Trial
from bisect_ai.attribution.stats.estimate import PairedSample, loss_sequence
from bisect_ai.attribution.stats.sequential import mean_wealth

# Parts of the wealth that are bet, in equal shares. Proofs of losses of 5 to 100 points take 1.2 to 1.4 times the pairs that
# the best single stake for each would take (tests/quality/test_stakes.py).
STAKES = np.array([0.15, 0.4, 0.7, 0.95])
AGAIN = 2  # fresh pairs of runs that must repeat what the first pair showed
ROUND = 32  # trials, the most: an audit is in no hurry, and what is under way when it ends is spent
FEWEST = 16  # queries before all can be well
# Standard errors that leave a sample of the size that is told a chance of nine in ten.
LIKELY = 1.28
# Standard deviations of the number of losses that noise hides, for which room is left. With 1.28, 10 of 60 audits of 200
# queries whose answers flip with 5 % sent a true loss of 5 points away, with 1.96 4 did (simulated).
HIDDEN = 1.96

# Of 500 audits of 200 queries, 5 % churn and 5 % noise, .35 were undecided without it, .06 with this part, .02 with a half,
# which asks a fifth more queries; of a loss of 5 points .04, .05 and .05 were sent away (simulated).
LAST = 0.3

Kind = Literal["regression", "healthy", "undecided"]


@dataclass(frozen=True)
class AuditRule:
    """What is fixed before the first call. `carried` is what `AuditFinding.carry` of the pair's last audit said."""

    # Chance of any alarm about nothing in `per_year` audits.
    alpha: float = 0.05
    per_year: int = 52
    # Score points: the loss that an audit should not miss.
    detect: float = 0.05
    # Chance of ending with "all well" at such a loss.
    miss: float = 0.1
    carried: tuple[float, ...] = ()

    @property
    def bound(self) -> float:
        """What the evidence must pass for an alarm."""
        return self.per_year / self.alpha


@dataclass(frozen=True)
class AuditFinding:
    """What an audit ends with. Scores are oriented: higher is better."""

    kind: Kind
    # Paired, first runs, score points; its interval holds at every look.
    loss: Estimate
    good: Estimate
    bad: Estimate
    # R of the module's docstring, to be compared with `bound`.
    evidence: float
    bound: float
    # Log of R for each stake: what the next audit of the same two releases starts from.
    carry: tuple[float, ...]
    queries: int
    trials: int
    # Queries of which a trial failed: the worst score, or left out where the scale has no end.
    failed: int
    # (trials, failed trials) under good and under bad.
    cells: tuple[tuple[int, int], tuple[int, int]]
    # Score points: the loss that a sample which settled nothing excludes, and the queries that would probably exclude
    # `detect`.
    excluded: float | None = None
    needed: int | None = None


class AuditSearch:
    """`ask` and `tell` until `ask` has nothing more; then `finding`. Only the good and the bad cell are run."""

    def __init__(self, problem: Problem, rule: AuditRule, *, failures_count: bool = True) -> None:
        """`failures_count` False: a query with a call that failed is left out, whatever the scale."""
        self._problem = problem
        self._rule = rule
        self._base = Base(problem)
        self._scores: dict[Trial, float] = {}
        self._out: set[Trial] = set()
        self._failures_count = failures_count
        self._spent = 0
        self._next = 0
        self._counted = 0
        # The sum of what the queries counted.
        self._lost = 0.0
        self._squares = 0.0
        self._failures: set[Trial] = set()
        self._gains = 0
        self._within_unit = True
        carried = np.array(rule.carried) if len(rule.carried) == len(STAKES) else np.full(len(STAKES), -np.inf)
        self._harm: Floats = np.logaddexp(carried, 0.0)
        self._well: Floats = np.zeros(len(STAKES))
        self._kind: Kind | None = None

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round: first what must be run again, then further queries; empty when settled or spent."""
        left = self._problem.budget - self._spent
        width = min(max(width, 2), ROUND, left)
        if self._kind is not None or width < 2:
            return []
        trials = [t for q in range(self._next, self._base.asked) for t in self._again(q)][: width - width % 2]
        trials += self._base.ask((width - len(trials)) // 2)
        self._spent += len(trials)
        self._out.update(trials)
        return trials

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        for o in outcomes:
            self._out.discard(o.trial)
            score = self._score(o)
            if math.isnan(score) or o.status == "error":
                self._failures.add(o.trial)
            self._scores[o.trial] = score
            self._within_unit &= not (score < 0 or score > 1)
            if o.trial.repeat == 0:
                self._base.hear(o.trial, score)
            else:
                self._base.note(score)
        self._count()

    def _score(self, outcome: Outcome) -> float:
        """A call that failed is the worst score where that is known; what is censored, and a failure on an open scale, is NaN."""
        if outcome.status == "error" and self._failures_count:
            declared = self._problem.bounds
            return declared[0] if declared is not None else 0.0 if self._within_unit else math.nan
        return math.nan if outcome.score is None or outcome.status != "ok" else float(outcome.score)

    def belief(self) -> Belief:
        """What the audit believes now."""
        return Belief("audit", loss_sequence(self._base.sample()))

    def result(self) -> Attribution:
        """The finding as an attribution that names nobody."""
        return audit_attribution(self.finding(), self._problem, self._rule)

    def finding(self) -> AuditFinding:
        """What the evidence so far says."""
        sample = self._base.sample()
        return AuditFinding(
            self._kind or "undecided",
            loss_sequence(sample),
            sample.estimate(sample.good, "good release"),
            sample.estimate(sample.bad, "bad release"),
            evidence=self._evidence,
            bound=self._rule.bound,
            carry=tuple(float(x) for x in self._harm),
            queries=self._counted,
            trials=self._spent,
            failed=len({trial.query for trial in self._failures}),
            cells=(self._runs(0), self._runs(self._problem.full)),
            **self._what_more(),
        )

    def _what_more(self) -> dict[str, Any]:
        """Of an undecided sample: what it excludes, and how many queries would do if all is well."""
        is_told = self._kind is None and self._is_sample and self._within_unit and self._counted >= FEWEST
        if not is_told:
            return {}
        n, (target, deviation) = self._counted, self._target_and_deviation()
        z = NormalDist().inv_cdf(1 - self._rule.miss * LAST)
        excluded = (self._lost + z * deviation * math.sqrt(n)) / n * self._rule.detect / target
        needed = math.ceil(((z + LIKELY) * deviation / target) ** 2)
        return {"excluded": excluded, "needed": needed if needed > n else None}

    def _runs(self, cell: int) -> tuple[int, int]:
        return sum(t.cell == cell for t in self._scores), sum(t.cell == cell for t in self._failures)

    # -- one query ---------------------------------------------------------------------------------------------------
    def _again(self, query: int) -> list[Trial]:
        """The trials that tell whether what the query's first pair showed comes back; none when that is known."""
        found = self._differences(query)
        if len(found) in (0, AGAIN + 1) or not self._base.binary or self._is_over(found):
            return []
        trials = [Trial(query, cell, len(found)) for cell in (0, self._problem.full)]
        return [t for t in trials if t not in self._out and t not in self._scores]

    def _differences(self, query: int) -> list[float]:
        """Good less bad for every pair of runs of a query that is complete, in order; NaN where a trial failed."""
        found: list[float] = []
        for repeat in range(AGAIN + 1):
            pair = [self._scores.get(Trial(query, cell, repeat)) for cell in (0, self._problem.full)]
            if pair[0] is None or pair[1] is None:
                break
            found.append(pair[0] - pair[1])
        return found

    @staticmethod
    def _is_over(found: list[float]) -> bool:
        """Whether further pairs cannot change what the query counts."""
        last = found[-1]
        return math.isnan(last) or last == 0 or (last > 0) != (found[0] > 0)

    def _count(self) -> None:
        """Takes in the queries that are complete, in the order of the sample, and looks after each."""
        while self._next < self._base.heard and self._kind is None:
            found = self._differences(self._next)
            if self._base.binary and len(found) <= AGAIN and not self._is_over(found):
                return
            self._next += 1
            if not any(math.isnan(d) for d in found):
                self._take(self._worth(found), found[0])

    def _worth(self, found: list[float]) -> float:
        if self._base.binary:
            return float(np.sign(found[0])) if len(found) > AGAIN and not self._is_over(found) else 0.0
        return found[0] if self._within_unit else float(np.sign(found[0]))

    def _take(self, worth: float, first: float) -> None:
        target = self._target_of_the_rest()
        self._counted += 1
        self._lost += worth
        self._squares += worth**2
        self._gains += first < 0
        self._harm = self._harm + np.log1p(STAKES * worth)
        if target > 1:  # more than all of the rest would have to be lost
            self._well = np.full(len(STAKES), np.inf)
        elif target > 0:
            self._well = self._well + np.log1p(-STAKES * (worth - target))
        if self._evidence >= self._rule.bound:
            self._kind = "regression"
        elif self._counted >= FEWEST and self._is_well():
            self._kind = "healthy"

    def _target(self) -> float:
        """The part of a loss of `detect` that would be reproduced, by the noise that the gains so far show."""
        if not self._base.binary:
            return self._rule.detect
        share = min((self._gains + 1) / (self._counted + 20), 0.2)  # a prior of one gain in twenty
        noise = (1 - math.sqrt(1 - 4 * share)) / 2
        return self._rule.detect * (1 - noise) ** (2 + 2 * AGAIN) / (1 - 2 * noise)

    def _target_of_the_rest(self) -> float:
        """The mean of what is left of the log, were its loss `detect`; of an endless one the target itself."""
        target, population = self._target(), self._problem.population
        if population is None or self._counted >= population:
            return target
        seen = min(target / self._rule.detect, 1.0)
        hidden = HIDDEN * math.sqrt(population * self._rule.detect * seen * (1 - seen))
        return (max(population * target - hidden, 0.0) - self._lost) / (population - self._counted)

    def _is_well(self) -> bool:
        if not self._base.binary and not self._within_unit:
            loss = loss_sequence(self._base.sample())
            return loss.interval is not None and loss.interval[1] < self._rule.detect
        if not self._is_sample:
            return mean_wealth(self._well) >= 1 / self._rule.miss
        return mean_wealth(self._well) >= 1 / (self._rule.miss * (1 - LAST)) or self._is_well_at_the_end()

    @property
    def _is_sample(self) -> bool:
        """Whether the log has more queries than are asked."""
        return self._problem.population is None or self._problem.population > self._problem.queries

    def _is_well_at_the_end(self) -> bool:
        """Whether the whole sample excludes a loss of `detect`, by a score test."""
        if self._next < self._problem.queries:
            return False
        n, (target, deviation) = self._counted, self._target_and_deviation()
        z = NormalDist().inv_cdf(1 - self._rule.miss * LAST)
        return self._lost / n + z * deviation / math.sqrt(n) <= target

    def _target_and_deviation(self) -> tuple[float, float]:
        """The target, and the standard deviation of what a query counts."""
        target = self._target()
        return target, math.sqrt(max(self._squares / self._counted, target) - target**2)

    @property
    def _evidence(self) -> float:
        return mean_wealth(self._harm)


def audit_attribution(found: AuditFinding, problem: Problem, rule: AuditRule) -> Attribution:
    """The audit's finding as an attribution that names nobody: no_regression when all is well, else inconclusive."""
    reasons = {
        "healthy": f"the evidence against a loss of {rule.detect:g} or more passed its bound",
        "regression": "the evidence of harm passed its bound; which change did it is another question",
        "undecided": f"neither harm nor its absence was shown{_what_would(found, rule)}; the next audit of the same releases goes on "
        "from here",
    }
    cells = tuple(
        CellValue(cell, value, runs, errors, "run")
        for (cell, value), (runs, errors) in zip(((0, found.good), (problem.full, found.bad)), found.cells, strict=True)
    )
    kind: Literal["no_regression", "inconclusive"] = "no_regression" if found.kind == "healthy" else "inconclusive"
    return Attribution(kind, found.loss, found.good, found.bad, cells=cells, reason=reasons[found.kind])


def _what_would(found: AuditFinding, rule: AuditRule) -> str:
    if found.excluded is None:
        return ""
    more = (
        ""
        if found.needed is None
        else f", and about {float(f'{found.needed:.2g}'):,.0f} would probably exclude {rule.detect:g}"
    )
    settings = "log.sample and budget, or another audit.detect"
    return f": {found.queries:,} sampled queries exclude a loss of {found.excluded:.2g}{more} ({settings})"


class Base:
    """The queries run under good and under bad: a growing prefix of the sample, which comes in random order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.asked = 0
        self.heard = 0
        self._scores = np.full((2, problem.queries), np.nan)
        self._answers = bytearray(problem.queries)
        self._values: set[float] = set()
        self._known: PairedSample | None = None

    def ask(self, queries: int) -> list[Trial]:
        """Both corner trials of the next `queries` queries."""
        stop = min(self.asked + max(queries, 0), self._problem.queries)
        corners = (0, self._problem.full)
        trials = [Trial(q, c) for q in range(self.asked, stop) for c in corners]
        self.asked = stop
        return trials

    def hear(self, trial: Trial, score: float) -> None:
        """A corner trial's score, NaN when missing."""
        self._known = None
        self._scores[int(trial.cell != 0), trial.query] = score
        self._answers[trial.query] += 1
        self.note(score)
        while self.heard < self.asked and self._answers[self.heard] == 2:
            self.heard += 1

    def note(self, score: float) -> None:
        """A score that was seen."""
        if len(self._values) < 3 and not math.isnan(score):
            self._known = None
            self._values.add(score)

    @property
    def binary(self) -> bool:
        """Whether all scores so far take two values at most."""
        return len(self._values) <= 2

    def complete(self, start: int) -> tuple[Ints, Floats, Floats]:
        """Queries from `start` on with both scores, and these scores."""
        good, bad = self._scores[:, start : self.heard]
        both = np.flatnonzero(~np.isnan(good) & ~np.isnan(bad))
        return both + start, good[both], bad[both]

    def sample(self) -> PairedSample:
        """The complete pairs so far."""
        self._known = self._known or self._sample()
        return self._known

    def _sample(self) -> PairedSample:
        queries, good, bad = self.complete(0)
        p = self._problem
        weights = np.ones(len(queries)) if p.weights is None else p.weights[queries]
        clusters = queries if p.clusters is None else p.clusters[queries]
        population = math.inf if p.population is None else float(p.population)
        return PairedSample(queries, good, bad, weights, clusters, population, self.binary)
