"""Which documents of the corpus axis does a question see? Every document is read once, whatever corpora and cells hold it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from bisect_ai.errors import ReleaseError
from bisect_ai.targets.term_index import Ints, TermIndex

DEFAULT_K = 4
REMEMBERED_CORPORA = 64
REMEMBERED_QUESTIONS = 50_000

DECIMALS = 12
"""Of a score that ranks: beyond them are roundings, which depend on what was read before, and documents that tie go by their place."""
LONG = 10_000
"""Documents from which on a search takes long enough, a millisecond, to be kept off the event loop."""
KINDS = ("tfidf", "bm25", "none")

Scores = Callable[[str], Any]
"""A question to an array of one score per document, shape (documents,); 0 means nothing in common."""


class Document(NamedTuple):
    """One document of the corpus: its id (the relative path of a folder of files) and its text."""

    id: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON, as `Answer.documents` keeps it."""
        return {"id": self.id, "text": self.text}


@dataclass
class CorpusIndex:
    """One corpus made searchable; remembers what each question found."""

    documents: tuple[Document, ...]
    scores: Scores | None
    k: int | None
    _found: dict[str, tuple[Document, ...]] = field(default_factory=dict, repr=False)

    def search(self, question: str) -> tuple[Document, ...]:
        """The documents for `question`, best first, ties in corpus order. Retriever `none`: the first k."""
        if question not in self._found:
            if len(self._found) >= REMEMBERED_QUESTIONS:
                self._found.clear()
            self._found[question] = self._search(question)
        return self._found[question]

    def knows(self, question: str) -> bool:
        """Whether a search for it takes no time."""
        return question in self._found or self.scores is None

    def _search(self, question: str) -> tuple[Document, ...]:
        if self.scores is None or not self.documents:
            return self.documents[: self.k]
        return tuple(self.documents[i] for i in _best(self.scores(question), self.k))


def _best(scores: Any, k: int | None) -> list[int]:
    """Places of the k highest scores above 0, best first, ties by place."""
    scores = np.round(scores, DECIMALS)
    places = np.flatnonzero(scores > 0)
    if k is not None and len(places) > k > 0:
        least = np.partition(scores[places], -k)[-k]
        places = places[scores[places] >= least]
    found: list[int] = places[np.argsort(-scores[places], kind="stable")][:k].tolist()
    return found


_NOTHING = (object(), -1)


