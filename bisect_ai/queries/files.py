"""The files of a log: found by path or pattern, told apart by what they hold (which tool wrote them), then by suffix."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bisect_ai.canonical import canonical
from bisect_ai.errors import QueryError
from bisect_ai.queries.advice import looks_like
from bisect_ai.queries.documents import Part, expanded, first_parts
from bisect_ai.queries.formats.braintrust import BRAINTRUST, WEAVE
from bisect_ai.queries.formats.deepeval import DEEPEVAL, RAGAS
from bisect_ai.queries.formats.field_table import Format
from bisect_ai.queries.formats.harness import LM_EVAL, OPENAI_EVALS
from bisect_ai.queries.formats.inspect_log import INSPECT
from bisect_ai.queries.formats.langfuse import LANGFUSE_EXPORT
from bisect_ai.queries.formats.langsmith import LANGSMITH_RUNS
from bisect_ai.queries.formats.litellm import LITELLM
from bisect_ai.queries.formats.mlflow import MLFLOW
from bisect_ai.queries.formats.openai import OPENAI
from bisect_ai.queries.formats.otlp import OTLP
from bisect_ai.queries.formats.promptfoo import PROMPTFOO
from bisect_ai.queries.imports import container, row_reader
from bisect_ai.queries.json_rows import ROW, json_source, looks_like_json
from bisect_ai.queries.readers import Csv, Source
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import FORMATS, LogSettings
from bisect_ai.queries.sandbox import ChildLog
from bisect_ai.queries.unpack import LogFiles, plain_suffix, unpacked
from bisect_ai.queries.values import embedded, missing, tidy

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
    *(DEEPEVAL, RAGAS, LANGSMITH_RUNS, BRAINTRUST, MLFLOW, WEAVE, LM_EVAL, OPENAI_EVALS),
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
