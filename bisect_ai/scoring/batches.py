"""The seam of scorers that ask a model: many answers at a time, paid from the run's purse, on an event loop of their own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from bisect_ai.canonical import digest
from bisect_ai.provider.budget import GRACE_SECONDS, Account
from bisect_ai.queries.query import Query
from bisect_ai.scoring.scorer_charges import Purse
from bisect_ai.targets.answer import Answer

NOT_ASKED = "not asked"
"""How the error of an answer begins that its scorer was never asked about in the end: the next sitting asks again."""


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
            self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
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
        loop.close()


def _stop_loop_soon(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(1.0, loop.stop)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
