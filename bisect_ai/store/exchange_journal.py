"""What a run's program asked its provider on the wire, and was answered, kept in the run's store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bisect_ai.provider.budget import Account
from bisect_ai.store.trial_store import Store


class ExchangeJournal:
    """One run's exchanges. Safe between threads."""

    def __init__(self, store: Store, run: str, account: Account) -> None:
        self._store, self._run, self._account = store, run, account

    @property
    def requests(self) -> int:
        """How many were kept, in all sittings of the run."""
        return self._store.exchanges_of(self._run)

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """The answer that was kept for an identity, by whatever run."""
        return self._store.exchange(identity)

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep an answer to one query; it reaches the disk with the trial, and survives a kill before that. Raises `StoreError`."""
        self._store.keep_exchange(self._run, identity, query, record)

    def stop(self, why: str) -> None:
        """The run ends: a cap was reached."""
        self._account.stopped = self._account.stopped or why
