"""Result files of evaluations as configurations: who answered (by the files' own metadata), what, and with which scores.

Nothing is replayed, so a row needs no more than something that pairs it and a score. A configuration is one combination of what the
rows say of themselves: model, prompt, parameters, task and its arguments, release; and, of several files, the file. Texts are kept
cut, so that memory goes by rows, not by the length of answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.errors import QueryError
from bisect_ai.queries.files import instead, log_files, log_format, read_table, recognised, source_of
from bisect_ai.queries.normalise import no_number
from bisect_ai.queries.pairing import (
    WAYS,
    Configuration,
    ResultRow,
    cells_covered,
    differing_settings,
    grid_of,
    grid_rows,
    pair_up,
)
from bisect_ai.queries.result_rows import COSTS, NAME, ResultReading
from bisect_ai.queries.sample import LogSettings, matches
from bisect_ai.queries.score_columns import ColumnSource, FrameColumns, ParquetColumns

# Values of a setting, the most: what differs from row to row sets up no configuration.
MOST_LEVELS = 12
MOST_CONFIGURATIONS = 64  # a sweep has fewer; more means that a column of the data was taken for a setting
# The word of promptfoo and DeepEval for a test that passed: the score that decides unless another is named.
HEADLINE = "success"
LOWER_IS_BETTER = frozenset(COSTS.values())
UNITS = {"usd": "USD", "latency_ms": "milliseconds", "latency_s": "seconds"}
SYSTEM = "system prompt"


@dataclass(frozen=True)
class ResultFiles:
    """All configurations in the order of files and rows. `read` = rows of all configurations + the sum of `dropped`."""

    configurations: tuple[Configuration, ...]
    formats: tuple[str, ...]
    read: int
    dropped: Mapping[str, int]
    columns: frozenset[str]
    # Names of the settings that differ.
    axes: tuple[str, ...] = field(default=())
    # What was guessed of the files, each once.
    notices: tuple[str, ...] = ()
    # A column that is called like a score, and a value of it that is no number.
    unread: tuple[str, str] | None = None

    def chosen(self, good: str | None = None, bad: str | None = None) -> list[Configuration]:
        """The configurations to compare, the baseline first: all in their order, or those that are named.

        A pattern (`runs/a*.json`) names all files that it matches, whose rows are then one configuration. Raises `QueryError` for
        fewer than two, and for a name that is none.
        """
        known = {c.name: c for c in self.configurations}
        if len(known) < 2:
            raise QueryError(
                f"{next(iter(known))} holds one configuration, and it takes two: give a second file, or name the column that tells its "
                f"configurations apart with --by (from Python by=…); {self._told_apart()}"
            )
        sides = [[] if name is None else _meant(name, known, side) for name, side in ((good, "good"), (bad, "bad"))]
        if both := [c for c in sides[0] if c in sides[1]]:
            raise QueryError(f"good and bad are both {both[0].name!r}; name two configurations")
        first = sides[0] or [next(c for c in known.values() if c not in sides[1])]
        others = [_pooled(sides[1], str(bad))] if sides[1] else [c for c in known.values() if c not in first]
        if not others:
            raise QueryError(f"good is all there is ({good!r}); name a file that it does not match")
        return [_pooled(first, str(good)), *others]

    def deciding(self, asked: str | None, configurations: Sequence[Configuration]) -> str:
        """The score that decides: `asked`, else the tool's own of a test that passed, else the only one. Raises `QueryError`."""
        names = [name for name in self.score_names() if all(any(name in row.scores for row in c.rows) for c in configurations)]
        if asked is not None:
            if asked not in names:
                known = self.score_names()
                without = next((c.name for c in configurations if not any(asked in row.scores for row in c.rows)), "")
                told = f": {without!r} has none" if asked in known else instead(asked, known)
                raise QueryError(f"the results have no score {asked!r} in every configuration{told}")
            return asked
        scores = [name for name in names if name not in LOWER_IS_BETTER]
        if HEADLINE in scores:
            return HEADLINE
        if not scores:
            told = f"name the column of a score with --metric (from Python metric=…); they have {self._columns()}"
            seen = f" (in {self.unread[0]} stands {self.unread[1]!r}, {no_number(self.unread[1])})" if self.unread else ""
            raise QueryError(f"the results hold no score that every configuration has{seen}; {told}")
        if len(scores) != 1:
            told = ", ".join(name[:40] for name in scores[:12])
            raise QueryError(f"which score decides? name it with --metric (from Python metric=…): they have the scores {told}")
        return scores[0]

    def _told_apart(self) -> str:
        """The columns of which each value has the same questions, which may be configurations; else all columns."""
        likely = []
        for column in dict.fromkeys(name for row in self.configurations[0].rows[:1] for name in row.columns):
            asked: dict[Any, set[str]] = {}
            for row in self.configurations[0].rows:
                asked.setdefault(row.columns.get(column), set()).add(row.question)
            if 1 < len(asked) <= MOST_LEVELS and len(set.intersection(*asked.values())) > max(map(len, asked.values())) / 2:
                likely.append(" ".join(column.split())[:NAME])
        return f"perhaps {', '.join(likely[:3])}" if likely else f"it has {self._columns()}"

    def _columns(self) -> str:
        return ", ".join(sorted(" ".join(column.split())[:40] for column in self.columns)[:12])

    def score_names(self) -> list[str]:
        """Every score by name, in alphabetical order; costs last."""
        found = {name for c in self.configurations for row in c.rows for name in row.scores}
        return sorted(found, key=lambda name: (name in LOWER_IS_BETTER, name))


