"""Two texts compared by hunk: one hunk for each run of changed lines; edited list items apart, a long run by sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from bisect_ai.release.changes import ChangeSpot, Scribe
from bisect_ai.release.composition import MISSING, Node, Text
from bisect_ai.release.correspondence import align, likeness

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
