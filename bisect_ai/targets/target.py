"""The seam between a run and what answers, the targets that ask nobody else (a function, past answers), and what those that do share.

`Metered` keeps the account of a target that keeps none itself: what it says that an answer cost is known only afterwards. Targets
that call out have their settings checked here, their answers told what they took, and learn in seconds whether anybody listens.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from bisect_ai.canonical import digest
from bisect_ai.errors import BisectError, ConfigError, Infeasible, QueryError, TargetFailure
from bisect_ai.provider.budget import CRUMB, NOTHING, POLL_SECONDS, Account, Amount, Held, trip
from bisect_ai.provider.redaction import describe, did_you_mean
from bisect_ai.provider.retry import MOST_ATTEMPTS, RequestTally
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer, as_answer


class Target(Protocol):
    """What answers. `release` is a read-only mapping of axis to composed value."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain JSON that names the target and every setting of it that can change an answer."""

    @property
    def concurrency(self) -> int:
        """Trials that may be under way at once, unless the user says otherwise.

        An async target may have a `headroom`, whose `growth` says how many times as many at the moment.
        """

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer | Awaitable[Answer]:
        """The answer to `query` by `release`."""


class PythonTarget:
    """The user's `fn(query, release)`, sync or async; `identity` names the function and its version."""

    def __init__(self, function: Callable[..., Any], *, identity: Mapping[str, Any], concurrency: int = 8) -> None:
        self._function = function
        self.identity = {"kind": "python", **identity}
        self.concurrency = concurrency
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # the method, not callability
        )

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Any:
        """Whatever the function returns (or its coroutine); the repeat number is not its business."""
        del repeat
        return self._function(query, release)


class RecordedTarget:
    """Past answers by query and combination: a record has `query`, `bad_axes` (list of names) and Answer's fields.

    A combination that no record has is infeasible; a query missing from a recorded combination is a failed trial.
    """

    concurrency = 1
    is_async = False

    def __init__(self, records: Iterable[Mapping[str, Any]], *, good: Mapping[str, Any], bad: Mapping[str, Any]) -> None:
        # Of what is a text and nothing else, the text alone: of a million answers each byte counts.
        self._answers: dict[tuple[str, frozenset[str], int], Answer | str] = {}
        self._cells: dict[frozenset[str], frozenset[str]] = {}
        self._good, self._bad = good, bad
        kept = [dict(r) for r in records]
        for record in kept:
            self._add(record)
        self.identity = {"kind": "recorded", "records": digest(kept)}

    def _add(self, record: dict[str, Any]) -> None:
        try:
            query, cell = str(record.pop("query")), frozenset(record.pop("bad_axes"))
        except KeyError as missing:
            raise QueryError(f"recorded answers: a record has no {missing}; each needs query, bad_axes and text") from missing
        repeat = int(record.pop("repeat", 0))
        cell, answer = self._cells.setdefault(cell, cell), as_answer(record)
        self._answers[query, cell, repeat] = answer.text if answer.is_text and answer.latency_s is None else answer

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        """The recorded answer."""
        axes = {*self._good, *self._bad}
        if mixed := sorted(a for a in axes if release.get(a) not in (self._good.get(a), self._bad.get(a))):
            raise Infeasible(f"no recorded answers for a mixture of both releases inside {', '.join(mixed)}")
        cell = frozenset(a for a in axes if self._is_bad(a, release))
        if cell not in self._cells:
            raise Infeasible(f"no recorded answers for {sorted(cell) or 'good'}")
        found = self._answers.get((query.id, cell, repeat))
        if found is None:
            return Answer(error=f"NotRecorded: no answer to query {query.id} with {sorted(cell) or 'good'}, repeat {repeat}")
        return as_answer(found)

    def _is_bad(self, axis: str, release: Mapping[str, Any]) -> bool:
        return self._good.get(axis) != self._bad.get(axis) and release.get(axis) == self._bad.get(axis)


def metered(target: Target, account: Account, *, per_trial: float | None, usual: Amount) -> Target:
    """`target`, paid from `account`: by itself when it can (`pay_from`), else around each of its answers.

    `usual`: the most that an answer of it has cost in earlier sittings, nothing when that is not known.
    """
    pay_from = getattr(target, "pay_from", None)
    if pay_from is not None:
        pay_from(account)
        return target
    return Metered(target, account, per_trial, usual) if account.need_bounds else target


