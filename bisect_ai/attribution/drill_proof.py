"""Which suspects are proved to cost quality: a net search whose axes are sets of changes.

Every suspect is an axis, all other changes are one more, `rest`. F is the bad release, G the bad one with all changes of the guilty
axes reverted. So a change is named when its *net* cost is proved on queries in random order (`search/net_search`): y(F-u) - y(F), or
y(G) - y(G+u) where reverting single changes explains little.

**What is conditioned on.** The axis was found guilty on the queries that ran before, and the suspects were found on some of them.
Fresh queries know nothing of either, so they come first, and where there are plenty no other is used. Where the log is short the
queries that ran follow in their random order; then every suspect is tested at alpha / m, m counting all changes that could have been
suspected (Bonferroni, Holm's steps over m), so that the choice of suspects costs no error. The axis's own test is not paid for twice:
that a change without a net cost passes on such queries has a chance of at most alpha, whether or not its axis is found guilty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bisect_ai.attribution.drill_problem import DrillCause, DrillOutcome, DrillProblem, DrillResult, DrillTrial, Finer, members
from bisect_ai.attribution.drill_units import Units
from bisect_ai.attribution.problem import RESTORED, Attribution, Estimate, Floats, Mode, Outcome, Problem, Trial
from bisect_ai.attribution.search.net_search import NetSearch
from bisect_ai.attribution.search.query_rows import Mean

PLENTY_FRESH = 300  # fresh queries beside which those that ran before are left alone
EXAMPLES = 5
REST = "rest"


class _EvenSearch(NetSearch):
    """A net search whose axes are some of `many` that could have been chosen: each has its even part of alpha."""

    def __init__(self, problem: Problem, many: int) -> None:
        super().__init__(problem)
        self._many = many
        for tests in self._tests.values():
            tests.weights = np.full(problem.k, 1 / many)

    def _weights(self, means: Sequence[Mean]) -> Floats:
        return np.full(len(means), 1 / self._many)


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
        groups = _groups(units, suspects)
        inside = {u for group in groups for u in group}
        rest = [u for u in range(units.count) if u not in inside]
        self._axes = [units.mask(group) for group in groups] + ([units.mask(rest)] if rest else [])
        self._rest = len(groups) if rest else None
        self._order = tuple(fresh) if len(fresh) >= PLENTY_FRESH else (*fresh, *used)
        chosen = len(suspects) < units.count and len(self._order) > len(fresh)
        k = len(self._axes)
        cells = range(1 << k)
        order = np.array(self._order, dtype=int)
        axes = tuple(str(a) for a in range(len(groups))) + ((REST,) if rest else ())
        net = Problem(
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
        )
        self._search = _EvenSearch(net, units.count) if chosen else NetSearch(net)
        self._out: dict[DrillTrial, Trial] = {}
        self._scores: dict[DrillTrial, float] = {}
        self.begun = 0
        """Queries of the order that were begun."""

    def ask(self, width: int) -> list[DrillTrial]:
        """The next trials; empty when settled or spent."""
        trials = {self._trial(t): t for t in self._search.ask(width)}
        self._out |= trials
        self.begun = max([self.begun, *(t.query + 1 for t in trials.values())])
        return list(trials)

    def tell(self, outcomes: Sequence[DrillOutcome]) -> None:
        """What came back for trials that were asked for."""
        heard = [(self._out.pop(o.trial), o) for o in outcomes if o.trial in self._out]
        self._scores |= {o.trial: o.score for _, o in heard if o.score is not None}
        self._search.tell([Outcome(t, o.score, o.status, o.verdict, o.again) for t, o in heard])

    def reverts_one(self, changes: int) -> bool:
        """Whether the set is the bad release with one axis reverted."""
        return self._problem.full & ~changes in self._axes

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
            if not more and self._search._ended != "cause":
                reason += "; the budget or the queries were spent: others may be missing"
            return DrillResult("found", causes, reason, calls, left, back, measured)
        if found.kind == "cause":
            return DrillResult("no_single_change", (), "what is lost is spread over changes of which none stands out", calls)
        if found.kind == "no_regression":
            return DrillResult("no_single_change", (), "the changes in the guilty axes cost nothing that matters", calls)
        return DrillResult("inconclusive", (), "the budget or the queries were spent before any change was proved", calls)

    def _causes(self, axes: Sequence[str], mode: Mode, share: Estimate) -> list[DrillCause]:
        """A cause in terms of changes; what acts with the rest is named without saying how."""
        named = [int(a) for a in axes if a != REST]
        if not named:
            return []
        changes = tuple(sorted(c for a in named for c in members(self._axes[a])))
        if REST in axes:
            mode = "unsettled"
        queries = self._examples([self._problem.full & ~self._axes[a] for a in named])
        return [DrillCause(changes, mode, within(share), self._problem.alpha, queries)]

    def _examples(self, cells: Sequence[int]) -> tuple[int, ...]:
        """Queries that lost most under bad, and that reverting the changes mends."""
        full = self._problem.full
        drops = []
        for query in self._order[: self.begun]:
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
        return members(changes), Finer(back.value, within(restores), enough)


def within(share: Estimate) -> Estimate:
    """A share and its interval, cut to [0, 1]: chance alone takes them out of it."""

    def cut(x: float) -> float:
        return min(max(x, 0.0), 1.0)

    interval = None if share.interval is None else (cut(share.interval[0]), cut(share.interval[1]))
    return replace(share, value=None if share.value is None else cut(share.value), interval=interval)


def _groups(units: Units, suspects: Sequence[int]) -> list[tuple[int, ...]]:
    """The suspects, each with what cannot be bad without it; those that share any are one."""
    groups: list[set[int]] = []
    for s in suspects:
        own = {s, *units.needed_by[s]}
        for other in [g for g in groups if g & own]:
            groups.remove(other)
            own |= other
        groups.append(own)
    return [tuple(sorted(g)) for g in groups]
