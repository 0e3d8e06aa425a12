"""The base sample as it grows, the measured rollback, and the attribution that they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bisect_ai.attribution import contrasts
from bisect_ai.attribution.estimate import Sample, ratio_interval, two_phase
from bisect_ai.attribution.findings import cell_mean, effects, ratio
from bisect_ai.attribution.inference import ScoreTable
from bisect_ai.attribution.looks import boundary, looks_within
from bisect_ai.attribution.naming import Structure, names
from bisect_ai.attribution.problem import (
    Attribution,
    Cause,
    CellValue,
    Effect,
    Estimate,
    Floats,
    Ints,
    Problem,
    Rollback,
    Trial,
)
from bisect_ai.attribution.response import Rule
from bisect_ai.attribution.verdicts import Verdicts


class Base:
    """The queries run under good and under bad: a growing prefix of the sample, which comes in random order."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.asked = 0
        self.heard = 0
        self.verdicts = Verdicts()
        """Of the judge, if one gives the scores."""
        self._scores = np.full((2, problem.queries), np.nan)
        self._answers = bytearray(problem.queries)
        self._values: set[float] = set()
        self._next_look = 32
        self._end = problem.queries
        self._known: Sample | None = None
        self._lot = np.random.default_rng([problem.seed, 4]).random(problem.queries)

    def ask(self, queries: int) -> list[Trial]:
        """Both corner trials of the next `queries` queries."""
        stop = min(self.asked + max(queries, 0), self._end)
        trials = [Trial(q, c) for q in range(self.asked, stop) for c in (0, self._problem.full)]
        self.asked = stop
        return trials

    def set_aside(self, queries: int) -> Ints:
        """Queries from the end of the sample, for other use: the base sample won't have them."""
        self._known, start = None, max(self._end - queries, self.asked)
        self._end, taken = start, np.arange(start, self._end)
        return taken

    @property
    def left(self) -> int:
        """Queries that have not been run."""
        return self._end - self.asked

    @property
    def aside(self) -> Ints:
        """The queries that were set aside."""
        return np.arange(self._end, self._problem.queries)

    def hear_aside(self, trial: Trial, score: float) -> None:
        """An inner trial's score: where chance put a query that was set aside under good and bad, it joins the sample."""
        self._known = None
        if trial.query >= self._end and trial.cell in (0, self._problem.full):
            self._scores[int(trial.cell != 0), trial.query] = score

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
        if not math.isnan(score) and len(self._values) < 3:
            self._known = None
            self._values.add(score)

    @property
    def exhausted(self) -> bool:
        """Whether every query was asked for."""
        return self.asked >= self._end

    @property
    def binary(self) -> bool:
        """Whether all scores so far take two values at most."""
        return len(self._values) <= 2

    @property
    def lowest(self) -> float:
        """The smaller of two scores."""
        return min(self._values)

    def look(self) -> bool:
        """Whether the sample has grown enough for another look at the loss."""
        queries = self.sample().n
        if queries < self._next_look:
            return False
        self._next_look = math.ceil(1.5 * queries)
        return True

    def complete(self, start: int) -> tuple[Ints, Floats, Floats]:
        """Queries from `start` on with both scores, and these scores."""
        good, bad = self._scores[:, start : self.heard]
        both = np.flatnonzero(~np.isnan(good) & ~np.isnan(bad))
        return both + start, good[both], bad[both]

    def sample(self) -> Sample:
        """The complete pairs so far."""
        self._known = self._known or self._sample()
        return self._known

    def _sample(self) -> Sample:
        queries, good, bad = self.complete(0)
        if self._end < self._problem.queries:
            aside = self._scores[:, self._end :]
            both = np.flatnonzero(~np.isnan(aside).any(0))
            queries = np.concatenate([queries, both + self._end])
            good, bad = np.concatenate([good, aside[0, both]]), np.concatenate([bad, aside[1, both]])
        p = self._problem
        weights = np.ones(len(queries)) if p.weights is None else p.weights[queries]
        clusters = queries if p.clusters is None else p.clusters[queries]
        population = math.inf if p.population is None else float(p.population)
        return Sample(queries, good, bad, weights, clusters, population, None, self.binary)

    def subsample(self, left: int, times: int = 1) -> Ints:
        """A random part of every stratum of the sample: what a further cell is measured on; larger ones hold smaller ones."""
        by_lot = self.by_lot()
        return np.concatenate([by_lot[h][: max(times * size, 1)] for h, size in self.sizes(self.sample(), left).items()])

    def by_lot(self) -> dict[int, Ints]:
        """The sample's queries by stratum, in the order of a lot drawn before the first trial."""
        sample = self.sample()
        order = np.argsort(self._lot[sample.queries])
        strata = sample.strata[order]
        return {int(h): sample.queries[order[strata == h]] for h in np.unique(strata)}

    def sizes(self, sample: Sample, left: int) -> dict[int, int]:
        """Trials per stratum: enough that the error they add is a third of the loss, in proportion to size times spread.

        The shares of passes that the spreads are guessed from are those expected when most of the loss comes back.
        """
        if not sample.binary:
            return {0: min(40, left)}
        shares = np.bincount(sample.strata, sample.share, minlength=4)
        loss = max(sample.mean(sample.good - sample.bad)[0] / sample.reach, 0.02)
        spread = np.sqrt(np.array([0.1, 0.15, 0.15, max(shares[1] / 2, 0.01)]))
        wanted = shares * spread * (shares * spread).sum() / (0.33 * loss) ** 2
        sizes = np.maximum(wanted, [4, 4, 12, 12])
        sizes *= min(1.0, left / sizes.sum())
        return {h: int(sizes[h]) for h in range(4) if shares[h] > 0}


