"""Are two sets of paired scores as good as each other? Regression, improvement, equivalence, or too little to tell.

**Question.** Each query was answered by both sides; x = good - bad is its loss. Its mean over the queries is the loss of the bad side.

**Statistic.** The paired mean with its cluster-robust standard error (`inference`), Student's t.

**Decision.** With tolerance T > 0, in this order:

1. *equivalent*: two one-sided tests at level alpha reject both "the loss is T or more" and "the gain is T or more" (TOST: Schuirmann
   1987), so that the 1 - 2 alpha interval lies inside -T to T;
2. *regression*: the two-sided test at level alpha rejects "no loss" on the side of harm, and the estimated loss is above T;
3. *improvement*: the same on the other side, of any size;
4. *no_worse*: only "the loss is T or more" is rejected (non-inferiority);
5. else *undecided*.

Two sides that are alike are called a regression with a chance of about alpha / 2 (at most 3.1 % at alpha = 5 % where few queries
differ), and a loss of T or more is waved through with a chance of about alpha (tests/quality/test_compare_quality.py). Several
comparisons with one baseline are adjusted by Holm (1979), each kind of claim for itself.

**Few differences.** Where hardly a query differs, t trusts a standard error that it cannot know. Against a loss of T pass/fail scores
are also tested by the score test of a paired difference (Tango 1998), other scores on which fewer than `SPARSE` queries differ by the
binomial: a loss of T needs a share of at least T / reach of the queries to differ. The larger p-value counts.

"No loss" is then tested by the exact sign test, too (of single pass/fail scores McNemar's exact test): of the clusters that differ at
all, as many should lose as gain. It counts below `FEW_DISCORDANT` of them for pass/fail scores, below `SPARSE` for others; the larger
p-value counts, and the interval reaches to 0 where that test does not reject.

**Scores that are missing** on one side leave their pair out. When they are more than a few or lean to one side (`missing.bound_loss`),
a verdict must hold whatever they would have been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats
from bisect_ai.attribution.questions.segments import Paired
from bisect_ai.attribution.stats.inference import Fit, ScoreTable, estimate, holm, t_quantile, t_tail
from bisect_ai.attribution.stats.missing import Bounds
from bisect_ai.attribution.stats.smallest_loss import POWER

CONTRAST = np.array([1.0, -1.0])  # good minus bad: above 0 is a loss
# Differing queries below which a standard error is not believed: the t interval of 9 or fewer covers less than its level.
SPARSE = 10
# Clusters that differ in a pass/fail score below which McNemar's statistic is far from its limit (Fleiss 1981, section 8.1).
FEW_DISCORDANT = 25
EXACT = "few queries differ, so the exact sign test must agree"
# Standard error that a forecast of power assumes at least, in queries: that of four that differ.
LEAST = 2.0
# Net losses of a cluster below it are rounding.
TINY = 1e-12
# No larger number of queries is named: nobody has them.
MOST_QUERIES = 10**7

PairedKind = Literal["regression", "improvement", "equivalent", "no_worse", "undecided"]


@dataclass(frozen=True)
class EquivalenceRule:
    """What is fixed before the scores are read; `tolerance` in score points."""

    tolerance: float
    alpha: float = 0.05


@dataclass(frozen=True)
class PairedTests:
    """One comparison before its verdict: estimates in score points, positive for a loss; p-values not adjusted yet."""

    loss: Estimate
    good: float | None
    bad: float | None
    # Two-sided, of "no loss and no gain".
    p_differs: float
    # Of "the loss is the tolerance or more".
    p_no_worse: float
    # Of "the gain is the tolerance or more".
    p_no_better: float
    # Queries that score lower on the bad side, and (`gained`) higher.
    lost: int
    gained: int
    # The smallest loss that would be called a regression with 80 % chance; None: nothing is known of the spread.
    sees: float | None
    # The 1 - 2 alpha interval, which equivalence needs inside the tolerance; None: no spread to tell it from.
    narrow: tuple[float, float] | None = None
    bounds: Bounds | None = None

    def queries_to_see(self, size: float) -> int | None:
        """Paired queries with which a loss of `size` would show with 80 % chance."""
        if self.sees is None or not size > 0:
            return None
        return min(math.ceil(self.loss.n * (self.sees / size) ** 2), MOST_QUERIES)


@dataclass(frozen=True)
class PairedVerdict:
    """The verdict on one comparison, with the adjusted p-value of what it claims and the reason in words."""

    kind: PairedKind
    p_adjusted: float
    reason: str


def paired_tests(paired: Paired, rule: EquivalenceRule, *, reach: float, bounds: Bounds | None = None) -> PairedTests:
    """What the pairs say. `reach`: the highest less the lowest score there can be. Pairs lack no score."""
    table = paired.of(np.ones(len(paired.good), bool))
    losses = paired.losses
    lost, gained = int((losses > 0).sum()), int((losses < 0).sum())
    fit = table.fit(CONTRAST) if len(losses) > 1 else None
    if fit is None:
        unknown = Estimate(None, None, len(losses), "loss: not estimated, fewer than two queries have both scores")
        return PairedTests(unknown, None, None, 1.0, 1.0, 1.0, lost, gained, None, bounds=bounds)
    good, bad = (float(mean) for mean in table.means)
    loss = estimate(table, CONTRAST, what="good minus bad")
    if not fit.error:
        loss = replace(loss, interval=_unvaried_interval(fit, reach))
    signs = _few_signs(paired)
    if signs is not None and loss.interval is not None:
        loss = replace(loss, interval=_with_signs(loss.interval, paired, signs), method=f"{loss.method}; {EXACT}")
    worse, better = (_p_below(fit, paired, side, rule.tolerance, reach) for side in (1.0, -1.0))
    narrow = fit.interval(1 - 2 * rule.alpha) if fit.error else None
    differs = fit.p if signs is None else max(fit.p, _sign_test(*signs))
    return PairedTests(
        loss, good, bad, differs, worse, better, lost, gained, _loss_seen(fit, table, rule, reach), narrow, bounds
    )


def verdicts_on(tests: Sequence[PairedTests], rule: EquivalenceRule) -> list[PairedVerdict]:
    """The verdicts on comparisons with one baseline, each claim adjusted over all of them."""
    differs = holm([t.p_differs for t in tests])
    no_worse = holm([t.p_no_worse for t in tests])
    same = holm([max(t.p_no_worse, t.p_no_better) for t in tests])
    return [_paired_verdict(t, rule, *ps) for t, *ps in zip(tests, differs, no_worse, same, strict=True)]


def _paired_verdict(t: PairedTests, rule: EquivalenceRule, differs: float, no_worse: float, same: float) -> PairedVerdict:
    size, tolerance = t.loss.value, rule.tolerance
    if size is None:
        return PairedVerdict("undecided", 1.0, "fewer than two queries have a score on both sides")
    low, high = (size, size) if t.bounds is None else t.bounds.interval
    claims: list[tuple[PairedKind, float, bool, str]] = [
        ("equivalent", same, -tolerance < low and high < tolerance, "a loss and a gain of the tolerance or more are excluded"),
        ("regression", differs, size > tolerance and low > 0, "the loss is beyond chance and estimated above the tolerance"),
        ("improvement", differs, size < 0 and high < 0, "the gain is beyond chance"),
        ("no_worse", no_worse, high < tolerance, "a loss of the tolerance or more is excluded"),
    ]
    shown = [claim for claim in claims if claim[1] <= rule.alpha and _is_on_side(claim[0], size, tolerance)]
    for kind, p, holds, reason in shown:
        if holds:
            return PairedVerdict(kind, p, reason)
    if shown:
        return PairedVerdict(
            "undecided", shown[0][1], "with other scores in place of those that are missing it would be another verdict"
        )
    if differs <= rule.alpha and size > 0:
        return PairedVerdict("undecided", differs, "a loss is beyond chance, but not whether it is above the tolerance")
    return PairedVerdict("undecided", differs, "neither a loss nor its absence is beyond chance")


def _is_on_side(kind: PairedKind, size: float, tolerance: float) -> bool:
    """Whether the estimate is on the side that a claim of this kind speaks of."""
    return {"regression": size > tolerance, "improvement": size < 0}.get(kind, True)


def _p_below(fit: Fit, paired: Paired, side: float, limit: float, reach: float) -> float:
    """p-value of "the loss (`side` 1) or the gain (-1) is `limit` or more"."""
    room = limit - side * fit.value
    if room <= 0 or not limit > 0:
        return 1.0
    p = t_tail(room / fit.error, fit.freedom) if fit.error else 0.0
    losses = side * paired.losses
    if _is_pass_fail(paired):
        return max(p, _tango_p(int((losses > 0).sum()), int((losses < 0).sum()), len(losses), min(limit, 1.0)))
    groups = np.unique(paired.clusters[losses != 0])
    if len(groups) < SPARSE and reach > 0:
        from scipy.special import bdtr

        return max(p, float(bdtr(len(groups), fit.freedom + 1, min(limit / reach, 1.0))))
    return p


def _few_signs(paired: Paired) -> tuple[int, int] | None:
    """Clusters that lose and clusters that gain, where so few do either that the t test is not believed alone."""
    net = np.bincount(paired.clusters, weights=paired.losses)
    lost, gained = int((net > TINY).sum()), int((net < -TINY).sum())
    return (lost, gained) if lost + gained < (FEW_DISCORDANT if _is_pass_fail(paired) else SPARSE) else None


def _sign_test(lost: int, gained: int) -> float:
    """Exact two-sided p-value of "as many lose as gain"."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def _with_signs(interval: tuple[float, float], paired: Paired, signs: tuple[int, int]) -> tuple[float, float]:
    """The interval, widened to that of Clopper and Pearson (1934) for the share of losses among what differs."""
    from scipy.special import betaincinv

    lost, gained = signs
    if not lost + gained:
        return interval
    moved = float(np.abs(np.bincount(paired.clusters, weights=paired.losses)).sum()) / len(paired.losses)
    least = float(betaincinv(lost, gained + 1, 0.025)) if lost else 0.0
    most = float(betaincinv(lost + 1, gained, 0.975)) if gained else 1.0
    return min(interval[0], moved * (2 * least - 1)), max(interval[1], moved * (2 * most - 1))


