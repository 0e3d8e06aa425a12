"""What runs in a worker process, on this machine or another: sessions that answer orders with outcomes.

One order brings jobs and takes what is finished, so results do not wait for the slowest of a batch. A release's axes are sent once a
process and then named by number. A worker that does not know a session (it is new, or idled too long) asks for all of it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from bisect_ai.errors import InputError, TargetFailure
from bisect_ai.provider.budget import CRUMB, NOTHING, Account, Amount, CapReached, Caps
from bisect_ai.queries.query import Query
from bisect_ai.replay.executors import local_hands, patience_of
from bisect_ai.replay.interrupts import SELDOM
from bisect_ai.replay.job_queue import TARGET_SECONDS, JobQueue
from bisect_ai.replay.trial_jobs import Job
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.target import Target, metered

# How long a first outcome waits for company: a journey is dearer than that.
LINGER_SECONDS = 0.01
# How often a process looks whether its coordinator is there.
WATCH_SECONDS = 0.1
_MOST_SESSIONS = 4  # runs that one worker process keeps open: each holds clients and corpora


@dataclass(frozen=True)
class Setup:
    """How to make the target, how many of its answers may be under way in one process, what they may cost."""

    make: Callable[[], Target]
    concurrency: int
    caps: Caps
    per_trial_usd: float | None
    usual: Amount
    # How long one answer may take.
    seconds: float = TARGET_SECONDS
    keep_going: bool = False


class Sent(NamedTuple):
    """A job on its way: the release is axis to the number of its value."""

    place: int
    query: Query
    release: dict[str, int]
    repeat: int


class Returned(NamedTuple):
    """An outcome on its way back."""

    place: int
    answer: Answer
    infeasible: str | None
    wrong: InputError | TargetFailure | None
    left: bool
    calls: int


@dataclass(frozen=True)
class Order:
    """What the coordinator wants: `setup` and `values` only where the worker lacks them. `halt`: start nothing more."""

    session: str
    jobs: list[Sent] = field(default_factory=list)
    setup: Setup | None = None
    values: dict[int, Any] = field(default_factory=dict)
    seconds: float = 0.0
    halt: bool = False
    close: bool = False
    # Whether a job whose request is to leave again gets the call for it.
    granted: dict[int, bool] = field(default_factory=dict)
    # What the process may spend in addition; None: there will be no more.
    money: Amount | None = NOTHING
    # The most that an answer has cost anywhere so far.
    usual: Amount = NOTHING


@dataclass(frozen=True)
class WorkerReply:
    """What is finished, and what the worker's account has spent so far; `lacks`: send setup, values and jobs again."""

    done: list[Returned] = field(default_factory=list)
    spent: Amount = field(default_factory=Amount)
    lacks: bool = False
    # Though it lacks something, it knows the session.
    knows: bool = False
    # Jobs that wait for a call more: a request of theirs is to leave again.
    wants: list[int] = field(default_factory=list)
    # What the worker has been given, less what it gave back.
    has: Amount = NOTHING
    # What one call may cost, when there is too little for the calls to come.
    needs: Amount = NOTHING


class WorkerLost(Exception):  # an event, met where orders are sent
    """The process at the other end is gone."""


class WorkerLane(Protocol):
    """The way to one worker process."""

    def call(self, order: Order) -> WorkerReply:
        """Its reply. Raises `WorkerLost`; the next call then goes to a fresh process, if there is one."""

    def close(self) -> None:
        """Let the process go."""


class Allowance(Account):
    """What a process elsewhere has of an account. Where tokens or money are not enough, it asks for more and waits (`wants`).

    `share`: what it plans with while it has none. `usual` is kept by whoever brings more.
    """

    def __init__(self, share: Caps) -> None:
        super().__init__(share)
        self._share, self._short, self._latest = share, NOTHING, NOTHING
        # There will be no more.
        self.refused = False
        self._set(NOTHING)

    @property
    def granted(self) -> Amount:
        """What it has had so far, and has not given back."""
        return Amount(0, self.caps.tokens or 0, self.caps.usd or 0.0)

    def room(self) -> Caps:
        """As of any account; at first its share of what is left elsewhere."""
        return super().room() if self._spent.calls or self._spent.tokens or self._spent.usd else self._share

    def grant(self, more: Amount) -> None:
        """It may spend so much more."""
        with self._lock:
            self._set(self.granted + more)

    def trim(self, times: int) -> None:
        """Give back all but what so many calls like the latest may cost."""
        with self._lock:
            least = (self._spent + self._held + self._latest * times).within(self.caps)
            self._set(least)

    def wants(self, times: int) -> Amount:
        """What one call may cost, when there is not enough for so many; else nothing."""
        with self._lock:
            short, self._short = self._short, NOTHING
            free = self.granted - self._spent - self._held
            missing = self._latest * times - free
            low = (self.caps.tokens is not None and missing.tokens > 0) or (self.caps.usd is not None and missing.usd > CRUMB)
            return self._latest.larger(short) if low or short != NOTHING else NOTHING

    def _set(self, granted: Amount) -> None:
        tokens, usd = (None if getattr(self._share, n) is None else getattr(granted, n) for n in ("tokens", "usd"))
        self.caps = replace(self._share, tokens=tokens, usd=usd)
        self._capped = [(n, cap) for n in ("calls", "tokens", "usd") if (cap := getattr(self.caps, n)) is not None]

    def _has_room(self, most: Amount) -> bool:
        fits = super()._has_room(most)
        self._latest = most if most.tokens or most.usd else self._latest
        self._short = NOTHING if fits else most
        return fits

    def _stop(self, cap: str, what: str) -> None:
        if self.refused or cap not in ("tokens", "usd"):
            super()._stop(cap, what)


