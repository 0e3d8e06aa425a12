"""Runs trials against a target, many at a time, and makes every answer durable before it counts.

Jobs are handed in by rounds, several of which may be under way (`submit`, then `wait` in the same order), so that no worker idles
while the last answers of a round come in. Hands (`hands`, `workers`) take jobs from one desk and put back what came of them; the
caller's thread commits what is finished in groups, one fsync a group. A failed trial is a row, not an exception.

Each trial has a deadline that the desk supervises: one that passes it is a row too, and whoever is at it is left behind. When the
time of the run is over, what does not come in within the grace time is such a row.
"""

from __future__ import annotations

import gc
import inspect
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import NamedTuple, Protocol

from bisect_ai.errors import BisectError, Interrupted, TargetFailure
from bisect_ai.replay.answer import Answer, Target
from bisect_ai.replay.failures import describe
from bisect_ai.replay.hands import AsyncHands, ThreadHands
from bisect_ai.replay.health import Health
from bisect_ai.replay.jobs import Done, Job
from bisect_ai.replay.limiter import HeldBack
from bisect_ai.replay.money import CapReached, Trip

FAILURES_IN_A_ROW = 20
GRACE_SECONDS = 20.0
"""How long what is under way may take to come in after a stop, or after the time cap."""
TARGET_SECONDS = 600.0
"""How long one answer may take, unless the settings say otherwise."""
SELDOM = (50_000, 20, 20)
"""The garbage collector's thresholds during a run: litellm makes thousands of objects a call, a log's rows as many, nearly none in
cycles."""
_POLL_SECONDS = 0.1
_LATER = 5.0
"""Seconds by which a target's own deadline comes first."""
_TURNS = 4
"""Times as long as an answer may take that a job may be in another process."""

Commit = Callable[[list[Done]], None]
Again = Callable[[Job], Awaitable[None]]
"""Waited for before a request of a job leaves again. Raises `CapReached`: no call is left for it."""
Begin = Callable[[Job], bool]
"""Asked just before a job is called; False: leave it out. What it raises ends dispatch, and the job is not called; that a cap is
reached is no failure."""


class Hands(Protocol):
    """Whoever runs the jobs: takes from the desk, puts back."""

    def start(self, desk: Desk) -> None:
        """Get ready; called once."""

    def wake(self) -> None:
        """There may be jobs to take."""

    def abandon(self, place: int) -> str:
        """A job's outcome is awaited no more: leave whoever is at it behind; tells what that was."""

    def flush(self) -> None:
        """Put what is finished, though more may be about to come."""

    def kept(self, done: Sequence[Done]) -> None:
        """These outcomes are on record."""

    def close(self) -> None:
        """Give up what is under way."""


class Under(NamedTuple):
    """A job that was taken, and the trip that counts its calls."""

    job: Job
    trip: Trip


