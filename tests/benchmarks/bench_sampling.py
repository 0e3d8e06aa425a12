"""Seconds, processor seconds and peak memory of sampling 400 queries from a log, beside DuckDB's minimal query and its bare parse.

    python tests/benchmarks/bench_sampling.py [parquet|jsonl] [ROWS]

The minimal query reads every column and takes the 400 rows of the smallest hashed ids; it checks nothing and counts nothing. The same
answer is what a sample needs, in plain statements: rows and scores by segment and release, the number of repeated ids, and the rows of
the smallest hashed clusters of each segment. The log
(10 million Parquet rows, or 5 million lines of JSON, 1.3 GB) is written to a temporary folder first, which is not counted; each run has
a process of its own, and DuckDB as many threads as bisect-ai gives it. Ratios are of processor seconds: others may use the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

PARQUET = """
COPY (
  SELECT 'query-' || i AS id, 'intent ' || (hash(i) % 12) AS intent, 'user ' || (i // 3) AS cluster,
    CASE WHEN i % 997 = 0 THEN NULL ELSE repeat(md5(i::VARCHAR) || ' ', 6) END AS input,
    repeat(md5((i + 1)::VARCHAR) || ' ', 6) AS reference, {'correct': (i % 10 > 1)::INT, 'length': i % 300} AS scores,
    [{'role': 'user', 'content': md5(i::VARCHAR)}] AS history, CASE WHEN i % 2 = 0 THEN 'good' ELSE 'bad' END AS release,
    TIMESTAMPTZ '2026-11-13 00:00:00+00' + INTERVAL (i % 600000) SECOND AS at
  FROM range($first, $last) rows(i)
) TO '{path}' (FORMAT parquet)
"""
JSONL = """
COPY (
  SELECT to_json({id: 'query-' || i, intent: 'intent ' || (hash(i) % 12), cluster: 'user ' || (i // 3),
    input: CASE WHEN i % 997 = 0 THEN NULL ELSE repeat(md5(i::VARCHAR) || ' ', 2) || '?' END,
    reference: md5((i + 1)::VARCHAR) || '.', release: CASE WHEN i % 2 = 0 THEN 'good' ELSE 'bad' END,
    scores: {correct: (i % 10 > 1)::INT, length: i % 300}})::VARCHAR
  FROM range($first, $last) rows(i)
) TO '{path}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIM E'\\x01')
"""
WRITES = {"parquet": PARQUET, "jsonl": JSONL}
ROWS = {"parquet": 10_000_000, "jsonl": 5_000_000}
READS = {"parquet": "read_parquet", "jsonl": "read_json"}
MINIMAL = "SELECT * FROM {read}($files) ORDER BY md5('0:' || id) LIMIT 400"
BARE = "SELECT count(*), max(strlen(id)), max(strlen(input)), max(strlen(reference)) FROM {read}($files)"
# Rows and scores by segment and release, repeated ids, and rows drawn by segment: what bisect-ai tells besides its checks of content.
SAME = (
    "SELECT intent, release, count(*), count(input), sum(scores.correct), sum(scores.length) FROM {read}($files) GROUP BY ALL",
    "SELECT count(*) - count(DISTINCT hash(id)) FROM {read}($files)",
    "WITH drawn AS (SELECT unnest(min_by(id, md5('0:' || cluster), 34)) AS id FROM {read}($files) WHERE input IS NOT NULL "
    "GROUP BY intent) SELECT * FROM {read}($files) WHERE id IN (SELECT id FROM drawn) LIMIT 400",
)
STATEMENTS = {"minimal": (MINIMAL,), "bare parse": (BARE,), "same answer": SAME}
FILES = 4


def write(folder: Path, kind: str, rows: int) -> None:
    import duckdb

    for part in range(FILES):
        path = str(folder / f"log-{part}.{kind}").replace("'", "''")
        bounds = {"first": rows * part // FILES, "last": rows * (part + 1) // FILES}
        with duckdb.connect() as connection:
            connection.execute(WRITES[kind].replace("{path}", path), bounds)


def sample(folder: str, kind: str) -> str:
    import gc

    from bisect_ai.queries.load_log import load_queries
    from bisect_ai.queries.sample import LogSettings

    found = load_queries(f"{folder}/*.{kind}", settings=LogSettings(segment="intent"))
    gc.collect()  # ends the reading process, so that its peak counts
    return f"{len(found)} of {found.population} replayable queries ({found.read} read)"


def duck(folder: str, kind: str, statements: tuple[str, ...]) -> str:
    import duckdb

    files = [str(path) for path in sorted(Path(folder).glob(f"*.{kind}"))]
    config = {"threads": min(4, os.cpu_count() or 1), "memory_limit": "600MB", "preserve_insertion_order": False}
    with duckdb.connect(config=config) as connection:
        connection.execute("SET enable_progress_bar = false")
        for statement in statements:
            rows = len(connection.execute(statement.format(read=READS[kind]), {"files": files}).fetchall())
        return f"{rows} rows"


def run(what: str, folder: str, kind: str) -> None:
    started = time.perf_counter()
    told = sample(folder, kind) if what == "bisect-ai" else duck(folder, kind, STATEMENTS[what])
    seconds = time.perf_counter() - started
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN)) / 1024
    used = sum(os.times()[:4])
    print(f"{what:>11}: {seconds:6.1f} s, {used:6.1f} s of processors, peak {peak:.0f} MiB; {told}", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:5])
        return
    kind = sys.argv[1] if sys.argv[1:] else "parquet"
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), kind, int(sys.argv[2]) if sys.argv[2:] else ROWS[kind])
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        print(f"log of {size:.0f} MiB in {FILES} files", flush=True)
        for what in ("bare parse", "minimal", "bisect-ai", "same answer", "minimal"):
            subprocess.run([sys.executable, __file__, "--run", what, folder, kind], check=True)


if __name__ == "__main__":
    main()
