"""What of one side corresponds to what of the other: items of two sequences, and entries that came under a new name.

Items that are unique on both sides are matched first, in their longest common order, and the gaps between them are aligned again
(Cohen's patience diff); what has no unique item is left to difflib when it is small. So the time grows with the length and not with
its square, and blank lines or other repeated items never tie unrelated text together. Entries that went and came under a new name
are paired, so that both halves are one change.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple, TypeVar

from bisect_ai.canonical import Json, canonical
from bisect_ai.release.composition import same

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


def words_of(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(_WORD.findall(text))


def dice(ours: frozenset[str], theirs: frozenset[str]) -> float:
    """Share of words that two texts have in common, from 0 to 1 (Dice 1945)."""
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


_Place = TypeVar("_Place")


def matched_moves(
    gone: Iterable[tuple[_Place, str]], come: Iterable[tuple[_Place, str]]
) -> dict[_Place, tuple[_Place, _Place]]:
    """Place to (where its text went, where it came), for texts that only changed places."""
    left: defaultdict[str, list[_Place]] = defaultdict(list)
    for place, text in gone:
        left[text].append(place)
    moves: dict[_Place, tuple[_Place, _Place]] = {}
    for place, text in come:
        if left[text]:
            old = left[text].pop(0)
            moves[old] = moves[place] = (old, place)
    return moves


# Shortest line, in characters, that tells one document from another.
_LINE = 4
# A line that more documents than this have says nothing about which is which.
_COMMON = 20


def spelling(name: str) -> str:
    """The name without case and separators: `customer_id`, `customerId` and `Customer-ID` have one spelling."""
    return "".join(character for character in name.casefold() if character.isalnum())


def key_renames(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Old key to new key: the same weighty value, or any value under another spelling of the key."""
    found = _paired_alike({key: value for key, value in gone.items() if _weighty(value)}, come)
    return found | _respelled(_without_names(gone, found), _without_names(come, found.values()))


def document_renames(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Old name to new name: the same content, else at least half of the lines in common."""
    found = _paired_alike({name: value for name, value in gone.items() if value not in ("", None)}, come)
    return found | _overlapping(_without_names(gone, found), _without_names(come, found.values()))


def field_renames(good: Mapping[str, Json], bad: Mapping[str, Json]) -> dict[str, str]:
    """Old field to new field of a schema: the same sub-schema under a new name, or another spelling of the name.

    A name that is on both sides can take part when its old sub-schema went elsewhere and another came in its place, both
    of them telling ones: then `a` → `b` cannot be applied without `b` → `c`.
    """
    passed_on = _passed_on(good, bad)
    found = _paired_alike(_left(good, bad, passed_on), _left(bad, good, passed_on))
    if passed_on and passed_on <= found.keys() & set(found.values()):
        return found
    gone, come = _left(good, bad), _left(bad, good)
    respelled = _respelled(gone, come)
    return respelled | _paired_alike(_without_names(gone, respelled), _without_names(come, respelled.values()))


def _left(one: Mapping[str, Json], other: Mapping[str, Json], besides: Collection[str] = ()) -> dict[str, Json]:
    return {name: value for name, value in one.items() if name not in other or name in besides}


def _without_names(entries: Mapping[str, Json], names: Collection[str]) -> dict[str, Json]:
    left_out = set(names)
    return {name: value for name, value in entries.items() if name not in left_out}


def _weighty(value: Json) -> bool:
    """Whether a value is so particular that meeting it again is no chance."""
    return len(value) >= 16 if isinstance(value, str) else isinstance(value, dict | list) and len(canonical(value)) >= 16


def _print(value: Json) -> str:
    """A text that stands for the value: texts themselves, so that none is copied."""
    return value if isinstance(value, str) else "\0" + canonical(value)


def _paired_alike(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Entries with one content, paired by the likeness of their names where several share it."""
    places: dict[str, list[str]] = {}
    for name, value in come.items():
        places.setdefault(_print(value), []).append(name)
    found = {}
    for name, value in gone.items():
        candidates = places.get(_print(value))
        if candidates:
            found[name] = candidates.pop(_nearest_name(name, candidates))
    return found


def _nearest_name(name: str, candidates: list[str]) -> int:
    if len(candidates) == 1 or len(candidates) > _COMMON:
        return 0
    likeness = [SequenceMatcher(None, name, other, autojunk=False).ratio() for other in candidates]
    return likeness.index(max(likeness))


def _respelled(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    spellings = {name: spelling(name) for name in (*gone, *come)}
    seen = Counter(spellings[name] for name in gone), Counter(spellings[name] for name in come)
    new = {spellings[name]: name for name in come}
    once = (name for name in gone if all(count[spellings[name]] == 1 for count in seen))
    return {name: new[spellings[name]] for name in once}


def _overlapping(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    lines = {name: _telling_lines(value) for name, value in gone.items() if isinstance(value, str)}
    where: dict[str, list[str]] = {}
    for name, members in lines.items():
        for line in members:
            where.setdefault(line, []).append(name)
    scores: list[tuple[float, str, str]] = []
    for name, value in come.items():
        mine = _telling_lines(value) if isinstance(value, str) else set()
        shared = Counter(old for line in mine for old in where.get(line, ()) if len(where[line]) <= _COMMON)
        scores += [(-2 * n / (len(mine) + len(lines[old])), old, name) for old, n in shared.items()]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for score, old, new in sorted(scores):
        if score <= -0.5 and old not in found and new not in taken:
            found[old] = new
            taken.add(new)
    return found


def _telling_lines(text: str) -> set[str]:
    return {line for line in (part.strip() for part in text.split("\n")) if len(line) >= _LINE}


def _passed_on(good: Mapping[str, Json], bad: Mapping[str, Json]) -> set[str]:
    """Names on both sides of which the old sub-schema has a new name and the new one had an old name."""
    kept = {n for n in good if n in bad and not same(good[n], bad[n]) and _telling(good[n]) and _telling(bad[n])}
    while True:
        gone = {_print(good[name]) for name in good if name not in bad or name in kept}
        come = {_print(bad[name]) for name in bad if name not in good or name in kept}
        left = {name for name in kept if _print(good[name]) in come and _print(bad[name]) in gone}
        if left == kept:
            return kept
        kept = left


def _telling(schema: Json) -> bool:
    """More than a bare type, which many fields share."""
    return isinstance(schema, dict) and len(schema) >= 2