def _meant(name: str, known: Mapping[str, Configuration], side: str) -> list[Configuration]:
    """The configurations that a name means: its own, its file's, a pattern's, or that which alone has a setting of that value."""
    if name in known:
        return [known[name]]
    if is_pattern(name) and (matching := [c for c in known.values() if matches(c.source, name, is_path=True)]):
        return matching
    base = Path(name).name
    fitting = [c.name for c in known.values() if base == Path(c.source).name or name in c.settings.values()]
    if len(fitting) == 1:
        return [known[fitting[0]]]
    raise QueryError(f"no configuration is called {name!r} ({side}){instead(name, known)}")


def is_pattern(name: str) -> bool:
    """Whether a name stands for the files that it matches."""
    return any(letter in name for letter in "*?[")


def _pooled(side: Sequence[Configuration], name: str) -> Configuration:
    """The configurations of a side as one; of their settings, what all agree on."""
    if len(side) == 1:
        return side[0]
    settings = {
        axis: value if all(c.settings[axis] == value for c in side) else "several" for axis, value in side[0].settings.items()
    }
    return Configuration(name, name, settings, tuple(row for c in side for row in c.rows))


def read_results(
    sources: Sequence[Any], *, settings: LogSettings | None = None, by: Sequence[str] = (), pair: str | None = None,
    metric: str | None = None, folder: Path | None = None, whole: bool = False,
) -> ResultFiles:  # fmt: skip
    """The configurations in `sources`: paths or patterns in any format, DataFrames, or lists of mappings.

    `by`: the columns that tell configurations apart (else the rows' own metadata do, and the file); `pair`: the column that pairs
    questions; `metric`: a column that is a score though nothing says so; `whole`: keep the rows as they are too.
    Raises `QueryError` for what cannot be read.
    """
    settings, folder = settings or LogSettings(), folder or Path()
    read, formats = list[ResultReading](), list[str]()
    groups = list[tuple[str, list[ResultRow]]]()
    for name, source in named_sources(sources, folder):  # files that were packed are there until the next one comes
        shape, rows, kind = source_of(source, settings, Path())
        formats.append(kind)
        read.append(ResultReading(shape, rows, tuple(by), pair, metric, whole))
        groups.append((name, read[-1].rows()))
    if not any(rows for _, rows in groups):
        raise QueryError(f"no results in {', '.join(name for name, _ in groups)}: the files hold no rows that count")
    axes, configurations = _configured(groups, bool(by))
    left_out = sum((reading.left_out for reading in read), Counter[str]())
    columns = frozenset().union(*(reading.columns for reading in read))
    for column in (*by, *([pair] if pair else [])):
        if column not in columns and column.split(".")[0] not in columns:
            raise QueryError(f"the results have no column {column!r}{instead(column, columns)}")
    return ResultFiles(
        tuple(configurations),
        tuple(dict.fromkeys(formats)),
        sum(len(rows) for _, rows in groups) + sum(left_out.values()),
        {reason: n for reason, n in sorted(left_out.items()) if n},
        columns,
        axes,
        tuple(dict.fromkeys(notice for reading in read for notice in reading.notices)),
        next((reading.unread for reading in read if reading.unread), None),
    )


