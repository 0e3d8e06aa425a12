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

# Two characters or more, as scikit-learn's vectorizers read them by default.
_TERM = re.compile(r"\b\w\w+\b")
# Documents of which one block is made at most: bounds what reading and weighing hold at a time.
BLOCK = 20_000
# Part of the documents by which mixtures differ at most for one to be worked out from the other.
NEAR = 0.05
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Block:
    """Postings of documents `first` to `first + size`, by term: those of `terms[i]` are `starts[i]` to `starts[i + 1]`."""

    first: int
    size: int
    terms: Ints
    starts: NDArray[np.int64]
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

    def spread(self, of_terms: Floats) -> Floats:
        """A value for each term of the index as one for each posting."""
        return np.repeat(of_terms[self.terms], np.diff(self.starts))

    def sums(self, of_terms: Floats, postings: NDArray[Any]) -> Floats:
        """Over the given postings of each document: a value of the term times (1 + log count)², shape (size,)."""
        weights = of_terms[self.terms_at(postings)] * self.squares[postings]
        return np.asarray(np.bincount(self.documents[postings], weights, self.size), dtype=np.float64)

    def terms_at(self, postings: NDArray[Any]) -> Ints:
        """The term of each of the given postings."""
        return self.terms[np.searchsorted(self.starts, postings, side="right") - 1]

    def postings_of(self, terms: NDArray[Any]) -> NDArray[np.int64]:
        """Places of all postings of some terms."""
        places = np.flatnonzero(np.isin(self.terms, terms, assume_unique=True))
        lengths = np.diff(self.starts)[places]
        shifts = self.starts[places] - np.cumsum(lengths) + lengths
        return np.asarray(np.arange(lengths.sum()) + np.repeat(shifts, lengths), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Mixture:
    """How often each document stands in a mixture, documents with each term, and sums over the terms of each document.

    With b = -log(1 + documents with the term) and d = 1 + log count: d², b d² and b² d², shape (3, documents of the union). The idf
    of n documents is 1 + log(1 + n) + b, so that the sums give the norms for any n.
    """

    times: NDArray[np.int64]
    holding: Ints
    sums: Floats

    def norms(self, n: int) -> Floats:
        """The lengths of the documents' weights; 1 where there is no term."""
        by = 1 + np.log(1 + n)
        found = np.sqrt(np.maximum(by * by * self.sums[0] + 2 * by * self.sums[1] + self.sums[2], 0))
        found[found == 0] = 1.0
        return np.asarray(found)


def _blocked(first: int, size: int, terms: NDArray[Any], documents: NDArray[Any], counts: NDArray[Any]) -> _Block:
    """A block of postings that are sorted by term, then document."""
    names, starts = np.unique(terms, return_index=True)
    ends = np.append(starts, len(terms)).astype(np.int64)
    held = documents.astype(np.int32), counts.astype(np.int32)
    return _Block(first, size, names.astype(np.int32), ends, *held, _damped(counts) ** 2)


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
        self._base: _Mixture | None = None
        self._differing: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        """The documents in which mixtures so far differ from the base; `_postings_of_these`: places of their postings in each block."""
        self._postings_of_these: list[NDArray[np.int64]] = []

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
        blocks, mixture, n = self._blocks, self._mixture(rows), len(rows)
        holding, size, held = mixture.holding, len(self._lengths), mixture.norms(n)[rows]

        def scores(question: str) -> Floats:
            asked = {term: float(_damped(np.array([count]))[0]) for term, count in self._asked(question, holding)}
            weights = {term: by * float(1 + np.log((1 + n) / (1.0 + holding[term]))) for term, by in asked.items()}
            length = float(np.sqrt(sum(value**2 for value in weights.values()))) or 1.0
            found = np.zeros(size)
            for term, value in weights.items():
                factor = value / length * float(1 + np.log((1 + n) / (1.0 + holding[term])))
                for first, documents, counts in _postings(blocks, term):
                    found[first + documents] += factor * _damped(counts)
            return found[rows] / held

        return scores

    # K1 and b: the usual values (Robertson and Zaragoza 2009, section 3.2).
    def bm25(self, rows: Ints, k1: float = 1.2, b: float = 0.75) -> Callable[[str], Floats]:
        """Okapi BM25 (Robertson and Zaragoza 2009, equation 3.15) with the always positive idf of log(1 + …), shape (rows,)."""
        blocks, holding, n = self._blocks, self._mixture(rows).holding, len(rows)
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

    def _mixture(self, rows: Ints) -> _Mixture:
        """What is known of a mixture: worked out from another that shares nearly all documents with it, where there is one."""
        times, base = np.bincount(rows, minlength=len(self._lengths)), self._base
        if base is not None and len(base.times) == len(times) and np.count_nonzero(times != base.times) <= NEAR * len(times):
            return self._beside(base, times)
        self._base, self._differing = self._anew(times), np.zeros(len(times), dtype=np.bool_)
        self._postings_of_these = [np.empty(0, dtype=np.int64) for _ in self._blocks]
        return self._base

    def _anew(self, times: NDArray[np.int64]) -> _Mixture:
        holding = np.zeros(len(self._numbers), dtype=np.int32)
        for each in self._blocks:
            if len(each.documents):
                holding[each.terms] += np.add.reduceat(times[each.here].astype(np.int32)[each.documents], each.starts[:-1])
        by, sums = -np.log1p(holding), np.zeros((3, len(times)))
        for each in self._blocks:
            weights, of_term = each.squares, each.spread(by)
            for power in range(3):
                sums[power, each.here] = np.bincount(each.documents, weights, each.size)
                weights = weights * of_term
        return _Mixture(times, holding, sums)

    def _beside(self, base: _Mixture, times: NDArray[np.int64]) -> _Mixture:
        """Always from the same base, so that roundings do not add up."""
        change, holding, sums = (times - base.times).astype(np.int32), base.holding.copy(), base.sums.copy()
        if (differing := self._differing | (change != 0)).sum() > self._differing.sum():
            self._differing = (
                differing  # looked for in all postings, and mixtures of the same two corpora soon differ nowhere else
            )
            self._postings_of_these = [np.flatnonzero(differing[each.here][each.documents]) for each in self._blocks]
        for each, places in zip(self._blocks, self._postings_of_these, strict=True):
            np.add.at(holding, each.terms_at(places), change[each.here][each.documents[places]])
        moved, before, now = np.flatnonzero(holding != base.holding), -np.log1p(base.holding), -np.log1p(holding)
        for each in self._blocks if len(moved) else ():
            postings = each.postings_of(moved)
            sums[1, each.here] += each.sums(now - before, postings)
            sums[2, each.here] += each.sums(now**2 - before**2, postings)
        return _Mixture(times, holding, sums)

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
