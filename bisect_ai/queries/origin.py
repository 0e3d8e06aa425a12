"""Rows that know their file: a `file` column for every row of a log that has none of that name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from bisect_ai.queries.labels import file_names
from bisect_ai.queries.readers import Source, Spot
from bisect_ai.queries.records import Row


class FileNamed:
    """The rows of a source with the names of their files; `early`: already when they are first read, not only in full."""

    def __init__(self, source: Source, paths: Sequence[Path], *, early: bool) -> None:
        self._source, self._names, self._early = source, file_names(paths), early
        self._is_own = False

    @property
    def left_out(self) -> Counter[str]:
        """What the source left out."""
        return self._source.left_out

    @property
    def origin(self) -> frozenset[str]:
        """The columns that are added: none where the log has a `file` of its own."""
        return frozenset() if self._is_own else frozenset({"file"})

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order."""
        for spot, row in self._source.rows():
            if "file" in row:
                self._is_own = True
            yield spot, self._named(spot, row) if self._early else row

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`, named."""
        return ((spot, self._named(spot, row)) for spot, row in self._source.fetch(spots))

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return self._source.where(spot)

    def _named(self, spot: Spot, row: Row) -> Row:
        return row if "file" in row else {"file": self._names[spot.file], **row}
