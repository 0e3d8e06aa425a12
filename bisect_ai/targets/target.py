"""The seam between a run and what answers, and the targets that ask nobody else: a function, past answers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from bisect_ai.canonical import digest
from bisect_ai.errors import Infeasible, QueryError
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
        self._answers: dict[tuple[str, frozenset[str], int], Answer] = {}
        self._cells: set[frozenset[str]] = set()
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
        self._cells.add(cell)
        self._answers[query, cell, repeat] = as_answer(record)

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
        return found

    def _is_bad(self, axis: str, release: Mapping[str, Any]) -> bool:
        return self._good.get(axis) != self._bad.get(axis) and release.get(axis) == self._bad.get(axis)
