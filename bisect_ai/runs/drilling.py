"""The drill-down of a run: inside the guilty axes, down to the changes, through the same store, engine, scorers and budget.

It looks for suspects as soon as the axes that are named seem to be all, while it is still measured how they act and what to roll
back, where the budget has slack; it puts them to the proof when the axes are known. Should other axes come out guilty it begins anew.

It searches all changes of all guilty axes at once, with the rest of the release bad: so a pair whose halves lie in two axes is found,
and a cause that needs company has it. What it names it also took back alone, in a cell of its own: that rollback may be finer than an
axis. Where the loss is spread over changes of which none stands out, it looks once more by group (a block of lines, a file, a folder,
a tool): that names no change, but the smallest groups that bring the loss back when they are taken back together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from bisect_ai.attribution.problem import Attribution, Belief, Outcome, Trial, bits
from bisect_ai.attribution.search.coupled import CoupledSearch
from bisect_ai.attribution.search.drill import DrillSearch
from bisect_ai.attribution.search.drill_problem import (
    DrillCause,
    DrillOutcome,
    DrillProblem,
    DrillResult,
    DrillTrial,
    Finer,
)
from bisect_ai.release.changes import Change, Tree
from bisect_ai.replay.engine import Engine
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.outcomes import Blamed, Drilled, Inside
from bisect_ai.runs.prepared import PART, Digests, Prepared
from bisect_ai.runs.question import Composed
from bisect_ai.runs.trial_window import TrialWindow
from bisect_ai.runs.trials import Replay, TrialRound

LEVEL = "changes"
Window = TrialWindow[TrialRound]
# Times as many calls are in the budget as were made, at least, where it goes on before the axes are found; and where it begins before
# any is named: it is about as far again to the names as was come.
AHEAD_FROM, EARLY_FROM = 4, 8
# Composed releases kept at a time.
_HELD = 64
# Calls left below which no change could be told from another.
_WORTH_MEASURING = 8
# Trials that the second look, by group, may take at least; else half of what the first one took (80 to 170 were enough in the
# made-up incidents of twenty lines that cost a twentieth of the loss each).
_FEWEST_FOR_GROUPS = 300


class Mixtures:
    """The ground of the drill-down: bit i takes the i-th of some changes from bad; changes of other axes are all bad.

    `beside`: axes that do not run without the new version of something in `axes`. Each is one bit behind those of the changes, so
    that the ground can go all the way back to what runs; which change it needs is found out like any other conflict.
    `by_group`: a bit takes all changes of one group, the innermost around them.
    """

    level = LEVEL

    def __init__(
        self, tree: Tree, axes: Sequence[str], digests: Digests, *, beside: Sequence[str] = (), by_group: bool = False
    ) -> None:
        self._tree, self._digests = tree, digests
        self.axes = tuple(axes)
        self.changes = tuple(c for c in tree.changes if c.axis in axes)
        groups: dict[object, list[Change]] = {}
        for c in self.changes:
            groups.setdefault((c.axis, c.group) if by_group else c, []).append(c)
        self.parts = (*map(tuple, groups.values()), *(tuple(tree.axes[a]) for a in beside))
        self._moved = (*axes, *beside)
        self._rest = [c for c in tree.changes if c.axis not in self._moved]
        self._bad_axes = tuple(a for a in tree.axes if a not in self._moved)
        self._cells: OrderedDict[int, Composed] = OrderedDict()

    @property
    def needs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of parts of which the first cannot be bad without the second."""
        place = {c: i for i, part in enumerate(self.parts) for c in part}
        return tuple((place[a], place[b]) for a, b in self._tree.conflicts if a in place and b in place)

    def composed(self, cell: int) -> Composed:
        """The release with these changes; only the last few are kept, for a corpus is large and sets are many."""
        found = self._cells.pop(cell, None)
        if found is None:
            on = self.changes_of(bits(cell))
            release = self._tree.apply([*self._rest, *on])
            found = Composed(release, self._digests.of(release), (*self._bad_axes, *self._names(on)))
        self._cells[cell] = found
        if len(self._cells) > _HELD:
            self._cells.popitem(last=False)
        return found

    def changes_of(self, parts: Iterable[int]) -> list[Change]:
        """The changes of some parts."""
        return [change for part in parts for change in self.parts[part]]

    def _names(self, on: Sequence[Change]) -> Iterable[str]:
        """`prompt` when all its changes are bad, `prompt[3/32]` when three are."""
        for axis in self._moved:
            bad, whole = sum(c.axis == axis for c in on), len(self._tree.axes[axis])
            if bad:
                yield axis if bad == whole else f"{axis}[{bad}/{whole}]"


