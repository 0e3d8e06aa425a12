"""Two texts compared: by line, a run of changed lines by statement, a long statement by sentence.

Text in place of text is paired: each statement beside the one that it is an edit of, in order, so that the pairs agree in as many
words as they can. What has no partner was removed or added by itself. A text that moved is one change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from bisect_ai.release.changes import ChangeSpot, Scribe
from bisect_ai.release.composition import MISSING, Node, Text
from bisect_ai.release.correspondence import Run, align, dice, matched_moves, words_of
from bisect_ai.release.statements import Outline, is_blank, key_of, unnumbered

# Characters from which on a rewritten statement is looked at sentence by sentence.
LONG = 200
# Texts of more lines are one change: such a text is data, not prose.
_MOST_LINES = 200_000
# Hunks of more statements on a side are one change, and so are those with more pairs of them to compare: they are data, too.
_MOST_STATEMENTS, _MOST_PAIRS = 400, 40_000
# What taking a text's hunks apart may cost, in pairs to compare (1.5 µs each); a statement counts as so many pairs.
_EFFORT, _STATEMENT = 400_000, 100
# A hunk of so many lines that are not blank is told as one, unless each is an edit of its opposite.
_SMALL = 2
# Shortest text, in characters and without the spaces around it, whose removal here and appearance there is one move and not chance.
_MOVED = 20
# Share of words that two statements must have in common for one to be an edit of the other, and what the same key counts for.
_EDITED, _SAME_KEY = 0.5, 0.75
# Names of texts that are prose, and of settings, whose lines `key = value` are statements, too; in others, such as programs, a hunk
# is not taken apart by statement.
_PROSE = re.compile(
    r"(\.(md|markdown|mdx|txt|text|rst|adoc|prompt|prompty|ya?ml|j2|jinja\d?|tmpl|tpl|hbs|mustache|liquid))?", re.IGNORECASE
)
_SETTINGS = re.compile(r"\.(toml|ini|cfg|env|properties)", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"(?<![.!?。！？])[.!?。！？]++[\"')\]”’]*+(?=\s)"
)  # with quotes and brackets behind it; also in Chinese and Japanese


class TextPiece(NamedTuple):
    """A stretch of both texts, with its first lines in good and bad (from 1)."""

    good: str
    bad: str
    line: int
    new_line: int
    # Its first sentence there, from 1; 0: whole lines.
    sentence: int = 0
    # The lines of the hunk that it was taken from; empty where it is all of it.
    block: str = ""


# Takes a piece further apart.
Split = Callable[[TextPiece], Iterator[TextPiece]]


def diff_text(good: str, bad: str, spot: ChangeSpot, scribe: Scribe, *, split: Split | None = None) -> Node:
    """How the two texts, which differ, are put together."""
    is_open = not good.endswith("\n") and not bad.endswith("\n")  # so that what comes behind the last line leaves that as it is
    ours, theirs = (good + "\n", bad + "\n") if is_open else (good, bad)
    pieces = list(_text_pieces(ours, theirs, suffix=PurePosixPath(spot.label).suffix))
    if split is not None:
        pieces = [part for piece in pieces for part in (split(piece) if piece.good != piece.bad else (piece,))]
    if len(pieces) == 1:
        has_lines = 2 <= max(len(lines_with_ends(good)), len(lines_with_ends(bad))) <= _MOST_LINES
        return scribe.whole(good, bad, spot.hunk("1") if has_lines else spot)
    parts, ids = _recorded(pieces, spot, scribe, _paragraphs(good))
    return Text(good, bad, ids, parts, is_open)


def _recorded(
    pieces: Sequence[TextPiece], spot: ChangeSpot, scribe: Scribe, paragraphs: list[int]
) -> tuple[tuple[str | tuple[str, str, int], ...], frozenset[int]]:
    """The parts of a text's node, every changed one with its number, and these numbers."""
    numbers: dict[int, int] = {}
    gone_texts = ((i, text) for i, each in enumerate(pieces) if not each.bad and len(text := each.good.strip()) >= _MOVED)
    moves = matched_moves(gone_texts, ((i, each.bad.strip()) for i, each in enumerate(pieces) if not each.good))
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
    return tuple(parts), frozenset(numbers.values())


