"""An index of embeddings over the union of all documents seen, of which any mixture of documents is a list of rows of one matrix.

Each text is embedded once: its vector is looked up in the run's store first, and kept there. What a vector cost is the run's, as a
scorer's calls are, and no call of a trial.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bisect_ai.canonical import digest
from bisect_ai.errors import BisectError
from bisect_ai.provider.budget import Account, trip
from bisect_ai.provider.completion import Completions
from bisect_ai.provider.retry import CallFailed, RequestTally
from bisect_ai.provider.usage import EMBEDDED_TOGETHER, LONGEST_EMBEDDED
from bisect_ai.provider.user_code import code_identity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Requests under way while a corpus is embedded.
AT_ONCE = 8
# Texts that a corpus hands over at a time: their vectors are held as lists until all of them have come.
READ_TOGETHER = 4 * AT_ONCE * EMBEDDED_TOGETHER
# Decimals of a similarity that rank: 32-bit sums over some thousand numbers differ beyond, by the order in which they are
# added.
DIGITS = 6
# Significant digits that tell one 32-bit number from all others.
_PLACES = 9
Floats: TypeAlias = "NDArray[np.float32]"
# Texts, and the id of the query that they come from, to an awaitable list of their vectors.
Embed = Callable[[Sequence[str], str], Any]


class VectorBook(Protocol):
    """What keeps a run's vectors, and pays for them."""

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """What was kept for an identity, by whatever run."""

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep a vector; the id of the query that its text comes from, if any. Raises `StoreError`."""

    def opened(self) -> AbstractContextManager[Account]:
        """An account for one request."""


class NoBook:
    """Keeps nothing and pays from nowhere: for a target outside a run."""

    def find(self, identity: str) -> None:
        """Nothing."""

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def opened(self) -> AbstractContextManager[Account]:
        """An account without caps."""
        return nullcontext(Account())


class Embedders:
    """What embeds the texts of one target, by the parameters of its models; `book` keeps the vectors and pays for them."""

    def __init__(self, models: Completions, providers: Mapping[str, Any], *, folder: Path, seconds: float) -> None:
        self.models, self.seconds = models, seconds
        self._providers, self._folder = providers, folder
        self.book: VectorBook = NoBook()

    def keep_in(self, book: VectorBook) -> None:
        """From now on vectors are looked up there, kept and paid."""
        self.book = book

    def of(self, parameters: Mapping[str, Any]) -> TextVectors:
        """What embeds by one model; code of the user's that answers for it is part of a vector's identity."""
        provider = self._providers.get(str(parameters["model"]).partition("/")[0])
        who = None if provider is None else code_identity(provider, self._folder)
        return TextVectors(self, parameters, digest({"parameters": dict(parameters), "provider": who}))


class TextVectors:
    """Vectors of texts by one model. Raises `CallFailed` for a model that cannot be asked, or whose answer is no vectors."""

    def __init__(self, shared: Embedders, parameters: Mapping[str, Any], identity: str) -> None:
        self._shared, self._parameters, self._identity = shared, parameters, identity
        self._together = EMBEDDED_TOGETHER  # texts of a request, fewer once the model has refused so many

    async def __call__(self, texts: Sequence[str], query: str = "") -> list[Sequence[float]]:
        """One vector for each text, which is cut after `LONGEST_EMBEDDED` characters. What a request brings is kept if others fail."""
        # Half of a pair of surrogates, as JSON may hold it, cannot be sent.
        cut = [text[:LONGEST_EMBEDDED].encode("utf-8", "replace").decode() for text in texts]
        names = {text: digest({"embedding": self._identity, "text": text}) for text in cut}
        found = {text: vector for text, name in names.items() if (vector := self._kept(name)) is not None}
        lacking = [text for text in names if text not in found]
        parts = [lacking[at : at + self._together] for at in range(0, len(lacking), self._together)]
        gate, failures = asyncio.Semaphore(AT_ONCE), list[BisectError | TimeoutError]()

        async def fill(part: Sequence[str]) -> None:
            async with gate:
                try:
                    if not failures:
                        await self._fill(part, names, query, found)
                except (BisectError, TimeoutError) as failed:
                    failures.append(failed)

        await asyncio.gather(*map(fill, parts))
        if failures:
            raise failures[0]
        return [found[text] for text in cut]

    async def _fill(
        self, texts: Sequence[str], names: Mapping[str, str], query: str, found: dict[str, Sequence[float]]
    ) -> None:
        """Adds the vectors of texts to those found. A request that is refused is sent in halves: it may be too much at once."""
        try:
            vectors = await self._asked(texts)
        except CallFailed as failed:
            if failed.outcome != "failed":
                raise
            if len(texts) == 1:
                told = f"{failed} (the text of {len(texts[0]):,} characters that begins {texts[0][:40]!r})"
                raise CallFailed(told, outcome=failed.outcome) from failed
            half = (len(texts) + 1) // 2
            await self._fill(texts[:half], names, query, found)
            self._together = min(self._together, half)
            await self._fill(texts[half:], names, query, found)
            return
        for text, vector in zip(texts, vectors, strict=True):
            found[text] = list(map(float, (f" %.{_PLACES}g" * len(vector) % tuple(vector)).split()))
            self._shared.book.keep(names[text], query, {"vector": found[text]})

    def _kept(self, name: str) -> Sequence[float] | None:
        vector = (self._shared.book.find(name) or {}).get("vector")
        if not isinstance(vector, list | tuple) or not vector or not set(map(type, vector)) <= {float, int}:
            return None
        return vector if all(map(math.isfinite, vector)) else None

    async def _asked(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        trip.set(None)  # no call of the trial that waits for it
        with self._shared.book.opened() as account:
            until = time.monotonic() + self._shared.seconds
            found = await self._shared.models.embed(self._parameters, texts, until=until, tally=RequestTally(), account=account)
        return found.vectors


class VectorIndex:
    """The union of all documents seen, one row of unit length each; not safe to add to from two threads at once."""

    def __init__(self, embed: Embed) -> None:
        import numpy as np

        self._embed = embed
        self._texts: list[str] = []
        self._matrix: Floats = np.zeros((0, 0), dtype=np.float32)
        self._filled = 0
        self._questions: dict[str, Floats] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def add(self, texts: Sequence[str]) -> None:
        """Reads further documents; their rows follow those that are there. `fill` has them embedded."""
        self._texts += texts

    async def fill(self) -> None:
        """Returns when all documents have their vectors. Raises what the model's call raises, and `CallFailed`."""
        async with self._door():
            while self._filled < len(self._texts):
                self._append(await self._embed(self._texts[self._filled : self._filled + READ_TOGETHER], ""))

    async def ask(self, question: str, query: str) -> None:
        """Returns when a question has its vector; one request for all who ask at the same time. Raises as `fill`."""
        if question in self._questions:
            return
        task = self._asking.get(question)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = self._asking[question] = asyncio.create_task(self._ask(question, query))
            task.add_done_callback(lambda done: (self._asking.pop(question, None), done.cancelled() or done.exception()))
        await asyncio.shield(task)

    async def _ask(self, question: str, query: str) -> None:
        (self._questions[question],) = self._unit(await self._embed([question], query))

    def knows(self, question: str) -> bool:
        """Whether a search for it needs no call."""
        return question in self._questions and self._filled == len(self._texts)

    def embedding(self, rows: NDArray[np.int32]) -> Callable[[str], NDArray[np.float64]]:
        """A question to 1 plus its cosine with each document of a mixture, shape (rows,): 0 is the very opposite."""
        import numpy as np

        def scores(question: str) -> NDArray[np.float64]:
            near = self._matrix[: self._filled] @ self._questions[question]
            return np.asarray(np.round(1.0 + near[rows].astype(np.float64), DIGITS))

        return scores

    def _append(self, vectors: Sequence[Sequence[float]]) -> None:
        import numpy as np

        rows = self._unit(vectors)
        if len(self._matrix) < self._filled + len(rows):
            larger = np.zeros((len(self._texts), rows.shape[1]), dtype=np.float32)
            larger[: self._filled] = self._matrix[: self._filled] if self._filled else 0
            self._matrix = larger
        self._matrix[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def _unit(self, vectors: Sequence[Sequence[float]]) -> Floats:
        import numpy as np

        lengths = {len(vector) for vector in vectors}
        if len(lengths | ({self._matrix.shape[1]} if self._filled else set())) > 1:
            raise CallFailed("the model's vectors are not of one length", outcome="malformed")
        found = np.array(vectors, dtype=np.float64)
        largest = np.abs(found).max(axis=1, keepdims=True, initial=0.0)
        found /= np.where(largest > 0, largest, 1.0)  # squares stay finite
        sizes = np.linalg.norm(found, axis=1, keepdims=True)
        return (found / np.where(sizes > 0, sizes, 1.0)).astype(np.float32)

    def _door(self) -> asyncio.Lock:
        """One filling at a time: who comes meanwhile waits for its end."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Lock()
        return self._gate[1]
