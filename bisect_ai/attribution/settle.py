"""The attribution that the base sample and the measured rollback add up to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from bisect_ai.attribution import contrasts
from bisect_ai.attribution.estimate import Sample
from bisect_ai.attribution.findings import cell_mean, effects, ratio
from bisect_ai.attribution.inference import ScoreTable
from bisect_ai.attribution.looks import boundary, looks_within
from bisect_ai.attribution.measurement import Measurement
from bisect_ai.attribution.naming import Structure, names
from bisect_ai.attribution.problem import (
    Attribution,
    Cause,
    CellValue,
    Effect,
    Estimate,
    Problem,
    Rollback,
)
from bisect_ai.attribution.response import Rule


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
    notes = ["inner cells ran on chosen queries only: no population value"] if len(values) > 2 and table is None else []
    if settled == "cause" and structure is not None and measured is not None:
        named = structure.axes
        rollback, share = _rollback(problem, sample, measured)
        along = measured.back - named
        if along:
            axes = ", ".join(names(along, problem.axes))
            notes.append(f"the rollback also reverts {axes}: no allowed rollback without it is trusted to bring the loss back")
        known = {m.cell: m.estimate(sample) for m in (*shares.values(), measured)}
        values = tuple(replace(v, estimate=known.get(v.cell, v.estimate)) for v in values)
        return Attribution(
            "cause",
            loss,
            good,
            bad,
            causes=_causes(problem, sample, structure, share, shares, table),
            rollback=rollback,
            keep=names([a for a in range(problem.k) if a not in named | measured.back], problem.axes),
            effects=effects(problem, table) if table else _effects(problem, sample, [*shares.values(), measured]),
            cells=values,
            reason=f"the evidence on {', '.join(names(named, problem.axes))} passed its bound, and the rollback was measured",
            notes=tuple(notes),
        )
    kind: Literal["no_regression", "inconclusive"] = "no_regression" if settled == "no_regression" else "inconclusive"
    unsure = () if kind == "no_regression" else tuple((names(s, problem.axes), b) for s, b in suspicion)
    call = needed if kind == "inconclusive" else None
    return Attribution(
        kind, loss, good, bad, cells=values, candidates=unsure, calls_needed=call, reason=_reason(settled), notes=tuple(notes)
    )


def _reason(settled: str) -> str:
    return {
        "no_regression": "the loss is below the tolerance",
        "corner": "the good or the bad release cannot run, so there is no loss to explain",
        "spent": "the budget ended before the evidence was in",
        "futile": "no axis is suspect, the loss looks small, and showing that it is below the tolerance would take several budgets",
        "exhausted": "every trial that could tell more was made: more needs more queries (a larger log.sample, or a longer log)",
        "stopped": "the search was stopped before it was settled",
    }.get(settled, settled)


def _rollback(problem: Problem, sample: Sample, measured: Measurement) -> tuple[Rollback, Estimate]:
    share = measured.share(sample, "the rollback")
    back = names(measured.back, problem.axes)
    return Rollback(back, measured.cell, measured.estimate(sample), share.value), share


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
            part = shares[rule].share(sample, f"reverting {reverted} alone")
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
