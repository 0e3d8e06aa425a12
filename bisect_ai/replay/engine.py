"""Runs trials against a target, many at a time, and makes every answer durable before it counts.

Jobs are handed in by rounds, several of which may be under way (`submit`, then `wait` in the same order), so that no worker idles
while the last answers of a round come in. Hands (`hands`, `workers`) take jobs from one desk and put back what came of them; the
caller's thread commits what is finished in groups, one fsync a group. A failed trial is a row, not an exception.
"""

from __future__ import annotations

import gc
import inspect
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

from bisect_ai.errors import BisectError, Interrupted, TargetFailure
from bisect_ai.replay.answer import Answer, Target
from bisect_ai.replay.hands import AsyncHands, ThreadHands
from bisect_ai.replay.jobs import Done, Job
from bisect_ai.replay.limiter import HeldBack
from bisect_ai.replay.money import CapReached

FAILURES_IN_A_ROW = 20
GRACE_SECONDS = 20.0
"""How long what is under way may take to come in after a stop."""
SELDOM = (50_000, 20, 20)
"""The garbage collector's thresholds during a run: litellm makes thousands of objects a call, a log's rows as many, nearly none in
cycles."""
_POLL_SECONDS = 0.1

Commit = Callable[[list[Done]], None]
Begin = Callable[[Job], bool]
"""Asked just before a job is called; False: leave it out. What it raises ends dispatch, and the job is not called; that a cap is
reached is no failure."""


class Hands(Protocol):
    """Whoever runs the jobs: takes from the desk, puts back."""

    def start(self, desk: Desk) -> None:
        """Get ready; called once."""

    def wake(self) -> None:
        """There may be jobs to take."""

    def close(self) -> None:
        """Give up what is under way."""


