"""A difference between two releases' answers that is adjusted for what they were asked, with evidence that holds at every look.

**Estimate.** Least squares of the scores on the release, covariates and stretches of the log, by partialling out (Frisch and Waugh
1933; Lovell 1963); its error is robust to clusters (Liang and Zeger 1986), so that a user's answers count, and not as independent,
and it is never below the classical one: the few answers of a small canary may all be right by luck, and seem to be without scatter.
A stretch, or a level of a covariate, that only one release answered has no weight.

**Evidence.** For an estimate e with standard error s the wealth against "the mean is m or less" is the average likelihood ratio of
z = (e - m) / s over half-normal effects of several sizes (Robbins 1970). Estimates over a growing log behave like a Gaussian random
walk, so the wealth ever passes 1 / alpha with a chance of alpha in large samples (asymptotic confidence sequences, Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas 2024). The means that it has not passed against make up the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, cluster_sums

# Sizes of effects, in standard deviations of a score, that the wealth is staked on.
EFFECTS = np.array([0.03, 0.1, 0.3, 1.0])
# Answers of each release that are made up, half a scale from what is expected: no release looks certain by few answers that
# agree.
MADE_UP = 2.0
# Sweeps over the groups, the most, and the largest change at which they end.
PASSES, SETTLED = 50, 1e-7
# They tell an end from others to 100 / 2^36 standard errors.
HALVINGS = 36
# Standard errors from an estimate that an interval reaches to at most.
FARTHEST = 100.0


@dataclass(frozen=True)
class Contrast:
    """How much more the canary scores than the baseline, adjusted; `spread`: a score's standard deviation, `mean`: of all scores."""

    estimate: float
    error: float
    spread: float
    n: int
    mean: float
    # The canary's share of the answers.
    share: float

    @property
    def sides(self) -> tuple[float, float]:
        """The means of baseline and canary on the same traffic."""
        return self.mean - self.share * self.estimate, self.mean + (1 - self.share) * self.estimate


@dataclass(frozen=True)
class Frame:
    """Answers in the order of time: (n,) 1 for the canary's, (n, k) covariates, (n,) stretches, (n,) clusters or None.

    `absorbed`: (n,) values of columns of many values, like users, within each of which the releases are compared.
    """

    is_canary: Ints
    covariates: Floats
    stretch: Ints
    cluster: Ints | None = None
    absorbed: tuple[Ints, ...] = ()

    def of(self, members: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Frame:
        """Some of the answers."""
        cluster = None if self.cluster is None else self.cluster[members]
        absorbed = tuple(values[members] for values in self.absorbed)
        return Frame(self.is_canary[members], self.covariates[members], self.stretch[members], cluster, absorbed)


def contrast(frame: Frame, score: Floats, *, half: float = 0.5) -> Contrast | None:
    """The adjusted difference of the scores (n,), NaN left out; None where the releases cannot be compared.

    `half`: half of the scale, in score points, for what is made up.
    """
    known = ~np.isnan(score)
    frame, y = (frame, score) if known.all() else (frame.of(known), score[known])
    n, arm = len(y), frame.is_canary.astype(float)
    if n < 4 or not 0 < arm.sum() < n:
        return None
    inner, rank = _partialled(np.column_stack([arm, y]), frame)
    d, out = inner[:, 0], inner[:, 1]
    weight = float(d @ d)
    if weight < 1e-6 * n or weight < 0.5:
        return None
    estimate = float(d @ out) / weight
    residual = out - estimate * d
    free = max(n - rank - 1, 1)
    pulls = cluster_sums(d * residual, frame.cluster)
    few = 1.0 if frame.cluster is None else len(pulls) / max(len(pulls) - 1, 1)
    made_up = MADE_UP * half**2 * sum(float((d[arm == side] ** 2).mean()) for side in (0.0, 1.0))
    scatter = float(residual @ residual) / free
    variance = (max(float(pulls @ pulls) * n / free * few, scatter * weight) + made_up) / weight**2
    spread = math.sqrt(scatter + half**2 * MADE_UP / n)
    return Contrast(estimate, math.sqrt(variance), spread, n, float(y.mean()), float(arm.mean()))


def _partialled(columns: Floats, frame: Frame) -> tuple[Floats, int]:
    """The columns (n, m) less what stretches and covariates say of them, and how many parameters that took."""
    stretch = _dense(frame.stretch)
    groups = [stretch, *map(_dense, frame.absorbed)]
    both = _within_all(np.column_stack([columns, frame.covariates]), groups)
    m, k = columns.shape[1], frame.covariates.shape[1]
    rank = 1 + sum(int(group.max()) for group in groups)
    if not k:
        return both, rank
    x, kept = both[:, m:], both[:, :m]
    gram = x.T @ x
    scale = float(np.trace(gram)) / k
    if scale <= 0:
        return kept, rank
    slopes = np.linalg.lstsq(gram + 1e-9 * scale * np.eye(k), x.T @ kept, rcond=1e-12)[0]
    return np.asarray(kept - x @ slopes), rank + k


def _within_all(columns: Floats, groups: Sequence[Ints]) -> Floats:
    """The columns less what every grouping says of them, one grouping after the other until it moves nothing (Halperin 1962)."""
    found = _within(columns, groups[0])
    for _ in range(PASSES if len(groups) > 1 else 0):
        before = found
        for group in (*groups[1:], groups[0]):
            found = _within(found, group)
        if np.abs(found - before).max(initial=0.0) < SETTLED:
            break
    return found


def _within(columns: Floats, group: Ints) -> Floats:
    """Each column less its mean in the row's group."""
    sizes = np.maximum(np.bincount(group), 1)
    means = np.column_stack([np.bincount(group, column) / sizes for column in columns.T])
    return np.asarray(columns - means[group])


def _dense(names: Ints) -> Ints:
    """Numbers 0, 1, … for names."""
    return np.unique(names, return_inverse=True)[1]


def log_evidence(estimate: float, error: float, spread: float, mean: float) -> float:
    """The logarithm of the wealth staked on a mean above `mean`."""
    z = (estimate - mean) / error
    ratio = (EFFECTS * spread / error) ** 2
    pull = z * np.sqrt(ratio / (1 + ratio))
    logs = math.log(2) - 0.5 * np.log1p(ratio) + pull**2 / 2 + _log_normal(pull)
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _log_normal(x: Floats) -> Floats:
    """(k,) logarithms of the normal distribution function, by erfc."""
    tails = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x.tolist()])
    far = -0.5 * x**2 - np.log(np.maximum(-x, 1.0) * math.sqrt(2 * math.pi))
    # Below it floats lose digits, and the expansion for far tails is accurate.
    return np.where(tails > 1e-290, np.log(np.maximum(tails, 1e-300)), far)


def least(estimate: float, error: float, spread: float, alpha: float) -> float:
    """The mean lies above this at every look, but for a chance of `alpha` over all of them."""
    low, high = estimate - FARTHEST * error, estimate
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        won = log_evidence(estimate, error, spread, middle) >= -math.log(alpha)
        low, high = (middle, high) if won else (low, middle)
    return low


def both_ends(found: Contrast, alpha: float) -> tuple[float, float]:
    """The interval of the difference, each end wrong with a chance of at most `alpha`, ever."""
    return (
        least(found.estimate, found.error, found.spread, alpha),
        -least(-found.estimate, found.error, found.spread, alpha),
    )
