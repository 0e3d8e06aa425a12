"""Terms of texts as numbers.

Words are told apart by their bytes, eight at a time, and only distinct ones are looked up: a look-up of each word by itself takes
five times as long.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from string import ascii_lowercase, digits
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int32]
Places: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]

# Two characters or more, as scikit-learn's vectorizers read them by default: their `\b` around it take time, and change nothing.
_TERM = re.compile(r"\w\w+")
# What `\w` is in ASCII, in lower case.
_CHARACTERS = f"{digits}{ascii_lowercase}_"
_ASCII = "".join(each if each in _CHARACTERS else " " for each in map(str.lower, map(chr, range(128))))
KEY = 8  # characters that one number holds
_MASKS = np.array([2 ** (8 * length) - 1 for length in range(KEY + 1)], dtype=np.uint64)
# Characters of a word that is told apart so: each key more is a pass over all words, and longer ones are rare in any text.
LONGEST = 4 * KEY
# Words from which on pandas, which tells them apart in a fifth of the time, earns its import of 0.3 s.
HASHED = 500_000


class TermNumbers:
    """A number for each term that was read, from 0 on."""

    def __init__(self) -> None:
        self._numbers = defaultdict[str, int]()
        self._numbers.default_factory = self._numbers.__len__

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """For each word of the texts the place of its text and its number, shape (words,) both; first all texts in ASCII."""
        plain = np.fromiter(map(str.isascii, texts), dtype=np.bool, count=len(texts))
        order = np.append(np.flatnonzero(plain), np.flatnonzero(~plain)).astype(np.int32)
        others = [_TERM.findall(texts[place].lower()) for place in order[plain.sum() :]]
        sizes, terms = self._read_ascii(list(compress(texts, plain)))
        sizes = np.append(sizes, np.array([*map(len, others)], dtype=np.int64))
        return np.repeat(order, sizes), np.append(terms, self._of(chain.from_iterable(others)))

    def asked(self, question: str) -> Iterator[tuple[int, int]]:
        """Terms of a question that were read, in the order of their numbers, and how often each is asked for."""
        known = [self._numbers[each] for each in _TERM.findall(question.lower()) if each in self._numbers]
        for term, count in zip(*np.unique(np.array(known, dtype=np.int64), return_counts=True), strict=True):
            yield int(term), int(count)

    def _of(self, words: Iterable[str]) -> Ints:
        return np.fromiter(map(self._numbers.__getitem__, words), dtype=np.int32)

    def _read_ascii(self, texts: Sequence[str]) -> tuple[Places, Ints]:
        """How many words each text has, shape (texts,), and the numbers of all, shape (words,)."""
        raw = (" " + "\n".join(texts).translate(_ASCII) + " " * KEY).encode()
        in_word = np.frombuffer(raw, dtype=np.uint8) != ord(" ")
        edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
        starts, sizes = edges[::2], edges[1::2] - edges[::2]
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]
        ends = np.cumsum([len(text) + 1 for text in texts])
        codes, words = _told_apart(raw, starts, sizes)
        used = np.bincount(codes, minlength=len(words)) > 0
        numbers = np.empty(len(words), dtype=np.int32)
        numbers[used] = self._of(map(bytes.decode, compress(words, used)))
        return np.diff(np.searchsorted(starts, ends), prepend=0), numbers[codes]


def _told_apart(raw: bytes, starts: Places, sizes: Places) -> tuple[Places, list[bytes]]:
    """A code for each word, shape (words,), and what the codes stand for: a word may have two of them, and one may be of no word."""
    codes, distinct = _distinct(_keys(raw, starts, sizes))
    words = _characters(distinct)
    for done in range(KEY, LONGEST, KEY):
        longer = np.flatnonzero(sizes > done)
        ends, distinct = _distinct(_keys(raw, starts[longer] + done, sizes[longer] - done))
        tails = _characters(distinct)
        places, pairs = _distinct(codes[longer] * len(tails) + ends)
        codes[longer] = places + len(words)
        words += [words[pair // len(tails)] + tails[pair % len(tails)] for pair in pairs.tolist()]
    longer = np.flatnonzero(sizes > LONGEST)
    codes[longer] = np.arange(len(longer)) + len(words)
    return codes, words + [raw[start : start + size] for start, size in zip(starts[longer], sizes[longer], strict=True)]


def _keys(raw: bytes, starts: Places, sizes: Places) -> Keys:
    """The first characters of words as one number each; `raw` goes on behind the last word."""
    numbers = np.ndarray(len(raw) - KEY + 1, dtype="<u8", buffer=raw, strides=(1,))
    return np.asarray(numbers[starts] & _MASKS[np.minimum(sizes, KEY)])


def _characters(keys: Keys) -> list[bytes]:
    found: list[bytes] = keys.astype("<u8").view(f"S{KEY}").tolist()
    return found


def _distinct(numbers: NDArray[Any]) -> tuple[Places, NDArray[Any]]:
    """The place of each number among the distinct ones, and these."""
    if len(numbers) < HASHED:
        distinct, places = np.unique(numbers, return_inverse=True)
        return places, distinct
    import pandas as pd

    places, distinct = pd.factorize(numbers)
    return places, distinct
