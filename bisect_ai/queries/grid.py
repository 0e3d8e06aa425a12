"""Configurations as cells of a design: the axes that their own settings make, and their rows as a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.files import recognised
from bisect_ai.queries.pairing import Configuration, Pairs, ResultRow, pair_up
from bisect_ai.queries.result_files import read_results
from bisect_ai.queries.score_columns import MOST_AXES

# Columns of the table of scores that no axis may be called.
RESERVED = ("query", "score", "cluster")


@dataclass(frozen=True)
class SettingsGrid:
    """A design over settings: title of an axis to the setting behind it, and to its levels in the good and the bad configuration."""

    settings: Mapping[str, str]
    levels: Mapping[str, tuple[str, str]]
    bad: int
    """The number of the configuration that is bad in every axis."""

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
