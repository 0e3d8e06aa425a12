"""OTLP attribute values as plain JSON, and index-flattened keys as nested values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_INDEX = 2_000
"""Elements of one flattened list; a larger index is no list."""


def attributes(listed: Any) -> dict[str, Any]:
    """`[{key, value}]` as a mapping; a mapping (some exporters write one) as it is."""
    if isinstance(listed, Mapping):
        return {str(key): any_value(value) for key, value in listed.items()}
    pairs = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    return {str(each.get("key")): any_value(each.get("value")) for each in pairs}


def any_value(value: Any) -> Any:
    """An OTLP `AnyValue` as plain JSON; anything else as it is."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, held),) = value.items()
    if kind == "intValue":
        return int(held) if str(held).lstrip("-").isdecimal() and len(str(held)) < 20 else held
    if kind == "arrayValue":
        return [any_value(each) for each in _listed(held, "values")]
    if kind == "kvlistValue":
        return attributes(_listed(held, "values"))
    return held if kind in ("stringValue", "boolValue", "doubleValue", "bytesValue") else value


def _listed(held: Any, name: str) -> list[Any]:
    found = held.get(name) if isinstance(held, Mapping) else held
    return found if isinstance(found, list) else []


def unflatten(flat: Mapping[str, Any], prefix: str) -> Any:
    """What keys such as `prefix.0.role` describe: lists where all keys are indices, mappings elsewhere; None for none."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith(prefix + "."):
            _place(tree, key[len(prefix) + 1 :].split("."), value)
    return _lists(tree) if tree else None


def _place(tree: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(steps[-1], value)


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    inner = {key: _lists(value) for key, value in tree.items()}
    if inner and all(key.isdecimal() and int(key[:9]) < MAX_INDEX for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def flattened(flat: Mapping[str, Any], *prefixes: str) -> set[str]:
    """The keys under these prefixes."""
    return {key for key in flat if key.startswith(tuple(f"{prefix}." for prefix in prefixes))}
