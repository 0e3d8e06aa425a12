"""Other processes, here and on a dask cluster: the same report, one writer, and a worker that dies takes nobody along."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import BisectError, ConfigError, TargetFailure
from bisect_ai.provider.budget import Account
from bisect_ai.queries.query import Query
from bisect_ai.replay.backends import DaskLane
from bisect_ai.replay.cluster import ClusterHands
from bisect_ai.replay.job_queue import JobQueue
from bisect_ai.replay.trial_jobs import Job
from bisect_ai.replay.workers import Order, WorkerLost, WorkerReply
from bisect_ai.runs.run_accounts import Common, Grant
from bisect_ai.store.trial_store import Store

APP = """
import ctypes, os, sys, time

def answer(query, release):
    all_bad = (release["model"], release["prompt"]) == ("b", "new")
    if query.id in ("q7", "q31") and all_bad and query["deadly"] == "exit":
        os._exit(3)
    if query.id == "q7" and all_bad and query["deadly"] == "segfault":
        ctypes.string_at(0)
    if query.id == "q7" and query["deadly"] == "sys.exit":
        sys.exit(3)
    with open("calls.log", "a") as log:
        log.write(f"{os.getpid()} {query.id}\\n")
    return "no" if release["prompt"] == "new" and int(query.id[1:]) % 4 == 0 else "yes"

async def slowly(query, release):
    return answer(query, release)

def priced(query, release):
    usage = {"input_tokens": 10, "output_tokens": 4, "usd": 0.00006}
    return {"text": answer(query, release), "usage": usage}

def lengthy(query, release):
    with open("begun.log", "a") as log:
        log.write(f"{time.time()}\\n")
    time.sleep(0.4)
    return answer(query, release)
