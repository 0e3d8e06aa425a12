"""Runs trials against a target, many at a time, and makes every answer durable before it counts.

Jobs are handed in by rounds, several of which may be under way (`submit`, then `wait` in the same order), so that no worker idles
while the last answers of a round come in. Hands (`hands`, `workers`) take jobs from one desk and put back what came of them; the
caller's thread commits what is finished in groups, one fsync a group. A failed trial is a row, not an exception.

Each trial has a deadline that the desk supervises: one that passes it is a row too, and whoever is at it is left behind. When the
time of the run is over, what does not come in within the grace time is such a row, marked as late: it says nothing of the target.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

from bisect_ai.errors import InputError, Interrupted, TargetFailure
from bisect_ai.provider.budget import GRACE_SECONDS, MOST_GRACE_SECONDS
from bisect_ai.replay.job_queue import POLL_SECONDS, TARGET_SECONDS, Begin, Hands, JobQueue
from bisect_ai.replay.trial_jobs import Done, Job

Commit = Callable[[list[Done]], None]


class Round:
    """Jobs handed in together, and what has come back of them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.open = len(jobs)
        self.done: list[Done] = []


class Engine:
    """Hands that run jobs, each of which may be with them for `seconds`.

    `stop` ends dispatch: what is under way may come in within the grace time and is kept.
    """

    def __init__(
        self,
        hands: Hands,
        *,
        concurrency: int,
        commit: Commit,
        begin: Begin | None = None,
        undo: Callable[[Job], None] | None = None,
        count: Callable[[Job], None] | None = None,
        grace: float | None = None,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
        answered: bool = False,
        keep_going: bool = False,
        seconds: float = TARGET_SECONDS,
        ends: float = float("inf"),
        trial_run: int | None = None,
        trusted: Callable[[], bool] = lambda: True,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._meanwhile = meanwhile  # done once, when nothing has come in for a while
        # Until what scores has worked, few jobs are out: as many as may fail, and no fewer than keep everybody busy.
        self._trusted = trusted
        self._desk = JobQueue(
            begin,
            trial_run=None if trial_run is None or trusted() else max(trial_run, concurrency),
            undo=undo,
            count=count,
            answered=answered,
            keep_going=keep_going,
            seconds=seconds,
        )
        self._hands = self._desk.hands = hands
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
            if isinstance(exc[1], TargetFailure | InputError):  # what is under way is paid for, whoever found that it is no use
                self._drain()
            if isinstance(exc[1], Interrupted):  # what has come in is paid for, however great the hurry
                with self._hold():
                    self._hands.flush()
                    self._take_in(self._desk.collect(0))

    def stop(self, patient: bool = False) -> float:
        """Dispatch nothing more. Only sets flags: a signal handler may call it.

        The seconds in which what is under way may come in: the grace time; `patient`: or as long as an answer has taken, within bounds.
        """
        seconds = max(self._grace, min(self._desk.longest, MOST_GRACE_SECONDS)) if patient else self._grace
        self._give_up = min(self._give_up, time.monotonic() + seconds)
        self._desk.stopping.set()
        return seconds

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
        if jobs and not self._hands.gathers:
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
        if self._hands.gathers and self._desk.waiting:
            self._hands.wake()
        with self._hold():
            heard = self._desk.collect(POLL_SECONDS)
            self._take_in(heard)
        if not heard and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()

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
        self._let_more(len(group))
        for item in group:
            handed = self._rounds.pop(item.job.place)
            handed.open -= 1
            if not item.left:
                handed.done.append(item)

    def _let_more(self, kept: int) -> None:
        """So many are on record: as many more may go, or all when what scores has worked."""
        self._desk.kept(kept)
        if self._desk.trial_run is not None:
            self._desk.trial_run = None if self._trusted() else self._desk.trial_run
            self._hands.wake()
