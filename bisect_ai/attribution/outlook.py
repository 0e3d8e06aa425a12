"""How far off a verdict is: calls that would probably settle a search, by letting its evidence grow as it has so far.

There are two ways out: the strongest suspect's log evidence, which grows in proportion to the calls, reaches its bound; or the
loss is shown to lie below the tolerance, for which its z grows as their square root.
"""

from __future__ import annotations

import math

WEAK = 0.5
"""Log evidence that says nothing yet."""


def calls_to_settle(spent: int, *, evidence: float, goal: float, z_below: float, z_bound: float) -> int | None:
    """Calls in all, from the start, by the nearer way out; None when the evidence so far points to neither.

    `evidence`, `goal`: log evidence of the strongest suspect and its bound; `z_below`, `z_bound`: standard errors by which the
    loss lies below the tolerance (negative: above it), and those that would show it.
    """
    ways = [spent * 1.5 * goal / evidence] if evidence > WEAK else []
    if z_below > 0.1:
        ways.append(spent * (z_bound / z_below) ** 2)
    return math.ceil(min(ways)) if ways else None


def is_futile(budget: int, *, needed: int | None, evidence: float, z_below: float) -> bool:
    """Whether going on to the end of the budget would waste it: no axis is suspect, the loss looks to be below the tolerance,
    and showing that would take more than three budgets."""
    return evidence <= WEAK and z_below > 0 and (needed is None or needed > 3 * budget)
