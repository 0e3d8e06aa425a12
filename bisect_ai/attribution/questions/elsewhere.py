"""What is not the release's fault: the logged drop taken apart into points, and the verdict that follows from them.

The log scored the good release on the queries of its own time, and the bad release on those of its own. With the good release
replayed now on both, the logged drop is a sum (L logged, G good release replayed now, B bad one; g, b the two windows' queries):

    L_g - L_b  =  (L_g - G_g)  +  (G_g - G_b)  +  (G_b - B_b)  +  (B_b - L_b)
      drop          drift           traffic        release          not reproduced

Drift and the last two together are differences of the same query, so they are known far better than the means themselves;
traffic is what they leave of the drop, which the whole log tells (a difference estimator: Cochran 1977, section 7.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints, cluster_sums

Outside = Literal["drift", "traffic", "not_reproduced"]
# Queries of a window that must have both scores.
FEWEST = 20
# Queries a window that are replayed when the log shows a drop that replay does not; and the most, while it is unclear why.
ENOUGH, MOST = 60, 400
# Normal quantile of a 95 % interval.
Z = 1.96


@dataclass(frozen=True)
class Window:
    """The queries of one release's own time that were scored then and have the good release's score now; higher is better."""

    # (n,) logged scores.
    then: Floats
    # (n,) the good release's, replayed.
    now: Floats
    weights: Floats
    clusters: Ints

    @property
    def n(self) -> int:
        """How many queries have both."""
        return len(self.then)


@dataclass(frozen=True)
class Parts:
    """The logged drop and its parts in score points; None: the log or the replay does not tell."""

    drop: Estimate | None = None
    drift: Estimate | None = None
    traffic: Estimate | None = None
    release: Estimate | None = None
    # In the log, but in neither the queries, nor drift, nor the replayed releases.
    rest: Estimate | None = None


def take_apart(good: Window, bad: Window, *, drop: Estimate | None, loss: Estimate) -> Parts:
    """The parts of the logged `drop`; `loss` is what the replayed releases differ by."""
    drift = _paired_mean(good.then - good.now, good, "logged minus replayed") if good.n >= FEWEST else None
    gap = _paired_mean(bad.now - bad.then, bad, "good release now minus what was logged") if bad.n >= FEWEST else None
    if drop is None or drift is None or gap is None:
        return Parts(drop, drift)
    exact = Estimate(drop.value, None, drop.n, "")  # the log's own difference, not what other logs would show
    traffic = _summed_estimates(
        [exact, drift, gap], [1, -1, -1], "the drop less what the same queries show, for the queries of this log"
    )
    rest = _summed_estimates([gap, loss], [1, -1], "same queries, less the replayed loss") if loss.interval else None
    return Parts(drop, drift, traffic, loss, rest)


def verdict_outside(parts: Parts, loss: Estimate, tolerance: float) -> Outside | None:
    """The verdict outside the release; None when it's in the release, or nothing is shown.

    The largest part decides, if it's shown: drift and what does not show on replay by an interval beyond the tolerance; any of
    them by half of a drop whose interval excludes 0, so that it's more than the luck of which queries came. The log must show a
    drop (for drift it need not), and the replayed loss must be doubtful and less than half as much.
    """
    if not (known := _known_parts(parts)):
        return None
    kind, part = max(known, key=lambda row: _part_size(*row))
    if not _is_shown(kind, part, parts.drop, tolerance):
        return None
    return kind if _is_small(loss, abs(part.value or 0.0), tolerance) else None


def is_part_unknown(parts: Parts, loss: Estimate, tolerance: float, n: int, *, named: bool) -> bool:
    """Whether replaying the good release on more queries may tell where a drop went; `n`: of the window with fewer so far.

    `named`: a cause was found, so that only a drift that already looks likely is worth some calls.
    """
    if named:
        return n < ENOUGH and parts.drift is not None and _is_wavering(parts.drift, tolerance)
    if n >= MOST or not _is_small(loss, math.inf, tolerance):
        return False
    moved = parts.drift is not None and abs(parts.drift.value or 0.0) > tolerance
    moved = moved or (parts.drop is not None and (parts.drop.value or 0.0) > tolerance)
    if n < ENOUGH:
        return moved or parts.drift is None
    return moved and verdict_outside(parts, loss, tolerance) is None


def _is_wavering(drift: Estimate, tolerance: float) -> bool:
    """Whether a drift is likelier than not, but not shown."""
    if drift.value is None or drift.interval is None or _is_shown("drift", drift, None, tolerance):
        return False
    return abs(drift.value) > max(tolerance, (drift.interval[1] - drift.interval[0]) / 4)


def two_sample(good: tuple[float, float, int], bad: tuple[float, float, int], *, inflate: float = 1.0) -> Estimate:
    """The difference of two means given as (mean, variance, n); `inflate`: the design effect of clusters."""
    error = math.sqrt(inflate * (good[1] / good[2] + bad[1] / bad[2]))
    return _normal_estimate(good[0] - bad[0], error, good[2] + bad[2], "logged scores, two samples")


def query_mix(good: Window, bad: Window) -> Estimate | None:
    """How much lower the good release, replayed now, scores on the queries of the bad one's time; None: too few of either.

    It needs no logged scores, so it says what the queries can do, not what they did: `then` is not read.
    """
    if min(len(good.now), len(bad.now)) < FEWEST:
        return None
    means = [float(np.average(w.now, weights=w.weights)) for w in (good, bad)]
    errors = [_window_error(w.now - mean, w) for w, mean in zip((good, bad), means, strict=True)]
    what = "good release, replayed, on either window's queries, two samples"
    return _normal_estimate(means[0] - means[1], math.hypot(*errors), len(good.now) + len(bad.now), what)


def design_effect(values: Floats, clusters: Ints) -> float:
    """How much larger the variance of a mean is because queries come in clusters; at least 1."""
    rest = values - values.mean() if len(values) else values
    whole = float((rest**2).sum())
    if whole == 0:
        return 1.0
    return max(1.0, float((cluster_sums(rest, clusters) ** 2).sum()) / whole)


def _known_parts(parts: Parts) -> list[tuple[Outside, Estimate]]:
    named: list[tuple[Outside, Estimate | None]] = [
        ("drift", parts.drift),
        ("traffic", parts.traffic),
        ("not_reproduced", parts.rest),
    ]
    return [(kind, part) for kind, part in named if part is not None]


def _part_size(kind: Outside, part: Estimate) -> float:
    """How much of a drop the part makes. Drift counts either way; a rise that production or the queries hid makes none.

    After a drift that came behind both windows, the bad release too replays below its log: the same points, with the sign turned.
    """
    value = part.value or 0.0
    return abs(value) if kind == "drift" else value


def _is_shown(kind: Outside, part: Estimate, drop: Estimate | None, tolerance: float) -> bool:
    if part.value is None or part.interval is None:
        return False
    low, high = part.interval
    if kind == "drift" and (low > tolerance or high < -tolerance):
        return True
    if drop is None or (drop.value or 0.0) <= tolerance:
        return False
    if kind == "not_reproduced" and low > tolerance:
        return True
    return _is_real(drop, tolerance) and low > 0 and part.value > max(tolerance, (drop.value or 0.0) / 2)


def _is_real(drop: Estimate, tolerance: float) -> bool:
    return drop.interval is not None and drop.interval[0] > 0 and (drop.value or 0.0) > tolerance


def _is_small(loss: Estimate, beside: float, tolerance: float) -> bool:
    """Whether the replayed loss is not shown, and cannot be half of what stands beside it."""
    if loss.value is None or loss.interval is None:
        return False
    low, high = loss.interval
    error = (high - low) / (2 * Z)
    doubtful = loss.value <= max(2.33 * error, tolerance)  # 2.33: one-sided 1 %
    return doubtful and (math.isinf(beside) or high < max(tolerance, beside / 2))


def _paired_mean(differences: Floats, window: Window, what: str) -> Estimate:
    """The weighted mean difference, cluster-robust."""
    share = window.weights / window.weights.sum()
    value = float(share @ differences)
    groups, error = len(np.unique(window.clusters)), _window_error(differences - value, window)
    if error == 0:  # none differs: what a share of 1 - 0.025^(1/n) unseen queries could move
        reach = float(np.ptp(np.concatenate([window.then, window.now])))
        error = reach * (1 - 0.025 ** (1 / groups)) / Z
    return _normal_estimate(value, error, window.n, what + ", paired by query")


def _window_error(rest: Floats, window: Window) -> float:
    """Standard error of the weighted mean whose deviations these are, cluster-robust."""
    summed = cluster_sums(window.weights / window.weights.sum() * rest, window.clusters)
    groups = len(summed)
    return math.sqrt(float((summed**2).sum()) * groups / max(groups - 1, 1))


def _summed_estimates(parts: list[Estimate], signs: list[int], what: str) -> Estimate:
    value = sum(sign * (part.value or 0.0) for sign, part in zip(signs, parts, strict=True))
    error = math.hypot(*((p.interval[1] - p.interval[0]) / (2 * Z) for p in parts if p.interval is not None))
    return _normal_estimate(value, error, min(p.n for p in parts), what)


def _normal_estimate(value: float, error: float, n: int, what: str) -> Estimate:
    return Estimate(value, (value - Z * error, value + Z * error), n, f"{what}, 95 % normal interval")
