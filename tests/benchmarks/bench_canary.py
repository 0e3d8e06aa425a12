"""How many live answers a canary takes: the table of the canary guide. Run: python tests/benchmarks/bench_canary.py [SEEDS]

Pass/fail answers, 85 % of the baseline's pass; the canary answers a share of the traffic and loses `loss` points of 100.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.questions.canary import find
from bisect_ai.attribution.questions.canary_looks import Answers, CanaryRule

MOST = {0.02: 80_000, 0.05: 20_000}
"""Answers, the most, by tolerance."""


def live(share: float, loss: float, most: int, seed: int) -> Answers:
    """Answers of a log."""
    rng = np.random.default_rng([seed, 12])
    is_canary = (rng.random(most) < share).astype(int)
    return Answers(is_canary, (rng.random(most) < 0.85 - loss * is_canary).astype(float))


def row(share: float, tolerance: float, loss: float, seeds: int) -> str:
    """One line of the table."""
    most = int(MOST[tolerance] * (1 if share == 0.5 else 3))
    answers = [live(share, loss, most, s) for s in range(seeds)]
    found = [find(a, CanaryRule(tolerance), history=False) for a in answers]
    shares = [sum(f.kind == kind for f in found) / seeds for kind in ("promote", "roll_back", "wait")]
    told = [int(a.is_canary[: f.decided_after].sum()) for a, f in zip(answers, found, strict=True)]
    ends = ", ".join(f"{np.quantile(told, q):,.0f}" for q in (0.5, 0.9))
    return (
        f"| {100 * share:.0f} % | {100 * tolerance:g} | {100 * loss:g} | "
        + " | ".join(f"{s:.2f}" for s in shares)
        + f" | {ends} |"
    )


def main(seeds: int) -> None:
    """Print the table."""
    print("| canary's share | tolerance | loses | promoted | rolled back | wait | answers of the canary (median, 90 %) |")
    for share in (0.5, 0.1):
        for tolerance in (0.05, 0.02):
            for loss in (0.0, tolerance, 2 * tolerance, 0.15):
                print(row(share, tolerance, loss, seeds), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
