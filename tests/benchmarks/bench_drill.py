"""How often the drill-down is right, whom it blames and what it spends, beside delta debugging with a repeated oracle.

    python tests/benchmarks/bench_drill.py --seeds 100
    python tests/benchmarks/bench_drill.py --families drill_two --m 128 --noise 0.05 --picire-seeds 20

`picire` is its ddmin with its own cache; the parallel classes try the same sets in the same order from other processes.
Its oracle asks whether a set of changes still costs most of what all of them cost: breaking queries are replayed n times in
turn, and the set fails when more than KEPT of what fails with all of them bad fails. n doubles until ddmin finds exactly
the guilty changes as often as the drill-down, or until it never does; the calls are those of that n.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.drill_problem import mask
from tests.quality.drill_simulated import FAMILIES, Incident, make, problem_of, right, solve

KEPT = {
    0.0: 0.85,
    0.05: 0.75,
    0.1: 0.7,
}  # of three equal causes two leave 2/3 of what is broken, and noise moves it inwards
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
        chosen = mask(config)
        drawn = rng.choice(queries, n, replace=n > len(queries))
        calls += n
        failed = sum(not incident.passes(int(q), chosen, rng) for q in drawn)
        return picire.Outcome.FAIL if failed > level * n else picire.Outcome.PASS

    left = picire.DD(test, cache=picire.ConfigCache())(list(rng.permutation(incident.m).tolist()))
    return frozenset(left), calls


def picire_row(family: str, m: int, noise: float, seeds: int, goal: float) -> tuple[float, float, int]:
    """Share right, median calls and repeats of the cheapest n that reaches `goal`; of the best n when none does."""
    best = (0.0, 0.0, 0)
    for n in REPEATS:
        found = []
        for seed in range(seeds):
            incident = make(family, m=m, noise=noise, seed=seed)
            left, calls = delta_debug(incident, n, seed)
            found.append((left == incident.guilty, calls))
        share = sum(r for r, _ in found) / seeds
        if share >= best[0]:
            best = (share, statistics.median(c for _, c in found), n)
        if share >= goal:
            break
    return best


def row(family: str, m: int, noise: float, seeds: int, peers: int, breaking: int) -> str:
    """One line of the table."""
    start, found = time.process_time(), []
    for seed in range(seeds):
        incident = make(family, m=m, noise=noise, seed=seed)
        found.append((incident, solve(incident, seed=seed, breaking=breaking)))
    micro = 1e6 * (time.process_time() - start) / sum(r.calls for _, r in found)
    share = sum(right(i, r) for i, r in found) / seeds
    modes = sum({(frozenset(c.changes), c.mode) for c in r.causes} == i.causes for i, r in found) / seeds
    blamed = sum(bool(r.changes - i.guilty) for i, r in found) / seeds
    calls = statistics.median(r.calls for _, r in found)
    text = f"{family:14} {m:4} {noise:5.2f} | {share:5.2f} {modes:5.2f} {blamed:6.2f} {calls:6.0f} {micro:6.0f} |"
    if peers and family != "drill_null":
        their, spent, n = picire_row(family, m, noise, peers, 0.95 * share)
        text += f" {their:5.2f} {spent:7.0f} {n:4} | {spent / calls:5.1f}"
    return text


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--m", nargs="+", type=int, default=[8, 32, 128, 512])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.05, 0.1])
    parser.add_argument("--breaking", type=int, default=40, help="breaking queries known beforehand")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--picire-seeds", type=int, default=20)
    args = parser.parse_args()
    print("family            m noise | right modes blamed  calls us/call | picire: right, calls, n | ratio of calls")
    for family in args.families:
        for m in args.m:
            for noise in args.noise:
                print(row(family, m, noise, args.seeds, args.picire_seeds, args.breaking), flush=True)


if __name__ == "__main__":
    main()