class Metered:
    """A target whose answers are paid for from an account.

    Set aside before each is `per_trial` USD where the user caps it, and the most that an answer has cost so far or `usual`; while
    neither is known all that is left, so that it goes alone. An answer that costs more than that can pass a cap by it once.
    What was set aside counts as spent, as money that may have been, when a call fails or says what cannot be.
    """

    def __init__(self, target: Target, account: Account, per_trial: float | None, usual: Amount) -> None:
        self._target, self._account = target, account
        self._most = Amount(0, usual.tokens, max(per_trial or 0.0, usual.usd))
        self._known, self._first = bool(usual.tokens or usual.usd), threading.Lock()
        # Whether an answer did not say what it cost.
        self.unpriced = False
        self.identity, self.concurrency = target.identity, target.concurrency
        self.deadline = getattr(target, "deadline", 0.0)
        self.headroom = getattr(target, "headroom", None)
        flag = getattr(target, "is_async", None)
        self.is_async = bool(flag) if flag is not None else inspect.iscoroutinefunction(type(target).__call__)

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Any:
        """What the target answers; raises `CapReached` instead of asking it."""
        return self._later(query, release, repeat) if self.is_async else self._now(query, release, repeat)

    def _now(self, *asked: Any) -> Any:
        while (taken := self._take()) is None:
            time.sleep(POLL_SECONDS)
        with _Paid(self, *taken) as paid:
            _starts()
            try:
                return paid.of(self._target(*asked))
            except BisectError:
                raise
            except Exception as error:  # a row that says what it may have cost
                return paid.of(Answer(error=describe(error), outcome="error"))

    async def _later(self, *asked: Any) -> Any:
        while (taken := self._take()) is None:
            await asyncio.sleep(POLL_SECONDS)
        with _Paid(self, *taken) as paid:
            _starts()
            try:
                returned = self._target(*asked)
                return paid.of(await returned if inspect.isawaitable(returned) else returned)
            except BisectError:
                raise
            except Exception as error:  # as above
                return paid.of(Answer(error=describe(error), outcome="error"))

    def _take(self) -> tuple[Held, bool] | None:
        """What is set aside for a call, and whether it goes alone; None: others stand in the way for now. Raises `CapReached`."""
        first = self._goes_first()
        if first is None:
            return None
        held = None
        try:
            held = self._account.reserve_noted(self._next(first))
        finally:
            if held is None and first:
                self._first.release()
        return None if held is None else (held, first)

    def _goes_first(self) -> bool | None:
        """Whether this call goes alone because no cost is known yet; None: another one does, so that this one waits."""
        self._account.check_time()
        if self._known:
            return False
        if not self._first.acquire(blocking=False):
            return None
        if self._known:  # learnt just now
            self._first.release()
            return False
        return True

    def _next(self, first: bool) -> Amount:
        """What to set aside; never nothing, where a cap may be used up."""
        if not first:
            return Amount(0, self._most.tokens, max(self._most.usd, 2 * CRUMB))
        usual = self._account.usual  # another process may have learnt it meanwhile
        if usual.tokens or usual.usd:
            return Amount(0, max(usual.tokens, self._most.tokens), max(usual.usd, self._most.usd))
        room = self._account.room()
        tokens = 0 if room.tokens is None else max(room.tokens, 1)
        usd = self._most.usd if room.usd is None else max(room.usd, self._most.usd, 2 * CRUMB)
        return Amount(0, tokens, usd)

    def learns(self, answer: Answer) -> None:
        """What an answer says that it cost."""
        self._known = self._known or answer.error is None
        self.unpriced = self.unpriced or (answer.error is None and answer.usage.usd is None)
        self._most = Amount(0, max(self._most.tokens, answer.usage.tokens), max(self._most.usd, answer.usage.usd or 0.0))

    def settle(self, held: Held, used: Amount, *, first: bool) -> None:
        """A call has ended."""
        self._account.settle(held, used)
        if first:
            self._first.release()

    @property
    def caps_money(self) -> bool:
        """Whether there is a cap in USD."""
        return self._account.caps_money

    @property
    def bound(self) -> Amount:
        """The most that an answer has cost so far."""
        return self._most


class _Paid:
    """One call, and what is set aside for it until it ends."""

    def __init__(self, metered: Metered, held: Held, first: bool) -> None:
        self._metered, self._held, self._first = metered, held, first
        # What counts as spent if nothing more is heard.
        self._used = metered.bound

    def __enter__(self) -> _Paid:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, BisectError):  # refused before anything was asked, or said so
            self._used = NOTHING
        self._metered.settle(self._held, self._used, first=self._first)

    def of(self, returned: Any) -> Answer:
        """The answer, with what it costs besides what it says."""
        answer, counted = as_answer(returned), trip.get()
        self._metered.learns(answer)
        usage, most = answer.usage, self._metered.bound
        said = Amount(0, usage.tokens, usage.usd or 0.0)
        asked = counted is None or counted.calls > 0
        if usage.doubt is not None:  # what it said is no answer: all that it may have cost
            most = Amount(0, max(most.tokens, self._held.most.tokens), max(most.usd, self._held.most.usd))
        silent = answer.error is None and usage.usd is None and self._metered.caps_money
        if usage.doubt is not None or silent or (answer.error is not None and asked):
            more = Amount(0, max(most.tokens - said.tokens, 0), max(most.usd - said.usd, 0.0))
            said += more
            usage = replace(
                usage, unsettled_tokens=usage.unsettled_tokens + more.tokens, unsettled_usd=usage.unsettled_usd + more.usd
            )
            answer = replace(answer, usage=usage)
        self._used = said
        return answer


