"""Two mappings compared by key, and document sets by document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.canonical import Json
from bisect_ai.release.changes import ChangeSpot, Inner, Scribe
from bisect_ai.release.composition import Fields, Node, Slot, either, fields, unchanged
from bisect_ai.release.frozen import MISSING, same
from bisect_ai.release.quoting import shown, turn
from bisect_ai.release.renames import document_renames, key_renames

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
    for key, place in _differing(good, bad, renames, spot):
        slots[key] = _key_slot(key, good, bad, renames, place, scribe, inner)
    return fields(good, bad, slots, _added(good, bad, renames, spot, scribe))


def _differing(good: Entries, bad: Entries, renames: Mapping[str, str], spot: ChangeSpot) -> Iterator[tuple[str, ChangeSpot]]:
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
