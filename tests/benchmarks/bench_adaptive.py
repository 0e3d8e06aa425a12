"""How often each method is right, whom it blames and what it spends: adaptive, full factorial, flip then revert.

    python tests/benchmarks/bench_adaptive.py --seeds 100
    python tests/benchmarks/bench_adaptive.py --families either two --noise 0.1 --budgets 400 800 --k 6

Without `--budgets` every family gets the calls that the adaptive search should need: half without noise, double at 10 %, a
quarter more at k = 6, a half more at k = 8. `full` is the two-level factorial with Holm-adjusted main effects; `flips` runs
half of its calls on good and bad and the rest on single reverts of the queries that flipped, with a paired test per axis.
`short`: the rollback truly restores less than 70 % of the loss.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.designs import design_search
from bisect_ai.attribution.problem import (
    Attribution,
    Belief,
    Cause,
    Estimate,
    Outcome,
    Problem,
    Rollback,
    Search,
    Trial,
)
from tests.quality.simulated import Verdict, judge, make, solve

FIGURES = {
    "alone": 400,
    "together": 400,
    "masking": 400,
    "graded": 300,
    "either": 800,
    "two": 1200,
    "small": 1600,
    "null": 1600,
}
UNKNOWN = Estimate(None, None, 0, "not estimated")


class FlipsThenReverts:
    """Good and bad on half of the budget, then every axis reverted alone on the queries that got worse."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._scores: dict[tuple[int, int], float] = {}
        self._queue = [Trial(q, c) for q in range(problem.budget // 4) for c in (0, problem.full)]
        self._reverts: list[Trial] | None = None

    def ask(self, width: int) -> Sequence[Trial]:
        """The next trials; the reverts once good and bad are in."""
        if not self._queue and self._reverts is None:
            self._reverts = self._flipped()
            self._queue = list(self._reverts)
        now, self._queue = self._queue[:width], self._queue[width:]
        return now

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Keeps the scores."""
        self._scores |= {(o.trial.query, o.trial.cell): o.score for o in outcomes if o.score is not None}

    def belief(self) -> Belief:
        """Nothing before the end."""
        return Belief("localise", UNKNOWN)

    def result(self) -> Attribution:
        """Every axis whose revert restores more than the other reverts' median does, by a one-sided test at alpha / k."""
        p = self._problem
        guilty = [a for a in range(p.k) if self._z(a) > NormalDist().inv_cdf(1 - p.alpha / p.k)]
        if not guilty:
            return Attribution("inconclusive", UNKNOWN, UNKNOWN, UNKNOWN)
        causes = tuple(Cause((p.axes[a],), "alone", UNKNOWN) for a in guilty)
        best = max(guilty, key=lambda a: statistics.mean(self._restored(a)))
        back_axes = [best] if statistics.mean(self._restored(best)) >= 0.8 else guilty
        names = tuple(p.axes[a] for a in back_axes)
        back = Rollback(names, p.full & ~sum(1 << a for a in back_axes), UNKNOWN, None)
        return Attribution("cause", UNKNOWN, UNKNOWN, UNKNOWN, causes, back)

    def _flipped(self) -> list[Trial]:
        p = self._problem
        pairs = [(self._scores[q, 0] - self._scores[q, p.full], q) for q in range(p.budget // 4)]
        worse = [q for drop, q in sorted(pairs, reverse=True) if drop > 0][: p.budget // 2 // p.k]
        return [Trial(q, p.full & ~(1 << a)) for q in worse for a in range(p.k)]

    def _restored(self, axis: int) -> list[float]:
        p = self._problem
        queries = [t.query for t in self._reverts or [] if t.cell == p.full & ~(1 << axis)]
        return [self._scores[q, p.full & ~(1 << axis)] for q in queries]

    def _z(self, axis: int) -> float:
        every = [self._restored(a) for a in range(self._problem.k)]
        if len(every[axis]) < 4:
            return 0.0
        usual = [statistics.median(row) for row in zip(*every, strict=True)]
        d = [x - u for x, u in zip(every[axis], usual, strict=True)]
        spread = math.hypot(statistics.stdev(d), 0.5 / len(d) ** 0.5 * max(map(abs, d), default=0.0))
        return statistics.mean(d) / (spread / len(d) ** 0.5) if spread else 0.0


METHODS: dict[str, Callable[[Problem], Search]] = {
    "adaptive": lambda p: design_search("adaptive", p),
    "full": lambda p: design_search("full", p),
    "flips": FlipsThenReverts,
}


def figure(family: str, k: int, noise: float) -> int:
    """The calls that the adaptive search should need."""
    return int(FIGURES[family] * min(1, 0.5 + 10 * noise) * max(1, 20 * noise) * (1 + max(0, k - 4) / 8))


def row(method: str, family: str, k: int, noise: float, budget: int, seeds: range) -> str:
    """One line of the table."""
    start, found = time.process_time(), list[Verdict]()
    for seed in seeds:
        population = make(family, k=k, noise=noise, seed=seed)
        found.append(judge(population, *solve(population, METHODS[method], budget=budget, seed=seed)))
    calls = statistics.median(v.calls for v in found)
    micro = 1e6 * (time.process_time() - start) / max(sum(v.calls for v in found), 1)
    shares = [
        sum(getattr(v, name) for v in found) / len(seeds) for name in ("right", "modes", "blamed", "short", "inconclusive")
    ]
    columns = " ".join(f"{share:6.2f}" for share in shares)
    return f"{family:9} {k:2} {noise:5.2f} {budget:6} {method:9} | {columns} | {calls:6.0f} {micro:6.0f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FIGURES))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.05, 0.1])
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--budgets", nargs="+", type=int, default=[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    print("family     k noise budget method    |  right  modes blamed  short  incon |  calls us/call")
    for family in args.families:
        for noise in args.noise:
            for budget in args.budgets:
                for method in METHODS:
                    calls = budget or figure(family, args.k, noise)
                    print(row(method, family, args.k, noise, calls, seeds), flush=True)


if __name__ == "__main__":
    main()
