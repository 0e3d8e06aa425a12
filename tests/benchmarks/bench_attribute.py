"""`attribute` beside numpy on the same table, in one run:

    python tests/benchmarks/bench_attribute.py [--queries 1000000]

CPU seconds, with those of child processes, and the highest memory of each process; every row is a process of its own and leaves
out what it takes to make the table. numpy: queries numbered by pandas, means and covariance of the cells. Limits: 5 s, 2 GiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

AXES = ["model", "prompt", "tools", "context"]


def write_table(queries: int, path: Path) -> None:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    query, cell = np.repeat(np.arange(queries), 16), np.tile(np.arange(16), queries)
    broken = (rng.random(queries) < 0.3)[query] & (cell & 6 == 6)
    score = 1.0 - (broken ^ (rng.random(16 * queries) < 0.05))
    axes = {axis: (cell >> i & 1).astype(np.int8) for i, axis in enumerate(AXES)}
    names = pd.Categorical.from_codes(query, [f"q{i}" for i in range(queries)])
    pd.DataFrame({"query": pd.Series(names).astype(str), **axes, "score": score}).to_parquet(path, row_group_size=1 << 20)


def opened(kind: str, path: Path) -> Any:
    import duckdb
    import pandas as pd
    import pyarrow.parquet

    makers = {"arrow": pyarrow.parquet.read_table, "duckdb": lambda p: duckdb.read_parquet(str(p)), "parquet": Path}
    return makers.get(kind, pd.read_parquet)(path)


def plain_numpy(table: Any) -> None:
    import numpy as np
    import pandas as pd

    query, names = pd.factorize(table["query"])
    place = query * 16 + sum(table[axis].to_numpy(np.int64) << i for i, axis in enumerate(AXES))
    size = 16 * len(names)
    scores = (np.bincount(place, table["score"], size) / np.bincount(place, minlength=size)).reshape(-1, 16)
    scores.mean(0)
    np.cov(scores.T)


def measure(kind: str, path: Path) -> str:
    import bisect_ai

    attribute, table = bisect_ai.attribute, opened(kind, path)
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = sum(sum(resource.getrusage(each)[:2]) for each in who)
    plain_numpy(table) if kind == "numpy" else attribute(table, axes=AXES)
    after = [resource.getrusage(each) for each in who]
    most = ", ".join(f"{each.ru_maxrss / 2**20:.2f}" for each in after if each.ru_maxrss)
    return f"{kind:10} {sum(sum(each[:2]) for each in after) - before:6.2f} s   {most} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only == "table":  # in a process of its own: its memory would count for those that are started after it
        write_table(asked.queries, asked.path)
        return
    if asked.only:
        sys.stdout.write(measure(asked.only, asked.path) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        for kind in ("table", "numpy", "frame", "arrow", "duckdb", "parquet"):
            command = [sys.executable, __file__, "--queries", str(asked.queries), "--only", kind, "--path", str(path)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
