"""A row of any log as a query record: the column map, the id, the stratum, and whether it can be replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bisect_ai.canonical import digest
from bisect_ai.errors import QueryError
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.times import Window, refuse_overlap, window
from bisect_ai.queries.values import embedded, missing, text_of, tidy

Row = Mapping[str, Any]
NESTED = ("messages", "history", "documents", "tool_results", "scores", "versions", "params")
TEXTS = frozenset({"id", "input", "output", "release", "at", "cluster"})
WHERE = "left out by where"
WINDOW = "outside the time window"
NO_TIME = "no time"
NO_INPUT = "no input"
DUPLICATE = "duplicate"
BAD_LINE = "unreadable"
MAX_MIXTURES = 1_000
"""A column with more versions than this is no version."""
MAX_SCORE = 1e100
"""Beyond it a logged score is a mistake, and its square no longer a number."""


Mixed = tuple[str | None, tuple[tuple[str, str], ...]]
"""A release label, and (name, version) pairs."""


class Light(NamedTuple):
    """What sampling needs of one row; `logged_id` tells a logged id from a made one.

    `key` orders what is drawn as a whole (the clusters, or the rows themselves) at random, `place` the rows.
    """

    key: int
    place: int
    id: str
    stratum: str
    logged_id: bool


class Quota(NamedTuple):
    """How many rows a sample wants of a stratum that holds `distinct` ones."""

    wanted: int
    distinct: int


class Drawn(NamedTuple):
    """One row that the sample may hold, in full."""

    light: Light
    record: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How the rows of one log become records. `tabular`: nested columns may hold JSON as text (CSV, Parquet, DataFrame)."""

    columns: Mapping[str, str]
    segment: str | None
    seed: int
    tabular: bool
    versions: tuple[str, ...] = ()
    where: str | None = None
    since: int | None = None
    """Microseconds since 1970 in UTC; so are `until`, and the bounds of `windows`."""
    until: int | None = None
    windows: Mapping[str, Window] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: LogSettings, *, tabular: bool) -> Shape:
        """The shape that the settings ask for; `cluster` is one more column to map."""
        cluster = {"cluster": settings.cluster} if settings.cluster else {}
        since, until = window(settings.since, settings.until, "log")
        windows = {name: window(each.get("since"), each.get("until"), name) for name, each in settings.windows.items()}
        refuse_overlap(windows)
        columns, versions = {**settings.columns, **cluster}, tuple(settings.versions)
        return cls(columns, settings.segment, settings.seed, tabular, versions, settings.where, since, until, windows)

    @property
    def filters(self) -> bool:
        """Whether any row may be left out by `where` or by its time."""
        return self.where is not None or self.timed

    @property
    def timed(self) -> bool:
        """Whether rows are told apart by their time."""
        return self.since is not None or self.until is not None or bool(self.windows)

    def wanted(self) -> list[str]:
        """The log's columns that the settings name: each must be there."""
        return [*self.columns.values(), *([self.segment] if self.segment else []), *self.versions]

    def get(self, row: Row, name: str) -> Any:
        """The value of our field `name`, through the column map; None when the row has no such column."""
        column = self.columns.get(name, name)
        if column in row:
            return row[column]
        return _reach(row, column) if "." in column else None

    def stratum(self, row: Row) -> str:
        """The row's segment as text; empty without one."""
        if self.segment is None:
            return ""
        value = self.get(row, self.segment)
        return "" if missing(value) else text_of(value)

    def mixture(self, row: Row) -> Mixed:
        """What answered the row: its release label and its versions by name."""
        return label(self.get(row, "release")), self.versions_of(row)

    def versions_of(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The row's versions by name."""
        if self.versions:
            named = [(name, self.get(row, name)) for name in self.versions]
        else:
            found = embedded(self.get(row, "versions"))
            if not found or not isinstance(found, Mapping):
                return ()
            named = sorted((str(name), value) for name, value in found.items())
        return tuple((name, text_of(each)) for name, each in named if not missing(each))

    def light(self, row: Row) -> Light | None:
        """What sampling needs of a row; None when it has neither input nor messages."""
        asked, messages = self.get(row, "input"), None
        if missing(asked):
            messages = embedded(self.get(row, "messages"))
            if not isinstance(messages, list) or not messages:
                return None
        stratum, logged = self.stratum(row), self.get(row, "id")
        if missing(logged):
            name = content_id(asked, self.get(row, "history"), self.get(row, "messages"), stratum)
            return self.placed(row, name, stratum, logged=False)
        return self.placed(row, text_of(logged), stratum, logged=True)

    def placed(self, row: Row, name: str, stratum: str, *, logged: bool) -> Light:
        """A row of this id where sampling puts it: at its cluster's key, when it has one."""
        place, cluster = order_key(self.seed, name), self.get(row, "cluster")
        key = place if missing(cluster) else order_key(self.seed, text_of(cluster))
        return Light(key, place, name, stratum, logged)

    def record(self, row: Row, light: Light, where: str) -> dict[str, Any]:
        """The whole row as a plain JSON record: mapped fields under our names, all other columns kept."""
        record = {str(column): self._value(str(column), value, where) for column, value in row.items()}
        for name in self.columns:
            record[name] = self._value(name, self.get(row, name), where)
        record["id"] = light.id
        _check_messages(record, where)
        return record

    def _value(self, name: str, value: Any, where: str) -> Any:
        if name in NESTED or (self.tabular and name not in TEXTS):
            value = embedded(value)
        if value is None or isinstance(value, str):  # nearly all: it needs no name
            return value
        return tidy(value, where=f"{where}: {name}")


def _reach(row: Row, column: str) -> Any:
    head, _, rest = column.partition(".")
    if head not in row:
        return None
    value: Any = embedded(row[head])
    for step in rest.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _check_messages(record: Mapping[str, Any], where: str) -> None:
    for name in ("messages", "history", "tool_results"):
        value = record.get(name)
        if value and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
            raise QueryError(f"{where}: {name} must be a list of mappings; map another column to it, or correct the log")
    if record.get("scores") and not isinstance(record["scores"], dict):
        raise QueryError(f"{where}: scores must be a mapping of name to number; correct the log")


def order_key(seed: int, name: str) -> int:
    """64 bits that put ids in a random order: one order for one seed, in every process, format and file order."""
    hashed = hashlib.md5(f"{seed}:{name}".encode(errors="surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(hashed[:8], "little")


def content_id(asked: Any, history: Any, messages: Any, stratum: str) -> str:
    """The id of a row that has none: what was asked, within its stratum. Equal questions share it."""
    parts = [_dense(tidy(embedded(value), where="input")) or None for value in (asked, history, messages)]
    return "content-" + digest([*parts, stratum])[:32]


def _dense(value: Any) -> Any:
    """The value without empty keys: in Parquet all messages of a column have the same keys, in JSONL each its own."""
    if isinstance(value, dict):
        return {key: _dense(each) for key, each in value.items() if each is not None}
    return [_dense(each) for each in value] if isinstance(value, list) else value


def label(value: Any) -> str | None:
    """A release label as text; None for none."""
    return None if missing(value) else text_of(value)


def numbers(scores: Any) -> dict[str, float]:
    """The finite numbers among logged scores, booleans as 0 and 1."""
    parsed = embedded(scores) or None
    if parsed is None or not isinstance(parsed, Mapping):
        return {}
    return {str(name): float(value) for name, value in parsed.items() if _is_score(value)}


def _is_score(value: Any) -> bool:
    return isinstance(value, bool | int | float) and -MAX_SCORE < value < MAX_SCORE
