"""The verdict of a factorial design, by a rule fixed beforehand.

1. The loss's interval lies below the tolerance: `no_regression`.
2. An axis is guilty when its main effect (averaged over all settings of the others) costs quality, two-sided p < alpha / 2 after
   Holm over all axes (the other half of alpha is the loss's), and a rule over the guilty axes (structure.py) that names it costs
   at least the tolerance. With such a rule, and a loss above the tolerance by the design's best estimate: `cause`. The rules
   give modes and rollback.
3. Else `inconclusive`, with the candidates and the calls that would settle it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution import contrasts
from bisect_ai.attribution.inference import Fit, ScoreTable, estimate, holm
from bisect_ai.attribution.problem import (
    RESTORED,
    Attribution,
    Cause,
    CellValue,
    Effect,
    EffectKind,
    Estimate,
    Floats,
    Problem,
    Rollback,
)
from bisect_ai.attribution.quantiles import z_quantile
from bisect_ai.attribution.structure import Rule, explain, names_of, smallest_rollback

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Main:
    """An axis's main effect; `fit` is None when the cells that ran cannot tell it."""

    axis: int
    contrast: Floats | None
    fit: Fit | None
    p_adjusted: float | None


def settled_without_cells(problem: Problem, table: ScoreTable) -> bool:
    """Whether good and bad alone already show that the loss is below the tolerance."""
    fit = table.fit(contrasts.loss(problem.k))
    return fit is not None and fit.interval()[1] < problem.tolerance


def conclude(
    problem: Problem, table: ScoreTable, *, trials: Counts, errors: Counts, infeasible: frozenset[int], planned: int
) -> Attribution:
    """The attribution of a (full or fractional) factorial design's table of scores."""
    k = problem.k
    loss = estimate(table, contrasts.loss(k), what="loss")
    corners = [cell_mean(problem, table, cell) for cell in (0, problem.full)]
    mains = _mains(problem, table)
    shared = {
        "loss": loss,
        "good": corners[0],
        "bad": corners[1],
        "effects": effects(problem, table),
        "cells": tuple(_cells(problem, table, trials, errors, infeasible)),
        "notes": tuple(_notes(problem, table, infeasible)),
    }
    if loss.interval is not None and loss.interval[1] < problem.tolerance:
        reason = f"the loss's 95 % interval lies below the tolerance of {problem.tolerance:g}"
        return Attribution("no_regression", keep=problem.axes, reason=reason, **shared)  # type: ignore[arg-type]  # one dict for three returns
    guilty = _guilty(problem, mains)
    rules = _rules(problem, table, guilty)
    if rules and max(sum(r.weight for r in rules), loss.value or 0.0) >= problem.tolerance and _net(problem, mains, loss):
        return _cause(problem, table, rules, shared)
    return _inconclusive(problem, table, mains, planned, shared)


def _mains(problem: Problem, table: ScoreTable) -> list[Main]:
    vectors = [factorial_contrast(problem.k, (a,), table.mass > 0) for a in range(problem.k)]
    fits = [None if c is None else table.fit(c) for c in vectors]
    known = [f for f in fits if f is not None]
    adjusted = iter(holm([f.p for f in known]))
    rows = zip(vectors, fits, strict=True)
    return [Main(a, c, f, None if f is None else next(adjusted)) for a, (c, f) in enumerate(rows)]


def factorial_contrast(k: int, axes: Sequence[int], ran: NDArray[np.bool_]) -> Floats | None:
    """(2^k,) the interaction of `axes` (one: main effect) from the cells that ran; None when it is aliased.

    With all cells it is the plain factorial contrast. With some missing it comes from the least-squares fit of main effects and
    pairs, which takes higher interactions as absent.
    """
    if ran.all():
        return contrasts.interaction(k, axes)
    terms = [(), *contrasts.subsets(k, largest=2)]
    wanted = tuple(axes)
    if wanted not in terms or not ran.any():
        return None
    cells = np.flatnonzero(ran)
    model = np.array([[_sign(int(cell), term) for term in terms] for cell in cells])
    inverse = np.linalg.pinv(model)
    column = terms.index(wanted)
    resolved = inverse @ model
    if not np.allclose(resolved[column], np.eye(len(terms))[column], atol=1e-8):
        return None
    c = np.zeros(1 << k)
    c[cells] = -inverse[column] * 2 ** len(wanted)
    return c


def _sign(cell: int, term: Sequence[int]) -> float:
    return float(np.prod([1.0 if cell >> a & 1 else -1.0 for a in term])) if term else 1.0


def _guilty(problem: Problem, mains: list[Main]) -> list[int]:
    least = (
        problem.tolerance / 4
    )  # a pair that breaks only jointly shows half of its loss in each main effect, a triple a quarter
    return [
        m.axis
        for m in mains
        if m.fit is not None and m.p_adjusted is not None and m.p_adjusted < problem.alpha / 2 and m.fit.value > least
    ]