Watch = Callable[[Belief], None]


class Drilling:
    """One drill-down. `stopped` says whether a cap of the run was reached, `watch` hears of every round."""

    def __init__(self, prepared: Prepared, replay: Replay, ledger: Ledger, digests: Digests) -> None:
        self._prepared, self._replay, self._ledger, self._digests = prepared, replay, ledger, digests
        self._tree = prepared.tree
        self._ahead: _Search | None = None
        # The axes that were foreseen when it was last asked whether to begin, and whether any was named by then.
        self._foreseen: tuple[frozenset[str], bool] = frozenset(), False

    @property
    def _left(self) -> int:
        return self._prepared.config.budget.calls - self._ledger.trials

    def run(
        self, found: Attribution, engine: Engine, under_way: Window, *, width: int, stopped: Callable[[], bool], watch: Watch
    ) -> Drilled:
        """The changes behind the causes that were found."""
        drilled = self._run(found, engine, under_way, width=width, stopped=stopped, watch=watch)
        return replace(drilled, calls=len(self._ledger.inside))

    def _run(
        self, found: Attribution, engine: Engine, under_way: Window, *, width: int, stopped: Callable[[], bool], watch: Watch
    ) -> Drilled:
        guilty = self._guilty(found)
        if found.kind != "cause":
            tried = "; what was tried inside the axes in front told nothing" if self._ledger.inside else ""
            return Drilled("not_run", f"no axis was found guilty, so there was none to go into{tried}", self._innocent(guilty))
        ground = self._ground(guilty, found)
        if all(len(self._tree.axes[a]) == 1 for a in guilty):
            return self._single(found, ground)
        if self._left < _WORTH_MEASURING:
            reason = "the budget was spent before the changes inside the guilty axes could be told apart"
            return Drilled("not_run", reason, (*self._open(guilty, reason), *self._innocent(guilty)))
        search = self._ahead if self._ahead is not None and self._ahead.is_of(ground) else None
        while search is None and under_way:  # what was begun inside other axes is paid for out of the same budget
            under_way.tell_next()
        search = search or _Search(self, ground)
        return search.run(found, engine, under_way, width=width, stopped=stopped, watch=watch)

    def go_ahead(
        self, axes: CoupledSearch, found: Callable[[], Attribution | None], engine: Engine, under_way: Window, *, width: int
    ) -> bool:
        """Look for suspects inside the axes that will probably be named, while that is proved; False: there is nothing to ask now.

        The trials are few and come out of calls that the search over axes will hardly need; it has so many fewer. `found`: what it says
        by now; None where nothing would be drilled into.
        """
        budget, made = self._prepared.config.budget.calls, self._ledger.trials
        if AHEAD_FROM * made > budget:
            return False
        foreseen, is_named = axes.foreseen, axes.named_at is not None
        if foreseen and (foreseen, is_named) != self._foreseen and (is_named or EARLY_FROM * made <= budget):
            self._foreseen = foreseen, is_named
            if (said := found()) is not None and self._left >= _WORTH_MEASURING:
                self._begin_ahead(foreseen, said)
        asked = 0 if self._ahead is None else self._ahead.begin(engine, under_way, width=width)
        if asked:
            axes.lower_budget(asked)
        return asked > 0

    def _begin_ahead(self, foreseen: Collection[str], found: Attribution) -> None:
        ground = self._ground([a for a in self._prepared.axes if a in foreseen], found)
        if self._ahead is None or not self._ahead.is_of(ground):
            self._ahead = _Search(self, ground)

    def _ground(self, guilty: Sequence[str], found: Attribution, *, by_group: bool = False) -> Mixtures:
        return Mixtures(self._tree, guilty, self._digests, beside=self._needing(guilty, found), by_group=by_group)

    def _guilty(self, found: Attribution) -> list[str]:
        return [a for a in self._prepared.axes if any(a in cause.axes for cause in found.causes)]

    def _needing(self, guilty: Sequence[str], found: Attribution) -> list[str]:
        """The other axes that do not run without the new version of a guilty one."""
        needing = {axis for cause in found.causes for axis in cause.beside_old}
        return [a for a in self._prepared.axes if a in needing and a not in guilty]

    def _single(self, found: Attribution, ground: Mixtures) -> Drilled:
        """Every guilty axis has one change, which needs no search."""
        reason = "each guilty axis has one change only"
        blamed = tuple(self.only_change(axis, found) for axis in ground.axes)
        axes = tuple(Inside(a, "found", 1, 1, "its only change") for a in ground.axes)
        return Drilled("found", reason, (*axes, *self._innocent(ground.axes)), blamed)

    def only_change(self, axis: str, found: Attribution) -> Blamed:
        """The one change of a guilty axis: what holds for the axis holds for it."""
        cause = next(c for c in found.causes if axis in c.axes)
        (change,) = self._tree.axes[axis]
        return Blamed(change, cause.mode, (), cause.share, None, ())

    def _open(self, guilty: Sequence[str], reason: str) -> tuple[Inside, ...]:
        return tuple(Inside(a, "not_run", len(self._tree.axes[a]), 0, reason) for a in guilty)

    def _innocent(self, guilty: Sequence[str]) -> tuple[Inside, ...]:
        """The axes that nothing was found against; what is in them was not searched."""
        reason = "no single change: the axis as a whole was not found guilty"
        others = ((a, len(self._tree.axes[a])) for a in self._prepared.axes if a not in guilty)
        return tuple(Inside(a, "no_single_change", n, 0, reason) for a, n in others)


