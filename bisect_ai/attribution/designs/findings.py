"""The verdict of a factorial design, by a rule fixed beforehand.

1. The loss's interval lies below the tolerance: `no_regression`.
2. An axis is guilty when its average net cost (its Shapley share; its main effect where cells are missing) is proved, one-sided
   p < alpha after Holm over all axes, and estimated at the tolerance or more. With such an axis, and a loss above the tolerance
   by the design's best estimate: `cause`. How guilty axes act is told only where rules (`rules`) fit their own
   combinations; the rollback is the smallest set that was measured to bring the loss back.
3. Else `inconclusive`, with the candidates and the calls that would settle it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import (
    RESTORED,
    Attribution,
    Cause,
    CellValue,
    Effect,
    EffectKind,
    Estimate,
    Floats,
    Limit,
    Problem,
    Rollback,
    bits,
    mask,
    names_of,
    unseen_part,
    what_counts,
    within_one,
)
from bisect_ai.attribution.rules import Rule, explain
from bisect_ai.attribution.stats import contrasts
from bisect_ai.attribution.stats.inference import Fit, ScoreTable, estimate, fit_regression, holm, z_quantile

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


def conclude_scores(
    problem: Problem, table: ScoreTable, *, trials: Counts, errors: Counts, infeasible: frozenset[int], planned: int
) -> Attribution:
    """The attribution of a (full or fractional) factorial design's table of scores."""
    found = conclude_table(problem, table, named=frozenset(), alpha=problem.alpha, planned=planned)
    cells = tuple(_factorial_cells(problem, table, trials, errors, infeasible))
    notes = (*found.notes, *_factorial_notes(problem, table, infeasible))
    return replace(found, cells=cells, notes=notes, regression=partial(fit_regression, table, problem.axes))


def conclude_table(
    problem: Problem,
    table: ScoreTable,
    *,
    named: frozenset[int],
    alpha: float,
    planned: int | None = None,
    settled: bool = False,
) -> Attribution:
    """The attribution of a table of scores; `named`: axes that were proved before; `alpha`: what is left for this one look.

    `planned`: cells that a further query would run in, for the calls that would settle it. `settled`: no loss, as shown before.
    """
    k = problem.k
    loss = estimate(table, contrasts.loss(k), what="loss")
    mains = _main_effects(problem, table)
    shared = {
        "loss": loss,
        "good": cell_mean(problem, table, 0),
        "bad": cell_mean(problem, table, problem.full),
        "effects": (*factorial_effects(problem, table), *(net := _net_effects(problem, table, mains))),
    }
    if settled or (loss.interval is not None and loss.interval[1] < problem.tolerance):
        reason = f"the loss's 95 % interval lies below the tolerance of {problem.tolerance:g}"
        return Attribution("no_regression", keep=problem.axes, reason=reason, **shared)  # type: ignore[arg-type]  # one dict for three returns
    guilty = sorted({*_proved(problem, mains, alpha), *named})
    if guilty and _has_loss(problem, table):
        return _factorial_cause(problem, table, guilty, net, shared)
    return _factorial_inconclusive(problem, table, mains, planned or 1 << k, shared)


# Of the interval that must exclude a gain. Of 196 real pairs (bench/real.py, 1,000 calls) 0.90 names causes beside no true
# loss in 3 %, 0.95 in 0.5 %, and finds one true cause in 100 less.
LOSS_LEVEL = 0.92


def _has_loss(problem: Problem, table: ScoreTable) -> bool:
    """Whether there is a loss worth the tolerance, and queries like those of the log hardly gain."""
    endless = table if math.isinf(table.population) else replace(table, population=float("inf"))
    fit = endless.fit(contrasts.loss(problem.k))
    return fit is not None and fit.value >= problem.tolerance and fit.interval(LOSS_LEVEL)[0] > 0


def _main_effects(problem: Problem, table: ScoreTable) -> list[Main]:
    """Each axis's average net cost: its Shapley share when every cell ran, else its main effect in the cells that did.

    A cause is a mean cost over the queries of the log, so where most of them ran only run-to-run noise is left to doubt.
    """
    ran = table.mass > 0
    if all(ran[cell] for cell in range(problem.full + 1) if problem.runs(cell)):
        vectors: list[Floats | None] = [contrasts.shapley(problem.k, a, problem.needs) for a in range(problem.k)]
    else:
        vectors = [contrasts.factorial_contrast(problem.k, (a,), ran) for a in range(problem.k)]
    fits = [None if c is None else table.fit(c) for c in vectors]
    adjusted = iter(holm([f.p / 2 if f.value > 0 else 1 - f.p / 2 for f in fits if f is not None]))  # of "no net cost"
    rows = zip(vectors, fits, strict=True)
    return [Main(a, c, f, None if f is None else next(adjusted)) for a, (c, f) in enumerate(rows)]


