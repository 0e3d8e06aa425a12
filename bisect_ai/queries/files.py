"""The files of a log: found by path or pattern, told apart by what they hold (which tool wrote them), then by suffix.

Another tool's format is read once into a private temporary database, so that traces can be put together. Memory is bounded by one
record and one trace; the database is a file that the system removes, never opened again.
"""

from __future__ import annotations

import glob
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.canonical import canonical
from bisect_ai.errors import QueryError
from bisect_ai.provider.redaction import did_you_mean
from bisect_ai.queries.documents import HEAD, NoObject, Part, expanded, first_parts, json_parts, scalars
from bisect_ai.queries.formats.braintrust import BRAINTRUST, WEAVE
from bisect_ai.queries.formats.call_records import Format, Piece, reach
from bisect_ai.queries.formats.deepeval import DEEPEVAL, RAGAS
from bisect_ai.queries.formats.harness import INSPECT, LM_EVAL, OPENAI_EVALS
from bisect_ai.queries.formats.langfuse import LANGFUSE_EXPORT
from bisect_ai.queries.formats.langsmith import LANGSMITH_RUNS
from bisect_ai.queries.formats.mlflow import MLFLOW
from bisect_ai.queries.formats.otlp import OTLP
from bisect_ai.queries.formats.promptfoo import PROMPTFOO
from bisect_ai.queries.formats.request_logs import CHATGPT, LITELLM, OPENAI
from bisect_ai.queries.json_rows import ROW, is_lines, json_source, looks_like_json
from bisect_ai.queries.readers import Csv, FileNamed, JsonLines, Listed, Source, Spot
from bisect_ai.queries.records import ORIGIN, Shape, parts_of
from bisect_ai.queries.sample import FORMATS, NO_OBJECT, LogSettings, Row
from bisect_ai.queries.sandbox import ChildLog, ParquetRows
from bisect_ai.queries.unmapped_rows import looks_like
from bisect_ai.queries.unpack import LogFiles, plain_suffix, unpacked
from bisect_ai.queries.values import embedded, file_names, missing, tidy

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
                is_object = not isinstance(value, NoObject)
                found = split(where, value) if is_object else [Piece(None, value)] if where in self._format.inner else []
                yield from ((file, piece) for piece in found if self._is_object(piece))

    def _is_object(self, piece: Piece) -> bool:
        """Whether a piece may be read; one that may not is counted."""
        if isinstance(piece.value, NoObject):
            self.left_out[NO_OBJECT] += 1
            return False
        return True

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
            pieces = [(file, json.loads(body)) for _, file, body in islice(group, MAX_TRACE)]
            if rest := sum(1 for _ in group):
                self.left_out[TOO_LONG] += rest
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


SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def log_files(source: str | Path | Sequence[Path], folder: Path) -> LogFiles:
    """The log's files in a fixed order: each path itself if it is there, else what it matches as a pattern; unpacked."""
    named = [source] if isinstance(source, str | Path) else source
    matched = [path for each in named for path in matching_files(folder / each)]
    for path in matched:
        if not path.is_file():
            raise QueryError(f"cannot read the log {path}: not a regular file; name files, for example {path}/*.jsonl")
    return unpacked(path.absolute() for path in matched)


def matching_files(named: Path) -> list[Path]:
    """The files that a path or pattern names, in order, packed ones as they are. Raises `QueryError`: there is none."""
    names = [str(named)] if named.exists() else glob.glob(str(named), recursive=True)  # noqa: PTH207 - may be absolute
    if not names:
        raise QueryError(
            f"cannot read the log {named}: no such file; correct the path (it may be a pattern such as logs/*.jsonl)"
        )
    return [Path(name) for name in sorted(names)]


def log_format(paths: Sequence[Path], asked: str) -> str:
    """The format's name: what the settings say, else what all files are recognised as. Raises `QueryError`."""
    if asked != "auto":
        return asked
    tables = [path for path in paths if SUFFIXES.get(plain_suffix(path)) == "parquet"]
    probed = [path for path in paths if path not in tables[1:]]  # a table's columns are alike in all files, and slow to look at
    kinds = [recognised(path) or _format_of(path) for path in probed]
    if len(set(kinds)) > 1:
        raise QueryError(
            f"the log mixes formats ({', '.join(sorted(set(kinds)))}); name files of one format, or set log.format"
        )
    return kinds[0]


def _format_of(path: Path) -> str:
    suffix = plain_suffix(path)
    if suffix not in SUFFIXES and looks_like_json(path):
        return "jsonl"
    if suffix not in SUFFIXES:
        raise QueryError(
            f"cannot tell the format of {path} by its suffix: {looks_like(path)}; write it as JSONL or CSV, or set log.format to "
            f"one of {', '.join(FORMATS[1:])}"
        )
    return SUFFIXES[suffix]


def row_source(
    paths: Sequence[Path], kind: str, *, skip_bad: bool, rows: str | None = None, known: frozenset[str] = ROW
) -> Source:
    """The rows of CSV files, or of JSON files of any layout (`json_rows`): `rows` says where, `known` are the columns of a row."""
    return Csv(paths, skip_bad=skip_bad) if kind == "csv" else json_source(paths, skip_bad=skip_bad, place=rows, known=known)


