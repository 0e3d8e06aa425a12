"""Pays for calls that are no trial of their own, a judge's or an embedding model's, and notes in the journal what they cost.

They come out of the run's account, so its caps hold for them too, and the next sitting starts from what they have cost: before a
request leaves, the most that it may cost is on record (where money or tokens are capped), and after it what it did cost.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from bisect_ai.canonical import digest
from bisect_ai.replay.money import NO_CAPS, Account, Amount, when_reserved
from bisect_ai.replay.store import Spent, Store


class Purse:
    """The run's account and journal; without them it counts only. `who` is paid, by the scorer's name."""

    def __init__(self, account: Account | None = None, store: Store | None = None, *, run: str = "", who: str = "") -> None:
        self.account = account or Account()
        self._store, self._run, self._who = store, run, who

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
    """A run's account as all its processes and sittings keep it: the journal tells what the others have spent and set aside."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        store.new_sitting(run)

    def turn(self) -> AbstractContextManager[bool]:
        """Inside, no other process looks at the account or sets anything aside; True: `others` may say something new."""
        return self._store.turn()

    def others(self) -> tuple[Amount, Amount, Amount]:
        """What other processes and sittings have spent, what those that live have set aside, what their dearest answer cost."""
        spent = self._store.spending_of_others(self._run)
        return *spent_and_held(spent), Amount(0, spent.dearest_tokens, spent.dearest_usd)


def spent_and_held(spent: Spent) -> tuple[Amount, Amount]:
    """What counts against a run's caps, also what may have been billed, at its upper bound; and what is under way.

    A call that failed counts for ever, and so do those of a process that was killed.
    """
    gone, doubtful, open_ = spent.killed, spent.doubtful, spent.unsettled
    calls = spent.calls + spent.charges + gone.counted
    paid = Amount(calls, spent.tokens + gone.tokens + doubtful.tokens, spent.usd + gone.usd + doubtful.usd)
    under_way = open_.without(gone)
    return paid, Amount(under_way.counted, under_way.tokens, under_way.usd)
