"""An index of terms over the union of all documents seen, read once, of which any mixture of documents is a list of rows.

The corpora of a search are mixtures of two and share nearly all documents. A mixture is a list of rows with how often each term
stands in it, so its scores are those of an index of its own: a row of another mixture adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisect_ai.targets.term_numbers import Ints, TermNumbers

# Characters, unless one document has more, of which one block is made at most: bounds what reading and weighing hold at a time.
BLOCK = 2**24
# Postings and documents up to which two blocks become one.
MERGED = 2**21
# Postings and terms of a block from which on scipy, which counts and sums them in a third of the time, earns its import of 0.1 s.
SPARSE = 500_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Block:
    """Documents `first` to `first + size`, and the terms in them, of those that were known when it was made."""

    first: int
    # Document `i`, counted from `first`, has the terms `terms[ends[i]:ends[i + 1]]`.
    ends: Ints
    terms: Ints
    # (1 + log count)² of each: logarithms would be most of what another mixture takes.
    squares: Floats
    # Term `i` stands in `documents[starts[i]:starts[i + 1]]`, counted from `first`, as often as `counts`.
    starts: Ints
    documents: Ints
    counts: Ints

    @property
    def size(self) -> int:
        """Its documents."""
        return len(self.ends) - 1

    @property
    def known(self) -> int:
        """Terms that were known when it was made."""
        return len(self.starts) - 1

    @property
    def load(self) -> int:
        """Documents and terms in them: what merging it with another takes."""
        return self.size + len(self.terms)

    def of(self, term: int) -> tuple[Ints, Ints]:
        """Documents that hold a term, counted from `first`, and how often."""
        held = slice(*self.starts[term : term + 2]) if term < self.known else slice(0)
        return self.documents[held], self.counts[held]

    def holding(self, times: Ints) -> NDArray[Any]:
        """Documents with each of the terms known, each counted as often as a mixture has it, shape (known,)."""
        times = times[self.first : self.first + self.size]
        if _small(self.terms, self.known):
            return np.bincount(self.terms, np.repeat(times, np.diff(self.ends)), self.known).astype(np.int32)
        from scipy.sparse import csc_array

        ones = np.ones(len(self.terms), dtype=np.int32)
        return np.asarray(csc_array((ones, self.terms, self.ends), shape=(self.known, self.size)) @ times)

    def sums(self, of_terms: Floats) -> Floats:
        """Over the terms of each document: a value of the term times (1 + log count)², shape (size,)."""
        if _small(self.terms, self.known):
            places = np.repeat(np.arange(self.size), np.diff(self.ends))
            return np.asarray(np.bincount(places, self.squares * of_terms[self.terms], self.size), dtype=np.float64)
        from scipy.sparse import csr_array

        weights = csr_array((self.squares, self.terms, self.ends), shape=(self.size, self.known))
        return np.asarray(weights @ of_terms[: self.known])


def _small(terms: Ints, known: int) -> bool:
    return len(terms) + known < SPARSE


def _block(first: int, size: int, known: int, documents: Ints, terms: Ints, counts: Ints) -> _Block:
    """A block of `size` documents, of what stands in them; a term may come twice in a document."""
    if _small(terms, known):
        pairs, places = np.unique(documents * np.int64(known) + terms, return_inverse=True)
        counts, (documents, terms) = np.bincount(places, counts, len(pairs)).astype(np.int32), np.divmod(pairs, known)
        ends, order = np.searchsorted(documents, np.arange(size + 1)), np.argsort(terms, kind="stable")
        starts = np.searchsorted(terms[order], np.arange(known + 1))
        by_term = starts.astype(np.int32), documents[order].astype(np.int32), counts[order]
    else:
        from scipy.sparse import coo_array

        # Where documents come in order, nothing is left to sort in columns.
        columns = coo_array((counts, (documents, terms)), shape=(size, known)).tocsc()
        rows = columns.tocsr()
        ends, terms, counts = rows.indptr, rows.indices, rows.data
        by_term = columns.indptr, columns.indices, columns.data
    return _Block(first, ends.astype(np.int32), terms.astype(np.int32), _damped(counts) ** 2, *by_term)


def _merged_blocks(one: _Block, other: _Block) -> _Block:
    """Two blocks of neighbouring documents as one."""
    size, lengths = one.size + other.size, np.append(np.diff(one.ends), np.diff(other.ends))
    counts = [each.counts[np.argsort(each.documents, kind="stable")] for each in (one, other)]
    documents, terms = np.repeat(np.arange(size, dtype=np.int32), lengths), np.append(one.terms, other.terms)
    return _block(one.first, size, other.known, documents, terms, np.concatenate(counts))


class TermIndex:
    """The union of all documents seen, to which documents are added; not safe to add from two threads at once."""

    def __init__(self) -> None:
        self._numbers = TermNumbers()
        self._blocks: tuple[_Block, ...] = ()
        self._lengths = np.empty(0, dtype=np.int32)

    def add(self, texts: Sequence[str]) -> None:
        """Reads further documents; their rows follow those that are there."""
        sizes = np.cumsum([len(text) for text in texts], dtype=np.int64)
        start = 0
        while start < len(texts):
            end = max(int(np.searchsorted(sizes, (sizes[start - 1] if start else 0) + BLOCK, "right")), start + 1)
            self._add(texts[start:end])
            start = end

    def _add(self, texts: Sequence[str]) -> None:
        documents, terms = self._numbers.read(texts)
        ones = np.ones(len(terms), dtype=np.int32)
        block = _block(len(self._lengths), len(texts), len(self._numbers), documents, terms, ones)
        self._lengths = np.append(self._lengths, np.bincount(documents, minlength=len(texts)).astype(np.int32))
        blocks = [*self._blocks, block]
        # Documents that come by one or two make no long row of blocks: each is read again a logarithm of times.
        while len(blocks) > 1 and blocks[-2].load <= min(2 * blocks[-1].load, MERGED - blocks[-1].load):
            blocks[-2:] = [_merged_blocks(*blocks[-2:])]
        self._blocks = tuple(blocks)

    def tfidf(self, rows: Ints) -> Callable[[str], Floats]:
        """Cosine similarities of a question with the documents `rows`, shape (rows,), 0 when nothing is common.

        Weights are (1 + log count) * (1 + log((1 + n) / (1 + documents with the term))), as scikit-learn's
        `TfidfVectorizer(sublinear_tf=True)` fitted to these documents alone has them.
        """
        blocks, holding, n, size = self._blocks, self._holding(rows), len(rows), len(self._lengths)
        idf = 1 + np.log((1 + n) / (1.0 + holding))
        norms: Floats = np.sqrt(np.concatenate([each.sums(idf**2) for each in blocks]))[rows]
        norms[norms == 0] = 1.0

        def scores(question: str) -> Floats:
            asked = [(term, count) for term, count in self._numbers.asked(question) if term < len(holding) and holding[term]]
            weights = {term: float(_damped(count) * idf[term]) for term, count in asked}
            length = float(np.sqrt(sum(value**2 for value in weights.values()))) or 1.0
            found = np.zeros(size)
            for term, value in weights.items():
                factor = value / length * float(idf[term])
                for first, documents, counts in _postings(blocks, term):
                    found[first + documents] += factor * _damped(counts)
            return found[rows] / norms

        return scores

    # K1 and b: the usual values (Robertson and Zaragoza 2009, section 3.2).
    def bm25(self, rows: Ints, k1: float = 1.2, b: float = 0.75) -> Callable[[str], Floats]:
        """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15) with the always positive idf of log(1 + …), shape (rows,)."""
        blocks, times, lengths, n = self._blocks, self._times(rows), self._lengths, len(rows)
        damping = k1 * (1 - b + b * lengths / max(lengths[rows].mean(), 1.0))

        def scores(question: str) -> Floats:
            found = np.zeros(len(lengths))
            for term, asked in self._numbers.asked(question):
                postings = [(first + documents, counts) for first, documents, counts in _postings(blocks, term)]
                holding = sum(int(times[at].sum()) for at, _ in postings)
                idf = float(np.log1p((n - holding + 0.5) / (holding + 0.5)))
                for at, counts in postings:
                    found[at] += asked * idf * counts * (k1 + 1) / (counts + damping[at])
            return found[rows]

        return scores

    def _times(self, rows: Ints) -> Ints:
        """How often a mixture has each document of the union, shape (documents,)."""
        return np.bincount(rows, minlength=len(self._lengths)).astype(np.int32)

    def _holding(self, rows: Ints) -> Ints:
        """Documents of a mixture with each term, shape (terms,)."""
        times, holding = self._times(rows), np.zeros(len(self._numbers), np.int32)
        for each in self._blocks:
            holding[: each.known] += each.holding(times)
        return holding


def _postings(blocks: Iterable[_Block], term: int) -> Iterator[tuple[int, Ints, Ints]]:
    for each in blocks:
        documents, counts = each.of(term)
        if len(documents):
            yield each.first, documents, counts


def _damped(counts: NDArray[Any] | int) -> Floats:
    return np.asarray(1 + np.log(counts), dtype=np.float64)
