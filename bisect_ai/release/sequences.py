"""Two lists compared: items with names by name, others by alignment. Two texts: by hunk, a long run of changed lines by sentence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple, TypeVar

from bisect_ai.canonical import Json, canonical
from bisect_ai.provider.redaction import shown
from bisect_ai.release.changes import ChangeSpot, Inner, Scribe
from bisect_ai.release.composition import MISSING, Items, Node, Text, either, items, same, unchanged
from bisect_ai.release.correspondence import align, key_renames, likeness

# Share of two items that must agree for one to be an edit of the other.
_ALIKE = 0.5
# Stretches of more pairs are not searched for edits: removed here, added there.
_MOST_PAIRS = 2_500


def diff_list(good: list[Any], bad: list[Any], spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    """How the two lists, which differ, are put together."""
    naming = _naming(good, bad)
    if naming is not None:
        return _list_by_name(good, bad, naming, spot, scribe, inner)
    return _aligned(good, bad, spot, scribe, inner)


# -- by name -----------------------------------------------------------------------------------------------------


class _Naming(NamedTuple):
    """What tells the items of a list apart: how to read an item's name, and the item without it."""

    name: Callable[[Any], Any]
    rest: Callable[[Any], Json]


def _named_under(key: str) -> _Naming:
    return _Naming(lambda item: item.get(key), lambda item: {k: v for k, v in item.items() if k != key})


_NAME = _named_under("name")
_FUNCTION = _Naming(
    lambda item: _NAME.name(item["function"]) if isinstance(item.get("function"), dict) else None,
    lambda item: {**item, "function": _NAME.rest(item["function"])},
)
_NAMINGS = (_NAME, _FUNCTION, _named_under("id"))


def _naming(good: list[Any], bad: list[Any]) -> _Naming | None:
    """By name, by the name of the function, or by id: whichever every item of both lists has, each another."""
    if not good or not bad or not all(isinstance(item, dict) for item in (*good, *bad)):
        return None
    return next((naming for naming in _NAMINGS if _tells_apart(naming, good) and _tells_apart(naming, bad)), None)


def _tells_apart(naming: _Naming, items: list[Any]) -> bool:
    names = [naming.name(item) for item in items]
    plain = all(isinstance(name, str | int) and not isinstance(name, bool) for name in names)
    return plain and len({str(name) for name in names}) == len(names)


