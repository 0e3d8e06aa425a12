"""The ways to worker processes: a spawned one on this machine (joblib's loky), a dask worker, a ray actor.

Dask and ray are spoken to directly. Through joblib's backends a worker's death makes the scheduler repeat its neighbours' calls,
which are paid for, and a cluster of one core is run in the caller's own process.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from bisect_ai.errors import ConfigError
from bisect_ai.replay.workers import Order, WorkerLane, WorkerLost, WorkerReply, end_with, exchange

# How long a cluster may have no free worker: a nanny takes seconds to start one again.
_FREE_SECONDS = 60.0


# What loky imports when it starts a process: its modules import each other, and two lanes' threads that did so at one moment were
# seen to get a module that had only begun ("partially initialized").
_BEFORE_LANES = ("resource_tracker", "synchronize", "popen_loky_posix")


class LokyLane:
    """A process on this machine, spawned afresh (never forked)."""

    def __init__(self) -> None:
        self._pool: Any = None

    def call(self, order: Order) -> WorkerReply:
        """As the protocol says."""
        from concurrent.futures.process import BrokenProcessPool

        from joblib.externals.loky import ProcessPoolExecutor

        self._pool = self._pool or ProcessPoolExecutor(
            max_workers=1, timeout=60, env={"BISECT_REPLAY": "1"}, initializer=end_with, initargs=(os.getpid(),)
        )
        try:
            reply: WorkerReply = self._pool.submit(exchange, order).result()
        except BrokenProcessPool as error:
            self.close()
            raise WorkerLost("the process that ran it ended; it crashed, or the system killed it") from error
        return reply

    def close(self) -> None:
        """Kill the process."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.shutdown(wait=True, kill_workers=True)


class DaskLane:
    """One worker of a dask cluster, by its address; when it is gone, another one without a lane."""

    def __init__(self, client: Any, taken: set[str]) -> None:
        self._client, self._taken = client, taken
        self._address: str | None = None

    def call(self, order: Order) -> WorkerReply:
        """As the protocol says."""
        self._address = self._address or self._find()
        future = self._client.submit(exchange, order, workers=[self._address], allow_other_workers=False, pure=False, retries=0)
        while True:
            try:
                reply: WorkerReply = future.result(timeout=1.0)
            except Exception as error:  # dask and ray raise their own errors and the order's alike
                if future.status == "error" and type(error).__module__.partition(".")[0] != "distributed":
                    raise  # the order's own
                if isinstance(error, TimeoutError):
                    if self._is_there():
                        continue
                    future.cancel()
                    self._let_go()
                    raise WorkerLost("the dask worker that ran it ended") from None
                # dask gave the order up; it then raises whatever its client happens to come to, an UnboundLocalError for one
                self._let_go()
                raise WorkerLost("dask gave up the worker that ran it") from error
            else:
                return reply

    def _is_there(self) -> bool:
        try:
            return self._address in _workers(self._client)
        except Exception as error:  # as above, when the scheduler is gone or busy with a worker's end
            self._let_go()
            raise WorkerLost("the dask scheduler does not say which workers it has") from error

    def close(self) -> None:
        """Leave the worker to others."""
        self._let_go()

    def _let_go(self) -> None:
        if self._address is not None:
            self._taken.discard(self._address)
            self._address = None

    def _find(self) -> str:
        until, why = time.monotonic() + _FREE_SECONDS, ""
        while time.monotonic() < until:
            try:
                found, why = _workers(self._client), ""
            except Exception as error:  # the scheduler is gone, or back in a moment
                found, why = [], f", and its scheduler did not answer ({type(error).__name__}); start it again, and"
            for address in found:
                if address not in self._taken:
                    self._taken.add(address)
                    return address
            time.sleep(0.2)
        raise ConfigError(f"the dask cluster has had no free worker for a minute{why or ';'} start one with: dask worker")


def _workers(client: Any) -> list[str]:
    """The addresses of the workers that the scheduler has now.

    Not by `scheduler_info`: the client keeps its answer where its own look every two seconds, which asks for no workers, replaces it
    before it is read. A worker then seems gone that is not, and its calls are paid for again.
    """
    return list(client.nthreads())


class RayLane:
    """One actor of a ray cluster."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor: Any = None

    def call(self, order: Order) -> WorkerReply:
        """As the protocol says."""
        self._actor = self._actor or self._ray.remote(_Actor).options(max_restarts=0, max_task_retries=0).remote()
        try:
            reply: WorkerReply = self._ray.get(self._actor.exchange.remote(order))
        except self._ray.exceptions.RayTaskError:
            raise  # the order's own
        except self._ray.exceptions.RayError as error:
            self._actor = None
            raise WorkerLost("the ray worker that ran it ended") from error
        return reply

    def close(self) -> None:
        """End the actor."""
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None


class _Actor:
    def exchange(self, order: Order) -> WorkerReply:
        return exchange(order)


def open_lanes(backend: str, *, jobs: int | None, scheduler: str | None) -> tuple[list[WorkerLane], Callable[[], None]]:
    """Lanes to `jobs` processes (dask: all workers of the cluster when None), and what ends the connection.

    Raises `ConfigError` when there is no cluster, or its package is not installed.
    """
    return _OPEN[backend](jobs, scheduler)


def _loky(jobs: int | None, scheduler: str | None) -> tuple[list[WorkerLane], Callable[[], None]]:
    del scheduler
    for name in _BEFORE_LANES:
        with suppress(ImportError):  # of another joblib: then the race is possible, and nothing else
            importlib.import_module(f"joblib.externals.loky.backend.{name}")
    return [LokyLane() for _ in range(jobs or 1)], lambda: None


def _dask(jobs: int | None, scheduler: str | None) -> tuple[list[WorkerLane], Callable[[], None]]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise ConfigError("backend dask: it is not installed; pip install 'bisect-ai[dask]'") from error
    if scheduler is None:
        raise ConfigError("backend dask: it needs `scheduler`, for example tcp://127.0.0.1:8786")
    try:
        client = distributed.Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        told = f"backend dask: no scheduler answers at {scheduler}: {type(error).__name__}; start one: dask scheduler"
        raise ConfigError(told) from error
    found = len(_workers(client))
    if not found:
        client.close()
        raise ConfigError(f"backend dask: the scheduler at {scheduler} has no workers; start one: dask worker {scheduler}")
    taken: set[str] = set()
    return [DaskLane(client, taken) for _ in range(min(jobs or found, found))], client.close


def _ray(jobs: int | None, scheduler: str | None) -> tuple[list[WorkerLane], Callable[[], None]]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("backend ray: it is not installed; pip install 'bisect-ai[ray]'") from error
    try:
        own = {} if scheduler else {"num_cpus": jobs or 2, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(address=scheduler, log_to_driver=False, ignore_reinit_error=True, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"backend ray: cannot reach {scheduler or 'a local ray'}: {error}") from error
    return [RayLane(ray) for _ in range(jobs or 2)], ray.shutdown


_OPEN: Mapping[str, Callable[[int | None, str | None], tuple[list[WorkerLane], Callable[[], None]]]] = {
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
}
