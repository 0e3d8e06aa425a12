"""What may still be spent: the most that a call can cost is set aside before it is sent, and settled by what it did cost.

    reserve(most) -> Held | None (wait: others' reservations may come back) | CapReached        settle(held, used)

So no cap is crossed at any concurrency: what is spent and what is set aside never exceed it together. A request whose answer
never came whole may have been billed; it is settled by all that was set aside. What a killed run had spent or under way is told
to the next one's account by the journal.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from bisect_ai.errors import BisectError

# The trial that this task or thread is at, which counts its calls; None: nobody does.
trip: ContextVar[Trip | None] = ContextVar("bisect_ai_trip", default=None)
# Told of tokens and money set aside in this task or thread, before the request leaves: the journal notes them.
when_reserved: ContextVar[Callable[[Amount], None] | None] = ContextVar("bisect_ai_when_reserved", default=None)
# How long what is under way may take to come in after a stop, or after the time cap.
GRACE_SECONDS = 20.0
# As long, the most, after a stop by somebody who can stop again, where answers have taken longer: they are paid for.
MOST_GRACE_SECONDS = 180.0
# USD below which sums of floats are the same.
CRUMB = 1e-9
POLL_SECONDS = 0.01  # short beside any call, and no load: only callers without room wait


@dataclass(frozen=True, slots=True)
class Amount:
    """Calls, tokens (in and out) and USD: spent, set aside or left."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)

    def __mul__(self, times: int) -> Amount:
        return Amount(self.calls * times, self.tokens * times, self.usd * times)

    def larger(self, other: Amount) -> Amount:
        """Of each the larger."""
        return Amount(max(self.calls, other.calls), max(self.tokens, other.tokens), max(self.usd, other.usd))

    def within(self, caps: Caps) -> Amount:
        """Of tokens and money no more than the caps leave; nothing of what they do not cap."""
        tokens = 0 if caps.tokens is None else min(self.tokens, caps.tokens)
        return Amount(0, tokens, 0.0 if caps.usd is None else min(self.usd, caps.usd))


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent; None: no cap.

    `calls` of a run are answers of the target (a judge's are capped by money and tokens), those of one trial are requests to the
    model. `minutes` runs from when the account is opened: no request leaves after it, what is under way may end.
    """

    calls: int | None = None
    usd: float | None = None
    tokens: int | None = None
    minutes: float | None = None

    @property
    def need_bounds(self) -> bool:
        """Whether the most that a call can cost has to be known beforehand."""
        return self.usd is not None or self.tokens is not None


NOTHING, ONE_CALL, NO_CAPS = Amount(), Amount(calls=1), Caps()


class Trip:
    """The calls that one trial makes: one when it begins, and one more for each request that is sent again.

    A target that says what it sends (`sent`) and has sent nothing has made none.
    """

    def __init__(self, more: Callable[[], Awaitable[None]] | None = None, *, keep_going: bool = False) -> None:
        self._more, self.keep_going = more, keep_going
        # When the target was asked; what waited for money before that does not count (`starts`).
        self.began = time.monotonic()
        self._again = 0
        self._sent: int | None = None

    @property
    def calls(self) -> int:
        """What it counts for in the cap on calls."""
        return 0 if self._sent == 0 else 1 + self._again

    async def again(self) -> None:
        """Returns when one more request may leave. Raises `CapReached` when no call is left for it."""
        if self._more is not None:
            await self._more()
        self._again += 1

    def starts(self) -> None:
        """Only now the target is asked."""
        self.began = time.monotonic()

    def sent(self, requests: int) -> None:
        """So many requests have left, none included."""
        self._sent = (self._sent or 0) + requests


def nothing_sent() -> None:
    """Said by a target before it asks anybody: a trial that ends before its first request (`Trip.sent`) has made no call."""
    if (counted := trip.get()) is not None:
        counted.sent(0)


class CapReached(BisectError):
    """A call was not made, because it could have crossed a cap; everything that was answered is kept.

    `cap` names it (calls, usd, tokens, minutes); `account` is the one whose cap it is.
    """

    exit_code = 3

    def __init__(self, message: str, *, cap: str, account: Account) -> None:
        super().__init__(message)
        self.cap, self.account = cap, account


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A reservation under way; settled once."""

    most: Amount
    above: Held | None = None


class Shared(Protocol):
    """An account that several processes pay from."""

    def turn(self) -> AbstractContextManager[bool]:
        """Inside, none of the others looks at it or sets anything aside; True: `others` may say something new."""

    def others(self) -> tuple[Amount, Amount, Amount]:
        """What the others have spent, what they have set aside, and the most that one answer of theirs has cost."""


class Account:
    """What one run, or one trial of it (`above` is the run's), may spend and has spent. Safe between threads.

    `shared`: other processes and earlier sittings pay from it too. What is set aside is noted inside their turn, so that two of them
    cannot both take the last of it.
    """

    def __init__(
        self,
        caps: Caps = NO_CAPS,
        *,
        spent: Amount = NOTHING,
        above: Account | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: Shared | None = None,
    ) -> None:
        self.caps = caps
        # Which cap ended the spending, as a sentence; None: none has.
        self.stopped: str | None = None
        self._above = above
        self._capped = [(n, cap) for n in ("calls", "tokens", "usd") if (cap := getattr(caps, n)) is not None]
        self._spent, self._held = spent, Amount()
        self._shared, self._theirs, self._they_hold = shared, NOTHING, NOTHING
        # The most that an answer has cost in other processes and earlier sittings; nothing: not known.
        self.usual = NOTHING
        self._clock, self._opened = clock, clock()
        self._lock = threading.Lock()
        with self.turn():
            pass

    @property
    def spent(self) -> Amount:
        """What calls have cost, those that may have been billed included, those of others too."""
        return self._spent + self._theirs

    def turn(self) -> AbstractContextManager[object]:
        """Inside, what is set aside and noted is seen by other processes before they set anything aside."""
        if self._above is not None:
            return self._above.turn()
        if self._shared is None:
            return nullcontext()
        taken = self._shared.turn()
        is_alone = isinstance(taken, nullcontext) and self._theirs is not NOTHING
        return taken if is_alone else self._shared_turn(self._shared, taken)

    @contextmanager
    def _shared_turn(self, shared: Shared, taken: AbstractContextManager[bool]) -> Iterator[None]:
        with taken as entered:
            if entered or self._theirs is NOTHING:
                self._theirs, self._they_hold, usual = shared.others()
                self.usual = self.usual.larger(usual)
            yield

    @property
    def need_bounds(self) -> bool:
        """Whether a cap here or above needs to know the most that a call can cost."""
        return self.caps.need_bounds or (self._above is not None and self._above.need_bounds)

    @property
    def caps_money(self) -> bool:
        """Whether there is a cap in USD here or above."""
        return self.caps.usd is not None or (self._above is not None and self._above.caps_money)

    def trial(self, caps: Caps) -> Account:
        """An account for one trial: its own caps, and those of this one."""
        return Account(caps, above=self, clock=self._clock)

    def room(self) -> Caps:
        """What is left for new calls: caps for an account in another process, when they are reserved here."""
        with self._lock:
            gone = self._spent + self._held + self._theirs + self._they_hold
            c, minutes = self.caps, self._elapsed() / 60
        return Caps(
            None if c.calls is None else max(c.calls - gone.calls, 0),
            None if c.usd is None else max(c.usd - gone.usd, 0.0),
            None if c.tokens is None else max(c.tokens - gone.tokens, 0),
            None if c.minutes is None else max(c.minutes - minutes, 0.0),
        )

    def reserve(self, most: Amount) -> Held | None:
        """`most` set aside, or None while only others' reservations stand in the way. Raises `CapReached`: it can never fit."""
        with self.turn():
            return self._reserve(most)

    def reserve_noted(self, most: Amount) -> Held | None:
        """`reserve`, and the reservation on record (`when_reserved`) before another process can look."""
        with self.turn():
            held = self._reserve(most)
            return None if held is None else self._noted(held)

    def _reserve(self, most: Amount) -> Held | None:
        above = None if self._above is None else self._above._reserve(_upwards(most))
        if self._above is not None and above is None:
            return None
        held = None
        try:
            held = self._set_aside(most, above)
        finally:
            if held is None and self._above is not None and above is not None:
                self._above.settle(above, Amount())
        return held

    def settle(self, held: Held, used: Amount) -> None:
        """The reservation's end: `used` counts as spent, the rest may be spent by others."""
        with self._lock:
            self._held -= held.most
            self._spent += used
        if self._above is not None and held.above is not None:
            self._above.settle(held.above, _upwards(used))

    def turned(self, held: Held, most: Amount, used: Amount) -> Held:
        """A reservation that changes: `used` of it is spent by now, and `most` is what it still sets aside."""
        with self._lock:
            self._held += most - held.most
            self._spent += used
        return Held(most)

    def spend(self, used: Amount) -> None:
        """`used` reserved and spent in one step. Raises `CapReached`."""
        with self.turn():
            if self._spent_at_once(used):
                return
        self.settle(self.wait_for(used), used)

    def spend_in_turn(self, used: Amount) -> None:
        """`spend`, for who is inside a `turn` already."""
        if not self._spent_at_once(used):
            self.settle(self.wait_for(used), used)

    def give_back(self, unused: Amount) -> None:
        """Of what was spent, that which was not used after all."""
        with self._lock:
            self._spent -= unused

    def wait_for(self, most: Amount) -> Held:
        """`reserve_noted`, waiting in this thread until there is room."""
        while (held := self.reserve_noted(most)) is None:
            time.sleep(POLL_SECONDS)
        return held

    async def acquire(self, most: Amount) -> Held:
        """`reserve_noted`, waiting on the event loop until there is room."""
        while (held := self.reserve_noted(most)) is None:
            await asyncio.sleep(POLL_SECONDS)
        return held

    def _noted(self, held: Held) -> Held:
        told = when_reserved.get()
        if told is not None and (held.most.tokens or held.most.usd):
            try:
                told(held.most)
            except BaseException:  # what was set aside must be free again, even when an interrupt ends the note
                self.settle(held, NOTHING)
                raise
        return held

    def is_closed(self) -> bool:
        """Whether a cap has ended the spending, the time included."""
        return self.is_out_of_time() or self.stopped is not None

    def is_out_of_time(self) -> bool:
        """Whether the cap on time has ended it."""
        try:
            self.check_time()
        except CapReached:
            return True
        return False

    @property
    def ends(self) -> float:
        """When its time is up, or that of the one above, by its clock."""
        own = math.inf if self.caps.minutes is None else self._opened + self.caps.minutes * 60
        return own if self._above is None else min(own, self._above.ends)

    def check_time(self) -> None:
        """Raises `CapReached` when the time is up."""
        minutes = self.caps.minutes
        if minutes is not None and self._elapsed() >= minutes * 60:
            self._stop("minutes", f"the time cap of {minutes:g} minutes")

    def _elapsed(self) -> float:
        return self._clock() - self._opened

    def _spent_at_once(self, used: Amount) -> bool:
        """Whether calls were counted as spent without being set aside: there is room, and nobody else to tell."""
        if self._above is not None or used.tokens or used.usd:
            return False
        self.check_time()
        with self._lock:
            if not self._has_room(used):
                return False
            self._spent += used
            return True

    def _set_aside(self, most: Amount, above: Held | None) -> Held | None:
        self.check_time()
        with self._lock:
            if not self._has_room(most):
                return None
            self._held += most
            return Held(most, above)

    def _has_room(self, most: Amount) -> bool:
        """Whether `most` fits beside what is spent and set aside. Raises `CapReached`: it can never fit."""
        for name, cap in self._capped:
            asked, spent = getattr(most, name), getattr(self._spent, name) + getattr(self._theirs, name)
            held = getattr(self._held, name) + getattr(self._they_hold, name)
            if spent + asked > cap + CRUMB:
                self._stop(name, _cap_reached_line(name, cap, spent, asked))
            if asked and spent + held + asked > cap + CRUMB:
                return False
        return True

    def _stop(self, cap: str, what: str) -> None:
        self.stopped = self.stopped or f"stopped at {what}"
        raise CapReached(self.stopped, cap=cap, account=self)


def _upwards(amount: Amount) -> Amount:
    """What a trial's account passes on: its calls are requests, the run's are answers and were counted when it began."""
    return Amount(0, amount.tokens, amount.usd)


def _cap_reached_line(name: str, cap: float, spent: float, asked: float) -> str:
    if name == "usd":
        return f"the money cap: {spent:.4g} of {cap:g} USD spent, and the next call may cost up to {asked:.3g}"
    word = {"calls": "call", "tokens": "token"}[name]
    return f"the {word} cap: {spent:,} of {cap:,} {name} spent, and the next call may take up to {asked:,}"
