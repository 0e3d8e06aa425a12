"""A run with other processes, killed at random moments (FAULTS A1): what the store had is never asked again, and the run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bisect_ai.store.index import open_index
from tests.faults.test_workers import _free_port, wait_for_workers

APP = """
import asyncio, os

def note(word, query, release):
    log = os.open(os.path.join(os.path.dirname(__file__), "asked.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{word} {os.getpid()} {query.id} {release['prompt']} {release['model']}\\n".encode())
    os.close(log)

async def answer(query, release):
    note("asked", query, release)
    await asyncio.sleep(query["seconds"])
    note("got", query, release)
    return "no" if release["prompt"] == "new" and int(query.id[1:]) % 4 == 0 else "yes"
"""
CONFIG = """
good: {release: good, axes: {prompt: old, model: a}}
bad: {release: bad, axes: {prompt: new, model: b}}
log: {path: log.jsonl}
target: {kind: python, function: "app:answer", concurrency: 8}
scorers: [{kind: exact, name: correct, expected: reference}]
design: full
budget: {calls: 4000}
drill: false
"""
QUERIES = 120
TRIALS = 4 * QUERIES
AHEAD = 16
"""Twice the concurrency: what the processes have at most."""
Key = tuple[str, ...]


def write_incident(folder: Path, *, seconds: float = 0.03) -> None:
    (folder / "app.py").write_text(APP)
    (folder / "bisect.yaml").write_text(CONFIG)
    rows = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes", "seconds": seconds} for i in range(QUERIES)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def lines_of(folder: Path) -> list[list[str]]:
    log = folder / "asked.log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def asked(lines: list[list[str]]) -> list[Key]:
    return [tuple(words[2:]) for words in lines if words[0] == "asked"]


def kept(folder: Path) -> set[Key]:
    """The query, prompt and model of each answer that the store has."""
    if not (folder / ".bisect-ai" / "journal").is_dir():
        return set()
    with open_index(folder / ".bisect-ai") as index:
        rows = index.rows("SELECT query, bad_axes FROM trials WHERE NOT failed")
    return {(query, "new" if "prompt" in axes else "old", "b" if "model" in axes else "a") for query, axes in rows}


def begin(folder: Path, *arguments: str) -> psutil.Popen:
    command = [sys.executable, "-m", "bisect_ai", "run", "--json", "out.json", *arguments]
    with (folder / "errors").open("a") as errors:
        return psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)


def wait_for_calls(folder: Path, run: psutil.Popen, n: int) -> None:
    until = time.monotonic() + 120
    while len(asked(lines_of(folder))) < n and run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes that called the target and are there."""
    found = []
    for pid in sorted({int(words[1]) for words in lines_of(folder)}):
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def test_processes_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    write_incident(tmp_path, seconds=20.0)
    run = begin(tmp_path, "--jobs", "2")
    workers: list[psutil.Process] = []
    until = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < until:
        workers = at_work(tmp_path)
        time.sleep(0.01)
    assert len(workers) == 2
    run.kill()
    run.wait(timeout=30)
    _, alive = psutil.wait_procs(workers, timeout=15)  # before an answer: what was sent ahead would be asked after it
    assert not alive
    assert len(asked(lines_of(tmp_path))) <= 8


class Series:
    """Lives of one run, each killed; what the store had at each kill."""

    def __init__(self, folder: Path, rng: random.Random, *arguments: str) -> None:
        self._folder, self._rng, self._arguments = folder, rng, arguments
        self._had: list[tuple[int, set[Key]]] = []
        self.kills = 0

    def kill_one(self, *, worker: bool) -> None:
        """Begin a life and kill it, or a process that calls for it, before whose death it goes on to its end or is killed."""
        run = begin(self._folder, *self._arguments)
        wait_for_calls(self._folder, run, len(asked(lines_of(self._folder))) + self._rng.randrange(1, 60))
        processes = at_work(self._folder)
        if worker and processes:
            os.kill(self._rng.choice(processes).pid, signal.SIGKILL)
            self._look()
            self.kills += 1
            time.sleep(self._rng.uniform(0, 0.5))
        if run.poll() is None:
            run.kill()
            self.kills += 1
        run.wait(timeout=120)
        self._look()

    def _look(self) -> None:
        had = kept(self._folder)
        self._had.append((len(lines_of(self._folder)), had))

    def end(self) -> None:
        """The last life comes to the verdict; nothing that the store had is gone or was asked again."""
        run = begin(self._folder, *self._arguments)
        assert run.wait(timeout=240) == 0, (self._folder / "errors").read_text()
        lines, last = lines_of(self._folder), kept(self._folder)
        for place, had in self._had:
            assert had <= last
            assert not had & set(asked(lines[place:]))
        assert set(asked(lines)) == last and len(last) == TRIALS
        assert len(asked(lines)) - TRIALS <= self.kills * AHEAD
        report: dict[str, Any] = json.loads((self._folder / "out.json").read_text())
        assert [cause["axes"] for cause in report["verdict"]["causes"]] == [["prompt"]]
        assert report["usage"]["calls"] >= TRIALS
        assert "Traceback" not in (self._folder / "errors").read_text()


@pytest.mark.parametrize("seed", [5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 108))])
def test_kills_of_a_run_with_two_processes_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Three kills, five a night and seed."""
    write_incident(tmp_path)
    series, kills = Series(tmp_path, random.Random(seed), "--jobs", "2"), 3 if seed == 5 else 5
    for i in range(kills):
        series.kill_one(worker=i % 2 == 0)
    series.end()
    assert series.kills >= kills


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dask cluster whose nanny starts a worker again that was killed."""
    port, folder = _free_port(), tmp_path_factory.mktemp("dask")
    dask, address = [sys.executable, "-m", "dask"], f"tcp://127.0.0.1:{port}"
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    workers = [*dask, "worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    processes = [subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) for command in (scheduler, workers)]
    try:
        wait_for_workers(address, 2)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.filterwarnings("default")  # distributed warns of its own loops and sockets
@pytest.mark.parametrize("seed", [6, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 105))])
def test_kills_of_dask_workers_lose_nothing(tmp_path: Path, address: str, seed: int) -> None:
    """Two kills, four a night and seed; each life costs half a minute on a busy machine, so that a night's are told one by one."""
    write_incident(tmp_path)
    series, kills = Series(tmp_path, random.Random(seed), "--backend", "dask", "--scheduler", address), 2 if seed == 6 else 4
    for _ in range(kills):
        series.kill_one(worker=True)
    series.end()
    assert series.kills >= kills
