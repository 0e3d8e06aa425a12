"""What a tool call is given back in a replay: the result that the log recorded, or a typed error. Nothing runs here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from bisect_ai.canonical import canonical, plain
from bisect_ai.errors import InputError
from bisect_ai.replay.answer import ToolCall

NOT_RECORDED = "tool result not recorded"
UNKNOWN_TOOL = "unknown tool"
INVALID_ARGUMENTS = "invalid arguments"


class RecordedTools:
    """The recorded results of one query, handed out for one replay of it.

    A call is matched by name and canonical arguments; the n-th same call gets the n-th such result, and the last one
    from then on. Failing that, a call is answered by the only recorded result of that tool that has the same argument
    values under other field names: the schema itself may be what a release changed. `check_call` comes first.
    """

    def __init__(self, recorded: Sequence[Mapping[str, Any]]) -> None:
        self._results: dict[tuple[str, str], list[Any]] = {}
        for entry in recorded:
            key = (str(entry.get("name")), _arguments_key(entry.get("arguments")))
            self._results.setdefault(key, []).append(entry.get("result"))

    def call(self, name: str, arguments: dict[str, Any]) -> ToolCall:
        """The call with its recorded result, or with the error `tool result not recorded`."""
        key = (name, _arguments_key(arguments))
        results = self._results.get(key) or self._renamed(name, arguments)
        if not results:
            return ToolCall(name, arguments, error=NOT_RECORDED)
        return ToolCall(name, arguments, result=results.pop(0) if len(results) > 1 else results[0])

    def _renamed(self, name: str, arguments: Mapping[str, Any]) -> list[Any] | None:
        values = _values_key(arguments)
        same = [
            results
            for (tool, recorded), results in self._results.items()
            if tool == name and _values_key(_read(recorded)) == values
        ]
        return same[0] if len(same) == 1 and len(same[0]) == 1 else None


def check_call(tools: Sequence[Mapping[str, Any]], name: str, arguments: Mapping[str, Any]) -> str | None:
    """Why a call is refused (`unknown tool: …`, `invalid arguments: …`), naming the field; None when it is valid."""
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    if name not in offered:
        return f"{UNKNOWN_TOOL}: {name!r} is not offered; the tools are {', '.join(offered) or 'none'}"
    problems = _problems(canonical(plain(offered[name])), canonical(plain(arguments)))
    return f"{INVALID_ARGUMENTS}: {problems}" if problems else None


@lru_cache(maxsize=4096)
def _problems(schema: str, arguments: str) -> str:
    given, wanted = _read(arguments), _read(schema)
    errors = sorted(_validator(schema).iter_errors(given), key=lambda error: (list(map(str, error.path)), error.message))
    if not errors:
        return ""
    known, required = wanted.get("properties") or {}, wanted.get("required") or []
    said = [f"missing field {name!r}" for name in required if name not in given]
    said += [f"unknown field {name!r}" for name in given if name not in known]
    named = ("required", "additionalProperties")
    said += [_where(error) for error in errors if error.validator not in named or error.path or not said]
    return "; ".join(said)


def _where(error: Any) -> str:
    field = ".".join(map(str, error.path))
    return f"field {field!r}: {error.message[:200]}" if field else str(error.message)[:200]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(_read(schema))
    except Exception as error:
        raise InputError(f"cannot read a tool's parameters as JSON Schema: {str(error).splitlines()[0]}") from error
    # An empty registry: a reference to another address is never fetched.
    return Draft202012Validator(_read(schema), registry=Registry())


def _arguments_key(arguments: Any) -> str:
    read = _read(arguments) if isinstance(arguments, str) else arguments
    return canonical(plain(read or {}))


def _values_key(arguments: Any) -> list[str]:
    return sorted(canonical(value) for value in arguments.values()) if isinstance(arguments, Mapping) else []


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
