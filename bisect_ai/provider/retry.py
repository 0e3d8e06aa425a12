"""The one retry loop around a call: every attempt is one request, bounded in number, time, bytes and money.

    account (money) -> breaker (provider) -> lane (provider, model) -> one attempt -> answer | stop the run | fail | try again

The transport's own retries are off, and `guard` counts what leaves. Waits use full jitter: uniform between 0 and a bound that
doubles, so that callers who failed together do not come back together.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from bisect_ai.canonical import json_or, text_or_json
from bisect_ai.errors import BisectError, TargetFailure
from bisect_ai.provider.budget import NOTHING, Account, Amount, CapReached, trip
from bisect_ai.provider.limit_headers import asked_wait, fate, money_is_gone
from bisect_ai.provider.rate_limit import Breaker, Headroom, HeldBack, HeldByLimit, RateLimiter, Ticket
from bisect_ai.provider.redaction import describe, line_of
from bisect_ai.provider.transport import Exchanged, watched

MOST_ATTEMPTS = 6  # with the backoffs below 16 s at most in all
# Of one call of a scorer's, to a provider that has never answered: some two seconds of backoff.
ATTEMPTS_BEFORE_ANY = 4
FIRST_BACKOFF = 0.5  # doubled from attempt to attempt, full jitter
LONGEST_BACKOFF = 20.0  # a provider that is back is asked again within it
_KEPT = "all answers are kept"
_OVERLOADED = (503, 529)  # 529: Anthropic and others, overloaded
# How litellm and the clients under it say that there is no key to send.
_KEYLESS = r"missing (?:\w+ ){0,3}?(?:credentials|api[ _]?key)|api[ _]?key (?:is |was )?(?:missing|required|not (?:set|found|provided))"
_MESSAGES = ("error", "message", "detail", "msg")
# A gateway's error page, of which only the words are told.
_MARKUP = r"<(style|script|head)\b.*?</\1>|<[^<>]*>"
# Characters.
_OWN_WORDS = 160


class CallFailed(BisectError):
    """A call that gave no answer; the message is the one line for the trial's row.

    `outcome`: error, timeout, malformed or unknown; or failed, when what was asked is at fault rather than who was asked.
    """

    exit_code = 4

    def __init__(self, message: str, *, outcome: str = "error") -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass
class RequestTally:
    """What one answer took: requests that left, what became of those that failed, and time that was no answer's."""

    requests: int = 0
    # Seconds held back by limits, outages, caps and backoff.
    waited: float = 0.0
    # Seconds of attempts that failed.
    failing: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    # Where the last request went.
    endpoint: str | None = None
    # The most that requests may have cost whose answer never came whole.
    unsettled: Amount = NOTHING


@dataclass(frozen=True)
class Route:
    """Whose limits a call falls under. `custom`: the user's own code answers, so the guard sees nothing of it."""

    provider: str
    model: str
    custom: bool = False


class Paid(Protocol):
    """A reply, which knows what it cost."""

    @property
    def used(self) -> Amount:
        """Spent by the request that brought it."""


R = TypeVar("R", bound=Paid)


@dataclass(frozen=True)
class ModelRequest(Generic[R]):
    """`send` makes one request, which can cost `most`; `read` makes the reply of its response."""

    send: Callable[[], Awaitable[Any]]
    most: Callable[[], Amount]
    read: Callable[[Any], R]


@dataclass
class _Turn:
    """An attempt's place in a lane, kept until it leaves."""

    lane: RateLimiter
    until: float
    ticket: Ticket
    # The same request has left before: this one is another call.
    again: bool

    async def leave(self, patience: asyncio.Timeout, seconds: float, tally: RequestTally) -> None:
        """Waits while the lane is held back; the `seconds` of the attempt count from then on."""
        began = monotonic()
        patience.reschedule(None)
        self.ticket = await self.lane.leave(self.ticket, self.until)
        await self.count()
        patience.reschedule(asyncio.get_running_loop().time() + seconds)
        tally.waited += monotonic() - began

    async def count(self) -> None:
        """Raises `CapReached` when no call is left for a request that is sent again."""
        counted = trip.get()
        if self.again and counted is not None:
            await counted.again()


