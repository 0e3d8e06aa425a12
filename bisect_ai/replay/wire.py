"""The one retry loop around a model call: every attempt is one request, bounded in number, time and bytes.

    breaker (provider) -> lane (provider, model) -> one attempt -> answer | stop the run | fail | wait and try again

litellm's own retries are off, and `guard` counts what leaves. Waits use full jitter: uniform between 0 and a bound that
doubles, so that callers who failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bisect_ai.errors import BisectError, TargetFailure
from bisect_ai.replay.failures import describe
from bisect_ai.replay.guard import Exchanged, watched
from bisect_ai.replay.limiter import Breaker, HeldBack, Lane
from bisect_ai.replay.wait import asked_wait, fate, money_is_gone

MOST_ATTEMPTS = 6
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 20.0
_KEPT = "all answers are kept"


class CallFailed(BisectError):
    """A model call that gave no answer; the message is the one line for the trial's row."""

    exit_code = 4


@dataclass
class Tally:
    """Requests that left for one answer, whatever became of them."""

    requests: int = 0


@dataclass(frozen=True)
class Route:
    """Whose limits a call falls under. `custom`: the user's own code answers, so the guard sees nothing of it."""

    provider: str
    model: str
    custom: bool = False


Call = Callable[[], Awaitable[Any]]


class Wire:
    """Sends calls, at most `attempts` times each, each attempt at most `timeout` seconds. Shared by all trials of a run."""

    def __init__(self, *, attempts: int = MOST_ATTEMPTS, timeout: float = 60.0, rng: random.Random | None = None) -> None:
        self._attempts = min(attempts, MOST_ATTEMPTS)
        self._timeout = timeout
        self._rng = rng or random.Random()  # noqa: S311  # spreads waits, guards nothing
        self._lanes: defaultdict[tuple[str, str], Lane] = defaultdict(Lane)
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)

    async def send(self, call: Call, route: Route, *, until: float, tally: Tally) -> Any:
        """The response to `call`, given up at `until` (monotonic seconds).

        Raises `CallFailed`, or `TargetFailure` when the credentials or the money are refused.
        """
        for number in range(1, self._attempts + 1):
            try:
                return await self._attempt(call, route, until, tally)
            except _Again as again:
                wait, line = again.wait, again.line
            if wait is None:
                wait = self._rng.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (number - 1)))
            if number == self._attempts:
                break
            if monotonic() + wait > until:
                raise CallFailed(f"{line} (after {number} attempts; waiting {wait:.3g} s more would pass the deadline)")
            await asyncio.sleep(wait)
        raise CallFailed(f"{line} (after {self._attempts} attempts)")

    async def _attempt(self, call: Call, route: Route, until: float, tally: Tally) -> Any:
        lane, breaker = self._lanes[route.provider, route.model], self._breakers[route.provider]
        try:
            async with breaker.passage(until):
                epoch = await lane.turn(until)
                with watched() as exchanged:
                    try:
                        response = await self._timed(call)
                    except Exception as error:
                        raise self._judged(error, exchanged, route, epoch) from error
                    finally:
                        tally.requests += exchanged.requests or int(route.custom)
                breaker.worked()
                return response
        except HeldBack as held:
            raise CallFailed(f"{type(held).__name__}: {held}") from held

    async def _timed(self, call: Call) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await call()
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {self._timeout:g} s") from error

    def _judged(self, error: Exception, exchanged: Exchanged, route: Route, epoch: int) -> Exception:
        """What to raise for a failed attempt, after lane and breaker have heard of it."""
        line, lane, breaker = describe(error), self._lanes[route.provider, route.model], self._breakers[route.provider]
        if exchanged.refused:
            return CallFailed(f"{type(error).__name__}: {exchanged.refused}")
        status, text = _status(error, exchanged), f"{error} {exchanged.told.decode('utf-8', 'replace')}"
        if not exchanged.touched and not isinstance(error, TimeoutError) and (status is None or not route.custom):
            return self._unsent(error, line, route, status)
        asked = asked_wait(exchanged.headers or getattr(error, "litellm_response_headers", None) or {})
        decided = fate(status, text)
        if decided == "limited" or (decided == "again" and asked is not None):
            lane.limited(asked if asked is not None else self._rng.uniform(0, 2 * FIRST_BACKOFF), epoch)
        if decided == "again":
            breaker.failed()
        else:
            breaker.worked()
        if decided == "stop":
            return TargetFailure(_stopped(route, status, text, line))
        # The lane keeps this caller back as long as the provider asked; the backoff is for silence.
        return CallFailed(line) if decided == "fail" else _Again(line, 0.0 if asked else None)

    def _unsent(self, error: Exception, line: str, route: Route, status: int | None) -> Exception:
        # The OpenAI route gives a missing key the status 500.
        keyless = status in (401, 403) or "missing credentials" in str(error).lower()
        if keyless and not route.custom:
            return TargetFailure(_stopped(route, status, str(error), line))
        return CallFailed(line)


class _Again(Exception):
    """Control flow inside this module: the attempt failed and another may follow, after `wait` seconds (None: as the backoff says)."""

    def __init__(self, line: str, wait: float | None) -> None:
        super().__init__(line)
        self.line, self.wait = line, wait


def _status(error: Exception, exchanged: Exchanged) -> int | None:
    """The status of the response, or None when none came whole; for what was not on the wire, what the error says."""
    if exchanged.touched:
        whole = exchanged.complete or (exchanged.status or 0) >= 300
        return exchanged.status if whole else None
    named = getattr(error, "status_code", None)
    # litellm calls any exception of a custom provider an APIConnectionError: its code is at fault, not a connection.
    return named if isinstance(named, int) and type(error).__name__ != "APIConnectionError" else None


def _stopped(route: Route, status: int | None, text: str, line: str) -> str:
    if status == 402 or money_is_gone(text):
        return f"replay stopped: {route.provider} says that its money or quota is spent: {line}; {_KEPT}: add credit, run again"
    return (
        f"replay stopped: {route.provider} refused the credentials for {route.model}: {line}; {_KEPT}: set the key in the "
        "environment, run again"
    )
