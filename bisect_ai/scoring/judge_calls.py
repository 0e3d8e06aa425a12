"""A judge at work: verdicts asked of a model, many at a time, paid from the run's account."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from bisect_ai.errors import InputError, StoreError, TargetFailure
from bisect_ai.provider.budget import Account, CapReached
from bisect_ai.scoring.judge import Judge, prompt, read_verdict, settled_by_rule
from bisect_ai.scoring.scorer_charges import NOT_ASKED, Ask, Judged, Loop, Purse

# Times that a verdict is asked for when the reply cannot be read.
ASKS = 2


class Bench:
    """What asks for a judge's verdicts."""

    def __init__(self, judge: Judge, *, folder: Path) -> None:
        from bisect_ai.provider.completion import Completions, model_parameters
        from bisect_ai.provider.prices import checked_prices
        from bisect_ai.provider.retry import Wire

        self.judge = judge
        self.requests = 0
        # Names that the provider gave of the model that judged.
        self.models: set[str] = set()
        self._parameters = model_parameters({"model": judge.parameters})
        self._asking = Completions(
            Wire(attempts=judge.attempts, timeout=judge.timeout, patient=False),
            timeout=judge.timeout,
            providers=judge.custom_providers,
            prices=checked_prices(judge.prices or None),
            folder=folder,
            whose="judge",
        )
        self._purse = Purse()
        self._thread = Loop("bisect-ai-judge")

    def pay_from(self, purse: Purse) -> None:
        """From now on tokens and money are the run's."""
        self._purse = purse

    @property
    def absent_keys(self) -> list[str]:
        """Variables without which the judge's provider lets nobody in, and that are not set."""
        return self._asking.absent_keys(self._parameters)

    def check_caps(self, account: Account) -> None:
        """Raises `ConfigError` when a cap of the account could not be kept. Spends nothing."""
        self._asking.check_caps(self._parameters, account)

    def many(self, asks: Sequence[Ask]) -> list[Judged]:
        """A verdict for each, in order.

        Raises `TargetFailure` when the credentials or the money are refused, `InputError` for wrong settings; a cap is an error
        of the verdict.
        """
        try:
            found: list[Judged] = self._thread.run(self._judge_all(list(asks)), ends=self._purse.account.ends)
        except TimeoutError as error:
            return [Judged(None, f"{NOT_ASKED}, unjudged: {error}")] * len(asks)
        return found

    def close(self) -> None:
        """Let go of the event loop; the next verdict starts another."""
        self._thread.close()

    async def _judge_all(self, asks: list[Ask]) -> list[Judged]:
        gate = asyncio.Semaphore(self.judge.concurrency)

        async def one(ask: Ask) -> Judged:
            async with gate:
                return await self._judge_one(ask)

        return list(await asyncio.gather(*(one(ask) for ask in asks)))

    async def _judge_one(self, ask: Ask) -> Judged:
        if ask.by_rule and settled_by_rule(ask.answer, self.judge):
            return Judged(0.0)
        if self.judge.mode == "pointwise":
            return await self._one_verdict(ask, swapped=None)
        if ask.query.get(self.judge.against) in (None, ""):
            return Judged(None)
        sides = [await self._one_verdict(ask, swapped=swapped) for swapped in (False, True)]
        values = [side.value for side in sides]
        if values[0] is None or values[1] is None:
            return next(side for side in sides if side.value is None)
        return Judged((values[0] + values[1]) / 2)

    async def _one_verdict(self, ask: Ask, *, swapped: bool | None) -> Judged:
        from bisect_ai.provider.retry import CallFailed, RequestTally

        why = ""
        for _ in range(ASKS):
            check, tally = secrets.token_hex(8), RequestTally()
            messages = prompt(ask, self.judge, check=check, mark=secrets.token_hex(8), swapped=swapped)
            try:
                with self._purse.opened() as account:
                    until = time.monotonic() + 3 * self.judge.timeout
                    reply = await self._asking.ask(self._parameters, messages, until=until, tally=tally, account=account)
            except (CallFailed, CapReached) as error:
                return Judged(None, f"{NOT_ASKED}, unjudged: {error}")
            except (InputError, StoreError, TargetFailure):
                raise
            except Exception as error:  # a judge that cannot be asked is no bad answer
                return Judged(None, f"{NOT_ASKED}, unjudged: {type(error).__name__}: {error}")
            finally:
                self.requests += tally.requests
            self._purse.doubts(reply.usage)
            self.models.add(reply.model or "unnamed")
            grade, why = read_verdict(reply.text if reply.outcome == "ok" else "", check, self.judge)
            if grade is not None:
                return Judged(1 - grade if swapped else grade)
        return Judged(None, f"unjudged: {why}")
