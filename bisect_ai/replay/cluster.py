"""Hands in other processes: one lane to each, on this machine or on a cluster (`lanes`).

Every process has a lane and a pool of its own, because a pool of several loses the results of all when one dies. The coordinator
alone writes. When a process dies, what it had under way is tried again in halves, until a job that ends its process alone is
known: that one is a row with an error, the others are answered.
"""

from __future__ import annotations

import itertools
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from bisect_ai.errors import BisectError, ConfigError
from bisect_ai.provider.budget import GRACE_SECONDS, NOTHING, Account, Amount, Caps
from bisect_ai.provider.redaction import redact
from bisect_ai.replay.job_queue import TARGET_SECONDS
from bisect_ai.replay.trial_jobs import Done, Job, without_keys
from bisect_ai.replay.workers import Order, Returned, Sent, Setup, WorkerLane, WorkerLost, WorkerReply
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    from bisect_ai.replay.job_queue import JobQueue

# Jobs sent to a process for each that it can have under way: it never waits for the post.
AHEAD = 2
# Times as long as an answer may take that a job may be in another process.
_TURNS = 4
_WAIT_SECONDS = 0.2  # between two looks at the cluster: its scheduler is asked each time
_HIDDEN = {signal.SIGINT} | ({signal.SIGHUP} if hasattr(signal, "SIGHUP") else set())


class WorkerGrant(Protocol):
    """What one process elsewhere may spend of a run's account. Safe between threads."""

    @property
    def is_open(self) -> bool:
        """Whether the process has something that it has not spent."""

    def more(self, most: Amount, times: int, *, knew: Amount) -> Amount | None:
        """What the process gets for calls of `most` each, `times` of them if there is room; None: it can never be."""

    def told(self, granted: Amount, spent: Amount) -> None:
        """What the process has by now, less what it gave back, and has spent of it."""

    def kept(self, cost: Amount) -> None:
        """An answer of it is on record, with what it cost."""

    def end(self, *, lost: bool) -> None:
        """The process is gone; `lost`: with calls under way, so that all that it could still spend counts as spent."""


