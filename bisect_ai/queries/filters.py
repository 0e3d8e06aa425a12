"""Rows that count: those that `where` is true of and whose time lies in the windows; all others are counted by reason.

DuckDB decides about `where`, on a connection that reaches nothing, over rows that are bound. The type of a column is what all its
values are; nested objects are structs, so that `scores.correct > 0` is meant here as in Parquet.
"""

# ruff: noqa: S608 - the condition is the user's own setting; names are quoted and rows bound

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.duckdb_session import locked, quoted, refused
from bisect_ai.queries.readers import Source, Spot, Wrapped
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import NO_TIME, WHERE, WINDOW, Row
from bisect_ai.queries.values import day_first_of, has_short_year, inside, microseconds, missing, slashed_date, text_of, tidy

JOINED = "scores of another record"
MAX_LATE = 1_000_000  # they are held in memory until the records of their ids come
MAX_FIELDS = 200  # beyond it a mapping is keyed by data, and is a text for DuckDB
NOTHING, FLAG, WHOLE, REAL, TEXT = "NULL", "BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR"


def _type(value: Any, tabular: bool) -> Any:
    """The type of a value: one of DuckDB's names, or a mapping of field to type."""
    if missing(value):
        return NOTHING
    if isinstance(value, bool):
        return FLAG
    if isinstance(value, int) and abs(value) < 2**63:  # DuckDB's BIGINT
        return WHOLE
    if isinstance(value, float):
        return REAL
    if isinstance(value, Mapping) and len(value) <= MAX_FIELDS:
        return {str(name): _type(each, tabular) for name, each in value.items()} or TEXT
    return _type_of_text(value) if tabular and isinstance(value, str) else TEXT


def _type_of_text(text: str) -> str:
    """The type that a cell of a CSV file looks like."""
    for kind, read in ((WHOLE, int), (REAL, float)):
        try:
            read(text)
        except ValueError:
            continue
        return kind if len(text) < 19 else TEXT  # a longer number may not fit 64 bits
    return FLAG if text.lower() in ("true", "false") else TEXT


def _common_type(one: Any, other: Any) -> Any:
    if one == other or other == NOTHING:
        return one
    if one == NOTHING:
        return other
    if isinstance(one, dict) and isinstance(other, dict) and len({**one, **other}) <= MAX_FIELDS:
        return {name: _common_type(one.get(name, NOTHING), other.get(name, NOTHING)) for name in {**one, **other}}
    return REAL if {str(one), str(other)} == {WHOLE, REAL} else TEXT


def holding(rows: Sequence[Mapping[str, Any]], condition: str, types: Mapping[str, Any]) -> list[bool]:
    """Whether the condition is true of each row (NULL is not). Raises `QueryError` for a condition that DuckDB refuses."""
    import duckdb

    bound = [_fitted(row, types) for row in rows]
    statement = f"SELECT coalesce(({condition}\n), false) FROM (SELECT unnest($rows::{_type_name(types)}[], max_depth := 2))"
    try:
        with locked() as connection:
            return [bool(row[0]) for row in connection.execute(statement, {"rows": bound}).fetchall()]
    except (duckdb.Error, RuntimeError) as error:
        raise refused(condition, error, types) from None


def _type_name(kind: Any) -> str:
    if isinstance(kind, Mapping):
        return f"STRUCT({', '.join(f'{quoted(name)} {_type_name(each)}' for name, each in kind.items())})"
    return TEXT if kind == NOTHING else str(kind)


def _fitted(value: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _typed_cell(value.get(name), kind) for name, kind in types.items()}


def _typed_cell(value: Any, kind: Any) -> Any:
    if missing(value):
        return None
    if isinstance(kind, Mapping):
        return _fitted(value, kind) if isinstance(value, Mapping) else None
    if kind == TEXT:
        text = value if isinstance(value, str) else json.dumps(tidy(value, where="a cell"), ensure_ascii=True)
        return text.encode("utf-8", "replace").decode()
    if kind == FLAG:
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return {WHOLE: int, REAL: float}[kind](value)


BATCH = 1_000  # rows that a condition sees at once: DuckDB is called once for them