class Desk:
    """What waits, what is under way, what is finished: shared by the engine and its hands. Safe from any thread."""

    def __init__(
        self,
        begin: Begin | None = None,
        *,
        undo: Callable[[Job], None] | None = None,
        judges: bool = True,
        answered: bool = False,
    ) -> None:
        self.stopping = threading.Event()
        self._begin, self._undo, self._judges = begin, undo, judges
        self.failure: BisectError | None = None
        self._waiting: deque[Job] = deque()
        self._finished: queue.SimpleQueue[list[Done]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way = 0
        self._failures = 0
        self._told = ""
        self._answered = answered

    @property
    def waiting(self) -> int:
        """Jobs that may still be taken."""
        return 0 if self.stopping.is_set() else len(self._waiting)

    @property
    def under_way(self) -> int:
        """Jobs taken whose outcome has not been collected."""
        return self._under_way

    def add(self, jobs: Sequence[Job]) -> None:
        """Lay out more jobs, to be taken in this order."""
        self._waiting.extend(jobs)

    def take(self) -> Job | None:
        """The next job, which then is under way; None: there is none, or dispatch has stopped."""
        while (job := self._next()) is not None:
            try:
                if self._begin is None or self._begin(job):
                    return job
            except CapReached:
                self.stopping.set()
            except BisectError as error:
                self.failure = self.failure or error
                self.stopping.set()
            self._finished.put([Done(job, Answer(), left=True)])
        return None

    def _next(self) -> Job | None:
        with self._lock:
            if self.stopping.is_set() or not self._waiting:
                return None
            self._under_way += 1
            return self._waiting.popleft()

    def halt(self) -> list[Job]:
        """Let nothing more be taken; the jobs that waited."""
        with self._lock:
            self.stopping.set()
            waiting = list(self._waiting)
            self._waiting.clear()
        return waiting

    def give_back(self, job: Job) -> None:
        """A job that was taken and not called after all."""
        if self._undo is not None:
            self._undo(job)

    def put(self, done: list[Done]) -> None:
        """Hand outcomes over; dispatch stops at once when the target, or what it is given, is past hope."""
        for item in done if self._judges else ():
            self._judge(item)
        self._finished.put(done)

    def collect(self, seconds: float) -> list[Done]:
        """All that is finished, waiting up to `seconds` for the first; the short wait lets signals through."""
        try:
            group = self._finished.get(timeout=seconds)
        except queue.Empty:
            return []
        while True:
            try:
                group = group + self._finished.get_nowait()
            except queue.Empty:
                break
        with self._lock:
            self._under_way -= len(group)
        return group

    def _judge(self, item: Done) -> None:
        if item.left:  # a cap stood in the way
            self.stopping.set()
            return
        told = (item.answer.error if item.answer.is_failure else None) or item.answer.reason
        if told and not told.startswith(HeldBack.__name__):  # what was held back says nothing of why
            self._told = told
        self._failures = self._failures + 1 if told else 0
        self._answered = self._answered or not told
        if item.wrong is not None:
            self.failure = item.wrong
        elif self._failures >= (5 * FAILURES_IN_A_ROW if self._answered else FAILURES_IN_A_ROW):
            self.failure = TargetFailure(
                f"replay stopped: the target failed {self._failures} times in a row, last with: {self._told or told}; "
                "all answers are kept: mend the target and run the same command again"
            )
        if self.failure is not None:
            self.stopping.set()


class Round:
    """Jobs handed in together, and what has come back of them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.open = len(jobs)
        self.done: list[Done] = []


class Engine:
    """A target with its hands. `stop` ends dispatch: what is under way may come in within the grace time and is kept."""

    def __init__(
        self,
        target: Target,
        *,
        concurrency: int,
        commit: Commit,
        begin: Begin | None = None,
        undo: Callable[[Job], None] | None = None,
        hands: Hands | None = None,
        grace: float = GRACE_SECONDS,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        answered: bool = False,
    ) -> None:
        self._desk = Desk(begin, undo=undo, answered=answered)
        self._hands = hands or local_hands(target, max(1, concurrency))
        self._commit = commit
        self._grace = grace
        self._hold = hold  # no signal may raise inside
        self._give_up = float("inf")
        self._rounds: dict[int, Round] = {}

    def __enter__(self) -> Engine:
        self._hands.start(self._desk)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        with ExitStack() as last:
            last.callback(self._hands.close)
            if isinstance(exc[1], Interrupted):  # what has come in is paid for, however great the hurry
                with self._hold():
                    self._take_in(self._desk.collect(0))

    def stop(self) -> None:
        """Dispatch nothing more. Only sets flags: a signal handler may call it."""
        self._give_up = min(self._give_up, time.monotonic() + self._grace)
        self._desk.stopping.set()

    @property
    def stopped(self) -> bool:
        """Whether dispatch has ended."""
        return self._desk.stopping.is_set()

    def run(self, jobs: Sequence[Job]) -> list[Done]:
        """`submit` and `wait`."""
        return self.wait(self.submit(jobs))

    def submit(self, jobs: Sequence[Job]) -> Round:
        """Begin with the jobs. Their places are unique among all that is under way."""
        handed = Round(jobs)
        self._rounds.update((job.place, handed) for job in jobs)
        self._desk.add(jobs)
        if jobs:
            self._hands.wake()
        return handed

    def wait(self, handed: Round) -> list[Done]:
        """What came of a round, by place; what was stopped before it started, or did not come in within grace, is left out.

        Raises `TargetFailure` when the target only fails, `InputError` when what it is given is wrong, and what `begin` raised;
        all that came in is committed by then.
        """
        while handed.open and not self._is_over():
            self._hear()
        if self._desk.failure is not None:
            self._drain()
            raise self._desk.failure
        return sorted(handed.done, key=lambda d: d.job.place)

    def _drain(self) -> None:
        while not self._is_over():
            self._hear()

    def _hear(self) -> None:
        with self._hold():
            self._take_in(self._desk.collect(_POLL_SECONDS))

    def _is_over(self) -> bool:
        """Whether nothing more will come in: dispatch has stopped, and all is in or the grace time is over.

        A cap alone sets no grace time: what is under way is paid for, and nobody is in a hurry.
        """
        if not self._desk.stopping.is_set():
            return False
        if self._desk.failure is not None and self._give_up == float("inf"):
            self._give_up = time.monotonic() + self._grace
        return not self._desk.under_way or time.monotonic() > self._give_up

    def _take_in(self, group: list[Done]) -> None:
        called = [item for item in group if not item.left]
        if called:
            self._commit(called)
        for item in group:
            handed = self._rounds.pop(item.job.place)
            handed.open -= 1
            if not item.left:
                handed.done.append(item)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, the garbage collector runs as `SELDOM` says."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def local_hands(target: Target, concurrency: int) -> Hands:
    """Hands in this process: an event loop for an async target, threads for any other."""
    return AsyncHands(target, concurrency) if is_async(target) else ThreadHands(target, concurrency)


def is_async(target: Target) -> bool:
    """Whether the target's answers are awaited."""
    flag = getattr(target, "is_async", None)
    return bool(flag) if flag is not None else inspect.iscoroutinefunction(getattr(target, "__call__", target))  # noqa: B004  # the method, not callability
