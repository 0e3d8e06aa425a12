"""What a command takes before anybody sees a word of it: python tests/benchmarks/bench_start.py [--times 5]

CPU seconds of a process from its start to its end, the least of some, on the bundled incident, with byte code as an installed package
has it; exits 1 when a limit is missed. `numpy` and `click` are imported beside them in the same run: a machine on which these take
longer than 0.07 s and 0.03 s is a busy or slow one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RELEASES = ("releases/2026-11-13.yaml", "releases/2026-11-20.yaml")
ROWS: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("import click", ("-c", "import click"), None),
    ("import numpy", ("-c", "import numpy"), None),
    ("--help", ("-m", "bisect_ai", "--help"), 0.1),
    ("diff", ("-m", "bisect_ai", "diff", *RELEASES), 0.6),
    ("check --free", ("-m", "bisect_ai", "check", "--free"), 0.6),
    ("plan", ("-m", "bisect_ai", "plan"), 0.6),
    ("run, finished before", ("-m", "bisect_ai", "run"), 0.6),
)


def processor(words: tuple[str, ...], folder: Path) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "byte-code")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times, missed = parser.parse_args().times, False
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "demo"
        subprocess.run([sys.executable, "-m", "bisect_ai", "demo", str(folder), "-q"], capture_output=True, check=True)
        for what, words, limit in ROWS:
            least = min(processor(words, folder) for _ in range(times + 1))
            over = limit is not None and least > limit
            missed |= over
            print(f"{what:24} {least:6.2f} s" + ("" if limit is None else f"  at most {limit:g}{'  MISSED' if over else ''}"))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
