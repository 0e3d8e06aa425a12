"""Which rows of two configurations answer the same question: by sample id, test variables, id, or the question itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bisect_ai.canonical import digest
from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries.normalise import exchange_of
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import Row
from bisect_ai.queries.values import embedded, missing, text_of, tidy

TASK, SAMPLE, VARS, ID, QUESTION = "task and sample id", "sample id", "test variables", "id", "question"
# Ways to pair, the surest first.
WAYS = (TASK, SAMPLE, VARS, ID, QUESTION)
# The part of the smaller side that a way must pair for the next one not to be tried.
ENOUGH = 0.5
# The part of the pairs by id that must ask the same, or ids are row numbers of different files.
AGREES = 0.8
# Variables that promptfoo makes anew for every run; so are those that begin with an underscore.
OF_A_RUN = ("sessionId",)
# Columns that may be axes: a table of 2^8 cells is the largest that is attributed.
MOST_AXES = 8

# Names of the variable that is the question.
ASKS = ("question", "input", "query", "message", "prompt", "text")


class ResultRow(NamedTuple):
    """One answered question of one configuration."""

    # What may pair it with the same question elsewhere, by the name of the way.
    keys: Mapping[str, str]
    scores: Mapping[str, float]
    # Whether the row says that no answer came.
    failed: bool
    question: str
    reference: str
    output: str
    cluster: str | None
    # Its plain columns, nested ones by dotted names.
    columns: Mapping[str, Any]
    settings: Mapping[str, str]
    system: str
    # The whole row, where it was asked for.
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Configuration:
    """One combination of settings with its rows, under a name of its own."""

    name: str
    source: str
    # What tells it from the others, by name; the same names for every configuration.
    settings: Mapping[str, str]
    rows: tuple[ResultRow, ...]


@dataclass(frozen=True)
class Pairs:
    """The rows of every configuration by question, and how that was told."""

    way: str
    # For each configuration, its rows by question.
    groups: tuple[Mapping[str, tuple[ResultRow, ...]], ...]
    # Paired questions whose texts differ.
    differently_asked: int = 0


def keys_of(row: Row, shape: Shape, pair: str | None) -> dict[str, str]:
    """What may pair the row, by way; with `pair` that column alone."""
    if pair is not None:
        value = shape.get(row, pair)
        return {} if missing(value) else {pair: text_of(value)}
    found = {}
    if "epoch" in row and not missing(row.get("sample")):  # only Inspect's records have both
        found[SAMPLE] = text_of(row["sample"])
        found[TASK] = f"{text_of(row.get('task') or '')}\0{found[SAMPLE]}"
    if (variables := _variables_of_row(row)) is not None:
        found[VARS] = _question_digest(variables)
    if not missing(value := shape.get(row, "id")):
        found[ID] = text_of(value)
    if (asked := _asked_question(row, shape)) is not None:
        found[QUESTION] = asked
    return found


def _variables_of_row(row: Row) -> dict[str, Any] | None:
    given = embedded(row.get("vars"))
    if not isinstance(given, Mapping) or "promptIdx" not in row:
        return None
    kept = {str(name): value for name, value in given.items() if not str(name).startswith("_") and name not in OF_A_RUN}
    return kept or None


def variables_text(row: Row) -> str:
    """What the test's variables ask: the one that is called so, else the longest text; empty without variables."""
    texts = {name: value for name, value in (_variables_of_row(row) or {}).items() if isinstance(value, str)}
    return next((texts[name] for name in ASKS if name in texts), max(texts.values(), key=len, default=""))


def _asked_question(row: Row, shape: Shape) -> str | None:
    """The question with the conversation before it, without the answer and what the release said to it (the system prompt)."""
    question = shape.get(row, "input")
    if not missing(question) and isinstance(embedded(question), str):
        return _question_digest([question, embedded(shape.get(row, "history")) or None])
    asked = exchange_of(question, shape.get(row, "messages"))
    spoken = [m for m in asked.messages or () if m.get("role") != "system"]
    if spoken and asked.question is not None:
        return _question_digest(spoken)
    return None if missing(question) else _question_digest([question, embedded(shape.get(row, "history")) or None])


def _question_digest(value: Any) -> str:
    try:
        return digest(tidy(value, where="a question"))[:32]
    except InputError:
        return digest(repr(value))[:32]


def pair_up(configurations: Sequence[Configuration]) -> Pairs:
    """The rows by question, in the first way that pairs enough of the smaller side with the first configuration; else the best one.

    Raises `QueryError` when no way pairs two questions.
    """
    named = dict.fromkeys(way for c in configurations for row in c.rows for way in row.keys)
    ways = sorted(named, key=lambda way: WAYS.index(way) if way in WAYS else -1)
    tried = [_grouped_by_way(configurations, way) for way in ways]
    usable = [pairs for pairs in tried if _least(pairs) >= 2]
    if not usable:
        raise QueryError(_unpaired(configurations, ways))
    return next((pairs for pairs in usable if _is_enough(pairs)), max(usable, key=_least))


def _grouped_by_way(configurations: Sequence[Configuration], way: str) -> Pairs:
    groups = []
    for c in configurations:
        found: dict[str, list[ResultRow]] = {}
        for row in c.rows:
            if way in row.keys:
                found.setdefault(row.keys[way], []).append(row)
        groups.append({key: tuple(rows) for key, rows in found.items()})
    return Pairs(way, tuple(groups), _count_reworded(groups))


def _count_reworded(groups: Sequence[Mapping[str, Sequence[ResultRow]]]) -> int:
    """Questions of the first configuration that it, or another one, asks in other words."""
    return sum(
        any(_other_words(rows[0], each) for other in groups for each in other.get(key, ())) for key, rows in groups[0].items()
    )


def _other_words(first: ResultRow, second: ResultRow) -> bool:
    return bool(first.question and second.question and first.question != second.question)


def _least(pairs: Pairs) -> int:
    """Questions that the first configuration shares with the one that shares fewest."""
    return min(len(pairs.groups[0].keys() & other.keys()) for other in pairs.groups[1:])


def _is_enough(pairs: Pairs) -> bool:
    shared, smaller = _least(pairs), min(map(len, pairs.groups))
    if shared < ENOUGH * smaller:
        return False
    return pairs.way != ID or pairs.differently_asked <= (1 - AGREES) * shared


def _unpaired(configurations: Sequence[Configuration], ways: Sequence[str]) -> str:
    shown = [
        f"{c.name[:60]} has {', '.join(repr(row.keys[ID][:30]) for row in c.rows[:2] if ID in row.keys) or 'no ids'}"
        for c in configurations[:2]
    ]
    tried = ", ".join(ways) or "nothing that names a question"
    return (
        f"cannot pair the configurations by {tried}: fewer than two questions are in both ({'; '.join(shown)}); name the column that "
        "both have with --pair (from Python pair=…)"
    )


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
            and cells_covered(grid, configurations) >= fewest
        ):
            return grid
    return None


def cells_covered(grid: SettingsGrid, configurations: Sequence[Configuration]) -> int:
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
