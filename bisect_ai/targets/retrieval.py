"""Which documents of the corpus axis does a question see? Every document is read once, whatever corpora and cells hold it.

The corpora of a search are mixtures of two and share nearly all documents. A mixture is a list of rows with how often each term
stands in it, so its scores are those of an index of its own: a row of another mixture adds nothing.
"""

from __future__ import annotations

import asyncio
import re
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bisect_ai.errors import ReleaseError

_TERM = re.compile(r"\b\w\w+\b")
"""Two characters or more, as scikit-learn's vectorizers read them by default."""
BLOCK = 20_000
"""Documents of which one block is made at most: bounds what reading and weighing hold at a time."""
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Block:
    """Postings of documents `first` to `first + size`, by term: those of `terms[i]` are `starts[i]` to `starts[i + 1]`."""

    first: int
    size: int
    terms: Ints
    starts: NDArray[np.int64]
    documents: Ints
    """Of each posting, counted from `first`."""
    counts: Ints

    def of(self, term: int) -> tuple[Ints, Ints]:
        """Rows that hold a term, counted from `first`, and how often."""
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return self.documents[:0], self.counts[:0]
        held = slice(self.starts[place], self.starts[place + 1])
        return self.documents[held], self.counts[held]

    def spread(self, of_terms: NDArray[Any]) -> NDArray[Any]:
        """A value for each term of the index as one for each posting."""
        return np.repeat(of_terms[self.terms], np.diff(self.starts))


def _blocked(first: int, size: int, terms: NDArray[Any], documents: NDArray[Any], counts: NDArray[Any]) -> _Block:
    """A block of postings that are sorted by term, then document."""
    names, starts = np.unique(terms, return_index=True)
    ends = np.append(starts, len(terms)).astype(np.int64)
    return _Block(first, size, names.astype(np.int32), ends, documents.astype(np.int32), counts.astype(np.int32))


def _merged_blocks(one: _Block, other: _Block) -> _Block:
    """Two blocks of neighbouring documents as one."""
    terms = np.concatenate([np.repeat(each.terms, np.diff(each.starts)) for each in (one, other)])
    documents = np.concatenate([one.documents, other.documents + np.int32(one.size)])
    order = np.argsort(terms, kind="stable")
    counts = np.concatenate([one.counts, other.counts])[order]
    return _blocked(one.first, one.size + other.size, terms[order], documents[order], counts)


