"""What one pass over a log finds, and which rows a sample takes: bounded memory, any number of rows."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bisect_ai.errors import QueryError
from bisect_ai.queries.sample import MAX_MIXTURES, Drawn, LoggedRelease, Mixed, Quota, Row, ScoreTally

# More segments than this is a mistake in the column: a stratum needs queries.
MAX_STRATA = 1_000
EXAMPLES = 5  # rows kept to say what a log that holds nothing usable looks like
Item = TypeVar("Item")


class Tally:
    """Queries and logged scores per release label, added up (or taken back) one row at a time."""

    def __init__(self) -> None:
        self._rows: Counter[str | None] = Counter()
        self._sums: defaultdict[tuple[str | None, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

    def add(self, release: str | None, scores: Mapping[str, float], times: int = 1) -> None:
        """Count one row, or take one back with `times=-1`."""
        self._rows[release] += times
        for name, value in scores.items():
            self.add_sums(release, name, (times * value, times * value * value, times))

    def add_rows(self, release: str | None, rows: int) -> None:
        """Count rows that were added up elsewhere."""
        self._rows[release] += rows

    def add_sums(self, release: str | None, name: str, sums: tuple[float, float, int]) -> None:
        """Add a score's sum, sum of squares and count that were added up elsewhere."""
        for i, value in enumerate(sums):
            self._sums[release, name][i] += value

    def plain(self) -> list[Any]:
        """The tally as plain JSON: what `of` reads."""
        return [list(self._rows.items()), [[*owner, *sums] for owner, sums in self._sums.items()]]

    @classmethod
    def of(cls, plain: Sequence[Any]) -> Tally:
        """The tally that `plain` wrote."""
        tally, (rows, sums) = cls(), plain
        for release, n in rows:
            tally.add_rows(release, n)
        for release, name, *summed in sums:
            tally.add_sums(release, name, (summed[0], summed[1], summed[2]))
        return tally

    def releases(self) -> tuple[LoggedRelease, ...]:
        """One entry per label, by name; sums to 12 digits, so that the order of adding leaves no trace."""
        ordered = sorted(self._rows, key=lambda name: (name is not None, name or ""))
        return tuple(LoggedRelease(name, self._rows[name], self._scores(name)) for name in ordered if self._rows[name])

    def _scores(self, release: str | None) -> dict[str, ScoreTally]:
        mine = sorted((name, sums) for (owner, name), sums in self._sums.items() if owner == release)
        return {name: ScoreTally(_round(total), _round(squares), int(n)) for name, (total, squares, n) in mine if n}


def _round(value: float) -> float:
    return float(f"{value:.12g}")


@dataclass
class Survey:
    """What one pass over a log finds: counts, logged scores, and the keys that came more than once."""

    read: int = 0
    # Replayable rows per stratum.
    rows: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    logged: Tally = field(default_factory=Tally)
    mixtures: Counter[Mixed] = field(default_factory=Counter)
    repeated: frozenset[int] = frozenset()
    columns: frozenset[str] = frozenset()
    # Rows whose question lost something, by kind.
    lost: Counter[str] = field(default_factory=Counter)
    # The first rows that ask nothing, for whoever has to map them.
    examples: list[Row] = field(default_factory=list)

    def mix(self, mixed: Mixed, times: int = 1) -> None:
        """Count what answered a record; beyond `MAX_MIXTURES` only its release is told apart."""
        known = mixed in self.mixtures or len(self.mixtures) < MAX_MIXTURES
        self.mixtures[mixed if known else (mixed[0], (("versions", "others"),))] += times