class Desk:
    """What waits, what is under way, what is finished: shared by the engine and its hands. Safe from any thread."""

    def __init__(
        self,
        begin: Begin | None = None,
        *,
        undo: Callable[[Job], None] | None = None,
        again: Again | None = None,
        count: Callable[[Job], None] | None = None,
        judges: bool = True,
        answered: bool = False,
        keep_going: bool = False,
        seconds: float = TARGET_SECONDS,
    ) -> None:
        self.stopping = threading.Event()
        self._begin, self._undo, self._again, self._judges = begin, undo, again, judges
        self._count = count
        self.seconds, self._keep_going = seconds, keep_going
        """How long one answer may take."""
        self.hands: Hands | None = None
        """Who takes from here, where they can be left behind."""
        self._taken: dict[int, Under] = {}
        self._looked = 0.0
        self.failure: BisectError | None = None
        self._waiting: deque[Job] = deque()
        self._finished: queue.SimpleQueue[list[Done]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way = 0
        self._past_hope = False
        self._health = Health("the target", FAILURES_IN_A_ROW, "mend the target", worked=answered, keep_going=keep_going)

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
                    self._take(job)
                    return job
            except CapReached:
                self.stopping.set()
            except Exception as error:  # else it would end the thread that takes
                self._fail_at("begin a call", error)
            self._finished.put([Done(job, Answer(), left=True)])
        return None

    def _take(self, job: Job) -> None:
        async def more() -> None:
            if self._again is not None:
                await self._again(job)
            elif self._count is not None:
                self._count(job)

        with self._lock:
            self._taken[job.place] = Under(job, Trip(more, keep_going=self._keep_going))

    def count(self, job: Job) -> bool:
        """Whether a call more is left for a job, which then is on record."""
        try:
            if self._count is not None:
                self._count(job)
        except BisectError as error:
            if not isinstance(error, CapReached):
                self.fail(error)
            return False
        return True

    def trip_of(self, job: Job) -> Trip:
        """What counts the calls of a job that was taken."""
        under = self._taken.get(job.place)
        return Trip() if under is None else under.trip

    def why(self) -> BisectError:
        """Why the run ends, with what came in since."""
        failed = self.failure or BisectError("replay stopped")
        return (self._health.failure or failed) if self._past_hope else failed

    def fail(self, error: BisectError) -> None:
        """Nothing more is taken: the run ends with this error."""
        self.failure = self.failure or error
        self.stopping.set()

    def _fail_at(self, what: str, error: Exception) -> None:
        told = BisectError(f"cannot {what}: {describe(error)}; everything answered so far is kept")
        self.fail(error if isinstance(error, BisectError) else told)

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

    def put(self, done: list[Done]) -> None:
        """Hand outcomes over; dispatch stops at once when the target, or what it is given, is past hope.

        What was given up meanwhile comes too late.
        """
        with self._lock:
            done = [item for item in done if self._taken.pop(item.job.place, None) is not None]
        for item in done:
            if item.left and self._undo is not None:  # taken and not called after all
                try:
                    self._undo(item.job)
                except Exception as error:  # else it would end the thread that puts, and what it puts were awaited for ever
                    self._fail_at("take back a call that was not made", error)
            if self._judges:
                self._judge(item)
        if done:
            self._finished.put(done)

    def is_awaited(self, job: Job) -> bool:
        """Whether an outcome of this job still counts."""
        return job.place in self._taken

    def _overdue(self) -> None:
        """Give up what takes longer than an answer may."""
        now = time.monotonic()
        if now < self._looked + _POLL_SECONDS:
            return
        self._looked, late = now, now - self.seconds
        if self.hands is not None:
            self.hands.flush()
        with self._lock:
            overdue = [under.job for under in self._taken.values() if under.trip.began < late]
        if overdue:
            self.give_up(overdue, f"no answer within {self.seconds:g} s (timeouts.target)")

    def give_up(self, jobs: Sequence[Job] | None, why: str) -> None:
        """Wait no more for these jobs (None: all): each is a failed trial, and whoever is at it is left behind."""
        with self._lock:
            chosen = list(self._taken) if jobs is None else [job.place for job in jobs]
            gone = [under for place in chosen if (under := self._taken.pop(place, None)) is not None]
        done = []
        for job, counted in gone:
            left = self.hands.abandon(job.place) if self.hands is not None else ""
            error = f"TimeoutError: {why}{f'; {left}' if left else ''}"
            done.append(Done(job, Answer(error=error, outcome="timeout"), calls=max(counted.calls, 1)))
        for item in done if self._judges else ():
            self._judge(item)
        if done:
            self._finished.put(done)

    def collect(self, seconds: float) -> list[Done]:
        """All that is finished, waiting up to `seconds` for the first; the short wait lets signals through."""
        self._overdue()
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
        told, health = (item.answer.error if item.answer.is_failure else None) or item.answer.reason, self._health
        if told:
            where = item.answer.endpoint
            at = f" ({where})" if where and where not in told else ""
            held = told.startswith(HeldBack.__name__)  # what was held back says nothing of why
            health.failed(told + at, calls=item.calls, is_cause=not held)
        else:
            health.well()
        failure = item.wrong or health.failure
        if failure is not None:
            self._past_hope = self._past_hope or (item.wrong is None and self.failure is None)
            self.fail(failure)


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
        count: Callable[[Job], None] | None = None,
        hands: Hands | None = None,
        grace: float | None = None,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        answered: bool = False,
        keep_going: bool = False,
        seconds: float = TARGET_SECONDS,
        ends: float = float("inf"),
    ) -> None:
        patience = patience_of(target, seconds)
        self._desk = Desk(
            begin,
            undo=undo,
            count=count,
            answered=answered,
            keep_going=keep_going,
            # Other processes supervise their own jobs, some of which wait there: here is noticed that a process is stuck.
            seconds=patience if hands is None else _TURNS * patience + GRACE_SECONDS,
        )
        self._hands = self._desk.hands = hands or local_hands(target, max(1, concurrency))
        self._ends = ends  # monotonic seconds: the time cap
        self._commit = commit
        self._grace = GRACE_SECONDS if grace is None else grace
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
            if isinstance(exc[1], TargetFailure):  # what is under way is paid for, whoever found that it is no use
                self._drain()
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
        self._end_of_time()
        if self._desk.failure is not None:
            self._drain()
            raise self._desk.why()
        return sorted(handed.done, key=lambda d: d.job.place)

    def _end_of_time(self) -> None:
        """What has not come in by the time cap and its grace time is a failed trial: on record, and no longer waited for."""
        if time.monotonic() >= self._ends + self._grace:
            self._desk.give_up(None, "the time cap was reached, and it had not come in after it")
            with self._hold():
                self._take_in(self._desk.collect(0))

    def _drain(self) -> None:
        while not self._is_over():
            self._hear()

    def _hear(self) -> None:
        with self._hold():
            self._take_in(self._desk.collect(_POLL_SECONDS))

    def _is_over(self) -> bool:
        """Whether nothing more will come in: dispatch has stopped, and all is in or the grace time is over.

        A cap alone sets no grace time, but that on time: what is under way is paid for, and nobody is in a hurry.
        """
        if time.monotonic() >= self._ends:
            self._desk.stopping.set()
            self._give_up = min(self._give_up, self._ends + self._grace)
        if not self._desk.stopping.is_set():
            return False
        if self._desk.failure is not None and self._give_up == float("inf"):
            self._give_up = time.monotonic() + self._grace
        return not self._desk.under_way or time.monotonic() > self._give_up

    def _take_in(self, group: list[Done]) -> None:
        called = [item for item in group if not item.left]
        try:
            if called:
                self._commit(called)
                self._hands.kept(called)
        except TargetFailure as error:  # what scores the answers is past hope; they are committed
            self._desk.fail(error)
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


def patience_of(target: Target, seconds: float) -> float:
    """How long one answer may take: longer than a target's own deadline, which says better what was the matter."""
    own = float(getattr(target, "deadline", 0.0))
    return max(seconds, own + _LATER) if own else seconds


def local_hands(target: Target, concurrency: int) -> Hands:
    """Hands in this process: an event loop for an async target, threads for any other."""
    return AsyncHands(target, concurrency) if is_async(target) else ThreadHands(target, concurrency)


def is_async(target: Target) -> bool:
    """Whether the target's answers are awaited."""
    flag = getattr(target, "is_async", None)
    return bool(flag) if flag is not None else inspect.iscoroutinefunction(getattr(target, "__call__", target))  # noqa: B004  # the method, not callability