def proved_axes(problem: Problem, table: ScoreTable, alpha: float) -> frozenset[int]:
    """The axes whose average net cost a table of scores proves at `alpha`."""
    return frozenset(_proved(problem, _main_effects(problem, table), alpha))


def _proved(problem: Problem, mains: list[Main], alpha: float) -> list[int]:
    """The axes whose average net cost is proved, and estimated at the tolerance or more.

    The largest cost over contexts would not do: of eight estimates one is soon above the tolerance (innocents named in 5 of 60
    planted runs, tests/quality/test_full_design.py).
    """
    least = max(problem.tolerance, 1e-12)
    fitted = [(m, m.fit, m.p_adjusted) for m in mains if m.fit is not None and m.p_adjusted is not None]
    return [m.axis for m, fit, p in fitted if p < alpha and fit.value >= least]


def _net_effects(problem: Problem, table: ScoreTable, mains: list[Main]) -> list[Effect]:
    """Each axis's average net effect, with what it breaks and mends on the queries that ran in all cells that it needs."""
    found = []
    for m in mains:
        if m.contrast is None or m.fit is None:
            continue
        used = np.abs(m.contrast) > 0
        whole = slice(None) if table.is_complete else (table.present[:, used] > 0).all(1)
        x = table.filled[whole] @ np.where(used, m.contrast, 0.0)
        share = table.weights[whole] / max(float(table.weights[whole].sum()), 1e-300)
        breaks, mends = float(share @ np.maximum(x, 0)), float(share @ np.maximum(-x, 0))
        value = estimate(table, m.contrast, what="net effect, averaged over the other axes")
        proved = m.p_adjusted is not None and m.p_adjusted < problem.alpha and m.fit.value > 0
        name = (problem.axes[m.axis],)
        found.append(Effect(name, "net", value, m.p_adjusted, breaks, mends, proved))
    return found


def _collapsed_contrasts(problem: Problem, table: ScoreTable, guilty: list[int]) -> Floats | None:
    """(2^g, 2^k) contrasts: loss of each cell over the guilty axes, averaged over the settings of all others that ran."""
    ran = table.mass > 0
    inside = mask(guilty)
    rows = np.zeros((1 << len(guilty), 1 << problem.k))
    for cell in np.flatnonzero(ran):
        small = sum(1 << i for i, a in enumerate(guilty) if cell & inside & (1 << a))
        rows[small, cell] = 1.0
    totals = rows.sum(1, keepdims=True)
    if (totals == 0).any():
        return None
    means = rows / totals
    return np.asarray(means[0] - means)


def _rules_of_guilty(problem: Problem, table: ScoreTable, guilty: list[int]) -> list[Rule]:
    """How the guilty axes act, on any queries like these: groups, each in one rule; `unsettled` where two explain about as well."""
    if any(problem.needs[a] & mask(guilty) for a in guilty if problem.needs):
        return [Rule((a,), "alone", 1.0) for a in guilty]
    rows = _collapsed_contrasts(problem, table, guilty)
    found = [Rule((0,), "alone", 1.0)] if len(guilty) == 1 else None
    if found is None and rows is not None:
        found = explain(rows @ np.nan_to_num(table.means), table.raw_covariance(rows), queries=len(table.scores))
    others = [a for a in range(problem.k) if a not in guilty]
    rules = [
        Rule(tuple(guilty[i] for i in r.axes), r.mode, r.weight)
        for r in found or [Rule(tuple(range(len(guilty))), "unsettled", 1.0)]
    ]

    def error(contrast: Floats) -> float:
        return math.sqrt(float(table.raw_covariance(contrast[None])[0, 0]))

    open_rules = [contrasts.depends_on_another(table.means, r.axes, others, error=error) for r in rules]
    return [replace(r, mode="unsettled") if is_open else r for r, is_open in zip(rules, open_rules, strict=True)]


