"""How many axes each design takes, and the fraction of the cells that many axes take.

A fraction of the 2^k cells, for many axes, is one from which every main effect can still be read. Its resolution is IV: no main
effect is aliased with another or with a pair (Box and Hunter 1961). Every generator has an odd number of letters, so every defining
word has an even one, and both the good and the bad release are among the cells. The first two columns, which take `model` and
`prompt`, have a pair interaction that is aliased with no other pair.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bisect_ai.errors import InputError

if TYPE_CHECKING:
    import numpy as np

# 2^6 = 64 cells: with more, a usual budget leaves too few queries in each.
MOST_AXES_FULL = 6
# Axes that the adaptive search takes: with more, cells are no longer told apart in the memory and time of a usual run.
MOST_AXES_ADAPTIVE = 24
GENERATORS = {
    3: "a b c",
    4: "a b c d",
    5: "a b c d acd",
    6: "a b c d e abcde",
    7: "a b c d e acd bce",
    8: "a b c d e acd ace ade",
    9: "a b c d e acd ace ade cde",
    10: "a b c d e f bdf bcf bcd acdef",
    11: "a b c d e f abcdf abdef adf acdef bce",
    12: "a b c d e f def aef ade acf abcef adf",
}
FIRST = ("model", "prompt")


@dataclass(frozen=True)
class Fraction:
    """The cells of a fraction, and the pairs of axes whose interactions it cannot tell apart (groups of two or more)."""

    cells: tuple[int, ...]
    aliases: tuple[tuple[tuple[str, str], ...], ...]


def fraction_size(axes: int) -> int | None:
    """Cells of the fraction for so many axes; None: there is none."""
    return 1 << sum(len(word) == 1 for word in GENERATORS[axes].split()) if axes in GENERATORS else None


def fraction(axes: tuple[str, ...]) -> Fraction:
    """The resolution IV fraction for these axes, built by pyDOE3. Raises `InputError` outside 3 to 12 axes."""
    if len(axes) not in GENERATORS:
        raise InputError(f"design fractional: {len(axes)} axes changed; it takes 3 to 12; use design adaptive, or full up to 6")
    from pyDOE3 import fracfact

    columns = [*(a for a in FIRST if a in axes), *(a for a in axes if a not in FIRST)]
    signs = fracfact(GENERATORS[len(axes)])
    place = {axis: i for i, axis in enumerate(axes)}
    cells = [sum(1 << place[axis] for axis, sign in zip(columns, row, strict=True) if sign > 0) for row in signs]
    return Fraction(tuple(sorted(cells)), _confounded_columns(axes, columns, signs))


def _confounded_columns(
    axes: tuple[str, ...], columns: list[str], signs: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> tuple[tuple[tuple[str, str], ...], ...]:
    groups: dict[tuple[int, ...], list[tuple[str, str]]] = {}
    for a, b in itertools.combinations(axes, 2):
        product = signs[:, columns.index(a)] * signs[:, columns.index(b)]
        groups.setdefault(tuple(int(s) for s in product * product[0]), []).append((a, b))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