def _hunk_place(piece: TextPiece, spot: ChangeSpot, paragraphs: list[int]) -> ChangeSpot:
    """Where a piece is: its line in good; of several that were added in one place, its line in bad."""
    is_added = bool(piece.block) and not piece.good
    lead = len(lines_with_ends(text := piece.bad if is_added else piece.good)) - len(lines_with_ends(text.lstrip()))
    position = f"+{piece.new_line + lead}" if is_added else str(piece.line + (lead if piece.block or piece.sentence else 0))
    paragraph = paragraphs[min(piece.line, len(paragraphs)) - 1]
    around = (f"paragraph {paragraph}" if paragraphs[-1] > 1 else "", piece.block)
    return spot.hunk(f"{position}.{piece.sentence}" if piece.sentence else position, *filter(None, around))


def _record_hunk(gone: TextPiece, come: TextPiece, place: ChangeSpot, scribe: Scribe) -> int:
    """The number of a new change: a hunk, or, when the two pieces are different ones, a move."""
    if gone is not come:
        summary = f"moved from line {gone.line} to line {come.line}"
        return scribe.add(place, "moved", gone.good, come.bad, summary)
    (change,) = scribe.whole(gone.good or MISSING, gone.bad or MISSING, place).ids
    return change


def lines_with_ends(text: str) -> list[str]:
    """Lines with their ends. Only a line feed ends one: the others may be meant as text."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + lines[-1:] if lines[-1] else [line + "\n" for line in lines[:-1]]


def _paragraphs(text: str) -> list[int]:
    """The number of the paragraph that each line belongs to, from 1; blank lines belong to the one before."""
    number, open_ = 0, False
    numbers = []
    for line in lines_with_ends(text):
        number += not open_ and not is_blank(line)
        open_ = not is_blank(line)
        numbers.append(max(number, 1))
    return numbers or [1]


# -- hunks -------------------------------------------------------------------------------------------------------


def _text_pieces(good: str, bad: str, *, suffix: str) -> Iterator[TextPiece]:
    """Pieces that add up to both texts. Equal ones have the same text on both sides."""
    a, b = lines_with_ends(good), lines_with_ends(bad)
    if max(len(a), len(b)) > _MOST_LINES:
        yield TextPiece(good, bad, 1, 1)
        return
    are_settings = bool(_SETTINGS.fullmatch(suffix))
    hunks = _Hunks(a, b, effort=_EFFORT if are_settings or _PROSE.fullmatch(suffix) else 0, are_settings=are_settings)
    for run in align(a, b, blank=is_blank):
        if run.equal:
            yield hunks.piece(range(run.i1, run.i2), range(run.j1, run.j2))
        else:
            pieces = hunks.by_statement(run)
            for piece in hunks.by_paragraph(run) if pieces is None else pieces:
                yield from hunks.by_sentence(piece)


class _Hunks:
    """Takes the hunks of two texts apart. `effort`: what that may cost; 0 for a text without statements."""

    def __init__(self, a: list[str], b: list[str], *, effort: int, are_settings: bool) -> None:
        self._a, self._b, self._effort = a, b, effort
        # As they are read, where a line `key = value` of settings is like any other that sets something.
        self._read = [[line.replace("=", ": ", 1) for line in side] if are_settings else side for side in (a, b)]
        # None until there is a hunk to take apart.
        self._outlines: tuple[Outline, Outline] | None = None

    def piece(self, ours: range, theirs: range) -> TextPiece:
        """The piece of some lines of both sides."""
        good, bad = "".join(self._a[ours.start : ours.stop]), "".join(self._b[theirs.start : theirs.stop])
        return TextPiece(good, bad, ours.start + 1, theirs.start + 1)

    def by_paragraph(self, run: Run) -> Iterator[TextPiece]:
        """Paragraph against paragraph when both sides have as many, else the run as one."""
        ours, theirs = _stretches(self._a, run.i1, run.i2), _stretches(self._b, run.j1, run.j2)
        alike = len(ours) == len(theirs) > 1 and is_blank(self._a[run.i1]) == is_blank(self._b[run.j1])
        for mine, their in zip(ours, theirs, strict=True) if alike else [(range(run.i1, run.i2), range(run.j1, run.j2))]:
            yield self.piece(mine, their)

    def by_statement(self, run: Run) -> list[TextPiece] | None:
        """Each statement by itself; None where there is one only, where they cannot be told apart, and for most small hunks."""
        if not self._effort:
            return None
        sides = range(run.i1, run.i2), range(run.j1, run.j2)
        self._outlines = self._outlines or (Outline(self._read[0]), Outline(self._read[1]))
        ours, theirs = (outline.statements(side) if side else [] for outline, side in zip(self._outlines, sides, strict=True))
        if max(len(ours), len(theirs)) < 2 or not self._is_worth(len(ours), len(theirs)):
            return None
        texts = [self._text(self._read[0], each) for each in ours], [self._text(self._read[1], each) for each in theirs]
        pairs = paired_statements(*texts)
        is_small = all(
            sum(not is_blank(s[i]) for i in side) <= _SMALL for s, side in zip((self._a, self._b), sides, strict=True)
        )
        is_new = (run.i1, run.j1, run.i2, run.j2) == (0, 0, len(self._a), len(self._b))
        edits = sum(i is not None and j is not None for i, j in pairs)
        if (is_small and edits < len(pairs)) or (is_new and not edits):
            return None
        rows = list(_filled(pairs, *texts))
        pieces = self._pieces(rows, ours, theirs, run)
        if sum(piece.good != piece.bad for piece in pieces) < 2:
            return pieces
        first, last = (run.j1 + 1, run.j2) if theirs else (run.i1 + 1, run.i2)
        block = f"{'new ' if theirs else ''}{f'line {first}' if first == last else f'lines {first}–{last}'}"
        return [piece._replace(block=block) for piece in pieces]

    def _is_worth(self, ours: int, theirs: int) -> bool:
        """Whether so many statements may be paired; if so, that is taken off what the text may cost."""
        cost = ours * theirs + _STATEMENT * (ours + theirs)
        if max(ours, theirs) > _MOST_STATEMENTS or ours * theirs > _MOST_PAIRS or cost > self._effort:
            return False
        self._effort -= cost
        return True

    def _pieces(self, rows: list[_Pair], ours: list[range], theirs: list[range], run: Run) -> list[TextPiece]:
        """The pieces of paired statements. Neighbours that only have another number are one; blank lines that stay are apart."""
        found: list[TextPiece] = []
        i, j = run.i1, run.j1
        for is_renumbered, group in groupby(rows, lambda row: self._is_renumbered(row, ours, theirs)):
            members = list(group)
            for some in [members] if is_renumbered else [[row] for row in members]:
                mine = range(i, max([i, *(ours[m].stop for m, _ in some if m is not None)]))
                their = range(j, max([j, *(theirs[n].stop for _, n in some if n is not None)]))
                i, j = mine.stop, their.stop
                found += self._without_blanks(mine, their)
        return found

    def _is_renumbered(self, row: _Pair, ours: list[range], theirs: list[range]) -> bool:
        i, j = row
        if i is None or j is None:
            return False
        mine, their = self._text(self._read[0], ours[i]), self._text(self._read[1], theirs[j])
        return mine != their and unnumbered(mine) == unnumbered(their)

    def _without_blanks(self, mine: range, their: range) -> Iterator[TextPiece]:
        """A piece, and before and behind it the blank lines that both sides of it have."""
        lead = tail = 0
        least = min(len(mine), len(their))
        while lead < least and is_blank(x := self._a[mine[lead]]) and x == self._b[their[lead]]:
            lead += 1
        while tail < least - lead and is_blank(x := self._a[mine[-1 - tail]]) and x == self._b[their[-1 - tail]]:
            tail += 1
        for ours, theirs in (
            (mine[:lead], their[:lead]),
            (mine[lead : len(mine) - tail], their[lead : len(their) - tail]),
            (mine[len(mine) - tail :], their[len(their) - tail :]),
        ):
            if ours or theirs:
                yield self.piece(ours, theirs)

    # -- by sentence -------------------------------------------------------------------------------------------------
    def by_sentence(self, piece: TextPiece) -> Iterator[TextPiece]:
        """Sentence against sentence in a long piece that keeps some of them, else the piece itself."""
        if piece.good == piece.bad or not (piece.good and piece.bad) or max(len(piece.good), len(piece.bad)) < LONG:
            yield piece
            return
        end = piece.good[len(piece.good.rstrip()) :]
        end = end if end == piece.bad[len(piece.bad.rstrip()) :] else ""
        a, b = _sentence_pieces(piece.good.removesuffix(end)), _sentence_pieces(piece.bad.removesuffix(end))
        runs = align(a, b)
        if not any(run.equal for run in runs):
            yield piece
            return
        lines, new_lines = (
            list(accumulate((sentence.count("\n") for sentence in side), initial=line))
            for side, line in ((a, piece.line), (b, piece.new_line))
        )
        for run in runs:
            rows = self._sentence_rows(a, b, run)
            i, j = run.i1, run.j1
            for mine, their in rows:
                good, bad = "".join(a[i : i + mine]), "".join(b[j : j + their])
                block = f"new sentences {run.j1 + 1}–{run.j2}" if len(rows) > 1 else piece.block
                number = j + 1 if block and not good else i + 1
                yield TextPiece(good, bad, lines[i], new_lines[j], number, block)
                i, j = i + mine, j + their
        if end:
            yield TextPiece(end, end, lines[-1], new_lines[-1])

    def _sentence_rows(self, a: list[str], b: list[str], run: Run) -> list[tuple[int, int]]:
        """How many sentences of both sides stand against each other, in order: those that are edits by themselves, or all."""
        ours, theirs = a[run.i1 : run.i2], b[run.j1 : run.j2]
        if run.equal or not self._is_worth(len(ours), len(theirs)):
            return [(len(ours), len(theirs))]
        pairs = list(_filled(paired_statements(ours, theirs), ours, theirs))
        if any(i is not None and j is not None and ours[i].strip() == theirs[j].strip() for i, j in pairs):
            return [(len(ours), len(theirs))]  # only the space before it differs, which the others of the run decide
        return [(i is not None, j is not None) for i, j in pairs]

    @staticmethod
    def _text(lines: list[str], span: range) -> str:
        return "".join(lines[span.start : span.stop])


def _stretches(lines: list[str], start: int, stop: int) -> list[range]:
    """Lines in runs of blank ones and others."""
    lengths = [len(list(run)) for _, run in groupby(lines[start:stop], is_blank)]
    ends = list(accumulate(lengths, initial=start))
    return [range(a, b) for a, b in pairwise(ends)]


# A statement of good and one of bad, by number; None where there is no such one.
_Pair = tuple[int | None, int | None]


def paired_statements(ours: Sequence[str], theirs: Sequence[str]) -> list[_Pair]:
    """Every statement once, in order on both sides: beside the one it is an edit of, so that most words agree; else alone.

    A global alignment with free gaps (Needleman and Wunsch 1970).
    """
    bags = [[(words_of(unnumbered(text)), key_of(text), text.strip()) for text in side] for side in (ours, theirs)]
    gain = [[_agreement(x, y) for y in bags[1]] for x in bags[0]]
    m, n = len(ours), len(theirs)
    best = [[0.0] * (n + 1) for _ in range(m + 1)]
    for i in range(m - 1, -1, -1):
        for j in range(n - 1, -1, -1):
            paired = best[i + 1][j + 1] + gain[i][j] if gain[i][j] else 0.0
            best[i][j] = max(best[i + 1][j], best[i][j + 1], paired)
    found: list[_Pair] = []
    i = j = 0
    while i < m and j < n:
        if gain[i][j] and best[i][j] == best[i + 1][j + 1] + gain[i][j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            found.append((i, None))
            i += 1
        else:
            found.append((None, j))
            j += 1
    return [*found, *((k, None) for k in range(i, m)), *((None, k) for k in range(j, n))]


_Bag = tuple[frozenset[str], str | None, str]


def _agreement(x: _Bag, y: _Bag) -> float:
    """What a pair is worth: the share of words in common where it is an edit, 0 where it is none; most for the same text."""
    if x[2] == y[2]:
        return 1.5
    share = dice(x[0], y[0])
    if x[1] is not None and x[1] == y[1]:
        share = max(share, _SAME_KEY)
    return share if share >= _EDITED else 0.0


def _filled(pairs: list[_Pair], ours: Sequence[str], theirs: Sequence[str]) -> Iterator[_Pair]:
    """Between two pairs, as many removed as added are taken to be rewritten, each into its opposite, unless one only moved."""
    texts = {text.strip() for text in ours} & {text.strip() for text in theirs}
    for is_pair, group in groupby(pairs, lambda pair: None not in pair):
        members = list(group)
        gone, come = [i for i, _ in members if i is not None], [j for _, j in members if j is not None]
        moved = any(ours[i].strip() in texts for i in gone) or any(theirs[j].strip() in texts for j in come)
        if is_pair or len(gone) != len(come) or moved:
            yield from members if is_pair else [*((i, None) for i in gone), *((None, j) for j in come)]
        else:
            yield from zip(gone, come, strict=True)


def _sentence_pieces(text: str) -> list[str]:
    """Sentences with the space before them, so that one that is put behind the last leaves that as it is."""
    last = len(text.rstrip())
    ends = [0, *(end for match in _SENTENCE_END.finditer(text) if (end := match.end()) < last), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]