def _starts() -> None:
    """Only now the target is asked: the wait for money is none of its time."""
    if (counted := trip.get()) is not None:
        counted.starts()


def check_known(settings: Mapping[str, Any], known: frozenset[str], kind: str) -> None:
    """Raises `ConfigError` for a setting that a kind of target does not have."""
    if unknown := sorted(set(settings) - known):
        meant = did_you_mean(str(unknown[0]), sorted(known), f"; it has {', '.join(sorted(known))}")
        raise ConfigError(f"cannot read target: {str(unknown[0])[:40]!r} is no setting of {kind}{meant}")


def attempts_of(settings: Mapping[str, Any]) -> int:
    """`target.attempts`, checked."""
    attempts = positive(settings, "attempts", MOST_ATTEMPTS)
    if attempts != int(attempts) or attempts > MOST_ATTEMPTS:
        raise ConfigError(f"cannot read target.attempts: {attempts!r} is not a whole number from 1 to {MOST_ATTEMPTS}")
    return int(attempts)


def positive(settings: Mapping[str, Any], name: str, default: float) -> float:
    """A setting of the target that must be a number above 0. Raises `ConfigError`."""
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"cannot read target.{name}: {value!r} is not a number above 0")
    return value


def with_tally(answer: Answer, tally: RequestTally, seconds: float) -> Answer:
    """The answer with what `tally` counted over the `seconds` that it took."""
    usage, tokens, usd = answer.usage, tally.unsettled.tokens, round(tally.unsettled.usd, 9)
    if (usage.unsettled_tokens, usage.unsettled_usd) != (tokens, usd):  # seldom: nearly all calls are settled
        usage = replace(usage, unsettled_tokens=tokens, unsettled_usd=usd)
    return replace(
        answer,
        usage=usage,
        latency_s=max(seconds - tally.waited - tally.failing, 0.0),
        waited_s=round(tally.waited, 3),
        attempts=tally.requests,
        endpoint=tally.endpoint,
        faults=dict(sorted(tally.faults.items())) if tally.faults else {},
    )


_SECONDS = 3.0  # in which a host that is there takes a connection
_AGAIN_SECONDS = 0.5  # a server that restarts is asked a second time


def unreachable(url: str) -> str | None:
    """Why nobody answers at an address, within some seconds; None: somebody does, or it takes longer to say."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_SECONDS):
            return None
    except TimeoutError:
        return None
    except (OSError, UnicodeError) as failure:
        why = "connection refused" if isinstance(failure, ConnectionRefusedError) else str(failure) or type(failure).__name__
        return f"{why} at {parts.scheme}://{parts.netloc}: nobody can be asked there; start the service, or mend the address"


def address_in_environment(model: str, environment: Mapping[str, str]) -> str | None:
    """Where the environment says that a model's provider is; None: it does not, or a proxy leads there."""
    import urllib.request  # an HTTP client and a mail parser, loaded where an address is looked at

    head, slash, _ = model.partition("/")
    provider = head if slash else "anthropic" if model.startswith("claude") else "openai"
    names = (f"{provider.upper()}_{end}" for end in ("BASE_URL", "API_BASE"))
    url = next((environment[name] for name in names if environment.get(name)), None)
    parts = urlsplit(url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    is_led = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname)
    return None if is_led else url


class Doorbell:
    """Asks each address once, before the first request to it, whether anybody listens; who comes meanwhile waits for that."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        # Of an event loop and an address: what asks there now.
        self._asking: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[str | None]] = {}

    async def ring(self, url: str) -> None:
        """Returns when somebody does, or did once. Raises `TargetFailure`: nobody does, now and half a second later."""
        if url in self._open:
            return
        asked = asyncio.get_running_loop(), url
        if asked not in self._asking:
            self._asking[asked] = asyncio.create_task(self._listens(url))
            self._asking[asked].add_done_callback(lambda _: self._asking.pop(asked, None))
        if (why := await asyncio.shield(self._asking[asked])) is not None:
            raise TargetFailure(why)

    async def _listens(self, url: str) -> str | None:
        """Why nobody does; None: somebody does."""
        why = None
        for pause in (_AGAIN_SECONDS, 0.0):
            why = await asyncio.to_thread(unreachable, url)
            if why is None:
                self._open.add(url)
                break
            await asyncio.sleep(pause)
        return why