class _Search:
    """The conversation with the search, which may begin with the suspects while the axes are still measured."""

    def __init__(self, stage: Drilling, ground: Mixtures, *, most: int | None = None) -> None:
        """`most`: trials that it may take; None: as many as are left."""
        self._stage, self._ground, self._most = stage, ground, most
        self._prepared, self._ledger = stage._prepared, stage._ledger
        self._told = 0
        self._search = DrillSearch(self._problem(), proves=False)

    def is_of(self, ground: Mixtures) -> bool:
        """Whether it is about the same changes."""
        return self._ground.parts == ground.parts and self._ground.axes == ground.axes

    def begin(self, engine: Engine, under_way: Window, *, width: int) -> int:
        """Begin the next trials; how many there were: none where too many are under way."""
        if not under_way.has_room(self._hear, self._search.decided):
            return 0
        trials = [Trial(*t) for t in self._search.ask(width)]
        if trials:
            under_way.add(len(trials), self._stage._replay.begin(trials, self._ground, engine), self._hear)
        return len(trials)

    def run(
        self,
        found: Attribution,
        engine: Engine,
        under_way: Window,
        *,
        width: int,
        stopped: Callable[[], bool],
        watch: Watch,
    ) -> Drilled:
        """What the conversation ends with, and where it leaves the loss spread, what one about groups of changes does."""
        said = self._converse(found, engine, under_way, width=width, stopped=stopped, watch=watch)
        back, measured = self._ground.changes_of(said.back), said.measured
        coarse = self._stage._ground(self._ground.axes, found, by_group=True) if said.is_spread and not back else self._ground
        if 1 < len(coarse.parts) < len(self._ground.parts) and self._stage._left >= _WORTH_MEASURING:
            wider = _Search(self._stage, coarse, most=max(said.calls // 2, _FEWEST_FOR_GROUPS))
            groups = wider._converse(found, engine, under_way, width=width, stopped=stopped, watch=watch)
            if groups.measured is not None and groups.measured.enough:
                back, measured = coarse.changes_of(groups.back), groups.measured
        return self._drilled(found, said, [] if self._is_an_axis(back) else back, measured)

    def _converse(
        self, found: Attribution, engine: Engine, under_way: Window, *, width: int, stopped: Callable[[], bool], watch: Watch
    ) -> DrillResult:
        search = self._search
        search.go_on(self._problem())
        while True:
            if not stopped() and self.begin(engine, under_way, width=width):
                continue
            if not under_way.awaits(self._hear):
                break
            under_way.tell_next()
            watch(Belief("drill", found.loss))
        return search.result()

    def _hear(self, outcomes: Sequence[Outcome]) -> None:
        self._told += len(outcomes)
        self._search.tell([DrillOutcome(DrillTrial(*o.trial), *o[1:]) for o in outcomes])

    def _problem(self) -> DrillProblem:
        """What is known by now."""
        problem, ran = self._prepared.problem, {o.trial.query for o in self._ledger.observations}
        broke, ground = self._breaking(), self._ground
        return DrillProblem(
            changes=len(ground.parts),
            breaking=tuple(broke),
            budget=self._stage._left + self._told if self._most is None else min(self._most, self._stage._left + self._told),
            fresh=tuple(q for q in range(problem.queries) if q not in ran),
            used=tuple(sorted(ran)),
            needs=ground.needs,
            thresholds=tuple(broke.values()),
            threshold=self._middle(),
            alpha=self._prepared.config.alpha * (1 - PART),
            tolerance=problem.tolerance,
            population=problem.population,
            weights=problem.weights,
            clusters=problem.clusters,
            seed=self._prepared.config.seed,
        )

    def _breaking(self) -> dict[int, float]:
        """Queries that did better under good than under bad, in random order, and halfway between their two scores.

        Of graded scores those that lost more than half of the queries did.
        """
        corners = self._corners()
        drops = {q: good - bad for q, (good, bad) in corners.items()}
        graded = len({score for pair in corners.values() for score in pair}) > 2
        least = max(float(np.median(list(drops.values()))), 0.0) if graded else 0.0
        return {q: sum(corners[q]) / 2 for q, drop in drops.items() if drop > least}

    def _middle(self) -> float:
        """Halfway between the lowest and the highest score under good and bad."""
        scores = [score for pair in self._corners().values() for score in pair]
        return (min(scores) + max(scores)) / 2 if scores else 0.5

    def _corners(self) -> dict[int, tuple[float, float]]:
        """Query to its scores under good and bad where it has both, higher is better."""
        metric = self._prepared.metric
        return self._ledger.observations.paired_scores(self._prepared.problem.full, metric.name, metric)

    # -- what was found ----------------------------------------------------------------------------------------------
    def _is_an_axis(self, back: Collection[Change]) -> bool:
        """Whether reverting these changes reverts whole axes: that was measured before."""
        reverted = set(back)
        touched = {c.axis for c in reverted}
        return all(c in reverted for axis in touched for c in self._stage._tree.axes[axis])

    def _drilled(self, found: Attribution, said: DrillResult, back: Sequence[Change], measured: Finer | None) -> Drilled:
        inner = range(len(self._ground.changes))
        blamed = [self._blamed(cause, i) for cause in said.causes for i in cause.changes if i in inner]
        named = {b.change.axis for b in blamed}
        single = [a for a in self._ground.axes if a not in named and len(self._stage._tree.axes[a]) == 1]
        blamed += [self._stage.only_change(axis, found) for axis in single]
        inside = tuple(self._inside(axis, said, blamed) for axis in self._ground.axes)
        return Drilled(
            said.kind,
            said.reason,
            (*inside, *self._stage._innocent(self._ground.axes)),
            tuple(blamed),
            whole=(1 << len(self._ground.parts)) - 1,
            unexplained=said.unexplained,
            back=tuple(back),
            measured=measured if back else None,
        )

    def _blamed(self, cause: DrillCause, number: int) -> Blamed:
        inner = len(self._ground.changes)
        others = tuple(self._ground.changes[i] for i in cause.changes if i != number and i < inner)
        return Blamed(self._ground.changes[number], cause.mode, others, cause.share, cause.p_adjusted, cause.queries)

    def _inside(self, axis: str, said: DrillResult, blamed: Sequence[Blamed]) -> Inside:
        named, whole = sum(b.change.axis == axis for b in blamed), len(self._stage._tree.axes[axis])
        if named:
            return Inside(axis, "found", whole, named, "its only change" if whole == 1 else said.reason)
        if said.kind == "found":
            return Inside(
                axis, "no_single_change", whole, 0, "no single change: the named changes of other axes explain it all"
            )
        return Inside(axis, said.kind, whole, 0, said.reason)
