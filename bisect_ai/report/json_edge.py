"""Where a report is JSON: read into its type at the door, written from it at the end. Everything between reads attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from bisect_ai.errors import InputError, without_plugins
from bisect_ai.report.value_types import OMITTED, Value

V = TypeVar("V", bound=Value)


def read(kind: type[V], given: V | Mapping[str, object], *, what: str = "the report") -> V:
    """`given` as a value of its type: a value as it is, JSON validated. Raises `InputError` that names the first wrong field."""
    if isinstance(given, kind):
        return given
    try:
        with without_plugins():
            return kind.model_validate(given)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        place = ".".join(map(str, wrong[0]["loc"])) or "its top"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(
            f"cannot read {what}: {place}: {wrong[0]['msg']}{more}; give what `to_dict()` or --json wrote"
        ) from error


def to_json(value: object) -> object:
    """Plain JSON: values as mappings in the order of their fields, tuples as lists."""
    if isinstance(value, Value):
        return as_mapping(value)
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, list | tuple) else value


def as_mapping(value: Value) -> dict[str, object]:
    """A value's fields as plain JSON by their keys."""
    given, fields = value.model_fields_set, type(value).model_fields
    told = {name: getattr(value, name) for name in fields if name in given}
    return {
        name.rstrip("_"): to_json(each)
        for name, each in told.items()
        if each not in (None, (), {}) or OMITTED not in fields[name].metadata
    }
