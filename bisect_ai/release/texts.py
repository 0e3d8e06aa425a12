"""Two texts compared by hunk: one hunk for each run of changed lines; edited list items apart, a long run by sentence.

`align` says which items of two sequences correspond, under every hunk, sentence and list item. Items that are unique on both sides are
matched first, in their longest common order, and the gaps between them are aligned again (Cohen's patience diff); what has no unique
item is left to difflib when it is small. So the time grows with the length and not with its square, and blank lines or other repeated
items never tie unrelated text together.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from bisect_ai.release.changes import ChangeSpot, Scribe
from bisect_ai.release.composition import Node, Text
from bisect_ai.release.frozen import MISSING

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


# Characters from which on a rewritten run of lines is looked at sentence by sentence.
LONG = 200
# Texts of more lines are one change: such a text is data, not prose.
_MOST_LINES = 200_000
# Shortest text, in characters, whose removal here and appearance there is one move and not chance.
_MOVED = 20
# Share of words that two lines must have in common for one to be an edit of the other.
_EDITED = 0.5
_ITEM = re.compile(r"\s*([-*+•]|\d+[.)]|#+)\s")  # an item of a list, or a heading, begins a statement
_CLOSED = re.compile(r".*[.!?:;。！？][\"')\]”’]*\s*", re.DOTALL)  # a line that ends a statement
_SENTENCE_END = re.compile(r"[.!?。！？]+[\"')\]”’]*\s+")  # with quotes and brackets behind it; also in Chinese and Japanese


class TextPiece(NamedTuple):
    """A stretch of both texts; `line` is its first line in good (from 1), `sentence` its sentence there (0: whole lines)."""

    good: str
    bad: str
    line: int
    sentence: int = 0


# Takes a piece, and its first line in bad (from 1), further apart.
Split = Callable[[TextPiece, int], Iterator[TextPiece]]


def diff_text(good: str, bad: str, spot: ChangeSpot, scribe: Scribe, *, split: Split | None = None) -> Node:
    """How the two texts, which differ, are put together."""
    pieces = list(_text_pieces(good, bad))
    if split is not None:
        pieces = list(_apart(pieces, split))
    if len(pieces) == 1:
        has_lines = 2 <= max(len(lines_with_ends(good)), len(lines_with_ends(bad))) <= _MOST_LINES
        return scribe.whole(good, bad, spot.hunk("1", None) if has_lines else spot)
    numbers: dict[int, int] = {}
    moves = _moved_texts(pieces)
    paragraphs = _paragraphs(good)
    parts: list[str | tuple[str, str, int]] = []
    for i, piece in enumerate(pieces):
        if piece.good == piece.bad:
            parts.append(piece.good)
            continue
        gone, come = moves.get(i, (i, i))
        first = min(gone, come)
        if first not in numbers:
            place = _hunk_place(piece, spot, paragraphs)
            numbers[first] = _record_hunk(pieces[gone], pieces[come], place, scribe)
        parts.append((piece.good, piece.bad, numbers[first]))
    return Text(good, bad, frozenset(numbers.values()), tuple(parts))


def _hunk_place(piece: TextPiece, spot: ChangeSpot, paragraphs: list[int]) -> ChangeSpot:
    position = f"{piece.line}.{piece.sentence}" if piece.sentence else str(piece.line)
    paragraph = paragraphs[min(piece.line, len(paragraphs)) - 1]
    return spot.hunk(position, paragraph if paragraphs[-1] > 1 else None)


def _record_hunk(gone: TextPiece, come: TextPiece, place: ChangeSpot, scribe: Scribe) -> int:
    """The number of a new change: a hunk, or, when the two pieces are different ones, a move."""
    if gone is not come:
        summary = f"moved from line {gone.line} to line {come.line}"
        return scribe.add(place, "moved", gone.good, come.bad, summary)
    (change,) = scribe.whole(gone.good or MISSING, gone.bad or MISSING, place).ids
    return change


def _text_pieces(good: str, bad: str) -> Iterator[TextPiece]:
    """Pieces that add up to both texts. Equal ones have the same text on both sides."""
    a, b = lines_with_ends(good), lines_with_ends(bad)
    if max(len(a), len(b)) > _MOST_LINES:
        yield TextPiece(good, bad, 1)
        return
    for run in align(a, b, blank=_is_blank):
        if run.equal:
            yield TextPiece("".join(a[run.i1 : run.i2]), "".join(b[run.j1 : run.j2]), run.i1 + 1)
        else:
            for paragraph in _by_paragraph(a[run.i1 : run.i2], b[run.j1 : run.j2], run.i1 + 1):
                for piece in _by_item(paragraph):
                    yield from _by_sentence(piece)


def _apart(pieces: list[TextPiece], split: Split) -> Iterator[TextPiece]:
    line = 1
    for piece in pieces:
        yield from (piece,) if piece.good == piece.bad else split(piece, line)
        line += piece.bad.count("\n")


def lines_with_ends(text: str) -> list[str]:
    """Lines with their ends. Only a line feed ends one: the others may be meant as text."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + lines[-1:] if lines[-1] else [line + "\n" for line in lines[:-1]]


