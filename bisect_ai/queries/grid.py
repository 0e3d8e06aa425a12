"""Tables of scores: where their columns come from, and configurations as cells of a design over their own settings.

A Parquet file is scanned by the process that reads logs (`sandbox`), which hands the arrays over in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries.files import recognised
from bisect_ai.queries.pairing import Configuration, Pairs, ResultRow, pair_up
from bisect_ai.queries.result_files import read_results
from bisect_ai.queries.sandbox import Child
from bisect_ai.queries.score_columns import (
    MOST_AXES,
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


# Columns of the table of scores that no axis may be called.
RESERVED = ("query", "score", "cluster")


@dataclass(frozen=True)
class SettingsGrid:
    """A design over settings: title of an axis to the setting behind it, and to its levels in the good and the bad configuration."""

    settings: Mapping[str, str]
    levels: Mapping[str, tuple[str, str]]
    # The number of the configuration that is bad in every axis.
    bad: int

    def cell(self, c: Configuration) -> tuple[bool, ...] | None:
        """Which axes the configuration has as the bad one; None: one of its settings is neither level."""
        values = [(c.settings[self.settings[title]], pair) for title, pair in self.levels.items()]
        return None if any(value not in pair for value, pair in values) else tuple(value == pair[1] for value, pair in values)


def differing_settings(good: Configuration, bad: Configuration) -> list[dict[str, str]]:
    """What the two say of themselves that is not the same."""
    both = ((axis, value, bad.settings[axis]) for axis, value in good.settings.items())
    return [{"axis": axis, "good": value, "bad": other} for axis, value, other in both if value != other]


def grid_of(configurations: Sequence[Configuration], bad: int | None = None, *, fewest: int = 3) -> SettingsGrid | None:
    """The design between the first configuration and the one numbered `bad` (else the last that differs in every axis).

    Settings that always change together are one axis, named by all of them. None: no configuration stands opposite the first one, or
    there are fewer than `fewest` cells.
    """
    settings = _unaliased(configurations)
    for number in range(len(configurations) - 1, 0, -1) if bad is None else [bad]:
        other = configurations[number].settings
        levels = {title: (configurations[0].settings[axis], other[axis]) for title, axis in settings.items()}
        if bad is not None:
            levels = {title: pair for title, pair in levels.items() if pair[0] != pair[1]}
        grid = SettingsGrid({title: settings[title] for title in levels}, levels, number)
        if (
            1 <= len(levels) <= MOST_AXES
            and all(a != b for a, b in levels.values())
            and _cells_covered(grid, configurations) >= fewest
        ):
            return grid
    return None


def _cells_covered(grid: SettingsGrid, configurations: Sequence[Configuration]) -> int:
    """Cells that have a configuration; 0: two share one, so that something else must tell them apart."""
    cells = [cell for c in configurations if (cell := grid.cell(c)) is not None]
    return len(cells) if len(set(cells)) == len(cells) else 0


def grid_rows(
    grid: SettingsGrid, configurations: Sequence[Configuration], pairs: Pairs, score: Callable[[ResultRow], float | None]
) -> Iterator[dict[str, Any]]:
    """One row for each answer of a configuration in the design: `query`, `score`, `cluster`, and a column for each axis."""
    for c, groups in zip(configurations, pairs.groups, strict=True):
        if grid.cell(c) is None:
            continue
        own = {title: c.settings[axis] for title, axis in grid.settings.items()}
        for key, rows in groups.items():
            for row in rows:
                yield {**own, "query": key, "score": score(row), "cluster": rows[0].cluster or key}


@dataclass(frozen=True)
class AttributionTable:
    """Result files as the table that `attribute` takes."""

    rows: list[dict[str, Any]]
    axes: Mapping[str, tuple[str, str]]
    metric: str
    good: str
    bad: str


def result_paths(table: Any) -> list[str | Path]:
    """The paths of a tool's result files; empty for a plain table."""
    if isinstance(table, str | Path):
        return [table] if Path(table).is_file() and recognised(Path(table)) else []
    are_paths = isinstance(table, Sequence) and len(table) > 0 and all(isinstance(each, str | Path) for each in table)
    return list(table) if are_paths else []


def attribution_table(
    paths: Sequence[str | Path], *, metric: str | None = None, good: str | None = None, bad: str | None = None
) -> AttributionTable:
    """The scores of result files by question and axis. Raises `QueryError` where no configuration tells the axes apart."""
    found = read_results(paths, metric=metric)
    first, *others = found.chosen(good, bad)
    every = [first, *(c for c in found.configurations if c is not first)]
    number = every.index(others[0]) if bad is not None or len(every) == 2 else None
    grid = grid_of(every, number, fewest=2)
    if grid is None or (len(grid.levels) > 1 and _cells_covered(grid, every) < 3):
        last = every[-1 if number is None else number]
        changed = ", ".join(each["axis"] for each in differing_settings(first, last)) or "nothing that the files record"
        raise QueryError(
            f"cannot attribute the results: between {first.name} and {last.name} differs {changed}, and no configuration lies between "
            "them that tells the axes apart; `compare` says which is better, or name two others with good and bad"
        )
    name = found.deciding(metric, every)
    rows = list(grid_rows(grid, every, pair_up(every), lambda row: row.scores.get(name)))
    return AttributionTable(rows, grid.levels, name, first.name, every[grid.bad].name)


def _unaliased(configurations: Sequence[Configuration]) -> dict[str, str]:
    """Title of an axis to the setting that stands for it."""
    columns: dict[tuple[int, ...], list[str]] = {}
    for axis in configurations[0].settings:
        values = [c.settings[axis] for c in configurations]
        codes = {value: number for number, value in enumerate(dict.fromkeys(values))}
        if len(codes) > 1:
            columns.setdefault(tuple(codes[value] for value in values), []).append(axis)
    titles = ((" + ".join(axes), axes[0]) for axes in columns.values())
    return {f"{title} (setting)" if title in RESERVED else title: axis for title, axis in titles}
