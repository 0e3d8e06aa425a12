"""A run's account beside its store: what all its processes and sessions spend of it, and what is set aside.

`Common` is the account as the journal tells it; `Grant` what one process elsewhere may spend of it. `ExchangeJournal` and
`VectorJournal` keep what a run's program was answered on the wire and its retriever's vectors, paid from the same account.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import Config
from bisect_ai.errors import StoreError
from bisect_ai.provider.budget import NOTHING, Account, Amount, CapReached, Caps, Held
from bisect_ai.runs.ledger import Before, Spending
from bisect_ai.scoring.scorer_charges import Purse
from bisect_ai.store.trial_store import Spent, Store


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


def caps_of(config: Config, before: Before = Before()) -> Caps:  # noqa: B008  # frozen
    """The caps on what a run may spend; its minutes less those that are gone."""
    budget = config.budget
    minutes = None if budget.minutes is None else max(budget.minutes - before.minutes, 0.0)
    return Caps(calls=budget.calls, usd=budget.usd, tokens=budget.tokens, minutes=minutes)


class ExchangeJournal:
    """One run's exchanges. Safe between threads."""

    def __init__(self, store: Store, run: str, account: Account, *, before: str = "") -> None:
        self._store, self._run, self._account, self._before = store, run, account, before
        self._requests: RequestAccount | None = None

    def account(self, most: int | None) -> Account:
        """What the requests of the run's programs come out of, in all its sittings and processes, and before it."""
        self._requests = self._requests or RequestAccount(self._store, self._run, most, self._account, before=self._before)
        return self._requests

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """The answer that was kept for an identity, by whatever run."""
        return self._store.exchange(identity)

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep an answer to one query; it reaches the disk with the trial, and survives a kill before that. Raises `StoreError`."""
        self._store.keep_exchange(self._run, identity, query, record)


class VectorJournal:
    """The vectors of a run's retriever: kept in its store for whatever run, paid from its account as a scorer's calls are."""

    def __init__(self, store: Store, run: str, account: Account, *, hear: Callable[[str], None]) -> None:
        self._store, self._run = store, run
        self.opened = Purse(account, store, run=run, who="retriever", hear=hear).opened

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """What was kept for an identity."""
        return self._store.exchange(identity)

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep a vector; a killed process does not lose it. Raises `StoreError`."""
        self._store.keep_exchange(self._run, identity, query, record)


class RequestAccount(Account):
    """Requests on the wire, each on record before it leaves; one that failed counts too. None leaves once the run's time is up."""

    def __init__(self, store: Store, run: str, most: int | None, whole: Account, *, before: str = "") -> None:
        self._store, self._run, self._whole = store, run, whole
        super().__init__(Caps(calls=most), shared=None if most is None else _CommonRequests(store, run, before))

    def check_time(self) -> None:
        """Raises `CapReached` when the run's time is up."""
        self._whole.check_time()

    def settle(self, held: Held, used: Amount) -> None:
        """A request's end: it was sent, or not."""
        super().settle(held, used)
        if self._shared is not None and used.calls < held.most.calls:
            self._store.sends(self._run, used.calls - held.most.calls)

    def _noted(self, held: Held) -> Held:
        if self._shared is not None:
            try:
                self._store.sends(self._run, held.most.calls)
            except BaseException:
                super().settle(held, NOTHING)
                raise
        return held

    def _stop(self, cap: str, what: str) -> None:
        del cap, what  # its only cap is on requests
        sent = f"{self.spent.calls} of {self.caps.calls} requests left"
        self._whole.stopped = self._whole.stopped or f"stopped at the request cap: {sent} (budget.requests)"
        raise CapReached(self._whole.stopped, cap="requests", account=self)


class _CommonRequests(Common):
    """A run's requests as its journal counts them; one under way counts at once."""

    def __init__(self, store: Store, run: str, before: str) -> None:
        self._store, self._run, self._before = store, run, before  # the run's sitting has begun

    def others(self) -> tuple[Amount, Amount, Amount]:
        """As of `Shared`, in calls."""
        earlier = self._store.spending(self._before).requests if self._before else 0
        return Amount(self._store.spending_of_others(self._run).requests + earlier), NOTHING, NOTHING


@dataclass(frozen=True)
class Unfinished:
    """A command that ended without a verdict: its run in the store, and what it has cost in all sessions, with what it ran before."""

    run: str
    spent: Spending
    # Calls of this session that were under way when it ended, and whose answers it did not wait for.
    given_up: int = 0
    good: str = ""
    bad: str = ""
    metric: str = ""


@contextlib.contextmanager
def cost_noted(store: Store, *, before: str = "", **names: str) -> Iterator[None]:
    """Inside, whatever is raised carries what was paid for: `unfinished_of` reads it. `names`: good, bad, metric."""
    began = time.monotonic()
    try:
        yield
    except BaseException as error:
        runs = list(store.sittings)
        if runs and unfinished_of(error) is None:
            spent = reduce(Spending.beside, (spent_on(store, each) for each in (*runs, before) if each))
            lasted = max(spent.seconds, round(time.monotonic() - began, 3))  # this sitting's own are noted at its end only
            unfinished = Unfinished(
                runs[-1], replace(spent, seconds=lasted), sum(map(partial(_open_calls, store), runs)), **names
            )
            error.unfinished = unfinished  # type: ignore[attr-defined]  # whatever was raised: also what is no error of ours
        raise


def _open_calls(store: Store, run: str) -> int:
    """Calls of this session that have no outcome."""
    return store.spending(run).unsettled.counted - store.spending_of_others(run).unsettled.counted


def unfinished_of(error: BaseException | None) -> Unfinished | None:
    """What the work that an error ended had cost; None: nothing was begun, or nobody noted it."""
    while error is not None:
        if isinstance(found := getattr(error, "unfinished", None), Unfinished):
            return found
        error = error.__cause__ or error.__context__
    return None


def spent_on(store: Store, run: str, *, trials: int = 0) -> Spending:
    """What a run has cost in all its sessions, of which `trials` are observed."""
    paid = store.spending(run)
    doubts = round(paid.unsettled.usd + paid.doubtful.usd, 6)
    calls = paid.calls + paid.charges + paid.killed.counted  # what the caps count
    return Spending(calls, max(0, trials - paid.trials), paid.errors, round(paid.usd, 6), paid.tokens, paid.seconds, doubts)


def paid_in_all(store: Store, run: str, before: Before, *, trials: int) -> Spending:
    """What was paid for in the whole run, and before it."""
    paid = spent_on(store, run, trials=trials)
    return paid.beside(spent_on(store, before.run)) if before.run else paid
