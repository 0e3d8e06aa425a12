"""Rows that count: those that `where` is true of and whose time lies in the windows; all others are counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.records import NO_TIME, WHERE, WINDOW
from bisect_ai.queries.times import inside, microseconds
from bisect_ai.queries.values import missing, text_of

if TYPE_CHECKING:
    from bisect_ai.queries.readers import Source, Spot
    from bisect_ai.queries.records import Row, Shape

BATCH = 1_000


class Filtered:
    """The rows of a source that count; where windows say so, with the release that they name."""

    def __init__(self, source: Source, shape: Shape) -> None:
        self._source, self._shape = source, shape
        self._own = Counter[str]()
        self._types: dict[str, Any] | None = None

    @property
    def left_out(self) -> Counter[str]:
        """What the source left out, and what was left out here."""
        return self._source.left_out + self._own

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """The rows that count, in order. Raises `QueryError` for a condition that DuckDB refuses."""
        if self._shape.where is not None and self._types is None:
            self._types = self._inferred()
        self._own.clear()
        rows = self._source.rows()
        while batch := list(islice(rows, BATCH)):
            for (spot, row), holds in zip(batch, self._holding([row for _, row in batch]), strict=True):
                reason, counted = self._timely(row) if holds else (WHERE, row)
                if reason:
                    self._own[reason] += 1
                else:
                    yield spot, counted

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`."""
        return ((spot, self._timely(row)[1]) for spot, row in self._source.fetch(spots))

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return self._source.where(spot)

    def _timely(self, row: Row) -> tuple[str, Row]:
        shape = self._shape
        if not shape.timed:
            return "", row
        instant = microseconds(shape.get(row, "at"))
        if instant is None:
            return NO_TIME, row
        if not inside(instant, (shape.since, shape.until)):
            return WINDOW, row
        return self._released(row, instant) if shape.windows else ("", row)

    def _released(self, row: Row, instant: int) -> tuple[str, Row]:
        windows, named = self._shape.windows, self._shape.get(row, "release")
        if not missing(named):
            bounds = windows.get(text_of(named))
            return ("" if bounds is None or inside(instant, bounds) else WINDOW), row
        found = next((name for name, bounds in windows.items() if inside(instant, bounds)), None)
        return (WINDOW, row) if found is None else ("", {**row, self._shape.columns.get("release", "release"): found})

    def _holding(self, rows: Sequence[Row]) -> Sequence[bool]:
        if self._shape.where is None:
            return [True] * len(rows)
        from bisect_ai.queries.where import holding

        return holding(rows, self._shape.where, self._types or {})

    def _inferred(self) -> dict[str, Any]:
        from bisect_ai.queries.where import Structure

        condition, seen = self._shape.where or "", Structure(tabular=self._shape.tabular)
        for _, row in self._source.rows():
            seen.see({name: value for name, value in row.items() if str(name).lower() in condition.lower()})
        if not seen.types:
            raise QueryError(f"cannot use log.where {condition[:200]!r}: it names no column of the log")
        return seen.types
