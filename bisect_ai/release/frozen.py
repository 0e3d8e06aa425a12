"""Read-only JSON. A frozen value is an ordinary dict, list or scalar to every reader and refuses every writer.

A target that changed a value in place would change it for all later trials too, so the first attempt is an error.
`copy.deepcopy` gives an ordinary value that may be changed.
"""

from __future__ import annotations

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
