"""What the drill-down has found, in the words of its result: causes, shares, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from bisect_ai.attribution.drill_lineup import Lineup
from bisect_ai.attribution.drill_problem import DrillCause, DrillProblem, DrillResult
from bisect_ai.attribution.drill_stock import Stock
from bisect_ai.attribution.drill_units import Units
from bisect_ai.attribution.problem import Estimate, Floats
from bisect_ai.attribution.response import PLAIN

Z = 1.959964
FITTED = "share of the fitted rules among the breaking queries; Wilson interval for the queries tried"


@dataclass(frozen=True)
class Findings:
    """Rules (numbers), the weights (3 + rules,) of the plain classes and of them, and the doubt whether the rest breaks more."""

    rules: tuple[int, ...]
    weights: Floats
    doubt: float

    def axes(self, lineup: Lineup) -> frozenset[int]:
        """The suspects (by place) of all rules; the number of suspects itself stands for the rest."""
        return frozenset(a for r in self.rules for a in lineup.model.classes.rules[r].axes)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    p, z = hits / n, Z
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def share_of(lineup: Lineup) -> float:
    """Fitted share of the tried queries that follow rules over suspects only."""
    weights = lineup.model.rule_weights()
    return float(sum(w for r, w in zip(lineup.model.classes.rules, weights, strict=True) if lineup.k not in r.axes))


def suspicion(units: Units, found: Findings, lineup: Lineup) -> tuple[tuple[int, float], ...]:
    """Changes with the fitted share of the breaking queries that rules with them explain, largest first."""
    total = float(found.weights[PLAIN:].sum())
    shares: dict[int, float] = {}
    for number, w in zip(found.rules, found.weights[PLAIN:], strict=True):
        for a in lineup.model.classes.rules[number].axes:
            for change in units.members[lineup.suspects[a]] if a < lineup.k else ():
                shares[change] = shares.get(change, 0.0) + float(w) / max(total, 1e-9)
    return tuple(sorted(shares.items(), key=lambda item: -item[1]))


def found_causes(
    problem: DrillProblem, units: Units, found: Findings | None, lineup: Lineup, stock: Stock, calls: int, settled: str
) -> DrillResult:
    """The result of a search that stopped for the reason `settled`."""
    if found is None:
        only = Estimate(1.0, None, 0, "the only change in the guilty axes")
        cause = DrillCause(tuple(range(problem.changes)), "alone", only, float("inf"), 0.0, problem.breaking[:3])
        return DrillResult("found", (cause,), "the guilty axes have this change only", calls)
    causes = _causes(units, found, lineup, stock)
    total = float(found.weights[PLAIN:].sum())
    explained = sum(c.share.value or 0.0 for c in causes)
    kind, reason = _verdict(settled, causes, explained)
    return DrillResult(
        kind,  # type: ignore[arg-type]  # one of the three
        causes if kind == "found" else (),
        reason,
        calls,
        suspicion(units, found, lineup),
        max(1 - explained, 0.0) if total > 0 and settled != "spent" else None,
        lineup.model.noise,
        frozenset(stock.tried),
    )


def _verdict(settled: str, causes: tuple[DrillCause, ...], explained: float) -> tuple[str, str]:
    if settled == "found":
        return (
            "found",
            "the named changes explain the queries that break; a further one with a share that matters is unlikely",
        )
    if settled == "nothing":
        return "no_single_change", "no change in the guilty axes breaks a share of the queries that matters"
    if settled == "scattered":
        return "no_single_change", "different queries turn on different changes; none breaks a share that matters"
    if settled == "unmixable":
        return (
            "inconclusive",
            "mixtures of the two releases inside the guilty axes cannot run, so nothing can be told apart there",
        )
    if causes and explained >= 0.5:
        return (
            "found",
            "the budget or the queries were spent: the named changes are proven, others may be missing",
        )
    return "inconclusive", "the budget or the queries were spent before any change was proven"


def _causes(units: Units, found: Findings, lineup: Lineup, stock: Stock) -> tuple[DrillCause, ...]:
    total, causes = float(found.weights[PLAIN:].sum()), []
    for number, w in zip(found.rules, found.weights[PLAIN:], strict=True):
        rule = lineup.model.classes.rules[number]
        if lineup.k in rule.axes or not all(lineup.proven(lineup.suspects[a]) for a in rule.axes):
            continue
        members = [lineup.suspects[a] for a in rule.axes]
        changes = tuple(sorted(c for u in members for c in units.members[u]))
        n = max(round(stock.height * (1 - float(found.weights[0]))), 1)
        value = float(w) / total
        share = Estimate(value, wilson(value * n, n), n, FITTED)
        evidence = float(np.exp(min(min(lineup.log_wealth(u) for u in members), 700.0)))
        doubt = max(lineup.p_adjusted(u) for u in members)
        causes.append(DrillCause(changes, rule.mode, share, evidence, doubt, _examples(number, lineup, stock)))
    return tuple(sorted(causes, key=lambda c: -(c.share.value or 0.0)))


def _examples(rule: int, lineup: Lineup, stock: Stock) -> tuple[int, ...]:
    rows = np.flatnonzero(lineup.model.trials > 0)
    chance = lineup.model.posterior(rows)[:, PLAIN + rule]
    tried = stock.tried
    return tuple(tried[rows[i]] for i in np.argsort(-chance, kind="stable")[:5] if chance[i] > 0.5)
