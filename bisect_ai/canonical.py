"""Canonical JSON and digests: one text for one value, whatever the order of keys, the process or the platform.

Strings are hashed as they are (no Unicode folding: NFC and NFD prompts are two prompts); lone surrogates survive as escapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bisect_ai.errors import InputError

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
MAX_DEPTH = 64
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))


def canonical(value: Any) -> str:
    """The one ASCII JSON text of a plain value. Raises `InputError` for what JSON cannot hold (NaN, objects, odd keys)."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"cannot write a value as JSON: {error}; use plain JSON values only") from error


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def plain(value: Any, *, where: str = "value", depth: int = 0) -> Json:
    """`value` as plain JSON (tuples to lists, numpy scalars to numbers). Raises `InputError` naming the spot otherwise."""
    if depth > MAX_DEPTH:
        raise InputError(f"{where} is nested more than {MAX_DEPTH} deep; flatten it")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InputError(f"{where} is {value}, which JSON cannot hold; use null or a finite number")
        return value
    if isinstance(value, Mapping):
        return {_checked_key(k, where): plain(v, where=f"{where}.{k}", depth=depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, where=f"{where}[{i}]", depth=depth + 1) for i, v in enumerate(value)]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return plain(value.item(), where=where, depth=depth)
    raise InputError(f"{where} is a {type(value).__name__}, which JSON cannot hold; use plain values")


def _checked_key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    raise InputError(f"{where} has the key {key!r}, which is not a string; quote it")
