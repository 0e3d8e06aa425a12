"""The seam between a run and what answers: one call, its name and its pace."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer


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
