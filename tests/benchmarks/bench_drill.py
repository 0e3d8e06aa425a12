"""How often the drill-down is right, whom it blames and what it spends, beside delta debugging with a repeated oracle.

    python tests/benchmarks/bench_drill.py --seeds 100
    python tests/benchmarks/bench_drill.py --families drill_two --m 128 --noise 0.05 --picire-seeds 20

`picire` is its ddmin with its own cache; the parallel classes try the same sets in the same order from other processes.
Its oracle asks whether a set of changes still costs most of what all of them cost: breaking queries are replayed n times in
turn, and the set fails when more than KEPT of what fails with all of them bad fails. n doubles until ddmin finds exactly
the guilty changes as often as the drill-down, or until it never does; the calls are those of that n.

`--rivals` adds three other evidence models on the same populations, each with its own n doubled in the same way: probabilistic delta
debugging (Wang, Shen, Chen, Xiong and Zhang 2021) with the repeated oracle; group testing (n trials of random halves on random
breaking queries, changes named by the z value of their effect, Bonferroni over m); and bisection alone (n queries bisected
as in `drill_suspects`, changes named when a fifth of the pivots fall on them).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.problem import mask
from bisect_ai.attribution.search.drill_suspects import Chain
from tests.quality.drill_simulated import FAMILIES, Incident, make, problem_of, right, solve

KEPT = {
    0.0: 0.85,
    0.05: 0.75,
    0.1: 0.7,
}  # of three equal causes two leave 2/3 of what is broken, and noise moves it inwards
Find = Callable[[Incident, int, int], tuple[frozenset[int], int]]
REPEATS = (4, 8, 16, 32, 64, 128)


def delta_debug(incident: Incident, n: int, seed: int) -> tuple[frozenset[int], int]:
    """The changes that picire's ddmin leaves, and its calls, with n trials for each set of changes."""
    import picire

    rng = np.random.default_rng([seed, 23])
    queries = problem_of(incident, breaking=40, budget=1, seed=seed, rng=rng).breaking
    calls = 0
    full = [not incident.passes(q, (1 << incident.m) - 1, rng) for q in queries]
    level = KEPT[incident.noise] * (sum(full) / len(full))
    calls += len(full)

    def test(config: list[int], config_id: object) -> picire.Outcome:
        nonlocal calls
        if "assert" in config_id:  # type: ignore[operator]
            return picire.Outcome.FAIL
        chosen = mask(map(int, config))
        drawn = rng.choice(queries, n, replace=n > len(queries))
        calls += n
        failed = sum(not incident.passes(int(q), chosen, rng) for q in drawn)
        return picire.Outcome.FAIL if failed > level * n else picire.Outcome.PASS

    left = picire.DD(test, cache=picire.ConfigCache())(list(rng.permutation(incident.m).tolist()))
    return frozenset(left), calls


def prob_dd(incident: Incident, n: int, seed: int) -> tuple[frozenset[int], int]:
    """What probabilistic delta debugging leaves: the set to take out is the one of most expected gain under independent chances."""
    rng = np.random.default_rng([seed, 24])
    queries = problem_of(incident, breaking=40, budget=1, seed=seed, rng=rng).breaking
    full = [not incident.passes(q, (1 << incident.m) - 1, rng) for q in queries]
    level, calls = KEPT[incident.noise] * (sum(full) / len(full)), len(full)
    chance, left = np.full(incident.m, 0.1), set(range(incident.m))
    while open_ := [i for i in left if chance[i] < 1]:
        order = sorted(open_, key=lambda i: (chance[i], rng.random()))
        keep = np.cumprod([1 - chance[i] for i in order])
        size = 1 + int(np.argmax(np.arange(1, len(order) + 1) * keep))
        out = order[:size]
        drawn = rng.choice(queries, n, replace=n > len(queries))
        calls += n
        if sum(not incident.passes(int(q), mask(map(int, left - set(out))), rng) for q in drawn) > level * n:
            left -= set(out)
        else:
            needed = 1 - float(keep[size - 1])
            for i in out:
                chance[i] = 1.0 if size == 1 else min(chance[i] / max(needed, 1e-9), 1.0)
    return frozenset(left), calls