class Wire:
    """Sends calls, at most `attempts` times each, each attempt at most `timeout` seconds. Shared by all trials of a run."""

    def __init__(
        self,
        *,
        attempts: int = MOST_ATTEMPTS,
        timeout: float = 60.0,
        rng: random.Random | None = None,
        patient: bool = True,
    ) -> None:
        self._patient = patient  # with a provider that has never answered, where no trial says (`Trip.keep_going`)
        self._attempts = min(attempts, MOST_ATTEMPTS)
        self._timeout = timeout
        self._rng = rng or random.Random()  # noqa: S311  # spreads waits, guards nothing
        self.headroom = Headroom()
        self._lanes: defaultdict[tuple[str, str], RateLimiter] = defaultdict(RateLimiter)
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._stopped: dict[str, str] = {}

    async def send(self, call: ModelRequest[R], route: Route, *, until: float, tally: RequestTally, account: Account) -> R:
        """The reply to `call`, given up at `until` (monotonic seconds).

        Raises `CallFailed`; `TargetFailure` when the credentials or the money are refused; `CapReached`.
        """
        told: list[_Again] = []
        before = tally.requests
        healthy = self._breakers[route.provider].mark()
        attempts = self._attempts if healthy[0] or self._patient else min(self._attempts, ATTEMPTS_BEFORE_ANY)
        for number in range(1, attempts + 1):
            try:
                return await self._attempt(call, route, until, tally, account, again=tally.requests > before)
            except _Again as again:
                told.append(again)
            except (CapReached, HeldBack) as ended:
                if told and isinstance(ended, CapReached | HeldByLimit):  # an outage tells the last failure itself
                    line = f"{told[-1].line} (after {_attempts(len(told))}; {ended})"
                    raise CallFailed(line, outcome=told[-1].outcome) from ended
                if isinstance(ended, CapReached):
                    raise
                whose = "" if self._patient else f"{route.provider}: "  # a target's answer says where it went
                raise CallFailed(f"{HeldBack.__name__}: {whose}{ended}") from ended
            wait = told[-1].wait
            if wait is None:
                wait = self._rng.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (number - 1)))
            if number == attempts:
                break
            if monotonic() + wait > until:
                line = f"{told[-1].line} (after {_attempts(number)}; waiting {wait:.3g} s more would pass the deadline)"
                raise CallFailed(line, outcome=told[-1].outcome)
            tally.waited += wait
            await asyncio.sleep(wait)
        well = self._breakers[route.provider].well_since(healthy, own_failures=len(told))
        outcome = "failed" if _same_refusal(told) and well else told[-1].outcome
        raise CallFailed(f"{told[-1].line} (after {_attempts(attempts)})", outcome=outcome)

    async def _attempt(
        self, call: ModelRequest[R], route: Route, until: float, tally: RequestTally, account: Account, *, again: bool
    ) -> R:
        """One request, once account, breaker and lane let it through."""
        lane, breaker, began = self._lanes[route.provider, route.model], self._breakers[route.provider], monotonic()
        try:
            held = await account.acquire(call.most() if account.need_bounds else Amount(1))
            used = Amount()
            try:
                counted = trip.get()
                async with breaker.passage(until, patient=self._patient if counted is None else counted.keep_going):
                    turn = _Turn(lane, until, await lane.turn(until), again)
                    self._check_stopped(route)
                    tally.waited += monotonic() - began
                    with watched() as exchanged:
                        try:
                            reply = await self._timed(call, route, exchanged, tally, turn)
                        except BaseException:  # a cancelled request may have been paid for too
                            used = _perhaps_used(call, route, exchanged)
                            tally.unsettled += used
                            raise
                        used = reply.used
                    breaker.worked()
                    return reply
            finally:
                account.settle(held, used)
        except HeldBack:
            tally.faults["held back"] += 1
            self._count(0, tally)
            raise

    def _count(self, requests: int, tally: RequestTally) -> None:
        tally.requests += requests
        if (counted := trip.get()) is not None:
            counted.sent(requests)

    def _check_stopped(self, route: Route) -> None:
        if route.provider in self._stopped:
            raise TargetFailure(self._stopped[route.provider])

    async def _timed(self, call: ModelRequest[R], route: Route, exchanged: Exchanged, tally: RequestTally, turn: _Turn) -> R:
        began = monotonic()
        try:
            try:
                async with asyncio.timeout(self._timeout) as patience:
                    if route.custom:
                        await turn.count()
                    exchanged.leave = partial(turn.leave, patience, self._timeout, tally)
                    return call.read(await call.send())
            except TimeoutError as error:
                raise TimeoutError(f"no answer within {self._timeout:g} s") from error
        except Exception as error:  # clients wrap what our own transport raised: that, and not the wrapping, is told
            if exchanged.held is not None:
                raise exchanged.held from error
            if isinstance(error, CapReached):
                raise
            tally.failing += monotonic() - began
            tally.faults[_fault(error, exchanged)] += 1
            raise self._judged(error, exchanged, route, turn.ticket) from error
        finally:
            self._count(exchanged.requests or int(route.custom), tally)
            tally.endpoint = exchanged.endpoint or tally.endpoint
            if exchanged.status is not None:
                self._hear_limits(turn.lane, exchanged, turn.ticket)

    def _hear_limits(self, lane: RateLimiter, exchanged: Exchanged, ticket: Ticket) -> None:
        lane.heard(exchanged.headers, ticket)
        if lane.has_room() and all(other.has_room() is not False for other in self._lanes.values()):
            self.headroom.rise()

    def _judged(self, error: Exception, exchanged: Exchanged, route: Route, ticket: Ticket) -> Exception:
        """What to raise for a failed attempt, after lane and breaker have heard of it."""
        line, lane, breaker = (
            _with_own_words(describe(error), exchanged.told or exchanged.failure.encode("utf-8", "replace")),
            self._lanes[route.provider, route.model],
            self._breakers[route.provider],
        )
        if exchanged.refused:
            return CallFailed(f"{type(error).__name__}: {exchanged.refused}", outcome=_request_outcome(error, exchanged))
        if not self._patient and exchanged.status is None and exchanged.endpoint and exchanged.endpoint not in line:
            line = f"{line} from {exchanged.endpoint}"  # a target's answer says where it went
        status, text = _status(error, exchanged), f"{error} {exchanged.told.decode('utf-8', 'replace')}"
        if not exchanged.touched and not isinstance(error, TimeoutError) and (status is None or not route.custom):
            return self._unsent(error, line, route, status)
        asked = asked_wait(exchanged.headers or getattr(error, "litellm_response_headers", None) or {})
        decided = fate(status, text)
        holds_back = decided == "limited" or (decided == "again" and asked is not None)
        if holds_back and lane.limited(asked, ticket):
            self.headroom.fall()
        if decided == "again":
            breaker.failed(line)
        else:
            breaker.worked()
        if decided == "stop":
            return TargetFailure(self._stopped.setdefault(route.provider, _stopped(route, status, text, line)))
        outcome = _request_outcome(error, exchanged)
        if decided == "fail":
            return CallFailed(line, outcome="failed" if outcome == "error" else outcome)
        # The lane keeps this caller back as long as the provider asked; the backoff is for silence.
        return _Again(line, 0.0 if asked else None, outcome, (status, exchanged.told))

    def _unsent(self, error: Exception, line: str, route: Route, status: int | None) -> Exception:
        # The OpenAI route gives a missing key the status 500.
        keyless = status in (401, 403) or re.search(_KEYLESS, str(error), re.I) is not None
        if keyless and not route.custom:
            return TargetFailure(self._stopped.setdefault(route.provider, _stopped(route, status, str(error), line)))
        return CallFailed(line)