class TermIndex:
    """The union of all documents seen, to which documents are added; not safe to add from two threads at once."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        self._blocks: tuple[_Block, ...] = ()
        self._lengths = np.empty(0, dtype=np.int32)

    def add(self, texts: Sequence[str]) -> None:
        """Reads further documents; their rows follow those that are there."""
        for start in range(0, len(texts), BLOCK):
            self._add(texts[start : start + BLOCK])

    def _add(self, texts: Sequence[str]) -> None:
        terms, lengths = array("i"), array("i")
        for text in texts:
            found = _TERM.findall(text.lower())
            lengths.append(len(found))
            terms.extend(map(self._numbers.__getitem__, found))
        size, spread = len(texts), np.repeat(np.arange(len(texts)), np.frombuffer(lengths, dtype=np.int32))
        pairs, counts = np.unique(np.frombuffer(terms, dtype=np.int32).astype(np.int64) * size + spread, return_counts=True)
        block = _blocked(len(self._lengths), size, pairs // size, pairs % size, counts)
        self._lengths = np.concatenate([self._lengths, np.frombuffer(lengths, dtype=np.int32)])
        blocks = [*self._blocks, block]
        # Documents that come by one or two make no long row of blocks: each is read again a logarithm of times.
        while len(blocks) > 1 and blocks[-2].size <= 2 * blocks[-1].size and blocks[-2].size + blocks[-1].size <= BLOCK:
            blocks[-2:] = [_merged_blocks(*blocks[-2:])]
        self._blocks = tuple(blocks)

    def tfidf(self, rows: Ints) -> Callable[[str], Floats]:
        """Cosine similarities of a question with the documents `rows`, shape (rows,), 0 when nothing is common.

        Weights are (1 + log count) * (1 + log((1 + n) / (1 + documents with the term))), as scikit-learn's
        `TfidfVectorizer(sublinear_tf=True)` fitted to these documents alone has them.
        """
        blocks, times = self._blocks, self._times(rows)
        holding = self._holding(blocks, times)
        n, norms = len(rows), np.zeros(len(self._lengths))
        weight = 1 + np.log((1 + n) / (1.0 + holding))
        for each in blocks:
            squares = (each.spread(weight) * _damped(each.counts)) ** 2
            norms[each.first : each.first + each.size] = np.sqrt(np.bincount(each.documents, squares, each.size))
        norms[norms == 0] = 1.0
        held = norms[rows]

        def scores(question: str) -> Floats:
            asked = {term: float(_damped(np.array([count]))[0]) for term, count in self._asked(question, holding)}
            weights = {term: by * float(1 + np.log((1 + n) / (1.0 + holding[term]))) for term, by in asked.items()}
            length = float(np.sqrt(sum(value**2 for value in weights.values()))) or 1.0
            found = np.zeros(len(norms))
            for term, value in weights.items():
                factor = value / length * float(1 + np.log((1 + n) / (1.0 + holding[term])))
                for first, documents, counts in _postings(blocks, term):
                    found[first + documents] += factor * _damped(counts)
            return found[rows] / held

        return scores

    def bm25(self, rows: Ints, k1: float = 1.2, b: float = 0.75) -> Callable[[str], Floats]:
        """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15) with the always positive idf of log(1 + …), shape (rows,)."""
        blocks, holding, n = self._blocks, self._holding(self._blocks, self._times(rows)), len(rows)
        lengths = self._lengths
        damping = k1 * (1 - b + b * lengths / max(lengths[rows].mean(), 1.0))

        def scores(question: str) -> Floats:
            found = np.zeros(len(lengths))
            for term, asked in self._asked(question, holding):
                idf = float(np.log1p((n - holding[term] + 0.5) / (holding[term] + 0.5)))
                for first, documents, counts in _postings(blocks, term):
                    at = first + documents
                    found[at] += asked * idf * counts * (k1 + 1) / (counts + damping[at])
            return found[rows]

        return scores

    def _times(self, rows: Ints) -> NDArray[np.int64]:
        """How often each document of the union stands in `rows`."""
        return np.bincount(rows, minlength=len(self._lengths))

    def _holding(self, blocks: Iterable[_Block], times: NDArray[np.int64]) -> Ints:
        """Documents of a mixture that hold each term, shape (terms,)."""
        holding = np.zeros(len(self._numbers), dtype=np.int32)
        for each in blocks:
            if len(each.documents):
                holding[each.terms] += np.add.reduceat(times[each.first + each.documents], each.starts[:-1]).astype(np.int32)
        return holding

    def _asked(self, question: str, holding: Ints) -> Iterator[tuple[int, int]]:
        """Terms of a question that the mixture has, in the order of their numbers, and how often each is asked for."""
        known = [self._numbers[each] for each in _TERM.findall(question.lower()) if each in self._numbers]
        for term, count in zip(*np.unique(np.array(known, dtype=np.int64), return_counts=True), strict=True):
            if term < len(holding) and holding[term]:
                yield int(term), int(count)


def _postings(blocks: Iterable[_Block], term: int) -> Iterator[tuple[int, Ints, Ints]]:
    for each in blocks:
        documents, counts = each.of(term)
        if len(documents):
            yield each.first, documents, counts


def _damped(counts: NDArray[Any]) -> Floats:
    return np.asarray(1 + np.log(counts), dtype=np.float64)


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
    import numpy as np

    scores = np.round(scores, DECIMALS)
    places = np.flatnonzero(scores > 0)
    if k is not None and len(places) > k > 0:
        least = np.partition(scores[places], -k)[-k]
        places = places[scores[places] >= least]
    found: list[int] = places[np.argsort(-scores[places], kind="stable")][:k].tolist()
    return found


class Indexes:
    """Indexes of corpora over the union of their documents. The same corpus object is not read twice; the oldest are forgotten."""

    def __init__(self) -> None:
        self._terms: Any = None
        self._places: dict[Document, int] = {}
        self._documents: list[Document] = []
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
        documents = read_documents(axis["documents"])
        kind, k = _retriever(axis.get("retriever"))
        if kind == "none" or not documents:
            return CorpusIndex(documents, None, k)
        rows = self._rows(documents)
        key = kind, k, rows.tobytes()
        index = self._by_content.get(key)
        if index is None:
            scores = getattr(self._terms, kind)(rows)
            index = CorpusIndex(tuple(map(self._documents.__getitem__, rows.tolist())), scores, k)
        _remember(self._by_content, key, index)
        return index

    def _rows(self, documents: Sequence[Document]) -> Any:
        """The rows of documents in the index of terms, to which those that are new are added."""
        import numpy as np

        new = [each for each in dict.fromkeys(documents) if each not in self._places]
        self._terms = self._terms or TermIndex()
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