class ScoresJoined(Wrapped):
    """The rows of a source; a record that asks nothing and has scores gives them to the record of its id, in whatever file."""

    def __init__(self, source: Source, shape: Shape) -> None:
        super().__init__(source)
        self._shape = shape
        self._late: dict[str, Row] = {}

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """The records, each with the scores that came later, by two passes: the first one finds these."""
        late: dict[str, Row] = {}
        asked = set[str]()
        for _, row in self._source.rows():
            name = self._id(row)
            if name is not None and only_scores(row, self._shape):
                if len(late) >= MAX_LATE:
                    raise QueryError(f"more than {MAX_LATE:,} records have only scores; join them by id before they are read")
                late[name] = {**late.get(name, {}), **_filled(row)}
        for _, row in self._source.rows() if late else ():
            if (name := self._id(row)) in late and not only_scores(row, self._shape):
                asked.add(name)
        self._late = {name: row for name, row in late.items() if name in asked}
        self._own.clear()
        for spot, row in self._source.rows():
            if self._id(row) in self._late and only_scores(row, self._shape):
                self._own[JOINED] += 1
            else:
                yield spot, self._joined(row)

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`."""
        return ((spot, self._joined(row)) for spot, row in self._source.fetch(spots))

    def _id(self, row: Row) -> str | None:
        value = self._shape.get(row, "id")
        return None if missing(value) else text_of(value)

    def _joined(self, row: Row) -> Row:
        late = self._late.get(self._id(row) or "")
        return row if late is None else {**late, **_filled(row)}


def only_scores(row: Row, shape: Shape) -> bool:
    """Whether a record asks nothing, and has an id and scores."""
    asks = any(not missing(shape.get(row, name)) for name in ("input", "messages", "output"))
    return not asks and not missing(shape.get(row, "id")) and bool(shape.scores(row))


def _filled(row: Row) -> dict[Any, Any]:
    return {name: value for name, value in row.items() if not missing(value)}


class Filtered(Wrapped):
    """The rows of a source that count; where windows say so, with the release that they name."""

    def __init__(self, source: Source, shape: Shape) -> None:
        super().__init__(source)
        self._shape = shape
        self._types: dict[str, Any] | None = None
        self._day_first: bool | None = None

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """The rows that count, in order. Raises `QueryError` for a condition that DuckDB refuses."""
        if self._shape.where is not None and self._types is None:
            self._types = self._inferred()
        if self._shape.timed and self._day_first is None:
            self._day_first = self._order_of_dates()
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

    def _timely(self, row: Row) -> tuple[str, Row]:
        shape = self._shape
        if not shape.timed:
            return "", row
        instant = self._instant(row)
        if instant is None:
            return NO_TIME, row
        if not inside(instant, (shape.since, shape.until)):
            return WINDOW, row
        return self._released(row, instant) if shape.windows else ("", row)

    def _instant(self, row: Row) -> int | None:
        """The row's time. Raises `QueryError` for dates whose day and month no date of the log tells apart."""
        value = self._shape.get(row, "at")
        found = microseconds(value, day_first=self._day_first)
        is_unclear = isinstance(value, str) and (
            has_short_year(value) or (self._day_first is None and slashed_date(value) is not None)
        )
        if found is None and is_unclear:
            raise unclear_date(value, self._shape)
        return found

    def _order_of_dates(self) -> bool | None:
        """Whether the column of times has the day first, where its first value is a date with slashes."""
        written = (str(at) for _, row in self._source.rows() if not missing(at := self._shape.get(row, "at")))
        first = next(written, "")
        return day_first_of(filter(None, map(slashed_date, chain([first], written)))) if slashed_date(first) else None

    def _released(self, row: Row, instant: int) -> tuple[str, Row]:
        windows, named = self._shape.windows, self._shape.get(row, "release")
        if not missing(named):
            bounds = windows.get(text_of(named))
            return ("" if bounds is None or inside(instant, bounds) else WINDOW), row
        found = next((name for name, bounds in windows.items() if inside(instant, bounds)), None)
        return (WINDOW, row) if found is None else ("", {**row, self._shape.columns.get("release", "release"): found})

    def _holding(self, rows: Sequence[Row]) -> Sequence[bool]:
        where = self._shape.where
        return [True] * len(rows) if where is None else holding(rows, where, self._types or {})

    def _columns(self) -> str:
        first = next(iter(self._source.rows()), None)
        return f"; it has {', '.join(sorted(str(name)[:40] for name in first[1])[:12])}" if first else ""

    def _inferred(self) -> dict[str, Any]:
        """The types of the columns that the condition names, by all their values."""
        condition, types = self._shape.where or "", dict[str, Any]()
        for _, row in self._source.rows():
            for name, value in row.items():
                if str(name).lower() in condition.lower():
                    types[str(name)] = _common_type(types.get(str(name), NOTHING), _type(value, self._shape.tabular))
        if not types:
            raise QueryError(f"cannot use log.where {condition[:200]!r}: it names no column of the log{self._columns()}")
        return types


def unclear_date(value: str, shape: Shape) -> QueryError:
    """The refusal of dates whose day and month cannot be told apart, with the condition that says which is which."""
    column = shape.columns.get("at", "at")
    if has_short_year(value):
        return QueryError(
            f"cannot tell the year of {' '.join(value.split())[:40]!r} in the column {column[:60]}; write the year with four "
            "digits, such as 2026-11-20T15:04"
        )
    return QueryError(
        f"cannot tell the day from the month of {value[:40]!r} in the column {column[:60]}, nor by its other dates; write times as "
        f"2026-11-20T15:04, or choose by log.where: try_strptime({quoted(column[:60])}, ['%m/%d/%Y %H:%M', '%m/%d/%Y']) >= '2026-11-20'"
    )


def order_of_dates(written: Sequence[str], shape: Shape) -> bool | None:
    """Whether dates with slashes have the day first. Raises `QueryError` where one of them can be read in two ways."""
    told = day_first_of(filter(None, map(slashed_date, written)))
    unclear = next((text for text in written if instant_of_text(text, told) is None), None)
    if unclear is not None:
        raise unclear_date(unclear, shape)
    return told


def instant_of_text(text: str | None, day_first: bool | None) -> int | None:
    """The instant that a text holds, by the order of the other dates of its column."""
    return microseconds(text, day_first=day_first)


def filtered(rows: Source, shape: Shape) -> Source:
    """The rows that count, where any may be left out."""
    return Filtered(rows, shape) if shape.filters else rows
