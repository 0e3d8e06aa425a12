"""Scorers that ask a model through litellm, many answers at a time: a judge's verdicts, and nearness by embeddings."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bisect_ai.canonical import plain
from bisect_ai.errors import InputError, StoreError, TargetFailure
from bisect_ai.provider.budget import Account, CapReached
from bisect_ai.provider.usage import EMBEDDED_TOGETHER, LONGEST_EMBEDDED
from bisect_ai.scoring.judge import Judge, prompt, read_verdict, settled_by_rule
from bisect_ai.scoring.kinds import Bounds, logged_text
from bisect_ai.scoring.scorer_charges import NOT_ASKED, Ask, Judged, Loop, Purse

VERSION = 1  # of similarities: raised when one would change, and kept ones are not used then


@dataclass(frozen=True)
class Embedding:
    """Cosine similarity of the answer and the expected text, -1 to 1, by `model` (litellm's name or parameters)."""

    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[Bounds | None] = (-1.0, 1.0)
    unit: ClassVar[str] = "cosine"
    content: ClassVar[bool] = True
    model: str | dict[str, Any]
    expected: str = "reference"
    attempts: int = 6
    timeout: float = 60.0
    custom_providers: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, dict[str, float]] = field(default_factory=dict)

    def identity(self, folder: Path) -> dict[str, Any]:
        """Everything that can change a similarity."""
        from bisect_ai.provider.user_code import code_identity

        providers = {name: code_identity(spec, folder) for name, spec in self.custom_providers.items()}
        return {"version": VERSION, "model": plain(self.model), "expected": self.expected, "providers": providers}

    @property
    def parameters(self) -> dict[str, Any]:
        """litellm's parameters."""
        return {"model": self.model} if isinstance(self.model, str) else dict(self.model)


class ModelAtWork:
    """A scorer's model with its parameters, who pays for it, and the event loop of its calls. `writes`: whether it answers in text."""

    def __init__(self, settings: Judge | Embedding, *, folder: Path, whose: str, writes: bool) -> None:
        from bisect_ai.provider.completion import Completions, model_parameters
        from bisect_ai.provider.prices import checked_prices
        from bisect_ai.provider.retry import Wire

        self._parameters, self._writes = model_parameters({"model": settings.parameters}), writes
        self._completions = Completions(
            Wire(attempts=settings.attempts, timeout=settings.timeout, patient=False),
            timeout=settings.timeout,
            providers=settings.custom_providers,
            prices=checked_prices(settings.prices or None),
            folder=folder,
            whose=whose,
        )
        self._seconds = 3 * settings.timeout
        self._purse, self._loop = Purse(), Loop(f"bisect-ai-{whose}")

    @property
    def absent_keys(self) -> list[str]:
        """Variables without which the model's provider lets nobody in, and that are not set."""
        return self._completions.absent_keys(self._parameters)

    def pay_from(self, purse: Purse) -> None:
        """From now on tokens and money are the run's."""
        self._purse = purse

    def check_caps(self, account: Account) -> None:
        """Raises `ConfigError` when a cap of the account could not be kept. Spends nothing."""
        self._completions.check_caps(self._parameters, account, answers=self._writes)

    def close(self) -> None:
        """Let go of the event loop; the next answer starts another."""
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What the work gives. Raises `TimeoutError` when the run's time is over."""
        return self._loop.run(work, ends=self._purse.account.ends)


class Embedder(ModelAtWork):
    """An embedding model at work; a text is embedded once in a process."""

    def __init__(self, settings: Embedding, *, folder: Path) -> None:
        super().__init__(settings, folder=folder, whose="embedding", writes=False)
        self.expected = settings.expected  # the log's column that answers are compared with
        self._known: dict[str, tuple[float, ...]] = {}

    def many(self, asks: Sequence[Ask]) -> list[Judged]:
        """The similarity for each answer; None without an expected text or where the model could not be asked."""
        pairs = [(logged_text(ask.query.get(self.expected) or ""), ask.answer.text) for ask in asks]
        wanted = sorted({text[:LONGEST_EMBEDDED] for pair in pairs if all(pair) for text in pair} - self._known.keys())
        try:
            failed = self._run(self._embed_texts(wanted))
        except TimeoutError as error:
            failed = str(error)
        return [self._similar_texts(*pair, failed) for pair in pairs]

    async def _embed_texts(self, texts: list[str]) -> str | None:
        """Embeds them, in parts; why one of the parts could not be."""
        from bisect_ai.provider.redaction import describe
        from bisect_ai.provider.retry import CallFailed, RequestTally

        for start in range(0, len(texts), EMBEDDED_TOGETHER):
            part = texts[start : start + EMBEDDED_TOGETHER]
            try:
                with self._purse.opened() as account:
                    until = time.monotonic() + self._seconds
                    found = await self._completions.embed(
                        self._parameters, part, until=until, tally=RequestTally(), account=account
                    )
                self._purse.doubts(found.usage)
                self._known |= dict(zip(part, found.vectors, strict=True))
            except (CallFailed, CapReached) as error:
                return str(error)
            except (InputError, StoreError, TargetFailure):
                raise
            except Exception as error:  # a model that cannot be asked is no bad answer
                return describe(error)
        return None

    def _similar_texts(self, wanted: str, said: str, failed: str | None) -> Judged:
        import numpy as np

        if not wanted or not said:
            return Judged(None)
        vectors = [known for text in (wanted, said) if (known := self._known.get(text[:LONGEST_EMBEDDED])) is not None]
        if len(vectors) < 2:
            return Judged(None, f"{NOT_ASKED}, not embedded: {failed}")
        if len(vectors[0]) != len(vectors[1]):
            return Judged(None, "the model's vectors are not of one length")
        a, b = (np.array(v, float) / (max(map(abs, v)) or 1.0) for v in vectors)  # their product stays finite
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        return Judged(float(np.clip(a @ b / size, -1, 1))) if size else Judged(None, "a vector of zeros has no direction")


# Times that a verdict is asked for when the reply cannot be read.
ASKS = 2


class Bench(ModelAtWork):
    """What asks for a judge's verdicts."""

    def __init__(self, judge: Judge, *, folder: Path) -> None:
        super().__init__(judge, folder=folder, whose="judge", writes=True)
        self.judge = judge
        self.requests = 0
        # Names that the provider gave of the model that judged.
        self.models: set[str] = set()

    def many(self, asks: Sequence[Ask]) -> list[Judged]:
        """A verdict for each, in order.

        Raises `TargetFailure` when the credentials or the money are refused, `InputError` for wrong settings; a cap is an error
        of the verdict.
        """
        try:
            found: list[Judged] = self._run(self._judge_all(list(asks)))
        except TimeoutError as error:
            return [Judged(None, f"{NOT_ASKED}, unjudged: {error}")] * len(asks)
        return found

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
                    until = time.monotonic() + self._seconds
                    reply = await self._completions.ask(self._parameters, messages, until=until, tally=tally, account=account)
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
