"""Seconds and peak memory of sampling 400 queries from a Parquet log; by default of 10 million rows.

    python tests/benchmarks/bench_sampling.py [ROWS]

The log is written to a temporary folder first (not counted); the sampling runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = """
COPY (
  SELECT 'query-' || i AS id, 'intent ' || (hash(i) % 12) AS intent, 'user ' || (i // 3) AS cluster,
    CASE WHEN i % 997 = 0 THEN NULL ELSE repeat(md5(i::VARCHAR) || ' ', 6) END AS input,
    repeat(md5((i + 1)::VARCHAR) || ' ', 6) AS reference, {'correct': (i % 10 > 1)::INT, 'length': i % 300} AS scores,
    [{'role': 'user', 'content': md5(i::VARCHAR)}] AS history, CASE WHEN i % 2 = 0 THEN 'good' ELSE 'bad' END AS release,
    TIMESTAMPTZ '2026-11-13 00:00:00+00' + INTERVAL (i % 600000) SECOND AS at
  FROM range($first, $last) rows(i)
) TO '{path}' (FORMAT parquet)
"""
FILES = 4


def write(folder: Path, rows: int) -> None:
    import duckdb

    for part in range(FILES):
        path = str(folder / f"log-{part}.parquet").replace("'", "''")
        bounds = {"first": rows * part // FILES, "last": rows * (part + 1) // FILES}
        with duckdb.connect() as connection:
            connection.execute(ROWS.replace("{path}", path), bounds)


def sample(pattern: str) -> None:
    import gc
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

    from bisect_ai.queries.load_log import load_queries
    from bisect_ai.queries.sample import LogSettings

    started = time.perf_counter()
    found = load_queries(pattern, settings=LogSettings(segment="intent"))
    gc.collect()  # ends the reading process, so that its peak counts
    seconds = time.perf_counter() - started
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN)) / 1024
    print(f"{len(found)} of {found.population} replayable queries ({found.read} read): {seconds:.1f} s, peak {peak:.0f} MiB")


def main() -> None:
    if sys.argv[1:2] == ["--sample"]:
        sample(sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(sys.argv[1]) if sys.argv[1:] else 10_000_000)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        print(f"log of {size:.0f} MiB in {FILES} files")
        subprocess.run([sys.executable, __file__, "--sample", f"{folder}/*.parquet"], check=True)


if __name__ == "__main__":
    main()
