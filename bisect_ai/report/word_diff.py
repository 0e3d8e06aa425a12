"""Two texts side by side with the words that differ marked: pieces of plain text, for any format to style."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from bisect_ai.report.untrusted_text import show

MOST_WORDS = 1500
"""Words compared at most: beyond them the texts are shown without marks."""
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class MarkedText(NamedTuple):
    """A stretch of text, and whether the other text says something else there."""

    text: str
    differs: bool


Pieces = tuple[MarkedText, ...]


def compared(before: object, after: object, *, limit: int) -> tuple[Pieces, Pieces]:
    """Both texts, cleaned and cut to `limit` characters, in pieces that are the same or differ."""
    texts = [show("" if text is None else text, limit=limit) for text in (before, after)]
    words: list[list[str]] = [_WORD.findall(text) for text in texts]
    if max(map(len, words)) > MOST_WORDS or not all(words):
        return _whole_text(texts[0]), _whole_text(texts[1])
    blocks = SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
    spans = [[(block[side], block.size) for block in blocks] for side in (0, 1)]
    return _marked_pieces(words[0], spans[0]), _marked_pieces(words[1], spans[1])


def _whole_text(text: str) -> Pieces:
    return (MarkedText(text, False),) if text else ()


def _marked_pieces(words: Sequence[str], same: Sequence[tuple[int, int]]) -> Pieces:
    pieces, at = [], 0
    for start, size in same:
        pieces += [MarkedText("".join(words[at:start]), True), MarkedText("".join(words[start : start + size]), False)]
        at = start + size
    return _joined_pieces([piece for piece in pieces if piece.text])


def _joined_pieces(pieces: Sequence[MarkedText]) -> Pieces:
    """Neighbours of a kind as one; blanks between two marked words are marked too, so that a phrase reads as one."""
    found: list[MarkedText] = []
    for i, piece in enumerate(pieces):
        between = 0 < i < len(pieces) - 1 and pieces[i - 1].differs and pieces[i + 1].differs
        differs = piece.differs or (between and piece.text.isspace() and "\n" not in piece.text)
        if found and found[-1].differs == differs:
            found[-1] = MarkedText(found[-1].text + piece.text, differs)
        else:
            found.append(MarkedText(piece.text, differs))
    return tuple(found)
