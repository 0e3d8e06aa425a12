"""Runs trials against a target, many at a time, and makes every answer durable before it counts.

Async targets share one event loop in a thread of its own (so a notebook's running loop is no obstacle); sync targets run in
threads. Workers pull from one queue; one committer writes what they finish in groups, one fsync a group. A failed trial is a row,
not an exception. `Engine.run` returns outcomes in the order of its jobs.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bisect_ai.errors import BisectError, Infeasible, InputError, TargetFailure
from bisect_ai.queries.query import Query
from bisect_ai.replay.answer import Answer, Target, as_answer

FAILURES_IN_A_ROW = 20
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """One trial to run: what the target receives, and its place in the caller's list."""

    place: int
    query: Query
    release: Mapping[str, Any]
    repeat: int


@dataclass(frozen=True, slots=True)
class Done:
    """What came back: an answer (possibly with an error), or the reason why the combination cannot run."""

    job: Job
    answer: Answer
    infeasible: str | None = None
    wrong: InputError | TargetFailure | None = None
    """The release or the target itself is wrong, or refused for good: more calls would not help."""


Commit = Callable[[list[Done]], None]
Begin = Callable[[Job], bool]
"""Asked just before a job is called; False: leave it out. What it raises ends dispatch, and the job is not called."""


class Engine:
    """A target with its workers. `stop` ends dispatch: what is under way finishes and is kept."""

    def __init__(self, target: Target, *, concurrency: int, commit: Commit, begin: Begin | None = None) -> None:
        self._target = target
        self._concurrency = max(1, concurrency)
        self._commit = commit
        self._begin = begin
        self._stopping = threading.Event()
        self._is_async = _is_async(target)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failures = 0
        self._failure: BisectError | None = None
        self._answered = False

    def __enter__(self) -> Engine:
        if self._is_async:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="bisect-ai-replay", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_wind_down(), self._loop).result(timeout=5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()

    def stop(self) -> None:
        """Dispatch nothing more."""
        self._stopping.set()

    def run(self, jobs: Sequence[Job]) -> list[Done]:
        """Run the jobs; what was stopped before it started is left out. Raises `TargetFailure` when the target only fails."""
        waiting = deque(jobs)
        finished: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        workers = min(self._concurrency, len(jobs))
        self._start(waiting, finished, workers)
        done = self._collect(finished, workers)
        return sorted(done, key=lambda d: d.job.place)

    def _start(self, waiting: deque[Job], finished: queue.SimpleQueue[Done | None], workers: int) -> None:
        for i in range(workers):
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(self._work_async(waiting, finished), self._loop)
            else:
                name = f"bisect-ai-worker-{i}"
                threading.Thread(target=self._work, args=(waiting, finished), name=name, daemon=True).start()

    def _collect(self, finished: queue.SimpleQueue[Done | None], workers: int) -> list[Done]:
        done: list[Done] = []
        while workers:
            group = _drain(finished)
            workers -= sum(item is None for item in group)
            fresh = [item for item in group if item is not None]
            if fresh:
                self._commit(fresh)
                done += fresh
        if self._failure is not None:
            raise self._failure
        return done

    def _finish(self, finished: queue.SimpleQueue[Done | None], item: Done) -> None:
        """Hand an outcome over; dispatch stops at once when the target, or what it is given, is past hope."""
        finished.put(item)
        self._failures = self._failures + 1 if item.answer.error else 0
        self._answered = self._answered or not item.answer.error
        if item.wrong is not None:
            self._failure = item.wrong
        elif self._failures >= (5 * FAILURES_IN_A_ROW if self._answered else FAILURES_IN_A_ROW):
            self._failure = TargetFailure(
                f"replay stopped: the target failed {self._failures} times in a row, last with: {item.answer.error}; "
                "all answers are kept: mend the target and run the same command again"
            )
        if self._failure is not None:
            self.stop()

    def _next(self, waiting: deque[Job]) -> Job | None:
        try:
            while not self._stopping.is_set():
                job = waiting.popleft()
                if self._begin is None or self._begin(job):
                    return job
        except IndexError:
            return None
        except BisectError as error:
            self._failure = self._failure or error
            self.stop()
        return None

    def _work(self, waiting: deque[Job], finished: queue.SimpleQueue[Done | None]) -> None:
        try:
            while (job := self._next(waiting)) is not None:
                start = time.perf_counter()
                try:
                    returned = self._target(job.query, job.release, job.repeat)
                except BaseException as error:  # a user's function may raise SystemExit: a row too
                    self._finish(finished, _failed(job, error, start))
                else:
                    self._finish(finished, _answered(job, returned, start))
        finally:
            finished.put(None)

    async def _work_async(self, waiting: deque[Job], finished: queue.SimpleQueue[Done | None]) -> None:
        try:
            while (job := self._next(waiting)) is not None:
                start = time.perf_counter()
                try:
                    returned = self._target(job.query, job.release, job.repeat)
                    if inspect.isawaitable(returned):
                        returned = await returned
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # as above
                    self._finish(finished, _failed(job, error, start))
                else:
                    self._finish(finished, _answered(job, returned, start))
        finally:
            finished.put(None)


def _is_async(target: Target) -> bool:
    flag = getattr(target, "is_async", None)
    return bool(flag) if flag is not None else inspect.iscoroutinefunction(getattr(target, "__call__", target))  # noqa: B004  # the method, not callability


def _answered(job: Job, returned: Any, start: float) -> Done:
    try:
        answer = as_answer(returned)
    except Exception as error:  # whatever a user's function returned: a row
        return _failed(job, error, start)
    if answer.latency_s is None:
        answer = replace(answer, latency_s=round(time.perf_counter() - start, 6))
    return Done(job, answer)


def _failed(job: Job, error: BaseException, start: float) -> Done:
    latency = round(time.perf_counter() - start, 6)
    if isinstance(error, Infeasible):
        return Done(job, Answer(latency_s=latency), infeasible=str(error) or "the target said so")
    line = (str(error).splitlines() or [""])[0][:300]
    wrong = error if isinstance(error, InputError | TargetFailure) else None
    return Done(job, Answer(latency_s=latency, error=f"{type(error).__name__}: {line}"), wrong=wrong)


def _drain(finished: queue.SimpleQueue[Done | None]) -> list[Done | None]:
    """Everything that waits, at least one item; the timed wait lets a signal through to the main thread."""
    while True:
        try:
            group = [finished.get(timeout=_POLL_SECONDS)]
            break
        except queue.Empty:
            continue
    while True:
        try:
            group.append(finished.get_nowait())
        except queue.Empty:
            return group


async def _wind_down() -> None:
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