class Indexes:
    """Indexes of corpora over the union of their documents. The same corpus object is not read twice; the oldest are forgotten."""

    def __init__(self) -> None:
        self._terms = TermIndex()
        self._places: dict[Document, int] = {}
        self._documents: list[Document] = []
        self._last: dict[Any, tuple[Any, int]] = {}
        """Name to the text that stood under it last, and its row."""
        self._alone = Lock()
        self._by_content: OrderedDict[Any, CorpusIndex] = OrderedDict()
        # The object is held beside its index, so that its id cannot be given to another object meanwhile.
        self._by_object: OrderedDict[int, tuple[Any, CorpusIndex]] = OrderedDict()
        self._reading: dict[int, asyncio.Task[CorpusIndex]] = {}

    async def find(self, corpus: Any, question: str) -> tuple[Document, ...]:
        """`get` and `search` without holding the event loop up. Raises what `get` raises."""
        known = self._by_object.get(id(corpus))
        index = known[1] if known is not None else await asyncio.shield(self._read(corpus))
        if len(index.documents) < LONG or index.knows(question):
            return index.search(question)
        return await asyncio.to_thread(index.search, question)

    def _read(self, corpus: Any) -> asyncio.Task[CorpusIndex]:
        """The one reading of a corpus for all who wait for it."""
        place = id(corpus)
        if place not in self._reading:
            task = self._reading[place] = asyncio.create_task(asyncio.to_thread(self.get, corpus))
            task.add_done_callback(lambda done: (self._reading.pop(place), done.cancelled() or done.exception()))
        return self._reading[place]

    def get(self, corpus: Any) -> CorpusIndex:
        """The index of a corpus axis, built if it is new. Raises `ReleaseError` for a corpus that cannot be read."""
        with self._alone:
            known = self._by_object.get(id(corpus))
            if known is not None:
                return known[1]
            index = self._built(corpus)
            _remember(self._by_object, id(corpus), (corpus, index))
            return index

    def _built(self, corpus: Any) -> CorpusIndex:
        axis = corpus if isinstance(corpus, Mapping) and "documents" in corpus else {"documents": corpus}
        given = axis["documents"]
        kind, k = _retriever(axis.get("retriever"))
        if kind == "none" or not given:
            return CorpusIndex(read_documents(given), None, k)
        rows = self._named_rows(given) if isinstance(given, Mapping) else self._rows(read_documents(given))
        key = kind, k, rows.tobytes()
        index = self._by_content.get(key)
        if index is None:
            scores = getattr(self._terms, kind)(rows)
            index = CorpusIndex(tuple(map(self._documents.__getitem__, rows.tolist())), scores, k)
        _remember(self._by_content, key, index)
        return index

    def _named_rows(self, given: Mapping[Any, Any]) -> Ints:
        """The rows of documents by name. A text that stood under its name in the last corpus, the same object, is not looked up."""
        names, last = sorted(given), self._last
        others = [name for name in names if last.get(name, _NOTHING)[0] is not given[name]]
        rows = self._rows([Document(str(name), _document_text(given[name], name)) for name in others])
        last.update((name, (given[name], row)) for name, row in zip(others, rows.tolist(), strict=True))
        return np.fromiter((last[name][1] for name in names), dtype=np.int32, count=len(names))

    def _rows(self, documents: Sequence[Document]) -> Ints:
        """The rows of documents in the index of terms, to which those that are new are added."""
        new = [each for each in dict.fromkeys(documents) if each not in self._places]
        self._terms.add([f"{each.id}\n{each.text}" for each in new])
        self._places.update(zip(new, range(len(self._documents), len(self._documents) + len(new)), strict=True))
        self._documents += new
        return np.fromiter(map(self._places.__getitem__, documents), dtype=np.int32, count=len(documents))


def build_index(corpus: Any) -> CorpusIndex:
    """The index of a corpus axis: `{documents, retriever: {kind: tfidf | bm25 | none, k}}`, or the documents alone."""
    return Indexes().get(corpus)


def read_documents(value: Any) -> tuple[Document, ...]:
    """Documents of a mapping id -> text, or a list of `{id, text}` or texts. Raises `ReleaseError` otherwise."""
    if isinstance(value, Mapping):
        return tuple(Document(str(name), _document_text(text, name)) for name, text in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(_listed_document(item, place) for place, item in enumerate(value))
    if value is None:
        return ()
    raise ReleaseError(f"cannot read corpus.documents: it is a {type(value).__name__}; give a mapping or a list")


def _listed_document(item: Any, place: int) -> Document:
    if isinstance(item, Mapping):
        return Document(str(item.get("id", place)), _document_text(item.get("text"), item.get("id", place)))
    return Document(str(place), _document_text(item, place))


def _document_text(value: Any, name: Any) -> str:
    if isinstance(value, str):
        return value
    raise ReleaseError(f"cannot read document {name!r} of the corpus: its text is a {type(value).__name__}, not a string")


def _retriever(value: Any) -> tuple[str, int | None]:
    settings = value if isinstance(value, Mapping) else {"kind": value or "tfidf"}
    kind = str(settings.get("kind", "tfidf"))
    if kind not in KINDS:
        raise ReleaseError(f"cannot read corpus.retriever: kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
    k = settings.get("k", None if kind == "none" else DEFAULT_K)
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 0):
        raise ReleaseError(f"cannot read corpus.retriever: k is {k!r}; give a whole number, 0 or more")
    return kind, k


def _remember(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED_CORPORA:
        table.popitem(last=False)
