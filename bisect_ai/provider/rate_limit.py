"""When the next request may leave: one lane per (provider, model) for rate limits, one breaker per provider for outages.

Both live on one event loop at a time and hold no locks: between two awaits nothing else runs.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from bisect_ai.errors import BisectError
from bisect_ai.provider.limit_headers import Quotas

SLOWEST = 0.05
"""Requests a second that a lane never goes below."""
FEWEST_WELL = 3
"""Answers to others that show a provider to be well."""
_AT_ONCE = 4
"""Requests that leave at once when a lane is new."""
_RUSH = 0.1
"""Seconds in which the number of those that left then grows e-fold: 32 in 0.21 s, 128 in 0.35 s."""
_BURST_SECONDS = 1.0
"""What is accepted in less may be a burst that was saved up."""
_QUICKEST = 5.0
"""Times the rate that came through, the most that a wait asked for may set the first rate to."""
_SEEK = 8.0
"""Seconds in which the rate grows e-fold, slowly at first, from where a limit is thought to be."""
_GUESSED = 2.0
"""Seconds in which it grows e-fold, evenly, from a first rate that is a guess: a rough wait, and no more than `_FEW` at once."""
_FEW = 2
_HELD = (12.0, 320.0)
"""Seconds, at least and at most, for which the rate stays under a limit once met."""
_DEAR = (60.0, 180.0)
"""Times a wait that the rate stays under the limit, so that seeking it anew costs little of the time."""
_CLIMB = 4.0
"""Share of that time, as a divisor, in which the rate climbs back to the limit."""
_BELOW = 0.96
"""Of the rate at which a limit was met, what is taken to be the limit: what is sent evenly does not arrive so."""
_DOUBT = 0.3
"""Weight of what came through, beside that limit, in where to go on from."""
_SAME = 0.15
"""Relative difference below which two rates are the same limit."""
_LOOK_BACK = 10.0
"""Seconds, and waits, over which it is counted what came through."""
_LEAST = 0.1
"""Seconds, at least, that it is counted over."""
_IN_VAIN = 0.5
"""Of the rate, the least that is left of it when nothing was accepted."""
_LONGER = 1.5
"""Times longer each wait is than the last one while nothing is accepted and nobody says how long to wait."""
_LONGEST_WAIT = 16.0
_LONG = 40.0
"""Seconds after which growth has passed every rate: powers stay small."""
_CATCH_UP = 0.02
_LONGEST_NAP = 0.5
_SHORT = 5e-4
"""Seconds that are not worth a wait."""
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
class RateLimiter:
    """Holds all callers of one model back after a 429, then lets them go one by one, at the rate that the provider takes.

    A new lane lets a few requests go at once and then ever more, so that a limit is met by few. Until the first 429 nothing is
    paced but by the limits that responses tell of (`quotas`). After it the rate starts from what was accepted at once, over the
    wait asked for, and grows until the next 429: slowly at first, or evenly where a rough wait and a small burst make that a guess.
    That tells two bounds of the limit: the rate then, which was too much, and what came through since earlier refusals, waits
    included, which a provider who saves up took all of (a deep bucket, a fixed window) and a strict one (no burst, a sliding window)
    more than. The rate goes on from between the two, climbs to just under the upper one by a cube of time (as in CUBIC, Ha, Rhee
    and Xu 2008) and stays there, the longer the dearer a refusal was and the more often the same limit was met; then it grows again.

    What this cannot do: nothing but a refusal tells where an untold limit lies, and with a wait in whole seconds each refusal is up
    to a second of silence, which a limit without burst does not make up for. At 5 a second, sent so far apart that a network's
    20 ms bring no refusal, two such waits leave 87 % of it over 200 calls and 90 % over 1,000, before any search.
    """

    opens: float = field(default_factory=monotonic)
    """No request leaves before this moment."""
    rate: float | None = None
    """Requests a second; None: no pacing."""
    jitter: Callable[[], float] = random.random
    _next: float = 0.0
    _opened: float = 0.0
    _refused: float = 0.0
    _quotas: Quotas = field(default_factory=Quotas)
    _all: int = 0
    _left: int = 0
    _last: float = 0.0
    _sent: int = 0
    _rejected: int = 0
    _refusals: int = 0
    _accepted: int = 0
    _in_vain: int = 0
    _epoch: int = 0
    _held: bool = False
    _base: float = 0.0
    _limit: float | None = None
    _burst: int = 1
    _asked: float = 0.0
    _rough: bool = False
    """The wait was not told, or in whole seconds."""
    _guessed: bool = False
    _marks: deque[tuple[float, int]] = field(default_factory=deque)
    """Of the last refusals: when the request left, and how many had been accepted by then."""
    _stay: float = 0.0
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
        self._opened = self._opened if self._all else ticket.at
        self._all, self._sent = ticket.number, self._sent + 1
        self._quotas.take(ticket.at)
        return ticket

    async def leave(self, ticket: Ticket, until: float) -> Ticket:
        """Called when a request is about to leave, for what became of its turn meanwhile: the ticket that it leaves with.

        Between its turn and the wire a request is prepared, connections are made. When the lane was held back in that time, it
        takes another turn; and those that a new lane sends before it has heard anything leave one after the other.
        """
        while True:
            if ticket.epoch != self._epoch:
                self._not_accepted(ticket)
                ticket = await self.turn(until)
            elif self._left < _AT_ONCE or self.rate is not None or await self._rushed(ticket):
                self._last = monotonic()
                self._opened = self._opened if self._left else self._last
                self._left += 1
                return ticket._replace(at=self._last)

    async def _rushed(self, ticket: Ticket) -> bool:
        """Whether the ticket holds, after the short wait between those who leave a new lane."""
        async with self._door():
            while ticket.epoch == self._epoch and (wait := self._last + _RUSH / self._left - monotonic()) > _SHORT:
                await asyncio.sleep(wait)
            return ticket.epoch == self._epoch

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

    def limited(self, wait: float | None, ticket: Ticket) -> None:
        """A request met a limit: nobody sends for `wait` seconds (None: not told); that of an earlier epoch only prolongs the wait."""
        now, rough = monotonic(), wait is None or wait % 1 == 0
        if wait is None:
            wait = min(_LONGER**self._in_vain, _LONGEST_WAIT) * self.jitter()
        self.opens = max(self.opens, now + wait)
        if ticket.epoch == self._epoch and not self._held:
            self._epoch += 1
            self._held, self._refused, self._asked, self._rough = True, ticket.at, wait, rough
            self._accepted = ticket.number - 1 - self._refusals
        self._not_accepted(ticket)

    def _not_accepted(self, ticket: Ticket) -> None:
        self._refusals += 1
        self._rejected += self._held and ticket.epoch == self._epoch - 1

    def _reopen(self, now: float) -> None:
        accepted = max(self._sent - self._rejected, 0)
        self._in_vain = 0 if accepted else self._in_vain + 1
        if self.rate is None:
            self._begin(max(accepted, 1))
        elif accepted:
            self._met(self._through(), _BELOW * self._rate_at(self._seen(self.rate)))
        else:
            self._base = max(min(self._base, max(self._through(), _IN_VAIN * self._base)), SLOWEST)
        self._marks.append((self._refused, self._accepted))
        self.rate = self._base
        self._opened, self._next = now, now
        self._sent, self._rejected, self._held = 0, 0, False

    def _begin(self, accepted: int) -> None:
        """The first rate. What takes one at a time is ready again after 1 / its rate; a window is, with all of it.

        A wait in whole seconds was rounded up, by a half on average.
        """
        through = accepted / max(math.hypot(self._refused - self._opened, self._asked), _BURST_SECONDS)
        likely = self._asked - 0.5 * (self._rough and self._asked >= 1)
        hinted = min(1 / max(likely, 1e-3), _QUICKEST * through)
        self._base, self._limit, self._burst = max(through, hinted, SLOWEST), None, accepted
        self._guessed = self._rough and accepted <= _FEW
        self._marks.append((self._opened, 0))

    def _through(self) -> float:
        """Accepted a second since one of the last refusals; a start is left out, when all that was saved up went through."""
        horizon = self._refused - _LOOK_BACK * max(self._asked, _BURST_SECONDS)
        while len(self._marks) > 2 and self._marks[1][0] < horizon:
            self._marks.popleft()
        at, accepted = self._marks[0 if self._in_vain else min(1, len(self._marks) - 1)]
        return max(self._accepted - accepted, 0.5) / max(self._refused - at, _LEAST)

    def _seen(self, rate: float) -> float:
        """The middle of the time that the limit looked back on: it counts as many as it once took at once, or up to a second."""
        back = min(_BURST_SECONDS, self._burst / rate, self._refused - self._opened) / 2
        return self._refused - max(back, 0.0)

    def _met(self, lower: float, upper: float) -> None:
        """A limit was met between two rates: where to go on from, and for how long to stay below it."""
        sought = self._limit is not None and self._refused - self._opened > self._stay
        same = sought and abs(upper - (self._limit or 0.0)) < _SAME * upper
        least, most = (min(max(_HELD[0], times * self._asked), _HELD[1]) for times in _DEAR)
        self._stay = min(2 * self._stay, max(most, _HELD[0] * 5)) if same else least
        self._limit = max(upper, SLOWEST)
        self._base = max(min(lower, upper) ** _DOUBT * upper ** (1 - _DOUBT), SLOWEST)

    def _rate_at(self, now: float) -> float:
        passed = max(now - self._opened, 0.0)
        if self._limit is None:
            return self._base * (math.exp(min(passed, _LONG) / _GUESSED) if self._guessed else _growth(passed, _SEEK))
        climbed = self._limit - (self._limit - self._base) * max(1 - _CLIMB * passed / self._stay, 0.0) ** 3
        return climbed * _growth(passed - self._stay, _SEEK)

    def _grow(self, now: float) -> None:
        if self.rate is None:
            return
        self.rate = self._rate_at(now)
        if self.rate > UNPACED:
            self.rate = None
            self._marks.clear()


def _growth(passed: float, seconds: float) -> float:
    """The factor by which a rate has grown after `passed` seconds: slowly at first, so that a good rate is left by little."""
    return math.exp((min(max(passed, 0.0), _LONG) / seconds) ** 2)


@dataclass
class Breaker:
    """Stops sending to a provider that only fails: after `failures` in a row one probe at a time, ever later, until one succeeds."""

    failures: int = 12
    failures_before_any: int = 8
    """As many, from a provider that has never answered."""
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
    _told: str = ""

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
            await asyncio.sleep(min(max(self._probe_at - now, 0.02), 0.25))
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
            self._probe_at = monotonic() + self._wait * (1 + 0.1 * self.jitter())

    def worked(self) -> None:
        """The provider answered."""
        self._in_a_row = 0
        self._worked += 1
