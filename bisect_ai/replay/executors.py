"""The hands in this process: one event loop for async targets, threads for sync ones.

The loop runs in a thread of its own, so a notebook's running loop is no obstacle. A thread or a loop that a target does not give
back is left behind, and another takes its place: nothing that a target raises or never returns from ends the hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

from bisect_ai.provider.budget import trip
from bisect_ai.provider.transport import cancel_others, close_connections
from bisect_ai.provider.watchdog import AtWork
from bisect_ai.replay.job_queue import Hands, JobQueue
from bisect_ai.replay.trial_jobs import Done, Job, answered, failed
from bisect_ai.targets.target import Target

# Seconds by which a target's own deadline comes first.
_LATER = 5.0

CLOSING_SECONDS = 5.0  # for clients that close connections; whoever takes longer is left behind
# A call that takes less has asked nobody anything: its outcome may wait a moment for company.
QUICK_SECONDS = 0.001
# How long an event loop may be silent before it is taken to be blocked.
RESPONSE_SECONDS = 1.0
_COMPANY_SECONDS = 0.01  # that an outcome of a quick call waits for others
_MOST_TOGETHER = 16  # outcomes after which a target that never waits is made to let others work


class _Loop:
    """An event loop in a thread, with the jobs that are under way on it."""

    def __init__(self, target: Target, desk: JobQueue, most: int, name: str) -> None:
        self._target, self._desk, self._most, self.name = target, desk, most, name
        self._headroom = getattr(target, "headroom", None)
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[asyncio.Task[None], Job | None] = {}
        self._fresh: list[Done] = []
        self._guard = threading.Lock()
        self.retired = False
        self._closing = self._left = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._loop.run_forever()
                break
            except BaseException:  # noqa: S112  # a task of the target's own may exit: that is no fault of the others
                continue
        if self._left:  # it came back after all
            with contextlib.suppress(BaseException):
                self._loop.run_until_complete(_close_loop_connections())
            self._loop.close()

    def wake(self) -> None:
        """Take jobs as long as there is room."""
        self._loop.call_soon_threadsafe(self._fill)

    def responds(self) -> bool:
        """Whether the loop still turns."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(RESPONSE_SECONDS)

    def cancel(self, place: int) -> None:
        """Cancel a job, if the loop ever gets to it."""
        self._loop.call_soon_threadsafe(self._cancel, place)

    def close(self) -> None:
        """Cancel what is under way and end the loop; one that does not let itself be ended is left behind with its daemon thread."""
        self._closing = self.retired = True
        if not self.responds():
            self.leave()
            return
        winding = asyncio.run_coroutine_threadsafe(_close_loop_connections(), self._loop)
        try:
            winding.result(timeout=CLOSING_SECONDS)
        except TimeoutError:
            self.leave()
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=CLOSING_SECONDS)
        self._loop.close()

    def leave(self) -> None:
        """Wait for it no more: it ends by itself if it ever turns again."""
        self._closing = self.retired = self._left = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def _room(self) -> int:
        """Jobs that may be under way at this moment."""
        return self._most if self._headroom is None else int(self._most * self._headroom.growth)

    def _fill(self) -> None:
        while not self.retired and len(self._tasks) < self._room and (job := self._desk.take()) is not None:
            task = self._loop.create_task(self._work(job))
            self._tasks[task] = job
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        job = self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if job is not None and not self._closing:  # a supervisor's word: the job's own outcome was put already, if it has one
            self._finish(failed(job, error or RuntimeError("its task ended without an outcome"), time.perf_counter()))
            self._fill()

    def _cancel(self, place: int) -> None:
        for task, job in self._tasks.items():
            if job is not None and job.place == place:
                task.cancel()

    async def _work(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            self._tasks[task] = job
            self._finish(await self._one(job, task))
            if len(self._fresh) >= _MOST_TOGETHER:  # a target that never waits would not let the loop hand over
                await asyncio.sleep(0)
            following = None if self.retired or len(self._tasks) > self._room else self._desk.take()
            self._tasks[task] = following
            if following is None:
                return
            job = following
            if len(self._tasks) < self._room:  # it has risen
                self._fill()

    async def _one(self, job: Job, task: asyncio.Task[None]) -> Done:
        start, counted = time.perf_counter(), self._desk.trip_of(job)
        trip.set(counted)
        counted.starts()
        try:
            with AtWork("the target", job.query.id, self._desk.seconds):
                returned = self._target(job.query, job.release, job.repeat)
                if inspect.isawaitable(returned):
                    returned = await returned
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            while task.uncancel():  # a target may cancel the task that it runs in
                pass
            return _with_calls(failed(job, error, start), counted.calls)
        except BaseException as error:  # a user's function may raise SystemExit: a row too
            return _with_calls(failed(job, error, start), counted.calls)
        return _with_calls(answered(job, returned, start), counted.calls)

    def _finish(self, done: Done) -> None:
        """What finishes in one turn of the loop is handed over together."""
        with self._guard:
            if not self._fresh:
                self._loop.call_soon(self.hand_over)
            self._fresh.append(done)
        if done.wrong is not None or done.answer.error:
            self.hand_over()

    def hand_over(self) -> None:
        """Put what has finished; from another thread too, because the next job may block this one."""
        with self._guard:
            fresh, self._fresh = self._fresh, []
        if fresh:
            self._desk.put(fresh)


class AsyncHands:
    """Up to `concurrency` jobs at once, times the growth of the target's headroom, on an event loop; a fresh one if a job blocks it."""

    gathers = False

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target, self._most = target, concurrency
        self._names = (f"bisect-ai-replay-{i}" for i in itertools.count())
        self._loop: _Loop | None = None
        self._guard = threading.Lock()

    def start(self, desk: JobQueue) -> None:
        """Start the loop."""
        self._desk = desk
        self._loop = self._fresh()

    def _fresh(self) -> _Loop:
        return _Loop(self._target, self._desk, self._most, next(self._names))

    def wake(self) -> None:
        """Take jobs as long as there is room."""
        assert self._loop is not None
        self._loop.wake()

    def flush(self) -> None:
        """Put what has finished."""
        if self._loop is not None:
            self._loop.hand_over()

    def abandon(self, place: int) -> str:
        """Cancel a job; a loop that it blocks is left behind."""
        with self._guard:
            loop = self._loop
            if loop is None:
                return ""
            if loop.responds():
                loop.cancel(place)
                return ""
            loop.hand_over()
            loop.leave()
            self._loop = self._fresh()
            self._loop.wake()
            return f"it blocks its event loop: the thread {loop.name} is left behind"

    def kept(self, done: Sequence[Done]) -> None:
        """Nothing is set aside here."""

    def close(self) -> None:
        """Cancel what is under way and end the loop."""
        if self._loop is not None:
            self._loop.close()


class _Worker:
    """A thread that takes jobs one after the other, and what it has finished and not yet put."""

    def __init__(self, hands: ThreadHands, number: int) -> None:
        self.job: Job | None = None
        self.fresh: list[Done] = []
        self.guard = threading.Lock()
        self.retired = False
        self.thread = threading.Thread(target=hands.work, args=(self,), name=f"bisect-ai-worker-{number}", daemon=True)

    def finish(self, done: Done) -> None:
        """One more is finished."""
        with self.guard:
            self.fresh.append(done)

    def taken(self) -> list[Done]:
        """What is finished, to be put; from another thread too, because the next job may never end."""
        with self.guard:
            fresh, self.fresh = self.fresh, []
        return fresh


class ThreadHands:
    """Up to `concurrency` jobs at once, a thread each. Quick calls are left to one thread: more would only fight for it."""

    def __init__(self, target: Target, concurrency: int) -> None:
        self._target = target
        self._changed = threading.Condition()
        self._closed = False
        self._idle = 0
        self.gathers = self._was_slow = False
        self._numbers = itertools.count()
        self._workers = [_Worker(self, next(self._numbers)) for _ in range(concurrency)]

    def start(self, desk: JobQueue) -> None:
        """Start the threads."""
        self._desk = desk
        for worker in self._workers:
            worker.thread.start()

    def wake(self) -> None:
        """Wake the threads that are needed."""
        with self._changed:
            self._changed.notify(1 if self.gathers else len(self._workers))

    def flush(self) -> None:
        """Put what has finished."""
        for worker in self._workers:
            if worker.fresh and (fresh := worker.taken()):
                self._desk.put(fresh)

    def abandon(self, place: int) -> str:
        """Leave the thread at a job behind; a fresh one takes its place."""
        stuck = next((w for w in self._workers if w.job is not None and w.job.place == place), None)
        if stuck is None:
            return ""
        stuck.retired = True
        fresh = _Worker(self, next(self._numbers))
        self._workers[self._workers.index(stuck)] = fresh
        fresh.thread.start()
        return f"its thread {stuck.thread.name} is left behind"

    def kept(self, done: Sequence[Done]) -> None:
        """Nothing is set aside here."""

    def close(self) -> None:
        """Let idle threads end; one that hangs in the user's code is left behind: it is a daemon."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def work(self, me: _Worker) -> None:
        """What a thread does."""
        since = 0.0
        while not me.retired:
            job = me.job = self._desk.take()
            if job is None:
                if fresh := me.taken():
                    self._desk.put(fresh)
                if not self._rest():
                    return
                continue
            start = time.perf_counter()
            done = self._one(job, start)
            now = time.perf_counter()
            since = since if me.fresh else now
            me.finish(done)
            self._hear_of(slow=now - start >= QUICK_SECONDS)
            if not self.gathers or me.retired or done.wrong is not None or done.answer.error or now - since > _COMPANY_SECONDS:
                if fresh := me.taken():
                    self._desk.put(fresh)
                if not self.gathers and self._idle and self._desk.waiting:
                    self.wake()

    def _hear_of(self, *, slow: bool) -> None:
        """A call is over: two slow ones in a row are no longer quick, for one may be the machine's doing."""
        self.gathers = (self.gathers and not self._was_slow) if slow else True
        self._was_slow = slow

    def _rest(self) -> bool:
        """Wait for jobs; False when there will be none."""
        with self._changed:
            while not self._closed and not self._desk.waiting:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return not self._closed

    def _one(self, job: Job, start: float) -> Done:
        counted = self._desk.trip_of(job)
        trip.set(counted)
        counted.starts()
        try:
            with AtWork("the target", job.query.id, self._desk.seconds):
                returned: Any = self._target(job.query, job.release, job.repeat)
        except BaseException as error:  # as above
            return _with_calls(failed(job, error, start), counted.calls)
        return _with_calls(answered(job, returned, start), counted.calls)


def _with_calls(done: Done, calls: int) -> Done:
    return done if done.calls == calls else done._replace(calls=calls)


async def _close_loop_connections() -> None:
    await cancel_others()
    await close_connections()


def patience_of(target: Target, seconds: float) -> float:
    """How long one answer may take: longer than a target's own deadline, which says better what was the matter."""
    own = float(getattr(target, "deadline", 0.0))
    return max(seconds, own + _LATER) if own else seconds


def local_hands(target: Target, concurrency: int) -> Hands:
    """Hands in this process: an event loop for an async target, threads for any other."""
    most = max(1, concurrency)
    return AsyncHands(target, most) if is_async(target) else ThreadHands(target, most)


def is_async(target: Target) -> bool:
    """Whether the target's answers are awaited."""
    flag = getattr(target, "is_async", None)
    return bool(flag) if flag is not None else inspect.iscoroutinefunction(getattr(target, "__call__", target))  # noqa: B004  # the method, not callability