def _unvaried_interval(fit: Fit, reach: float) -> tuple[float, float]:
    """The 95 % interval where every query moved alike: a share of 1 - 0.025^(1/n) of others may do otherwise, by the whole scale."""
    half = reach * (1 - 0.025 ** (1 / (fit.freedom + 1)))
    return fit.value - half, fit.value + half


def _is_pass_fail(paired: Paired) -> bool:
    return bool(np.isin(paired.good, (0.0, 1.0)).all() and np.isin(paired.bad, (0.0, 1.0)).all())


def _tango_p(lost: int, gained: int, n: int, limit: float) -> float:
    """Score test of "P(lost) - P(gained) is `limit` or more" from paired pass/fail scores (Tango 1998, eq. 5 to 7)."""
    from scipy.special import ndtr

    if limit >= 1:
        return 0.0
    a, b, c = 2 * n, -lost - gained + (2 * n - lost + gained) * limit, -gained * limit * (1 - limit)
    share = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    variance = n * (2 * share + limit * (1 - limit))
    return float(ndtr((lost - gained - n * limit) / math.sqrt(variance)))


def _loss_seen(fit: Fit, table: ScoreTable, rule: EquivalenceRule, reach: float) -> float:
    """The loss that a test at this level finds with 80 % chance, by the spread of the differences."""
    floor = LEAST * reach / max(len(table.scores), 1)
    return (t_quantile(fit.freedom, 1 - rule.alpha / 2) + POWER) * max(fit.error, floor)


def losses_by_size(losses: Floats, least: float) -> tuple[list[int], list[int]]:
    """The queries that lose, and those that gain, `least` or more; the largest difference first."""
    order = np.argsort(-np.abs(losses), kind="stable")
    moved = [int(i) for i in order if abs(losses[i]) > max(least, 0.0)]
    return [i for i in moved if losses[i] > 0], [i for i in moved if losses[i] < 0]