_ALL = (
    *(OTLP, LANGFUSE_EXPORT, LITELLM, PROMPTFOO, INSPECT, OPENAI),
    *(DEEPEVAL, RAGAS, LANGSMITH_RUNS, BRAINTRUST, MLFLOW, WEAVE, LM_EVAL, OPENAI_EVALS, CHATGPT),
)
IMPORTERS: Mapping[str, Format] = {each.name: each for each in _ALL}
# Records that are looked at; a third of them must suit a format.
PROBED = 20


def recognised(path: Path) -> str | None:
    """The name of the tool's format that the file's first records suit; None: plain rows, or nothing that can be read."""
    try:
        kind = container(path)
        if kind in ("zip", "sqlite"):
            return INSPECT.name if kind == "zip" else PROMPTFOO.name
        parts = list(_document_parts(path) if kind == "json" else _line_parts(path, kind))
    except (QueryError, OSError):
        return None
    suited = Counter(fmt.name for where, value in parts for fmt in IMPORTERS.values() if fmt.suits(where, value))
    name, count = suited.most_common(1)[0] if suited else ("", 0)
    return name if count * 3 >= len(parts) and count else None


def _document_parts(path: Path) -> Iterable[Part]:
    known = frozenset().union(*(fmt.inner for fmt in IMPORTERS.values()))
    return first_parts(path, known.__contains__, PROBED) or first_parts(path, "".__eq__, PROBED)


def _line_parts(path: Path, kind: str) -> Iterable[Part]:
    """The records of the first lines: at most as many of one line, since a line may be a whole export."""
    known = frozenset().union(*(fmt.inner for fmt in IMPORTERS.values()))
    for _, row in islice(row_reader(path, kind, skip_bad=True, most=PROBED).rows(), PROBED):
        yield from islice(expanded(dict(row), known, frozenset()), PROBED)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Every row of a JSONL, JSON, CSV or Parquet file as plain JSON without its empty cells, in an order of their own.

    JSON arrays and objects written as text are parsed. Raises `QueryError` naming file and line.
    """
    return sorted((_plain_row(row, str(path)) for row in _recorded_rows(path)), key=canonical)


def _recorded_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    paths = log_files(path, Path())
    kind = log_format(paths, "auto")
    if kind == "parquet":
        return ChildLog(paths, Shape.of(LogSettings(), tabular=True)).rows()
    return (row for _, row in row_source(paths, kind, skip_bad=False).rows())


def _plain_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    filled = {str(name): value for name, value in row.items() if not missing(value)}
    return {name: tidy(embedded(value), where=f"{where}: {name}") for name, value in filled.items()}


def is_named(source: Any) -> bool:
    """Whether a source names files: a path or pattern, or a list of paths."""
    listed = isinstance(source, list | tuple) and bool(source) and all(isinstance(each, Path) for each in source)
    return listed or isinstance(source, str | Path)


def rows_in_memory(source: Any) -> tuple[bool, Sequence[Any]]:
    """Whether the source is a DataFrame, and its rows."""
    tabular = (pandas := sys.modules.get("pandas")) is not None and isinstance(source, pandas.DataFrame)
    return tabular, _table_rows(source) if tabular else _listed_rows(source)


def _table_rows(frame: Any) -> list[Any]:
    if repeated := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        raise QueryError(f"queries has two columns named {repeated[0][:40]!r}; rename one, or drop it")
    named: list[Any] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return named


def _listed_rows(source: Any) -> Sequence[Any]:
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return source if isinstance(source, Sequence) else list(source)
    raise QueryError(f"queries is a {type(source).__name__}; pass a path, a DataFrame or a list of mappings")


def file_source(paths: Sequence[Path], kind: str, shape: Shape, settings: LogSettings) -> Source:
    """The rows of files of one kind, as the shape wants them."""
    if kind in IMPORTERS:
        wanted = [part for each in shape.wanted() for part in dict.fromkeys([each, *parts_of(each)])]
        return Imported(paths, IMPORTERS[kind], skip_bad=settings.skip_bad, wanted=wanted)
    known = ROW | {part.partition(".")[0] for name in ROW & set(shape.columns) for part in parts_of(shape.columns[name])}
    source = row_source(paths, kind, skip_bad=settings.skip_bad, rows=settings.rows, known=known)
    return FileNamed(source, paths, early=shape.reads_origin or len(paths) > 1)


def source_of(source: Any, settings: LogSettings, folder: Path) -> tuple[Shape, Source, str]:
    """The rows of a path or pattern, a DataFrame or mappings, how they become records, and the name of their format."""
    if not is_named(source):
        tabular, rows = rows_in_memory(source)
        return Shape.of(settings, tabular=tabular), Listed(rows), "rows"
    paths = log_files(source, folder)
    kind = log_format(paths, settings.format)
    shape = Shape.of(settings, tabular=kind in ("csv", "parquet"))
    return shape, ParquetRows(*paths) if kind == "parquet" else file_source(paths, kind, shape, settings), kind


def instead(column: str, columns: Iterable[str]) -> str:
    """What to say after a name that is not there: one that is close, else those that are there."""
    listed = ", ".join(" ".join(name.split())[:40] for name in sorted(columns)[:12])  # a name may hold line ends
    return did_you_mean(column, columns, f"; it has {listed or 'none'}")
