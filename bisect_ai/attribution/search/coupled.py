"""Axes that do not run apart: one that needs another's new version is measured beside it; two that need each other are one unit.

A mixture that the target refuses (`Infeasible`), or that fails on every query that good and bad answer, holds one axis's new version
with the old one of another that it needs. Which two is found by two bisections (`Probe`), a trial or so a step. From then on no
mixture has the one without the other, and the search begins anew: what an axis costs is measured where it runs (`Problem.needs`), and
a rollback takes back what cannot run without it. Axes of which each needs the other, and those of a fraction of the cells, become
one unit, for naming and for the rollback. What was answered is told again and costs nothing. All this rests on what can run, never on a
score, so the error budget of the search stands.

`design_search` makes every search, from the user's word for a design: each is wrapped in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from bisect_ai.attribution.designs.factorial import FactorialSearch, FractionalSearch
from bisect_ai.attribution.designs.fractions import MOST_AXES_ADAPTIVE, fraction, fraction_size
from bisect_ai.attribution.problem import Attribution, Belief, Cause, CellValue, Estimate, Outcome, Problem, Search, Trial
from bisect_ai.attribution.search.drill_problem import Probe, Units
from bisect_ai.attribution.stats.sequential import ErrorBudget
from bisect_ai.errors import InputError

FAILURES = 6  # trials of a mixture that must all have failed before it counts as one that cannot run
MOST_LISTED = 6  # axes up to which every mixture that lacks a need is told to the search: 64 cells


class CoupledSearch:
    """A search over units of axes; each axis is its own, and needs no other, until it is seen not to run without.

    `tells_apart`: the design can measure an axis beside another's new version.
    """

    def __init__(self, problem: Problem, make: Callable[[Problem], Search], *, tells_apart: bool = True) -> None:
        self._problem = problem
        self._make = make
        self._tells_apart = tells_apart
        # (axis, axis that it needs), as declared or found.
        self._needs = [(a, b) for c in problem.couplings for a in c for b in c if a != b]
        self._units = Units(problem.k, self._needs)
        self._heard: dict[Trial, Outcome] = {}
        self._runs: dict[int, int] = {}
        # Queries whose call failed, by mixture.
        self._failed: dict[int, set[int]] = {}
        self._order: list[str] = []
        self._probe: Probe | None = None
        self._probing: Trial | None = None
        self._spent = 0
        # What the search of now has asked for, once some are coupled; an answer to one before it is kept until this one asks.
        self._asked: set[Trial] = set()
        # Cells seen to be infeasible, with their trials.
        self._refused: dict[int, int] = {}
        # Trials that a search before this one made on chosen queries.
        self._chosen: set[tuple[int, int]] = set()
        self._search = self._begin()

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round of trials that nothing has answered yet."""
        if self._probe is not None and self._probing is None and (trial := self._next_probe()) is not None:
            self._probing = trial
            self._spent += 1
            return [trial]
        while True:
            asked = self._search.ask(width)
            real = asked if not self._is_coupled else [self._real(t) for t in asked]
            known = [self._heard.get(t) for t in real]
            fresh = [t for t, o in zip(real, known, strict=True) if o is None]
            if len(fresh) < len(real):
                self._search.tell([o._replace(trial=t) for t, o in zip(asked, known, strict=True) if o is not None])
            if fresh or not asked:
                self._spent += len(fresh)
                if self._is_coupled:
                    self._asked.update(fresh)
                return fresh

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back; a mixture that cannot run starts the question which axes it tore apart."""
        refused: list[int] = []
        told: list[Outcome] = []
        for outcome in outcomes:
            self._heard[outcome.trial] = outcome
            self._count(outcome)
            cell = outcome.trial.cell
            if self._cannot_run(cell) and cell not in refused:
                refused.append(cell)
            if outcome.trial == self._probing:
                self._probing = None
                self._hear_probe()
            else:
                told.append(outcome)
        if self._is_coupled:  # an answer to an older search may be of a cell that tears a unit apart
            told = [o._replace(trial=self._unit_trial(o.trial)) for o in told if o.trial in self._asked]
        self._search.tell(told)
        self._look_into(refused)

    def belief(self) -> Belief:
        """What the search over units believes."""
        return self._search.belief()

    def result(self) -> Attribution:
        """The attribution, in axes."""
        found = self._search.result()
        if not self._is_coupled:
            return found
        found = self._in_axes(found)
        none = Estimate(None, None, 0, "cell mean: it cannot run")
        told = {c.cell for c in found.cells}
        apart = tuple(CellValue(c, none, n, 0, "infeasible") for c, n in self._refused.items() if c not in told)
        chosen = found.chosen | (self._chosen - {(t.query, t.cell) for t in self._asked})
        cells = tuple(sorted((*found.cells, *apart), key=lambda c: (c.cell.bit_count(), c.cell)))
        return replace(found, cells=cells, chosen=frozenset(chosen))

    def set_tolerance(self, tolerance: float) -> None:
        """The tolerance, where it is known only once the good release has answered."""
        self._problem = replace(self._problem, tolerance=tolerance)
        self._search.set_tolerance(tolerance)  # type: ignore[attr-defined]  # every design has it

    def lower_budget(self, trials: int) -> None:
        """So many trials fewer may be asked for: they were made elsewhere."""
        self._problem = replace(self._problem, budget=self._problem.budget - trials)
        if (lower := getattr(self._search, "lower_budget", None)) is not None:
            lower(trials)

    @property
    def foreseen(self) -> frozenset[str]:
        """The axes that the search of now will probably name; none while that is open."""
        units: frozenset[int] = getattr(self._search, "foreseen", frozenset())
        return frozenset(self._problem.axes[a] for u in units for a in self._units.members[u])

    @property
    def decided(self) -> int:
        """Trials that the search of now has decided on and not asked for yet."""
        return getattr(self._search, "decided", 0)

    @property
    def named_at(self) -> int | None:
        """Trials asked for when the first axis was named."""
        return getattr(self._search, "named_at", None)

    @property
    def error_budget(self) -> ErrorBudget | None:
        """How the search of now divides alpha; None: it has one test for all."""
        return getattr(self._search, "error_budget", None)

    # -- which axes were torn apart ----------------------------------------------------------------------------------
    def _count(self, outcome: Outcome) -> None:
        cell = outcome.trial.cell
        self._runs[cell] = self._runs.get(cell, 0) + 1
        if outcome.status == "error":
            self._failed.setdefault(cell, set()).add(outcome.trial.query)
        if outcome.status == "infeasible":
            self._refused[cell] = self._refused.get(cell, 0) + 1

    def _failures(self, cell: int) -> int:
        return len(self._failed.get(cell, ()))

    def _own_failures(self, cell: int) -> int:
        """Failures on queries that fail under neither release: a query that fails under one of them says nothing of a mixture."""
        ends = (self._failed.get(c, set()) for c in (0, self._problem.full))
        return len(self._failed.get(cell, set()).difference(*ends))

    def _ends_run(self) -> bool:
        return all(self._runs.get(c, 0) > self._failures(c) for c in (0, self._problem.full))

    def _cannot_run(self, cell: int) -> bool:
        """Whether a mixture was refused, or failed on every query, some of which good and bad answer."""
        if cell in (0, self._problem.full):
            return False
        if cell in self._refused or cell not in self._failed:
            return cell in self._refused
        return self._ends_run() and self._runs.get(cell, 0) == self._failures(cell) and self._own_failures(cell) >= FAILURES

    def _look_into(self, refused: Iterable[int]) -> None:
        """Start the question what the first of these mixtures lacks of which no coupling says why it cannot run."""
        for cell in refused:
            if self._probe is None and self._is_built(cell):
                self._begin_probe(cell)

    def _begin_probe(self, cell: int) -> None:
        order = self._units.shuffled(np.arange(self._units.count), np.random.default_rng([self._problem.seed, cell]))
        self._probe = Probe(self._units.inside(cell), order.tolist())
        self._hear_probe()

    def _next_probe(self) -> Trial | None:
        """The next trial that tells what a refused mixture lacks; None: it is known now, or there is none to be had."""
        while self._probe is not None and self._spent < self._problem.budget:
            cell = self._units.mask(self._probe.units())
            fails = self._failed.get(0, set()) | self._failed.get(self._problem.full, set())
            fresh = (t for q in range(self._problem.queries) if q not in fails and (t := Trial(q, cell)) not in self._heard)
            if self._verdict(cell) is None:
                if (trial := next(fresh, None)) is None:
                    self._probe = None
                return trial
            self._hear_probe()
        return None

    def _verdict(self, cell: int) -> bool | None:
        """Whether a mixture runs; None: not known yet."""
        if cell in (0, self._problem.full) or self._runs.get(cell, 0) > self._failures(cell) + self._refused.get(cell, 0):
            return True
        return False if cell in self._refused or self._own_failures(cell) >= FAILURES else None

    def _hear_probe(self) -> None:
        """Tell the probe what is known; once it has found what needs what, begin anew."""
        while self._probe is not None and self._probe.found is None:
            runs = self._verdict(self._units.mask(self._probe.units()))
            if runs is None:
                return
            self._probe.hear(ran=runs)
        if self._probe is not None and self._probe.found is not None:
            needing, needed = self._probe.found
            self._probe = None
            self._couple(needing, needed)

    def _couple(self, needing: int, needed: int) -> None:
        names = [self._name(u) for u in range(self._units.count)]
        pair = self._units.members[needing][0], self._units.members[needed][0]
        is_one = not self._tells_apart or needing in self._units.needs[needed]
        self._needs += [pair, pair[::-1]] if is_one else [pair]
        if is_one:
            told = f"they are one unit; roll back {names[needing]} first, then {names[needed]}"
        else:
            told = f"what {names[needing]} costs is measured beside the new version"
        self._order.append(f"{names[needed]} cannot run with the old version while {names[needing]} has the new one: {told}")
        self._chosen |= {(q, self._to_axes(c)) for q, c in getattr(self._search, "chosen", ())}
        self._units = Units(self._problem.k, self._needs)
        self._asked.clear()
        self._search = self._begin()
        self._look_into([cell for cell in self._runs if self._cannot_run(cell)])

    # -- units and axes ----------------------------------------------------------------------------------------------
    @property
    def _is_coupled(self) -> bool:
        return bool(self._needs)

    def _begin(self) -> Search:
        if not self._is_coupled:
            return self._make(self._problem)
        p, units = self._problem, self._units
        names = tuple(self._name(u) for u in range(units.count))
        needs = tuple(sum(1 << v for v in needed) for needed in units.needs)
        over = replace(p, axes=names, infeasible=frozenset(), couplings=(), needs=needs if any(needs) else ())
        lacking = {c for c in range(over.full + 1) if not over.runs(c)} if len(names) <= MOST_LISTED else set()
        cannot = {self._to_units(c) for c in (*p.infeasible, *self._refused) if self._is_built(c)}
        return self._make(replace(over, infeasible=frozenset(lacking | cannot)))

    def _name(self, unit: int) -> str:
        return " and ".join(self._problem.axes[a] for a in self._units.members[unit])

    def _is_built(self, cell: int) -> bool:
        """Whether a mixture holds whole units, and all that these need."""
        inside = self._units.inside(cell)
        return self._units.mask(inside) == cell and self._units.closed(set(inside))

    def _to_units(self, cell: int) -> int:
        return sum(1 << u for u in self._units.inside(cell))

    def _to_axes(self, cell: int) -> int:
        return self._units.mask(u for u in range(self._units.count) if cell >> u & 1)

    def _real(self, trial: Trial) -> Trial:
        return trial._replace(cell=self._to_axes(trial.cell))

    def _unit_trial(self, trial: Trial) -> Trial:
        return trial._replace(cell=self._to_units(trial.cell))

    def _in_axes(self, found: Attribution) -> Attribution:
        """What a search over units found, said of axes."""
        parts = {self._name(u): {self._problem.axes[a] for a in own} for u, own in enumerate(self._units.members)}

        def flat(names: Sequence[str]) -> tuple[str, ...]:
            inside = {axis for name in names for axis in parts[name]}
            return tuple(a for a in self._problem.axes if a in inside)

        rollback = found.rollback
        if rollback is not None:
            rollback = replace(
                rollback, axes=flat(rollback.axes), cell=self._to_axes(rollback.cell), along=flat(rollback.along)
            )
        return replace(
            found,
            causes=tuple(self._cause(c, flat) for c in found.causes),
            rollback=rollback,
            keep=flat(found.keep),
            limits=tuple((axis, limit) for name, limit in found.limits for axis in flat([name])),
            effects=tuple(replace(e, axes=flat(e.axes)) for e in found.effects),
            cells=tuple(replace(c, cell=self._to_axes(c.cell)) for c in found.cells),
            chosen=frozenset((q, self._to_axes(c)) for q, c in found.chosen),
            candidates=tuple((flat(axes), belief) for axes, belief in found.candidates),
            notes=(*found.notes, *self._order),
        )

    def _cause(self, cause: Cause, flat: Callable[[Sequence[str]], tuple[str, ...]]) -> Cause:
        """A cause in axes, with those beside which it was measured."""
        axes = flat(cause.axes)
        mode = "unsettled" if cause.mode == "alone" and len(axes) > 1 else cause.mode
        if len(cause.axes) > 1:
            return replace(cause, axes=axes, mode=mode)
        is_unit = len(axes) > 1
        unit = self._units.of(self._problem.axes.index(axes[0]))
        beside = [flat([self._name(u) for u in units]) for units in (self._units.needs[unit], self._units.needed_by[unit])]
        return replace(cause, axes=axes, mode=mode, is_unit=is_unit, beside_new=beside[0], beside_old=beside[1])


def _adaptive_search(problem: Problem) -> Search:
    from bisect_ai.attribution.search.net_search import NetSearch

    return NetSearch(problem)


def _fractional_search(problem: Problem) -> Search:
    """Axes that run only together may leave fewer units than a fraction has."""
    return FractionalSearch(problem) if fraction_size(problem.k) else FactorialSearch(problem)


DESIGNS: dict[str, Callable[[Problem], Search]] = {
    "full": FactorialSearch,
    "adaptive": _adaptive_search,
    "fractional": _fractional_search,
}


def design_search(design: str, problem: Problem) -> Search:
    """A fresh search of the named design. Raises `InputError` for other numbers of axes than it takes."""
    if design == "adaptive" and problem.k > MOST_AXES_ADAPTIVE:
        raise InputError(
            f"design adaptive: {problem.k} axes changed; it takes up to {MOST_AXES_ADAPTIVE}; leave axes out, or put those that always "
            "change together into one axis"
        )
    if design == "fractional" and not fraction_size(problem.k):
        fraction(problem.axes)  # says for how many there is one
    return CoupledSearch(problem, DESIGNS[design], tells_apart=design != "fractional")
