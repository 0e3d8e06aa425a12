"""Logs that are surveyed and drawn from row by row, and large ones of JSON lines, which DuckDB parses and counts.

Of those our strict reader sees the doubtful rows and what is drawn. Whatever DuckDB refuses, the strict reader reads again from
the beginning, so that errors name file and line as in small logs. Of rows that nobody draws, a fault that DuckDB tolerates is no
error: a comma before a closing bracket, and in values that no setting names a number that is no JSON, a repeated key, or nesting
without end.
"""

# ruff: noqa: S608 - the pieces come from `line_sql`, which quotes every name

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries import line_sql
from bisect_ai.queries.duckdb_session import locked
from bisect_ai.queries.filters import filtered
from bisect_ai.queries.line_sql import LineIndex
from bisect_ai.queries.readers import JsonLines, Source, Spot, refuse_utf16
from bisect_ai.queries.records import RowContent, Shape
from bisect_ai.queries.sample import NO_INPUT, Drawn, Light, LogSettings, Quota, Row, label
from bisect_ai.queries.sql import MAX_GROUPS
from bisect_ai.queries.survey import (
    EXAMPLES,
    MAX_STRATA,
    Low,
    Smallest,
    Survey,
    repeated,
    smallest_keys,
    too_many_strata,
    within_bounds,
)
from bisect_ai.queries.values import embedded, file_names


