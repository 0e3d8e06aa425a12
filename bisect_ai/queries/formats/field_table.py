"""What a format is, and how its table of fields is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.queries.traces import Made
from bisect_ai.queries.values import embedded, missing

Table = Mapping[str, Sequence[str]]
"""Our field -> their fields, the first that is there counts; dots reach into nested ones."""
Value = dict[str, Any]


class Piece(NamedTuple):
    """A record of the source, and the name of the trace or pair that it belongs to; None: it stands alone.

    `local`: the name means something in its file only.
    """

    group: str | None
    value: Value
    local: bool = False


Split = Callable[[str, Value], Iterable[Piece]]


@dataclass(frozen=True)
class Format:
    """How one tool writes its log. `parts` are the paths of its records in a JSON document (`documents`).

    `suits` tells from a path and a record whether the file is of this format. `split` makes a reader of one file, which may
    remember what it has read (a resource before its spans). `build` turns the pieces of one group into records.
    """

    name: str
    parts: frozenset[str]
    suits: Callable[[str, Value], bool]
    split: Callable[[], Split]
    build: Callable[[Sequence[Value]], Iterator[Made]]
    open: Callable[[Path], Iterator[tuple[str, Value]] | None] = lambda _: None
    """Reads a file that is neither JSON, JSONL, CSV nor Parquet; None: it is one of these."""
    headers: frozenset[str] = frozenset()
    """Those of `parts` that say something of the records after them, but do not make a file one of this format."""
    named: Callable[[str], Value] = lambda _: {}
    """What a file's name says of its run."""

    @property
    def inner(self) -> frozenset[str]:
        """The paths of records inside a document."""
        return self.parts - self.headers - {""}


def reach(value: Any, path: str) -> Any:
    """The value at a dotted path, JSON text on the way parsed; a key that itself has dots comes first. None for none."""
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return value[path]
    head, _, rest = path.partition(".")
    return reach(embedded(value.get(head)), rest) if rest else None


def first(value: Value, paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything; JSON text is parsed."""
    return next((embedded(found) for path in paths if not missing(found := reach(value, path))), None)


def raw(value: Value, paths: Iterable[str]) -> Any:
    """The first of the paths that holds anything, a text as it is. None for none."""
    return next((found for path in paths if not missing(found := reach(value, path))), None)


def take(value: Value, table: Table) -> Value:
    """Our fields as the table finds them; those that are not there are left out."""
    found = {ours: first(value, theirs) for ours, theirs in table.items()}
    return {ours: each for ours, each in found.items() if each is not None}


def rest(value: Value, *tables: Table) -> Value:
    """What no table reads as a whole: unknown fields, kept under their own names."""
    known = {path for table in tables for theirs in table.values() for path in theirs}
    return {name: each for name, each in value.items() if name not in known and not missing(each)}


def alone(value: Value) -> Iterator[Piece]:
    """The record as a group of its own."""
    yield Piece(None, value)


def newest(values: Sequence[Value], key: str, stamp: str) -> tuple[list[Value], int]:
    """The values with only the newest of each `key` kept, by `stamp`; and how many were left out."""
    kept: dict[str, Value] = {}
    for number, value in enumerate(values):
        name = str(value.get(key) or f"#{number}")
        before = kept.get(name)
        if before is None or str(value.get(stamp) or "") >= str(before.get(stamp) or ""):
            kept[name] = value
    return list(kept.values()), len(values) - len(kept)