_sessions: dict[str, _Session] = {}
_guard = threading.Lock()


def exchange(order: Order) -> WorkerReply:
    """Take the order's jobs, wait up to its `seconds` for outcomes, return those that are there."""
    with _guard:
        session = _sessions.get(order.session)
        if session is None and order.setup is not None:
            session = _sessions[order.session] = _Session(order.setup)
            while len(_sessions) > _MOST_SESSIONS:
                _sessions.pop(next(iter(_sessions))).close()
    if session is None:
        return WorkerReply(lacks=True)
    if order.close:
        with _guard:
            _sessions.pop(order.session, None)
        session.close()
        return WorkerReply(spent=session.account.spent)
    return session.serve(order)


def end_with(coordinator: int) -> None:
    """End this process soon after its parent, the `coordinator`, is gone: nobody would keep what its next calls are paid for."""

    def watch() -> None:
        while os.getppid() == coordinator:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="bisect-ai-coordinator", daemon=True).start()


class _Session:
    """A target with its hands in this process."""

    def __init__(self, setup: Setup) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to hear
        os.environ["BISECT_REPLAY"] = "1"
        gc.set_threshold(*SELDOM)
        self.account, self._ahead = Allowance(setup.caps), setup.concurrency
        target = metered(setup.make(), self.account, per_trial=setup.per_trial_usd, usual=setup.usual)
        self._values: dict[int, Any] = {}
        self._wants: set[int] = set()
        self._granted: dict[int, bool] = {}
        seconds = patience_of(target, setup.seconds)
        self._desk = JobQueue(again=self._again, judges=False, keep_going=setup.keep_going, seconds=seconds)
        self._hands = self._desk.hands = local_hands(target, setup.concurrency)
        self._hands.start(self._desk)

    def serve(self, order: Order) -> WorkerReply:
        self._take_money(order)
        self._values.update(order.values)
        self._granted.update(order.granted)
        self._wants -= set(order.granted)
        if any(key not in self._values for job in order.jobs for key in job.release.values()):
            return WorkerReply(spent=self.account.spent, lacks=True, knows=True, has=self.account.granted)
        self._desk.add([self._job(sent) for sent in order.jobs])
        if order.jobs:
            self._hands.wake()
        left = self._desk.halt() if order.halt else []
        done = self._desk.collect(order.seconds)
        if done and not left:
            time.sleep(LINGER_SECONDS)
            done += self._desk.collect(0.0)
        back = [Returned(d.job.place, d.answer, d.infeasible, d.wrong, d.left, d.calls) for d in done]
        back += [Returned(job.place, Answer(), None, None, True, 0) for job in left]
        ahead = self._ahead if self._desk.under_way or self._desk.waiting else 0
        needs = self.account.wants(ahead)
        self.account.trim(ahead)
        return WorkerReply(back, self.account.spent, wants=sorted(self._wants), has=self.account.granted, needs=needs)

    def _take_money(self, order: Order) -> None:
        self.account.usual = self.account.usual.larger(order.usual)
        if order.money is None:
            self.account.refused = True
        else:
            self.account.grant(order.money)

    async def _again(self, job: Job) -> None:
        """Wait until the coordinator, who keeps the run's account of calls, has one more for the job. Raises `CapReached`."""
        self._wants.add(job.place)
        while job.place not in self._granted:
            await asyncio.sleep(LINGER_SECONDS)
        if not self._granted.pop(job.place):
            raise CapReached("no call is left for another attempt", cap="calls", account=self.account)

    def close(self) -> None:
        self._desk.halt()
        self._hands.close()

    def _job(self, sent: Sent) -> Job:
        release: Mapping[str, Any] = MappingProxyType({axis: self._values[key] for axis, key in sent.release.items()})
        return Job(sent.place, sent.query, release, sent.repeat)
