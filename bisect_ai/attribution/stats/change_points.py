"""Where scores began to be lower: in a log (since when), and while a run went on.

**Since when**: the answer at which scores began to be lower, with an interval, and evidence that they are.

**Evidence.** For each of `STARTS` places spread over the log, the wealth staked on a lower mean after it than before it
(`adjusted.py`), a likelihood ratio that no common mean can help; their average is a wealth again, so that it ever passes 1 / alpha,
as the log grows, with a chance of at most alpha (the e-detector of Shin, Ramdas and Rinaldo 2024, with starts fixed beforehand).

**Interval.** Least squares place the step; places whose sum of squares is larger by up to `CUTOFF` variances belong to the
interval. The statistic at the true place is that of a two-sided Brownian motion with a drift, P(x or less) = (1 - exp(-x / 2))^2
(Hansen 2000; Bai 1997). The cutoff is its 97 % point though 95 % is claimed: the rest pays for looks, estimated means, and steps
not quite clean.

**While a run went on**: a provider that sinks at noon bends whatever was measured in the afternoon. The good and the bad release
are run all through a run, so they are its sentinels. Their scores, each less its release's mean, are split in two at the call where
the halves differ most (a change-point scan: Page 1954); what chance makes of such a split is read off random orders of the same
queries (a permutation test, so nothing is assumed of the scores, nor that good and bad answer a query independently). Queries come
in random order, so time is all that a trend can be.

Differences of cells that ran on the same queries at the same time keep their value. Where a cell ran later than those that it is
compared with, its interval is widened by what the move is worth: its size times how much more of the cell came after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.problem import Attribution, Estimate, Floats, Ints, cluster_sums
from bisect_ai.attribution.stats.adjusted import log_evidence

# Places between which the wealth on a later loss is shared.
STARTS = 64
# Variances: the 97 % point of the statistic at the true place (see above).
CUTOFF = -2 * math.log(1 - math.sqrt(0.97))
# Answers on either side of a step.
FEWEST = 20
# Answers whose means tell whether neighbours are alike.
BATCH = 50
# Ratio of variances from which on neighbours are taken to be alike.
ALIKE = 1.25


@dataclass(frozen=True)
class OnsetFinding:
    """`first` is the first answer of the lower scores (its place), which lies in `low` to `high`; means before and after, score points.

    `evidence` is the logarithm of the wealth; it proves a loss from log(1 / alpha) on.
    """

    first: int
    low: int
    high: int
    before: float
    after: float
    evidence: float
    n: int

    @property
    def loss(self) -> float:
        """Score points."""
        return self.before - self.after


def find_onset(scores: Floats, cluster: Ints | None = None) -> OnsetFinding | None:
    """The likeliest place from which on scores (n,), higher for better, are lower; None where there are too few."""
    n = len(scores)
    if n < 2 * FEWEST:
        return None
    place = np.arange(FEWEST, n - FEWEST + 1)
    before, after = _window_means(scores, place)
    gain = place * (n - place) / n * np.maximum(before - after, 0.0) ** 2
    best = int(gain.argmax())
    variance = _variance(scores, int(place[best]), cluster)
    near = place[gain >= gain[best] - CUTOFF * variance]
    return OnsetFinding(
        int(place[best]),
        int(near.min()),
        int(near.max()),
        float(before[best]),
        float(after[best]),
        _log_mean_wealth(scores, variance),
        n,
    )


def _window_means(scores: Floats, place: Ints) -> tuple[Floats, Floats]:
    """The means of the scores before each place and from it on."""
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    return sums[place] / place, (sums[-1] - sums[place]) / (len(scores) - place)


def _variance(scores: Floats, step: int, cluster: Ints | None) -> float:
    """The variance of a score around the step's two means, larger where neighbours or a cluster's answers are alike."""
    left = np.concatenate([scores[:step] - scores[:step].mean(), scores[step:] - scores[step:].mean()])
    own = float(left @ left) / len(left) + 1.0 / len(left) * 0.25
    whole = len(left) // BATCH * BATCH
    batches = left[:whole].reshape(-1, BATCH).mean(1) if whole else np.zeros(0)
    # The variance of fewer batches is off by a third.
    spread = [BATCH * float(batches.var()) / own] if len(batches) >= 20 else []
    if cluster is not None:
        pulls = cluster_sums(left, cluster)
        spread.append(float(pulls @ pulls) / len(left) / own)
    worst = max(spread, default=1.0)
    return own * (worst if worst > ALIKE else 1.0)


def _log_mean_wealth(scores: Floats, variance: float) -> float:
    """The logarithm of the mean wealth over the starts."""
    n = len(scores)
    starts = np.unique(np.linspace(0, n, STARTS + 2).astype(int)[1:-1])
    starts = starts[(starts >= FEWEST) & (starts <= n - FEWEST)]
    before, after = _window_means(scores, starts)
    errors = np.sqrt(variance * (1 / starts + 1 / (n - starts)))
    spread = math.sqrt(variance)
    logs = [log_evidence(float(b - a), float(e), spread, 0.0) for b, a, e in zip(before, after, errors, strict=True)]
    if not logs:
        return 0.0
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))


# Trials of good and bad below which nothing is looked for.
FEWEST_TRIALS = 40
# The part of the trials at either end in which no split is tried.
EDGE = 0.1
# Random orders behind the p-value: the smallest is then 1 in 401, well below `RARE`.
DRAWS = 400
# p-value below which a move is told: one run in a hundred tells of one that was none.
RARE = 0.01


@dataclass(frozen=True)
class Trend:
    """Scores of good and bad before and after a call of the run."""

    # Score points that they rose by (oriented); negative: they sank.
    move: float
    # Place of the first trial after it, in the order of the run.
    at: int
    trials: int
    p: float
    # Cell to the part of its trials that came after it.
    later: Mapping[int, float]


def find_trend(cells: Ints, scores: Floats, queries: Ints, *, corners: Sequence[int], seed: int) -> Trend | None:
    """(n,) cells, oriented scores (NaN: none) and queries in the order of the run -> the move, when there is one beyond chance."""
    own = np.flatnonzero(np.isin(cells, corners) & ~np.isnan(scores))
    if len(own) < FEWEST_TRIALS:
        return None
    rest = scores[own].astype(float)
    for cell in corners:
        chosen = cells[own] == cell
        if chosen.any():
            rest[chosen] -= rest[chosen].mean()
    if rest.std() == 0:
        return None
    _, first, query = np.unique(queries[own], return_index=True, return_inverse=True)
    begun = np.argsort(first)
    # good and bad answer the same question, so what chance moves is a whole query
    pulls: Floats = np.bincount(query, rest)[begun].astype(float)
    sizes = np.arange(1, len(pulls))
    scale = np.sqrt(sizes * (len(pulls) - sizes) / len(pulls))
    inside = (sizes >= EDGE * len(pulls)) & (sizes <= (1 - EDGE) * len(pulls))

    def scan(values: Floats) -> Floats:
        return np.asarray(np.abs(np.cumsum(values)[:-1]) / scale * inside)

    seen = scan(pulls)
    split = int(first[begun[sizes[np.argmax(seen)]]])
    rng, largest, beyond = np.random.default_rng([seed, 21]), seen.max(), 0
    for _ in range(DRAWS):
        beyond += bool(scan(rng.permutation(pulls)).max() >= largest)
        if 1 + beyond > RARE * (DRAWS + 1):  # whatever the other draws say
            return None
    at = int(own[split])
    move = float(rest[split:].mean() - rest[:split].mean())
    order = np.arange(len(cells))
    later = {int(c): float((order[cells == c] >= at).mean()) for c in np.unique(cells)}
    return Trend(move, at, len(cells), (1 + beyond) / (DRAWS + 1), later)


def with_trend(found: Attribution, trend: Trend, axes: Sequence[str]) -> Attribution:
    """The attribution with intervals as wide as the move makes them."""
    full = (1 << len(axes)) - 1
    where = {axis: 1 << i for i, axis in enumerate(axes)}

    def apart(cell: int, *others: int) -> float:
        """What the move may put between a cell and others, score points."""
        own = trend.later.get(cell)
        known = [abs(own - trend.later[o]) for o in others if o in trend.later] if own is not None else []
        return abs(trend.move) * max(known, default=0.0)

    def cells_of(names: Sequence[str], kind: str) -> tuple[int, ...]:
        mask = sum(where[a] for a in names)
        return (mask, 0) if kind == "introduced" else (full & ~mask, full)

    rollback = found.rollback
    if rollback is not None:
        more = apart(rollback.cell, 0, full)
        share = more / found.loss.value if found.loss.value else 0.0
        interval = None if rollback.interval is None else (rollback.interval[0] - share, rollback.interval[1] + share)
        rollback = replace(rollback, value=_widened_estimate(rollback.value, more), interval=interval)
    return replace(
        found,
        loss=_widened_estimate(found.loss, apart(0, full)),
        rollback=rollback,
        effects=tuple(
            replace(e, estimate=_widened_estimate(e.estimate, apart(*cells_of(e.axes, e.kind)))) for e in found.effects
        ),
        causes=tuple(
            replace(c, share=_wider_share(c.share, apart(*cells_of(c.axes, "reverted")), found)) for c in found.causes
        ),
    )


def _widened_estimate(estimate: Estimate, more: float) -> Estimate:
    if estimate.interval is None or more <= 0:
        return estimate
    low, high = estimate.interval
    return replace(
        estimate, interval=(low - more, high + more), method=f"{estimate.method}, widened for scores that moved in the run"
    )


def _wider_share(share: Estimate, more: float, found: Attribution) -> Estimate:
    if share.interval is None or not found.loss.value or more <= 0:
        return share
    wider = _widened_estimate(share, more / abs(found.loss.value))
    low, high = wider.interval or (0.0, 1.0)
    return replace(wider, interval=(max(low, 0.0), min(high, 1.0)))
