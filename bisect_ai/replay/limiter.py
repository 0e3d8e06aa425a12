"""When the next request may leave: one lane per (provider, model) for rate limits, one breaker per provider for outages.

Both live on one event loop at a time and hold no locks: between two awaits nothing else runs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from bisect_ai.errors import BisectError

SLOWEST = 0.5
"""Requests a second that a lane never goes below."""
FEWEST_WELL = 3
"""Answers to others that show a provider to be well."""
UNPACED = 1000.0
"""Requests a second above which pacing is pointless."""


class HeldBack(BisectError):
    """Nothing was sent: the provider asked to wait longer than the answer may take, or has been failing for long."""

    exit_code = 4


@dataclass
class Lane:
    """Holds all callers of one model back after a 429, then lets them go at the rate that the provider was seen to take.

    The rate is what was accepted since the lane last opened, over the time until it opens again. It grows slowly while no 429
    comes, the faster the longer none came; before the first 429 there is no pacing at all.
    """

    opens: float = field(default_factory=monotonic)
    """No request leaves before this moment."""
    _rate: float | None = None
    _next: float = 0.0
    _opened: float = field(default_factory=monotonic)
    _sent: int = 0
    _rejected: int = 0
    _epoch: int = 0
    _held: bool = False
    _grown: float = 0.0

    async def turn(self, until: float) -> int:
        """Waits for this caller's turn; the epoch it belongs to. Raises `HeldBack` when its turn comes after `until`."""
        while True:
            await self._open(until)
            slot, epoch = self._reserve(monotonic()), self._epoch
            await _sleep_to(slot, until)
            if epoch == self._epoch and monotonic() >= self.opens:
                self._sent += 1
                return epoch

    async def _open(self, until: float) -> None:
        while monotonic() < self.opens:
            await _sleep_to(self.opens, until)

    def limited(self, wait: float, epoch: int) -> None:
        """A request of `epoch` met a limit: nobody sends for `wait` seconds; that of an earlier epoch only prolongs the wait."""
        self.opens = max(self.opens, monotonic() + wait)
        if self._held or epoch == self._epoch:
            self._rejected += 1
        if not self._held and epoch == self._epoch:
            self._epoch += 1
            self._held = True

    def _reserve(self, now: float) -> float:
        if self._held:
            self._reopen(now)
        if self._rate is None:
            return now
        self._grow(now)
        slot = max(now, self._next)
        self._next = slot + 1 / self._rate
        return slot

    def _reopen(self, now: float) -> None:
        # Where all was refused, half of what was tried.
        accepted = max(self._sent - self._rejected, 0) or self._sent / 2
        self._rate = max(accepted / max(now - self._opened, 1e-3), SLOWEST, 0.5 * (self._rate or 0.0))
        self._opened, self._next, self._grown = now, now, now
        self._sent, self._rejected, self._held = 0, 0, False

    def _grow(self, now: float) -> None:
        assert self._rate is not None
        self._rate *= 1 + min(0.02 * (now - self._opened), 1.0) * (now - self._grown)
        self._grown = now
        if self._rate > UNPACED:
            self._rate = None


async def _sleep_to(slot: float, until: float) -> None:
    now = monotonic()
    if slot > until:
        raise HeldBack(f"the provider's rate limit asks to wait {slot - now:.0f} s more; nothing was sent")
    if slot > now:
        await asyncio.sleep(slot - now)


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
