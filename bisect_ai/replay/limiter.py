"""When the next request may leave: one lane per (provider, model) for rate limits, one breaker per provider for outages.

Both live on one event loop at a time and hold no locks: between two awaits nothing else runs.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from bisect_ai.errors import BisectError
from bisect_ai.replay.quotas import Quotas

SLOWEST = 0.5
"""Requests a second that a lane never goes below."""
FEWEST_WELL = 3
"""Answers to others that show a provider to be well."""
_BURST_SECONDS = 1.0
"""What is accepted in less may be a burst that was saved up."""
_BACK_TO = 0.96
"""Of the rate at which a limit was met, the least to go back to."""
_PLATEAU = (6.0, 320.0)
"""Seconds after which that rate is reached again: at first, and at most, once it was met again and again."""
_QUICKENING = 1.25
"""By which the rate grows in the first second while no limit is known; later seconds more."""
_LONG = 40.0
"""Seconds, or plateaus, after which growth has passed every rate: powers stay small."""
_SAME = 0.15
"""Relative difference below which two rates are the same limit."""
_DROP = 0.9
"""Of a known limit, the least that one refusal makes of it: a short while tells little."""
_QUICKEST = 5.0
"""Times the rate that came through, the most that a wait asked for may set the first rate to."""
_CATCH_UP = 0.05
_LONGEST_NAP = 0.5
UNPACED = 1000.0
"""Requests a second above which pacing is pointless."""


class Ticket(NamedTuple):
    """A request that left: the epoch it belongs to, which one it was of all, and when (monotonic seconds)."""

    epoch: int
    number: int
    at: float


class HeldBack(BisectError):
    """Nothing was sent: the provider asked to wait longer than the answer may take, or has been failing for long."""

    exit_code = 4


@dataclass
class Lane:
    """Holds all callers of one model back after a 429, then lets them go one by one, at the rate that the provider takes.

    Before the first 429 nothing is paced but by the limits that responses tell of (`quotas`). After it the rate starts from what
    was accepted and grows ever faster, until the next 429 says where the limit lies: at what came through in the last second.
    From then on the rate climbs back to the limit by a cube of time (as in CUBIC, Ha, Rhee and Xu 2008): fast when far below, long
    near it, the longer the more often it was met there and the longer a refusal makes everyone wait. When nobody refuses at the
    limit either, it doubles again, slowly.
    """

    opens: float = field(default_factory=monotonic)
    """No request leaves before this moment."""
    rate: float | None = None
    """Requests a second; None: no pacing."""
    _next: float = 0.0
    _opened: float = field(default_factory=monotonic)
    _refused: float = 0.0
    _quotas: Quotas = field(default_factory=Quotas)
    _all: int = 0
    _sent: int = 0
    _rejected: int = 0
    _epoch: int = 0
    _held: bool = False
    _base: float = 0.0
    _limit: float | None = None
    _asked: float = 0.0
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _plateau: float = _PLATEAU[0]
    _gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def turn(self, until: float) -> Ticket:
        """Waits for this caller's turn. Raises `HeldBack` when that comes after `until`."""
        now = monotonic()
        if self.rate is not None or self._held or now < self.opens or self._quotas.wait(now) > 0:
            try:
                async with asyncio.timeout(max(until - now, 0.0)):
                    await self._in_turn(until)
            except TimeoutError:
                raise HeldBack("the provider's rate limit leaves no room before the deadline; nothing was sent") from None
        ticket = Ticket(self._epoch, self._all + 1, monotonic())
        self._all, self._sent = ticket.number, self._sent + 1
        self._times.append(ticket.at)
        self._quotas.take(ticket.at)
        return ticket

    def heard(self, headers: Mapping[str, str], ticket: Ticket) -> None:
        """What a response says of the limits."""
        self._quotas.hear(headers, number=ticket.number, sent_at=ticket.at, sent=self._all, now=monotonic())

    async def _in_turn(self, until: float) -> None:
        async with self._door():
            while (wait := self._wait(monotonic())) > 0:
                if monotonic() + wait > until:
                    raise HeldBack(f"the provider's rate limit asks to wait {wait:.0f} s more; nothing was sent")
                await asyncio.sleep(wait)
            if self.rate is not None:
                self._next = max(self._next, monotonic() - _CATCH_UP) + 1 / self.rate

    def _door(self) -> asyncio.Lock:
        """One caller at a time, in the order they came."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Lock()
        return self._gate[1]

    def _wait(self, now: float) -> float:
        if now < self.opens:
            return self.opens - now
        if self._held:
            self._reopen(now)
        self._grow(now)
        quota = self._quotas.wait(now)
        return quota if self.rate is None else max(min(self._next - now, _LONGEST_NAP), quota)

    def limited(self, wait: float, ticket: Ticket) -> None:
        """A request met a limit: nobody sends for `wait` seconds; that of an earlier epoch only prolongs the wait."""
        now = monotonic()
        self.opens = max(self.opens, now + wait)
        if self._held or ticket.epoch == self._epoch:
            self._rejected += 1
        if not self._held and ticket.epoch == self._epoch:
            self._epoch += 1
            self._held, self._refused, self._asked = True, now, wait

    def _reopen(self, now: float) -> None:
        accepted = max(self._sent - self._rejected, 0) or self._sent / 2  # where all was refused, half of what was tried
        through = accepted / max(now - self._opened, _BURST_SECONDS)
        if self.rate is None:
            # What takes one at a time is ready again after 1 / its rate.
            hinted = min(1 / max(self._asked, 1e-3), _QUICKEST * through)
            self._base, self._limit, self._plateau = max(through, hinted, SLOWEST), None, _PLATEAU[0]
        else:
            self._met(accepted, through)
        self.rate = self._base
        self._opened, self._next = now, now
        self._sent, self._rejected, self._held = 0, 0, False

    def _lately(self) -> float:
        """Accepted a second, over the last second before the refusal."""
        span = min(max(self._refused - self._opened, 1e-3), _BURST_SECONDS)
        sent = sum(at >= self._refused - span for at in self._times)
        return (sent - self._rejected + 0.5) / span

    def _met(self, accepted: float, through: float) -> None:
        """A limit was met while paced: where it lies, and where to go on from. The dearer a refusal, the rarer it is sought."""
        assert self.rate is not None
        seen = self._lately()
        if self._limit is not None:
            on_the_way = accepted / max(self._refused - self._opened, 1e-3)
            seen = max(min(self.rate, (self.rate + on_the_way) / 2), _DROP * self._limit)
        limit = max(seen, through, SLOWEST)
        same = self._limit is not None and abs(limit - self._limit) < _SAME * limit
        self._plateau = min((2 + 2 * self._asked) * self._plateau, _PLATEAU[1]) if same else _PLATEAU[0]
        self._limit, self._base = limit, max(min(through, limit), _BACK_TO * limit)

    def _grow(self, now: float) -> None:
        if self.rate is None:
            return
        passed = now - self._opened
        if self._limit is None:
            passed = min(passed, _LONG)
            self.rate = self._base * _QUICKENING ** (passed * (1 + passed / 8))
        else:
            climbed = self._limit - (self._limit - self._base) * max(1 - passed / self._plateau, 0.0) ** 3
            self.rate = climbed * 2 ** min(max(passed / self._plateau - 1, 0.0), _LONG)
        if self.rate > UNPACED:
            self.rate = None


@dataclass
class Breaker:
    """Stops sending to a provider that only fails: after `failures` in a row one probe at a time, ever later, until one succeeds."""

    failures: int = 12
    patience: float = 90.0
    """Seconds of an outage after which callers are told at once instead of waiting."""
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

    def mark(self) -> tuple[int, int]:
        """Successes and failures so far, for `well_since`."""
        return self._worked, self._failed

    def well_since(self, mark: tuple[int, int], *, own_failures: int) -> bool:
        """Whether the provider answered others meanwhile, and failed few: a caller's `own_failures` then are its own fault."""
        worked, failed = self._worked - mark[0], self._failed - mark[1] - own_failures
        return worked >= FEWEST_WELL and failed <= worked / 4

    @property
    def is_open(self) -> bool:
        """Whether requests are held back."""
        return self._in_a_row >= self.failures

    @asynccontextmanager
    async def passage(self, until: float) -> AsyncIterator[None]:
        """Lets the caller through when the breaker is closed, or as the one probe. Raises `HeldBack`."""
        probe = await self._pass(until)
        try:
            yield
        finally:
            if probe:
                self._probing = False

    async def _pass(self, until: float) -> bool:
        while self.is_open:
            now = monotonic()
            if not self._probing and now >= self._probe_at:
                self._probing = True
                return True
            if now - self._since > self.patience or self._probe_at > until:
                raise HeldBack(f"the provider failed {self._in_a_row} times in a row; nothing was sent")
            await asyncio.sleep(min(max(self._probe_at - now, 0.02), 0.25))
        return False

    def failed(self) -> None:
        """A request failed by the provider's fault."""
        self._in_a_row += 1
        self._failed += 1
        if not self.is_open:
            return
        opening = self._in_a_row == self.failures
        self._since = monotonic() if opening else self._since
        if opening or self._probing:
            self._wait = self.first_wait if opening else min(2 * self._wait, self.longest_wait)
            self._probe_at = monotonic() + self._wait * (1 + 0.1 * self.jitter())

    def worked(self) -> None:
        """The provider answered."""
        self._in_a_row = 0
        self._worked += 1
