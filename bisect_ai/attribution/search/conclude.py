"""What a net search ends with, in three statements: who is guilty, how they act, what to roll back.

*Guilty* are the axes whose net cost was proved. *How they act* is read off their own combinations (`search/modes`). *The rollback*
is the smallest set, measured in its own cell on queries that ran under good and bad too, that leaves less than a fifth of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.designs.findings import conclude_table, factorial_effects, ratio
from bisect_ai.attribution.problem import (
    RESTORED,
    Attribution,
    Cause,
    CellValue,
    Effect,
    Estimate,
    Limit,
    Mode,
    Problem,
    Rollback,
    bits,
    mask,
    within_one,
)
from bisect_ai.attribution.search.modes import OwnCost, how_named_act
from bisect_ai.attribution.search.net_tests import table_of_all
from bisect_ai.attribution.search.query_rows import Mean, QueryRows, calls_needed
from bisect_ai.attribution.stats.inference import ScoreTable, estimate
from bisect_ai.attribution.stats.sequential import ErrorBudget

MOST_AXES_TABLE = 6  # more make more than 64 cells: a usual log has too few queries in each
FEWEST = 8  # queries below which a contrast is not reported
# By how much intervals are widened that a search stopped on: without it 90 to 93 % of those of rollbacks hold, with it 94 to
# 97 % (planted incidents, churn 0 to 5 %, noise 0 and 5 %).
STOPPED = 1.15
# Standard errors below RESTORED at which a measured rollback of a single named axis, beside which others are suspected, is given up
# for the whole release. Of 169 such runs on recorded tables and planted incidents 50 rollbacks truly restored less than 70 %; 24 of
# them are recommended yet, and in 5 runs the whole release where less would do (at 1: 30 and 4; at 0.5: 18 and 10; `real.py` pairs
# of seed 3, planted seeds 41000 to 41007).
SHORT = 0.75
# The same where several axes are named, or no other looks as if it cost a part of the loss. At 1 a seventh of the runs on
# one graded cause (noise 5 %) recommended the whole release (planted incidents, seeds 9300 to 9323).
PLAIN_SHORT = 2.0


@dataclass(frozen=True)
class Evidence:
    """A search's rows, and what was proved on them."""

    rows: QueryRows
    named: frozenset[int]
    # Axis to the families that named it.
    proved: Mapping[int, Sequence[str]]
    # Whether a loss worth the tolerance is seen.
    loses: bool
    ended: str
    rollback: tuple[int, ...]
    table_alpha: float
    # (family, axis) to the cells whose difference was tested.
    pairs: Mapping[tuple[str, int], list[tuple[int, int]]]
    suspicion: tuple[tuple[int, float], ...]
    # What each axis costs so far in each question, and the calls that one more query for it takes.
    suspects: tuple[tuple[Mean, int], ...]
    error_budget: ErrorBudget
    # Axes that are not named and look as if they cost a part of the loss; those that are not shown to cost less than what counts.
    suspected: frozenset[int]
    open_axes: Mapping[int, Limit]
    # Those of which it is not excluded that they do as much as a named one, with it, or instead of it.
    may_join: Mapping[int, Limit]
    own: OwnCost