def _factorial_cause(
    problem: Problem, table: ScoreTable, guilty: list[int], net: list[Effect], shared: dict[str, object]
) -> Attribution:
    rules = _rules_of_guilty(problem, table, guilty)
    causes = [Cause(tuple(problem.axes[a] for a in r.axes), r.mode, _shapley_share(problem, table, r)) for r in rules]
    rollback = measured_rollback(problem, table, guilty)
    back = set() if rollback is None else set(rollback.axes)
    size = what_counts(float(table.means[0] - table.means[problem.full]), problem.tolerance)
    named = {problem.axes[a] for a in guilty}
    limits = {e.axes[0]: Limit(e.estimate.most, (e.estimate.value or 0.0) > size / 2) for e in net if e.axes[0] not in named}
    innocent = set() if rollback is None else back - named - set(rollback.along)
    return Attribution(
        "cause",
        causes=tuple(sorted(causes, key=lambda c: -(c.share.value or 0.0))),
        rollback=rollback,
        keep=tuple(a for a, limit in limits.items() if limit.most < size and a not in back),
        limits=tuple(limits.items()),
        reason="average net costs, one-sided, with Holm's correction over all axes",
        notes=(_why_along(problem, innocent, len(back)),) if innocent else (),
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _why_along(problem: Problem, innocent: set[str], size: int) -> str:
    """Why the rollback reverts axes that are not guilty."""
    if size == problem.k:
        return "no smaller set of the changed axes was measured to bring the loss back: only the whole release does"
    return f"the rollback also reverts {', '.join(sorted(innocent))}: no combination without it was run"


def _shapley_share(problem: Problem, table: ScoreTable, rule: Rule) -> Estimate:
    """The Shapley shares of the rule's axes over the loss, by the delta method."""
    part = np.sum([contrasts.shapley(problem.k, a, problem.needs) for a in rule.axes], axis=0)
    return within_one(ratio(table, part, contrasts.loss(problem.k), what="Shapley share over loss"))


def ratio(table: ScoreTable, part: Floats, whole: Floats, *, what: str) -> Estimate:
    """part / whole with an interval by the delta method; undefined when a cell is missing or the whole may well be 0."""
    fits = table.fit(part), table.fit(whole)
    if fits[0] is None or fits[1] is None:
        return Estimate(None, None, 0, f"{what}: not estimated, a cell that it needs has no score")
    if abs(fits[1].value) <= 2 * fits[1].error or fits[1].value == 0:
        return Estimate(None, None, fits[1].queries, f"{what}: not estimated, the loss is too uncertain to divide by")
    share = fits[0].value / fits[1].value
    rest = part - share * whole
    spread = table.fit(rest)
    error = 0.0 if spread is None else spread.error / abs(fits[1].value)
    if error == 0 and rest.any():
        ran = (table.present[:, np.abs(whole) > 0] > 0).all(1)
        half = unseen_part(table.weights[ran] * (table.filled[ran] @ whole), table.clusters[ran])
        half *= 1 - min(1.0, table.weights.size / table.population)
        return Estimate(share, (share - half, share + half), fits[1].queries, f"{what}, 95 % Clopper-Pearson interval")
    low, high = Fit(share, error, fits[1].freedom, fits[1].queries).interval()
    return Estimate(share, (low, high), fits[1].queries, f"{what}, paired by query, 95 % delta-method t interval")


def measured_rollback(problem: Problem, table: ScoreTable, guilty: Sequence[int]) -> Rollback | None:
    """The smallest set of guilty axes whose own cell brings back `RESTORED` of the loss; when none does, the whole release.

    Where no cell that reverts guilty axes only has run (a fraction, or mixtures that cannot run), the fewest innocent axes go along.
    """
    lost = table.means[0] - table.means[problem.full]
    if not lost > 0:
        return None
    subsets = [b for size in range(1, len(guilty) + 1) for b in itertools.combinations(guilty, size)]
    closed = list(dict.fromkeys(bits(problem.reverting(b)) for b in subsets))
    sets = [b for b in closed if _has_run(problem, table, b)]
    if not sets:
        sets = _with_innocent(problem, table, guilty)
    restored = {b: float((table.means[_reverted_cell(problem, b)] - table.means[problem.full]) / lost) for b in sets}
    enough = [b for b in sets if restored[b] >= RESTORED]
    if not enough:
        return _as_rollback(problem, table, tuple(range(problem.k)))
    best = min(enough, key=lambda b: (len(b), -restored[b]))
    along = set(best) - set(guilty) if best in closed else set()
    return replace(_as_rollback(problem, table, best), along=names_of(mask(along), problem.axes))


def _with_innocent(problem: Problem, table: ScoreTable, guilty: Sequence[int]) -> list[tuple[int, ...]]:
    """The smallest sets that ran and revert all guilty axes and some innocent ones."""
    innocent = [a for a in range(problem.k) if a not in guilty]
    for extra in range(1, len(innocent) + 1):
        sets = [tuple(sorted((*guilty, *more))) for more in itertools.combinations(innocent, extra)]
        if ran := [b for b in sets if _has_run(problem, table, b)]:
            return ran
    return []


def _reverted_cell(problem: Problem, back: Sequence[int]) -> int:
    return problem.full & ~mask(back)


def _has_run(problem: Problem, table: ScoreTable, back: Sequence[int]) -> bool:
    return bool(table.mass[_reverted_cell(problem, back)] > 0)


def _as_rollback(problem: Problem, table: ScoreTable, back: tuple[int, ...]) -> Rollback:
    cell = _reverted_cell(problem, back)
    part = np.zeros(problem.full + 1)
    part[cell] += 1.0
    part[problem.full] -= 1.0
    share = ratio(table, part, contrasts.loss(problem.k), what="share of the loss brought back")
    lost = table.means[0] - table.means[problem.full]
    restores = float((table.means[cell] - table.means[problem.full]) / lost)
    return Rollback(names_of(mask(back), problem.axes), cell, cell_mean(problem, table, cell), restores, share.interval)


def _factorial_inconclusive(
    problem: Problem, table: ScoreTable, mains: list[Main], planned: int, shared: dict[str, object]
) -> Attribution:
    suspects = sorted((m for m in mains if m.fit is not None and m.fit.value > 0), key=lambda m: m.p_adjusted or 0.0)
    more = _queries_needed(problem, table.fit(contrasts.loss(problem.k)), suspects, len(table.scores))
    left = table.population - len(table.scores)
    used_up = "" if left else "; every query of the log has run in every combination: more needs a longer log"
    return Attribution(
        "inconclusive",
        candidates=tuple(((problem.axes[m.axis],), 1 - (m.p_adjusted or 0.0)) for m in suspects),
        calls_needed=more * planned if more is not None and more <= left else None,
        reason=f"no axis costs quality beyond doubt, and the loss is not shown to be below the tolerance{used_up}",
        **shared,  # type: ignore[arg-type]  # the estimates that every verdict carries
    )


def _queries_needed(problem: Problem, loss: Fit | None, suspects: list[Main], queries: int) -> int | None:
    """Queries beyond this run's for the likelier way out: the strongest suspect proven, or the loss shown below tolerance."""
    factors = []
    z = z_quantile(1 - problem.alpha / (4 * problem.k)) + 0.84  # 80 % power
    for main in suspects[:1]:
        if main.fit is not None and main.fit.error > 0 and main.fit.value >= problem.tolerance / 2:
            factors.append((z * main.fit.error / main.fit.value) ** 2)
    if loss is not None and loss.error > 0 and loss.value < problem.tolerance:
        factors.append((1.96 * loss.error / (problem.tolerance - loss.value)) ** 2)
    needed = [f for f in factors if math.isfinite(f) and f > 1]
    return math.ceil((min(needed) - 1) * queries) if needed else None


def factorial_effects(problem: Problem, table: ScoreTable) -> tuple[Effect, ...]:
    """Introduced, reverted and Shapley for each axis, then the interactions; each kind is one family for Holm."""
    families: list[tuple[EffectKind, list[tuple[tuple[int, ...], Floats | None]]]] = [
        ("introduced", [((a,), contrasts.introduced(problem.k, a)) for a in range(problem.k)]),
        ("reverted", [((a,), contrasts.reverted(problem.k, a)) for a in range(problem.k)]),
        ("shapley", [((a,), contrasts.shapley(problem.k, a, problem.needs)) for a in range(problem.k)]),
        (
            "interaction",
            [(s, contrasts.factorial_contrast(problem.k, s, table.mass > 0)) for s in contrasts.subsets(problem.k, smallest=2)],
        ),
    ]
    return tuple(effect for kind, members in families for effect in _effects_of_kind(problem, table, kind, members))


_WORDS: dict[EffectKind, str] = {
    "introduced": "v(good) - v(this axis bad)",
    "reverted": "v(all but this axis bad) - v(bad)",
    "shapley": "Shapley share of the loss",
    "interaction": "difference of differences, averaged over the other axes",
}


def _effects_of_kind(
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
    return estimate(table, np.where(np.arange(1 << problem.k) == cell, 1.0, 0.0), what="cell mean")


def _factorial_cells(
    problem: Problem, table: ScoreTable, trials: Counts, errors: Counts, infeasible: frozenset[int]
) -> list[CellValue]:
    rows = []
    for cell in sorted(range(problem.full + 1), key=lambda c: (c.bit_count(), c)):
        status = "infeasible" if cell in infeasible else "run" if trials[cell] else "not_run"
        value = cell_mean(problem, table, cell)
        rows.append(CellValue(cell, value, int(trials[cell]), int(errors[cell]), status))  # type: ignore[arg-type]  # one of three words
    return rows


def _factorial_notes(problem: Problem, table: ScoreTable, infeasible: frozenset[int]) -> list[str]:
    notes = []
    if infeasible:
        names = "; ".join(" + ".join(names_of(c, problem.axes)) or "good" for c in sorted(infeasible))
        notes.append(f"combinations that cannot run, left out: {names}; interactions of three or more axes are taken as absent")
    groups = int(table.clusters.max()) + 1
    if groups < 30:  # below it the normal quantile and that of t differ by 4 %
        notes.append(f"only {groups} independent queries or clusters: intervals rest on few")
    return notes
