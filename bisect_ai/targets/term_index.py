"""An index of terms over the union of all documents seen, read once, of which any mixture of documents is a list of rows.

The corpora of a search are mixtures of two and share nearly all documents. A mixture is a list of rows with how often each term
stands in it, so its scores are those of an index of its own: a row of another mixture adds nothing.
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

# Two characters or more, as scikit-learn's vectorizers read them by default: their `\b` around it take time, and change nothing.
_TERM = re.compile(r"\w\w+")
# Documents of which one block is made at most: bounds what reading and weighing hold at a time.
BLOCK = 20_000
# Postings of a block from which on a product of scipy's, in a third of the time, earns its import of 0.1 s.
SPARSE = 500_000
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Block:
    """Postings of documents `first` to `first + size`, by term: those of `terms[i]` are `starts[i]` to `starts[i + 1]`."""

    first: int
    size: int
    terms: Ints
    starts: Ints
    # Of each posting, counted from `first`.
    documents: Ints
    counts: Ints
    # (1 + log count)² of each posting: logarithms would be most of what another mixture takes.
    squares: Floats

    @property
    def here(self) -> slice:
        """Its documents among all."""
        return slice(self.first, self.first + self.size)

    def of(self, term: int) -> tuple[Ints, Ints]:
        """Rows that hold a term, counted from `first`, and how often."""
        place = int(np.searchsorted(self.terms, term))
        if place == len(self.terms) or self.terms[place] != term:
            return self.documents[:0], self.counts[:0]
        held = slice(self.starts[place], self.starts[place + 1])
        return self.documents[held], self.counts[held]

    def holding(self, times: Ints) -> Ints:
        """Documents with each of its terms, each counted as often as a mixture has it, shape (terms,)."""
        if len(self.documents) < SPARSE:
            return np.asarray(np.add.reduceat(times[self.documents], self.starts[:-1])) if len(self.terms) else self.terms
        from scipy.sparse import csr_array

        ones = np.ones(len(self.documents), dtype=np.int32)
        return np.asarray(csr_array((ones, self.documents, self.starts), shape=(len(self.terms), self.size)) @ times)

    def sums(self, of_terms: Floats) -> Floats:
        """Over the terms of each document: a value of the term times (1 + log count)², shape (size,)."""
        if len(self.documents) < SPARSE:
            weights = self.squares * np.repeat(of_terms, np.diff(self.starts))
            return np.asarray(np.bincount(self.documents, weights, self.size), dtype=np.float64)
        from scipy.sparse import csc_array

        return np.asarray(csc_array((self.squares, self.documents, self.starts), shape=(self.size, len(self.terms))) @ of_terms)


def _blocked(first: int, size: int, terms: NDArray[Any], documents: NDArray[Any], counts: NDArray[Any]) -> _Block:
    """A block of postings that are sorted by term, then document."""
    starts = np.flatnonzero(np.diff(terms, prepend=-1)).astype(np.int32)
    ends = np.append(starts, np.int32(len(terms)))
    held = documents.astype(np.int32), counts.astype(np.int32)
    return _Block(first, size, terms[starts].astype(np.int32), ends, *held, _damped(counts) ** 2)


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
        blocks, holding, n, size = self._blocks, self._holding(rows), len(rows), len(self._lengths)
        squares = (1 + np.log((1 + n) / (1.0 + holding))) ** 2
        norms: Floats = np.sqrt(np.concatenate([each.sums(squares[each.terms]) for each in blocks]))[rows]
        norms[norms == 0] = 1.0

        def scores(question: str) -> Floats:
            asked = {term: float(_damped(np.array([count]))[0]) for term, count in self._asked(question, holding)}
            weights = {term: by * float(1 + np.log((1 + n) / (1.0 + holding[term]))) for term, by in asked.items()}
            length = float(np.sqrt(sum(value**2 for value in weights.values()))) or 1.0
            found = np.zeros(size)
            for term, value in weights.items():
                factor = value / length * float(1 + np.log((1 + n) / (1.0 + holding[term])))
                for first, documents, counts in _postings(blocks, term):
                    found[first + documents] += factor * _damped(counts)
            return found[rows] / norms

        return scores

    # K1 and b: the usual values (Robertson and Zaragoza 2009, section 3.2).
    def bm25(self, rows: Ints, k1: float = 1.2, b: float = 0.75) -> Callable[[str], Floats]:
        """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15) with the always positive idf of log(1 + …), shape (rows,)."""
        blocks, holding, n = self._blocks, self._holding(rows), len(rows)
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

    def _holding(self, rows: Ints) -> Ints:
        """Documents of a mixture with each term, shape (terms,)."""
        times, holding = (
            np.bincount(rows, minlength=len(self._lengths)).astype(np.int32),
            np.zeros(len(self._numbers), np.int32),
        )
        for each in self._blocks:
            holding[each.terms] += each.holding(times[each.here])
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
