"""The hands in this process: one event loop for async targets, threads for sync ones.

The loop runs in a thread of its own, so a notebook's running loop is no obstacle.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

from bisect_ai.replay.answer import Target
from bisect_ai.replay.guard import close_connections
from bisect_ai.replay.jobs import Done, Job, answered, failed

if TYPE_CHECKING:
    from bisect_ai.replay.engine import Desk

CLOSING_SECONDS = 5.0
QUICK_SECONDS = 0.001
"""A call that takes less has asked nobody anything: its outcome may wait a moment for company."""
_COMPANY_SECONDS = 0.01
_MOST_TOGETHER = 16


class AsyncHands:
    """Up to `concurrency` jobs at once on one event loop."""

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target, self._most = target, concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bisect-ai-replay", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._fresh: list[Done] = []

    def start(self, desk: Desk) -> None:
        """Start the loop."""
        self._desk = desk
        self._thread.start()

    def wake(self) -> None:
        """Take jobs as long as there is room."""
        self._loop.call_soon_threadsafe(self._fill)

    def close(self) -> None:
        """Cancel what is under way and end the loop."""
        winding = asyncio.run_coroutine_threadsafe(_wind_down(), self._loop)
        try:
            winding.result(timeout=CLOSING_SECONDS)
        except TimeoutError:  # a coroutine that will not be cancelled: left behind with its daemon thread
            self._loop.call_soon_threadsafe(self._loop.stop)
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=CLOSING_SECONDS)
        self._loop.close()

    def _fill(self) -> None:
        while len(self._tasks) < self._most and (job := self._desk.take()) is not None:
            task = self._loop.create_task(self._work(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, job: Job) -> None:
        while True:
            self._finish(await self._one(job))
            if len(self._fresh) >= _MOST_TOGETHER:  # a target that never waits would not let the loop hand over
                await asyncio.sleep(0)
            following = self._desk.take()
            if following is None:
                return
            job = following

    async def _one(self, job: Job) -> Done:
        start = time.perf_counter()
        try:
            returned = self._target(job.query, job.release, job.repeat)
            if inspect.isawaitable(returned):
                returned = await returned
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a user's function may raise SystemExit: a row too
            return failed(job, error, start)
        return answered(job, returned, start)

    def _finish(self, done: Done) -> None:
        """What finishes in one turn of the loop is handed over together."""
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(done)
        if done.wrong is not None or done.answer.error:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._desk.put(fresh)


class ThreadHands:
    """Up to `concurrency` jobs at once, a thread each. Quick calls are left to one thread: more would only fight for it."""

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._changed = threading.Condition()
        self._closed = False
        self._idle = 0
        self._quick = False
        self._threads = [
            threading.Thread(target=self._work, name=f"bisect-ai-worker-{i}", daemon=True) for i in range(concurrency)
        ]

    def start(self, desk: Desk) -> None:
        """Start the threads."""
        self._desk = desk
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Wake the threads that are needed."""
        with self._changed:
            self._changed.notify(1 if self._quick else len(self._threads))

    def close(self) -> None:
        """Let idle threads end; one that hangs in the user's code is left behind: it is a daemon."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        fresh: list[Done] = []
        since = 0.0
        while True:
            job = self._desk.take()
            if job is None:
                if fresh:
                    self._desk.put(fresh)
                    fresh = []
                if not self._rest():
                    return
                continue
            start = time.perf_counter()
            done = self._one(job, start)
            now = time.perf_counter()
            since = since if fresh else now
            fresh.append(done)
            self._quick = now - start < QUICK_SECONDS
            if not self._quick or done.wrong is not None or done.answer.error or now - since > _COMPANY_SECONDS:
                self._desk.put(fresh)
                fresh = []
                if not self._quick and self._idle and self._desk.waiting:
                    self.wake()

    def _rest(self) -> bool:
        """Wait for jobs; False when there will be none."""
        with self._changed:
            while not self._closed and not self._desk.waiting:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return not self._closed

    def _one(self, job: Job, start: float) -> Done:
        try:
            returned: Any = self._target(job.query, job.release, job.repeat)
        except BaseException as error:  # as above
            return failed(job, error, start)
        return answered(job, returned, start)


async def _wind_down() -> None:
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await close_connections()
