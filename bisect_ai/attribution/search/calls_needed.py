"""How many more calls would settle a search: by playing its tests on, from what was seen.

The true mean of a suspect's differences is not known: it is drawn from what its queries say of it, and for each draw the queries
are counted that its test would need. The number that is named settles four of five draws within one and a half times as many
calls. Where a fifth of the draws never settles, or the log has not as many queries, no number is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bisect_ai.attribution.search.query_rows import Mean

DRAWS = 400  # the quantile that is named then moves by 2 % of the draws (binomial standard error)
SETTLED = 0.8  # part of the draws that the number settles, within SLACK times as many calls
SLACK = 1.5  # what the number may be off by: it is divided by this
BOUND = 3.2  # standard errors that a later look must show, about: the bounds of planned looks lie between 2.8 and 3.5
REST = 1.8  # calls for other axes still in the race and for the rollback, beside those of the test
CHOSEN = 0.5  # standard errors that the best of several suspects is taken to be better than it is


def calls_needed(suspects: Sequence[tuple[Mean, int]], below: Mean, *, tolerance: float, queries: int, seed: int) -> int | None:
    """More calls that would probably settle it; None: no number can be named.

    `suspects`: what each suspect costs so far, and the calls that a further query for it takes. `below`: the loss.
    """
    rng = np.random.default_rng([seed, 8])
    # Fewer say too little of a spread to draw from.
    ways = [_calls_until_passed(m, rng, cost=cost, queries=queries) for m, cost in suspects if m.n >= 12]
    if below.n >= 24:
        short = Mean(tolerance - below.value, below.error, below.n)
        ways.append(_calls_until_passed(short, rng, cost=2, queries=queries))
    ways = [w for w in ways if w is not None]
    if not ways:
        return None
    needed = float(np.sort(np.min(ways, axis=0))[math.ceil(SETTLED * DRAWS) - 1])
    return None if not math.isfinite(needed) else max(1, math.ceil(REST * needed / SLACK))


def _calls_until_passed(mean: Mean, rng: np.random.Generator, *, cost: int, queries: int) -> np.ndarray:
    """(DRAWS,) further calls until a mean like this one passes; infinite where it never does, or the log is too short."""
    truth = mean.value - CHOSEN * mean.error + mean.error * rng.standard_normal(DRAWS)
    spread = mean.error * math.sqrt(mean.n)
    luck = rng.standard_normal(DRAWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        # n such that truth * sqrt(n) / spread + luck = BOUND
        wanted = np.where(truth > 0, (np.maximum(BOUND - luck, 0.5) * spread / truth) ** 2, np.inf)
    more = np.maximum(wanted - mean.n, 1.0)
    return np.where(mean.n + more > queries, np.inf, more * cost)
