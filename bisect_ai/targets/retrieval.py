"""Which documents of the corpus axis does a question see? Indexes are built once per corpus and shared by all cells."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import digest, plain
from bisect_ai.errors import ReleaseError

DEFAULT_K = 4
REMEMBERED_CORPORA = 64
REMEMBERED_QUESTIONS = 50_000

Scores = Callable[[str], Any]
"""A question to an array of one score per document, shape (documents,); 0 means nothing in common."""


@dataclass(frozen=True)
class Document:
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

    def _search(self, question: str) -> tuple[Document, ...]:
        if self.scores is None or not self.documents:
            return self.documents[: self.k]
        scores = self.scores(question)
        order = sorted(range(len(self.documents)), key=lambda i: (-scores[i], i))[: self.k]
        return tuple(self.documents[i] for i in order if scores[i] > 0)


class Indexes:
    """Indexes by corpus digest. The same corpus object is not hashed twice; the oldest corpora are forgotten."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, CorpusIndex] = OrderedDict()
        # The object is held beside its index, so that its id cannot be given to another object meanwhile.
        self._by_object: OrderedDict[int, tuple[Any, CorpusIndex]] = OrderedDict()

    def get(self, corpus: Any) -> CorpusIndex:
        """The index of a corpus axis, built if it is new. Raises `ReleaseError` for a corpus that cannot be read."""
        known = self._by_object.get(id(corpus))
        if known is not None:
            return known[1]
        value = plain(corpus, where="the corpus axis")
        key = digest(value)
        index = self._by_digest.get(key) or build_index(value)
        _remember(self._by_digest, key, index)
        _remember(self._by_object, id(corpus), (corpus, index))
        return index


def build_index(corpus: Any) -> CorpusIndex:
    """The index of a corpus axis: `{documents, retriever: {kind: tfidf | bm25 | none, k}}`, or the documents alone."""
    axis = corpus if isinstance(corpus, Mapping) and "documents" in corpus else {"documents": corpus}
    documents = read_documents(axis["documents"])
    kind, k = _retriever(axis.get("retriever"))
    texts = [f"{document.id}\n{document.text}" for document in documents]
    return CorpusIndex(documents, _KINDS[kind](texts) if texts else None, k)


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
    if kind not in _KINDS:
        raise ReleaseError(f"cannot read corpus.retriever: kind {kind!r} is unknown; use one of {', '.join(_KINDS)}")
    k = settings.get("k", None if kind == "none" else DEFAULT_K)
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 0):
        raise ReleaseError(f"cannot read corpus.retriever: k is {k!r}; give a whole number, 0 or more")
    return kind, k


def _tfidf(texts: Sequence[str]) -> Scores:
    """Cosine similarity of TF-IDF vectors, term counts damped by a logarithm."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True)
    matrix = vectorizer.fit_transform(texts)
    return lambda question: (matrix @ vectorizer.transform([question]).T).toarray().ravel()


def _bm25(texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Scores:
    """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15) with the always positive idf of log(1 + …)."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer()
    counts = vectorizer.fit_transform(texts).astype(float).tocsr()
    length = np.asarray(counts.sum(axis=1)).ravel()
    damping = k1 * (1 - b + b * length / max(length.mean(), 1.0))
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    counts.data = idf[counts.indices] * counts.data * (k1 + 1) / (counts.data + damping[rows])
    return lambda question: (counts @ vectorizer.transform([question]).T).toarray().ravel()


def _unranked(texts: Sequence[str]) -> None:
    del texts


_KINDS: dict[str, Callable[[Sequence[str]], Scores | None]] = {"tfidf": _tfidf, "bm25": _bm25, "none": _unranked}


def _remember(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED_CORPORA:
        table.popitem(last=False)