class RowLog:
    """A log that Python reads row by row. It keeps 8 bytes a row, and of the `cap` smallest keys a stratum what a sample needs."""

    def __init__(self, source: Source, shape: Shape, *, cap: int | None, name: str) -> None:
        self.format = name
        self._source = source
        self._shape = shape
        self._smallest: defaultdict[str, Smallest] = defaultdict(lambda: Smallest(cap))

    @property
    def origin(self) -> frozenset[str]:
        """The columns that the source adds."""
        return getattr(self._source, "origin", frozenset[str]())

    def survey(self) -> Survey:
        """One pass over all rows. Raises `QueryError` for a row that cannot be read, or too many strata."""
        found, keys, columns = Survey(), array("Q"), set[str]()
        for spot, row in self._source.rows():
            columns.update(row)
            light = self._see(found, spot, row)
            if light is not None:
                keys.append(light.place)
        found.dropped.update(self._source.left_out)
        found.read += sum(self._source.left_out.values())
        found.repeated, found.columns = repeated(keys), frozenset(columns)
        return found

    def _see(self, found: Survey, spot: Spot, row: Row) -> Light | None:
        """Count one row; None when it cannot be replayed."""
        content, release = self._content(spot, row), label(self._shape.get(row, "release"))
        found.read += 1
        found.logged.add(release, self._shape.scores(row))
        if content.lost:
            found.lost.update(content.lost)
        if content.reason:
            found.dropped[content.reason] += 1
            if len(found.examples) < EXAMPLES:
                found.examples.append(row)
            return None
        light = self._shape.placed_by_id(row)
        found.mix((release, self._shape.versions_of(row)))
        self._note(found, light, spot)
        return light

    def _note(self, found: Survey, light: Light, spot: Spot) -> None:
        found.rows[light.stratum] += 1
        if len(found.rows) > MAX_STRATA:
            raise too_many_strata(self._shape.segment)
        self._smallest[light.stratum].offer(light.key, (spot, light))

    def _content(self, spot: Spot, row: Row) -> RowContent:
        try:
            return self._shape.content(row)
        except QueryError as error:
            raise QueryError(f"cannot use {self._source.where(spot)}: {error}") from error

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row with one of these keys, by a second pass."""
        for spot, row in self._source.rows():
            light = self._shape.light(row)
            if light is not None and light.place in keys:
                yield self._drawn(spot, row, light)

    def draw(self, quotas: Mapping[str, Quota]) -> list[Drawn]:
        """The rows of the smallest keys, fetched by the places that the survey kept."""
        lights = dict(kept for stratum, quota in quotas.items() for kept in self._smallest[stratum].spots(quota.wanted))
        return [self._drawn(spot, row, lights[spot]) for spot, row in self._source.fetch(lights)]

    def _drawn(self, spot: Spot, row: Row, light: Light) -> Drawn:
        return Drawn(light, self._shape.record(row, light, self._source.where(spot)))


# Bytes from which on DuckDB is faster by more than it takes to start.
LARGE = 64 * 2**20
MAX_NAMES, MAX_SCORES = 200, 50  # wider logs are left to the strict reader: SQL over all of it would be too long
# Doubtful rows, and their part of all, that are read one by one; with more of them the strict reader reads all.
FEW_DOUBTFUL, DOUBTFUL = 10_000, 0.1
# Rows of each file that show which columns and scores there are; a row with other scores is doubtful.
FIRST = 1_000
# Columns that count also where none of the first rows has them.
LATER = ("input", "messages", "scores", "release", "versions")


class NotPlain(Exception):
    """DuckDB cannot survey this log as our reader would."""


class StagedLines(RowLog):
    """A `Log` of JSON lines in which most rows are plain."""

    def __init__(self, paths: Sequence[Path], source: Source, shape: Shape, *, cap: int | None) -> None:
        super().__init__(filtered(source, shape), shape, cap=cap, name="jsonl")
        self._paths, self._names = paths, file_names(paths)
        self._stack = ExitStack()
        self._connection: Any = None
        self._indexes: list[LineIndex] = []
        # Their places, and the hashes of their ids.
        self._doubtful: dict[Spot, int] = {}
        # The stratum of each group of plain rows that can be asked.
        self._strata: dict[int, str] = {}

    def survey(self) -> Survey:
        """One pass over all rows. Raises `QueryError` for a row that cannot be read, or too many strata."""
        import duckdb

        for path in self._paths:
            with path.open("rb") as stream:
                refuse_utf16(stream, path)
        try:
            return self._survey()
        except duckdb.Error as error:
            self._refuse_line(str(error))
        except NotPlain:
            pass
        self._forget()
        return super().survey()

    def _refuse_line(self, told: str) -> None:
        """Raise `QueryError` when our reader, too, refuses the line that DuckDB names."""
        named = re.search(r"\bin (?:line|record/value) (\d+)", told)
        file = next((k for k, path in enumerate(self._paths) if f'"{path}"' in told), None)
        if named and file is not None:
            index, line = LineIndex(self._paths[file]), int(named[1])
            near = [
                each for each in (line - 1, line) if 1 <= each <= index.lines
            ]  # of a text without end it names the next line
            spots = [Spot(file, each, offset) for each, offset in index.offsets(near)]
            list(self._source.fetch(spots))

    def _forget(self) -> None:
        self._stack.close()
        self._connection = None
        self._doubtful.clear()
        self._strata.clear()
        self._smallest.clear()

    def _run(self, statement: str, **bound: Any) -> Any:
        if self._connection is None:
            self._connection = self._stack.enter_context(locked([str(path) for path in self._paths], ordered=True))
        return self._connection.execute(statement, bound) if bound else self._connection.execute(statement)

    def _survey(self) -> Survey:
        columns = self._seen_columns()
        for number, (path, name) in enumerate(zip(self._paths, self._names, strict=True)):
            made = "CREATE TABLE staged AS" if not number else "INSERT INTO staged"
            self._run(f"{made} {columns.staged(str(path), name)}")
        self._index()
        groups = self._plain_groups(columns)
        doubtful = self._find_doubtful()
        found = Survey(columns=frozenset(columns.read))
        self._tally(found, groups, columns.score_names())
        self._see_doubtful(found, doubtful)
        places = self._run("SELECT h FROM staged WHERE NOT doubtful AND NOT empty").fetchnumpy()["h"]
        places.sort()
        self._see_empty(found, places)
        found.repeated = repeated([*places, *self._doubtful.values()] if self._doubtful else places)
        if len(found.repeated) > FEW_DOUBTFUL:
            raise NotPlain
        return found

    def _seen_columns(self) -> line_sql.StagedColumns:
        """The columns of the first rows, in order, and those that later rows may have instead."""
        names, members = dict[str, None](), dict[str, None]()
        for row in self._first_rows():
            names.update(dict.fromkeys(row))
            scores = embedded(self._shape.get(row, "scores"))
            members.update(dict.fromkeys(scores) if isinstance(scores, dict) else ())
        names.update(dict.fromkeys(each for each in LATER if self._shape.columns.get(each, each) == each))
        wanted = {*names, *self._shape.wanted()}
        if len(names) > MAX_NAMES or len({name.lower() for name in wanted}) < len(wanted) or ("file" in names):
            raise NotPlain
        if len(members) > MAX_SCORES or any('"' in name for name in members):
            raise NotPlain
        columns = line_sql.StagedColumns(list(names), self._shape, list(members))
        if columns.lacks():
            raise NotPlain
        return columns

    def _first_rows(self) -> Iterator[Row]:
        try:
            for path in self._paths:
                yield from (row for _, row in islice(JsonLines([path], skip_bad=False).rows(), FIRST))
        except QueryError:
            raise NotPlain from None

    def _index(self) -> None:
        """Find the lines. They are the staged rows one by one, unless there are blank lines between them."""
        self._indexes = [LineIndex(path) for path in self._paths]
        (staged,) = self._run("SELECT count(*) FROM staged").fetchone()
        if staged != sum(index.lines for index in self._indexes) or any(index.long for index in self._indexes):
            raise NotPlain

    def _find_doubtful(self) -> list[int]:
        """The numbers of the doubtful rows."""
        most = max(FEW_DOUBTFUL, int(DOUBTFUL * sum(index.lines for index in self._indexes)))
        found = self._run(f"SELECT rowid FROM staged WHERE doubtful LIMIT {most + 1}").fetchall()
        if len(found) > most:
            raise NotPlain
        return [n for (n,) in found]

    def _plain_groups(self, columns: line_sql.StagedColumns) -> list[tuple[Row, tuple[Any, ...]]]:
        """The first row of each group of plain rows, and what was counted; rows of groups that may not be alike become doubtful."""
        groups, odd = list[tuple[Row, tuple[Any, ...]]](), list[int]()
        counted = self._groups(len(columns.score_names()))
        firsts = {first: group for first, *group in counted}
        for (_, row), first in zip(self._source.fetch(self._spots(firsts)), sorted(firsts), strict=True):
            if any(line_sql.is_odd(self._shape.get(row, name), plain=plain) for name, plain in columns.grouped().items()):
                odd.append(firsts[first][0])
            else:
                groups.append((row, tuple(firsts[first])))
        if odd:
            self._run("UPDATE staged SET doubtful = true WHERE g IN (SELECT unnest($odd::UBIGINT[]))", odd=odd)
        return groups

    def _groups(self, scores: int) -> list[tuple[Any, ...]]:
        """The plain rows that are alike in stratum, release and versions: the number of the first, and the sums of their scores."""
        sums = ", ".join(["", *line_sql.score_sums(f"c{k}" for k in range(1, scores + 1))])
        listed = f"min(rowid), g, bool_and(empty), count(*){sums}"
        found: list[tuple[Any, ...]] = self._run(
            f"SELECT {listed} FROM staged WHERE NOT doubtful GROUP BY g LIMIT {MAX_GROUPS}"
        ).fetchall()
        if len(found) >= MAX_GROUPS:
            raise NotPlain
        return found

    def _tally(self, found: Survey, groups: Sequence[tuple[Row, tuple[Any, ...]]], scores: Sequence[str]) -> None:
        for row, (group, empty, n, *sums) in groups:
            mixed = self._shape.mixture(row)
            found.read += n
            found.logged.add_rows(mixed[0], n)
            for k, name in enumerate(scores):
                total, squares, known = sums[3 * k : 3 * k + 3]
                found.logged.add_sums(mixed[0], name, (total or 0.0, squares or 0.0, known))
            if empty:
                found.dropped[NO_INPUT] += n
            else:
                self._strata[group] = self._shape.stratum(row)
                found.rows[self._strata[group]] += n
                found.mix(mixed, n)
        if len(found.rows) > MAX_STRATA:
            raise NotPlain

    def _see_doubtful(self, found: Survey, rows: Collection[int]) -> None:
        """Read the doubtful rows one by one."""
        columns, names, spots = set[str](), list[str](), list[Spot]()
        for spot, row in self._source.fetch(self._spots(rows)):
            light = self._see(found, spot, row)
            columns.update(row)
            if light is not None:
                spots.append(spot)
                names.append(light.id)
        hashed = self._run("SELECT hash(id) FROM (SELECT unnest($ids::VARCHAR[]) AS id)", ids=names).fetchall() if names else []
        self._doubtful = {spot: h for spot, (h,) in zip(spots, hashed, strict=True)}
        found.columns |= columns

    def _see_empty(self, found: Survey, places: Any) -> None:
        """Read some of the plain rows that ask nothing and have the id of one that asks: their scores may be its scores."""
        if not found.dropped[NO_INPUT] or not len(places):
            return
        empty = self._run("SELECT h, rowid AS late FROM staged WHERE empty AND NOT doubtful").fetchnumpy()
        at = places.searchsorted(empty["h"]).clip(max=len(places) - 1)
        late = empty["late"][places[at] == empty["h"]][:EXAMPLES]
        found.examples += [row for _, row in self._source.fetch(self._spots(late.tolist()))]

    def _spots(self, rows: Collection[int]) -> list[Spot]:
        """Where the rows of these numbers are."""
        spots, first = list[Spot](), 0
        for file, index in enumerate(self._indexes):
            own = [n - first + 1 for n in rows if first <= n < first + index.lines]
            spots += [Spot(file, line, offset) for line, offset in index.offsets(own)]
            first += index.lines
        return spots

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row with one of these keys."""
        if self._connection is None:
            return super().repeats(keys)
        same = "SELECT rowid FROM staged WHERE NOT doubtful AND NOT empty AND h IN (SELECT unnest($keys::UBIGINT[]))"
        plain = self._spots([n for (n,) in self._run(same, keys=sorted(keys)).fetchall()])
        return self._in_full([*plain, *(spot for spot, h in self._doubtful.items() if h in keys)])

    def draw(self, quotas: Mapping[str, Quota]) -> list[Drawn]:
        """The rows of the smallest keys: the doubtful ones by what the survey kept, the others by a bound on their keys."""
        if self._connection is None:
            return super().draw(quotas)
        kept = [each for name, quota in quotas.items() for each in self._smallest[name].spots(quota.wanted)]
        doubtful = [Low[Spot | int](light.stratum, self._doubtful[spot], light.key, spot) for spot, light in kept]
        drawn = smallest_keys([*within_bounds(quotas, self._below), *doubtful], quotas)
        spots = [each for each in drawn if isinstance(each, Spot)]
        return list(self._in_full([*spots, *self._spots([each for each in drawn if isinstance(each, int)])]))

    def _below(self, bounds: Mapping[str, int]) -> list[Low[Spot | int]]:
        """The numbers of the plain rows below the bounds."""
        tops = {group: bounds[name] for group, name in self._strata.items() if name in bounds}
        found = self._run(
            "SELECT g, h, k, staged.rowid FROM staged JOIN (SELECT unnest($groups::UBIGINT[]) AS g, unnest($tops::UBIGINT[]) AS top)"
            " USING (g) WHERE k <= $most::UBIGINT AND k <= top AND NOT doubtful AND NOT empty",
            groups=list(tops),
            tops=list(tops.values()),
            most=max(bounds.values()),
        )
        return [Low(self._strata[group], *row) for group, *row in found.fetchall()]

    def _in_full(self, spots: Collection[Spot]) -> Iterator[Drawn]:
        for spot, row in self._source.fetch(spots):
            light = self._shape.light(row)
            if light is None:
                raise QueryError(f"cannot use {self._source.where(spot)}: the file changed while it was read; run again")
            yield self._drawn(spot, row, light)


def stages(paths: Sequence[Path], shape: Shape, asked: LogSettings) -> bool:
    """Whether a log of JSON lines is for DuckDB: it is large, and every row counts whose columns are right."""
    large = sum(path.stat().st_size for path in paths) >= LARGE
    return large and asked.sample is not None and not (asked.skip_bad or shape.filters or shape.by_run)