class _Again(Exception):
    """Control flow inside this module: the attempt failed and another may follow, after `wait` seconds (None: as the backoff says)."""

    def __init__(self, line: str, wait: float | None, outcome: str, told: tuple[int | None, bytes]) -> None:
        super().__init__(line)
        self.line, self.wait, self.outcome, self.told = line, wait, outcome, told


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def _with_own_words(line: str, told: bytes) -> str:
    """The line of a failure, and what the provider itself said where the clients on the way do not pass it on."""
    words = line_of(_message_in(told))[:_OWN_WORDS]
    return line if not words or words[:20] in line else f"{line}: {words}"


_NO_JSON = object()


def _message_in(told: bytes) -> str:
    """The message in the body of an error: of JSON what it calls so, of a page its text."""
    text = told.decode("utf-8", "replace")
    read = json_or(_NO_JSON, text)
    if read is _NO_JSON:
        return " ".join(re.sub(_MARKUP, " ", text, flags=re.I | re.S).split())
    while isinstance(read, dict) and (inner := next((read[name] for name in _MESSAGES if read.get(name)), None)) is not None:
        read = inner
    return text_or_json(read)


def _same_refusal(told: list[_Again]) -> bool:
    """Whether all attempts met the same server error, word for word, and not one that means overload."""
    status = told[-1].told[0]
    return status is not None and status >= 500 and status not in _OVERLOADED and len({again.told for again in told}) == 1


def _perhaps_used(call: ModelRequest[Any], route: Route, exchanged: Exchanged) -> Amount:
    """What a failed attempt may have cost: nothing when it was refused, the most when nobody knows."""
    refused = (exchanged.status or 0) >= 300
    if route.custom or not exchanged.requests or refused:
        return Amount(1 if exchanged.requests or route.custom else 0)
    return call.most()


def _request_outcome(error: Exception, exchanged: Exchanged) -> str:
    """The type of a failure: unknown when a part of an answer came, malformed when all of one came and cannot be read."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if exchanged.status is None or exchanged.status >= 300:
        return "error"
    return "malformed" if exchanged.complete else "unknown"


def _fault(error: Exception, exchanged: Exchanged) -> str:
    """The kind of a failed attempt, for the report."""
    outcome = _request_outcome(error, exchanged)
    if outcome != "error":
        return outcome
    if exchanged.touched:
        return str(exchanged.status) if exchanged.status else "reset" if exchanged.requests else "no connection"
    named = getattr(error, "status_code", None)
    # 500 is what litellm puts where no response came.
    return str(named) if isinstance(named, int) and named != 500 else "not sent"


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