def _is_blank(line: str) -> bool:
    return not line.strip()


def _by_paragraph(a: list[str], b: list[str], line: int) -> Iterator[TextPiece]:
    """Paragraph against paragraph when both sides have as many, else the run as one piece."""
    ours, theirs = ([list(run) for _, run in groupby(side, _is_blank)] for side in (a, b))
    if len(ours) < 2 or len(ours) != len(theirs) or _is_blank(ours[0][0]) != _is_blank(theirs[0][0]):
        yield TextPiece("".join(a), "".join(b), line)
        return
    starts = accumulate((len(run) for run in ours), initial=line)
    for mine, their, start in zip(ours, theirs, starts, strict=False):
        yield TextPiece("".join(mine), "".join(their), start)


def _by_item(piece: TextPiece) -> Iterator[TextPiece]:
    """Line against line when each is a statement of its own and an edit of the other, else the piece itself."""
    a, b = lines_with_ends(piece.good), lines_with_ends(piece.bad)
    alike = len(a) == len(b) > 1 and all(likeness(x, y) >= _EDITED for x, y in zip(a, b, strict=True))
    if not alike or not (_are_items(a) and _are_items(b)):
        yield piece
        return
    for number, (mine, their) in enumerate(zip(a, b, strict=True)):
        yield TextPiece(mine, their, piece.line + number)


def _are_items(lines: list[str]) -> bool:
    """Whether no statement runs on from one line to the next."""
    return all(_CLOSED.fullmatch(before) or _ITEM.match(after) for before, after in pairwise(lines))


def _by_sentence(piece: TextPiece) -> Iterator[TextPiece]:
    """Sentence against sentence in a long piece that keeps some of them, else the piece itself."""
    if piece.good == piece.bad or min(len(piece.good), len(piece.bad)) < LONG:
        yield piece
        return
    a, b = _sentence_pieces(piece.good), _sentence_pieces(piece.bad)
    runs = align(a, b)
    if not any(run.equal for run in runs):
        yield piece
        return
    lines = list(accumulate((sentence.count("\n") for sentence in a), initial=piece.line))
    for run in runs:
        yield TextPiece("".join(a[run.i1 : run.i2]), "".join(b[run.j1 : run.j2]), lines[run.i1], run.i1 + 1)


def _sentence_pieces(text: str) -> list[str]:
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def _paragraphs(text: str) -> list[int]:
    """The number of the paragraph that each line belongs to, from 1; blank lines belong to the one before."""
    number, open_ = 0, False
    numbers = []
    for line in lines_with_ends(text):
        number += not open_ and not _is_blank(line)
        open_ = not _is_blank(line)
        numbers.append(max(number, 1))
    return numbers or [1]


def _moved_texts(pieces: list[TextPiece]) -> dict[int, tuple[int, int]]:
    """TextPiece to (where the text went, where it came) for texts that only moved, alike but for spaces around them."""
    gone: dict[str, list[int]] = {}
    for i, piece in enumerate(pieces):
        if piece.good and not piece.bad and len(piece.good.strip()) >= _MOVED:
            gone.setdefault(piece.good.strip(), []).append(i)
    moves: dict[int, tuple[int, int]] = {}
    for j, piece in enumerate(pieces):
        if piece.bad and not piece.good and gone.get(piece.bad.strip()):
            i = gone[piece.bad.strip()].pop(0)
            moves[i] = moves[j] = (i, j)
    return moves
