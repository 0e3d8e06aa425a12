"""The process that reads Parquet files, through DuckDB: millions of rows are surveyed in SQL, only the sampled ones reach Python.

The connection is locked: it reads the log's own files and nothing else, loads no extension, writes nothing. Values are
bound; identifiers and JSON paths, which cannot be, are quoted. `sandbox` starts the process and asks it.
"""

# ruff: noqa: S608 - the pieces come from `sql`, which quotes every name

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from bisect_ai.canonical import parse_json
from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries import sql
from bisect_ai.queries.duckdb_session import WHOLE_NUMBERS, locked, quoted, refused, safe_name
from bisect_ai.queries.filters import instant_of_text, order_of_dates
from bisect_ai.queries.records import Shape, content_fault, content_id
from bisect_ai.queries.sample import NO_INPUT, NO_TIME, WHERE, WINDOW, Drawn, Labels, Mixed, Quota, Row, label
from bisect_ai.queries.sandbox import SECONDS, Answer
from bisect_ai.queries.survey import (
    EXAMPLES,
    MAX_STRATA,
    Low,
    Survey,
    key_bound,
    repeated,
    smallest_keys,
    too_many_strata,
    within_bounds,
)
from bisect_ai.queries.values import EPOCH, embedded, file_names, missing, text_of, tidy

# Rows that are fetched by a list of their numbers, so that the file's other parts need not be decoded.
MAX_LISTED = 20_000
NUMERIC = (*WHOLE_NUMBERS, "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")
# Rows that the survey lists for each one that the sample wants, so that those of small segments are mostly among them.
LISTED = 4
Run = Callable[..., Any]


class SurveyedRow(NamedTuple):
    """A row as the survey sees it: where it is, what sampling needs of it, and the columns of its question."""

    file: str
    number: int
    id: str
    stratum: str
    logged: bool
    release: str | None
    key: int
    asked: tuple[Any, ...]

    @classmethod
    def of(cls, values: Sequence[Any]) -> SurveyedRow:
        """The row of what `sql.Columns.seen` selects."""
        file, number, name, stratum, logged, release, key, *asked = values
        return cls(file, number, name, stratum, logged, release, key, tuple(asked))


