"""The files of a log: found by path or pattern, told apart by what they hold, then by suffix."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from bisect_ai.errors import QueryError
from bisect_ai.queries.advice import looks_like
from bisect_ai.queries.detect import recognised
from bisect_ai.queries.json_rows import ROW, json_source, looks_like_json
from bisect_ai.queries.readers import Csv, Source
from bisect_ai.queries.sample import FORMATS
from bisect_ai.queries.unpack import LogFiles, plain_suffix, unpacked

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