def conclude_search(e: Evidence) -> Attribution:
    """The attribution that the evidence adds up to."""
    rows, p = e.rows, e.rows.problem
    cells = [c for c in range(p.full + 1) if c not in rows.infeasible] if p.k <= MOST_AXES_TABLE else []
    queries = rows.ran(*cells) if cells else np.zeros(0, int)
    whole = bool(cells) and len(rows.returned(*cells)) == p.queries and len(queries) >= FEWEST
    if whole and p.k > 1 and not any(p.needs) and (e.table_alpha or e.named):
        return _from_table(e, queries)
    corners = rows.ran(0, p.full) if rows.scored else np.zeros(0, int)
    pair = rows.table([0, p.full], corners)
    loss = _or_few(pair, np.array([1.0, -1.0]), "loss")
    shared = {
        "loss": loss,
        "good": _or_few(pair, np.array([1.0, 0.0]), "good release"),
        "bad": _or_few(pair, np.array([0.0, 1.0]), "bad release"),
        "effects": _effects(e),
        "cells": _measured_cells(e),
        "chosen": rows.chosen_trials,
    }
    for name in ("loss", "good", "bad"):
        value = shared[name]
        assert isinstance(value, Estimate)
        shared[name] = _stretched(value, None if name == "loss" else rows.reach)
    if e.named and e.loses:
        return _search_cause(e, shared)
    kind = "no_regression" if e.ended == "no_regression" or _is_below(e, loss) else "inconclusive"
    # Less than 1 in 20 is not worth a name.
    unsure = tuple(((p.axes[a],), b) for a, b in sorted(e.suspicion, key=lambda x: -x[1]) if b > 0.05)
    return Attribution(
        kind,  # type: ignore[arg-type]  # one of two
        candidates=() if kind == "no_regression" else unsure,
        calls_needed=None if kind == "no_regression" or e.ended == "corner" else _search_calls_needed(e),
        reason=_inconclusive_reason(replace(e, ended=kind) if kind == "no_regression" else e),
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _is_below(e: Evidence, loss: Estimate) -> bool:
    """Whether every query of the log ran under good and bad, and the interval of the loss lies below the tolerance."""
    p = e.rows.problem
    every = p.population is not None and len(e.rows.returned(0, p.full)) >= p.population
    return every and loss.interval is not None and loss.interval[1] < p.tolerance


# -- the whole table -----------------------------------------------------------------------------------------------------
def _from_table(e: Evidence, queries: np.ndarray) -> Attribution:
    rows, p = e.rows, e.rows.problem
    table = table_of_all(rows, queries)
    found = conclude_table(p, table, named=e.named, alpha=e.table_alpha, settled=e.ended == "no_regression")
    net = tuple(x for x in _effects(e) if x.kind == "net")
    told = {x.axes for x in net}
    extra = tuple(x for x in found.effects if x.kind != "net" or x.axes not in told)
    return replace(
        found,
        effects=(*extra, *net) if net and not e.table_alpha else found.effects,
        cells=_measured_cells(e),
        chosen=rows.chosen_trials,
    )


# -- a cause -------------------------------------------------------------------------------------------------------------
def _search_cause(e: Evidence, shared: dict[str, object]) -> Attribution:
    rows, p = e.rows, e.rows.problem
    back, value, restores = _chosen_rollback(e)
    named = tuple(sorted(e.named))
    modes = how_named_act(rows, named, e.own, may_join=bool(e.may_join))
    causes = tuple(Cause(_axis_names(axes, p), mode, _measured_share(e, axes, mode)) for axes, mode in modes)
    notes = [] if not e.may_join else [_why_unsettled(_axis_names(sorted(e.may_join), p), _axis_names(named, p))]
    along = tuple(a for a in back if a not in e.named) if _goes_along(back, named, p) else ()
    if set(back) - e.named - set(along):
        ran = e.rows.mean(p.full & ~mask(e.rollback), p.full).n >= FEWEST
        notes.append(why_more_goes_back(p, back=back, named=named, along=along, meant=e.rollback, ran=ran))
    rollback = None
    if back and value.value is not None:
        share = restores.value
        rollback = Rollback(_axis_names(back, p), p.full & ~mask(back), value, share, restores.interval, _axis_names(along, p))
    proof = "; ".join(f"{p.axes[a]}: {', '.join(e.proved.get(a, ()))}" for a in named)
    return Attribution(
        "cause",
        causes=tuple(sorted(causes, key=lambda c: -(c.share.value or 0.0))),
        rollback=rollback,
        keep=tuple(name for a, name in enumerate(p.axes) if a not in {*e.named, *back, *e.open_axes, *e.may_join}),
        limits=tuple((p.axes[a], limit) for a, limit in {**e.open_axes, **e.may_join}.items()),
        reason=f"proved to cost quality on average ({proof}); {e.error_budget.describe()}",
        notes=tuple(notes),
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _why_unsettled(others: Sequence[str], named: Sequence[str]) -> str:
    """That it is not excluded of axes which are not named that they do as much: the search ended before that was settled."""
    acts = "they act" if len(others) > 1 else "it acts"
    return (
        f"{' and '.join(others)} may be as costly as {'one of ' if named[1:] else ''}{' and '.join(named)}, neither proved nor "
        f"excluded: whether {acts} together with {' and '.join(named)} is not known yet; a larger budget goes on from here"
    )


def why_more_goes_back(
    p: Problem, *, back: Sequence[int], named: Sequence[int], along: Sequence[int], meant: Sequence[int], ran: bool
) -> str:
    """Why axes go back that nobody named: what was `meant` to go back fell short, or hardly `ran`."""
    if len(back) < p.k:
        innocent = _axis_names([a for a in back if a not in {*named, *along}], p)
        return f"the rollback also reverts {', '.join(innocent)}: no combination without it was run"
    if not ran and len(meant) < p.k:
        names = " and ".join(_axis_names(meant, p))
        return f"what reverting {names} without the other axes brings back is not known: that combination hardly ran, so all go back"
    return "no smaller set of the changed axes was measured to bring the loss back: only the whole release does"


def _goes_along(back: tuple[int, ...], named: Sequence[int], p: Problem) -> bool:
    """Whether a rollback takes back named axes, and besides only what cannot run without their bad side."""
    return set(back) == set(bits(p.reverting(set(back) & set(named))))


def _measured_share(e: Evidence, axes: tuple[int, ...], mode: Mode) -> Estimate:
    """The part of the loss that the axes have: what reverting them brings back, or what introducing them costs."""
    rows, full = e.rows, e.rows.problem.full
    cell, low = full & ~mask(axes), full
    if mode == "alone":
        cell, low = rows.problem.reverted_pair(axes[0])
    if mode == "together":  # reverting any of them does
        best = max(
            (full & ~(1 << a) for a in axes), key=lambda c: rows.mean(c, full).value if rows.mean(c, full).n else -math.inf
        )
        cell = cell if rows.mean(cell, full).n >= FEWEST else best
    queries = rows.ran(0, full, cell, low)
    if len(queries) < FEWEST:
        return _share_apart(e, axes, otherwise=Estimate(None, None, 0, "share: not measured for want of calls"))
    cells = sorted({0, full, cell, low})
    table = rows.table(cells, queries)
    part, whole = np.zeros(len(cells)), np.zeros(len(cells))
    part[cells.index(cell)] += 1.0
    part[cells.index(low)] -= 1.0
    whole[cells.index(0)], whole[cells.index(full)] = 1.0, -1.0
    paired = within_one(ratio(table, part, whole, what="share of the loss that reverting it brings back"))
    holds_none = paired.interval is None or paired.interval[0] <= 0  # few queries ran in all of these: more prove the cost
    return _share_apart(e, axes, otherwise=paired) if holds_none else paired


def _share_apart(e: Evidence, axes: tuple[int, ...], *, otherwise: Estimate) -> Estimate:
    """The net cost of one axis over the loss, each from the queries that tell it; the delta method takes them as independent."""
    net, loss = _net_effect(e, axes[0]) if len(axes) == 1 else None, e.rows.mean(0, e.rows.problem.full)
    if net is None or net.estimate.value is None or net.estimate.interval is None or loss.value <= 0:
        return otherwise
    share, half = net.estimate.value / loss.value, (net.estimate.interval[1] - net.estimate.interval[0]) / 2
    half = math.hypot(half, 2 * share * loss.error) / loss.value
    method = "net cost over the loss, 95 % delta-method interval, each from its own queries"
    return within_one(Estimate(share, (share - half, share + half), net.estimate.n, method))


def _chosen_rollback(e: Evidence) -> tuple[tuple[int, ...], Estimate, Estimate]:
    """The set, its cell's value and the share of the loss that it brings back, on the queries that ran in good, bad and that cell."""
    rows, p = e.rows, e.rows.problem
    back = e.rollback
    cell = p.full & ~mask(back)
    left = rows.mean(cell, p.full)
    if left.n < FEWEST:  # its cell cannot run, or hardly did
        back, cell = tuple(range(p.k)), 0
    lost, loss = rows.mean(0, cell), rows.mean(0, p.full)
    if cell and lost.n >= FEWEST:
        short = ((1 - RESTORED) * loss.value - lost.value) / math.hypot(lost.error, (1 - RESTORED) * loss.error)
        if left.value <= 0 or short < -(SHORT if e.suspected and len(e.named) == 1 else PLAIN_SHORT):
            back, cell = tuple(range(p.k)), 0
    queries = rows.ran(0, p.full, cell)
    cells = sorted({0, p.full, cell})
    table = rows.table(cells, queries)
    value, top, bottom = (np.zeros(len(cells)) for _ in range(3))
    value[cells.index(cell)] = 1.0
    top[cells.index(cell)], top[cells.index(p.full)] = 1.0, -1.0
    bottom[cells.index(0)], bottom[cells.index(p.full)] = 1.0, -1.0
    share = ratio(table, top, bottom, what="share of the loss that the rollback brings back")
    if share.value is None:
        fits = table.fit(top), table.fit(bottom)
        if fits[0] and fits[1] and fits[1].value > 0:
            share = replace(share, value=fits[0].value / fits[1].value)
    return back, _stretched(estimate(table, value, what="rollback, measured"), rows.reach), share


# -- what else was measured ----------------------------------------------------------------------------------------------
def _effects(e: Evidence) -> tuple[Effect, ...]:
    """What reverting and introducing single axes does, and the net effect of each with what it breaks and mends."""
    rows, p = e.rows, e.rows.problem
    found: list[Effect] = []
    cells = [c for c in range(p.full + 1) if c not in rows.infeasible] if p.k <= MOST_AXES_TABLE else []
    whole = rows.ran(*cells) if cells else np.zeros(0, int)
    if p.k > 1 and len(cells) == p.full + 1 and len(whole) >= FEWEST:
        return (
            *factorial_effects(p, rows.table(cells, whole)),
            *(x for a in range(p.k) if (x := _net_effect(e, a)) is not None),
        )
    for a, name in enumerate(p.axes):
        for kind, high, low in (("introduced", 0, 1 << a), ("reverted", p.full & ~(1 << a), p.full)):
            queries = rows.ran(high, low)
            if len(queries) >= FEWEST and (p.k > 1 or kind == "reverted"):
                value = estimate(rows.table([high, low], queries), np.array([1.0, -1.0]), what=f"{kind} alone")
                found.append(Effect((name,), kind, value, None))  # type: ignore[arg-type]  # one of two
        net = _net_effect(e, a)
        found += [] if net is None else [net]
    return tuple(found)


def _net_effect(e: Evidence, axis: int) -> Effect | None:
    """The axis's net effect in the context in which it was tested most."""
    rows, p = e.rows, e.rows.problem
    families = [f for f, a in e.pairs if a == axis]
    if not families:
        e = replace(e, pairs={("reverted", axis): [p.reverted_pair(axis)]})
        families = ["reverted"]
    shown = [f for f in families if f in e.proved.get(axis, ())] or families
    best = max(shown, key=lambda f: len(rows.ran(*(c for pair in e.pairs[f, axis] for c in pair))))
    pairs = e.pairs[best, axis]
    cells = sorted({c for pair in pairs for c in pair})
    queries = rows.ran(*cells)
    if len(queries) < FEWEST:
        return None
    table = rows.table(cells, queries)
    contrast = np.zeros(len(cells))
    for high, low in pairs:
        contrast[cells.index(high)] += 1 / len(pairs)
        contrast[cells.index(low)] -= 1 / len(pairs)
    value = estimate(table, contrast, what=f"net effect, {best}")
    x = table.scores @ contrast
    share = table.weights / table.weights.sum()
    breaks, mends = float(share @ np.maximum(x, 0)), float(share @ np.maximum(-x, 0))
    return Effect((p.axes[axis],), "net", value, None, breaks, mends, axis in e.named)


def _measured_cells(e: Evidence) -> tuple[CellValue, ...]:
    rows, found = e.rows, []
    for cell in sorted({*rows.runs, *rows.infeasible}, key=lambda c: (c.bit_count(), c)):
        status = "infeasible" if cell in rows.infeasible else "run"
        queries = rows.ran(cell)
        if len(queries) >= 2:
            value = _stretched(estimate(rows.table([cell], queries), np.array([1.0]), what="cell mean"))
        else:
            few = "on queries that were chosen for having failed" if len(rows.chosen(cell)) else "fewer than two queries"
            value = Estimate(None, None, len(queries), few)
        found.append(CellValue(cell, value, rows.runs.get(cell, 0), rows.errors.get(cell, 0), status))  # type: ignore[arg-type]  # one of two
    return tuple(found)


def _or_few(table: ScoreTable, contrast: np.ndarray, what: str) -> Estimate:
    if len(table.scores) < 2:
        return Estimate(None, None, len(table.scores), f"{what}: fewer than two queries with both scores")
    return estimate(table, contrast, what=what)


def _stretched(value: Estimate, population: tuple[float, float] | None = None) -> Estimate:
    """The estimate with its interval widened by `STOPPED`; `population`: ends that it cannot pass."""
    if value.value is None or value.interval is None:
        return value
    low, high = (value.value + STOPPED * (end - value.value) for end in value.interval)
    if population is not None:
        low, high = max(low, min(population[0], value.value)), min(high, max(population[1], value.value))
    return replace(value, interval=(low, high), method=f"{value.method}, widened by {STOPPED - 1:.0%} for having stopped early")


def _search_calls_needed(e: Evidence) -> int | None:
    p = e.rows.problem
    best = sorted(e.suspects, key=lambda s: -s[0].z)[:2]
    loss = e.rows.mean(0, p.full)
    return calls_needed(best, loss, tolerance=p.tolerance, queries=p.queries, seed=p.seed)


def _inconclusive_reason(e: Evidence) -> str:
    if e.named:
        return "an axis is proved to cost quality, but no loss above the tolerance is seen beside it"
    return {
        "no_regression": "the loss is below the tolerance",
        "corner": "the good or the bad release cannot run, so there is no loss to explain",
        "spent": "the budget ended before any axis was proved to cost quality",
        "futile": "no axis is suspect, the loss looks small, and the budget cannot show that it is below the tolerance",
        "exhausted": "every query of the log has run, and no axis was proved to cost quality: more needs a longer log",
        "stopped": "the search was stopped before it was settled",
    }.get(e.ended, e.ended)


def _axis_names(axes: Sequence[int], p: Problem) -> tuple[str, ...]:
    return tuple(p.axes[a] for a in sorted(axes))
