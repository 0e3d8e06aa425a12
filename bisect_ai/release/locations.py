"""Where a change lies in each release: the keys that lead to it, and for a piece of a text its lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bisect_ai.release.composition import Fields, Items, Node, Present, Recast, Slot, Text, Written
from bisect_ai.release.frozen import MISSING
from bisect_ai.release.sources import Keys


@dataclass(frozen=True)
class Place:
    """Keys below the axis; `first` and `last`: lines of the text there (from 1), None for a value as a whole."""

    keys: Keys
    first: int | None = None
    last: int | None = None


def place_of(node: Node, change: int, *, bad: bool, keys: Keys = ()) -> Place | None:
    """Where the change lies on one side of an axis; None when that side has nothing there."""
    if change not in node.ids:
        return None
    if isinstance(node, Text):
        return _in_text(node, change, bad, keys)
    if isinstance(node, Present):
        here = node.when if bad else not node.when
        return (Place(keys) if here else None) if node.change == change else place_of(node.node, change, bad=bad, keys=keys)
    if isinstance(node, Fields):
        return _in_fields((*node.slots.values(), *node.added), change, bad, keys)
    if isinstance(node, Items):
        return _in_items(node, change, bad, keys)
    if isinstance(node, Written) and not isinstance(node, Recast) and change in node.form.ids:
        return place_of(node.form, change, bad=bad, keys=keys)
    return None if (node.bad if bad else node.good) is MISSING else Place(keys)


def _in_text(node: Text, change: int, bad: bool, keys: Keys) -> Place | None:
    line = 1
    for piece in node.pieces:
        text = piece if isinstance(piece, str) else piece[1] if bad else piece[0]
        if not isinstance(piece, str) and piece[2] == change and text:
            return Place(keys, line, line + text.removesuffix("\n").count("\n"))
        line += text.count("\n")
    return None


def _in_fields(slots: Iterable[Slot], change: int, bad: bool, keys: Keys) -> Place | None:
    for slot in slots:
        below = (*keys, slot.bad_key if bad else slot.good_key)
        if slot.rename == change:
            return Place(below)
        if (found := place_of(slot.node, change, bad=bad, keys=below)) is not None:
            return found
    return None


def _in_items(node: Items, change: int, bad: bool, keys: Keys) -> Place | None:
    if node.reorder == change:
        return Place(keys)
    turned = bad and node.reorder is not None
    number = 0
    for slot in [node.slots[i] for i in node.bad_order] if turned else node.slots:
        if (found := place_of(slot, change, bad=bad, keys=(*keys, number))) is not None:
            return found
        number += (slot.bad if bad else slot.good) is not MISSING
    return None
