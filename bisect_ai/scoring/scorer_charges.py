"""The seam of scorers that ask a model, and how their calls are paid.

Many answers at a time, on an event loop of their own. Calls that are no trial, a judge's or an embedding model's, come out of the
run's account, so its caps hold for them too, and the next session starts from what they have cost: before a request leaves, the most
that it may cost is on record (where money or tokens are capped), and after it what it did cost.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from bisect_ai.canonical import digest
from bisect_ai.provider.budget import GRACE_SECONDS, NO_CAPS, Account, Amount, when_reserved
from bisect_ai.provider.transport import cancel_others
from bisect_ai.provider.usage import Usage
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer


class Bills(Protocol):
    """What keeps the cost of calls that are no trial, as the store does."""

    def reserve(self, run: str, identity: str, *, usd: float | None = None, tokens: int = 0, calls: int = 1) -> None:
        """Note the most that a request may cost, before it leaves."""

    def charge(
        self, run: str, identity: str, *, usd: float | None = None, tokens: int = 0, calls: int = 1, who: str = ""
    ) -> None:
        """Note what it did cost, which settles what was reserved."""


class Purse:
    """The run's account and journal; without them it counts only. `who` is paid, by the scorer's name."""

    def __init__(
        self,
        account: Account | None = None,
        store: Bills | None = None,
        *,
        run: str = "",
        who: str = "",
        hear: Callable[[str], None] | None = None,
    ) -> None:
        self.account = account or Account()
        self._store, self._run, self._who, self._hear = store, run, who, hear

    def doubts(self, usage: Usage) -> None:
        """Pass on what an answer says of its cost that cannot be."""
        if usage.doubt is not None and self._hear is not None:
            self._hear(f"{self._who}: {usage.doubt}")

    @contextmanager
    def opened(self) -> Iterator[Account]:
        """An account for one question; when it ends, what its requests cost is noted, those included that may have been billed."""
        account, store = self.account.trial(NO_CAPS), self._store
        if store is None:
            yield account
            return
        bill, noted = digest({"bill": secrets.token_hex(16)}), False

        def note(most: Amount) -> None:
            nonlocal noted
            noted = True
            store.reserve(self._run, bill, usd=most.usd, tokens=most.tokens, calls=0)

        token = when_reserved.set(note)
        try:
            yield account
        finally:
            when_reserved.reset(token)
            if noted or account.spent.calls:
                spent = account.spent
                store.charge(self._run, bill, usd=spent.usd, tokens=spent.tokens, calls=0, who=self._who)


# How the error of an answer begins that its scorer was never asked about in the end: the next sitting asks again.
NOT_ASKED = "not asked"


LATE = "the time cap was reached, and it had not come in after it"


class Ask(NamedTuple):
    """An answer to judge. `by_rule`: what needs no judge does not reach it; `repeat`: which run of the query in its cell it is."""

    query: Query
    answer: Answer
    by_rule: bool = True
    repeat: int = 0

    @property
    def key(self) -> str:
        """What answers share that are to be judged once: their query, their run of it, and all that they say.

        Other queries and other runs get verdicts of their own, so that one chance verdict does not count as several pieces of evidence.
        """
        return digest([self.query.digest, self.repeat, self.answer.text, self.answer.outcome, self.by_rule])


class Judged(NamedTuple):
    """The score; None: there is none, `error` says why."""

    value: float | None
    error: str | None = None


class Batch(Protocol):
    """Gives the scores of many answers at a time, where one at a time would take too long."""

    def many(self, asks: Sequence[Ask]) -> list[Judged]:
        """A score for each, in order. Raises `TargetFailure` or `InputError` when it cannot be asked at all."""

    def pay_from(self, purse: Purse) -> None:
        """From now on tokens and money are the run's."""

    def check_caps(self, account: Account) -> None:
        """Raises `ConfigError` when a cap of the account could not be kept. Spends nothing."""

    def close(self) -> None:
        """Let go of what is held between the calls."""


class Loop:
    """An event loop in a thread of its own, so that a notebook's running loop is no obstacle; there from first use to `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, Any], *, ends: float = math.inf) -> Any:
        """What `work` gives. Raises `TimeoutError` a grace time after `ends` (monotonic seconds): the loop is then left behind."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_turn, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()
        left = ends + GRACE_SECONDS - time.monotonic()
        if left <= 0:
            work.close()
            raise TimeoutError(LATE)
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result(timeout=None if left == math.inf else left)
        except TimeoutError:
            if not running.done():
                self._leave()
            raise TimeoutError(LATE) from None

    def _leave(self) -> None:
        """Cancel what is on the loop and wait for it no more; one that is blocked is left behind with its daemon thread."""
        loop, self._loop, self._thread = self._loop, None, None
        if loop is not None:
            loop.call_soon_threadsafe(_stop_loop_soon, loop)

    def close(self) -> None:
        """End what is left on it."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(cancel_others(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()  # one that was left behind too, once it comes back


def _stop_loop_soon(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(1.0, loop.stop)
