"""A log in Parquet files, through DuckDB: millions of rows are surveyed in SQL, only the sampled ones reach Python.

The connection is locked: it reads the log's own files and nothing else, loads no extension, writes nothing. Values are
bound; identifiers and JSON paths, which cannot be, are quoted.
"""
# ruff: noqa: S608 - the pieces come from `sql`, which quotes every name

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries import sql
from bisect_ai.queries.readers import Spot
from bisect_ai.queries.records import NO_INPUT, Drawn, Light, Mixed, Shape, content_id, label
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.survey import MAX_STRATA, Survey, repeated, too_many_strata
from bisect_ai.queries.values import embedded, missing, text_of

LOCKED: dict[str, bool | str] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "preserve_insertion_order": False,
    "memory_limit": "1GB",
    "temp_directory": "",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOP = 2**64 - 1
Run = Callable[..., Any]


class ParquetLog:
    """A log that DuckDB reads. Each step opens its own locked connection and closes it."""

    format = "parquet"

    def __init__(self, paths: Sequence[Path], shape: Shape) -> None:
        self._shape = shape
        self._name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self._files = [_safe_name(path) for path in paths]
        with self._open() as run:
            self._types: dict[str, str] = {row[0]: row[1] for row in run(sql.DESCRIBE).fetchall()}
            self._columns = sql.Columns(self._types, shape)
            made_ids = run(self._columns.without_id()).fetchone()[0] > 0
        self._light = self._columns.light(made_ids=made_ids)

    def survey(self) -> Survey:
        """A pass over the few columns that sampling needs. Raises `QueryError` for too many strata."""
        found = Survey(columns=frozenset(self._types))
        with self._open() as run:
            self._count(run, found)
            found.repeated = repeated(run(f"SELECT {sql.KEY} FROM {self._light} WHERE {sql.USABLE}").fetchnumpy()[sql.KEY])
            self._tally(run, found)
        return found

    def _count(self, run: Run, found: Survey) -> None:
        counts = run(f"SELECT {sql.USABLE}, {sql.STRATUM}, count(*) FROM {self._light} GROUP BY ALL")
        for usable, stratum, n in counts.fetchall():
            found.read += n
            if usable:
                found.rows[stratum] += n
            else:
                found.dropped[NO_INPUT] += n
        if len(found.rows) > MAX_STRATA:
            raise too_many_strata(self._shape)

    def _tally(self, run: Run, found: Survey) -> None:
        for name, n in run(self._columns.release_counts()).fetchall():
            found.logged.add_rows(label(name), n)
        for count, *mixed in run(self._columns.mixture_counts()).fetchall():
            found.mixtures[_mixed(mixed, self._shape.versions)] += count
        for name, score, total, squares, n in run(self._columns.score_sums()).fetchall():
            found.logged.add_sums(label(name), score, (total, squares, n))

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row with one of these keys, a thousand at a time."""
        with self._open() as run:
            run("CREATE TEMP TABLE wanted AS SELECT unnest($keys::UBIGINT[]) AS key", keys=sorted(keys))
            yield from self._rows(run(f"{self._full()} WHERE {sql.USABLE} AND {sql.KEY} IN (SELECT key FROM wanted)"))

    def draw(self, quotas: Mapping[str, int], sizes: Mapping[str, int]) -> list[Drawn]:
        """The rows of the smallest keys: keys are uniform, so a bound on them picks few; it is widened if too few came."""
        short, drawn, slack = {name: quota for name, quota in quotas.items() if quota}, list[Drawn](), 1
        while short:
            bounds = {name: min(TOP, slack * _bound(quota, sizes[name])) for name, quota in short.items()}
            drawn = [each for each in drawn if each.light.stratum not in short] + self._below(bounds)
            short = {name: quota for name, quota in short.items() if bounds[name] < TOP and _keys(drawn, name) < quota}
            slack *= 8
        return drawn

    def _below(self, bounds: Mapping[str, int]) -> list[Drawn]:
        with self._open() as run:
            run(
                "CREATE TEMP TABLE bounds AS SELECT unnest($names::VARCHAR[]) AS bounded, unnest($tops::UBIGINT[]) AS top",
                names=list(bounds),
                tops=list(bounds.values()),
            )
            within = f"WHERE {sql.USABLE} AND {sql.KEY} <= {max(bounds.values())}::UBIGINT AND {sql.KEY} <= top"
            return list(self._rows(run(f"{self._full()} JOIN bounds ON bounded = {sql.STRATUM} {within}")))

    def _full(self) -> str:
        return f"SELECT {self._columns.fetched()} FROM {self._light}"

    def _rows(self, result: Any) -> Iterator[Drawn]:
        while fetched := result.fetchmany(1_000):
            for key, name, stratum, logged, *values in fetched:
                light = Light(key, name, stratum, logged)
                yield Drawn(light, self._shape.record(self._row(values), light, f"{self._name}, query {name[:60]}"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row, in no particular order."""
        with self._open() as run:
            result = run(f"SELECT {self._columns.whole()} FROM {sql.SCAN}")
            while fetched := result.fetchmany(1_000):
                yield from map(self._row, fetched)

    def _row(self, values: Sequence[Any]) -> dict[str, Any]:
        return {column: _value(kind, value) for (column, kind), value in zip(self._types.items(), values, strict=True)}

    @contextmanager
    def _open(self) -> Iterator[Run]:
        """A function that runs one statement on a locked connection. Raises `QueryError` for what DuckDB refuses."""
        import duckdb

        try:
            with duckdb.connect(":memory:", config=_config()) as connection:
                self._lock(connection)
                yield lambda statement, **bound: connection.execute(statement, self._bound(statement, bound))
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise QueryError(f"cannot read {self._name}: {reason}; check the files, or convert the log to JSONL") from error

    def _lock(self, connection: Any) -> None:
        connection.create_function("content_id", content_id, ["VARCHAR"] * 4, "VARCHAR", null_handling="special")
        allowed = ", ".join(sql.literal(name) for name in self._files)
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _bound(self, statement: str, bound: Mapping[str, Any]) -> dict[str, Any]:
        return {**bound, "files": self._files} if "$files" in statement else dict(bound)