class Log(Protocol):
    """A log that can be surveyed in one pass, then asked for few rows in full. `format` names what it was read from."""

    format: str

    @property
    def origin(self) -> frozenset[str]:
        """The columns that say where a record comes from and are not the log's own; known after a survey."""
        ...

    def survey(self) -> Survey:
        """What one pass over the log finds."""
        ...

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row with one of these keys."""
        ...

    def draw(self, quotas: Mapping[str, Quota]) -> list[Drawn]:
        """At least the rows of the smallest keys of each stratum, as many of them as its quota wants."""
        ...


class Smallest:
    """The places of the `cap` smallest distinct keys offered so far; None keeps all."""

    def __init__(self, cap: int | None) -> None:
        self._cap, self._heap, self._spots = cap, list[int](), dict[int, list[Any]]()

    def offer(self, key: int, spot: Any) -> None:
        """Keep the place if its key is among the smallest; a known key keeps every place."""
        if key in self._spots:
            self._spots[key].append(spot)
        elif self._cap is None:
            self._spots[key] = [spot]
        elif len(self._spots) < self._cap:
            self._spots[key] = [spot]
            heapq.heappush(self._heap, -key)
        elif key < -self._heap[0]:
            self._spots[key] = [spot]
            del self._spots[-heapq.heapreplace(self._heap, -key)]

    def spots(self, quota: int) -> Iterator[Any]:
        """The places of the `quota` smallest keys."""
        for key in sorted(self._spots)[:quota]:
            yield from self._spots[key]


def repeated(keys: Collection[int]) -> frozenset[int]:
    """The keys that occur more than once; 8 bytes a key, where there are many."""
    if len(keys) <= FEW_KEYS:
        return frozenset(key for key, times in Counter(map(int, keys)).items() if times > 1)
    import numpy as np

    ordered = np.sort(np.asarray(keys, dtype=np.uint64))
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def too_many_strata(segment: str | None) -> QueryError:
    """The refusal of a segment column with a value for almost every row."""
    return QueryError(f"log segment {segment!r} has more than {MAX_STRATA} values; name a coarser column, or leave it out")


FEW_KEYS = 100_000  # counted in less time than numpy takes to import
TOP = 2**64 - 1  # keys are uniform below it


class Low(NamedTuple, Generic[Item]):
    """What lies low by its key; rows of one place are one query."""

    stratum: str
    place: Hashable
    key: int
    item: Item


def key_bound(quota: int, size: int) -> int:
    """A key below which `quota` of `size` uniform keys lie almost surely: their mean plus eight standard deviations."""
    return min(TOP, int((quota + 8 * math.sqrt(quota) + 16) / max(size, 1) * TOP))


def within_bounds(
    quotas: Mapping[str, Quota], below: Callable[[Mapping[str, int]], Sequence[Low[Item]]], found: Sequence[Low[Item]] = ()
) -> Sequence[Low[Item]]:
    """What lies below a bound on the keys of each stratum, which are uniform; a bound is widened if too few came.

    `below` gives what lies below bounds by stratum; `found` is all that lies below one bound.
    """
    short, slack = _short(quotas, found), 1
    while short:
        bounds = {name: min(TOP, slack * key_bound(*quota)) for name, quota in short.items()}
        found = [*(each for each in found if each.stratum not in short), *below(bounds)]
        short = _short({name: quota for name, quota in short.items() if bounds[name] < TOP}, found)
        slack *= 8
    return found


def _short(quotas: Mapping[str, Quota], found: Iterable[Low[Any]]) -> dict[str, Quota]:
    """The strata of which fewer places were found than are wanted."""
    places = Counter(stratum for stratum, _ in {(each.stratum, each.place) for each in found})
    return {name: quota for name, quota in quotas.items() if places[name] < quota.wanted}


def smallest_keys(found: Iterable[Low[Item]], quotas: Mapping[str, Quota]) -> list[Item]:
    """The items of the smallest keys of each stratum: whole keys, until they hold as many places as are wanted."""
    taken, places, last = list[Item](), defaultdict[str, set[Hashable]](set), dict[str, int]()
    for each in sorted(found, key=lambda low: low.key):
        if each.stratum in quotas and (
            last.get(each.stratum) == each.key or len(places[each.stratum]) < quotas[each.stratum].wanted
        ):
            places[each.stratum].add(each.place)
            last[each.stratum] = each.key
            taken.append(each.item)
    return taken
