"""Which suspects are proved to cost quality: a net search whose axes are sets of changes.

Every suspect is an axis, all other changes are one more, `rest`. F is the bad release, G the bad one with all changes of the guilty
axes reverted. So a change is named when its *net* cost is proved on queries in random order (`search/net_search`): y(F-u) - y(F), or
y(G) - y(G+u) where reverting single changes explains little. What cannot be bad without a suspect is reverted throughout; a suspect
that needs another is measured beside it (`Problem.needs`).

**What is conditioned on.** The axis was found guilty on the queries that ran before, and suspects were found on some of them. Where
every change is put to the proof nothing was chosen: the queries come in their one random order, from the first, of which the bad
release has run already. That a change without a net cost passes there has a chance of at most alpha, whatever else these queries
showed; it is not claimed given that its axis was found guilty. Where there were suspects fresh queries come first, which know of
neither choice, and where there are plenty no other is used. Else the queries that ran follow: a part of alpha (`FRESH_PART`) is for the
fresh ones, and on all of them every suspect is tested at the rest / m, m counting all changes that could have been suspected (Holm's
steps over m), so that the choice of suspects costs no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from bisect_ai.attribution.problem import (
    RESTORED,
    Attribution,
    Estimate,
    Floats,
    Ints,
    Mode,
    Outcome,
    Problem,
    Trial,
    bits,
    mask,
)
from bisect_ai.attribution.search.back_sets import MEASURED, OPEN
from bisect_ai.attribution.search.drill_problem import (
    DrillCause,
    DrillOutcome,
    DrillProblem,
    DrillResult,
    DrillTrial,
    Finer,
    Units,
)
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.attribution.search.standing import START
from bisect_ai.attribution.stats.sequential import SequentialTests

PLENTY_FRESH = 300  # fresh queries beside which those that ran before are left alone
FRESH_PART = 0.5  # of alpha for the fresh queries, where those that ran before are used after them
FEWEST_FRESH = (
    60  # with fewer, a change that breaks a seventh of the queries is not proved on them: all of alpha is for all queries
)
REST_WEIGHT = 0.1  # the part of alpha for the changes that were not suspected
FEWEST_MORE = 150  # calls spent on further causes after a name, the fewest
MODE_BATCH = 24  # queries that are given the cells that tell how changes act at a time
MOST_FOR_MODES = 240  # queries that are given them, the most
EXAMPLES = 5  # queries shown for each change
REST = "rest"


class FreshFirst(SequentialTests):
    """One family of tests about suspects: on queries that nothing was chosen on, and, with what is left of alpha, on all queries.

    `many`: the axes are some of so many that could have been chosen, so on all queries each has its even part. `fresh` of an axis
    gives how many of its differences are of fresh queries; these come first.
    """

    def __init__(self, k: int, alpha: float, *, horizon: int, plenty: int, many: int, fresh: Callable[[int], int]) -> None:
        self._part = FRESH_PART if plenty >= FEWEST_FRESH else 0.0
        super().__init__(k, 0.0, horizon=horizon)
        self._first = SequentialTests(k, 0.0, horizon=plenty)
        self._many, self._fresh = many, fresh
        self.grant(alpha)

    def grant(self, alpha: float) -> None:
        """As `SequentialTests.grant`, divided over fresh queries and all."""
        self._first.grant(alpha * self._part)
        super().grant(alpha * (1 - self._part))

    def hear(self, axis: int, differences: Floats, clusters: Ints | None = None) -> None:
        """As `SequentialTests.hear`; the tests on fresh queries take their last look when these are used up."""
        own = self._fresh(axis)
        first = differences[:own], None if clusters is None else clusters[:own]
        self._first.hear(axis, *first)
        if own < len(differences):
            self._first.end(axis, *first)
        super().hear(axis, differences, clusters)

    def end(self, axis: int, differences: Floats, clusters: Ints | None = None) -> None:
        """As `SequentialTests.end`."""
        own = self._fresh(axis)
        self._first.end(axis, differences[:own], None if clusters is None else clusters[:own])
        super().end(axis, differences, clusters)

    def named(self) -> frozenset[int]:
        """The axes proved on either."""
        self._first.weights = self.weights
        return self._first.named() | super().named()

    def progress(self, axis: int) -> float:
        """How near either came."""
        return max(self._first.progress(axis), super().progress(axis))

    def _level(self, axis: int, named: Iterable[int] = ()) -> float:
        del axis
        return round(self.alpha / max(self._many - len(set(named)), 1), 7)


class ChangeSearch(NetSearch):
    """A net search over sets of changes, which ends sooner about what else costs quality, and later about how changes act.

    `chosen`: the axes were chosen out of so many, on queries other than the first so many. `weights` divide alpha beforehand, so that
    the first queries are tested as well; without, they divide it.
    """

    looks_around = False  # the suspects were found on queries that broke

    def __init__(
        self, problem: Problem, *, chosen: tuple[int, int] | None = None, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(problem)
        self._last_named: tuple[frozenset[int], int] = frozenset(), 0
        if chosen is not None:
            many, fresh = chosen
            horizon = min(problem.queries, max(problem.budget // 3, 12))
            for name in self._tests.families:
                own = self.error_budget.of(name), horizon, fresh, many
                self._tests.families[name] = self._fresh_first(name, *own)
        self._weighted = weights is not None
        if weights is not None and "reverted" in self._tests.families:
            self._tests.families["reverted"].weights = np.array(weights)

    def _fresh_first(self, name: str, alpha: float, horizon: int, fresh: int, many: int) -> FreshFirst:
        def own(axis: int) -> int:
            return int((self._tests.differences(name, axis)[0] < fresh).sum())

        return FreshFirst(self._problem.k, alpha, horizon=horizon, plenty=fresh, many=many, fresh=own)

    def ask(self, width: int) -> Sequence[Trial]:
        """The next round, at most `width` trials; empty when settled or spent."""
        if self._ended is None and self._is_enough():
            self._ended = "enough"
        if self._ended != "enough" and (trials := super().ask(width)):
            return trials
        return self._settle_modes(width) if self._ended in ("cause", "enough") else ()

    def _run(self, cells: Iterable[int], tests: Iterable[tuple[str, int]] = (), *, kept: int = 0) -> bool:
        """As `NetSearch._run`, with the tests that the cells allow where alpha was divided beforehand.

        The first queries are waited for, as most suspects then pause: with 64 workers that saves a tenth of the bundled incident's
        trials and of its time.
        """
        cells, tests = set(cells), list(tests)
        if self._rows.out and self._rows.asked >= START > self._loss.n and not self.named():
            self._pattern = None
            return True
        if not tests and self._weighted and self._rows.asked < START and not self.named():
            tests = [("reverted", a) for a in self._axes if set(self._problem.reverted_pair(a)) <= cells]
        return super()._run(cells, tests, kept=kept)

    @property
    def is_complete(self) -> bool:
        """Whether further causes with a part of the loss that matters have become unlikely."""
        return self._ended == "cause"

    def _is_enough(self) -> bool:
        """Whether the names have stood for as many calls as they took, and nothing is likelier left than a part that matters."""
        named, spent = self.named(), self._rows.spent
        if named != self._last_named[0]:
            self._last_named = named, spent
        since = self._last_named[1]
        if self._is_spread(named):
            return spent - since >= FEWEST_MORE
        if not named or spent - since < max(since, FEWEST_MORE):
            return False
        left = self._sets.left(named)
        return left.n >= MEASURED and left.z < 2 and left.favours_nothing(OPEN * self._loss.value) > 0

    def _is_spread(self, named: frozenset[int]) -> bool:
        """Whether what nobody suspected is named alone, and no suspect by itself is likely to cost a part that matters."""
        if {self._problem.axes[a] for a in named} != {REST}:
            return False
        most = OPEN * max(self._loss.value, self._problem.tolerance)
        costs = [self._tests.mean("reverted", a) for a in range(self._problem.k) if a not in named]
        return all(c.n >= MEASURED and c.value + 2 * c.error < most for c in costs)

    def _settle_modes(self, width: int) -> Sequence[Trial]:
        """Trials that tell how the named axes act, where that is not settled: alone, together, all of them on the same queries."""
        named, rows, full = sorted(self.named()), self._rows, self._problem.full
        if len(named) < 2 or all(c.mode != "unsettled" for c in self.result().causes):
            return ()
        singles = [self._problem.reverted_pair(a)[0] for a in named]
        cells = [full, full & ~mask(named), *singles]
        whole = rows.ran(*cells)
        if len(whole) >= MOST_FOR_MODES or any(c in rows.infeasible for c in cells):
            return ()
        known = [*rows.ran(full, *singles), *rows.ran(full), *range(rows.asked)]
        done = set(whole.tolist())
        ready = [q for q in dict.fromkeys(map(int, known)) if q not in done][:MODE_BATCH]
        for cell in cells:
            rows.fill(ready, cell)
        while not ready and rows.queued < width and rows.begin(cells):
            pass
        return rows.take(width)


class Proof:
    """`ask` and `tell` until `ask` has nothing more; then `result`."""

    def __init__(
        self,
        problem: DrillProblem,
        units: Units,
        suspects: Sequence[int],
        *,
        fresh: Sequence[int],
        used: Sequence[int],
        budget: int,
    ) -> None:
        """`suspects`: units; all of them when nothing was chosen."""
        self._problem = problem
        inside = set(suspects)
        held = {u for s in inside for u in units.needed_by[s]} - inside
        rest = [u for u in range(units.count) if u not in inside | held]
        self._full = problem.full & ~units.mask(held)
        parts = [*([s] for s in suspects), *([rest] if rest else [])]
        self._axes = [units.mask(part) for part in parts]
        every = len(suspects) == units.count
        self._order = (*used, *fresh) if every else tuple(fresh) if len(fresh) >= PLENTY_FRESH else (*fresh, *used)
        chosen = not every and len(self._order) > len(fresh)
        k = len(self._axes)
        cells = range(1 << k)
        order = np.array(self._order, dtype=int)
        axes = tuple(str(a) for a in range(len(suspects))) + ((REST,) if rest else ())
        self._net = Problem(
            axes=axes,
            queries=len(order),
            budget=budget,
            tolerance=problem.tolerance,
            alpha=problem.alpha,
            seed=problem.seed,
            population=problem.population,
            weights=None if problem.weights is None else problem.weights[order],
            clusters=None if problem.clusters is None else problem.clusters[order],
            infeasible=frozenset(c for c in cells if not units.closed(set(units.inside(self._changes(c))))),
            needs=_part_needs(units, parts),
        )
        weights = None
        if not every:  # those that were suspected share nearly all of alpha
            weights = [(1 - REST_WEIGHT * bool(rest)) / len(suspects)] * len(suspects) + [REST_WEIGHT] * bool(rest)
        self._search = ChangeSearch(self._net, chosen=(units.count, len(fresh)) if chosen else None, weights=weights)
        self._out: dict[DrillTrial, Trial] = {}
        self._scores: dict[DrillTrial, float] = {}
        self._rows = 0

    def ask(self, width: int) -> list[DrillTrial]:
        """The next trials; empty when settled or spent."""
        trials = {self._trial(t): t for t in self._search.ask(width)}
        self._out |= trials
        self._rows = max([self._rows, *(t.query + 1 for t in trials.values())])
        return list(trials)

    @property
    def decided(self) -> int:
        """Trials that were decided on and not asked for yet."""
        return self._search.decided

    def tell(self, outcomes: Sequence[DrillOutcome]) -> None:
        """What came back for trials that were asked for."""
        heard = [(self._out.pop(o.trial), o) for o in outcomes if o.trial in self._out]
        self._scores |= {o.trial: o.score for _, o in heard if o.score is not None}
        self._search.tell([Outcome(t, o.score, o.status, o.verdict, o.again) for t, o in heard])

    @property
    def begun(self) -> tuple[int, ...]:
        """The queries that were begun."""
        return self._order[: self._rows]

    def reverts_one(self, changes: int) -> bool:
        """Whether the set is the bad release with one axis reverted."""
        return changes in {self._changes(self._net.reverted_pair(a)[0]) for a in range(self._net.k)}

    def _changes(self, cell: int) -> int:
        return sum(own for a, own in enumerate(self._axes) if cell >> a & 1)

    def _trial(self, trial: Trial) -> DrillTrial:
        return DrillTrial(self._order[trial.query], self._changes(trial.cell), trial.repeat)

    # -- what was found ----------------------------------------------------------------------------------------------
    def result(self, calls: int) -> DrillResult:
        """What the evidence so far says."""
        found = self._search.result()
        causes = tuple(cause for c in found.causes for cause in self._causes(c.axes, c.mode, c.share))
        if causes:
            back, measured = self._rollback(found)
            left = None if measured is None or measured.restores.value is None else 1 - measured.restores.value
            more = any(REST in c.axes for c in found.causes)
            reason = "proved to cost quality on average" + ("; others beside them do too" if more else "")
            if not more and not self._search.is_complete:
                reason += "; others may be missing"
            return DrillResult("found", causes, reason, calls, left, back, measured, is_spread=more)
        if found.kind == "cause":
            reason = "what is lost is spread over changes of which none stands out"
            return DrillResult("no_single_change", (), reason, calls, is_spread=True)
        if found.kind == "no_regression":
            return DrillResult("no_single_change", (), "the changes in the guilty axes cost nothing that matters", calls)
        return DrillResult("inconclusive", (), "the budget or the queries were spent before any change was proved", calls)

    def _causes(self, axes: Sequence[str], mode: Mode, share: Estimate) -> list[DrillCause]:
        """A cause in terms of changes; what acts with the rest is named without saying how."""
        named = [int(a) for a in axes if a != REST]
        if not named:
            return []
        changes = tuple(sorted(c for a in named for c in bits(self._axes[a])))
        if REST in axes:
            mode = "unsettled"
        queries = self._examples([self._changes(self._net.reverted_pair(a)[0]) for a in named])
        return [DrillCause(changes, mode, within(share), self._problem.alpha, queries)]

    def _examples(self, cells: Sequence[int]) -> tuple[int, ...]:
        """Queries that lost most under bad, and that reverting the changes mends."""
        full = self._full
        drops = []
        for query in self.begun:
            good, bad = (self._scores.get(DrillTrial(query, c)) for c in (0, full))
            mended = [s for c in cells if (s := self._scores.get(DrillTrial(query, c))) is not None]
            if good is not None and bad is not None and good > bad and any(s > bad for s in mended):
                drops.append((bad - good, query))
        return tuple(q for _, q in sorted(drops, key=lambda x: x[0])[:EXAMPLES])

    def _rollback(self, found: Attribution) -> tuple[tuple[int, ...], Finer | None]:
        back = found.rollback
        if back is None or REST in back.axes or len(back.axes) == len(self._axes):
            return (), None
        changes = self._problem.full & ~self._changes(back.cell)
        restores = Estimate(
            back.restores, back.interval, back.value.n, "restored, of what the changes cost; Fieller 95 % interval"
        )
        brings = back.restores is not None and back.restores > 0
        enough = brings and (back.interval is None or back.interval[1] >= RESTORED)
        return bits(changes), Finer(back.value, within(restores), enough)


def within(share: Estimate) -> Estimate:
    """A share and its interval, cut to [0, 1]: chance alone takes them out of it."""

    def cut(x: float) -> float:
        return min(max(x, 0.0), 1.0)

    interval = None if share.interval is None else (cut(share.interval[0]), cut(share.interval[1]))
    return replace(share, value=None if share.value is None else cut(share.value), interval=interval)


def _part_needs(units: Units, parts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Part to the mask of the other parts that it needs; (): none needs any."""
    needs = tuple(
        sum(1 << j for j, other in enumerate(parts) if j != i and any(units.needs[u] & set(other) for u in part))
        for i, part in enumerate(parts)
    )
    return needs if any(needs) else ()
