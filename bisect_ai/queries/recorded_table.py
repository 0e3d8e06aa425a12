"""A whole table of records from one file: for tables that fit in memory, such as recorded answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bisect_ai.canonical import canonical
from bisect_ai.queries.files import log_files, log_format, row_source
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.sandbox import ChildLog
from bisect_ai.queries.values import embedded, missing, tidy


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
