"""Two lists compared: items with names by name, others by alignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bisect_ai.canonical import Json, canonical
from bisect_ai.provider.redaction import shown
from bisect_ai.release.changes import ChangeSpot, Inner, Scribe
from bisect_ai.release.composition import MISSING, Items, Node, either, items, same, unchanged
from bisect_ai.release.correspondence import align, dice, key_renames, matched_moves, words_of

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
    if same(good, bad):
        return unchanged(good)
    return scribe.whole(good, bad, place) if _is_other_example(good, bad) else inner(good, bad, place)


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
    moves = matched_moves(gone, ((pair, theirs[pair.j]) for pair in pairs if pair.j is not None and pair.i is None))
    numbers: dict[_Pair, int] = {}
    slots: list[Node] = []
    turns = _exchanges(good, bad, pairs)
    for pair in pairs:
        if pair in turns:
            slots.append(_exchange_slot(good, bad, pair, turns[pair], numbers, spot, scribe))
        elif pair in moves:
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
        return dice(words_of(a), words_of(b))
    if isinstance(a, dict) and isinstance(b, dict):
        keys = {**a, **b}
        return sum(_likeness(a.get(key), b.get(key)) for key in keys) / len(keys) if keys else 1.0
    return 1.0 if same(a, b) else 0.0


# Roles of messages that begin an exchange, or stand outside of any.
_BEGINS = ("user", "human", "system", "developer")


def _exchanges(good: list[Any], bad: list[Any], pairs: list[_Pair]) -> dict[_Pair, list[_Pair]]:
    """Message to all that differ with it in what a user asks and an assistant answers, where these are several."""
    if not all(isinstance(item, dict) and isinstance(item.get("role"), str) for item in (*good, *bad)):
        return {}
    found: dict[_Pair, list[_Pair]] = {}
    begun: list[_Pair] = []
    for pair in pairs:
        sides = [side[at] for side, at in ((good, pair.i), (bad, pair.j)) if at is not None]
        if sides[-1]["role"] in _BEGINS or (begun and _kind(pair) != _kind(begun[-1])):
            begun = []
        if len(sides) == 2 and same(*sides):
            continue
        begun.append(pair)
        if len(begun) > 1:
            found |= dict.fromkeys(begun, begun)
    return found


def _kind(pair: _Pair) -> tuple[bool, bool]:
    return pair.i is None, pair.j is None


def _exchange_slot(
    good: list[Any],
    bad: list[Any],
    pair: _Pair,
    turns: list[_Pair],
    numbers: dict[_Pair, int],
    spot: ChangeSpot,
    scribe: Scribe,
) -> Node:
    """A message that goes only with the others of its exchange."""
    first = turns[0]
    if first not in numbers:
        before = [good[turn.i] for turn in turns if turn.i is not None] or MISSING
        after = [bad[turn.j] for turn in turns if turn.j is not None] or MISSING
        place = spot.item(first.j or 0, new=True) if first.i is None else spot.item(first.i)
        (numbers[first],) = scribe.whole(before, after, place).ids
    sides = [MISSING if at is None else side[at] for side, at in ((good, pair.i), (bad, pair.j))]
    return either(sides[0], sides[1], numbers[first])


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
    is_edit = _likeness(old, new) >= _ALIKE and not _is_other_example(old, new)
    return inner(old, new, place) if is_edit else scribe.whole(old, new, place)


# What an example asks, and what it answers.
_ASKED = ("input", "question", "query", "user", "prompt", "instruction", "q")
_ANSWERED = ("output", "answer", "response", "assistant", "completion", "expected", "a")


def _is_other_example(old: Json, new: Json) -> bool:
    """Whether both the question and the answer of an example are others: the new question with the old answer would be nonsense."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return False
    differ = {key for key in old if key in new and not same(old[key], new[key])}
    return not differ.isdisjoint(_ASKED) and not differ.isdisjoint(_ANSWERED)
