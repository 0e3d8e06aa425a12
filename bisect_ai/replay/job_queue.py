"""What waits, what is under way and what is finished, with deadlines: shared by the engine and its executors."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bisect_ai.errors import BisectError, TargetFailure
from bisect_ai.provider.budget import CapReached, Trip
from bisect_ai.provider.rate_limit import HeldBack
from bisect_ai.provider.redaction import describe
from bisect_ai.replay.trial_jobs import Done, Job
from bisect_ai.targets.answer import Answer

KEPT = "all answers are kept"
# Times as many failures in a row that are borne from what has worked before.
_MORE = 5


@dataclass
class Health:
    """Failures in a row of `who`: at most `patience`, and five times that from what has `worked`. `keep_going`: never too many."""

    who: str
    patience: int
    advice: str
    worked: bool = False
    keep_going: bool = False
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _in_a_row: int = 0
    _spent: int = 0
    _first: tuple[str, float] = ("", 0.0)
    _last: tuple[str, float] = ("", 0.0)

    def well(self) -> None:
        """It worked."""
        self.worked, self._in_a_row, self._spent = True, 0, 0

    def failed(self, told: str, *, calls: int = 0, is_cause: bool = True) -> None:
        """It failed, as `told` says, and `calls` were spent on that. `is_cause`: it says why, not only that nobody was asked."""
        now = self.clock()
        if not self._in_a_row:
            self._first = ("", now)
        if is_cause:
            self._first = (self._first[0] or told, self._first[1])
        if is_cause or not self._last[0]:
            self._last = (told, now)
        self._in_a_row += 1
        self._spent += calls

    @property
    def failure(self) -> TargetFailure | None:
        """Why to stop; None: go on."""
        if self.keep_going or self._in_a_row < self.patience * (_MORE if self.worked else 1):
            return None
        (first, since), (last, until) = self._first, self._last
        changed = f", first with: {first}" if first and first != last else ""
        return TargetFailure(
            f"replay stopped: {self.who} failed {self._in_a_row} times in a row, last with: {last}{changed}; from {_clock(since)} "
            f"to {_clock(until)} UTC, {self._spent} calls; {KEPT}: {self.advice} and run the same command again, or insist with "
            "--keep-going"
        )


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


FAILURES_IN_A_ROW = 20  # then nothing works: at a failure rate of one half that is a chance of 1e-6


# How long one answer may take, unless the settings say otherwise.
TARGET_SECONDS = 600.0


POLL_SECONDS = 0.1  # a stop is seen within it


# Waited for before a request of a job leaves again. Raises `CapReached`: no call is left for it.
Again = Callable[[Job], Awaitable[None]]


# Asked just before a job is called; False: leave it out. What it raises ends dispatch, and the job is not called; that a cap
# is reached is no failure.
Begin = Callable[[Job], bool]


class Hands(Protocol):
    """Whoever runs the jobs: takes from the desk, puts back."""

    @property
    def gathers(self) -> bool:
        """Whether calls are so quick that jobs may lie until somebody waits for them: woken for a few, they cost more than these."""

    def start(self, desk: JobQueue) -> None:
        """Get ready; called once."""

    def wake(self) -> None:
        """There may be jobs to take."""

    def abandon(self, place: int) -> str:
        """A job's outcome is awaited no more: leave whoever is at it behind; tells what that was."""

    def kept(self, done: Sequence[Done]) -> None:
        """These outcomes are on record."""

    def flush(self) -> None:
        """Put what is finished, though more may be about to come."""

    def close(self) -> None:
        """Give up what is under way."""


class Under(NamedTuple):
    """A job that was taken, and the trip that counts its calls."""

    job: Job
    trip: Trip


class JobQueue:
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
        trial_run: int | None = None,
    ) -> None:
        # The most jobs that may be out and not on record; None: any number.
        self.trial_run = trial_run
        self._unkept = 0
        self.stopping = threading.Event()
        self._begin, self._undo, self._again, self._judges = begin, undo, again, judges
        self._count = count
        # How long one answer may take.
        self.seconds, self._keep_going = seconds, keep_going
        # Who takes from here, where they can be left behind.
        self.hands: Hands | None = None
        self._taken: dict[int, Under] = {}
        self._looked = 0.0
        self.failure: BisectError | None = None
        self._waiting: deque[Job] = deque()
        self._finished: queue.SimpleQueue[list[Done]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way = 0
        self.longest = 0.0  # seconds that an answer has taken so far, the most
        self._past_hope = False
        self._health = Health("the target", FAILURES_IN_A_ROW, "mend the target", worked=answered, keep_going=keep_going)

    @property
    def waiting(self) -> int:
        """Jobs that may still be taken."""
        return 0 if self.stopping.is_set() or self._is_full() else len(self._waiting)

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
            if self.stopping.is_set() or not self._waiting or self._is_full():
                return None
            self._under_way += 1
            self._unkept += 1
            return self._waiting.popleft()

    def _is_full(self) -> bool:
        return self.trial_run is not None and self._unkept >= self.trial_run

    def kept(self, n: int) -> None:
        """So many jobs are on record."""
        with self._lock:
            self._unkept -= n

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
        now = time.monotonic()
        with self._lock:
            came = [(item, under) for item in done if (under := self._taken.pop(item.job.place, None)) is not None]
            done = [item for item, _ in came]
            self.longest = max([self.longest, *(now - under.trip.began for item, under in came if not item.left)])
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

    def _overdue(self) -> None:
        """Give up what takes longer than an answer may."""
        now = time.monotonic()
        if now < self._looked + POLL_SECONDS:
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
            answer = Answer(error=error, outcome="timeout")
            done.append(Done(job, answer, calls=max(counted.calls, 1), late=jobs is None))
        for item in done if self._judges and jobs is not None else ():  # that the time is up says nothing of the target
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