def _net(problem: Problem, mains: list[Main], loss: Estimate) -> bool:
    """Whether the release as a whole loses more than the tolerance, by the better of two estimates."""
    if loss.value is not None and loss.value >= problem.tolerance:
        return True
    sizes = [m.fit.value for m in mains if m.fit is not None and m.p_adjusted is not None and m.p_adjusted < problem.alpha]
    return sum(sizes) >= problem.tolerance


def _collapsed(problem: Problem, table: ScoreTable, guilty: list[int]) -> Floats | None:
    """(2^g, 2^k) contrasts: loss of each cell over the guilty axes, averaged over the settings of all others that ran."""
    ran = table.mass > 0
    inside = contrasts.mask(guilty)
    rows = np.zeros((1 << len(guilty), 1 << problem.k))
    for cell in np.flatnonzero(ran):
        small = sum(1 << i for i, a in enumerate(guilty) if cell & inside & (1 << a))
        rows[small, cell] = 1.0
    totals = rows.sum(1, keepdims=True)
    if (totals == 0).any():
        return None
    means = rows / totals
    return np.asarray(means[0] - means)


def _rules(problem: Problem, table: ScoreTable, guilty: list[int]) -> list[Rule]:
    if not guilty:
        return []
    rows = _collapsed(problem, table, guilty)
    if rows is None:
        return [Rule((a,), "alone", 0.0) for a in guilty]
    found = explain(rows @ np.nan_to_num(table.means), table.covariance(rows), queries=len(table.scores))
    rules = [Rule(tuple(guilty[i] for i in r.axes), r.mode, r.weight) for r in found]
    return [r for r in rules if r.weight >= problem.tolerance]


