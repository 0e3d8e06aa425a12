"""Values of any log as plain JSON: JSON inside of texts, missing values, dates, numbers of tables."""

from __future__ import annotations

import ast
import base64
import json
import os
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from bisect_ai.canonical import MAX_DEPTH, BadRecord, parse_json, plain
from bisect_ai.errors import QueryError

# Bytes of one record, the most: a file without line ends must not fill the memory.
MAX_LINE = 16 * 2**20

# Characters and brackets of a list in Python's notation, the most: its parser is not made for hostile text.
MAX_LITERAL, MAX_BRACKETS = 2**20, 1_000


def embedded(value: Any) -> Any:
    """The array or object that a string holds as JSON; any other value unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return parse_json(value)
    except BadRecord:
        return value


def unquoted(value: Any) -> Any:
    """The text inside a JSON text literal (`"\\"hi\\""`), as logs that write every value as JSON have it; all else unchanged."""
    if not isinstance(value, str) or not (value.lstrip()[:1] == '"' == value.rstrip()[-1:]):
        return value
    try:
        inner = parse_json(value)
    except BadRecord:
        return value
    return inner if isinstance(inner, str) else value


def decoded(value: Any) -> Any:
    """The array or object that a text holds as JSON (in quotes once more, too) or as Python writes it; any other value unchanged."""
    if not isinstance(value, str):
        return value
    inner = unquoted(value)
    if isinstance(inner, str) and inner.lstrip()[:1] in ("[", "{"):
        found = embedded(inner)
        return _literal(inner, value) if found is inner else found
    return value


def _literal(text: str, otherwise: Any) -> Any:
    """The list or mapping that a text holds in Python's notation, as tables of lists are often saved; nothing is executed."""
    if len(text) > MAX_LITERAL or max(text.count("["), text.count("{"), text.count("(")) > MAX_BRACKETS:
        return otherwise
    try:
        found = ast.literal_eval(text.strip())
        return tidy(found, where="a cell") if isinstance(found, list | dict) else otherwise
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError, QueryError):
        return otherwise


def missing(value: Any) -> bool:
    """Whether a cell is empty: None, an empty string, or a table's NaN, NaT or NA."""
    if value is None or (isinstance(value, str) and not value):
        return True
    if isinstance(value, str | list | dict | int):
        return False
    return type(value).__name__ in ("NAType", "NaTType") or (_is_number(value) and bool(value != value))


def _is_number(value: Any) -> bool:
    return isinstance(value, float | Decimal) or (hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0)


def text_of(value: Any) -> str:
    """The text that names an id, a stratum or a label, alike in every log format."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    tidied = tidy(value, where="a label")
    return tidied if isinstance(tidied, str) else json.dumps(tidied, sort_keys=True)


def name_of(value: Any) -> str:
    """The text that names a record, a release or a model; empty where none is recorded: a record is then named by its content."""
    return "" if missing(value) else text_of(value)


def names_of(fields: Mapping[str, Any], *kept: str) -> dict[str, Any]:
    """The fields as the texts that name what answered; those of `kept` as they are."""
    return {name: each if name in kept else name_of(each) for name, each in fields.items()}


def tidy(value: Any, *, where: str, depth: int = 0) -> Any:
    """`value` as plain JSON: missing to None, dates to ISO text. Raises `QueryError` for what JSON cannot hold."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if depth > MAX_DEPTH:
        raise QueryError(f"{where} is nested more than {MAX_DEPTH} deep; flatten it")
    if isinstance(value, Mapping):
        return {str(key): tidy(each, where=f"{where}.{key}", depth=depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(each, where=f"{where}[{i}]", depth=depth + 1) for i, each in enumerate(value)]
    if missing(value):
        return None
    return _scalar(value, where=where, depth=depth)


def _scalar(value: Any, *, where: str, depth: int) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return _decoded_bytes(value)
    if isinstance(value, UUID):
        return str(value)
    if type(value).__name__ in ("Interval", "Period"):  # pandas' bins and months
        return str(value)
    if hasattr(value, "tolist"):  # numpy, without importing it
        return tidy(value.tolist(), where=where, depth=depth + 1)
    return _plain_value(value, where)


def _plain_value(value: Any, where: str) -> Any:
    try:
        return plain(value, where=where)
    except Exception as error:  # values of a table may be of any class, and raise anything when they are looked at
        raise QueryError(str(error)) from error


def _decoded_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def file_names(paths: Sequence[Path]) -> list[str]:
    """What each of a log's files is called: its path below the folder that they share, so that a name tells them apart."""
    if len(paths) == 1:
        return [paths[0].name]
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(shared).as_posix() for path in paths]
