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
from bisect_ai.queries.files import log_files
from bisect_ai.queries.filters import Filtered
from bisect_ai.queries.labels import matches
from bisect_ai.queries.load_log import instead, source_of
from bisect_ai.queries.normalise import logged_number
from bisect_ai.queries.pairing import WAYS, Configuration, ResultRow, keys_of, variables_text
from bisect_ai.queries.records import Row, Shape, label
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.values import embedded, missing, text_of

MOST_LEVELS = 12
"""Values of a setting, the most: what differs from row to row sets up no configuration."""
MOST_CONFIGURATIONS = 64
TEXT = 2_000
"""Characters of a question, a reference or an answer that are kept."""
NAME = 40
PLAIN = ("model", "solver", "prompt_version", "prompt_id", "prompt_name", "temperature", "top_p", "experiment", "variant")
"""Columns that say in a plain table what answered, where no importer does."""
SCORE_NAMES = ("score", "correct", "success", "pass", "passed", "accuracy", "grade")
"""Columns that are a score by their name in a plain table without `scores`."""
COSTS = {"usd": "usd", "cost": "usd", "latencyMs": "latency_ms", "latency_ms": "latency_ms", "latency_s": "latency_s"}
"""What an answer took, by the columns that say it: for scores, lower is better."""
HEADLINE = "success"
"""The word of promptfoo and DeepEval for a test that passed: the score that decides unless another is named."""
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
    axes: tuple[str, ...] = field(default=())
    """Names of the settings that differ."""

    def chosen(self, good: str | None = None, bad: str | None = None) -> list[Configuration]:
        """The configurations to compare, the baseline first: all in their order, or those that are named.

        A pattern (`runs/a*.json`) names all files that it matches, whose rows are then one configuration. Raises `QueryError` for
        fewer than two, and for a name that is none.
        """
        known = {c.name: c for c in self.configurations}
        if len(known) < 2:
            raise QueryError(
                f"{next(iter(known))} holds one configuration, and it takes two: give a second file, or name the column that tells its "
                f"configurations apart with --by (from Python by=…); it has {self._columns()}"
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
                raise QueryError(
                    f"the results have no score {asked!r} in every configuration{instead(asked, self.score_names())}"
                )
            return asked
        scores = [name for name in names if name not in LOWER_IS_BETTER]
        if HEADLINE in scores:
            return HEADLINE
        if not scores:
            told = f"name its column with --metric (from Python metric=…); they have {self._columns()}"
            raise QueryError(f"the results hold no score that every configuration has: {told}")
        if len(scores) != 1:
            told = ", ".join(name[:40] for name in scores[:12])
            raise QueryError(f"which score decides? name it with --metric (from Python metric=…): they have the scores {told}")
        return scores[0]

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
    read = [_ResultReading(*each, settings, tuple(by), pair, metric, whole) for each in named_sources(sources, folder)]
    groups = [(reading.name, rows) for reading in read for rows in [reading.rows()]]
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
        tuple(dict.fromkeys(reading.format for reading in read)),
        sum(len(rows) for _, rows in groups) + sum(left_out.values()),
        {reason: n for reason, n in sorted(left_out.items()) if n},
        columns,
        axes,
    )


def named_sources(sources: Sequence[Any], folder: Path) -> Iterator[tuple[str, Any]]:
    """Every file that the sources name, with a short name of its own."""
    found = [path for source in sources for path in (log_files(source, folder) if isinstance(source, str | Path) else [source])]
    paths = [each for each in found if isinstance(each, Path)]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise QueryError(f"{twice.name} is named twice; name two result files")
    names = [path.name for path in paths]
    for place, each in enumerate(found, 1):
        if isinstance(each, Path):
            yield (each.name if names.count(each.name) == 1 else str(each)), each
        else:
            yield f"table {place}", each


