"""Which items of two sequences correspond, under every hunk, sentence and list item of a difference.

Items that are unique on both sides are matched first, in their longest common order, and the gaps between them are aligned again
(Cohen's patience diff); what has no unique item is left to difflib when it is small. So the time grows with the length and not with
its square, and blank lines or other repeated items never tie unrelated text together.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

_WORD = re.compile(r"\w+")  # two lines are compared by their words
# Largest gap, in pairs of items, that difflib may search: its time is the square of that in the worst case.
_SMALL = 10_000


class Run(NamedTuple):
    """Items `i1:i2` of the first sequence stand against `j1:j2` of the second: equal, or not at all."""

    equal: bool
    i1: int
    i2: int
    j1: int
    j2: int


class _Gap(NamedTuple):
    i1: int
    i2: int
    j1: int
    j2: int


def align(a: Sequence[str], b: Sequence[str], *, blank: Callable[[str], bool] = lambda _: False) -> list[Run]:
    """Runs that cover both sequences in order, equal and unequal in turn. Blank items never match on their own account."""
    runs: list[Run] = []
    i = j = 0
    for start_i, start_j, length in _blocks(_matched_pairs(a, b, blank)):
        if i < start_i or j < start_j:
            runs.append(Run(False, i, start_i, j, start_j))
        i, j = start_i + length, start_j + length
        runs.append(Run(True, start_i, i, start_j, j))
    if i < len(a) or j < len(b):
        runs.append(Run(False, i, len(a), j, len(b)))
    return runs


def likeness(a: str, b: str) -> float:
    """Share of words that two texts have in common, from 0 to 1 (Dice 1945)."""
    ours, theirs = set(_WORD.findall(a)), set(_WORD.findall(b))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 0.0


def _blocks(pairs: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Maximal stretches of neighbouring pairs: (start in a, start in b, length)."""
    start = 0
    for end in range(1, len(pairs) + 1):
        if end == len(pairs) or pairs[end] != (pairs[end - 1][0] + 1, pairs[end - 1][1] + 1):
            yield *pairs[start], end - start
            start = end


def _matched_pairs(a: Sequence[str], b: Sequence[str], blank: Callable[[str], bool]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    gaps = [_Gap(0, len(a), 0, len(b))]
    while gaps:
        gap = _trimmed(a, b, gaps.pop(), found)
        if gap.i1 == gap.i2 or gap.j1 == gap.j2:
            continue
        anchors = _anchors(a, b, gap, blank)
        if anchors:
            found += anchors
            starts = [(gap.i1, gap.j1), *((i + 1, j + 1) for i, j in anchors)]
            ends = [*anchors, (gap.i2, gap.j2)]
            gaps += [_Gap(i1, i2, j1, j2) for (i1, j1), (i2, j2) in zip(starts, ends, strict=True)]
        elif (gap.i2 - gap.i1) * (gap.j2 - gap.j1) <= _SMALL:
            found += _searched(a, b, gap, blank)
    return sorted(found)


def _trimmed(a: Sequence[str], b: Sequence[str], gap: _Gap, found: list[tuple[int, int]]) -> _Gap:
    """The gap without equal items at its two ends, which go to `found`."""
    i1, i2, j1, j2 = gap
    while i1 < i2 and j1 < j2 and a[i1] == b[j1]:
        found.append((i1, j1))
        i1, j1 = i1 + 1, j1 + 1
    while i1 < i2 and j1 < j2 and a[i2 - 1] == b[j2 - 1]:
        i2, j2 = i2 - 1, j2 - 1
        found.append((i2, j2))
    return _Gap(i1, i2, j1, j2)


def _anchors(a: Sequence[str], b: Sequence[str], gap: _Gap, blank: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Pairs of items that are unique on both sides of the gap, in the longest order that both sides share."""
    once_a, once_b = Counter(a[gap.i1 : gap.i2]), Counter(b[gap.j1 : gap.j2])
    where = {b[j]: j for j in range(gap.j1, gap.j2) if once_b[b[j]] == 1}
    common = [(i, where[a[i]]) for i in range(gap.i1, gap.i2) if once_a[a[i]] == 1 and a[i] in where and not blank(a[i])]
    return _longest_rising(common)


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second members rise (patience sorting)."""
    tops: list[int] = []
    top_pair: list[int] = []
    before: list[int] = []
    for number, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        before.append(top_pair[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [j]
        top_pair[pile : pile + 1] = [number]
    chain: list[tuple[int, int]] = []
    number = top_pair[-1] if top_pair else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _searched(a: Sequence[str], b: Sequence[str], gap: _Gap, blank: Callable[[str], bool]) -> list[tuple[int, int]]:
    matcher = SequenceMatcher(blank, a[gap.i1 : gap.i2], b[gap.j1 : gap.j2], autojunk=False)
    blocks = matcher.get_matching_blocks()
    return [(gap.i1 + i + n, gap.j1 + j + n) for i, j, size in blocks for n in range(size)]