def _config() -> dict[str, Any]:
    return {**LOCKED, "threads": min(4, os.cpu_count() or 1)}


class ParquetRows:
    """The rows of one Parquet file as a `Source`, for formats that other tools export to Parquet."""

    def __init__(self, path: Path) -> None:
        self._path, self.left_out = path, Counter[str]()

    def rows(self) -> Iterator[tuple[Spot, dict[str, Any]]]:
        """Every row, in no particular order."""
        log = ParquetLog([self._path], Shape.of(LogSettings(), tabular=True))
        return ((Spot(0, number), row) for number, row in enumerate(log.rows()))

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, dict[str, Any]]]:
        """The rows at `spots`, by reading the file again."""
        wanted = frozenset(spots)
        return (each for each in self.rows() if each[0] in wanted)

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return f"{self._path} row {spot.line}"


def _mixed(fetched: Sequence[str | None], versions: Sequence[str]) -> Mixed:
    release, *each = fetched
    if versions:
        return label(release), tuple((name, value) for name, value in zip(versions, each, strict=True) if value is not None)
    found = embedded(each[0])
    named = sorted(found.items()) if isinstance(found, dict) else []
    return label(release), tuple((name, text_of(value)) for name, value in named if not missing(value))


def _value(kind: str, value: Any) -> Any:
    """A fetched cell; times with a zone were fetched as microseconds, since DuckDB would need pytz for them."""
    return EPOCH + timedelta(microseconds=value) if kind == sql.ZONED and value is not None else value


def _bound(quota: int, size: int) -> int:
    """A key below which `quota` of `size` uniform keys lie almost surely: their mean plus eight standard deviations."""
    return min(TOP, int((quota + 8 * math.sqrt(quota) + 16) / size * TOP))


def _keys(drawn: Sequence[Drawn], stratum: str) -> int:
    return len({each.light.key for each in drawn if each.light.stratum == stratum})


def _safe_name(path: Path) -> str:
    if any(letter in str(path) for letter in "*?["):
        raise QueryError(f"cannot read {path}: DuckDB takes * ? [ in a file name for a pattern; rename the file or its folder")
    return str(path)