class _ResultReading:
    """One pass over one file."""

    def __init__(
        self,
        name: str,
        source: Any,
        settings: LogSettings,
        by: tuple[str, ...],
        pair: str | None,
        metric: str | None,
        whole: bool,
    ) -> None:
        self.name, self._by, self._pair, self._metric, self._whole = name, by, pair, metric, whole
        self._shape, rows, self.format = source_of(source, settings, Path())
        self._source = Filtered(rows, self._shape) if self._shape.filters else rows
        self.columns: set[str] = set()

    @property
    def left_out(self) -> Counter[str]:
        """Records that gave no row, by reason."""
        return self._source.left_out

    def rows(self) -> list[ResultRow]:
        """Every row of the file."""
        return [self._row(row, self._source.where(spot)) for spot, row in self._source.rows()]

    def _row(self, row: Row, where: str) -> ResultRow:
        self.columns.update(row)
        shape = self._shape
        cluster, system = shape.get(row, "cluster"), row.get("system")
        failed = not missing(row.get("error")) and row.get("error") is not False
        return ResultRow(
            keys_of(row, shape, self._pair),
            {} if failed else self._scores(row, where),  # what a tool writes beside an error (0, false) scores no answer
            failed,
            _text_of_cell(variables_text(row) or shape.get(row, "input")),
            _text_of_cell(shape.get(row, "reference")),
            _text_of_cell(shape.get(row, "output")),
            None if missing(cluster) else text_of(cluster),
            dict(_plain_columns(row)),
            settings_of(row, shape, self._by),
            system if isinstance(system, str) else "",
            dict(row) if self._whole else None,
        )

    def _scores(self, row: Row, where: str) -> dict[str, float]:
        found = self._shape.scores(row)
        known = [] if found else [name for name in SCORE_NAMES if name in row]
        for name in (*known, *([self._metric] if self._metric and self._metric not in found else [])):
            given = self._shape.get(row, name)
            try:
                value = logged_number(given)
            except (TypeError, ValueError):
                if name != self._metric:
                    continue
                raise QueryError(
                    f"{where}: the score {name!r} is {str(given)[:40]!r}, not a number; write numbers, true or false, and "
                    "nothing where there is no score"
                ) from None
            if value is not None:
                found[name] = value
        costs = {ours: value for theirs, ours in COSTS.items() if (value := _number_or_none(row.get(theirs))) is not None}
        return {**costs, **found}


def _number_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None


def _text_of_cell(value: Any) -> str:
    return "" if missing(value) else (value if isinstance(value, str) else text_of(value))[:TEXT]


def _plain_columns(row: Row, *, before: str = "", deep: int = 2) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        value = embedded(value) if deep == 2 and isinstance(value, str) and len(value) < TEXT else value
        if isinstance(value, Mapping) and deep:
            yield from _plain_columns({str(k): v for k, v in value.items()}, before=f"{before}{name}.", deep=deep - 1)
        elif isinstance(value, str | bool | int | float) and not missing(value):
            yield f"{before}{name}", value[:NAME] if isinstance(value, str) else value


# -- what a row says of who answered -------------------------------------------------------------------------------------
def settings_of(row: Row, shape: Shape, by: Sequence[str] = ()) -> dict[str, str]:
    """What answered the row, by name: the columns `by`, else release, versions, parameters, task arguments as far as they are there."""
    if by:
        return {column: "" if missing(value := shape.get(row, column)) else text_of(value) for column in by}
    release, provider = label(shape.get(row, "release")), embedded(row.get("provider"))
    found = {"release": release} if release is not None else {}
    found |= dict(shape.versions_of(row))
    if isinstance(provider, Mapping) and provider.get("label"):
        found["model"] = text_of(provider["label"])
    for name in ("params", "task_args"):
        found |= {n: v for n, v in _scalars(embedded(row.get(name))) if n not in found}
    if "promptIdx" in row and "prompt" not in found:
        found["prompt"] = f"prompt {row['promptIdx']}"
    return {**{n: v for n, v in _scalars({name: row.get(name) for name in PLAIN}) if n not in found}, **found}


def _scalars(value: Any) -> Iterator[tuple[str, str]]:
    for name, each in value.items() if isinstance(value, Mapping) else ():
        if isinstance(each, str | bool | int | float) and not missing(each):
            yield str(name), text_of(each)


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
