"""When the next request may leave: one rate limiter per (provider, model), one circuit breaker per provider for outages.

Both live on one event loop at a time and hold no locks: between two awaits nothing else runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from bisect_ai.errors import BisectError
from bisect_ai.provider.limit_headers import Quotas

# Sources: tests/faults/test_limiter.py, 8 kinds of limit x 3 forms of Retry-After x 100, 200, 400 calls by 32 workers in virtual time,
# 4 seeds; "lost" cells use the limit by more than five points less than the floor in its table, which the values here never do;
# "less" and "more" are means over all cells.
FIRST_AT_ONCE = 4  # requests that a new limiter lets go together; 1: four cells lost
RAMP_SECONDS = 0.1  # in which the number under way then grows e-fold (32 in 0.21 s); 0.02: 15 cells with too many refusals
DECREASE = 0.9  # of the limit is where the rate goes on after a refusal; 0.95: four cells lost; 0.85: 0.5 points less
MARGIN = 0.96  # of the refused rate is the limit, as a network bunches what was sent evenly; 1: 0.8 points more refusals
RECOVERY_SECONDS = 25.0  # until the rate is back at the limit (K of CUBIC); 12: one cell lost; 40: 0.2 points less
SEEK_SECONDS = 7.0  # in which the first rate doubles; 5: a cell with too many refusals; 10: 0.7 points less
GUESS_SECONDS = 2.0  # the same where that rate is a guess; 7: five cells lost; 1: two
GUESS_ACCEPTED = 2  # accepted at most before the first refusal make the first rate a guess; 1: three cells lost
ROUNDED_UP = 0.5  # seconds by which a wait in whole seconds is too long on average; 0: bucket of 1, 100 calls, 2.3 points less
MIN_SPAN = 1.0  # seconds that the first burst is taken to be spread over; 0.1: 13 cells with too many refusals
BACKOFF = 1.5  # growth of the wait when nobody tells one and nothing is accepted; 1: four cells lost; 2: three
MAX_BACKOFF = 16.0  # seconds: a bound, the table does not reach it
MIN_RATE = 0.05  # requests a second: a bound, the table does not reach it
MAX_RATE = 1000.0  # requests a second above which pacing ends: no client sends more
_YEAR = 365.25 * 86400
MIN_SUCCESSES = 3  # answers to others that show a provider to be well
STARTING_CONCURRENCY = 32  # answers under way at once where the user sets none, until headers tell of room for more
MOST_GROWTH = 4.0  # times as many at most: 128; what is asked ahead grows to that by `pace_of`
GROWTH_STEP = 1 / STARTING_CONCURRENCY  # by each response with room, so that it doubles in the time of an answer


class Ticket(NamedTuple):
    """A request that left: the epoch it belongs to, which one it was of all, and when (monotonic seconds)."""

    epoch: int
    number: int
    at: float


class LimitHit(NamedTuple):
    """Of a request sent at `sent_at`: the wait in seconds, `rough` when it was not told, or in whole seconds."""

    sent_at: float
    wait: float
    rough: bool


class HeldBack(BisectError):
    """Nothing was sent: the provider asked to wait longer than the answer may take, or has been failing for long."""

    exit_code = 4


class HeldByLimit(HeldBack):
    """It was a limit that asked for the wait, not an outage."""


@dataclass
class Headroom:
    """How many times its starting concurrency a target may have under way, as the limits leave room that responses tell of.

    It rises with each response whose limits are half unused at least, with what is under way counted as used. A provider that tells no
    limits leaves it at 1. A refusal sets it back to 1, and it stays below where it was then. Not before a limiter paces no more does it
    rise again.
    """

    growth: float = 1.0
    _most: float = MOST_GROWTH

    def rise(self) -> None:
        """A response told of room."""
        self.growth = min(self.growth + GROWTH_STEP, self._most)

    def fall(self) -> None:
        """A round of refusals began."""
        self._most = max(DECREASE * self.growth, 1.0)
        self.growth = 1.0


class Cubic(NamedTuple):
    """A rate over time: level (1 + ((t - delay) / scale)^3), t in seconds since the limiter opened (CUBIC, RFC 9438, eq. 1)."""

    level: float
    delay: float
    scale: float

    def at(self, seconds: float) -> float:
        """Requests a second."""
        return self.level * (1 + ((max(seconds, 0.0) - self.delay) / self.scale) ** 3)


_SLOWEST = Cubic(MIN_RATE, 0.0, SEEK_SECONDS)


@dataclass
class RateLimiter:
    """Holds all callers of one model back after a 429, then lets them go one by one, at the rate that the provider takes.

    A new limiter lets a few requests go at once and then ever more, so that a limit is met by few. Until the first 429 nothing is
    paced but by the limits that responses tell of (`limit_headers`). The first 429 gives a first rate: what was accepted over the
    time it took, Retry-After included, or one per Retry-After. Each later one is a multiplicative decrease; in between the rate
    grows by a cube of time, flat where the limit was met (CUBIC, RFC 9438). All refusals of one epoch are one event.

    It uses 96.2 % of the limit over all cells of the table (8 seeds) with 1.12 requests an answer. Additive increase over the same
    time uses 95.5 %, and 83 % instead of 94 % of a limit that doubled a minute ago.

    What this cannot do: nothing but a refusal tells where an untold limit lies, and with a wait in whole seconds each refusal is up
    to a second of silence, which a limit without burst does not make up for. At 5 a second, sent so far apart that a network's
    20 ms bring no refusal, two such waits leave 87 % of it over 200 calls and 90 % over 1,000, before any search.
    """

    # No request leaves before this moment.
    opens: float = field(default_factory=monotonic)
    # Requests a second; None: no pacing.
    rate: float | None = None
    jitter: Callable[[], float] = random.random
    _next: float = 0.0
    _quotas: Quotas = field(default_factory=Quotas)
    # Rounds of refusals so far.
    _epoch: int = 0
    _issued: int = 0
    _left: int = 0
    # When the last request left, of the `_left` so far.
    _last: float = 0.0
    # When this round of requests began.
    _since: float = 0.0
    _curve: Cubic = _SLOWEST
    _sent: int = 0
    # Of the `_sent` in this round: refused, or held back on their way out.
    _not_accepted: int = 0
    # The first of this round; while it is set the limiter is closed.
    _refusal: LimitHit | None = None
    # Of the last round with acceptances: its begin, and how many.
    _last_accepted: tuple[float, int] = (0.0, 0)
    # Rounds since then.
    _in_vain: int = 0
    _gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def turn(self, until: float) -> Ticket:
        """Waits for this caller's turn. Raises `HeldBack` when that comes after `until`."""
        now = monotonic()
        if self.rate is not None or self._refusal is not None or now < self.opens or self._quotas.wait(now) > 0:
            try:
                async with asyncio.timeout(max(until - now, 0.0)):
                    await self._in_turn(until)
            except TimeoutError:
                raise HeldByLimit("the provider's rate limit leaves no room before the deadline; nothing was sent") from None
        ticket = Ticket(self._epoch, self._issued + 1, monotonic())
        self._since = self._since if self._issued else ticket.at
        self._issued, self._sent = ticket.number, self._sent + 1
        self._quotas.take(ticket.at)
        return ticket

    async def leave(self, ticket: Ticket, until: float) -> Ticket:
        """Called when a request is about to leave, for what became of its turn meanwhile: the ticket that it leaves with.

        Between its turn and the wire a request is prepared, connections are made. When the limiter closed in that time, it
        takes another turn; and those that a new limiter sends before any refusal leave one after the other.
        """
        while True:
            if ticket.epoch != self._epoch:
                self._count_refused(ticket)
                ticket = await self.turn(until)
            elif self._left < FIRST_AT_ONCE or self.rate is not None or self._may_leave() or await self._ramped(ticket):
                self._last = monotonic()
                self._since = self._since if self._left else self._last
                self._left += 1
                return ticket._replace(at=self._last)

    def _may_leave(self) -> bool:
        """Whether nobody waits to leave, and the wait between two is over: so it is for most, and a lock costs more than this."""
        return not self._door().locked() and self._last + RAMP_SECONDS / self._left <= monotonic()

    async def _ramped(self, ticket: Ticket) -> bool:
        """Whether the ticket holds, after the short wait between those who leave a new limiter."""
        async with self._door():
            while ticket.epoch == self._epoch and (wait := self._last + RAMP_SECONDS / self._left - monotonic()) > 0:
                await asyncio.sleep(wait)
            return ticket.epoch == self._epoch

    def heard(self, headers: Mapping[str, str], ticket: Ticket) -> None:
        """What a response says of the limits."""
        self._quotas.hear(headers, number=ticket.number, sent_at=ticket.at, sent=self._issued, now=monotonic())

    def has_room(self) -> bool | None:
        """Whether the limits leave room for more requests at once; None: nothing tells."""
        return False if self.rate is not None or self._refusal is not None else self._quotas.has_room(monotonic())

    async def _in_turn(self, until: float) -> None:
        async with self._door():
            while (wait := self._wait(monotonic())) > 0:
                if monotonic() + wait > until:
                    asked = f"{wait:.0f} s more" if wait < _YEAR else f"{min(wait / _YEAR, 999):.0f} years and more"
                    raise HeldByLimit(f"the provider's rate limit asks to wait {asked}; nothing was sent")
                await asyncio.sleep(wait)
            if self.rate is not None:
                self._next = max(self._next, monotonic()) + 1 / self.rate

    def _door(self) -> asyncio.Lock:
        """One caller at a time, in the order they came."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Lock()
        return self._gate[1]

    def _wait(self, now: float) -> float:
        """Seconds until the next request may leave."""
        if now < self.opens:
            return self.opens - now
        if self._refusal is not None:
            self._reopen(self._refusal, now)
        if self.rate is not None:
            grown = self._curve.at(now - self._since)
            self.rate = grown if grown <= MAX_RATE else None
        return max(self._next - now if self.rate is not None else 0.0, self._quotas.wait(now))

    def limited(self, wait: float | None, ticket: Ticket) -> bool:
        """A request met a limit: nobody sends for `wait` seconds (None: not told). Whether it is the first refusal of its round.

        A later one, or one of an earlier epoch, only prolongs the wait.
        """
        now, rough = monotonic(), wait is None or wait % 1 == 0
        if wait is None:
            wait = min(BACKOFF**self._in_vain, MAX_BACKOFF) * self.jitter()
        is_first = ticket.epoch == self._epoch
        if is_first:
            self._epoch += 1
            self._refusal = LimitHit(ticket.at, wait, rough)
        self._count_refused(ticket)
        self.opens = max(self.opens, now + wait)
        return is_first

    def _count_refused(self, ticket: Ticket) -> None:
        self._not_accepted += self._refusal is not None and ticket.epoch == self._epoch - 1

    def _reopen(self, refusal: LimitHit, now: float) -> None:
        """A new round begins, at the rate that the last one leads to."""
        self._curve = self._decreased(refusal, max(self._sent - self._not_accepted, 0))
        self.rate = self._curve.at(0.0)
        self._since = self._next = now
        self._refusal, self._sent, self._not_accepted = None, 0, 0

    def _decreased(self, refusal: LimitHit, accepted: int) -> Cubic:
        if not accepted and self.rate is not None:
            self._in_vain += 1
            since, accepted = self._last_accepted
            # Nothing accepted yet says nothing of the rate: it goes on at one per Retry-After.
            through = accepted / max(refusal.sent_at - since, RAMP_SECONDS) if accepted else self.rate
            return Cubic(max(min(through, self.rate), MIN_RATE), 0.0, SEEK_SECONDS)
        self._in_vain, self._last_accepted = 0, (self._since, accepted)
        if self.rate is None:
            return _first_rate(refusal, max(accepted, 1), refusal.sent_at - self._since)
        limit = max(MARGIN * self._curve.at(refusal.sent_at - self._since), MIN_RATE)
        return Cubic(limit, RECOVERY_SECONDS, RECOVERY_SECONDS / (1 - DECREASE) ** (1 / 3))


def _first_rate(refusal: LimitHit, accepted: int, seconds: float) -> Cubic:
    """What takes one at a time is ready again after 1 / its rate; a window is, with all of it."""
    through = accepted / max(seconds + refusal.wait, MIN_SPAN)
    guessed = refusal.rough and accepted <= GUESS_ACCEPTED
    ready = refusal.wait - ROUNDED_UP * (refusal.rough and refusal.wait >= 1)
    rate = min(max(through, 1 / max(ready, 1 / MAX_RATE)), MAX_RATE)
    return Cubic(rate, 0.0, GUESS_SECONDS if guessed else SEEK_SECONDS)


@dataclass
class Breaker:
    """Stops sending to a provider that only fails: after `failures` in a row one probe at a time, ever later, until one succeeds."""

    failures: int = 12
    # As many, from a provider that has never answered.
    failures_before_any: int = 8
    # Seconds of an outage after which callers are told at once instead of waiting.
    patience: float = 90.0
    first_wait: float = 1.0
    longest_wait: float = 30.0
    jitter: Callable[[], float] = random.random
    _in_a_row: int = 0
    _since: float = 0.0
    _probe_at: float = 0.0
    _wait: float = 0.0
    _probing: bool = False
    _worked: int = 0
    _failed: int = 0
    _told: str = ""

    def mark(self) -> tuple[int, int]:
        """Successes and failures so far, for `well_since`."""
        return self._worked, self._failed

    def well_since(self, mark: tuple[int, int], *, own_failures: int) -> bool:
        """Whether the provider answered others meanwhile, and failed few: a caller's `own_failures` then are its own fault."""
        worked, failed = self._worked - mark[0], self._failed - mark[1] - own_failures
        return worked >= MIN_SUCCESSES and failed <= worked / 4

    @property
    def is_open(self) -> bool:
        """Whether requests are held back."""
        return self._in_a_row >= self.failures

    @asynccontextmanager
    async def passage(self, until: float, *, patient: bool = True) -> AsyncIterator[None]:
        """Lets the caller through when the breaker is closed, or as the one probe. Raises `HeldBack`.

        Not `patient`: at once, when the provider has never answered. It is not out of order then, it is not there.
        """
        probe = await self._pass(until, never=not (patient or self._worked))
        try:
            yield
        finally:
            if probe:
                self._probing = False

    async def _pass(self, until: float, *, never: bool) -> bool:
        if never and self._in_a_row >= self.failures_before_any:
            raise self._held_back()
        while self.is_open:
            now = monotonic()
            if not self._probing and now >= self._probe_at:
                self._probing = True
                return True
            if now - self._since > self.patience or self._probe_at > until:
                raise self._held_back()
            await asyncio.sleep(min(max(self._probe_at - now, 0.02), 0.25))  # short enough to notice a stop
        return False

    def _held_back(self) -> HeldBack:
        return HeldBack(f"the provider failed {self._in_a_row} times in a row{self._told}; nothing was sent")

    def failed(self, told: str = "") -> None:
        """A request failed by the provider's fault, as `told` says."""
        self._told = f", last with: {told}" if told else ""
        self._in_a_row += 1
        self._failed += 1
        if not self.is_open:
            return
        opening = self._in_a_row == self.failures
        self._since = monotonic() if opening else self._since
        if opening or self._probing:
            self._wait = self.first_wait if opening else min(2 * self._wait, self.longest_wait)
            self._probe_at = monotonic() + self._wait * (1 + 0.1 * self.jitter())  # several processes must not probe at once

    def worked(self) -> None:
        """The provider answered."""
        self._in_a_row = 0
        self._worked += 1