@dataclass(frozen=True)
class Measurement:
    """A rollback and its cell, the queries that it is measured on, and their scores once they are in."""

    back: frozenset[int]
    cell: int
    queries: Ints
    scores: Floats | None = None

    def with_scores(self, scores: dict[tuple[int, int], float]) -> Measurement:
        """The measurement with what came back; NaN where there is no score."""
        found = np.array([scores.get((int(q), self.cell), math.nan) for q in self.queries])
        return replace(self, scores=found)

    def value(self, sample: Sample) -> tuple[float, Floats] | None:
        """The cell's population value and the influences of the sample's queries; None when a stratum has no score."""
        if self.cell == 0:
            return sample.mean(sample.good)
        scores = np.full(sample.n, np.nan)
        assert self.scores is not None
        scores[np.searchsorted(sample.queries, self.queries)] = self.scores
        if sample.binary:
            return two_phase(sample, sample.strata, scores)
        found = two_phase(sample, sample.strata, scores - sample.bad)
        value, influence = sample.mean(sample.bad)
        return None if found is None else (found[0] + value, found[1] + influence)

    def ran(self, sample: Sample) -> int:
        """Queries with a score in the cell."""
        return sample.n if self.scores is None or self.cell == 0 else int((~np.isnan(self.scores)).sum())

    def unit(self, sample: Sample) -> float:
        """The part of the value that rests on one answer, the most."""
        if self.cell == 0 or self.scores is None or not sample.binary:
            return 0.0
        ran = np.isin(sample.queries, self.queries[~np.isnan(self.scores)])
        mass = np.bincount(sample.strata, sample.share, minlength=4)
        return float((mass / np.maximum(np.bincount(sample.strata[ran], minlength=4), 1)).max())

    def restores(self, sample: Sample) -> tuple[float, tuple[float, float] | None] | None:
        """The share of the loss that the cell brings back, with Fieller's interval."""
        found = self.value(sample)
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        if found is None or loss <= 0:
            return None
        moved = found[1] - other
        return (found[0] - bad) / loss, ratio_interval(sample, found[0] - bad, loss, moved, base)

    def restores_enough(self, sample: Sample) -> bool:
        """Whether some of the loss came back, and 80 % of it cannot be ruled out."""
        found = self.value(sample)
        if found is None:
            return False
        loss, base = sample.mean(sample.good - sample.bad)
        bad, other = sample.mean(sample.bad)
        moved, influence = found[0] - bad, found[1] - other
        error, _ = sample.error(influence - 0.8 * base)
        floor = 0.2 * loss if sample.binary else -sample.error(influence)[0]
        return moved >= floor and moved - 0.8 * loss >= -2 * error