def _cause(problem: Problem, table: ScoreTable, rules: list[Rule], shared: dict[str, object]) -> Attribution:
    named = {a for r in rules for a in r.axes}
    causes = tuple(Cause(tuple(problem.axes[a] for a in r.axes), r.mode, _share(problem, table, rules, r)) for r in rules)
    return Attribution(
        "cause",
        causes=causes,
        rollback=_rollback(problem, table, rules),
        keep=tuple(a for i, a in enumerate(problem.axes) if i not in named),
        reason="main effects that cost quality after Holm's correction over all axes",
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _share(problem: Problem, table: ScoreTable, rules: list[Rule], rule: Rule) -> Estimate:
    """The rule's axes' Shapley shares over the loss (an axis in several rules is split by their weights), by the delta method."""
    whole = contrasts.loss(problem.k)
    part = np.zeros_like(whole)
    for axis in rule.axes:
        weights = {r: r.weight for r in rules if axis in r.axes}
        part += contrasts.shapley(problem.k, axis) * (rule.weight / sum(weights.values()) if sum(weights.values()) else 1.0)
    return ratio(table, part, whole, what="Shapley share over loss")


def ratio(table: ScoreTable, part: Floats, whole: Floats, *, what: str) -> Estimate:
    """part / whole with an interval by the delta method; undefined when a cell is missing or the whole may well be 0."""
    fits = table.fit(part), table.fit(whole)
    if fits[0] is None or fits[1] is None:
        return Estimate(None, None, 0, f"{what}: not estimated, a cell that it needs has no score")
    if abs(fits[1].value) <= 2 * fits[1].error or fits[1].value == 0:
        return Estimate(None, None, fits[1].queries, f"{what}: not estimated, the loss is too uncertain to divide by")
    share = fits[0].value / fits[1].value
    spread = table.fit(part - share * whole)
    error = 0.0 if spread is None else spread.error / abs(fits[1].value)
    low, high = Fit(share, error, fits[1].freedom, fits[1].queries).interval()
    return Estimate(share, (low, high), fits[1].queries, f"{what}, paired by query, 95 % delta-method t interval")


def _rollback(problem: Problem, table: ScoreTable, rules: list[Rule]) -> Rollback | None:
    ran = {problem.full & ~int(c) for c in np.flatnonzero(table.mass > 0)}
    back = smallest_rollback(rules, restored=RESTORED, allowed=ran)
    if not back:
        return None
    cell = problem.full & ~contrasts.mask(back)
    value = cell_mean(problem, table, cell)
    lost = table.means[0] - table.means[problem.full]
    restores = None if lost <= 0 else float((table.means[cell] - table.means[problem.full]) / lost)
    return Rollback(names_of(contrasts.mask(back), problem.axes), cell, value, restores)


def _inconclusive(
    problem: Problem, table: ScoreTable, mains: list[Main], planned: int, shared: dict[str, object]
) -> Attribution:
    suspects = sorted((m for m in mains if m.fit is not None and m.fit.value > 0), key=lambda m: m.p_adjusted or 0.0)
    loss = table.fit(contrasts.loss(problem.k))
    return Attribution(
        "inconclusive",
        candidates=tuple(((problem.axes[m.axis],), 1 - (m.p_adjusted or 0.0)) for m in suspects),
        calls_needed=_calls_needed(problem, loss, suspects, planned, len(table.scores)),
        reason="no axis costs quality beyond doubt, and the loss is not shown to be below the tolerance",
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _calls_needed(problem: Problem, loss: Fit | None, suspects: list[Main], planned: int, queries: int) -> int | None:
    """Calls beyond this run's for the likelier way out: the strongest suspect proven, or the loss shown below tolerance."""
    factors = []
    z = z_quantile(1 - problem.alpha / (4 * problem.k)) + 0.84  # 80 % power
    for main in suspects[:1]:
        if main.fit is not None and main.fit.error > 0 and main.fit.value >= problem.tolerance / 2:
            factors.append((z * main.fit.error / main.fit.value) ** 2)
    if loss is not None and loss.error > 0 and loss.value < problem.tolerance:
        factors.append((1.96 * loss.error / (problem.tolerance - loss.value)) ** 2)
    needed = [f for f in factors if math.isfinite(f) and f > 1]
    return math.ceil((min(needed) - 1) * queries) * planned if needed else None


def effects(problem: Problem, table: ScoreTable) -> tuple[Effect, ...]:
    """Introduced, reverted and Shapley for each axis, then the interactions; each kind is one family for Holm."""
    families: list[tuple[EffectKind, list[tuple[tuple[int, ...], Floats | None]]]] = [
        ("introduced", [((a,), contrasts.introduced(problem.k, a)) for a in range(problem.k)]),
        ("reverted", [((a,), contrasts.reverted(problem.k, a)) for a in range(problem.k)]),
        ("shapley", [((a,), contrasts.shapley(problem.k, a)) for a in range(problem.k)]),
        (
            "interaction",
            [(s, factorial_contrast(problem.k, s, table.mass > 0)) for s in contrasts.subsets(problem.k, smallest=2)],
        ),
    ]
    return tuple(effect for kind, members in families for effect in _family(problem, table, kind, members))


_WORDS: dict[EffectKind, str] = {
    "introduced": "v(good) - v(this axis bad)",
    "reverted": "v(all but this axis bad) - v(bad)",
    "shapley": "Shapley share of the loss",
    "interaction": "difference of differences, averaged over the other axes",
}


def _family(
    problem: Problem, table: ScoreTable, kind: EffectKind, members: list[tuple[tuple[int, ...], Floats | None]]
) -> list[Effect]:
    fits = [None if c is None else table.fit(c) for _, c in members]
    adjusted = iter(holm([f.p for f in fits if f is not None]))
    rows = []
    for (axes, contrast), fit in zip(members, fits, strict=True):
        if contrast is None:
            value = Estimate(None, None, 0, f"{_WORDS[kind]}: aliased, the cells that ran cannot tell it from other effects")
        else:
            value = estimate(table, contrast, what=_WORDS[kind])
        rows.append(Effect(tuple(problem.axes[a] for a in axes), kind, value, None if fit is None else next(adjusted)))
    return rows


def cell_mean(problem: Problem, table: ScoreTable, cell: int) -> Estimate:
    """The population value of a cell."""
    return estimate(table, _at(problem.k, cell), what="cell mean")


def _cells(problem: Problem, table: ScoreTable, trials: Counts, errors: Counts, infeasible: frozenset[int]) -> list[CellValue]:
    rows = []
    for cell in sorted(range(problem.full + 1), key=lambda c: (c.bit_count(), c)):
        status = "infeasible" if cell in infeasible else "run" if trials[cell] else "not_run"
        value = cell_mean(problem, table, cell)
        rows.append(CellValue(cell, value, int(trials[cell]), int(errors[cell]), status))  # type: ignore[arg-type]  # one of three words
    return rows


def _notes(problem: Problem, table: ScoreTable, infeasible: frozenset[int]) -> list[str]:
    notes = []
    if infeasible:
        names = "; ".join(" + ".join(names_of(c, problem.axes)) or "good" for c in sorted(infeasible))
        notes.append(f"combinations that cannot run, left out: {names}; interactions of three or more axes are taken as absent")
    groups = int(table.clusters.max()) + 1
    if groups < 30:
        notes.append(f"only {groups} independent queries or clusters: intervals rest on few")
    return notes


def _at(k: int, cell: int) -> Floats:
    c = np.zeros(1 << k)
    c[cell] = 1.0
    return c
