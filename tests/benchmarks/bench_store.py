"""How fast and how small the store is: python tests/benchmarks/bench_store.py [--trials 100000]

Each line ends in the limit that it has to hold. Times are CPU seconds of the process (a busy machine does not change them), but for
the fsynced rate, which is held against the rate of bare fsyncs on the same disk in the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bisect_ai.canonical import digest
from bisect_ai.provider.usage import Usage
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer

RUN = "0123456789abcdef"
SCORER = digest("scorer")
TEXT = "lorem ipsum " * 85
SETTINGS = {"good": {"name": "a"}, "bad": {"name": "b"}, "metric": "m"}


def identity(i: int) -> str:
    return digest({"release": "r", "query": i, "repeat": 0})


def kept(i: int) -> Kept:
    return Kept(identity(i), RUN, f"q{i}", ("prompt",), 0, Answer(TEXT, usage=Usage(100, 200, 0.001), latency_s=0.5))


def write(path: Path, count: int) -> None:
    with Store(path) as store:
        store.begin(RUN, SETTINGS)
        for start in range(0, count, 500):
            group = [kept(i) for i in range(start, min(start + 500, count))]
            for each in group:
                store.reserve(RUN, each.identity, usd=0.01, tokens=300)
            store.keep(RUN, group, [Scored(k.identity, SCORER, 1.0) for k in group])


def bare_fsyncs(folder: Path, count: int = 300) -> float:
    """fsyncs a second of appended lines of an answer's size."""
    with (folder / "bare").open("ab") as file:
        start = time.perf_counter()
        for _ in range(count):
            file.write(TEXT.encode())
            file.flush()
            os.fsync(file.fileno())
    return count / (time.perf_counter() - start)


def fsynced_trials(folder: Path, *, threads: int, seconds: float = 3.0) -> float:
    """Trials a second, each durable before its caller goes on; callers in threads share fsyncs."""
    done = [0] * threads
    with Store(folder / "rate") as store:
        store.begin(RUN, SETTINGS)
        until = time.perf_counter() + seconds

        def work(n: int) -> None:
            while time.perf_counter() < until:
                one = kept(n * 10_000_000 + done[n])
                store.reserve(RUN, one.identity, usd=0.01)
                store.keep(RUN, [one], [Scored(one.identity, SCORER, 1.0)])
                done[n] += 1

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(done) / (time.perf_counter() - start)


def grouped_trials(folder: Path, *, together: int, groups: int = 200) -> float:
    """Trials a second that one caller has acknowledged in groups, as a run keeps what came in meanwhile."""
    with Store(folder / "groups") as store:
        store.begin(RUN, SETTINGS)
        start = time.perf_counter()
        for at in range(0, groups * together, together):
            group = [kept(i) for i in range(at, at + together)]
            for each in group:
                store.reserve(RUN, each.identity, usd=0.01)
            store.keep(RUN, group, [Scored(each.identity, SCORER, 1.0) for each in group])
        return groups * together / (time.perf_counter() - start)


def fresh(code: str, *arguments: object) -> tuple[float, float, str]:
    """(CPU seconds, peak MiB, output) of code in a process of its own, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code + _PEAK, *map(str, arguments)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(out[-1]) / 1024, " ".join(out[:-1])


_PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
REOPEN = """
import sys
from pathlib import Path
from bisect_ai.canonical import digest
from bisect_ai.store.trial_store import Store
count = int(sys.argv[2])
with Store(Path(sys.argv[1])) as store:
    print(sum(not store.answered(digest({"release": "r", "query": i, "repeat": 0})) for i in range(count + 10)))
"""
REBUILD = """
import sys
from pathlib import Path
from bisect_ai.store.index import open_index
with open_index(Path(sys.argv[1])) as index:
    print(index.rows("SELECT count(*) FROM trials")[0][0])
"""


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def told(what: str, value: float, unit: str, limit: float, *, at_least: bool = False) -> bool:
    holds = value >= limit if at_least else value <= limit
    print(f"{what:<64} {value:>10.2f} {unit:<9} {'at least' if at_least else 'at most'} {limit:g}{'' if holds else '  MISSED'}")
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    n = parser.parse_args().trials
    folder, scale = Path(tempfile.mkdtemp(prefix="bench-store-")), n / 100_000
    try:
        bare = bare_fsyncs(folder)
        rate = fsynced_trials(folder, threads=32)
        held = [
            told(
                f"fsynced trials a second, 32 callers ({bare:.0f} bare fsyncs a second)",
                rate / min(bare, 5000),
                "ratio",
                0.6,
                at_least=True,
            )
        ]
        rate = grouped_trials(folder, together=64)
        held.append(told("trials acknowledged a second, 64 at a time", rate, "a second", 5000, at_least=True))
        spent = cpu(lambda: write(folder / "store", n))
        held.append(told(f"CPU to write {n:,} trials of 1 KB, reserved and scored", spent * 1e6 / n, "us/trial", 200))
        seconds, peak, out = fresh(REOPEN, folder / "store", n)
        assert out == "10", out
        held.append(told(f"CPU to reopen {n:,} trials and find what is missing", seconds, "s", scale))
        held.append(told("peak memory of that", peak, "MiB", 400 if n <= 100_000 else 2048))
        seconds, peak, out = fresh(REBUILD, folder / "store")
        assert out == str(n), out
        held.append(told(f"CPU to make the index of {n:,} trials anew", seconds, "s", 10 * scale))
        held.append(told("peak memory of that", peak, "MiB", 400 if n <= 100_000 else 2048))
        held.append(told("CPU to ask it again", fresh(REBUILD, folder / "store")[0], "s", 2))
        with Store(folder / "store") as store:
            sample = range(0, n, max(1, n // 10_000))
            seconds = cpu(lambda: [store.answer(identity(i)) for i in sample])
        held.append(told("CPU to read an answer back", seconds * 1e6 / len(sample), "us", 100))
        size = sum(p.stat().st_size for p in (folder / "store" / "journal").iterdir())
        print(f"{'journal':<64} {size / n:>10.0f} bytes a trial")
        return 0 if all(held) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
