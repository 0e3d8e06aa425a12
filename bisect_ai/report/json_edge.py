"""Where a report is JSON: read into its type at the door, written from it at the end. Everything between reads attributes.

What a report may lack is said by the types alone: a field with a default may be missing, or null where null means nothing else.
A field is written when it was given, but for an `Omitted` one that is None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from bisect_ai.errors import InputError, without_plugins

T = TypeVar("T")
V = TypeVar("V", bound="Value")
_OMITTED = "left out of the JSON when it is None or empty"
Omitted = Annotated[T, _OMITTED]
# As it was given: 1 stays 1, and is not written as 1.0.
Number = float | int


def _whole(ends: object) -> object:
    """Both ends of an interval; one with an unknown end is none."""
    return None if isinstance(ends, list | tuple) and None in ends else ends


Ends = tuple[Number, Number]
Interval = Annotated[Ends | None, BeforeValidator(_whole)]


class Value(BaseModel, frozen=True):
    """A frozen part of a report. A trailing underscore of a field's name (`with_`) is no part of its JSON key."""

    model_config = ConfigDict(
        extra="ignore",  # a report of a later version is read as far as it is known
        alias_generator=lambda name: name.rstrip("_"),
        populate_by_name=True,
        protected_namespaces=(),
        defer_build=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        lacking = {key for key in _never_null(cls) if key in given and given[key] is None}
        return {key: each for key, each in given.items() if key not in lacking} if lacking else given


@cache
def _never_null(kind: type[Value]) -> frozenset[str]:
    """The JSON keys of fields that have a value whatever happens."""
    fields = kind.model_fields.items()
    named = [name for name, field in fields if field.annotation is not object and type(None) not in get_args(field.annotation)]
    return frozenset(name.rstrip("_") for name in named)


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
        if each not in (None, (), {}) or _OMITTED not in fields[name].metadata
    }


class ReportedEstimate(Value, frozen=True):
    """A number with its interval, how many queries it rests on, and how it was made."""

    estimate: Number | None = None
    interval: Interval = None
    n: int | None = None
    method: str = ""
