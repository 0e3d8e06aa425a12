"""Since when: the answer at which scores began to be lower, with an interval, and evidence that they are.

**Evidence.** For each of `STARTS` places spread over the log, the wealth staked on a lower mean after it than before it
(`adjusted.py`), a likelihood ratio that no common mean can help; their average is a wealth again, so that it ever passes 1 / alpha, as
the log grows, with a chance of at most alpha (the e-detector of Shin, Ramdas and Rinaldo 2024, with starts fixed beforehand).

**Interval.** Least squares place the step; places whose sum of squares is larger by up to `CUTOFF` variances belong to the interval.
The statistic at the true place is that of a two-sided Brownian motion with a drift, P(x or less) = (1 - exp(-x / 2))^2 (Hansen 2000;
Bai 1997). The cutoff is its 97 % point though 95 % is claimed: the rest pays for looks, estimated means, and steps not quite clean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, cluster_sums
from bisect_ai.attribution.stats.adjusted import log_evidence

STARTS = 64
CUTOFF = -2 * math.log(1 - math.sqrt(0.97))
FEWEST = 20
"""Answers on either side of a step."""
BATCH = 50
"""Answers whose means tell whether neighbours are alike."""
ALIKE = 1.25
"""Ratio of variances from which on neighbours are taken to be alike."""


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
