"""Scheduled audits on planted weeks: how soon a loss is caught, what a healthy week costs, what a fixed-size audit would.

python tests/benchmarks/bench_audit.py --seeds 100
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bisect_ai.attribution.questions.audit import AuditRule
from tests.quality.test_audit_quality import Traffic, fixed_size, week


def caught(traffic: Traffic, seed: int) -> int:
    """The number of the audit, of two, that raises the alarm; 3: none does."""
    first = week(traffic, AuditRule(), seed=seed)
    if first.kind == "regression":
        return 1
    second = week(traffic, AuditRule(carried=first.carry), seed=seed + 50_000)
    return 2 if second.kind == "regression" else 3


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seeds", type=int, default=100)
    args.add_argument("--loss", type=float, default=0.05)
    seeds = range(7000, 7000 + args.parse_args().seeds)
    print("| answers that flip | caught by the first audit | by the second | calls of a healthy audit | of a fixed-size one |")
    print("|---|---|---|---|---|")
    for noise in (0.0, 0.05, 0.1):
        traffic = Traffic(args.parse_args().loss, noise)
        found = [caught(traffic, s) for s in seeds]
        first, second = (sum(f <= n for f in found) / len(found) for n in (1, 2))
        healthy = statistics.mean(week(Traffic(0.0, noise), AuditRule(), seed=s).trials for s in seeds)
        fixed = fixed_size(traffic, power=min(max(first, 0.05), 0.95), alpha=0.05 / 52)
        print(f"| {noise:.0%} | {first:.2f} | {second:.2f} | {healthy:.0f} | {fixed:,} |", flush=True)


if __name__ == "__main__":
    main()
