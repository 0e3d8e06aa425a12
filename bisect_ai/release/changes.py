"""What a diff gives: changes, the groups they nest in, and the tree that applies any set of them.

For a tree and sets of its changes: the empty set gives the good release exactly and the full set the bad one; order and
repetition do not matter; a set that cannot be built raises `Infeasible` and names the two changes that clash.

`Scribe` and `ChangeSpot` write changes down while two releases are compared: where we are, and what was found so far.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from bisect_ai.canonical import Json
from bisect_ai.errors import Infeasible, ReleaseError
from bisect_ai.provider.redaction import excerpt, shown, turn
from bisect_ai.release.composition import MISSING, FrozenDict, Node, Value, either, same

Kind = Literal["changed", "added", "removed", "renamed", "moved", "reordered"]


@dataclass(frozen=True)
class Change:
    """The smallest separable difference inside an axis; `axis` and `path` name it within its diff."""

    axis: str
    # Where it is, as text: `system:12` (line 12), `get_order.parameters.customer_id`, `documents/faq/refunds.md`.
    path: str
    summary: str = field(compare=False)
    # The good side; None when it was added. A rename has the two names here, unless the content changed with it.
    before: Json = field(compare=False, repr=False)
    # The bad side; None when it was removed.
    after: Json = field(compare=False, repr=False)
    provenance: Mapping[str, Any] = field(compare=False, repr=False)
    kind: Kind = field(compare=False)
    # The groups around it, outermost first: key or file, paragraph; folder; tool.
    group: tuple[str, ...] = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, texts whole."""
        return {
            "axis": self.axis,
            "path": self.path,
            "kind": self.kind,
            "summary": self.summary,
            "before": self.before,
            "after": self.after,
            "group": list(self.group),
            "provenance": dict(self.provenance),
        }


@dataclass(frozen=True)
class Group:
    """Changes that belong together: an axis, and inside it keys, files, paragraphs, folders or tools."""

    label: str
    groups: tuple[Group, ...]
    # Those directly in this group, not in a group of it.
    changes: tuple[Change, ...]

    def all(self) -> tuple[Change, ...]:
        """Every change in the group, however deep."""
        return self.changes + tuple(change for group in self.groups for change in group.all())