def loss_boundary(problem: Problem) -> float:
    """How many standard errors the loss must be away, at any look, from what is claimed that it is not."""
    return boundary(looks_within(problem.budget / 2), problem.alpha)


def loss_sequence(sample: Sample) -> Estimate:
    """The loss with an interval that holds at every look (asymptotic confidence sequence, Waudby-Smith et al. 2024)."""
    if sample.n < 8:
        return Estimate(None, None, sample.n, "loss: fewer than eight queries with both scores")
    value, influence = sample.mean(sample.good - sample.bad)
    error, _ = sample.error(influence)
    tuning = 32 / sample.n
    half = error * math.sqrt((1 + tuning) * math.log((1 + 1 / tuning) / 0.05**2))
    return Estimate(value, (value - half, value + half), sample.n, "loss, paired by query, 95 % confidence sequence")


def attribution(
    problem: Problem,
    sample: Sample,
    *,
    settled: str,
    structure: Structure | None,
    measured: Measurement | None,
    shares: dict[Rule, Measurement],
    table: ScoreTable | None,
    suspicion: list[tuple[frozenset[int], float]],
    needed: int | None,
    cells: tuple[dict[int, int], dict[int, int], frozenset[int]],
) -> Attribution:
    """What the search ends with."""
    stretch = loss_boundary(problem) / 1.96 if settled == "no_regression" else 1.0
    loss = sample.estimate(sample.good - sample.bad, "loss, paired by query", trials=2, stretch=stretch)
    good = sample.estimate(sample.good, "good release", trials=1)
    bad = sample.estimate(sample.bad, "bad release", trials=1)
    values = _cell_values(problem, good, bad, cells, table)
    notes = ("inner cells ran on chosen queries only: no population value",) if len(values) > 2 and table is None else ()
    if settled == "cause" and structure is not None and measured is not None:
        named = structure.axes
        rollback, share = _rollback(problem, sample, measured)
        known = {m.cell: _value(sample, m) for m in (*shares.values(), measured)}
        values = tuple(replace(v, estimate=known.get(v.cell, v.estimate)) for v in values)
        return Attribution(
            "cause",
            loss,
            good,
            bad,
            causes=_causes(problem, sample, structure, share, shares, table),
            rollback=rollback,
            keep=names([a for a in range(problem.k) if a not in named], problem.axes),
            effects=effects(problem, table) if table else _effects(problem, sample, [*shares.values(), measured]),
            cells=values,
            reason=f"the evidence on {', '.join(names(named, problem.axes))} passed its bound, and the rollback was measured",
            notes=notes,
        )
    kind: Literal["no_regression", "inconclusive"] = "no_regression" if settled == "no_regression" else "inconclusive"
    unsure = () if kind == "no_regression" else tuple((names(s, problem.axes), b) for s, b in suspicion)
    call = needed if kind == "inconclusive" else None
    return Attribution(
        kind, loss, good, bad, cells=values, candidates=unsure, calls_needed=call, reason=_reason(settled), notes=notes
    )


def _reason(settled: str) -> str:
    return {
        "no_regression": "the loss is below the tolerance",
        "corner": "the good or the bad release cannot run, so there is no loss to explain",
        "spent": "the budget ended before the evidence was in",
        "futile": "no axis is suspect, the loss looks small, and showing that it is below the tolerance would take several budgets",
        "exhausted": "every trial that could tell more was made",
        "stopped": "the search was stopped before it was settled",
    }.get(settled, settled)


