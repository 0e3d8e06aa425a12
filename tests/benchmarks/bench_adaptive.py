"""How often each method is right, whom it blames and what it spends: adaptive, full factorial, flip then revert.

    python tests/benchmarks/bench_adaptive.py --seeds 100
    python tests/benchmarks/bench_adaptive.py --families either two --noise 0.05 --churn 0 0.05 --budgets 400 800 --k 6
    python tests/benchmarks/bench_adaptive.py --real ../shared/data --per-table 12 --budgets 1000 5000

Planted: every axis churns (breaks a share of the queries, mends as many, costs nothing). Without `--budgets` every family gets the
calls in which the adaptive search should be right 95 times in 100 with that churn (`FIGURES`, half as much again with noise), half
as many more at k = 6 and twice as many at k = 8. `full` is the two-level factorial; `flips` runs half of its calls on good and bad
and the rest on single reverts of the queries that flipped, with a paired test per axis: what churn does to it is why it is here.
`settled`: just the true modes are told; `misread`: the guilty are named and a wrong mode is claimed; `short`: the rollback truly
restores less than 70 % of the loss.

Real: pairs of configurations of recorded tables (parquet: a row per item, combination of levels and trial, with its `score`) that
differ in two axes or more and whose every mixture was measured. Guilty: the exact Shapley share over all items is worth two points
and 15 % of the sum of absolute shares, beyond 1.96 of its standard errors. Innocent: costs at most one point in every context.
`found`: a clear pair has some guilty axis named; `exact`: all guilty and no innocent; `blamed`: an innocent, or anything where the
loss is nil; `restores`: of the rollbacks, those that truly bring back 70 %; `harm`: that bring back less than nothing.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.problem import (
    Attribution,
    Belief,
    Cause,
    Estimate,
    Floats,
    Outcome,
    Problem,
    Rollback,
    Search,
    Trial,
)
from bisect_ai.attribution.search.coupled import design_search
from bisect_ai.attribution.stats import contrasts
from tests.quality.simulated import Verdict, judge, make, solve

FIGURES: dict[str, dict[float, int]] = {  # family: churn of every axis: calls, without noise
    "alone": {0.0: 300, 0.02: 600, 0.05: 1100},
    "together": {0.0: 400, 0.02: 800, 0.05: 1400},
    "masking": {0.0: 300, 0.02: 500, 0.05: 1000},
    "graded": {0.0: 300, 0.02: 450, 0.05: 800},
    "either": {0.0: 600, 0.02: 900, 0.05: 2000},
    "two": {0.0: 900, 0.02: 1500, 0.05: 3200},
    "small": {0.0: 1200, 0.02: 3000, 0.05: 6000},
    "null": {0.0: 1600, 0.02: 1600, 0.05: 1600},
}
NOT_AXES = {"source", "stratum", "item_id", "trial", "score", "doc_recall", "reward", "passed"}
FEWEST_ITEMS = 40
UNKNOWN = Estimate(None, None, 0, "not estimated")


class FlipsThenReverts:
    """Good and bad on half of the budget, then every axis reverted alone on the queries that got worse."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._scores: dict[tuple[int, int], float] = {}
        self._pairs = min(problem.queries, problem.budget // 4)
        self._queue = [Trial(q, c) for q in range(self._pairs) for c in (0, problem.full)]
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
        pairs = [(self._scores[q, 0] - self._scores[q, p.full], q) for q in range(self._pairs)]
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


# -- planted ---------------------------------------------------------------------------------------------------------------
def figure(family: str, k: int, noise: float, churn: float) -> int:
    """The calls in which the adaptive search should be right."""
    return int(FIGURES[family][churn] * (1.6 if noise else 1) * {6: 1.5, 8: 2}.get(k, 1))


def row(method: str, family: str, k: int, noise: float, churn: float, budget: int, seeds: range) -> str:
    """One line of the table."""
    start, found = time.process_time(), list[Verdict]()
    for seed in seeds:
        population = make(family, k=k, noise=noise, seed=seed, churn=churn)
        found.append(judge(population, *solve(population, METHODS[method], budget=budget, seed=seed)))
    calls = statistics.median(v.calls for v in found)
    micro = 1e6 * (time.process_time() - start) / max(sum(v.calls for v in found), 1)
    names = ("right", "modes", "misread", "blamed", "short", "inconclusive")
    columns = " ".join(f"{sum(getattr(v, name) for v in found) / len(seeds):7.2f}" for name in names)
    return f"{family:9} {k:2} {churn:5.2f} {noise:5.2f} {budget:6} {method:9} | {columns} | {calls:6.0f} {micro:6.0f}"


def planted(args: argparse.Namespace) -> None:
    """Prints the table of planted populations."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    print("family     k churn noise budget method    |   right settled misread  blamed   short   incon |  calls us/call")
    for family, churn, noise, budget in itertools.product(args.families, args.churn, args.noise, args.budgets):
        for method in args.methods:
            calls = budget or figure(family, args.k, noise, churn)
            print(row(method, family, args.k, noise, churn, calls, seeds), flush=True)


# -- real ------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pair:
    """A good and a bad configuration whose every mixture was measured: recorded scores by item and cell, and the truth of it."""

    runs: list[list[list[float]]]
    """(items, cells) the recorded scores, one or more."""
    guilty: frozenset[int]
    innocent: frozenset[int]
    loss: float
    nil: bool
    values: Floats

    @property
    def k(self) -> int:
        return len(self.values).bit_length() - 1

    @property
    def clear(self) -> bool:
        return self.loss >= 0.02 and not self.nil and bool(self.guilty)


def pair_of(runs: list[list[list[float]]]) -> Pair:
    """The pair with its truth: exact Shapley shares over all items, with paired standard errors."""
    scores = np.array([[np.mean(cell) for cell in item] for item in runs])
    k = scores.shape[1].bit_length() - 1

    def effect(contrast: Floats) -> tuple[float, float]:
        x = scores @ contrast
        return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))

    values = scores.mean(0)
    shares = [effect(contrasts.shapley(k, a)) for a in range(k)]
    floor = max(0.02, 0.15 * sum(abs(x) for x, _ in shares))
    guilty = frozenset(a for a, (x, error) in enumerate(shares) if x >= floor and x > 1.96 * error)
    most = [max(values[c] - values[c | 1 << a] for c in range(1 << k) if not c >> a & 1) for a in range(k)]
    loss, error = effect(contrasts.loss(k))
    innocent = frozenset(a for a in range(k) if most[a] <= 0.01) - guilty
    return Pair(runs, guilty, innocent, loss, loss <= 0 or loss < 1.96 * error, values)


def pairs_of(path: Path, count: int, seed: int) -> list[Pair]:
    """Seeded pairs of a table whose good configuration is not the worse one."""
    import pandas as pd

    rows = pd.read_parquet(path)
    axes = [c for c in rows.columns if c not in NOT_AXES]
    rows[axes] = rows[axes].astype(str)
    grid = rows.groupby(["stratum", "item_id", *axes]).score.agg(list).unstack(axes)
    means = {c: float(np.mean([np.mean(x) for x in grid[c].dropna()])) for c in grid.columns}
    found = []
    for good, bad in itertools.permutations(sorted(means), 2):
        changed = [i for i, (g, b) in enumerate(zip(good, bad, strict=True)) if g != b]
        if len(changed) < 2 or means[good] < means[bad] - 0.005:
            continue
        cells = [tuple(_mixture(good, bad, changed, cell)) for cell in range(1 << len(changed))]
        if all(c in means for c in cells) and grid[cells].notna().all(axis=1).sum() >= FEWEST_ITEMS:
            found.append(cells)
    chosen = np.random.default_rng([seed, zlib.crc32(path.name.encode())]).permutation(len(found))[:count]
    return [pair_of(grid[found[i]].dropna().to_numpy().tolist()) for i in chosen]


def _mixture(good: tuple[str, ...], bad: tuple[str, ...], changed: list[int], cell: int) -> list[str]:
    return [b if i in changed and cell >> changed.index(i) & 1 else g for i, (g, b) in enumerate(zip(good, bad, strict=True))]


def solve_pair(pair: Pair, method: str, budget: int, seed: int) -> tuple[Attribution, int]:
    """What a method says of a pair, and its calls: each draws one of the cell's recorded scores."""
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(len(pair.runs))
    axes = tuple(f"axis{i}" for i in range(pair.k))
    search, calls = METHODS[method](Problem(axes, len(pair.runs), budget, seed=seed, population=len(pair.runs))), 0
    while trials := list(search.ask(32)):
        calls += len(trials)
        cells = [pair.runs[order[t.query]][t.cell] for t in trials]
        search.tell([Outcome(t, float(c[rng.integers(len(c))])) for t, c in zip(trials, cells, strict=True)])
    return search.result(), calls


@dataclass
class Tally:
    """What was seen of some pairs: per column one truth a pair that it speaks of, and the calls of the clear ones."""

    n: int = 0
    spent: list[int] = field(default_factory=list)
    hits: dict[str, list[bool]] = field(
        default_factory=lambda: {name: [] for name in ("found", "exact", "blamed", "restores", "harm")}
    )

    def add(self, pair: Pair, said: Attribution, calls: int) -> None:
        named = frozenset(int(axis[4:]) for cause in said.causes for axis in cause.axes)
        self.n += 1
        self.hits["blamed"].append(bool(named & pair.innocent or (named and pair.nil)))
        if pair.clear:
            self.hits["found"].append(bool(named & pair.guilty))
            self.hits["exact"].append(named >= pair.guilty and not named & pair.innocent)
            self.spent.append(calls)
        if said.rollback and pair.loss >= 0.02:
            part = float(pair.values[said.rollback.cell] - pair.values[-1]) / pair.loss
            self.hits["restores"].append(part >= 0.7)
            self.hits["harm"].append(part < 0)

    def join(self, other: Tally) -> None:
        self.n += other.n
        self.spent += other.spent
        for name, some in other.hits.items():
            self.hits[name] += some

    def row(self, table: str, budget: int, method: str) -> str:
        columns = " ".join(f"{np.mean(some):8.2f}" if some else "       -" for some in self.hits.values())
        median = statistics.median(self.spent) if self.spent else 0
        return f"{table:40} {self.n:3} {budget:6} {method:9} | {columns} | {median:6.0f}"


def tally_of(pairs: Sequence[Pair], method: str, budget: int, seed: int) -> Tally:
    """What a method says of all pairs of a table."""
    tally = Tally()
    for pair in pairs:
        tally.add(pair, *solve_pair(pair, method, budget, seed))
    return tally


def real(args: argparse.Namespace) -> None:
    """Prints the table of real pairs, a line a table, and at the end all of them together."""
    print(f"{'table':40}   n budget method    |    found    exact   blamed restores     harm |  calls")
    together: dict[tuple[int, str], Tally] = defaultdict(Tally)
    for path in sorted(args.real.glob("*.parquet")):
        pairs = pairs_of(path, args.per_table, args.first_seed)
        for budget, method in itertools.product([b or 1000 for b in args.budgets], args.methods):
            tally = tally_of(pairs, method, budget, args.first_seed)
            together[budget, method].join(tally)
            print(tally.row(path.stem, budget, method), flush=True)
    for (budget, method), tally in together.items():
        print(tally.row("all tables", budget, method))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FIGURES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.05])
    parser.add_argument("--churn", nargs="+", type=float, default=[0.0, 0.02, 0.05])
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--budgets", nargs="+", type=int, default=[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--real", type=Path, help="a folder of recorded tables; instead of planted populations")
    parser.add_argument("--per-table", type=int, default=12)
    args = parser.parse_args()
    (real if args.real else planted)(args)


if __name__ == "__main__":
    main()
