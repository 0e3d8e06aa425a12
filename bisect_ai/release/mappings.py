"""Two mappings compared by key, document sets by document, JSON schemas by field.

A field of a schema that is renamed, added or removed takes its entry in `required` along, so that neither half is a change of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.canonical import Json
from bisect_ai.provider.redaction import shown, turn
from bisect_ai.release.changes import ChangeSpot, Inner, Scribe
from bisect_ai.release.composition import MISSING, Fields, Node, Slot, either, fields, items, present, same, unchanged
from bisect_ai.release.correspondence import align, document_renames, field_renames, key_renames

Entries = dict[str, Any]
_SET_NAMES = frozenset(
    [
        "documents",
        "docs",
        "corpus",
        "articles",
        "pages",
        "passages",
        "chunks",
        "knowledge",
        "knowledge_base",
        "kb",
        "faq",
    ]
)


def diff_mapping(good: Entries, bad: Entries, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Node:
    """How the two mappings, which differ, are put together."""
    if _is_document_set(good, bad, spot):
        return document_set(good, bad, spot, scribe)
    return by_key(good, bad, spot, scribe, inner)


def is_document_name(spot: ChangeSpot) -> bool:
    """Whether what is here is named like a set of documents."""
    return (spot.label or spot.axis).casefold() in _SET_NAMES


def _is_document_set(good: Entries, bad: Entries, spot: ChangeSpot) -> bool:
    """A mapping of name to text, or below the top of an axis to a record, under such a name."""
    kinds = str | dict if spot.label else str
    return is_document_name(spot) and all(isinstance(value, kinds) for side in (good, bad) for value in side.values())


# -- by key ------------------------------------------------------------------------------------------------------


def by_key(good: Entries, bad: Entries, spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Fields:
    """Entries by key; a value that is there under another key is one change."""
    gone = {key: value for key, value in good.items() if key not in bad}
    come = {key: value for key, value in bad.items() if key not in good}
    return renamed(good, bad, key_renames(gone, come), spot, scribe, inner)


def renamed(good: Entries, bad: Entries, renames: Mapping[str, str], spot: ChangeSpot, scribe: Scribe, inner: Inner) -> Fields:
    """Entries by key, some of which (old key to new key) were renamed."""
    slots = {}
    for key, place in _differing_keys(good, bad, renames, spot):
        slots[key] = _key_slot(key, good, bad, renames, place, scribe, inner)
    return fields(good, bad, slots, _added(good, bad, renames, spot, scribe))


def _differing_keys(
    good: Entries, bad: Entries, renames: Mapping[str, str], spot: ChangeSpot
) -> Iterator[tuple[str, ChangeSpot]]:
    """Keys of good whose entry is renamed, gone or another in bad, with their places."""
    taken = set(renames.values())
    for key, value in good.items():
        kept = key in bad and key not in taken
        if key in renames or not kept or not same(value, bad[key]):
            yield key, spot if _is_function(key, value) else spot.child(key)


def _is_function(key: str, value: Json) -> bool:
    """The wrapper of an OpenAI-style tool, which is no level of its own to a reader."""
    return key == "function" and isinstance(value, dict) and "name" in value


def _key_slot(
    key: str, good: Entries, bad: Entries, renames: Mapping[str, str], place: ChangeSpot, scribe: Scribe, inner: Inner
) -> Slot:
    new = renames.get(key)
    if new is not None:
        rename = scribe.add(place, "renamed", key, new, f"{shown(key)} renamed to {shown(new)}")
        alike = same(good[key], bad[new])
        return Slot(key, new, unchanged(good[key]) if alike else inner(good[key], bad[new], place), rename)
    if key in bad:
        return Slot(key, key, inner(good[key], bad[key], place))
    return Slot(key, key, scribe.whole(good[key], MISSING, place))


def _added(good: Entries, bad: Entries, renames: Mapping[str, str], spot: ChangeSpot, scribe: Scribe) -> list[Slot]:
    taken = set(renames.values())
    new = (key for key in bad if key not in good and key not in taken)
    return [Slot(key, key, scribe.whole(MISSING, bad[key], spot.child(key))) for key in new]


# -- document sets -----------------------------------------------------------------------------------------------


def document_set(good: Entries, bad: Entries, spot: ChangeSpot, scribe: Scribe) -> Node:
    """One change for each document that was added, removed, edited, or moved (and perhaps edited on the way).

    A name on both sides is the same document, also when texts went round among names: so every combination can be built.
    """
    gone = {name: text for name, text in good.items() if name not in bad}
    come = {name: text for name, text in bad.items() if name not in good}
    renames = document_renames(gone, come)
    slots = {}
    for name, text in good.items():
        if name in bad and same(text, bad[name]):
            continue
        slots[name] = document_slot(name, good, bad, renames, spot.document(name), scribe)
    taken = set(renames.values())
    new = (name for name in come if name not in taken)
    added = [Slot(name, name, scribe.whole(MISSING, bad[name], spot.document(name))) for name in new]
    return fields(good, bad, slots, added)


def document_slot(
    name: str, good: Entries, bad: Entries, renames: Mapping[str, str], place: ChangeSpot, scribe: Scribe
) -> Slot:
    """The entry of a document of good that is another, elsewhere or gone in bad."""
    new = renames.get(name)
    if new is None:
        return Slot(name, name, scribe.whole(good[name], bad.get(name, MISSING), place))
    if same(good[name], bad[new]):
        move = scribe.add(place, "moved", name, new, f"moved to {shown(new)}")
        return Slot(name, new, unchanged(good[name]), move)
    summary = f"moved to {shown(new)} and edited: {turn(good[name], bad[new])}"
    move = scribe.add(place, "moved", {name: good[name]}, {new: bad[new]}, summary)
    return Slot(name, new, either(good[name], bad[new], move), move)


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
