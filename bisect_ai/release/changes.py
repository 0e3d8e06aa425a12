"""What a diff gives: changes, the groups they nest in, and the tree that applies any set of them.

For a tree and sets of its changes: the empty set gives the good release exactly and the full set the bad one; order and
repetition do not matter; a set that cannot be built raises `Infeasible` and names the two changes that clash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from bisect_ai.canonical import Json
from bisect_ai.errors import Infeasible, ReleaseError
from bisect_ai.release.composition import Node
from bisect_ai.release.frozen import MISSING, same
from bisect_ai.release.quoting import shown

Kind = Literal["changed", "added", "removed", "renamed", "moved", "reordered"]


@dataclass(frozen=True)
class Change:
    """The smallest separable difference inside an axis; `axis` and `path` name it within its diff."""

    axis: str
    path: str
    """Where it is, as text: `system:12` (line 12), `get_order.parameters.customer_id`, `documents/faq/refunds.md`."""
    summary: str = field(compare=False)
    before: Json = field(compare=False, repr=False)
    """The good side; None when it was added. A rename has the two names here, unless the content changed with it."""
    after: Json = field(compare=False, repr=False)
    """The bad side; None when it was removed."""
    provenance: Mapping[str, Any] = field(compare=False, repr=False)
    kind: Kind = field(compare=False)
    group: tuple[str, ...] = field(compare=False)
    """The groups around it, outermost first: key or file, paragraph; folder; tool."""

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
    changes: tuple[Change, ...]
    """Those directly in this group, not in a group of it."""

    def all(self) -> tuple[Change, ...]:
        """Every change in the group, however deep."""
        return self.changes + tuple(change for group in self.groups for change in group.all())


@dataclass(frozen=True)
class Tree:
    """Everything that differs between two releases, axis by axis."""

    good: Mapping[str, Json] = field(repr=False)
    bad: Mapping[str, Json] = field(repr=False)
    changes: tuple[Change, ...]
    conflicts: tuple[tuple[Change, Change], ...]
    """Pairs of which the first cannot be applied without the second."""
    nodes: Mapping[str, Node] = field(repr=False)
    """How each changed axis is put together; the numbers in it are positions in `changes`."""

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
        return MappingProxyType({axis: value for axis, value in built.items() if value is not MISSING})

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