def _value(sample: Sample, measured: Measurement) -> Estimate:
    found = measured.value(sample)
    if found is None:
        return Estimate(None, None, 0, "double sampling: a stratum has no score")
    interval = sample.interval(*found, unit=measured.unit(sample))
    return Estimate(found[0], interval, measured.ran(sample), "double sampling for stratification, 95 % t interval")


def _restored(sample: Sample, measured: Measurement, what: str) -> Estimate:
    """The part of the loss that a measured cell brings back."""
    restored, interval = measured.restores(sample) or (None, None)
    how = f"restored by {what}, of the loss; Fieller 95 % interval"
    if restored is None:
        how = f"restored by {what}: undefined, the estimate of the loss is not positive"
    elif interval is None:
        how += ": not bounded, the loss is too uncertain"
    return Estimate(restored, interval, measured.ran(sample), how)


def _rollback(problem: Problem, sample: Sample, measured: Measurement) -> tuple[Rollback, Estimate]:
    share = _restored(sample, measured, "the rollback")
    back = names(measured.back, problem.axes)
    return Rollback(back, measured.cell, _value(sample, measured), share.value), share


def _causes(
    problem: Problem,
    sample: Sample,
    structure: Structure,
    share: Estimate,
    shares: dict[Rule, Measurement],
    table: ScoreTable | None,
) -> tuple[Cause, ...]:
    """A single cause has the rollback's share; of several, each that of its own reversion, or of its axes' Shapley values."""
    if len(structure.rules) == 1:
        return (Cause(names(structure.rules[0].axes, problem.axes), structure.rules[0].mode, share),)
    found = []
    for rule, weight in zip(structure.rules, structure.weights, strict=True):
        part = Estimate(None, None, 0, "share: not measured for want of calls; the rollback restores the causes together")
        if table is not None:
            part = _shapley_share(problem, table, structure, rule, weight)
        elif rule in shares:
            reverted = " + ".join(names(shares[rule].back, problem.axes))
            part = _restored(sample, shares[rule], f"reverting {reverted} alone")
        found.append(Cause(names(rule.axes, problem.axes), rule.mode, part))
    return tuple(found)


def _shapley_share(problem: Problem, table: ScoreTable, structure: Structure, rule: Rule, weight: float) -> Estimate:
    """The rule's axes' Shapley values over the loss; an axis in several rules is split by their weights."""
    part = np.zeros(problem.full + 1)
    for axis in rule.axes:
        total = sum(w for r, w in zip(structure.rules, structure.weights, strict=True) if axis in r.axes)
        part += contrasts.shapley(problem.k, axis) * (weight / total)
    return ratio(table, part, contrasts.loss(problem.k), what="Shapley share over loss")


def _effects(problem: Problem, sample: Sample, measured: list[Measurement]) -> tuple[Effect, ...]:
    """The measured reversions of one axis; other effects would need cells that the search did not sample."""
    found = {}
    for m in measured:
        value = m.value(sample)
        if len(m.back) == 1 and value is not None:
            bad, influence = sample.mean(sample.bad)
            interval = sample.interval(value[0] - bad, value[1] - influence, unit=m.unit(sample))
            estimate = Estimate(value[0] - bad, interval, sample.n, "reverted alone, double sampling, 95 % t interval")
            found[m.back] = Effect(names(m.back, problem.axes), "reverted", estimate, None)
    return tuple(found.values())


def _cell_values(
    problem: Problem,
    good: Estimate,
    bad: Estimate,
    cells: tuple[dict[int, int], dict[int, int], frozenset[int]],
    table: ScoreTable | None,
) -> tuple[CellValue, ...]:
    runs, errors, infeasible = cells
    inner = {} if table is None else {c: cell_mean(problem, table, c) for c in runs}
    known = {**inner, 0: good, problem.full: bad}
    missing = Estimate(None, None, 0, "ran on chosen queries only")
    return tuple(
        CellValue(c, known.get(c, missing), runs.get(c, 0), errors.get(c, 0), "infeasible" if c in infeasible else "run")
        for c in sorted(set(runs) | infeasible)
    )
