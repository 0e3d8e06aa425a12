"""Targets that do not keep accounts themselves: what they say that an answer cost is known only afterwards."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from bisect_ai.queries.query import Query
from bisect_ai.replay.answer import Answer, Target, as_answer
from bisect_ai.replay.money import CRUMB, NOTHING, POLL_SECONDS, Account, Amount, Held


def usual_cost(account: Account) -> Amount:
    """What a call has cost on average so far, rounded up; nothing when there was none."""
    spent = account.spent
    return Amount(0, math.ceil(spent.tokens / spent.calls), spent.usd / spent.calls) if spent.calls else NOTHING


def metered(target: Target, account: Account, *, per_trial: float | None, usual: Amount) -> Target:
    """`target`, paid from `account`: by itself when it can (`pay_from`), else around each of its answers.

    `usual`: what an answer of it has cost on average in earlier sittings, nothing when that is not known.
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
    """

    def __init__(self, target: Target, account: Account, per_trial: float | None, usual: Amount) -> None:
        self._target, self._account = target, account
        self._most = Amount(0, usual.tokens, max(per_trial or 0.0, usual.usd))
        self._known, self._first = bool(usual.tokens or usual.usd), threading.Lock()
        self.unpriced = False
        """Whether an answer did not say what it cost."""
        self.identity, self.concurrency = target.identity, target.concurrency
        flag = getattr(target, "is_async", None)
        self.is_async = bool(flag) if flag is not None else inspect.iscoroutinefunction(type(target).__call__)

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Any:
        """What the target answers; raises `CapReached` instead of asking it."""
        return self._later(query, release, repeat) if self.is_async else self._now(query, release, repeat)

    def _now(self, *asked: Any) -> Any:
        while (first := self._goes_first()) is None:
            time.sleep(POLL_SECONDS)
        held, used = None, Amount()
        try:
            held = self._account.wait_for(self._next(first))
            answer = as_answer(self._target(*asked))
            used = self._used(answer)
            return answer
        finally:
            self._settle(held, used, first)

    async def _later(self, *asked: Any) -> Any:
        while (first := self._goes_first()) is None:
            await asyncio.sleep(POLL_SECONDS)
        held, used = None, Amount()
        try:
            held = await self._account.acquire(self._next(first))
            returned = self._target(*asked)
            answer = as_answer(await returned if inspect.isawaitable(returned) else returned)
            used = self._used(answer)
            return answer
        finally:
            self._settle(held, used, first)

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
            return self._most
        room = self._account.room()
        tokens = 0 if room.tokens is None else max(room.tokens, 1)
        usd = self._most.usd if room.usd is None else max(room.usd, self._most.usd, 2 * CRUMB)
        return Amount(0, tokens, usd)

    def _settle(self, held: Held | None, used: Amount, first: bool) -> None:
        if held is not None:
            self._account.settle(held, used)
        if first:
            self._first.release()

    def _used(self, answer: Answer) -> Amount:
        self._known = self._known or answer.error is None
        self.unpriced = self.unpriced or (answer.error is None and answer.usage.usd is None)
        used = Amount(0, answer.usage.tokens, answer.usage.usd or 0.0)
        self._most = Amount(0, max(self._most.tokens, used.tokens), max(self._most.usd, used.usd))
        return used
