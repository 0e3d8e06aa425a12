"""Where columns of scores come from: a DataFrame, mappings, an Arrow table, a DuckDB relation, or files.

A Parquet file is scanned by the process that reads logs (`sandbox`), which hands the arrays over in files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bisect_ai.errors import InputError
from bisect_ai.queries.sandbox import Child
from bisect_ai.queries.score_columns import (
    ColumnSource,
    FrameColumns,
    Keys,
    RelationColumns,
    ScannedColumns,
    TakenColumns,
    hashable,
)


def column_source(table: Any) -> ColumnSource:
    """The source for a DataFrame, mappings, an Arrow table, a DuckDB relation or the path of a file. Raises `InputError`."""
    import pandas as pd

    if isinstance(table, str | Path):
        return _file_source(Path(table))
    if isinstance(table, pd.DataFrame):
        return FrameColumns(table)
    if type(table).__name__ == "DuckDBPyRelation":
        return RelationColumns(table)
    if hasattr(table, "__arrow_c_stream__") or type(table).__module__.startswith("pyarrow"):
        import duckdb

        whole = table.read_all() if hasattr(table, "read_all") else table  # a reader can be read once only
        return RelationColumns(duckdb.connect().from_arrow(whole))
    if isinstance(table, Mapping) or not isinstance(table, Iterable):
        raise InputError(
            f"cannot read a table from {table!r:.60}: give a DataFrame, an Arrow table, a DuckDB relation, a list of mappings or a path"
        )
    return FrameColumns(pd.DataFrame(list(table)))


def _file_source(path: Path) -> ColumnSource:
    import pandas as pd

    from bisect_ai.queries.files import log_files, log_format, read_table

    files = log_files(path, Path())
    if log_format(files, "auto") == "parquet":
        return ParquetColumns(files)
    return FrameColumns(pd.DataFrame(read_table(path)))


class ParquetColumns:
    """Columns of Parquet files, scanned by a process of its own that ends with the scan."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [str(path) for path in paths]
        self.names = list(self._ask(do="column names")[0]["names"])

    def take(self, coded: Sequence[str], numbers: str) -> TakenColumns:
        """These columns."""
        with TemporaryDirectory(prefix="bisect-ai-") as folder:
            self._ask(do="columns", coded=list(coded), numbers=numbers, folder=folder)
            return _loaded_columns(coded, Path(folder)).columns(self._behind)

    def _behind(self, name: str, keys: Keys) -> list[Any]:
        with TemporaryDirectory(prefix="bisect-ai-") as folder:
            np.save(Path(folder) / "keys.npy", keys)
            told = self._ask(do="column values", name=name, keys=str(Path(folder) / "keys.npy"))
        return [hashable(each["value"]) for each in told]

    def _ask(self, **request: Any) -> list[dict[str, Any]]:
        with Child() as child:
            return child.ask({"files": self._files, **request}, what=", ".join(self._files[:3]))


def _loaded_columns(coded: Sequence[str], folder: Path) -> ScannedColumns:
    pairs = {name: (np.load(folder / f"codes{i}.npy"), np.load(folder / f"keys{i}.npy")) for i, name in enumerate(coded)}
    return ScannedColumns(pairs, np.load(folder / "numbers.npy"))