def group_test(incident: Incident, n: int, seed: int) -> tuple[frozenset[int], int]:
    """The changes whose effect over n random halves is beyond chance for m of them."""
    rng = np.random.default_rng([seed, 25])
    queries = problem_of(incident, breaking=40, budget=1, seed=seed, rng=rng).breaking
    halves = rng.random((n, incident.m)) < 0.5
    drawn = rng.choice(queries, n)
    failed = np.array(
        [not incident.passes(int(q), mask(np.flatnonzero(h).tolist()), rng) for q, h in zip(drawn, halves, strict=True)]
    )
    signs = 2.0 * halves - 1
    z = signs.T @ (failed - failed.mean()) / max(np.sqrt(n) * failed.std(), 1e-9)
    return frozenset(np.flatnonzero(z > NormalDist().inv_cdf(1 - 0.05 / incident.m)).tolist()), n


def bisect_alone(incident: Incident, n: int, seed: int) -> tuple[frozenset[int], int]:
    """The changes on which at least a fifth of n queries turn."""
    rng = np.random.default_rng([seed, 26])
    queries = problem_of(incident, breaking=40, budget=1, seed=seed, rng=rng).breaking
    pivots, calls = [], 0
    for q in queries[:n]:
        chain = Chain(q, frozenset(), rng.permutation(incident.m), starts=0.05, never=0.15)
        while not chain.over:
            place = chain.place()
            failed = not incident.passes(q, mask(chain.order[:place].tolist()), rng)
            chain.hear(place, failed, max(incident.noise, 0.02))
        calls += chain.trials
        pivots += [chain.pivot] if chain.pivot is not None else []
    return frozenset(p for p in pivots if pivots.count(p) >= max(len(pivots) / 5, 2)), calls


RIVALS = {"ProbDD": prob_dd, "groups": group_test, "bisect": bisect_alone}
DOUBLINGS = {"ProbDD": REPEATS, "groups": (64, 128, 256, 512, 1024), "bisect": (4, 8, 16, 32)}


def cheapest(
    find: Find, family: str, m: int, noise: float, seeds: range, goal: float, sizes: tuple[int, ...] = REPEATS
) -> tuple[float, float, int]:
    """Share right, median calls and n of the cheapest n that reaches `goal`; of the best n when none does."""
    best = (0.0, 0.0, 0)
    for n in sizes:
        found = []
        for seed in seeds:
            incident = make(family, m=m, noise=noise, seed=seed)
            left, calls = find(incident, n, seed)
            found.append((left == incident.guilty, calls))
        share = sum(r for r, _ in found) / len(seeds)
        if share > best[0] or not best[2]:
            best = (share, statistics.median(c for _, c in found), n)
        if share >= goal:
            break
    return best


def row(family: str, m: int, noise: float, seeds: range, peers: int, breaking: int, *, rivals: bool) -> str:
    """One line of the table."""
    start, found = time.process_time(), []
    for seed in seeds:
        incident = make(family, m=m, noise=noise, seed=seed)
        found.append((incident, solve(incident, seed=seed, breaking=breaking)))
    micro = 1e6 * (time.process_time() - start) / sum(r.calls for _, r in found)
    share = sum(right(i, r) for i, r in found) / len(seeds)
    modes = sum({(frozenset(c.changes), c.mode) for c in r.causes} == i.causes for i, r in found) / len(seeds)
    blamed = sum(bool(r.changes - i.guilty) for i, r in found) / len(seeds)
    calls = statistics.median(r.calls for _, r in found)
    text = f"{family:14} {m:4} {noise:5.2f} | {share:5.2f} {modes:5.2f} {blamed:6.2f} {calls:6.0f} {micro:6.0f} |"
    if peers and family != "drill_null":
        few = seeds[:peers]
        their, spent, n = cheapest(delta_debug, family, m, noise, few, 0.95 * share)
        text += f" {their:5.2f} {spent:7.0f} {n:4} | {spent / calls:5.1f}"
        for name, find in RIVALS.items() if rivals else ():
            their, spent, n = cheapest(find, family, m, noise, few, 0.95 * share, DOUBLINGS[name])
            text += f" | {name} {their:4.2f} {spent:6.0f}"
    return text


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--m", nargs="+", type=int, default=[8, 32, 128, 512])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.05, 0.1])
    parser.add_argument("--breaking", type=int, default=40, help="breaking queries known beforehand")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--picire-seeds", type=int, default=20)
    args = parser.parse_args()
    print("family            m noise | right modes blamed  calls us/call | picire: right, calls, n | ratio of calls")
    for family in args.families:
        for m in args.m:
            for noise in args.noise:
                seeds = range(args.first_seed, args.first_seed + args.seeds)
                print(row(family, m, noise, seeds, args.picire_seeds, args.breaking, rivals=args.rivals), flush=True)


if __name__ == "__main__":
    main()
