"""The seam of scorers that ask a model, and how their calls are paid.

Many answers at a time, on an event loop of their own. Calls that are no trial, a judge's or an embedding model's, come out of the
run's account, so its caps hold for them too, and the next session starts from what they have cost: before a request leaves, the most
that it may cost is on record (where money or tokens are capped), and after it what it did cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from bisect_ai.canonical import digest
from bisect_ai.errors import StoreError
from bisect_ai.provider.budget import GRACE_SECONDS, NO_CAPS, NOTHING, Account, Amount, CapReached, Held, when_reserved
from bisect_ai.provider.usage import Usage
from bisect_ai.queries.query import Query
from bisect_ai.store.trial_store import Spent, Store
from bisect_ai.targets.answer import Answer


class Purse:
    """The run's account and journal; without them it counts only. `who` is paid, by the scorer's name."""

    def __init__(
        self,
        account: Account | None = None,
        store: Store | None = None,
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


class Common:
    """A run's account as all its processes and sittings keep it: the journal tells what the others have spent and set aside.

    `before`: a run that was paid for from the same account.
    """

    def __init__(self, store: Store, run: str, *, before: str = "") -> None:
        self._store, self._run, self._before = store, run, before
        store.new_sitting(run)

    def turn(self) -> AbstractContextManager[bool]:
        """Inside, no other process looks at the account or sets anything aside; True: `others` may say something new."""
        return self._store.turn()

    def others(self) -> tuple[Amount, Amount, Amount]:
        """What other processes and sittings have spent, what those that live have set aside, what their dearest answer cost."""
        spent = self._store.spending_of_others(self._run)
        gone, held = spent_and_held(spent)
        if self._before:
            gone += sum(spent_and_held(self._store.spending(self._before)), NOTHING)
        return gone, held, Amount(0, spent.dearest_tokens, spent.dearest_usd)


class Grant:
    """What one process elsewhere may spend of a run's account. Safe between threads.

    The journal has it on record: at any time no less than the process may still spend, and what came back and is not on record yet.
    """

    def __init__(self, account: Account, store: Store, run: str) -> None:
        self._account, self._store, self._run = account, store, run
        self._granted, self._spent, self._kept = NOTHING, NOTHING, NOTHING
        self._held = Held(NOTHING)
        self._noted: tuple[str, Amount] = ("", NOTHING)
        self._guard = threading.Lock()

    def more(self, most: Amount, times: int, *, knew: Amount) -> Amount | None:
        """What the process gets for calls of `most` each, `times` of them if there is room; None: it can never be.

        Nothing while others' reservations stand in the way, or when it asks (`knew`) without what is known by now of the usual cost.
        """
        with self._guard, self._account.turn():
            room, usual = self._account.room(), self._account.usual
            wanted = (most * times).within(room).larger(most.within(self._account.caps))
            if usual == NOTHING and self._spent == NOTHING:  # nobody knows what an answer costs: all that there is
                wanted = most.within(room)
            if knew != usual:  # it will ask for less, or more
                return NOTHING
            try:
                held = self._account.reserve(wanted) if wanted != NOTHING else None
            except CapReached:
                return None
            if held is None:
                return NOTHING
            self._granted += wanted
            self._held = Held(self._held.most + wanted)
            self._note(self._granted - self._kept)
            return wanted

    @property
    def is_open(self) -> bool:
        """Whether the process has something that it has not spent."""
        return self._held.most.within(self._account.caps) != NOTHING

    def told(self, granted: Amount, spent: Amount) -> None:
        """What the process has by now, less what it gave back, and has spent of it."""
        with self._guard:
            used, self._granted, self._spent = spent - self._spent, granted, spent
            self._held = self._account.turned(self._held, _positive(granted - spent), used)
            self._note_less(self._granted - self._kept)

    def kept(self, cost: Amount) -> None:
        """An answer of it is on record, with what it cost."""
        with self._guard:
            self._kept += cost
            self._account.usual = self._account.usual.larger(cost)
            self._note_less(self._granted - self._kept)

    def end(self, *, lost: bool) -> None:
        """The process is gone; `lost`: with calls under way, so that all that it could still spend counts as spent."""
        with self._guard:
            self._granted = self._spent + (self._held.most if lost else NOTHING)
            self._held = self._account.turned(self._held, NOTHING, self._held.most if lost else NOTHING)
            self._note_less(self._granted - self._kept)

    def _note_less(self, most: Amount) -> None:
        with contextlib.suppress(StoreError):  # the journal is in trouble: then more stays on record than need be
            self._note(most)

    def _note(self, most: Amount) -> None:
        """The new note first, then the end of the old one: there is no moment without."""
        (before, noted), most = self._noted, replace(_positive(most), calls=0)
        if most == noted:
            return
        name = digest({"grant": secrets.token_hex(16)}) if most != NOTHING else ""
        if name:
            self._store.reserve(self._run, name, usd=most.usd, tokens=most.tokens, calls=0)
        self._noted = name, most
        if before:
            self._store.charge(self._run, before, calls=0)


def _positive(amount: Amount) -> Amount:
    """Money to the nano-USD, as the journal adds it up."""
    return Amount(max(amount.calls, 0), max(amount.tokens, 0), max(round(amount.usd, 9), 0.0))


def spent_and_held(spent: Spent) -> tuple[Amount, Amount]:
    """What counts against a run's caps, also what may have been billed, at its upper bound; and what is under way.

    A call that failed counts for ever, and so do those of a process that was killed. A call under way counts at once: two processes
    that waited for each other's calls to be given back would wait for ever.
    """
    gone, doubtful, open_ = spent.killed, spent.doubtful, spent.unsettled
    under_way = open_.without(gone)
    calls = spent.calls + spent.charges + gone.counted + under_way.counted
    paid = Amount(calls, spent.tokens + gone.tokens + doubtful.tokens, spent.usd + gone.usd + doubtful.usd)
    return paid, Amount(0, under_way.tokens, under_way.usd)


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
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()  # one that was left behind too, once it comes back


def _stop_loop_soon(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(1.0, loop.stop)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