@dataclass(frozen=True)
class Tree:
    """Everything that differs between two releases, axis by axis."""

    good: Mapping[str, Json] = field(repr=False)
    bad: Mapping[str, Json] = field(repr=False)
    changes: tuple[Change, ...]
    # Pairs of which the first cannot be applied without the second.
    conflicts: tuple[tuple[Change, Change], ...]
    # How each changed axis is put together; the numbers in it are positions in `changes`.
    nodes: Mapping[str, Node] = field(repr=False)

    def __post_init__(self) -> None:
        positions = {change: number for number, change in enumerate(self.changes)}
        object.__setattr__(self, "_positions", positions)
        clashes = tuple((positions[a], positions[b]) for a, b in self.conflicts)
        object.__setattr__(self, "_clashes", clashes)

    @property
    def axes(self) -> Mapping[str, tuple[Change, ...]]:
        """Changed axis to its changes, in the order of the release and of the text."""
        found: dict[str, list[Change]] = {axis: [] for axis in self.nodes}
        for change in self.changes:
            found[change.axis].append(change)
        return {axis: tuple(changes) for axis, changes in found.items()}

    @property
    def groups(self) -> tuple[Group, ...]:
        """One group per changed axis, the rest nested inside."""
        return tuple(_group(axis, changes, 0) for axis, changes in self.axes.items())

    def apply(self, changes: Iterable[Change]) -> Mapping[str, Json]:
        """Axis to value, read-only: the good release with these changes taken from the bad one.

        Raises `Infeasible` when they cannot be put together, `ReleaseError` for a change of another diff.
        """
        on = frozenset(self._position(change) for change in changes)
        self._check(on)
        axes = {axis: self.good.get(axis, MISSING) for axis in dict.fromkeys((*self.good, *self.bad))}
        built = {axis: self.nodes[axis].build(on) if axis in self.nodes else value for axis, value in axes.items()}
        return MappingProxyType(FrozenDict({axis: value for axis, value in built.items() if value is not MISSING}))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: `axes` (axis to changes, texts whole) and `conflicts` (pairs of axis and path)."""
        return {
            "axes": {axis: [change.to_dict() for change in changes] for axis, changes in self.axes.items()},
            "conflicts": [[{"axis": c.axis, "path": c.path} for c in pair] for pair in self.conflicts],
        }

    def _position(self, change: Change) -> int:
        positions: dict[Change, int] = self.__dict__["_positions"]
        number = positions.get(change)
        own = self.changes[number] if number is not None else None
        if own is None or (own is not change and not _is_same_change(own, change)):
            raise ReleaseError(f"the change {shown(change.path)} of {shown(change.axis)} is not part of this diff; diff again")
        return positions[own]

    def _check(self, on: frozenset[int]) -> None:
        clashes: tuple[tuple[int, int], ...] = self.__dict__["_clashes"]
        for first, second in clashes:
            if first in on and second not in on:
                a, b = self.changes[first], self.changes[second]
                raise Infeasible(f"{a.axis} {shown(a.path)} ({a.summary}) needs {shown(b.path)} ({b.summary}) as well")


def _is_same_change(a: Change, b: Change) -> bool:
    return a.kind == b.kind and same(a.before, b.before) and same(a.after, b.after)


def _group(label: str, changes: Iterable[Change], depth: int) -> Group:
    inner: dict[str, list[Change]] = {}
    direct: list[Change] = []
    for change in changes:
        if len(change.group) > depth:
            inner.setdefault(change.group[depth], []).append(change)
        else:
            direct.append(change)
    groups = tuple(_group(name, members, depth + 1) for name, members in inner.items())
    return Group(label, groups, tuple(direct))


# Keys of what stands for a file that is no text.
_NO_TEXT = ({"symlink"}, {"lfs", "bytes"}, {"binary", "bytes"})
# Characters of a text of which only the white space changed that are shown.
_SPACES = 40


@dataclass(frozen=True)
class ChangeSpot:
    """A place in an axis: its path as text, its own label and the groups around it."""

    axis: str
    path: str = ""
    label: str = ""
    group: tuple[str, ...] = ()
    # Below here every entry is a document: changed, moved, added or removed as one.
    documents: bool = False
    # What stands between this path and a key below it.
    opens: str = "."

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

    def hunk(self, position: str, *around: str) -> ChangeSpot:
        """A piece of a text, named by line or by line and sentence, with the paragraph and the hunk around it."""
        below = self._below(f"{self.name}:{position}", position)
        return replace(below, group=(*below.group, *around))

    def _below(self, path: str, label: str) -> ChangeSpot:
        return ChangeSpot(self.axis, path, label, self.inner, self.documents)


# Compares what is below a spot.
Inner = Callable[[Json, Json, ChangeSpot], Node]


@dataclass
class Scribe:
    """Collects changes in reading order; a change's number is its position."""

    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    # Pairs of numbers: the first change cannot be applied without the second.
    needs: list[tuple[int, int]] = field(default_factory=list)
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
        if _with_one_line_end(before) == _with_one_line_end(after):
            return f"only the line ends: {_line_ends_name(before)} → {_line_ends_name(after)}"
        return f"only white space: {json.dumps(before[:_SPACES])} → {json.dumps(after[:_SPACES])}"
    old, new = _described_value(before), _described_value(after)
    if kind == "added":
        return f"added {new or excerpt(after)}"
    if kind == "removed":
        return f"removed {old or excerpt(before)}"
    return f"{old or 'text'} → {new or 'text'}" if old or new else turn(before, after)


def _with_one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_ends_name(text: str) -> str:
    """The one line end of a text, else that several are mixed."""
    crlf = text.count("\r\n")
    kinds = {"CRLF": crlf, "LF": text.count("\n") - crlf, "CR": text.count("\r") - crlf}
    return " and ".join(name for name, times in kinds.items() if times) or "none"


def _described_value(value: Json) -> str:
    """What a file is that is no text; empty for any other value."""
    if not isinstance(value, dict) or set(value) not in _NO_TEXT:
        return ""
    if "symlink" in value:
        return f"a link to {value['symlink']}"
    kind = "a Git LFS file" if "lfs" in value else "a binary file"
    size, name = value.get("bytes"), str(value.get("lfs", value.get("binary")))
    return f"{kind} of {size} bytes ({name[:8]})"
