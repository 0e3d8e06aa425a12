"""The adaptive search: axes named by proof of a *net* cost, in few calls.

Every change of a prompt or a model shuffles which queries fail: it breaks some, mends others, and may cost nothing. So nothing is
inferred from queries that were chosen because they broke. Queries come in the random order of the problem; each runs in a set of
cells that was fixed before it, and what is tested is a mean of paired differences over all of them. F is the bad release, 0 the
good one, F-a the bad one with axis a reverted.

**Explored.** Good and bad run alone until some queries broke; on these every axis is reverted and introduced
(`search/broken_queries`). They were chosen for having failed, so no test and no mean hears them: they say which question comes first,
and of which axes.
**Reverted.** F, 0 and F-a for every axis a still in the race: x = y(F-a) - y(F). Frozen answers and the other axes' churn cancel
within the pair. The null is "reverting a brings nothing on average"; the tests are group-sequential (`stats/group_sequential`).
Axes far behind the leader, or that hardly bring anything, pause: that costs power, not truth.
**Introduced.** When the loss is plain and reverting single axes explains less than half of it, either of two axes may be enough:
x = y(0) - y({a}).
**Further.** When the named set B, reverted, leaves a part of the loss that no single axis explains: x = y(F-B-a) - y(F-B).
**Two axes.** Each query runs in all four cells; x is the mean of an axis's two differences (its Shapley value).
**The table.** When the log is so short that every query can run in every cell, the rest of the table is bought once the race ends
undecided, and the factorial decides (`factorial_verdict`) with the part of alpha that was kept for it.

Alpha is divided over these families in the order they are asked (`ErrorBudget`), within a family by Holm's steps. What is tested
next, who pauses and when to stop are decided by estimates; none of that enters a claim. A name needs its test, an estimated cost of
at least the tolerance, and a loss estimated above the tolerance. How the named axes act together, and what to roll back, are read off
measured cells of the same queries (`conclude_search`), never off a model.

Filtration: the outcomes of queries 1..i in order. Cells, families and pauses of query i are fixed by it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bisect_ai.attribution.error_budget import ErrorBudget
from bisect_ai.attribution.problem import Attribution, Belief, Estimate, Floats, Ints, Outcome, Problem, Trial
from bisect_ai.attribution.search.back_sets import BATCH, ENOUGH, MEASURED, OPEN, SURELY, BackSets
from bisect_ai.attribution.search.broken_queries import BEHIND, BROKEN, HALF, SWITCH, Advice, combined
from bisect_ai.attribution.search.conclude import Evidence, conclude_search
from bisect_ai.attribution.search.query_rows import NOTHING, Mean, QueryRows
from bisect_ai.attribution.stats.contrasts import bits
from bisect_ai.attribution.stats.group_sequential import LossBelow, SequentialTests

START = 16  # queries before any axis pauses, alpha is weighted, or the race changes its question
SHARPNESS = 1.5  # log weight of an axis for each standard error that it costs on the first queries
LEAST_WEIGHT = 0.04
DEAD = 2.0  # log likelihood ratio of "brings nothing" against "brings HALF of the loss": pauses
NOTHING_ELSE = 3.0  # log likelihood ratio at which a further cause worth OPEN of the loss counts as unlikely
NOBODY_ELSE = 2.0  # the same where no other axis looks as if it were one
LEFT_OVER = (
    1.0  # standard errors of what named axes leave from which on the other axes are tested (0 to 1 alike, seeds 30000 to 30039)
)
OPEN_IN_TABLE = 0.2  # the same where the whole table can be had
WATCH = 0.5  # standard errors of loss below which good and bad run alone, when no axis stands out either
CLEAR = 2.5  # standard errors from which on the loss, or what is left of it, is taken as there: the good release rests
SELDOM = 0.4  # of the queries run under good too, once the loss is clear: an early estimate that stopped by itself is too high
# queries on which every axis is reverted at the end, the fewest and the most: at 36 a rate that it moves by 20 points is mostly seen
ACQUAINTED = 12, 36
AT_LEISURE = 0.5  # of the calls made, the part that this may take beyond the fewest
SEEN = 1.3  # standard errors from which on a proved cost is a cause of a loss, at the end of the budget
PLENTY = 300  # queries under good and bad after which that ends the search too
KEPT = 100  # calls kept back for measuring a rollback, a twelfth of the budget at most (40 and 60 worse, seeds 30000 to 30039)
THIN = 6  # axes from which on only the most suspect half runs on each query
MOST_IN_TABLE = 6  # axes; more make more than 64 cells

SHORT_TABLE = 2500  # calls that the whole table takes, the most for it to be where a run is expected to end
QUESTIONS = "reverted", "introduced", "further"
IN_TURN = {"long": (0.6, 0.3, 0.1), "fits": (0.5, 0.25, 0.1), "short": (0.15, 0.05, 0.05)}
TABLE = {"long": 0.0, "fits": 0.15, "short": 0.75}
TABLE_OF_TWO = {"long": 0.0, "fits": 0.15, "short": 0.6}
"""How alpha is divided: the parts of the questions in the order they are asked, and of the whole table, by whether it can be had."""


class NetSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    looks_around = True
    """Whether it looks at broken queries first, and at the end reverts on a few queries the axes that no test looked at."""

    def __init__(self, problem: Problem) -> None:
        self._problem = p = problem
        self._rng = np.random.default_rng([p.seed, 3])
        self._rows = QueryRows(p)
        self._axes = range(p.k)
        cells = (1 << p.k) if p.k <= MOST_IN_TABLE else math.inf
        self._fits = p.k > 1 and not any(p.needs) and p.queries * cells <= p.budget
        self._is_short = self._fits and p.queries * cells <= SHORT_TABLE
        size = "short" if self._is_short else "fits" if self._fits else "long"
        table = (TABLE_OF_TWO if p.k <= 2 else TABLE)[size]
        parts = {"table": table} if table else {}
        if p.k <= 2:
            self.error_budget = ErrorBudget(p.alpha, {"net": 1 - table, **parts})
        else:
            self.error_budget = ErrorBudget(p.alpha, parts, IN_TURN[size])
        horizon = min(p.queries, max(p.budget // 3, 12))
        families = ("net",) if p.k <= 2 else QUESTIONS
        self._tests = {name: SequentialTests(p.k, self.error_budget.of(name), horizon=horizon) for name in families}
        self._below = LossBelow(p.alpha, horizon=min(p.queries, max(p.budget // 2, 12)))
        self._planned: dict[tuple[str, int], list[int]] = {}
        self._base: dict[int, int] = {}
        """Axis to the set of axes that are reverted with it and before it in "further"."""
        self._weighted = False
        self._introduced = False
        self._pattern: tuple[set[int], list[tuple[str, int]], int] | None = None
        """The cells of the last query that was begun, the tests that it is for, and the calls kept back."""
        explores = self.looks_around and p.k > 2 and not self._is_short and not any(p.needs)
        self._advice = Advice(self._rows, explores=explores)
        self._sets = BackSets(self._rows, partial(self._single, "reverted"))
        self._acquainted: int | None = None
        """Queries on which every axis is reverted at the end."""
        self._strangers = set(self._axes)
        """Axes of which that was not asked for yet."""
        self._ended: str | None = None
        self.named_at: int | None = None
        """Trials asked for when the first axis was named."""

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round, at most `width` trials; empty when settled or spent."""
        rows = self._rows
        if self._ended is None and not rows.queued:
            self._hear_tests()
            self._pattern = None
            if self._plan() and self._pattern is not None:  # until more is heard, the next queries run as this one does
                cells, tests, kept = self._pattern
                while rows.queued + len(cells) <= width and self._run(cells, tests, kept=kept):
                    pass
        return rows.take(width)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        self._rows.hear(outcomes)

    def set_tolerance(self, tolerance: float) -> None:
        """The tolerance, where it is known only once the good release has answered."""
        self._problem = self._rows.problem = replace(self._problem, tolerance=tolerance)

    @property
    def chosen(self) -> frozenset[tuple[int, int]]:
        """(query, cell) of the trials that were made because the query broke."""
        return self._rows.chosen_trials

    def belief(self) -> Belief:
        """What the search believes now."""
        p, rows = self._problem, self._rows
        stage = "confirm" if self.named() else "localise" if rows.asked >= START else "reproduce"
        harm = {name: max(t.progress(a) for t in self._tests.values()) for a, name in enumerate(p.axes)}
        costs = {name: _running(self._reverting(a)) for a, name in enumerate(p.axes)}
        return Belief(stage, _running(rows.mean(0, p.full), "loss"), harm, costs)

    def result(self) -> Attribution:
        """The attribution as of now."""
        self._hear_tests()
        return conclude_search(self._evidence())

    # -- what is proved ----------------------------------------------------------------------------------------------
    def named(self) -> frozenset[int]:
        """Axes proved to have a net cost, in any family."""
        proved = frozenset[int]().union(*(tests.named() for tests in self._tests.values()))
        return frozenset(a for a in proved if self._cost(a) >= self._problem.tolerance)

    def _cost(self, axis: int) -> float:
        """The largest estimated net cost of an axis over the contexts in which it was tested."""
        return max((m.value for name in self._tests if (m := self._mean(name, axis)).n), default=0.0)

    def _hear_tests(self, *, over: bool = False) -> None:
        for name, tests in self._tests.items():
            for axis in self._axes:
                if not over and not tests.is_due(axis, len(self._planned.get((name, axis), ()))):
                    continue
                queries, x = self._differences(name, axis)
                if len(x):
                    tests.hear(axis, x, self._rows.clusters(queries))
                    if over:
                        tests.end(axis, x, self._rows.clusters(queries))
        loss = self._loss
        if loss.n >= START:
            self._below.hear(loss.n, (self._problem.tolerance - loss.value) / loss.error)
        if self.named_at is None and self.named():
            self.named_at = self._rows.spent

    def _differences(self, family: str, axis: int) -> tuple[Ints, Floats]:
        """The queries that were run for a family's test of an axis, in order, and their differences."""
        planned = self._planned.get((family, axis))
        if not planned:
            return np.zeros(0, int), np.zeros(0)
        pairs = self._pairs(family, axis)
        found = [self._rows.differences(*pair) for pair in pairs]
        queries = np.intersect1d(np.array(planned), found[0][0], assume_unique=True)
        for other, _ in found[1:]:
            queries = np.intersect1d(queries, other, assume_unique=True)
        columns = [x[np.searchsorted(q, queries)] for q, x in found]
        return queries, np.asarray(np.mean(columns, axis=0)) if len(queries) else np.zeros(0)

    def _pairs(self, family: str, axis: int) -> list[tuple[int, int]]:
        """The (good, bad) cells whose difference the family's test of an axis is about."""
        p, one = self._problem, 1 << axis
        if family == "introduced":
            return [p.introduced_pair(axis)]
        if family == "further":
            high, low = p.reverted_pair(axis)
            back = self._base.get(axis, 0)
            return [(high & ~back, low & ~back)]
        if family == "net" and p.k == 2:
            both = [(p.full & ~one, p.full), (0, one)]
            return [pair for pair in both if not self._rows.infeasible.intersection(pair)] or both
        return [p.reverted_pair(axis)]

    def _mean(self, family: str, axis: int) -> Mean:
        return self._rows.mean_of(*self._differences(family, axis))

    def _single(self, family: str, axis: int) -> Mean:
        """All that is known of a family's difference, with the queries that no test hears."""
        known = {"reverted": self._problem.reverted_pair, "introduced": self._problem.introduced_pair}
        if family not in known:
            return self._mean(family, axis)
        return combined(self._rows.mean(*known[family](axis)), self._advice.of(family, axis))

    def _reverting(self, axis: int) -> Mean:
        """What reverting the axis alone brings back."""
        return self._rows.mean(*self._problem.reverted_pair(axis))

    # -- what to run -------------------------------------------------------------------------------------------------
    def _plan(self) -> bool:
        """Queue the next trials; False when there are none now. Ends the search when all is said or spent."""
        if {0, self._problem.full} & self._rows.infeasible:
            self._ended = "corner"
            return False
        if self._problem.k <= 2:
            return self._plan_small()
        named = self.named()
        if named and self._loss.value >= self._problem.tolerance:
            return self._plan_named(named)
        return self._plan_race()

    def _shows_loss(self) -> bool:
        """Whether a loss worth the tolerance is seen, so that the search may end: it is looked at often, so beyond CLEAR."""
        return self._is_loss(CLEAR) or (self._loss.n >= PLENTY and self._is_loss(SEEN))

    def _is_loss(self, errors: float) -> bool:
        return self._loss.value >= self._problem.tolerance and self._loss.z > errors

    @property
    def _loss(self) -> Mean:
        return self._rows.mean(0, self._problem.full)

    def _run(self, cells: Iterable[int], tests: Iterable[tuple[str, int]] = (), *, kept: int = 0) -> bool:
        """Queue one more query; at the end of the budget or log: the last looks, then the table or the end."""
        cells, tests, rows = set(cells), list(tests), self._rows
        self._pattern = cells, tests, kept
        if rows.left - kept >= len(cells) and not rows.exhausted:
            query = rows.asked
            if rows.begin(cells):
                for family, axis in tests:
                    self._tests[family].grant(self.error_budget.ask(family))
                    self._planned.setdefault((family, axis), []).append(query)
                return True
        return False

    def _out_of_queries(self) -> bool:
        """What is left to do when no fresh query can be run: wait for what is out, take the last looks, buy the table or end."""
        if self._rows.out or self._rows.queued:
            return False
        if self.named() and not self._is_loss(SEEN) and self._run({0, self._problem.full}):
            return True
        self._hear_tests(over=True)
        measures = self.named() and self._problem.k > 2 and self._loss.value >= self._problem.tolerance
        return (bool(measures) and self._sets.measure(self.named())) or self._buy_table()

    def _buy_table(self) -> bool:
        """Queue the rest of the table, when every query can run in every cell."""
        rows, full = self._rows, self._problem.full
        if self._fits and not self._complete():
            while not rows.exhausted and rows.begin({0, full}):
                pass
            asked = [rows.fill(range(self._problem.queries), c) for c in range(full + 1)]
            if any(asked) or rows.queued:
                return True
        self._ended = self._ended or ("exhausted" if rows.exhausted else "spent")
        return False

    def _complete(self) -> bool:
        cells = [c for c in range(self._problem.full + 1) if c not in self._rows.infeasible]
        return len(self._rows.returned(*cells)) == self._problem.queries

    # -- two axes ----------------------------------------------------------------------------------------------------
    def _plan_small(self) -> bool:
        """One axis: good and bad. Two: all four cells of every query, until both axes are settled."""
        cells = range(self._problem.full + 1)
        named, loss = self.named(), self._loss
        if self._below.shown:
            self._ended = "no_regression"
            return False
        if named and self._shows_loss() and loss.n >= START and self._settled_small(named):
            self._ended = "cause"
            return False
        if self._is_futile():
            self._ended = "futile"
            return False
        return self._run(cells, [("net", a) for a in self._axes]) or self._out_of_queries()

    def _settled_small(self, named: frozenset[int]) -> bool:
        """Whether the other axis is unlikely to cost a part of the loss that matters, and the rollback is clear."""
        others = [a for a in self._axes if a not in named]
        size = OPEN_IN_TABLE * self._loss.value
        open_axes = [a for a in others if self._mean("net", a).favours_nothing(size) < NOBODY_ELSE]
        return not open_axes and self._sets.is_settled(named)

    # -- the race ----------------------------------------------------------------------------------------------------
    def _plan_race(self) -> bool:
        full, loss = self._problem.full, self._loss
        if self._below.shown:
            self._ended = "no_regression"
            return False
        if self._is_futile():
            self._ended = "futile"
            return False
        if self._advice.explore(lambda: self._run({0, full}, kept=self._kept)):
            self._pattern = None
            return True
        live = [] if self._looks_void() else self._live("reverted")
        if (
            not self._rows.explored and loss.n < START and not self._rows.exhausted
        ):  # no test hears these: alpha is divided by them
            return self._run({0, full} | self._cells("reverted", live), kept=self._kept) or self._out_of_queries()
        if not self._weighted:
            self._weigh()
        if self._introducing:
            return self._plan_introduced()
        good = loss.z < CLEAR or loss.n < SELDOM * self._rows.asked or not live
        kept = min(BATCH, self._kept)  # the rollback of an axis that is reverted here runs in any case
        cells = {full} | self._cells("reverted", live) | ({0} if good else set())
        return self._run(cells, [("reverted", a) for a in live], kept=kept) or self._out_of_queries()

    def _cells(self, family: str, axes: Iterable[int]) -> set[int]:
        """The cells of a family's differences."""
        return {cell for a in axes for pair in self._pairs(family, a) for cell in pair}

    def _looks_void(self) -> bool:
        """Whether good and bad hardly differ and no axis stands out: then only these two run until a loss shows."""
        loss = self._loss
        best = max((self._single("reverted", a).z for a in self._axes), default=0.0)
        return loss.n >= 2 * START and loss.z < WATCH and best < 1.5

    def _weigh(self) -> None:
        """Divide the alpha of "reverted" over the axes by what the first queries show, which no test hears again."""
        self._weighted = True
        if not self._is_short and self._loss.n:
            self._tests["reverted"].weights = self._weights([self._single("reverted", a) for a in self._axes])

    def _weights(self, means: Sequence[Mean]) -> Floats:
        """A weight for each axis: most for those that cost most."""
        z = np.array([m.z for m in means])
        raw = np.exp(SHARPNESS * np.clip(z - z.max(), -6, 0))
        return np.asarray(np.round(LEAST_WEIGHT + (1 - LEAST_WEIGHT * len(raw)) * raw / raw.sum(), 3))

    @property
    def _kept(self) -> int:
        return min(KEPT, self._problem.budget // 12)

    def _plan_introduced(self) -> bool:
        live, kept = self._live("introduced"), self._kept
        full, loss = self._problem.full, self._loss
        also = {full} if abs(loss.z) < 3 else set()
        live = live or [max(self._axes, key=lambda a: self._mean("introduced", a).value)]
        cells = {0, *also} | self._cells("introduced", live)
        ones = [self._single("introduced", a) for a in self._axes]
        if not self._rows.explored and max(m.n for m in ones) < START and not self._rows.exhausted:
            every = self._cells("introduced", self._axes)
            return self._run({0, *also} | every, kept=kept) or self._out_of_queries()
        if not self._introduced:
            self._introduced = True
            self._tests["introduced"].weights = self._weights(ones)
        return self._run(cells, [("introduced", a) for a in live], kept=kept) or self._out_of_queries()

    def _live(self, family: str) -> list[int]:
        """The axes that a further query is run for, worked out anew before every query."""
        can = [a for a in self._axes if not any(c in self._rows.infeasible for pair in self._pairs(family, a) for c in pair)]
        means = {a: self._single(family, a) for a in can}
        tried = {a: m for a, m in means.items() if m.n >= START // 2}
        lead = max(tried.values(), key=lambda m: m.value, default=NOTHING)
        proved = self._tests[family].named()
        live = [a for a in can if a not in proved and not self._paused(means[a], lead)]
        if len(self._axes) >= THIN and len(live) > 3 and self._loss.n >= 8:
            draws = {a: self._rng.normal(means[a].value, min(means[a].error, 1.0)) for a in live}
            live = sorted(sorted(live, key=lambda a: -draws[a])[: max(2, (len(live) + 1) // 2)])
        return live

    def _paused(self, mean: Mean, lead: Mean) -> bool:
        if mean.n < (BROKEN // 2 if self._rows.explored else START):
            return False
        if mean is not lead and lead.value - mean.value > BEHIND * mean.error and mean.value < 0.5 * lead.value:
            return True
        loss = self._loss  # one standard error less: it stopped being measured because it was high
        return mean.favours_nothing(HALF * max(loss.value - loss.error, 2 * self._problem.tolerance)) > DEAD

    @property
    def _introducing(self) -> bool:
        """Whether "introduced" is the question to ask now: the loss is there, and it promises more than "reverted"."""
        loss, reverted = self._loss, self._lead("reverted")
        introduced = self._lead("introduced")
        if self._rows.explored and not any(self._planned.get(("introduced", a)) for a in self._axes):
            if self._advice.favours_introducing():
                return True
            if not reverted.n or (introduced.value <= SWITCH * reverted.value and reverted.n < PLENTY):
                return False
            return loss.z > 2 and reverted.n >= START and reverted.value < HALF * (loss.value - loss.error)
        if introduced.n >= START:
            return introduced.value > SWITCH * reverted.value
        if introduced.n:
            return True
        return loss.z > 2 and reverted.n >= START and reverted.value < HALF * (loss.value - loss.error)

    def _lead(self, family: str) -> Mean:
        return max((m for a in self._axes if (m := self._single(family, a)).n), key=lambda m: m.value, default=NOTHING)

    # -- once axes are named -------------------------------------------------------------------------------------------
    def _plan_named(self, named: frozenset[int]) -> bool:
        """Further causes while they are likely, and the rollback until it is measured."""
        if self._rows.filling:
            return True  # what is decided next rests on it
        full, loss = self._problem.full, self._loss
        short = self._sets.measured(self._sets.smallest(named)) < SURELY
        if short and self._rows.left <= self._kept and self._sets.measure(named):
            return True
        most = loss.value if loss.z >= CLEAR else loss.value + loss.error  # else what is left is asked of a loss too small
        size = (OPEN_IN_TABLE if self._is_short else OPEN) * max(most, self._problem.tolerance)
        rest = self._rest(named, size)
        likes = any(self._may_do("reverted", a, size) for a in self._axes if a not in named)
        nothing_else = rest.n >= START // 2 and rest.favours_nothing(size) > (NOTHING_ELSE if likes else NOBODY_ELSE)
        whole = self._sets.left(named)
        if len(named) > 1 and whole.n < MEASURED and not nothing_else and self._sets.deepen(named):
            return True
        tests = self._partners(named)
        if self.looks_around and sum(self._look_again(*test) for test in tests):
            return True
        if tests and not nothing_else:
            return (
                self._run({c for t in tests for pair in self._pairs(*t) for c in pair}, tests, kept=self._kept)
                or self._out_of_queries()
            )
        if not nothing_else and not self._is_short and not any(self._problem.needs) and self._advice.seek(named):
            return True
        sought = named in self._advice.sought
        unclear = whole.n < START or (whole.z < CLEAR and whole.n < 2 * SURELY and not sought)
        if not nothing_else and unclear and self._sets.deepen(named):
            return True
        likely = [] if nothing_else else self._likely_tests(named, size)
        more = likely if likely or nothing_else else self._other_tests(named, size)
        waits = more is None
        tests += [test for test in more or () if test not in tests]
        if not tests and not waits and (nothing_else or whole.n >= MEASURED) and self._sets.is_settled(named):
            if self._shows_loss():
                return self._close(nothing_else)
            return self._run({0, full}) or self._out_of_queries()
        if not tests and any(
            self._sets.left(b).n < MEASURED and self._sets.gauge(b, MEASURED) for b in self._sets.unclear(named)
        ):
            return True
        cells = {c for test in tests for pair in self._pairs(*test) for c in pair}
        backs = {self._sets.cell(b) for b in self._sets.unclear(named)}
        if any(family == "further" for family, _ in tests) and (whole.n < SURELY or whole.z < CLEAR):
            cells |= {0, self._sets.cell(named)}
        if not likely and (not tests or not (nothing_else or whole.z > CLEAR) or backs):
            cells |= {0, full, self._sets.cell(named), *backs}
        if not tests and (self._sets.measure(named) or self._sets.deepen(named)):
            return True
        return self._run(cells, tests, kept=self._kept if tests else 0) or self._out_of_queries()

    def _other_tests(self, named: frozenset[int], size: float) -> list[tuple[str, int]] | None:
        """Tests of the axes that are not named; None while what the named ones leave is cheaper to know."""
        whole, waits = self._sets.left(named), False
        if self._introducing:
            tests = [("introduced", a) for a in self._live("introduced") if a not in named]
        else:
            others = self._live_beside(named, "reverted", size)
            waits = bool(others) and whole.n >= START and whole.z < LEFT_OVER and not self._rows.exhausted
            tests = [("reverted", a) for a in others if not waits or self._single("reverted", a).favours_nothing(size) < 0]
        if not tests and whole.n >= START and whole.z > LEFT_OVER:
            tests = [("further", a) for a in self._further(named, size)]
        return None if waits and not tests else tests

    def _likely_tests(self, named: frozenset[int], size: float) -> list[tuple[str, int]]:
        """Tests of the axes that brought back what the named ones leave, on the queries where that was looked at."""
        tests = []
        for a in self._advice.next_axes(named):
            if ("further", a) not in self._planned:
                self._base[a] = self._problem.reverting(named)
            spent = self._single("reverted", a).favours_nothing(size) > NOTHING_ELSE
            tests.append(("further" if spent else "reverted", a))
        return tests

    def _rest(self, named: frozenset[int], size: float) -> Mean:
        """What is left of the loss when named axes are reverted: of the sets that ran, the one that leaves least."""
        sets = [b for n in range(1, len(named) + 1) for b in itertools.combinations(sorted(named), n)]
        left = [self._sets.left(b) for b in sets] or [NOTHING]
        return max(left, key=lambda m: m.favours_nothing(size) if m.n else -math.inf)

    def _close(self, nothing_else: bool) -> bool:
        """The end, or the table when something is left open and it can be had."""
        if not nothing_else and self._is_short:
            return self._buy_table()
        if self.looks_around and sum(self._acquaint(a) for a in sorted(self._strangers)):
            return True
        self._ended = "cause"
        return False

    def _acquaint(self, axis: int) -> bool:
        """Queue an axis that no test looked at on a few queries, which say what it breaks and mends and what else it moves.

        These are the explored ones, all of them, where that is cheaper than as many that were not.
        """
        rows, (high, low) = self._rows, self._problem.reverted_pair(axis)
        self._strangers.discard(axis)
        if self._acquainted is None:
            wanted = round(AT_LEISURE * rows.spent / self._problem.k)
            self._acquainted = min(max(wanted, ACQUAINTED[0]), ACQUAINTED[1])
        missing = self._acquainted - len(rows.ran(high, low))
        done = set(rows.returned(high).tolist())
        if missing <= 0:
            return False
        if rows.explored - len(rows.chosen(high)) <= missing and rows.fill(range(rows.explored), high):
            return True
        ready = [int(q) for q in rows.ran(low)[::-1] if int(q) not in done and int(q) >= rows.explored]
        return rows.fill(ready[:missing], high)

    def _live_beside(self, named: frozenset[int], family: str, size: float) -> list[int]:
        """Axes not named that may still cost `size`, by a family's differences."""
        can = [a for a in self._axes if not any(c in self._rows.infeasible for pair in self._pairs(family, a) for c in pair)]
        means = {a: self._single(family, a) for a in can if a not in named}
        return [a for a, m in means.items() if m.favours_nothing(size) < NOTHING_ELSE]

    def _partners(self, named: frozenset[int]) -> list[tuple[str, int]]:
        """Tests of axes that seem to do as much as a named one: they may act only together with it, or be enough like it."""
        found: list[tuple[str, int]] = []
        for family in ("reverted", "introduced"):
            means = [self._loss, *(self._mean(family, a) for a in self._tests[family].named() & named)]
            size = 0.8 * max(self._problem.tolerance, *(m.value - m.error for m in means))
            if len(means) > 1:
                found += [(family, a) for a in self._axes if a not in named and self._may_do(family, a, size)]
        return found

    def _may_do(self, family: str, axis: int, size: float) -> bool:
        """Whether an axis may do as much as `size`: not excluded by what is known of it."""
        known = self._rows.mean(*self._pairs(family, axis)[0])
        known = known if known.n >= ACQUAINTED[1] else self._single(family, axis)
        return known.n > 0 and known.favours_nothing(size) < (ENOUGH if len(self.named()) < 2 else 0)

    def _look_again(self, family: str, axis: int) -> bool:
        """Queue an axis that may do as much as a named one on queries that ran without it: half the price of fresh ones."""
        rows, (high, low) = self._rows, self._pairs(family, axis)[0]
        inner, outer = (high, low) if family == "reverted" else (low, high)
        if len(rows.ran(inner)) >= ACQUAINTED[1]:
            return False
        done = set(rows.returned(inner).tolist())
        ready = [int(q) for q in rows.ran(outer)[::-1] if int(q) not in done and int(q) >= rows.explored]
        return rows.fill(ready[:BATCH], inner)

    def _further(self, named: frozenset[int], size: float) -> list[int]:
        back = self._problem.reverting(named)
        for a in self._axes:
            if a not in named and ("further", a) not in self._planned:
                self._base[a] = back
        return self._live_beside(named, "further", size)

    # -- giving up -----------------------------------------------------------------------------------------------------
    def _is_futile(self) -> bool:
        """Whether the rest of the budget could hardly settle it: no axis is suspect, and the loss looks small."""
        loss, p = self._loss, self._problem
        if self._fits or loss.n < 64 or self.named() or self._rows.spent < 0.5 * p.budget:
            return False
        best = max((self._mean(n, a).z for n in self._tests for a in self._axes), default=0.0)
        if best > 1.5 or loss.z > 2:
            return False
        most = min(p.queries, loss.n + self._rows.left / 2)
        if self._rows.left >= 2 * (p.queries - self._rows.asked):
            return False  # the log ends before the budget does: then the whole of it says what is left
        error = loss.error * math.sqrt(loss.n / most)
        return loss.value + 1.3 * error - p.tolerance > -2.2 * error and loss.value + 1.5 * loss.error < 2 * error

    # -- what it ends with ---------------------------------------------------------------------------------------------
    def _evidence(self) -> Evidence:
        named = self.named()
        return Evidence(
            rows=self._rows,
            named=named,
            proved={a: [n for n, t in self._tests.items() if a in t.named()] for a in named},
            loses=self._is_loss(SEEN),
            ended=self._ended or "stopped",
            rollback=bits(self._problem.reverting(self._sets.smallest(named))) if named else (),
            table_alpha=self.error_budget.of("table"),
            pairs={(n, a): self._pairs(n, a) for n, a in self._planned},
            suspicion=tuple((a, max(t.progress(a) for t in self._tests.values())) for a in self._axes),
            suspects=tuple((self._mean(n, a), 4 if n == "net" else 2) for n, a in self._planned),
            error_budget=self.error_budget,
            suspects_more=self._suspects_more(named),
        )

    def _suspects_more(self, named: frozenset[int]) -> bool:
        """Whether an axis that is not named looks more like costing a part of the loss than like nothing; advice counts."""
        size = OPEN * max(self._loss.value, self._problem.tolerance)
        others = [[self._single(f, a) for f in ("reverted", "introduced")] for a in self._axes if a not in named]
        return any(not any(m.n for m in means) or any(m.n and m.favours_nothing(size) < 0 for m in means) for means in others)


def _running(mean: Mean, what: str = "reverted alone") -> Estimate:
    """A running mean for a live view, with an interval wide enough for many looks."""
    if mean.n < 8:
        return Estimate(None, None, mean.n, f"{what}: fewer than eight queries")
    tuning = 32 / mean.n
    half = mean.error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(
        mean.value, (mean.value - half, mean.value + half), mean.n, f"{what}, paired by query, 95 % confidence sequence"
    )
