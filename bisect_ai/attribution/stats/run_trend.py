"""Whether scores moved while a run went on: a provider that sinks at noon bends whatever was measured in the afternoon.

The good and the bad release are run all through a run, so they are its sentinels. Their scores, each less its release's mean, are
split in two at the call where the halves differ most (a change-point scan: Page 1954); what chance makes of such a split is
read off random orders of the same scores (a permutation test, so nothing is assumed of the scores). Queries come in random order, so
time is all that a trend can be.

Differences of cells that ran on the same queries at the same time keep their value. Where a cell ran later than those that it is
compared with, its interval is widened by what the move is worth: its size times how much more of the cell came after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bisect_ai.attribution.problem import Attribution, Estimate, Floats, Ints

FEWEST = 40
"""Trials of good and bad below which nothing is looked for."""
EDGE = 0.1
"""The part of the trials at either end in which no split is tried."""
DRAWS = 400
"""Random orders behind the p-value: the smallest is then 1 in 401, well below `RARE`."""
RARE = 0.01
"""p-value below which a move is told: one run in a hundred tells of one that was none."""


@dataclass(frozen=True)
class Trend:
    """Scores of good and bad before and after a call of the run."""

    move: float
    """Score points that they rose by (oriented); negative: they sank."""
    at: int
    """Place of the first trial after it, in the order of the run."""
    trials: int
    p: float
    later: Mapping[int, float]
    """Cell to the part of its trials that came after it."""


def find_trend(cells: Ints, scores: Floats, *, corners: Sequence[int], seed: int) -> Trend | None:
    """(n,) cells and oriented scores in the order of the run (NaN: none) -> the move, when there is one beyond chance."""
    own = np.flatnonzero(np.isin(cells, corners) & ~np.isnan(scores))
    n = len(own)
    if n < FEWEST:
        return None
    rest = scores[own].astype(float)
    for cell in corners:
        chosen = cells[own] == cell
        if chosen.any():
            rest[chosen] -= rest[chosen].mean()
    spread = rest.std()
    if spread == 0:
        return None
    sizes = np.arange(1, n)
    scale = np.sqrt(sizes * (n - sizes) / n)
    inside = (sizes >= EDGE * n) & (sizes <= (1 - EDGE) * n)

    def scan(values: Floats) -> Floats:
        return np.asarray(np.abs(np.cumsum(values)[:-1]) / scale * inside)

    seen = scan(rest)
    split = int(sizes[np.argmax(seen)])
    rng = np.random.default_rng([seed, 21])
    p = (1 + sum(scan(rng.permutation(rest)).max() >= seen.max() for _ in range(DRAWS))) / (DRAWS + 1)
    if p > RARE:
        return None
    at = int(own[split])
    move = float(rest[split:].mean() - rest[:split].mean())
    order = np.arange(len(cells))
    later = {int(c): float((order[cells == c] >= at).mean()) for c in np.unique(cells)}
    return Trend(move, at, len(cells), p, later)


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
