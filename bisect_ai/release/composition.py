"""Read-only JSON, and how it is put together from the changes that are on: what both sides share, and where they part.

A frozen value is an ordinary dict, list or scalar to every reader and refuses every writer: a target that changed a value in place
would change it for all later trials too, so the first attempt is an error. `copy.deepcopy` gives a value that may be changed.

Every node knows the numbers of the changes that it depends on. With none of them on it gives the good side itself, with
all of them the bad side itself; that is what makes the two ends of a diff exact, down to the order of keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NoReturn

from bisect_ai.canonical import Json


class Missing(Enum):
    """What stands where a key, an item or an axis is absent; `null` is a value, this is none."""

    MISSING = "missing"


MISSING: Literal[Missing.MISSING] = Missing.MISSING


def _refuse_write(*_: object, **__: object) -> NoReturn:
    raise TypeError("a release is read-only; change a copy.deepcopy() of the value instead")


class FrozenDict(dict[str, Any]):
    """A mapping that refuses every change."""

    __setitem__ = __delitem__ = __ior__ = _refuse_write
    clear = pop = popitem = setdefault = update = _refuse_write

    def __missing__(self, key: object) -> NoReturn:
        raise KeyError(f"no {key!r:.60} in {', '.join(list(self)[:12])[:200] or 'an empty mapping'}")

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that refuses every change."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_write
    append = extend = insert = pop = remove = clear = sort = reverse = _refuse_write

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def freeze(value: Json) -> Json:
    """`value`, plain JSON, with every mapping and list in it read-only; texts are shared, not copied."""
    if isinstance(value, FrozenDict | FrozenList):
        return value
    if isinstance(value, dict):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return FrozenList([freeze(item) for item in value])
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two values have one canonical JSON: unlike `==`, 1, 1.0 and true are three values."""
    if a is b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(key in b and same(item, b[key]) for key, item in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return repr(a) == repr(b)
    return type(a) is type(b) and bool(a == b)


Value = Json | Missing


@dataclass(frozen=True, eq=False)
class Node:
    """One spot of a release. As it is: the same on both sides (no `ids`), or one side or the other (one of them)."""

    good: Value
    bad: Value
    # The changes that this spot depends on.
    ids: frozenset[int]

    def build(self, on: frozenset[int]) -> Value:
        """The value with the changes `on`; MISSING when the spot is empty then."""
        if self.ids.isdisjoint(on):
            return self.good
        return self.bad if self.ids <= on else self._mix(on)

    def _mix(self, on: frozenset[int]) -> Value:
        """The value when some but not all changes are on."""
        raise AssertionError(f"{len(self.ids)} changes, {len(on)} on: a node of one change has no middle")


def unchanged(value: Json) -> Node:
    """The same on both sides."""
    return Node(value, value, frozenset())


def either(good: Value, bad: Value, change: int) -> Node:
    """One value or the other."""
    return Node(good, bad, frozenset((change,)))


@dataclass(frozen=True, eq=False)
class Text(Node):
    """A text in pieces, in order: shared ones, and hunks with a good and a bad side and the change that picks one.

    `is_open`: neither side ends its last line, which the pieces do all the same, so that another line may come behind it.
    """

    pieces: tuple[str | tuple[str, str, int], ...]
    is_open: bool = False

    def _mix(self, on: frozenset[int]) -> Value:
        text = "".join(p if isinstance(p, str) else p[1] if p[2] in on else p[0] for p in self.pieces)
        return text.removesuffix("\n") if self.is_open else text


@dataclass(frozen=True, eq=False)
class Present(Node):
    """A node that is there only while a change is on (`when`) or only while it is off."""

    node: Node
    change: int
    when: bool

    def _mix(self, on: frozenset[int]) -> Value:
        return self.node.build(on) if (self.change in on) is self.when else MISSING


def present(node: Node, change: int, *, when: bool) -> Node:
    """`node` while `change` is on (`when`) or off, else nothing."""
    good, bad = (MISSING, node.bad) if when else (node.good, MISSING)
    return Present(good, bad, node.ids | {change}, node, change, when)


@dataclass(frozen=True, eq=False)
class Written(Node):
    """Two sides as they are written, and what is between them: the `form` that both were read into, written again."""

    form: Node


@dataclass(frozen=True, eq=False)
class Recast(Written):
    """Two sides written in different ways: each as it is written, what is between them as the `form` itself."""

    def _mix(self, on: frozenset[int]) -> Value:
        return self.form.build(on)


@dataclass(frozen=True, eq=False)
class Slot:
    """One entry of a mapping. A renamed entry has two keys and the change that picks one."""

    good_key: str
    bad_key: str
    node: Node
    rename: int | None = None

    @property
    def ids(self) -> frozenset[int]:
        """The changes that the entry depends on."""
        return self.node.ids if self.rename is None else self.node.ids | {self.rename}

    def key(self, on: frozenset[int]) -> str:
        """The entry's key with the changes `on`."""
        return self.bad_key if self.rename in on else self.good_key


@dataclass(frozen=True, eq=False)
class Fields(Node):
    """A mapping. `slots`: only entries that differ, by the key they have in good; `added`: those that good has not."""

    kept: Mapping[str, Json]
    slots: Mapping[str, Slot]
    added: Sequence[Slot]

    def _mix(self, on: frozenset[int]) -> Value:
        differ = {key: (slot.key(on), slot.node.build(on)) for key, slot in self.slots.items()}
        if all(key == name for key, (name, _) in differ.items()):  # a copy: a corpus has many entries, and few that differ
            built: dict[str, Value] = {**self.kept, **dict(differ.values())}
        else:
            built = dict(differ.get(entry[0], entry) for entry in self.kept.items())
        built |= {slot.key(on): slot.node.build(on) for slot in self.added}
        return FrozenDict({key: value for key, value in built.items() if value is not MISSING})


def fields(good: dict[str, Json], bad: dict[str, Json], slots: Mapping[str, Slot], added: Sequence[Slot]) -> Fields:
    """A mapping of good's entries, some of which differ, and of some that are new."""
    return Fields(good, bad, _union((*slots.values(), *added)), good, slots, added)


@dataclass(frozen=True, eq=False)
class Items(Node):
    """A list: slots in order, and when the two sides disagree on it, the bad order and the change that picks it."""

    slots: Sequence[Node]
    reorder: int | None = None
    bad_order: Sequence[int] = ()

    def _mix(self, on: frozenset[int]) -> Value:
        slots = [self.slots[i] for i in self.bad_order] if self.reorder in on else self.slots
        values = [value for slot in slots if (value := slot.build(on)) is not MISSING]
        optional = self.good is MISSING or self.bad is MISSING
        return MISSING if optional and not values else FrozenList(values)


def items(good: Value, bad: Value, slots: Sequence[Node], reorder: int | None = None, bad_order: Sequence[int] = ()) -> Items:
    """A list of slots. A side that has no list (MISSING) counts as an empty one."""
    own = frozenset(() if reorder is None else (reorder,))
    return Items(good, bad, _union(slots) | own, slots, reorder, bad_order)


def _union(parts: Iterable[Node | Slot]) -> frozenset[int]:
    return frozenset().union(*(part.ids for part in parts))
