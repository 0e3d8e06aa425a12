"""What the cells of a search stand for: releases composed of two, or one release asked again; and their digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.attribution.problem import names_of
from bisect_ai.canonical import digest
from bisect_ai.release.load import Release, compose
from bisect_ai.runs.question import Composed

# Entries from which on a mapping is hashed entry by entry.
LARGE = 500


class Digests:
    """Digests of composed releases from those of their axes; a value is hashed once: a corpus is long, cells are many."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, release: Mapping[str, Any]) -> str:
        """The same digest for the same axes with the same values, whoever composed it."""
        return digest({axis: self._value(value) for axis, value in release.items()})

    def _value(self, value: Any) -> str:
        if _is_large(value):  # entry by entry: mixtures of two corpora share nearly all their documents
            return digest({key: self._value(inner) for key, inner in value.items()})
        held, known = self._known.get(id(value), (None, ""))
        if held is not value or not known:
            known = digest(value)
            self._known[id(value)] = (value, known)  # holding the value keeps its id from being used again
        return known


def _is_large(value: Any) -> bool:
    """A mapping of very many entries, or one that holds such a mapping."""
    if not isinstance(value, dict):
        return False
    return len(value) > LARGE or any(isinstance(inner, dict) and len(inner) > LARGE for inner in value.values())


class Axes:
    """The ground of the main search: bit i takes axis i from the bad release."""

    level = "axes"

    def __init__(self, good: Release, bad: Release, axes: Sequence[str], digests: Digests) -> None:
        self._good, self._bad, self._axes, self._digests = good, bad, axes, digests
        self._cells: dict[int, Composed] = {}

    def composed(self, cell: int) -> Composed:
        """The release with the cell's axes bad."""
        if cell not in self._cells:
            bad = names_of(cell, self._axes)
            release = compose(self._good, self._bad, bad)
            self._cells[cell] = Composed(release, self._digests.of(release), bad)
        return self._cells[cell]


class Anew:
    """The ground of one release asked again: repeat numbers that no earlier run's answers have."""

    level = "axes"

    def __init__(self, release: Release, *, repeats_from: int) -> None:
        composed = compose(release, release, ())
        self._composed = Composed(composed, Digests().of(composed), (), repeats_from)

    def composed(self, cell: int) -> Composed:
        """The release itself."""
        assert cell == 0, "one release has one cell"
        return self._composed
