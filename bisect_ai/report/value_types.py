"""What the parts of a report are made of: the frozen value that JSON is read into, and the types of its fields.

What a report may lack is said by the types alone: a field with a default may be missing, or null where null means nothing else.
A field is written when it was given, but for an `Omitted` one that is None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

T = TypeVar("T")
OMITTED = "left out of the JSON when it is None or empty"
Omitted = Annotated[T, OMITTED]
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


class ReportedEstimate(Value, frozen=True):
    """A number with its interval, how many queries it rests on, and how it was made."""

    estimate: Number | None = None
    interval: Interval = None
    n: int | None = None
    method: str = ""