"""


def settings(folder: Path, *, deadly: str = "", **more: Any) -> dict[str, Any]:
    (folder / "app.py").write_text(APP)
    (folder / "bisect.yaml").write_text("{}")
    rows = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes", "deadly": deadly} for i in range(60)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "config": folder,
        "good": {"prompt": "old", "model": "a"},
        "bad": {"prompt": "new", "model": "b"},
        "log": {"path": "log.jsonl"},
        "target": {"kind": "python", "function": "app:answer", "concurrency": 4},
        "scorers": [{"kind": "exact", "name": "correct", "expected": "reference"}],
        "design": "full",
        "budget": {"calls": 240},
        "drill": False,
        **more,
    }


def pids(folder: Path) -> set[str]:
    return {line.split()[0] for line in (folder / "calls.log").read_text().splitlines()}


def report_of(result: bisect_ai.Result) -> dict[str, Any]:
    report = result.to_dict()
    report["usage"]["seconds"] = 0
    report["side_metrics"] = [row for row in report["side_metrics"] if row["name"] != "latency"]
    return report


def test_two_processes_give_the_report_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    apart = bisect_ai.run(**settings(tmp_path, jobs=2, store="apart"))
    assert len(pids(tmp_path)) == 2
    assert apart.usage.calls == 240
    together = bisect_ai.run(**settings(tmp_path, store="together"))
    assert report_of(apart) == report_of(together)
    again = bisect_ai.run(**settings(tmp_path, jobs=2, store="apart"))
    assert (again.usage.calls, again.to_json()) == (0, apart.to_json())


@pytest.mark.parametrize(("deadly", "errors"), [("exit", 2), ("segfault", 1)])
def test_a_job_that_ends_its_process_is_a_row_and_the_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: str, errors: int
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bisect_ai.run(**settings(tmp_path, deadly=deadly, jobs=2, budget={"calls": 400}))
    seen = result.observations
    failed = seen[seen["outcome"] == "error"]
    assert set(failed["query"]) == ({"q7", "q31"} if deadly == "exit" else {"q7"})
    assert all("the process that ran it ended" in error for error in failed["error"])
    assert (len(seen), len(failed)) == (240, errors)


def test_an_exit_by_the_book_is_a_row_and_no_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = bisect_ai.run(**settings(tmp_path, deadly="sys.exit", jobs=2)).observations
    assert set(seen[seen["outcome"] == "error"]["error"]) == {"SystemExit: 3"}
    assert len(pids(tmp_path)) == 2


def test_a_function_that_cannot_travel_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = threading.Lock()

    def holds_a_lock(query: Any, release: Any) -> str:
        with lock:
            return "yes"

    with pytest.raises(BisectError, match=r"another process.*module:function") as refused:
        bisect_ai.run(**settings(tmp_path, target=holds_a_lock, jobs=2))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("cap", "most"), [("calls", 50), ("tokens", 1_500), ("usd", 0.006)])
def test_no_cap_is_crossed_by_several_processes(cap: str, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    priced = {"kind": "python", "function": "app:priced", "concurrency": 16}
    capped = settings(tmp_path, target=priced, budget={"calls": 200, cap: most}, jobs=2, store="store")
    ended = [bisect_ai.run(**capped) for _ in range(2)]  # what the first sitting left over is all that the second has
    called = len((tmp_path / "calls.log").read_text().splitlines())
    assert sum(result.usage.calls for result in ended) == called > 10
    assert called * {"calls": 1, "tokens": 14, "usd": 0.00006}[cap] <= most
    if cap != "calls":
        assert any("stopped at the" in line for line in ended[0].to_dict()["warnings"])


def test_no_call_begins_after_the_time_cap_in_any_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slow = {"kind": "python", "function": "app:lengthy", "concurrency": 1}
    result = bisect_ai.run(**settings(tmp_path, target=slow, budget={"calls": 200, "minutes": 0.15}, jobs=2))
    begun = [float(line) for line in (tmp_path / "begun.log").read_text().splitlines()]
    assert max(begun) - min(begun) <= 9.0 and len(begun) < 200
    assert "time cap" in result.verdict.sentence or any("time cap" in line for line in result.to_dict()["warnings"])


def test_a_closure_travels_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    word = "yes"
    result = bisect_ai.run(**settings(tmp_path, target=lambda query, release: word, jobs=2))
    assert result.verdict.kind == "no_regression"


def test_no_scheduler_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="backend dask: it needs `scheduler`"):
        bisect_ai.run(**settings(tmp_path, backend="dask"))


# -- dask ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster as the README starts it: a scheduler and two workers on this machine."""
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask, folder = [sys.executable, "-m", "dask"], tmp_path_factory.mktemp("dask")
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
    ]
    time.sleep(1)
    worker = [*dask, "worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    processes.append(subprocess.Popen(worker, cwd=folder, stderr=subprocess.DEVNULL))
    try:
        wait_for_workers(address, 2)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def _free_port() -> int:
    """One that no other run of these tests has: they would share a cluster."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for_workers(address: str, n: int) -> None:
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(n, timeout=120)


def test_a_worker_that_the_client_forgets_for_a_moment_is_not_taken_for_dead() -> None:
    """As on a busy machine: an order takes longer than a second, and the client has just looked for no workers at all."""
    looked: list[int] = []

    class Forgetful:
        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            looked.append(n_workers)
            return {"workers": {"tcp://a": {}} if len(looked) == 1 else {}}

        def nthreads(self) -> dict[str, int]:
            return {"tcp://a": 1}

        def submit(self, *_: Any, **__: Any) -> Any:
            waited: list[float] = []

            def result(timeout: float) -> WorkerReply:
                waited.append(timeout)
                if len(waited) == 1:
                    raise TimeoutError
                return WorkerReply(knows=True)

            return SimpleNamespace(result=result, cancel=lambda: None, status="pending")

    assert DaskLane(Forgetful(), set()).call(Order("session")).knows


class GivingUp:
    """A client of dask whose future ends with this status and error, on a cluster of one worker."""

    def __init__(self, status: str, error: Exception) -> None:
        self._status, self._error = status, error

    def nthreads(self) -> dict[str, int]:
        return {"tcp://a": 1}

    def submit(self, *_: Any, **__: Any) -> Any:
        def result(timeout: float) -> WorkerReply:
            raise self._error

        return SimpleNamespace(result=result, cancel=lambda: None, status=self._status)


def _of_distributed() -> Exception:
    killed: type[Exception] = type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})
    return killed("order-1")


@pytest.mark.parametrize(
    ("status", "error"),
    [("cancelled", UnboundLocalError("'result'")), ("lost", OSError("closed")), ("error", _of_distributed())],
    ids=lambda value: str(value),
)
def test_an_order_that_dask_gives_up_is_a_lost_worker(status: str, error: Exception) -> None:
    """distributed's `sync` raises UnboundLocalError where a future was cancelled: its CancelledError is no Exception."""
    taken: set[str] = set()
    with pytest.raises(WorkerLost, match="dask gave up the worker"):
        DaskLane(GivingUp(status, error), taken).call(Order("session"))
    assert not taken


@pytest.mark.parametrize("error", [ImportError("no module named app"), TimeoutError("the target's own")], ids=repr)
def test_an_order_that_fails_of_itself_is_no_lost_worker(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        DaskLane(GivingUp("error", error), set()).call(Order("session"))


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def nthreads(self) -> dict[str, int]:
            raise OSError("Timed out trying to connect")

    monkeypatch.setattr("bisect_ai.replay.backends._FREE_SECONDS", 0.01)
    with pytest.raises(ConfigError, match=r"no free worker .*its scheduler did not answer \(OSError\)"):
        DaskLane(Gone(), set()).call(Order("session"))


@pytest.mark.filterwarnings("default")
def test_orders_that_are_cancelled_in_a_run_are_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    from distributed import Client

    monkeypatch.chdir(tmp_path)
    submit: Any = Client.submit
    cancelled: list[str] = []

    def cancelling(self: Any, *args: Any, **more: Any) -> Any:
        future = submit(self, *args, **more)
        if len(cancelled) < 3 and args[1].jobs:
            cancelled.append(future.key)
            future.cancel()
        return future

    monkeypatch.setattr(Client, "submit", cancelling)
    result = bisect_ai.run(**settings(tmp_path, backend="dask", scheduler=scheduler, budget={"calls": 400}))
    assert len(cancelled) == 3
    assert [tuple(cause.axes) for cause in result.verdict.causes] == [("prompt",)]
    assert (len(result.observations), result.usage.errors) == (240, 0)


@pytest.mark.filterwarnings("default")  # distributed warns of its own loops and sockets
def test_a_run_on_a_dask_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    monkeypatch.chdir(tmp_path)
    away = bisect_ai.run(**settings(tmp_path, backend="dask", scheduler=scheduler, store="away"))
    home = bisect_ai.run(**settings(tmp_path, store="home"))
    assert away.usage.calls == 240
    assert report_of(away) == report_of(home)


@pytest.mark.filterwarnings("default")
def test_a_dask_worker_that_dies_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    monkeypatch.chdir(tmp_path)
    seen = bisect_ai.run(
        **settings(tmp_path, deadly="segfault", backend="dask", scheduler=scheduler, budget={"calls": 400})
    ).observations
    failed = seen[seen["outcome"] == "error"]
    assert list(failed["query"]) == ["q7"]
    assert all("the dask worker that ran it ended" in error for error in failed["error"])
    assert len(seen) == 240


# -- ray -------------------------------------------------------------------------------------------------------------
@pytest.mark.slow  # ray is a large package that takes long to start, so the test's own requirements leave it out
@pytest.mark.filterwarnings("default")  # ray's own
@pytest.mark.parametrize("deadly", ["", "segfault"])
def test_a_run_on_ray(deadly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="pip install 'bisect-ai[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.chdir(tmp_path)
    away = bisect_ai.run(**settings(tmp_path, deadly=deadly, backend="ray", jobs=2, store="away"))
    assert away.usage.calls == 240
    failed = away.observations[away.observations["outcome"] == "error"]
    assert set(failed["query"]) == ({"q7"} if deadly else set())
    assert all("the ray worker that ran it ended" in error for error in failed["error"])
    if not deadly:
        assert report_of(away) == report_of(bisect_ai.run(**settings(tmp_path, store="home")))


def test_a_target_that_only_fails_is_stopped_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TargetFailure, match="times in a row"):
        bisect_ai.run(**settings(tmp_path, jobs=2, target=lambda query, release: 1 / 0))


def test_a_sitting_that_finds_only_what_failed_before_still_ends_in_the_verdict(tmp_path: Path) -> None:
    def answer(query: Any, release: Any) -> str:
        if int(query.id[1:]) % 4 == 0:
            raise ValueError("this question always fails")
        return "yes"

    given = settings(tmp_path, target=answer, store=tmp_path / "store")
    first, again = bisect_ai.run(**given), bisect_ai.run(**given)
    assert first.usage.errors == 30
    assert again.verdict.kind == first.verdict.kind


class _SlowLane:
    """Takes jobs, and answers none."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def call(self, order: Order) -> WorkerReply:
        self.got += [sent.place for sent in order.jobs]
        time.sleep(min(order.seconds, 0.05))
        return WorkerReply()

    def close(self) -> None:
        """It holds nothing."""


def test_while_few_jobs_may_be_out_the_lanes_share_them_evenly() -> None:
    """Else one lane has eight of the first ten, and the other waits with two."""
    lanes, desk, store = [_SlowLane() for _ in range(2)], JobQueue(trial_run=10), Store(None)
    account = Account(shared=Common(store, "run"))
    hands = ClusterHands(lanes, lambda: None, concurrency=8, account=account, grant=lambda: Grant(account, store, "run"))
    desk.add([Job(place, Query({"id": f"q{place}", "input": "?"}), {"prompt": "a"}, 0) for place in range(30)])
    hands.start(desk)
    until = time.monotonic() + 30
    while sum(len(lane.got) for lane in lanes) < 10 and time.monotonic() < until:
        time.sleep(0.01)
    hands.close()
    assert [len(lane.got) for lane in lanes] == [5, 5]


def test_lanes_are_given_out_once_what_starts_their_processes_is_imported() -> None:
    """Two threads that import loky's modules at one moment may get one that has only begun: they import each other."""
    code = """
import sys
from bisect_ai.replay.backends import open_lanes
open_lanes("loky", jobs=2, scheduler=None)
known = set(sys.modules)
from joblib.externals.loky.backend import popen_loky_posix, resource_tracker, spawn, synchronize
print(*sorted(set(sys.modules) - known))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"joblib.externals.loky.backend.fork_exec"}