class ParquetLog:
    """A log that DuckDB reads, on one locked connection."""

    format = "parquet"

    def __init__(self, paths: Sequence[Path], shape: Shape, *, cap: int | None = None) -> None:
        self._shape, self._cap, self._low = shape, cap, list[SurveyedRow]()
        self._name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self._types: dict[str, str] = {}
        self._stack = ExitStack()
        self._connection: Any = None
        self._files = [safe_name(path) for path in paths]
        self._names = dict(zip(self._files, file_names(paths), strict=True))
        with self._open() as run:
            self._types = {row[0]: row[1] for row in run(sql.DESCRIBE).fetchall()}
        self._try_where()
        self._columns = sql.Columns(self._types, shape, self._names)
        self._made_ids = True
        self._day_first: bool | None = None

    @property
    def origin(self) -> frozenset[str]:
        """The columns that are not the log's own."""
        return frozenset({"file"} - set(self._types))

    def survey(self) -> Survey:
        """A pass over the ids, and one over the few columns that sampling needs. Raises `QueryError` for too many strata.

        The second lists the rows of the lowest keys, among which those of a sample of `cap` rows are nearly always.
        """
        found, self._low = Survey(columns=frozenset(self._types)), []
        with self._open() as run:
            self._day_first = self._order_of_dates(run)
            found.repeated = repeated(self._places(run))
            self._tally(run, found)
        found.examples = self._repeated_without_question(found.repeated) if found.repeated and found.dropped[NO_INPUT] else []
        return found

    def _order_of_dates(self, run: Run) -> bool | None:
        statement = self._columns.slashed_dates()
        return order_of_dates([text for (text,) in run(statement).fetchall() if text], self._shape) if statement else None

    def _places(self, run: Run) -> Any:
        """A hash of each row's id, which is made of its content where it has none."""
        import numpy as np

        places = run(self._columns.ids()).fetchnumpy()["place"]
        self._made_ids = np.ma.is_masked(places)
        return run(f"SELECT hash({sql.ID}) AS place FROM {self._light()}").fetchnumpy()["place"] if self._made_ids else places

    def _repeated_without_question(self, keys: frozenset[int]) -> list[Row]:
        """Some of the rows that ask nothing and have the id of another: their scores may be its scores."""
        with self._open() as run:
            run("CREATE OR REPLACE TEMP TABLE wanted AS SELECT unnest($keys::UBIGINT[]) AS key", keys=sorted(keys))
            among = f"{sql.REASON} = '{NO_INPUT}' AND hash({sql.ID}) IN (SELECT key FROM wanted)"
            rows = run(f"SELECT {self._columns.whole()} FROM {self._light()} WHERE {among} LIMIT {EXAMPLES}").fetchall()
            return [_as_plain(self._row(values)) for values in rows]

    def _tally(self, run: Run, found: Survey) -> None:
        cells = self._cells(run)
        top = 0 if self._cap is None else key_bound(LISTED * self._cap, self._rows(run))
        groups = run(self._columns.tallies(list(cells.values()), made_ids=self._made_ids, top=top)).fetchall()
        if len(groups) >= sql.MAX_GROUPS:
            raise too_many_strata(self._shape.segment)
        width = len(self._shape.versions) or 1
        for stratum, reason, release, fault, *rest, low in groups:
            self._low += [SurveyedRow.of(values) for values in low or ()]
            self._count(found, stratum, reason, (mixed_versions(release, rest[:width], self._shape.versions), rest[width]))
            if reason not in (WHERE, WINDOW, NO_TIME):
                found.lost.update({kind: rest[width] for kind in (fault or NO_INPUT).split("|") if kind != NO_INPUT})
                found.logged.add_rows(label(release), rest[width])
                for k, score in enumerate(cells):
                    total, squares, n = rest[width + 1 + 3 * k : width + 4 + 3 * k]
                    found.logged.add_sums(label(release), score, (total or 0.0, squares or 0.0, n))
        if len(found.rows) > MAX_STRATA:
            raise too_many_strata(self._shape.segment)
        if not self._is_struct() and (statement := self._columns.score_sums()) is not None:
            for name, score, total, squares, n in run(statement).fetchall():
                found.logged.add_sums(label(name), score, (total, squares, n))

    def _rows(self, run: Run) -> int:
        return int(run(f"SELECT count(*) FROM {sql.SCAN}").fetchone()[0])

    def _count(self, found: Survey, stratum: str, reason: str | None, counted: tuple[Mixed, int]) -> None:
        mixed, n = counted
        found.read += n
        if reason is not None:
            found.dropped[reason] += n
        else:
            found.rows[stratum] += n
            found.mix(mixed, n)

    def _is_struct(self) -> bool:
        column = self._columns.score_column()
        return column is not None and column[1].startswith("STRUCT(")

    def _cells(self, run: Run) -> dict[str, str]:
        """Scores that are added up on the way, name to expression: those with a column of their own, or in a column of structs."""
        column = self._columns.score_column()
        if self._shape.scored or column is None or not self._is_struct():
            return self._columns.score_cells()
        fields = run(f"DESCRIBE SELECT unnest({column[0]}) FROM {sql.SCAN}").fetchall()
        cells = {
            name: (f"{column[0]}.{quoted(name)}", kind) for name, kind, *_ in fields if kind.startswith((*NUMERIC, "VARCHAR"))
        }
        texts = {name: sql.score_in_text(cell) for name, (cell, kind) in cells.items() if kind == "VARCHAR"}
        return {name: texts.get(name) or f"CAST({cell} AS DOUBLE)" for name, (cell, kind) in cells.items()}

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row whose id hashes to one of these keys, a thousand at a time."""
        with self._open() as run:
            run("CREATE OR REPLACE TEMP TABLE wanted AS SELECT unnest($keys::UBIGINT[]) AS key", keys=sorted(keys))
            among = f"{sql.REASON} IS NULL AND hash({sql.ID}) IN (SELECT key FROM wanted)"
            result = run(f"SELECT {self._columns.seen()}{self._columns.rest()} FROM {self._light()} WHERE {among}")
            width = len(SurveyedRow._fields) - 1 + len(self._columns.asked)
            while fetched := result.fetchmany(1_000):
                yield from (self._drawn(SurveyedRow.of(values[:width]), values[width:]) for values in fetched)

    def draw(self, quotas: Mapping[str, Quota]) -> list[Drawn]:
        """The rows of the smallest keys."""
        low = [Low(each.stratum, each.id, each.key, each) for each in self._low]
        return self._in_full(smallest_keys(within_bounds(quotas, self._below, low), quotas))

    def _below(self, bounds: Mapping[str, int]) -> list[Low[SurveyedRow]]:
        """The rows below the bounds as the survey sees them."""
        with self._open() as run:
            run(
                "CREATE OR REPLACE TEMP TABLE bounds AS SELECT unnest($names::VARCHAR[]) AS bounded, unnest($tops::UHUGEINT[]) AS top",
                names=list(bounds),
                tops=list(bounds.values()),
            )
            within = f"WHERE {sql.KEY} <= $most::UHUGEINT AND {sql.KEY} <= top AND {sql.REASON} IS NULL"
            found = f"SELECT {self._columns.seen()} FROM {self._light()} JOIN bounds ON bounded = {sql.STRATUM} {within}"
            seen = map(SurveyedRow.of, run(found, most=max(bounds.values())).fetchall())
            return [Low(each.stratum, each.id, each.key, each) for each in seen]

    def _in_full(self, seen: Sequence[SurveyedRow]) -> list[Drawn]:
        """The rows with their other columns, of which DuckDB decodes no more than these rows need."""
        with self._open() as run:
            run(
                "CREATE OR REPLACE TEMP TABLE spots AS SELECT unnest($paths::VARCHAR[]) AS f, unnest($numbers::BIGINT[]) AS n",
                paths=[each.file for each in seen],
                numbers=[each.number for each in seen],
            )
            among = f"({sql.FILE}, {sql.NUMBER}) IN (SELECT (f, n) FROM spots)"
            if len(seen) <= MAX_LISTED:
                among += f" AND {sql.NUMBER} IN ({', '.join(str(n) for n in {each.number for each in seen} or {-1})})"
            result = run(f"SELECT {sql.FILE}, {sql.NUMBER}{self._columns.rest()} FROM {sql.NUMBERED} WHERE {among}")
            rest = {(file, number): values for file, number, *values in result.fetchall()}
            return [self._drawn(each, rest[each.file, each.number]) for each in seen]

    def _light(self) -> str:
        return self._columns.light(made_ids=self._made_ids)

    def _drawn(self, seen: SurveyedRow, rest: Sequence[Any]) -> Drawn:
        row = {"file": self._names[seen.file], **self._whole(seen.asked, rest)}
        if self._shape.windows and seen.release is not None:
            row[self._shape.columns.get("release", "release")] = seen.release
        light = self._shape.placed(row, seen.id, seen.stratum, logged=seen.logged)
        return Drawn(light, self._shape.record(row, light, f"{self._name}, query {seen.id[:60]}"))

    def _whole(self, asked: Sequence[Any], rest: Sequence[Any]) -> dict[str, Any]:
        """The row by the columns of its question and the others."""
        known, others = dict(zip(self._columns.asked, asked, strict=True)), iter(rest)
        return self._row([known[name] if name in known else next(others) for name in self._types])

    def rows(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Every row (at most `most`), in no particular order."""
        with self._open() as run:
            limit = "" if most is None else f" LIMIT {int(most)}"
            result = run(f"SELECT {self._columns.whole()} FROM {sql.SCAN}{limit}")
            while fetched := result.fetchmany(1_000):
                yield from map(self._row, fetched)

    def plain_rows(self, most: int | None = None) -> Iterator[Row]:
        """Every row (at most `most`) as plain JSON."""
        return map(_as_plain, self.rows(most))

    def _row(self, values: Sequence[Any]) -> dict[str, Any]:
        return {column: _fetched_cell(kind, value) for (column, kind), value in zip(self._types.items(), values, strict=True)}

    @contextmanager
    def _open(self) -> Iterator[Run]:
        """A function that runs one statement on a locked connection. Raises `QueryError` for what DuckDB refuses."""
        import duckdb

        try:
            yield lambda statement, **bound: self._connected().execute(statement, self._bound(statement, bound))
        except duckdb.Error as error:
            if self._shape.where is not None and not isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
                raise refused(self._shape.where, error, self._types) from None
            reason = str(error).splitlines()[0]
            raise QueryError(f"cannot read {self._name}: {reason}; check the files, or convert the log to JSONL") from error

    def _connected(self) -> Any:
        """The log's one connection, which is closed with it."""
        if self._connection is None:
            connection = self._stack.enter_context(locked(self._files))
            kinds = ["VARCHAR", "VARCHAR", "BOOLEAN"]
            connection.create_function("content_fault", content_fault, kinds, "VARCHAR", null_handling="special")
            connection.create_function("content_id", content_id, ["VARCHAR"] * 4, "VARCHAR", null_handling="special")
            written = lambda text: instant_of_text(text, self._day_first)  # noqa: E731
            connection.create_function("written_time", written, ["VARCHAR"], "BIGINT", null_handling="special")
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Close the connection; it opens again when it is needed."""
        self._connection = None
        self._stack.close()

    def _bound(self, statement: str, bound: Mapping[str, Any]) -> dict[str, Any]:
        return {**bound, "files": self._files} if "$files" in statement else dict(bound)

    def _try_where(self) -> None:
        """Raise `QueryError` when the condition is no condition over these columns."""
        import duckdb

        condition = self._shape.where
        if condition is None:
            return
        try:
            self._connected().execute(
                f"SELECT coalesce(({condition}\n), false) FROM {sql.SCAN} LIMIT 0", {"files": self._files}
            )
        except (duckdb.Error, RuntimeError) as error:
            raise refused(condition, error, self._types) from None


def mixed_versions(release: str | None, fetched: Sequence[str | None], versions: Sequence[str]) -> Mixed:
    """What answered: the release, and the versions as they were fetched, by name or as one JSON text."""
    if versions:
        return label(release), tuple((name, value) for name, value in zip(versions, fetched, strict=True) if value is not None)
    found = embedded(fetched[0])
    named = sorted(found.items()) if isinstance(found, dict) else []
    return label(release), tuple((name, text_of(value)) for name, value in named if not missing(value))


def _as_plain(row: Row) -> Row:
    return {name: tidy(value, where=name) for name, value in row.items()}


def _fetched_cell(kind: str, value: Any) -> Any:
    """A fetched cell; times with a zone were fetched as microseconds, since DuckDB would need pytz for them."""
    return EPOCH + timedelta(microseconds=value) if kind == sql.ZONED and value is not None else value


# Bytes of address space for data; DuckDB itself stays below 1 GiB, and what a broken file makes it ask for beyond is refused.
MEMORY = 3 * 2**30


def serve() -> None:
    """Answer requests from standard input until it ends; `null` ends an answer, a string is an error."""
    _limit_process()
    reader, out = _Reader(), _own_output()
    for line in sys.stdin.buffer:
        try:
            for told in reader.answer(parse_json(line, numbers="as sent")):
                out.write(json.dumps(told).encode() + b"\n")
            said: str | None = None
        except InputError as error:
            said = str(error)
        except MemoryError:
            said = "cannot read the log: it asks for more memory than a log needs; check the files, or convert the log to JSONL"
        except RecursionError:
            said = "cannot read the log: it is nested too deep; flatten it"
        out.write(json.dumps(said).encode() + b"\n")
        out.flush()


def _own_output() -> IO[bytes]:
    """The pipe to the parent, kept from everything else in the process that prints (DuckDB's progress bar)."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return out


def _limit_process() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS) * 4, int(SECONDS) * 4))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Reader:
    """What a child process answers with: one open log."""

    def __init__(self) -> None:
        self._log: Any = None

    def answer(self, request: Answer) -> Iterator[Any]:
        from bisect_ai.queries.score_columns import answer_columns

        if "files" in request:
            yield from answer_columns(request)
        elif request["do"] == "open":
            if self._log is not None:
                self._log.close()
            self._log = ParquetLog([Path(path) for path in request["paths"]], _shape(request["shape"]), cap=request["cap"])
        elif request["do"] == "survey":
            yield {**_surveyed(self._log.survey()), "origin": sorted(self._log.origin)}
        elif request["do"] == "rows":
            yield from self._log.plain_rows(request["most"])
        else:
            drawn = (
                self._log.repeats(frozenset(request["keys"]))
                if request["do"] == "repeats"
                else self._log.draw({name: Quota(*quota) for name, quota in request["quotas"].items()})
            )
            yield from ({"light": list(light), "record": record} for light, record in drawn)


def _shape(told: Answer) -> Shape:
    labels = told["labels"] and Labels(told["labels"]["by"], tuple(map(tuple, told["labels"]["patterns"])))
    return Shape(**{**told, "versions": tuple(told["versions"]), "labels": labels})


def _surveyed(found: Survey) -> Answer:
    return {
        "read": found.read,
        "rows": dict(found.rows),
        "dropped": dict(found.dropped),
        "logged": found.logged.plain(),
        "mixtures": [[release, named, n] for (release, named), n in found.mixtures.items()],
        "repeated": sorted(found.repeated),
        "columns": sorted(found.columns),
        "lost": dict(found.lost),
        "examples": found.examples,
    }
