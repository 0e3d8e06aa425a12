"""Which entry that went is the one that came under a new name: renames, so that both halves are one change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from difflib import SequenceMatcher

from bisect_ai.canonical import Json, canonical
from bisect_ai.release.frozen import same

# Shortest line, in characters, that tells one document from another.
_LINE = 4
# A line that more documents than this have says nothing about which is which.
_COMMON = 20


def spelling(name: str) -> str:
    """The name without case and separators: `customer_id`, `customerId` and `Customer-ID` have one spelling."""
    return "".join(character for character in name.casefold() if character.isalnum())


def key_renames(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Old key to new key: the same weighty value, or any value under another spelling of the key."""
    found = _paired_alike({key: value for key, value in gone.items() if _weighty(value)}, come)
    return found | _respelled(_without_names(gone, found), _without_names(come, found.values()))


def document_renames(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Old name to new name: the same content, else at least half of the lines in common."""
    found = _paired_alike({name: value for name, value in gone.items() if value not in ("", None)}, come)
    return found | _overlapping(_without_names(gone, found), _without_names(come, found.values()))


def field_renames(good: Mapping[str, Json], bad: Mapping[str, Json]) -> dict[str, str]:
    """Old field to new field of a schema: the same sub-schema under a new name, or another spelling of the name.

    A name that is on both sides can take part when its old sub-schema went elsewhere and another came in its place, both
    of them telling ones: then `a` → `b` cannot be applied without `b` → `c`.
    """
    passed_on = _passed_on(good, bad)
    found = _paired_alike(_left(good, bad, passed_on), _left(bad, good, passed_on))
    if passed_on and passed_on <= found.keys() & set(found.values()):
        return found
    gone, come = _left(good, bad), _left(bad, good)
    respelled = _respelled(gone, come)
    return respelled | _paired_alike(_without_names(gone, respelled), _without_names(come, respelled.values()))


def _left(one: Mapping[str, Json], other: Mapping[str, Json], besides: Collection[str] = ()) -> dict[str, Json]:
    return {name: value for name, value in one.items() if name not in other or name in besides}


def _without_names(entries: Mapping[str, Json], names: Collection[str]) -> dict[str, Json]:
    left_out = set(names)
    return {name: value for name, value in entries.items() if name not in left_out}


def _weighty(value: Json) -> bool:
    """Whether a value is so particular that meeting it again is no chance."""
    return len(value) >= 16 if isinstance(value, str) else isinstance(value, dict | list) and len(canonical(value)) >= 16


def _print(value: Json) -> str:
    """A text that stands for the value: texts themselves, so that none is copied."""
    return value if isinstance(value, str) else "\0" + canonical(value)


def _paired_alike(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    """Entries with one content, paired by the likeness of their names where several share it."""
    places: dict[str, list[str]] = {}
    for name, value in come.items():
        places.setdefault(_print(value), []).append(name)
    found = {}
    for name, value in gone.items():
        candidates = places.get(_print(value))
        if candidates:
            found[name] = candidates.pop(_nearest_name(name, candidates))
    return found


def _nearest_name(name: str, candidates: list[str]) -> int:
    if len(candidates) == 1 or len(candidates) > _COMMON:
        return 0
    likeness = [SequenceMatcher(None, name, other, autojunk=False).ratio() for other in candidates]
    return likeness.index(max(likeness))


def _respelled(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    spellings = {name: spelling(name) for name in (*gone, *come)}
    seen = Counter(spellings[name] for name in gone), Counter(spellings[name] for name in come)
    new = {spellings[name]: name for name in come}
    once = (name for name in gone if all(count[spellings[name]] == 1 for count in seen))
    return {name: new[spellings[name]] for name in once}


def _overlapping(gone: Mapping[str, Json], come: Mapping[str, Json]) -> dict[str, str]:
    lines = {name: _telling_lines(value) for name, value in gone.items() if isinstance(value, str)}
    where: dict[str, list[str]] = {}
    for name, members in lines.items():
        for line in members:
            where.setdefault(line, []).append(name)
    scores: list[tuple[float, str, str]] = []
    for name, value in come.items():
        mine = _telling_lines(value) if isinstance(value, str) else set()
        shared = Counter(old for line in mine for old in where.get(line, ()) if len(where[line]) <= _COMMON)
        scores += [(-2 * n / (len(mine) + len(lines[old])), old, name) for old, n in shared.items()]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for score, old, new in sorted(scores):
        if score <= -0.5 and old not in found and new not in taken:
            found[old] = new
            taken.add(new)
    return found


def _telling_lines(text: str) -> set[str]:
    return {line for line in (part.strip() for part in text.split("\n")) if len(line) >= _LINE}


def _passed_on(good: Mapping[str, Json], bad: Mapping[str, Json]) -> set[str]:
    """Names on both sides of which the old sub-schema has a new name and the new one had an old name."""
    kept = {n for n in good if n in bad and not same(good[n], bad[n]) and _telling(good[n]) and _telling(bad[n])}
    while True:
        gone = {_print(good[name]) for name in good if name not in bad or name in kept}
        come = {_print(bad[name]) for name in bad if name not in good or name in kept}
        left = {name for name in kept if _print(good[name]) in come and _print(bad[name]) in gone}
        if left == kept:
            return kept
        kept = left


def _telling(schema: Json) -> bool:
    """More than a bare type, which many fields share."""
    return isinstance(schema, dict) and len(schema) >= 2
