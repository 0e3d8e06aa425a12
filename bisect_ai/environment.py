"""What is not the release's fault: drift of the good release, and a drop in the log that replay does not show.

Drift: the good release's queries, scored when they were logged and replayed now, paired; shown when the 95 % interval of the
difference lies outside the tolerance. Not reproduced: the log's own drop (its bad against its good records, two-sample interval)
lies above the tolerance, while the replayed loss's interval ends below half of the logged one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bisect_ai.attribution.problem import Estimate
from bisect_ai.ledger import Ledger
from bisect_ai.queries.sample import Sample

if TYPE_CHECKING:
    from bisect_ai.study import Prepared

FEWEST = 20


@dataclass(frozen=True)
class Environment:
    """`kind` is set when the verdict lies outside the release; `drift` and `logged` are what was measured, None: not known."""

    kind: Literal["drift", "not_reproduced"] | None = None
    drift: Estimate | None = None
    """Logged minus replayed score of the good release, in score points."""
    logged: Estimate | None = None
    """The loss that the log itself shows."""
    logged_good: float | None = None
    logged_bad: float | None = None


def check_environment(sample: Sample, ledger: Ledger, prepared: Prepared, loss: Estimate) -> Environment:
    """What the log and the good release's replay say about anything that moved besides the release."""
    sign = 1.0 if prepared.metric.higher_is_better else -1.0
    drift = _drift(sample, ledger, prepared, sign)
    good, bad = _logged(sample, prepared, prepared.good.name), _logged(sample, prepared, prepared.bad.name)
    logged = None if good is None or bad is None else _difference(good, bad, sign)
    kind = _kind(prepared.config.tolerance, drift, logged, loss)
    return Environment(kind, drift, logged, None if good is None else good[0], None if bad is None else bad[0])


def _kind(
    tolerance: float, drift: Estimate | None, logged: Estimate | None, loss: Estimate
) -> Literal["drift", "not_reproduced"] | None:
    if loss.interval is None or loss.interval[0] > tolerance:
        return None
    if drift is not None and drift.interval is not None and (drift.interval[0] > tolerance or drift.interval[1] < -tolerance):
        return "drift"
    if logged is None or logged.interval is None or logged.interval[0] <= tolerance:
        return None
    return "not_reproduced" if loss.interval[1] < logged.interval[0] / 2 else None


def _drift(sample: Sample, ledger: Ledger, prepared: Prepared, sign: float) -> Estimate | None:
    name = prepared.metric.name
    differences = []
    for seen in ledger.observations:
        if seen.trial.cell != 0 or seen.trial.repeat != 0 or seen.logged:
            continue
        query, now = sample.queries[seen.trial.query], seen.scores.get(name)
        then = query.scores.get(name) if query.release == prepared.good.name else None
        if now is not None and then is not None:
            differences.append(sign * (float(then) - now))
    if len(differences) < FEWEST:
        return None
    d = np.array(differences)
    return _normal(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d), "logged minus replayed, paired")


def _logged(sample: Sample, prepared: Prepared, release: str) -> tuple[float, float, int] | None:
    """(mean, variance, n) of the metric's logged scores under a release label."""
    for row in sample.logged:
        tally = row.scores.get(prepared.metric.name) if row.release == release else None
        if tally is not None and tally.n >= FEWEST and tally.mean is not None and tally.variance is not None:
            return tally.mean, tally.variance, tally.n
    return None


def _difference(good: tuple[float, float, int], bad: tuple[float, float, int], sign: float) -> Estimate:
    error = math.sqrt(good[1] / good[2] + bad[1] / bad[2])
    return _normal(sign * (good[0] - bad[0]), error, good[2] + bad[2], "logged scores, two samples")


def _normal(value: float, error: float, n: int, what: str) -> Estimate:
    return Estimate(value, (value - 1.96 * error, value + 1.96 * error), n, f"{what}, 95 % normal interval")
