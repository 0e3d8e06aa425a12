"""A log in another tool's format as rows: read once into a private temporary database, so that traces can be put together.

Memory is bounded by one record and one trace; the database is a file that the system removes, never opened again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.documents import HEAD, Part, expanded, first_parts, json_parts, scalars
from bisect_ai.queries.formats.field_table import Format, Piece, reach
from bisect_ai.queries.json_rows import is_lines
from bisect_ai.queries.labels import file_names
from bisect_ai.queries.readers import Csv, JsonLines, Source, Spot
from bisect_ai.queries.records import ORIGIN, Row
from bisect_ai.queries.unpack import plain_suffix
from bisect_ai.queries.values import missing

if TYPE_CHECKING:
    import sqlite3

# Records of one trace that are put together; a trace with more is no conversation.
MAX_TRACE = 10_000
TOO_LONG = "trace too long"
# Where the pieces of a format keep what the source wrote.
INSIDE = ("row", "attributes", "sample", "eval", "run", "vars")
# Begins the group names of records that stand alone, which no trace id does.
LONE = "\x01"


class Imported:
    """The query records that a format's files hold. `left_out` says what became of all other records."""

    def __init__(self, paths: Sequence[Path], fmt: Format, *, skip_bad: bool, wanted: Sequence[str] = ()) -> None:
        self._paths, self._format, self._skip_bad, self._wanted = paths, fmt, skip_bad, wanted
        self._names = file_names(paths)
        self.left_out: Counter[str] = Counter()
        self._database: sqlite3.Connection | None = None

    @property
    def origin(self) -> frozenset[str]:
        """The columns that say which file and run a record comes from."""
        return frozenset(ORIGIN)

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every record, in the order of their traces. Raises `QueryError` naming file and spot."""
        for number, body in self._opened().execute("SELECT number, body FROM records ORDER BY number"):
            yield Spot(0, number), json.loads(body)

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The records at `spots`."""
        for spot in spots:
            found = self._opened().execute("SELECT body FROM records WHERE number = ?", (spot.line,)).fetchone()
            yield spot, json.loads(found[0])

    def where(self, spot: Spot) -> str:
        """The record's place, for messages."""
        return f"{self._paths[0]} ({self._format.name}) record {spot.line}"

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3

            self._database = database = sqlite3.connect("", check_same_thread=False)
            database.execute("PRAGMA synchronous = OFF")
            database.execute("CREATE TABLE pieces (name TEXT, file INTEGER, body TEXT)")
            database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, body TEXT)")
            database.executemany("INSERT INTO pieces VALUES (?, ?, ?)", self._named_pieces())
            database.executemany("INSERT INTO records (body) VALUES (?)", self._built(database))
            database.execute("DROP TABLE pieces")
        return self._database

    def _named_pieces(self) -> Iterator[tuple[str, int, str]]:
        for number, (file, piece) in enumerate(self._pieces()):
            name = f"{LONE}{number}" if piece.group is None else _stored([file, piece.group] if piece.local else piece.group)
            yield name, file, _stored(piece.value)

    def _pieces(self) -> Iterator[tuple[int, Piece]]:
        for file, path in enumerate(self._paths):
            split = self._format.split()
            for where, value in self._parts(path):
                yield from ((file, piece) for piece in split(where, value))

    def _parts(self, path: Path) -> Iterator[Part]:
        if (opened := self._format.open(path)) is not None:
            yield from opened
        elif (kind := container(path)) == "json":
            yield from _document_part(path, self._format)
        else:
            yield from self._lines(path, kind)

    def _lines(self, path: Path, kind: str) -> Iterator[Part]:
        source = row_reader(path, kind, skip_bad=self._skip_bad)
        for _, row in source.rows():
            yield from expanded(dict(row), self._format.inner, self._format.headers)
        self.left_out.update(source.left_out)

    def _built(self, database: sqlite3.Connection) -> Iterator[tuple[str]]:
        ordered = database.execute("SELECT name, file, body FROM pieces ORDER BY name, rowid")
        for _, group in groupby(ordered, key=lambda row: row[0]):
            pieces = [(file, json.loads(body)) for _, file, body in _most_of_trace(group, MAX_TRACE, self.left_out)]
            for made in self._format.build([value for _, value in pieces]):
                if made.record is None:
                    self.left_out[made.reason] += 1
                else:
                    yield (_stored(self._finished(made.record, pieces)),)

    def _finished(self, record: dict[str, Any], pieces: Sequence[tuple[int, Any]]) -> dict[str, Any]:
        """The record with its file, and with the columns that the settings name and only the source has."""
        named = {name: value for name in self._wanted if (value := _sought_column(record, pieces, name)) is not None}
        file = self._names[pieces[0][0]]
        return {**self._format.named(file), **record, **named, "file": file}


def _sought_column(record: dict[str, Any], pieces: Sequence[tuple[int, Any]], name: str) -> Any:
    """The value of a column that the record itself lacks, in what it was made of; its own piece comes first."""
    if name in ORIGIN or not missing(reach(record, name)):
        return None
    own = sorted((value for _, value in pieces), key=lambda value: str(value.get("id")) != str(record.get("id")))
    inside = [inner for value in own for inner in (value, *(value[k] for k in INSIDE if isinstance(value.get(k), dict)))]
    return next((found for value in inside if not missing(found := reach(value, name))), None)


def _most_of_trace(group: Iterable[Any], most: int, left_out: Counter[str]) -> Iterator[Any]:
    for number, row in enumerate(group):
        if number < most:
            yield row
        else:
            left_out[TOO_LONG] += 1


def _stored(value: Any) -> str:
    """JSON in ASCII: a lone surrogate, which SQLite cannot hold, survives as an escape."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str)


def container(path: Path) -> str:
    """`json`, `jsonl`, `csv`, `parquet`, `zip` or `sqlite`: how the file holds its records, by its content, then by its suffix."""
    with path.open("rb") as stream:
        head = stream.read(16)
    for magic, kind in ((b"PAR1", "parquet"), (b"PK\x03\x04", "zip"), (b"SQLite format 3\0", "sqlite")):
        if head.startswith(magic):
            return kind
    kind = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}.get(
        plain_suffix(path), "json"
    )
    return "json" if kind == "jsonl" and not is_lines(path) else kind


def row_reader(path: Path, kind: str, *, skip_bad: bool, most: int | None = None) -> Source:
    """The rows of one file of lines or of a table; of a table whose reader would read on, at most `most`."""
    if kind == "parquet":
        from bisect_ai.queries.sandbox import ParquetRows

        return ParquetRows(path, most=most)
    if kind in ("zip", "sqlite"):
        raise QueryError(f"cannot read {path}: it is a {kind} file that no format fits; write the log as JSONL")
    return (Csv if kind == "csv" else JsonLines)([path], skip_bad=skip_bad)


def _document_part(path: Path, fmt: Format) -> Iterator[Part]:
    """The parts of a JSON document; when it has none of them, the document itself (or each of several) is one."""
    wanted = fmt.inner | fmt.headers if first_parts(path, fmt.inner.__contains__, 1) else frozenset({""})
    if HEAD in wanted:
        yield HEAD, scalars(path)
    with path.open("rb") as stream:
        yield from json_parts(stream, wanted.__contains__, name=str(path))
