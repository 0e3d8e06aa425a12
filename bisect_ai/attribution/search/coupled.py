"""Axes that cannot run apart are one unit: for naming, and for the rollback.

A mixture that the target refuses (`Infeasible`), or that fails on every query though good and bad answer, holds two axes that do not
run apart: one axis's new version with the other's old one. Which two is found by trying the mixture with one more axis
reverted. The two become one unit, and the search begins anew over units; what was answered is told again and costs nothing. That
decision rests on what can run, never on a score, so the error budget of the search stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bisect_ai.attribution.problem import Attribution, Belief, CellValue, Estimate, Outcome, Problem, Search, Trial

FAILURES = 6  # trials of a mixture that must all have failed before it counts as one that cannot run
Unit = tuple[int, ...]


class CoupledSearch:
    """A search over units of axes; each axis is its own until it is seen not to run without another."""

    def __init__(self, problem: Problem, make: Callable[[Problem], Search]) -> None:
        self._problem = problem
        self._make = make
        self._units: list[Unit] = _merged_units([(a,) for a in range(problem.k)], problem.couplings)
        self._heard: dict[Trial, Outcome] = {}
        self._runs: dict[int, int] = {}
        self._failed: dict[int, int] = {}
        self._order: list[str] = []
        self._probes: list[tuple[int, int, int]] = []
        """(refused axis's unit, other unit, cell) still to be tried."""
        self._out_probes: dict[Trial, tuple[int, int, int]] = {}
        self._spent = 0
        self._asked: set[Trial] = set()
        """What the search over the units of now has asked for; an answer to one before it is kept until this one asks."""
        self._refused: dict[int, int] = {}
        """Cells seen to be infeasible, with their trials."""
        self._search = self._begin()

    # -- the conversation ------------------------------------------------------------------------------------------
    def ask(self, width: int) -> Sequence[Trial]:
        """The next round of trials that nothing has answered yet."""
        if self._probes:
            return self._ask_probe()
        while True:
            asked = self._search.ask(width)
            known = [self._heard[real] for t in asked if (real := self._real(t)) in self._heard]
            fresh = [real for t in asked if (real := self._real(t)) not in self._heard]
            if known:
                self._search.tell([o._replace(trial=t) for t in asked if (o := self._heard.get(self._real(t))) is not None])
            if fresh or not asked:
                self._spent += len(fresh)
                self._asked.update(fresh)
                return fresh

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came back; a mixture that cannot run starts the question which axes it tore apart."""
        refused: list[int] = []
        told: list[Outcome] = []
        for outcome in outcomes:
            self._heard[outcome.trial] = outcome
            probe = self._out_probes.pop(outcome.trial, None)
            if probe is not None:
                self._learn(probe, outcome)
                continue
            cell = outcome.trial.cell
            self._runs[cell] = self._runs.get(cell, 0) + 1
            self._failed[cell] = self._failed.get(cell, 0) + (outcome.status == "error")
            if outcome.status == "infeasible":
                self._refused[cell] = self._refused.get(cell, 0) + 1
            if self._cannot_run(cell, outcome) and cell not in refused:
                refused.append(cell)
            told.append(outcome)
        if self._is_coupled:  # an answer to an older search may be of a cell that tears a unit apart
            told = [outcome for outcome in told if outcome.trial in self._asked]
        self._search.tell([outcome._replace(trial=self._unit_trial(outcome.trial)) for outcome in told])
        for cell in refused:
            if self._is_whole(cell):
                self._question(cell)

    def belief(self) -> Belief:
        """What the search over units believes."""
        return self._search.belief()

    def result(self) -> Attribution:
        """The attribution, in axes."""
        found = self._search.result()
        if not self._is_coupled:
            return found
        found = _in_axes(found, self._problem, self._units, tuple(self._order))
        none = Estimate(None, None, 0, "cell mean: it cannot run")
        apart = tuple(CellValue(c, none, n, 0, "infeasible") for c, n in self._refused.items() if not self._is_whole(c))
        return replace(found, cells=tuple(sorted((*found.cells, *apart), key=lambda c: (c.cell.bit_count(), c.cell))))

    def set_tolerance(self, tolerance: float) -> None:
        """The tolerance, where it is known only once the good release has answered."""
        self._problem = replace(self._problem, tolerance=tolerance)
        self._search.set_tolerance(tolerance)  # type: ignore[attr-defined]  # every design has it

    @property
    def named_at(self) -> int | None:
        """Trials asked for when the first axis was named."""
        return getattr(self._search, "named_at", None)

    # -- which axes were torn apart ----------------------------------------------------------------------------------
    def _cannot_run(self, cell: int, outcome: Outcome) -> bool:
        if cell in (0, self._problem.full):
            return False
        if outcome.status == "infeasible":
            return True
        ends_run = all(self._runs.get(c, 0) > self._failed.get(c, 0) for c in (0, self._problem.full))
        return ends_run and self._runs[cell] == self._failed[cell] == FAILURES

    def _question(self, cell: int) -> None:
        """Try the refused mixture with each other unit reverted too, when a single unit was."""
        good = [i for i, unit in enumerate(self._units) if not cell >> unit[0] & 1]
        if len(good) != 1 or any(p[0] == good[0] for p in self._probes):
            return
        others = [i for i in range(len(self._units)) if i != good[0]]
        self._probes += [(good[0], i, cell & ~_unit_mask(self._units[i])) for i in others if cell & ~_unit_mask(self._units[i])]

    def _ask_probe(self) -> Sequence[Trial]:
        refused, other, cell = self._probes.pop(0)
        for query in range(self._problem.queries):
            trial = Trial(query, cell)
            if trial not in self._heard:
                if self._spent >= self._problem.budget:
                    break
                self._out_probes[trial] = (refused, other, cell)
                self._spent += 1
                return [trial]
            if self._heard[trial].status == "ok":
                self._couple(refused, other)
                break
        return self.ask(1)

    def _learn(self, probe: tuple[int, int, int], outcome: Outcome) -> None:
        if outcome.status == "ok":
            self._couple(probe[0], probe[1])

    def _couple(self, refused: int, other: int) -> None:
        first, second = (_unit_name(self._units[unit], self._problem) for unit in (other, refused))
        self._order.append(
            f"{second} cannot run with the old version while {first} has the new one: they are one unit; "
            f"roll back {first} first, then {second}"
        )
        self._units = _merged_units(self._units, [(*self._units[other], *self._units[refused])])
        self._probes.clear()
        self._asked.clear()
        self._search = self._begin()

    # -- units and axes ----------------------------------------------------------------------------------------------
    @property
    def _is_coupled(self) -> bool:
        return len(self._units) < self._problem.k

    def _begin(self) -> Search:
        if not self._is_coupled:
            return self._make(self._problem)
        p = self._problem
        units = tuple(_unit_name(unit, p) for unit in self._units)
        cannot = frozenset(self._to_units(c) for c in p.infeasible if self._is_whole(c))
        return self._make(replace(p, axes=units, infeasible=cannot, couplings=()))

    def _is_whole(self, cell: int) -> bool:
        return all(cell & _unit_mask(u) in (0, _unit_mask(u)) for u in self._units)

    def _to_units(self, cell: int) -> int:
        return sum(1 << i for i, unit in enumerate(self._units) if cell >> unit[0] & 1)

    def _real(self, trial: Trial) -> Trial:
        if not self._is_coupled:
            return trial
        return trial._replace(cell=_to_axes(trial.cell, self._units))

    def _unit_trial(self, trial: Trial) -> Trial:
        return trial._replace(cell=self._to_units(trial.cell)) if self._is_coupled else trial


def _unit_mask(axes: Unit) -> int:
    return sum(1 << a for a in axes)


def _unit_name(unit: Unit, problem: Problem) -> str:
    return " and ".join(problem.axes[a] for a in sorted(unit))


def _merged_units(units: list[Unit], couplings: Sequence[Sequence[int]]) -> list[Unit]:
    """Units after every coupling has made one of those that it touches."""
    for coupling in couplings:
        touched = [u for u in units if set(u) & set(coupling)]
        whole = tuple(sorted({a for u in touched for a in u}))
        units = sorted([u for u in units if u not in touched] + [whole])
    return units


def _to_axes(cell: int, units: Sequence[Unit]) -> int:
    return sum(_unit_mask(unit) for i, unit in enumerate(units) if cell >> i & 1)


def _in_axes(found: Attribution, problem: Problem, units: Sequence[Unit], notes: tuple[str, ...]) -> Attribution:
    """What a search over units found, said of axes."""
    parts = {_unit_name(unit, problem): tuple(problem.axes[a] for a in unit) for unit in units}

    def flat(names: Sequence[str]) -> tuple[str, ...]:
        inside = {axis for name in names for axis in parts[name]}
        return tuple(a for a in problem.axes if a in inside)

    rollback = found.rollback
    if rollback is not None:
        rollback = replace(rollback, axes=flat(rollback.axes), cell=_to_axes(rollback.cell, units))
    cells: tuple[CellValue, ...] = tuple(replace(c, cell=_to_axes(c.cell, units)) for c in found.cells)
    return replace(
        found,
        causes=tuple(
            replace(c, axes=flat(c.axes), mode="unsettled" if c.mode == "alone" and len(flat(c.axes)) > 1 else c.mode)
            for c in found.causes
        ),
        rollback=rollback,
        keep=flat(found.keep),
        effects=tuple(replace(e, axes=flat(e.axes)) for e in found.effects),
        cells=cells,
        candidates=tuple((flat(axes), belief) for axes, belief in found.candidates),
        notes=(*found.notes, *notes),
    )