class Values:
    """Numbers for the values of axes, so that a corpus travels once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, int]] = {}
        self._values: dict[int, Any] = {}
        self._next = itertools.count()
        self._lock = threading.Lock()

    def number(self, value: Any) -> int:
        """The same number for the same object."""
        with self._lock:
            held, number = self._known.get(id(value), (None, -1))
            if held is not value or number < 0:
                number = next(self._next)
                self._known[id(value)] = (value, number)
                self._values[number] = value
            return number

    def __getitem__(self, number: int) -> Any:
        return self._values[number]


class ClusterHands:
    """Jobs through lanes. `concurrency` and what is left of the account are shared out evenly between them."""

    gathers = False

    def __init__(
        self,
        lanes: Sequence[WorkerLane],
        make: Callable[[], Any],
        *,
        concurrency: int,
        account: Account,
        grant: Callable[[], WorkerGrant],
        per_trial_usd: float | None = None,
        seconds: float = TARGET_SECONDS,
        keep_going: bool = False,
    ) -> None:
        self._values = Values()
        self._changed = threading.Condition()
        self._closed = False
        self._account, self.grant = account, grant
        share = max(1, concurrency // len(lanes))
        caps = _share_per_lane(account, len(lanes))
        setup = Setup(make, share, caps, per_trial_usd, account.usual, seconds, keep_going)
        self._dispatchers = [_Dispatcher(self, lane, setup) for lane in lanes]
        self._threads = [
            threading.Thread(target=d.run, name=f"bisect-ai-lane-{i}", daemon=True) for i, d in enumerate(self._dispatchers)
        ]

    def start(self, desk: JobQueue) -> None:
        """Start the lanes; a process comes up with its first job."""
        self.desk = desk
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Wake the lanes."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Let all processes go; what they have under way is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for dispatcher, thread in zip(self._dispatchers, self._threads, strict=True):
            thread.join(timeout=2)
            dispatcher.close()

    def rest(self) -> bool:
        """Wait for jobs; False when there will be none."""
        with self._changed:
            while not self._closed and not self.desk.waiting:
                self._changed.wait()
            return not self._closed

    def flush(self) -> None:
        """Nothing is held back here."""

    def abandon(self, place: int) -> str:
        """End the process that has a job and does not give it back, where that can be."""
        for dispatcher in self._dispatchers:
            if dispatcher.ends(place):
                return "the process that ran it was ended"
        return ""

    def kept(self, done: Sequence[Done]) -> None:
        """What these answers cost is no longer under way."""
        for dispatcher in self._dispatchers:
            dispatcher.kept(done)

    def stopped_at_cap(self) -> None:
        """A process has come to a cap."""
        self._account.stopped = self._account.stopped or "stopped at a cap of the budget"

    @property
    def share_of_trial_run(self) -> int:
        """The most jobs that one lane may have while only so many may be out, so that no other lane idles until they are back."""
        most = self.desk.trial_run
        return sys.maxsize if most is None else -(-most // len(self._dispatchers))

    @property
    def usual(self) -> Amount:
        """The most that an answer has cost so far."""
        return self._account.usual

    @property
    def closed(self) -> bool:
        """Whether nothing more is to be done."""
        return self._closed

    def order(self, session: str, jobs: Sequence[Job], known: set[int], setup: Setup | None) -> Order:
        """An order for the jobs of a session, with the values that the process does not know yet."""
        sent = [Sent(j.place, j.query, {a: self._values.number(v) for a, v in j.release.items()}, j.repeat) for j in jobs]
        needed = {number for s in sent for number in s.release.values()} - known
        return Order(session, sent, setup, {n: self._values[n] for n in needed}, _WAIT_SECONDS)


class _Dispatcher:
    """One lane's thread: keeps its process busy, and finds out which job ended it."""

    def __init__(self, hands: ClusterHands, lane: WorkerLane, setup: Setup) -> None:
        self._hands, self._lane, self._setup = hands, lane, setup
        # Another one after a loss: a process that was given up may be there, and go on with what it had.
        self._session = secrets.token_hex(8)
        self._grant = hands.grant()
        # Jobs that came back and are not on record yet, to what paid for them.
        self._paid_by: dict[int, WorkerGrant] = {}
        # What the next order brings.
        self._money: Amount | None = NOTHING
        # The usual cost as the last order told it; and what one call was said to need.
        self._knew = self._usual = NOTHING
        self._out: dict[int, Job] = {}
        self._suspects: list[list[Job]] = []
        self._known: set[int] = set()
        self._fresh = True
        # Only suspects are under way: nobody else may come to harm.
        self._alone = False
        # How often a job was asked again after a death.
        self._again: dict[int, int] = {}
        # Jobs in the process that wait for a call more, and whether they get it.
        self._granted: dict[int, bool] = {}

    def run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, _HIDDEN)  # inherited by the process that this thread starts
        while not self._hands.closed:
            jobs = self._next()
            if not jobs and not self._out:
                if self._grant.is_open:  # others may be waiting for what is left over
                    self._trade([])
                elif not self._hands.rest():
                    return
                continue
            if not self._out:
                self._pay_ahead()
            self._trade(jobs)

    def close(self) -> None:
        self._grant.end(lost=bool(self._out))
        self._lane.close()

    def kept(self, done: Sequence[Done]) -> None:
        for item in done:
            if (grant := self._paid_by.pop(item.job.place, None)) is not None:
                usage = item.answer.usage
                grant.kept(Amount(0, usage.tokens + usage.unsettled_tokens, (usage.usd or 0.0) + usage.unsettled_usd))

    def ends(self, place: int) -> bool:
        """End the lane's process if it has this job."""
        if place not in self._out:
            return False
        self._lane.close()
        return True

    def _next(self) -> list[Job]:
        """Suspects one group at a time and among themselves; else as many as keep the process busy."""
        if self._suspects:
            return [] if self._out else self._suspects.pop()
        if self._alone and self._out:
            return []
        self._alone = False
        room = min(AHEAD * self._setup.concurrency, self._hands.share_of_trial_run) - len(self._out)
        jobs = (self._hands.desk.take() for _ in range(room))
        return list(itertools.takewhile(lambda job: job is not None, jobs))  # type: ignore[arg-type]  # None ends it

    def _trade(self, jobs: list[Job]) -> None:
        self._out.update((job.place, job) for job in jobs)
        order = self._hands.order(self._session, jobs, self._known, self._setup if self._fresh else None)
        try:
            granted, self._granted = self._granted, {}
            money, self._money, self._knew = self._money, NOTHING, self._hands.usual
            order = replace(order, granted=granted, money=money, usual=self._knew, seconds=_WAIT_SECONDS if self._out else 0.0)
            reply = self._lane.call(replace(order, halt=self._hands.desk.stopping.is_set()))
            if reply.lacks:
                again = self._hands.order(self._session, list(self._out.values()), set(), self._setup)
                order = replace(again, money=NOTHING if reply.knows else money, usual=self._knew)
                reply = self._lane.call(order)
        except WorkerLost as lost:
            self._lost(str(lost))
        except Exception as error:  # whatever an order raised in its worker comes back here
            self._refused(error)
        else:
            self._fresh = False
            self._known |= set(order.values)
            wants = [self._out[place] for place in reply.wants if place in self._out]
            self._granted = {job.place: self._hands.desk.count(job) for job in wants}
            for returned in reply.done:
                self._paid_by[returned.place] = self._grant
            self._put(reply.done)
            self._pay(reply)

    def _pay_ahead(self) -> None:
        """After a rest, what the calls cost before: the process need not ask."""
        if self._usual != NOTHING and self._money == NOTHING and not self._hands.desk.stopping.is_set():
            self._get(self._usual)
            self._money = self._money or NOTHING  # that there is no more is told to who asks

    def _get(self, most: Amount) -> None:
        try:
            self._money = self._grant.more(most, self._setup.concurrency, knew=self._knew)
        except BisectError as error:  # it cannot be noted
            self._hands.desk.fail(error)

    def _pay(self, reply: WorkerReply) -> None:
        """Take in what was spent, and get what is needed for the calls to come."""
        self._grant.told(reply.has, reply.spent)
        if self._hands.desk.stopping.is_set():
            self._money = None  # what waits for money begins no more
        elif reply.needs != NOTHING:
            self._usual = reply.needs if self._hands.usual != NOTHING else NOTHING
            self._get(reply.needs)

    def _put(self, back: Sequence[Returned]) -> None:
        desk = self._hands.desk
        done = [self._done(r) for r in back if r.place in self._out]
        if any(item.left for item in done) and not desk.stopping.is_set():
            self._hands.stopped_at_cap()
        if done:
            desk.put(done)

    def _done(self, came: Returned) -> Done:
        """An outcome without the credentials that only this process knows; those of its own environment the worker has taken out."""
        why = None if came.infeasible is None else redact(came.infeasible)
        calls = came.calls + self._again.pop(came.place, 0)
        return Done(self._out.pop(came.place), without_keys(came.answer), why, came.wrong, came.left, calls)

    def _lost(self, why: str) -> None:
        """Its process died: whoever did it is among what was under way."""
        self._session = secrets.token_hex(8)
        self._fresh, self._known, self._alone = True, set(), True
        self._grant.end(lost=True)
        self._grant, self._money = self._hands.grant(), NOTHING
        gone = list(self._out.values())
        self._out.clear()
        if len(gone) == 1:
            self._died(gone[0], why)
        elif gone:
            asked = [job for job in gone if self._may_ask_again(job, why)]
            half = len(asked) // 2
            self._suspects += [some for some in (asked[half:], asked[:half]) if some]

    def _may_ask_again(self, job: Job, why: str) -> bool:
        """Whether a call is left for a job that was under way where a process died: it may have been made there."""
        if not self._hands.desk.count(job):
            self._died(job, f"{why}, and no call is left to ask it again")
            return False
        self._again[job.place] = self._again.get(job.place, 0) + 1
        return True

    def _died(self, job: Job, why: str) -> None:
        calls = 1 + self._again.pop(job.place, 0)
        self._hands.desk.put([Done(job, Answer(error=f"WorkerDied: {why}", outcome="error"), calls=calls)])

    def _refused(self, error: Exception) -> None:
        """The target cannot be made or sent there: no job can be answered."""
        line = (redact(str(error)).splitlines() or [""])[0][:300]
        told = (
            f"cannot run the target in another process: {type(error).__name__}: {line}; give it as module:function that every "
            "worker can import, or leave `jobs` out"
        )
        wrong = ConfigError(str(error)) if isinstance(error, BisectError) else ConfigError(told)
        gone = list(self._out.values())
        self._out.clear()
        self._hands.desk.put([Done(job, Answer(error=str(wrong), outcome="error"), wrong=wrong) for job in gone])


def patience_elsewhere(patience: float) -> float:
    """How long a job may be with a process that gives each answer `patience`, before the process counts as stuck.

    Other processes supervise their own jobs, some of which wait there.
    """
    return _TURNS * patience + GRACE_SECONDS


def _share_per_lane(account: Account, lanes: int) -> Caps:
    """What each lane may spend: what is left in equal parts. Calls are counted where jobs are taken."""
    room = account.room()
    usd = None if room.usd is None else room.usd / lanes
    return Caps(None, usd, None if room.tokens is None else room.tokens // lanes, room.minutes)
