"""`where` over rows that Python reads: DuckDB decides, on a connection that reaches nothing, over rows that are bound.

The type of a column is what all its values are; nested objects are structs, so that `scores.correct > 0` is meant here as in Parquet.
"""
# ruff: noqa: S608 - the condition is the user's own setting; names are quoted and rows bound

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.queries.duckdb_session import quoted, refused
from bisect_ai.queries.values import missing, tidy

MAX_FIELDS = 200
NOTHING, FLAG, WHOLE, REAL, TEXT = "NULL", "BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR"


class Structure:
    """The types of columns, seen row by row: one of DuckDB's names, or a mapping of field to type."""

    def __init__(self, *, tabular: bool) -> None:
        self.types: dict[str, Any] = {}
        self._tabular = tabular

    def see(self, row: Mapping[str, Any]) -> None:
        """Take one more row into account."""
        for name, value in row.items():
            self.types[str(name)] = _joined(self.types.get(str(name), NOTHING), _type(value, self._tabular))


def _type(value: Any, tabular: bool) -> Any:
    if missing(value):
        return NOTHING
    if isinstance(value, bool):
        return FLAG
    if isinstance(value, int) and abs(value) < 2**63:
        return WHOLE
    if isinstance(value, float):
        return REAL
    if isinstance(value, Mapping) and len(value) <= MAX_FIELDS:
        return {str(name): _type(each, tabular) for name, each in value.items()} or TEXT
    return _type_of_text(value) if tabular and isinstance(value, str) else TEXT


def _type_of_text(text: str) -> str:
    """The type that a cell of a CSV file looks like."""
    for kind, read in ((WHOLE, int), (REAL, float)):
        try:
            read(text)
        except ValueError:
            continue
        return kind if len(text) < 19 else TEXT
    return FLAG if text.lower() in ("true", "false") else TEXT


def _joined(one: Any, other: Any) -> Any:
    if one == other or other == NOTHING:
        return one
    if one == NOTHING:
        return other
    if isinstance(one, dict) and isinstance(other, dict) and len({**one, **other}) <= MAX_FIELDS:
        return {name: _joined(one.get(name, NOTHING), other.get(name, NOTHING)) for name in {**one, **other}}
    return REAL if {str(one), str(other)} == {WHOLE, REAL} else TEXT


def holding(rows: Sequence[Mapping[str, Any]], condition: str, types: Mapping[str, Any]) -> list[bool]:
    """Whether the condition is true of each row (NULL is not). Raises `QueryError` for a condition that DuckDB refuses."""
    import duckdb

    from bisect_ai.queries.duckdb_session import locked

    bound = [_fitted(row, types) for row in rows]
    statement = f"SELECT coalesce(({condition}\n), false) FROM (SELECT unnest($rows::{_struct(types)}[], max_depth := 2))"
    try:
        with locked() as connection:
            return [bool(row[0]) for row in connection.execute(statement, {"rows": bound}).fetchall()]
    except (duckdb.Error, RuntimeError) as error:
        raise refused(condition, error, types) from None


def _struct(types: Mapping[str, Any]) -> str:
    return "STRUCT(" + ", ".join(f"{quoted(name)} {_named(kind)}" for name, kind in types.items()) + ")"


def _named(kind: Any) -> str:
    if isinstance(kind, Mapping):
        return _struct(kind)
    return TEXT if kind == NOTHING else str(kind)


def _fitted(value: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _cell(value.get(name), kind) for name, kind in types.items()}


def _cell(value: Any, kind: Any) -> Any:
    if missing(value):
        return None
    if isinstance(kind, Mapping):
        return _fitted(value, kind) if isinstance(value, Mapping) else None
    if kind == TEXT:
        text = value if isinstance(value, str) else json.dumps(tidy(value, where="a cell"), ensure_ascii=True)
        return text.encode("utf-8", "replace").decode()
    if kind == FLAG:
        return value if isinstance(value, bool) else str(value).lower() == "true"
    return {WHOLE: int, REAL: float}[kind](value)