def _list_by_name(good: list[Any], bad: list[Any], naming: _Naming, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    ours, theirs = ({str(naming.name(item)): item for item in side} for side in (good, bad))
    gone, come = (
        {name: naming.rest(item) for name, item in one.items() if name not in other}
        for one, other in ((ours, theirs), (theirs, ours))
    )
    renames = key_renames(gone, come)
    pairs = list(_merged_names(list(ours), list(theirs), renames))
    slots = []
    for old, new in pairs:
        exact = old in renames and same(gone[old], come[renames[old]])
        slots.append(_named_slot(ours, theirs, old, new, exact, spot, scribe, inner))
    return _ordered_items(good, bad, slots, pairs, list(theirs), spot, scribe)


_Names = tuple[str | None, str | None]


def _merged_names(ours: list[str], theirs: list[str], renames: dict[str, str]) -> Iterator[_Names]:
    """(name in good, name in bad) in good's order; an item that is new follows the one that it follows in bad."""
    names = {**{name: name for name in theirs}, **renames}
    became = {names[name]: name for name in ours if name in names}
    follows: dict[str | None, list[str]] = {}
    last = None
    for name in theirs:
        last = became.get(name, last)
        if name not in became:
            follows.setdefault(last, []).append(name)
    yield from ((None, new) for new in follows.get(None, ()))
    for old in ours:
        yield old, names.get(old)
        yield from ((None, new) for new in follows.get(old, ()))


def _named_slot(
    ours: dict[str, Any], theirs: dict[str, Any], old: str | None, new: str | None, exact: bool,
    spot: ChangeSpot, scribe: Scribe, inner: Inner,
) -> Node:  # fmt: skip
    good = MISSING if old is None else ours[old]
    bad = MISSING if new is None else theirs[new]
    place = spot.child(str(new if old is None else old))
    if good is MISSING or bad is MISSING:
        return scribe.whole(good, bad, place)
    if exact:
        return either(good, bad, scribe.add(place, "renamed", old, new, f"{shown(old)} renamed to {shown(new)}"))
    return unchanged(good) if same(good, bad) else inner(good, bad, place)


def _ordered_items(
    good: list[Any],
    bad: list[Any],
    slots: list[Node],
    pairs: list[_Names],
    theirs: list[str],
    spot: ChangeSpot,
    scribe: Scribe,
) -> Items:
    """The items, with one more change when those that stay are in another order."""
    place = {new: number for number, (_, new) in enumerate(pairs) if new is not None}
    sequence = [place[new] for new in theirs]
    if sequence == sorted(sequence):
        return items(good, bad, slots)
    summary = "the same items in another order"
    change = scribe.add(spot.child("order"), "reordered", [old for old, _ in pairs if old], theirs, summary)
    gone = [number for number, (_, new) in enumerate(pairs) if new is None]
    return items(good, bad, slots, reorder=change, bad_order=[*sequence, *gone])


# -- by alignment ------------------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """An item of good and the item of bad that it became; None where there is no such item."""

    i: int | None
    j: int | None


def _aligned(good: list[Any], bad: list[Any], spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    ours, theirs = ([_token(item) for item in side] for side in (good, bad))
    pairs = list(_aligned_pairs(good, bad, ours, theirs))
    gone = ((pair, ours[pair.i]) for pair in pairs if pair.i is not None and pair.j is None)
    moves = _moves(gone, ((pair, theirs[pair.j]) for pair in pairs if pair.j is not None and pair.i is None))
    numbers: dict[_Pair, int] = {}
    slots: list[Node] = []
    for pair in pairs:
        if pair in moves:
            slots.append(_moved_slot(good, bad, pair, moves[pair], numbers, spot, scribe))
        else:
            slots.append(_item_slot(good, bad, pair, spot, scribe, inner))
    return items(good, bad, slots)


def _token(item: Json) -> str:
    """A text that two items share only when they are the same."""
    return f'"{item}' if isinstance(item, str) else canonical(item)


def _aligned_pairs(good: list[Any], bad: list[Any], ours: list[str], theirs: list[str]) -> Iterator[_Pair]:
    for run in align(ours, theirs):
        mine, their = range(run.i1, run.i2), range(run.j1, run.j2)
        if run.equal or len(mine) == len(their):
            yield from (_Pair(i, j) for i, j in zip(mine, their, strict=True))
        else:
            yield from _edits(good, bad, mine, their)


def _edits(good: list[Any], bad: list[Any], mine: range, their: range) -> Iterator[_Pair]:
    """Each new item beside the first later item of good that it is an edit of, else alone."""
    start = mine.start
    for j in their:
        searched = range(start, mine.stop) if len(mine) * len(their) <= _MOST_PAIRS else range(0)
        i = next((i for i in searched if _likeness(good[i], bad[j]) >= _ALIKE), None)
        if i is not None:
            yield from (_Pair(k, None) for k in range(start, i))
            start = i + 1
        yield _Pair(i, j)
    yield from (_Pair(k, None) for k in range(start, mine.stop))


def _likeness(a: Json, b: Json) -> float:
    """Share of two items that agrees, from 0 to 1: by key for mappings, by words for texts."""
    if isinstance(a, str) and isinstance(b, str):
        return likeness(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        keys = {**a, **b}
        return sum(_likeness(a.get(key), b.get(key)) for key in keys) / len(keys) if keys else 1.0
    return 1.0 if same(a, b) else 0.0


_Place = TypeVar("_Place")


def _moves(gone: Iterable[tuple[_Place, str]], come: Iterable[tuple[_Place, str]]) -> dict[_Place, tuple[_Place, _Place]]:
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


def _moved_slot(
    good: list[Any],
    bad: list[Any],
    pair: _Pair,
    move: tuple[_Pair, _Pair],
    numbers: dict[_Pair, int],
    spot: ChangeSpot,
    scribe: Scribe,
) -> Node:
    gone, come = move
    assert gone.i is not None and come.j is not None
    if gone not in numbers:
        summary = f"moved from place {gone.i} to place {come.j}"
        numbers[gone] = scribe.add(spot.item(gone.i), "moved", good[gone.i], bad[come.j], summary)
    item = good[gone.i]
    return either(item, MISSING, numbers[gone]) if pair is gone else either(MISSING, item, numbers[gone])


def _item_slot(good: list[Any], bad: list[Any], pair: _Pair, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    if pair.i is None:
        assert pair.j is not None
        return scribe.whole(MISSING, bad[pair.j], spot.item(pair.j, new=True))
    place = spot.item(pair.i)
    if pair.j is None:
        return scribe.whole(good[pair.i], MISSING, place)
    old, new = good[pair.i], bad[pair.j]
    if same(old, new):
        return unchanged(old)
    return inner(old, new, place) if _likeness(old, new) >= _ALIKE else scribe.whole(old, new, place)


# Characters from which on a rewritten run of lines is looked at sentence by sentence.
LONG = 200
# Texts of more lines are one change: such a text is data, not prose.
_MOST_LINES = 200_000
# Shortest text, in characters and without the spaces around it, whose removal here and appearance there is one move and not chance.
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
    gone_texts = ((i, text) for i, each in enumerate(pieces) if not each.bad and len(text := each.good.strip()) >= _MOVED)
    moves = _moves(gone_texts, ((i, each.bad.strip()) for i, each in enumerate(pieces) if not each.good))
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
