"""Writing changes down while two releases are compared: where we are, and what was found so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bisect_ai.canonical import Json
from bisect_ai.release.changes import Change, Kind
from bisect_ai.release.composition import Node, Value, either
from bisect_ai.release.frozen import MISSING
from bisect_ai.release.quoting import excerpt, turn

_NO_TEXT = ({"symlink"}, {"lfs", "bytes"}, {"binary", "bytes"})
"""Keys of what stands for a file that is no text."""
_SPACES = 40
"""Characters of a text of which only the white space changed that are shown."""


@dataclass(frozen=True)
class ChangeSpot:
    """A place in an axis: its path as text, its own label and the groups around it."""

    axis: str
    path: str = ""
    label: str = ""
    group: tuple[str, ...] = ()
    documents: bool = False
    """Below here every entry is a document: changed, moved, added or removed as one."""
    opens: str = "."
    """What stands between this path and a key below it."""

    @property
    def name(self) -> str:
        """The path; at the top, the axis."""
        return self.path or self.axis

    @property
    def inner(self) -> tuple[str, ...]:
        """The groups around whatever is below."""
        return (*self.group, self.label) if self.label else self.group

    def child(self, key: str) -> ChangeSpot:
        """The entry `key` of a mapping."""
        label = key if key and key.isprintable() else json.dumps(key)
        return self._below(f"{self.path}{self.opens}{label}" if self.path else label, label)

    def item(self, number: int, *, new: bool = False) -> ChangeSpot:
        """The item `number` of a list, counted from 0 in good, or in bad when it is new there."""
        label = f"[{'+' if new else ''}{number}]"
        return self._below(self.path + self.opens.strip(".") + label, label)

    def document(self, name: str) -> ChangeSpot:
        """A document of a set; its folders are groups."""
        *folders, label = name.split("/") if name.isprintable() else (json.dumps(name),)
        below = self._below("/".join(filter(None, (self.path, *folders, label))), label)
        return replace(below, group=(*below.group, *folders))

    def hunk(self, position: str, paragraph: int | None) -> ChangeSpot:
        """A piece of a text, named by line or by line and sentence."""
        below = self._below(f"{self.name}:{position}", position)
        return below if paragraph is None else replace(below, group=(*below.group, f"paragraph {paragraph}"))

    def _below(self, path: str, label: str) -> ChangeSpot:
        return ChangeSpot(self.axis, path, label, self.inner, self.documents)


Inner = Callable[[Json, Json, ChangeSpot], Node]
"""Compares what is below a spot."""


@dataclass
class Scribe:
    """Collects changes in reading order; a change's number is its position."""

    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    needs: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of numbers: the first change cannot be applied without the second."""
    _paths: set[tuple[str, str]] = field(default_factory=set)

    def add(self, spot: ChangeSpot, kind: Kind, before: Value, after: Value, summary: str = "") -> int:
        """The number of a new change."""
        good, bad = (None if value is MISSING else value for value in (before, after))
        text = summary or _change_summary(kind, good, bad)
        owner = self.provenance.get(spot.axis, {})
        self.changes.append(Change(spot.axis, self._unique(spot), text, good, bad, owner, kind, spot.group))
        return len(self.changes) - 1

    def whole(self, good: Value, bad: Value, spot: ChangeSpot) -> Node:
        """One new change from `good` to `bad`, either of which may be MISSING."""
        kind: Kind = "added" if good is MISSING else "removed" if bad is MISSING else "changed"
        return either(good, bad, self.add(spot, kind, good, bad))

    def _unique(self, spot: ChangeSpot) -> str:
        path, number = spot.name, 1
        while (spot.axis, path) in self._paths:
            number += 1
            path = f"{spot.name}~{number}"
        self._paths.add((spot.axis, path))
        return path


def _change_summary(kind: Kind, before: Json, after: Json) -> str:
    if isinstance(before, str) and isinstance(after, str) and before.split() == after.split():
        return f"only white space: {json.dumps(before[:_SPACES])} → {json.dumps(after[:_SPACES])}"
    old, new = _described(before), _described(after)
    if kind == "added":
        return f"added {new or excerpt(after)}"
    if kind == "removed":
        return f"removed {old or excerpt(before)}"
    return f"{old or 'text'} → {new or 'text'}" if old or new else turn(before, after)


def _described(value: Json) -> str:
    """What a file is that is no text; empty for any other value."""
    if not isinstance(value, dict) or set(value) not in _NO_TEXT:
        return ""
    if "symlink" in value:
        return f"a link to {value['symlink']}"
    kind = "a Git LFS file" if "lfs" in value else "a binary file"
    size, name = value.get("bytes"), str(value.get("lfs", value.get("binary")))
    return f"{kind} of {size} bytes ({name[:8]})"
