"""Two JSON schemas compared by field: renames found, and `required` following the fields that it names.

A field that is renamed, added or removed takes its entry in `required` along, so that neither half is a change of its own.
"""

from __future__ import annotations

from typing import Any

from bisect_ai.canonical import Json
from bisect_ai.release.align import align
from bisect_ai.release.changes import ChangeSpot, Inner, Scribe
from bisect_ai.release.composition import Fields, Node, Slot, either, fields, items, present, unchanged
from bisect_ai.release.frozen import MISSING, same
from bisect_ai.release.mappings import Entries, by_key, renamed
from bisect_ai.release.quoting import shown
from bisect_ai.release.renames import field_renames


def is_schema(value: Json) -> bool:
    """An object schema with fields."""
    return isinstance(value, dict) and isinstance(value.get("properties"), dict)


def diff_schema(good: Entries, bad: Entries, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    """How the two schemas, which differ, are put together."""
    slots = {"properties": _properties_slot(good["properties"], bad["properties"], spot, scribe, inner)}
    required = _required(good, bad, slots["properties"].node, spot, scribe)
    if required is not None:
        slots["required"] = Slot("required", "required", required)
    rest_good, rest_bad = ({k: v for k, v in side.items() if k not in slots} for side in (good, bad))
    rest = by_key(rest_good, rest_bad, spot, scribe, inner)
    known = {key: slot for key, slot in slots.items() if key in good}
    new = [slot for key, slot in slots.items() if key not in good]
    return fields(good, bad, known | dict(rest.slots), [*new, *rest.added])


def _properties_slot(good: Entries, bad: Entries, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Slot:
    if same(good, bad):
        return Slot("properties", "properties", unchanged(good))
    renames = field_renames(good, bad)
    node = renamed(good, bad, renames, spot, scribe, inner)
    for old, new in renames.items():
        first, second = node.slots[old].rename, node.slots[new].rename if new in good else None
        if first is not None and second is not None:
            scribe.needs.append((first, second))
    return Slot("properties", "properties", node)


def _required(good: Entries, bad: Entries, properties: Node, spot: ChangeSpot, scribe: Scribe) -> Node | None:
    """The `required` list; None when it is the same or no plain list of names, and so nothing particular."""
    ours, theirs = (side.get("required", MISSING) for side in (good, bad))
    a, b = ([] if side is MISSING else side for side in (ours, theirs))
    if not (_is_names(a) and _is_names(b)) or (ours is MISSING and not b) or (theirs is MISSING and not a):
        return None
    if same(ours, theirs):
        return None
    of_fields = properties if isinstance(properties, Fields) else fields(good["properties"], bad["properties"], {}, [])
    entries = _Entries(a, b, of_fields, spot.child("required"), scribe)
    return items(ours, theirs, entries.slots()) if entries.distinct else None


def _is_names(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(e, str) for e in entries) and len(set(entries)) == len(entries)


class _Entries:
    """The entries of one `required` list, matched under the names that their fields have in bad."""

    def __init__(self, good: list[str], bad: list[str], of_fields: Fields, spot: ChangeSpot, scribe: Scribe) -> None:
        self._good, self._bad, self._spot, self._scribe = good, bad, spot, scribe
        self._renames = {old: slot for old, slot in of_fields.slots.items() if slot.rename is not None}
        self._gone = {old: slot.node for old, slot in of_fields.slots.items() if slot.node.bad is MISSING}
        self._come = {slot.bad_key: slot.node for slot in of_fields.added}
        self._new_names = [self._new_name(old) for old in good]
        self._old_names = dict(zip(self._new_names, good, strict=True))
        self._moves: dict[str, int] = {}

    @property
    def distinct(self) -> bool:
        """Whether no renaming makes two entries one."""
        return len(self._old_names) == len(self._good)

    def slots(self) -> list[Node]:
        """The entries in order: those of good, and before what follows them in bad, the new ones."""
        slots: list[Node] = []
        for run in align(self._new_names, self._bad):
            ours, theirs = self._good[run.i1 : run.i2], self._bad[run.j1 : run.j2]
            if run.equal:
                slots += map(self._entry, ours)
            else:
                slots += [*map(self._leaving, ours), *map(self._arriving, theirs)]
        return slots

    def _new_name(self, old: str) -> str:
        return self._renames[old].bad_key if old in self._renames else old

    def _entry(self, old: str) -> Node:
        """An entry under the name that its field has."""
        slot = self._renames.get(old)
        return unchanged(old) if slot is None or slot.rename is None else either(old, slot.bad_key, slot.rename)

    def _leaving(self, old: str) -> Node:
        if self._new_name(old) in self._bad:
            return present(self._entry(old), self._move(old), when=False)
        if old in self._gone:
            return either(old, MISSING, *self._gone[old].ids)
        change = self._scribe.add(self._spot.child(old), "removed", old, MISSING, f"{shown(old)} no longer required")
        return present(self._entry(old), change, when=False)

    def _arriving(self, new: str) -> Node:
        if new in self._old_names:
            return present(self._entry(self._old_names[new]), self._move(self._old_names[new]), when=True)
        if new in self._come:
            return either(MISSING, new, *self._come[new].ids)
        old = next((old for old, slot in self._renames.items() if slot.bad_key == new), new)
        change = self._scribe.add(self._spot.child(new), "added", MISSING, new, f"{shown(new)} now required")
        return present(self._entry(old), change, when=True)

    def _move(self, old: str) -> int:
        """The change that takes an entry to another place in the list: its field's renaming, when there is one."""
        slot = self._renames.get(old)
        if slot is not None and slot.rename is not None:
            return slot.rename
        if old not in self._moves:
            summary = f"{shown(old)} at another place in the list"
            self._moves[old] = self._scribe.add(self._spot.child(old), "reordered", old, old, summary)
        return self._moves[old]