def named_sources(sources: Sequence[Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Every file that the sources name, with a short name of its own."""
    opened = [log_files(source, folder) if isinstance(source, str | Path) else [source] for source in sources]
    found = [each for listed in opened for each in listed]  # `opened` holds what was unpacked until the last one was taken
    paths = [each for each in found if isinstance(each, Path)]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise QueryError(f"{twice.name} is named twice; name two result files")
    names = [path.name for path in paths]
    for place, each in enumerate(found, 1):
        if isinstance(each, Path):
            yield (each.name if names.count(each.name) == 1 else str(each)), each
        else:
            yield f"table {place}", each


def _configured(groups: Sequence[tuple[str, Sequence[ResultRow]]], asked: bool) -> tuple[tuple[str, ...], list[Configuration]]:
    """The settings that differ, and the rows by configuration; of columns that were asked for, files are one."""
    several = len(groups) > 1 and not asked
    axes = _varying([row.settings for _, rows in groups for row in rows])
    if several and _is_one_grid(groups, axes):
        groups, axes = [(name, [_as_row_of_file(row, axes) for row in rows]) for name, rows in groups], ()
    found: dict[tuple[str, ...], list[tuple[str, ResultRow]]] = {}
    for name, rows in groups:
        for row in rows:
            key = (*([name] if several else []), *(row.settings.get(axis, "") for axis in axes))
            found.setdefault(key, []).append((name, row))
    if len(found) > MOST_CONFIGURATIONS:
        raise QueryError(
            f"the results hold {len(found)} configurations by {', '.join(axes)}, more than {MOST_CONFIGURATIONS}: name the columns "
            "that tell them apart with --by (from Python by=[…])"
        )
    made = [
        Configuration("", rows[0][0], {axis: rows[0][1].settings.get(axis, "") for axis in axes}, tuple(row for _, row in rows))
        for rows in found.values()
    ]
    return _titled_configurations(_with_system(_in_order(made)), several)


def _is_one_grid(groups: Sequence[tuple[str, Sequence[ResultRow]]], axes: Sequence[str]) -> bool:
    """Whether every file holds the same several configurations: two runs of one grid, to be compared like with like."""
    held = [{tuple(row.settings.get(axis, "") for axis in axes) for row in rows} for _, rows in groups]
    return len(held[0]) > 1 and all(each == held[0] for each in held)


def _as_row_of_file(row: ResultRow, axes: Sequence[str]) -> ResultRow:
    """The row as one of its file: what answered is a part of what was asked, and answers to one question belong together."""
    by = "\0".join(row.settings.get(axis, "") for axis in axes)
    question = next((row.keys[way] for way in WAYS if way in row.keys), None)
    keys = {way: f"{key}\0{by}" for way, key in row.keys.items()}
    return row._replace(
        keys=keys,
        cluster=row.cluster or question,
        columns={**row.columns, **{axis: row.settings.get(axis, "") for axis in axes}},
    )


def _in_order(made: Sequence[Configuration]) -> Sequence[Configuration]:
    """The configurations of one file by promptfoo's numbers, releases by time (importers have their own), else as they come."""
    by_time = bool(made) and "release" in made[0].settings
    firsts = [_smallest_value(c, "at", str) if by_time else _smallest_value(c, "promptIdx", int) for c in made]
    if len({c.source for c in made}) > 1 or any(first is None for first in firsts):
        return made
    return [made[i] for i in sorted(range(len(made)), key=firsts.__getitem__)]


def _smallest_value(c: Configuration, column: str, kind: type) -> Any:
    """The smallest value of a column; None where a row lacks it."""
    values: list[Any] = [row.columns.get(column) for row in c.rows]
    return min(values) if all(type(value) is kind for value in values) else None


def _varying(settings: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for each in settings for name in each)
    levels = {name: {each.get(name, "") for each in settings} for name in names}
    return tuple(name for name in names if 1 < len(levels[name]) <= MOST_LEVELS)


def _with_system(made: Sequence[Configuration]) -> list[Configuration]:
    """The configurations with their system prompt, where each has one and no other prompt setting tells as much."""
    texts = [{row.system for row in c.rows} for c in made]
    if any(len(each) != 1 for each in texts) or len(set().union(*texts)) < 2:
        return list(made)
    own = [next(iter(each)) for each in texts]
    prompts = [axis for axis in made[0].settings if "prompt" in axis]
    if any(_alike([c.settings[axis] for c in made], own) for axis in prompts):
        return list(made)
    heads = {text: f"{' '.join(text.split())[:NAME]} ({digest(text)[:6]})" for text in own}
    return [replace(c, settings={**c.settings, SYSTEM: heads[text]}) for c, text in zip(made, own, strict=True)]


def _alike(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two settings always change together."""
    return len(set(first)) == len(set(second)) == len(set(zip(first, second, strict=True)))


def _titled_configurations(made: Sequence[Configuration], several: bool) -> tuple[tuple[str, ...], list[Configuration]]:
    """The settings that differ, and the configurations by name: the file where it says enough, else what differs."""
    axes = tuple(made[0].settings) if made else ()
    by_file = Counter(c.source for c in made)
    told = [axis for i, axis in enumerate(axes) if not any(_same(made, axis, earlier) for earlier in axes[:i])]
    names = []
    for c in made:
        alone = several and by_file[c.source] == 1
        parts = [_setting_label(axis, c.settings[axis]) for axis in told]
        names.append(c.source if alone or not parts else f"{c.source}: {' · '.join(parts)}" if several else " · ".join(parts))
    return axes, [replace(c, name=name) for c, name in zip(made, _unique_labels(names), strict=True)]


def _same(made: Sequence[Configuration], axis: str, other: str) -> bool:
    return _alike([c.settings[axis] for c in made], [c.settings[other] for c in made])


def _setting_label(axis: str, value: str) -> str:
    text = " ".join(value.split())
    short = text if len(text) <= NAME else text[: NAME - 1] + "…"
    return f"{axis} {short or 'none'}" if not short or short.replace(".", "").isdigit() or short in ("true", "false") else short


def _unique_labels(names: Iterable[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


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
    if grid is None or (len(grid.levels) > 1 and cells_covered(grid, every) < 3):
        last = every[-1 if number is None else number]
        changed = ", ".join(each["axis"] for each in differing_settings(first, last)) or "nothing that the files record"
        raise QueryError(
            f"cannot attribute the results: between {first.name} and {last.name} differs {changed}, and no configuration lies between "
            "them that tells the axes apart; `compare` says which is better, or name two others with good and bad"
        )
    name = found.deciding(metric, every)
    rows = list(grid_rows(grid, every, pair_up(every), lambda row: row.scores.get(name)))
    return AttributionTable(rows, grid.levels, name, first.name, every[grid.bad].name)


def file_columns(path: Path) -> ColumnSource:
    """The source of columns for a file with a table. Raises `InputError`."""
    import pandas as pd

    files = log_files(path, Path())
    return ParquetColumns(files) if log_format(files, "auto") == "parquet" else FrameColumns(pd.DataFrame(read_table(path)))
