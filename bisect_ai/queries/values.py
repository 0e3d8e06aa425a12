"""Values of any log as plain JSON: JSON inside of texts, missing values, dates, numbers of tables; and instants, with windows of them.

Instants are read as tools and people write them (ISO 8601, mails, browsers, web servers, spreadsheets). Text in another order than
ISO 8601 is read where only one reading is possible. Of `11/3/2026` nobody can tell the day from the month; other values of the same
column can, and `day_first` then says so.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
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


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY, _YEAR, _NAME = r"(?P<day>\d{1,2})", r"(?P<year>\d{4})", r"(?P<name>[A-Za-z]{3,9})\.?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
_DATES = (
    rf"{_YEAR}[/.](?P<month>\d{{1,2}})[/.]{_DAY}",
    rf"{_DAY}\.(?P<month>\d{{1,2}})\.{_YEAR}",
    rf"{_WEEKDAY}{_DAY}[ /-]{_NAME}[ /-]{_YEAR}",
    rf"{_WEEKDAY}{_NAME} {_DAY},? {_YEAR}",
    rf"(?P<first>\d{{1,2}})/(?P<second>\d{{1,2}})/{_YEAR}",
    rf"{_YEAR}-(?P<month>\d{{1,2}})-{_DAY}",
)
_TIME = (
    r"(?:(?:,? at |[ ,T:]+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second_of>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s?(?P<half>[ap]\.?m\.?)?\s?(?P<zone>(?:Z|UTC|GMT)?(?:[+-]\d{2}:?\d{2})?)(?: UTC| \([\w ]{1,60}\))?)?"
)
_WRITTEN = tuple(re.compile(date + _TIME, re.IGNORECASE) for date in _DATES)
# The beginning of a date whose year has two digits, of which nobody can tell the order; DuckDB reads it, too.
SHORT_YEAR = r"^\s*\d{1,2}(?:[/.-]\d{1,2}[/.-]|[ /-][A-Za-z]{3,9}\.?[ /-])\d{2}(?:[^\d]|$)"
# Longer text is no time.
LONGEST = 100


class Slashed(NamedTuple):
    """The two numbers before the year of a date such as 11/29/2026."""

    first: int
    second: int


def parsed_time(text: str, *, day_first: bool | None = None) -> datetime | float | None:
    """The instant or the number that a text holds; None for none, and for a date whose day and month cannot be told apart."""
    if len(text) > LONGEST:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return _written_time(text, day_first)


def slashed_date(text: str) -> Slashed | None:
    """The numbers of a date with slashes that ends in the year; None for any other text."""
    found = _WRITTEN[4].fullmatch(text.strip()) if len(text) <= LONGEST else None
    return Slashed(int(found["first"]), int(found["second"])) if found else None


def has_short_year(text: str) -> bool:
    """Whether a text is a date such as 11/29/26."""
    return len(text) <= LONGEST and re.match(SHORT_YEAR, text) is not None


def day_first_of(dates: Iterable[Slashed]) -> bool | None:
    """Whether the dates of a column have the day first, by those in which a number is no month; None: they do not tell, or disagree."""
    told = {each.first > 12 for each in dates if (each.first > 12) != (each.second > 12)}
    return told.pop() if len(told) == 1 else None


def _written_time(text: str, day_first: bool | None) -> datetime | None:
    found = next((match for pattern in _WRITTEN if (match := pattern.fullmatch(text))), None)
    if found is None:
        return None
    parts = found.groupdict()
    try:
        month, day = _month_and_day(parts, day_first)
        date = datetime(int(parts["year"]), month, day, tzinfo=_zone(parts["zone"] or ""))
        return date if parts["hour"] is None else date + _time_of_day(parts)
    except ValueError:
        return None


def _month_and_day(parts: dict[str, str | None], day_first: bool | None) -> tuple[int, int]:
    """Raises `ValueError` where it cannot be told."""
    if parts.get("name"):
        return 1 + _MONTHS.index(str(parts["name"])[:3].lower()), int(parts["day"] or 0)
    if parts.get("first") is None:
        return int(parts["month"] or 0), int(parts["day"] or 0)
    first, second = int(parts["first"] or 0), int(parts["second"] or 0)
    own = day_first_of([Slashed(first, second)])
    if own is None and first != second:
        own = day_first
        if own is None:
            raise ValueError("day or month")
    return (second, first) if own else (first, second)


def _time_of_day(parts: dict[str, str | None]) -> timedelta:
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second_of"))
    half = (parts["half"] or "")[:1].lower()
    if minute > 59 or second > 59 or hour > 23 or (half and not 1 <= hour <= 12):
        raise ValueError("no time of day")
    hour = hour % 12 + 12 * (half == "p") if half else hour
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=int((parts["part"] or "0")[:6].ljust(6, "0")))


def _zone(written: str) -> timezone:
    offset = written.upper().lstrip("ZUTCGM").replace(":", "")
    if not offset:
        return UTC
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return timezone(ahead if offset[0] == "+" else -ahead)


# The first instant inside, and the first after; None: no bound.
Window = tuple[int | None, int | None]
# A bare number is seconds, milliseconds or microseconds (else nanoseconds), by its size: (below, microseconds per unit).
SCALES = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
# What MongoDB's exports wrap times and numbers in.
MONGO = ("$date", "$numberLong")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(value: Any, *, day_first: bool | None = None) -> int | None:
    """The instant that a cell holds; None for none. Without a zone it is UTC. `day_first`: how the column writes 3/11/2026."""
    while isinstance(value, Mapping) and len(value) == 1 and (held := next((key for key in MONGO if key in value), None)):
        value = value[held]
    if isinstance(value, str):
        value = parsed_time(value.strip(), day_first=day_first)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - EPOCH) // (EPOCH.resolution)
    # Nanoseconds until the year 2286.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**19:
        return None
    return next((int(value * unit) for below, unit in SCALES if abs(value) < below), int(value // 1000))


def told_time(instant: int) -> str:
    """An instant as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(instant // 10**6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def window(since: Any, until: Any, name: str) -> Window:
    """The window between two instants as users write them. Raises `QueryError` for what is no instant, or an empty window."""
    bounds = [None if bound is None else microseconds(bound) for bound in (since, until)]
    for bound, written in zip(bounds, (since, until), strict=True):
        if bound is None and written is not None:
            raise QueryError(f"cannot read {written!r} as a time ({name}); write 2026-11-20 or 2026-11-20T16:00:00Z")
    if bounds[0] is not None and bounds[1] is not None and bounds[0] >= bounds[1]:
        raise QueryError(f"the time window of {name} is empty: {since} is not before {until}")
    return bounds[0], bounds[1]


def inside(instant: int, bounds: Window) -> bool:
    """Whether an instant lies in a window."""
    return (bounds[0] is None or instant >= bounds[0]) and (bounds[1] is None or instant < bounds[1])


def refuse_overlap(windows: Mapping[str, Window]) -> None:
    """Raise `QueryError` when two releases share an instant: a record without a release would be guessed."""
    lowest, highest = -(2**63), 2**63
    ordered = sorted(
        (low if low is not None else lowest, high if high is not None else highest, name)
        for name, (low, high) in windows.items()
    )
    for (_, end, first), (start, _, second) in pairwise(ordered):
        if start < end:
            raise QueryError(f"the time windows of {first} and {second} overlap; end one where the other begins")
