"""Counts of terms in documents, once each however many corpora hold them, and the scores of one corpus among them.

The corpora of a search are mixtures of two and share nearly all documents. A document is read once; a mixture is a list of
rows with how often each term stands in it, so its scores are those of an index of its own: a row of another mixture adds nothing.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def _merged(one: _Block, other: _Block) -> _Block:
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
            blocks[-2:] = [_merged(*blocks[-2:])]
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
