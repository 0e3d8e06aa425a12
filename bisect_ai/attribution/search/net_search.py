"""The adaptive search: axes named by proof of a *net* cost, in few calls.

Every change of a prompt or a model shuffles which queries fail: it breaks some, mends others, and may cost nothing. So nothing is
inferred from queries that were chosen because they broke. Queries come in the random order of the problem; each runs in a set of
cells that was fixed before it, and what is tested is a mean of paired differences over all of them. F is the bad release, 0 the
good one, F-a the bad one with axis a reverted.

**Explored.** Good and bad run alone until some queries broke; on these every axis is reverted and introduced
(`search/broken_queries`). They were chosen for having failed, so no test and no mean hears them: they say which question comes first,
and of which axes.
**Reverted.** F, 0 and F-a for every axis a still in the race: x = y(F-a) - y(F). Frozen answers and the other axes' churn cancel
within the pair. The null is "reverting a brings nothing on average"; the tests are group-sequential (`stats/sequential`).
Axes far behind the leader, or that hardly bring anything, pause: that costs power, not truth.
**Introduced.** When the loss is plain and reverting single axes explains less than half of it, either of two axes may be enough:
x = y(0) - y({a}).
**Further.** When the named set B, reverted, leaves a part of the loss that no single axis explains: x = y(F-B-a) - y(F-B).
**Two axes.** Each query runs in all four cells; x is the mean of an axis's two differences (its Shapley value).
**The table.** When the log is so short that every query can run in every cell, the rest of the table is bought once the race ends
undecided, and the factorial decides (`conclude_table`) with the part of alpha that was kept for it. What it leaves open may be open
because answers vary from run to run: then every query runs in every cell again, up to three times, and has the mean of its scores.

Alpha is divided over these families in the order they are asked (`ErrorBudget`), within a family by Holm's steps. What is tested
next, who pauses and when to stop are decided by estimates; none of that enters a claim. A name needs its test, an estimated cost of
at least the tolerance, and a loss estimated above the tolerance. How the named axes act together, and what to roll back, are read off
measured cells of the same queries (`conclude_search`), never off a model.

Filtration: the outcomes of queries 1..i in order. Cells, families and pauses of query i are fixed by it. No query is begun beyond a
planned look that an axis will probably be named at (`NetTests.awaits_look`); looks are at fixed sizes, whatever was begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bisect_ai.attribution.problem import Attribution, Belief, Outcome, Problem, Trial, bits
from bisect_ai.attribution.search.back_sets import BATCH, MEASURED, MOST_UNCLEAR, SURELY
from bisect_ai.attribution.search.conclude import Evidence, conclude_search
from bisect_ai.attribution.search.net_tests import NetTest, NetTests, WholeTable
from bisect_ai.attribution.search.query_rows import Mean, QueryRows
from bisect_ai.attribution.search.standing import (
    CLEAR,
    NOBODY_ELSE,
    NOTHING_ELSE,
    SEEN,
    START,
    Standing,
    running_estimate,
)
from bisect_ai.attribution.search.strangers import Strangers
from bisect_ai.attribution.stats.sequential import ErrorBudget, LossBelow

SELDOM = 0.4  # of the queries run under good too, once the loss is clear: an early estimate that stopped by itself is too high
ELSEWHERE = 300  # calls that may be made elsewhere on axes that are foreseen: of these the whole table must not run short
AMPLE = 4  # times as many calls are in the budget as were made, at least, where more is asked before it is known to be needed
KEPT = 100  # calls kept back for measuring a rollback, a twelfth of the budget at most (40 and 60 worse, seeds 30000 to 30039)


class NetSearch:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    # Whether it looks at broken queries first, and at the end reverts on a few queries the axes that no test looked at.
    looks_around = True

    def __init__(self, problem: Problem) -> None:
        self._problem = p = problem
        self._rows = QueryRows(p)
        self._axes = range(p.k)
        self._tests = NetTests(self._rows)
        self._standing = Standing(self._rows, self._tests, looks_around=self.looks_around)
        self._table = WholeTable(self._rows, self._tests)
        self._sets, self._advice = self._standing.sets, self._standing.advice
        self._below = LossBelow(p.alpha, horizon=min(p.queries, max(p.budget // 2, 12)))
        self._weighted = False
        self._introduced = False
        # The cells of the last query that was begun, the tests that it is for, and the calls kept back.
        self._pattern: tuple[set[int], list[NetTest], int] | None = None
        self._strangers = Strangers(self._rows, self._tests)
        self._ended: str | None = None
        # Trials asked for when the first axis was named.
        self.named_at: int | None = None
        self._foreseen: frozenset[int] = frozenset()

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round, at most `width` trials; empty when settled or spent."""
        rows = self._rows
        if {0, self._problem.full} & rows.infeasible:
            self._ended = "corner"
            return ()
        if self._ended is None and not rows.queued:
            self._hear_tests()
            self._pattern = None
            if self._plan() and self._pattern is not None:  # until more is heard, the next queries run as this one does
                cells, tests, kept = self._pattern
                while self._pattern is not None and rows.queued + len(cells) <= width and self._run(cells, tests, kept=kept):
                    pass
        return rows.take(width)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back for trials that were asked for."""
        self._rows.hear(outcomes)

    def set_tolerance(self, tolerance: float) -> None:
        """The tolerance, where it is known only once the good release has answered."""
        self._rows.change(tolerance=tolerance)
        self._problem = self._rows.problem

    def lower_budget(self, trials: int) -> None:
        """So many trials fewer may be asked for: they were made elsewhere."""
        self._rows.change(budget=self._problem.budget - trials)
        self._problem = self._rows.problem

    @property
    def foreseen(self) -> frozenset[int]:
        """The axes that will probably be the named ones; none while that is open.

        First those that were in the race when one of them was `HALFWAY`, then the named ones, once they seem to leave nothing and no
        other seems to do as much.
        """
        return self._foreseen

    @property
    def decided(self) -> int:
        """Trials that were decided on and not asked for yet."""
        return self._rows.queued

    @property
    def chosen(self) -> frozenset[tuple[int, int]]:
        """(query, cell) of the trials that were made because the query broke."""
        return self._rows.chosen_trials

    def belief(self) -> Belief:
        """What the search believes now."""
        p, rows = self._problem, self._rows
        stage = "confirm" if self.named() else "localise" if rows.asked >= START else "reproduce"
        harm = {name: self._tests.progress(a) for a, name in enumerate(p.axes)}
        costs = {name: running_estimate(self._rows.mean(*p.reverted_pair(a))) for a, name in enumerate(p.axes)}
        return Belief(stage, running_estimate(rows.mean(0, p.full), "loss"), harm, costs)

    def result(self) -> Attribution:
        """The attribution as of now."""
        self._hear_tests()
        return conclude_search(self._evidence())

    @property
    def error_budget(self) -> ErrorBudget:
        """How alpha is divided."""
        return self._tests.error_budget

    def named(self) -> frozenset[int]:
        """Axes proved to have a net cost, in any family."""
        return self._tests.named()

    def _hear_tests(self, *, over: bool = False) -> None:
        self._tests.hear(over=over)
        loss = self._loss
        if loss.n >= START:
            self._below.hear(loss.n, (self._problem.tolerance - loss.value) / loss.error)
        named = self.named()
        if self.named_at is None and named:
            self.named_at = self._rows.spent
        if named and self._problem.k > 2 and self._standing.seem_all(named):
            self._foreseen = named
        elif not self._foreseen and self._rows.explored and self._tests.beyond >= ELSEWHERE:
            self._foreseen = self._standing.in_front()

    # -- what to run -------------------------------------------------------------------------------------------------
    def _plan(self) -> bool:
        """Queue the next trials; False when there are none now. Ends the search when all is said or spent."""
        if self._problem.k <= 2:
            return self._plan_small()
        named = self.named()
        if named and self._loss.value >= self._problem.tolerance:
            return self._plan_named(named)
        return self._plan_race()

    @property
    def _loss(self) -> Mean:
        return self._standing.loss

    def _run(self, cells: Iterable[int], tests: Iterable[NetTest] = (), *, kept: int = 0) -> bool:
        """Queue one more query; at the end of the budget or log: the last looks, then the table or the end."""
        cells, tests, rows = set(cells), list(tests), self._rows
        if self._tests.awaits_look(tests):
            self._pattern = None
            self._use_wait(tests)
            return True
        self._pattern = cells, tests, kept
        if rows.left - kept >= len(cells) and not rows.exhausted:
            query = rows.asked
            if rows.begin(cells):
                self._tests.plan(query, tests)
                return True
        return False

    def _use_wait(self, tests: Iterable[NetTest]) -> None:
        """Queue, while a look that will probably name an axis is under way, what is asked before a cause is told in any case.

        Not where the budget may end before the causes are known: then calls go to these first.
        """
        if self.looks_around and AMPLE * self._rows.spent <= self._problem.budget:
            self._strangers.acquaint(but={axis for _, axis in tests})

    def _out_of_queries(self) -> bool:
        """What is left to do when no fresh query can be run: wait for what is out, take the last looks, buy the table or end."""
        if self._rows.out or self._rows.queued:
            return False
        if self.named() and not self._standing.is_loss(SEEN) and self._run({0, self._problem.full}):
            return True
        self._hear_tests(over=True)
        measures = self.named() and self._problem.k > 2 and self._loss.value >= self._problem.tolerance
        return bool(measures and (self._sets.measure(self.named()) or self._standing.clear(self.named()))) or self._buy_table()

    def _buy_table(self) -> bool:
        """Queue the rest of the table, when every query can run in every cell, or that again; else it is the end."""
        if self._table.buy() or self._table.ask_again(lambda: self.looks_around and self.result().kind == "inconclusive"):
            return True
        self._ended = self._ended or ("exhausted" if self._rows.exhausted else "spent")
        return False

    # -- two axes ----------------------------------------------------------------------------------------------------
    def _plan_small(self) -> bool:
        """One axis: good and bad. Two: all four cells of every query, until both axes are settled."""
        cells = range(self._problem.full + 1)
        named, loss = self.named(), self._loss
        if self._below.shown:
            self._ended = "no_regression"
            return False
        if named and self._standing.shows_loss() and loss.n >= START and self._standing.settles_small(named):
            self._ended = "cause"
            return False
        if self._standing.is_futile(named):
            self._ended = "futile"
            return False
        return self._run(cells, [("net", a) for a in self._axes]) or self._out_of_queries()

    # -- the race ----------------------------------------------------------------------------------------------------
    def _plan_race(self) -> bool:
        full, loss = self._problem.full, self._loss
        if self._below.shown:
            self._ended = "no_regression"
            return False
        if self._standing.is_futile(self.named()):
            self._ended = "futile"
            return False
        if self._advice.explore(lambda: self._run({0, full}, kept=self._kept)):
            self._pattern = None
            return True
        live = [] if self._standing.looks_void() else self._standing.live("reverted")
        tests = [("reverted", a) for a in live]
        if (
            not self._rows.explored and loss.n < START and not self._rows.exhausted
        ):  # no test hears these: alpha is divided by them
            return self._run({0, full} | self._tests.cells(tests), kept=self._kept) or self._out_of_queries()
        if not self._weighted:
            self._weigh()
        if self._standing.favours_introducing:
            return self._plan_introduced()
        good = loss.z < CLEAR or loss.n < SELDOM * self._rows.asked or not live
        kept = min(BATCH, self._kept)  # the rollback of an axis that is reverted here runs in any case
        cells = {full} | self._tests.cells(tests) | ({0} if good else set())
        return self._run(cells, tests, kept=kept) or self._out_of_queries()

    def _weigh(self) -> None:
        """Divide the alpha of "reverted" over the axes by what the first queries show, which no test hears again."""
        self._weighted = True
        if not self._tests.is_short and self._loss.n:
            self._tests.families["reverted"].weights = self._standing.weights("reverted")

    @property
    def _kept(self) -> int:
        return min(KEPT, self._problem.budget // 12)

    def _plan_introduced(self) -> bool:
        live, kept = self._standing.live("introduced"), self._kept
        full, loss = self._problem.full, self._loss
        also = {full} if abs(loss.z) < 3 else set()
        live = live or [max(self._axes, key=lambda a: self._tests.mean("introduced", a).value)]
        tests = [("introduced", a) for a in live]
        if (
            not self._rows.explored
            and max(self._standing.single("introduced", a).n for a in self._axes) < START
            and not self._rows.exhausted
        ):
            every = self._tests.cells(("introduced", a) for a in self._axes)
            return self._run({0, *also} | every, kept=kept) or self._out_of_queries()
        if not self._introduced:
            self._introduced = True
            self._tests.families["introduced"].weights = self._standing.weights("introduced")
        return self._run({0, *also} | self._tests.cells(tests), tests, kept=kept) or self._out_of_queries()

    # -- once axes are named -------------------------------------------------------------------------------------------
    def _plan_named(self, named: frozenset[int]) -> bool:
        """Further causes while they are likely, and the rollback until it is measured."""
        if self._rows.filling:
            return True  # what is decided next rests on it
        full, size = self._problem.full, self._standing.worth_looking(named)
        short = self._sets.measured(self._sets.smallest(named)) < SURELY
        if short and self._rows.left <= self._kept and self._sets.measure(named):
            return True
        whole = self._sets.left(named)
        rest = self._standing.rest(named, size)
        likes = not self.looks_around or self._standing.likes_another(named, size)
        enough = NOTHING_ELSE if likes else NOBODY_ELSE
        nothing_else = rest.n >= START // 2 and rest.favours_nothing(size) > enough
        if len(named) > 1 and whole.n < MEASURED and not nothing_else and self._sets.deepen(named):
            return True
        tests = self._standing.partners(named)
        looks = self.looks_around and not self._tests.is_short and self._standing.own.look(named, doubted=bool(tests))
        if looks and AMPLE * self._rows.spent > self._problem.budget:  # else it is beside what comes next
            return True
        if self.looks_around and sum(self._strangers.look_again(*test) for test in tests):
            return True
        if tests and not nothing_else:
            return self._run(self._tests.cells(tests), tests, kept=self._kept) or self._out_of_queries()
        if not nothing_else and not self._tests.is_short and not any(self._problem.needs) and self._advice.seek(named):
            return True
        unclear = whole.n < START or (whole.z < CLEAR and whole.n < MOST_UNCLEAR)
        if not nothing_else and unclear and self._sets.deepen(named):
            return True
        likely = [] if nothing_else else self._standing.likely_tests(named, size)
        more = likely if likely or nothing_else else self._standing.other_tests(named, size)
        waits = more is None
        tests += [test for test in more or () if test not in tests]
        # A drill-down with one name ends here: going on cost a tenth more calls and found no second (test_drill_quality).
        only = not self.looks_around and len(named) == 1 and whole.n >= MEASURED
        if not tests and not waits and (nothing_else or not unclear or only) and self._sets.is_settled(named):
            if self._standing.shows_loss():
                return self._close(nothing_else)
            return self._run({0, full}) or self._out_of_queries()
        if not tests and any(
            self._sets.left(b).n < MEASURED and self._sets.gauge(b, MEASURED) for b in self._sets.unclear(named)
        ):
            return True
        cells = self._tests.cells(tests)
        backs = {self._sets.cell(b) for b in self._sets.unclear(named)}
        if any(family == "further" for family, _ in tests) and (whole.n < SURELY or whole.z < CLEAR):
            cells |= {0, self._sets.cell(named)}
        if not likely and (not tests or not (nothing_else or whole.z > CLEAR) or backs):
            cells |= {0, full, self._sets.cell(named), *backs, self._sets.cell(self._sets.likely(named))}
        if not tests and (self._sets.measure(named) or self._sets.deepen(named)):
            return True
        if not nothing_else and rest.n >= START and {0, self._sets.cell(named)} <= cells:
            by_then = 1 + self._rows.out / len(cells) / rest.n
            if by_then * rest.favours_nothing(size) > enough:  # what is under way will probably show it
                self._pattern = None
                return True
        return self._run(cells, tests, kept=self._kept if tests else 0) or self._out_of_queries()

    def _close(self, nothing_else: bool) -> bool:
        """The end, or the table when something is left open and it can be had."""
        if not nothing_else and self._tests.is_short:
            return self._buy_table()
        if self.looks_around and (self._standing.own.under_way or self._strangers.acquaint()):
            return True
        if self.looks_around and self._standing.clear(self.named()):
            return True
        self._ended = "cause"
        return False

    # -- what it ends with ---------------------------------------------------------------------------------------------
    def _evidence(self) -> Evidence:
        named = self.named() | self._table.proved
        return Evidence(
            rows=self._rows,
            named=named,
            proved={a: self._tests.proved_by(a) for a in named},
            loses=self._standing.is_loss(SEEN),
            ended=self._ended or "stopped",
            rollback=bits(self._problem.reverting(self._sets.smallest(named))) if named else (),
            table_alpha=self._table.alpha,
            pairs={(n, a): self._tests.pairs(n, a) for n, a in self._tests.planned},
            suspicion=tuple((a, self._tests.progress(a)) for a in self._axes),
            suspects=tuple((self._tests.mean(n, a), 4 if n == "net" else 2) for n, a in self._tests.planned),
            error_budget=self.error_budget,
            suspected=self._standing.suspected(named),
            open_axes=self._standing.open_beside(named),
            may_join=self._standing.may_join(named),
            own=self._standing.own,
        )
