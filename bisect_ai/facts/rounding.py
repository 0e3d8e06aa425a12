"""Numbers of a report as they are written: rounded, so that the last bits of arithmetic on another machine don't show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from bisect_ai.report.json_edge import Ends, Value, as_mapping, read

V = TypeVar("V", bound=Value)
DIGITS = 10
"""Behind the point: doubles of the size of scores hold 15."""


def rounded(value: V) -> V:
    """The same with its numbers rounded, and with nothing in it that JSON cannot hold."""
    return read(type(value), _plain_mapping(as_mapping(value)))


def rounded_if_known(value: V | None) -> V | None:
    """The same where there is something to round."""
    return None if value is None else rounded(value)


def rounded_number(value: float | None, sign: float = 1.0) -> float | None:
    """Rounded so that the last bits of arithmetic on another machine don't show; None when undefined."""
    if value is None or not math.isfinite(value):
        return None
    return round(sign * float(value), DIGITS) + 0.0


def rounded_ends(interval: tuple[float, float] | None, sign: float = 1.0) -> Ends | None:
    """An interval's ends; None also where one is not finite."""
    if interval is None:
        return None
    low, high = (rounded_number(end, sign) for end in interval)
    if low is None or high is None:
        return None
    return (low, high) if sign > 0 else (high, low)


def _plain_mapping(values: Mapping[str, object]) -> dict[str, object]:
    return {str(k): plain_value(v) for k, v in values.items()}


def plain_value(value: object) -> object:
    """A value as plain JSON: numbers rounded, what JSON cannot hold as text."""
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):
        return rounded_number(float(value.item()))
    return rounded_number(value) if isinstance(value, float) else str(value)
