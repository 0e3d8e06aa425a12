"""What a tool call is given back in a replay: the result that the log recorded, by a named rule, or that it is missing.

Nothing runs here. A result is never made up: where no rule says which one it is, the call is `missing`, and the trial with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bisect_ai.canonical import as_mapping, canonical, json_or, plain
from bisect_ai.errors import InputError
from bisect_ai.targets.answer import MISSING, ToolCall
from bisect_ai.targets.bounded import Misfit, may_be_slow, misfits

NOT_RECORDED = "tool result not recorded"
UNKNOWN_TOOL = "unknown tool"
INVALID_ARGUMENTS = "invalid arguments"
EXACT, ORDER, RENAMED, ADDED, LEFT_OUT = "exact", "order", "renamed", "added", "left_out"
# By what a recorded result is taken for a call's; several may be needed: `renamed+added`.
RULES = {
    EXACT: "the same arguments",
    ORDER: "the same entries in another order, in a list that the schema says is a set (uniqueItems)",
    RENAMED: "the same values, one under another field name: the old name is gone from the schema, the new one from the recording",
    ADDED: "one argument more, optional in the schema or at its default, that no recorded call of the tool has",
    LEFT_OUT: "one argument less, that the schema does not require and whose recorded value is its default there",
}
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")  # words of a field's name, camelCase or not
_COMMON_WORDS = frozenset({"id", "ids", "name", "key", "type", "value", "number"})
# Characters from which on a text says more than that two values are alike by chance.
_TELLING = 3


# What a tool may give back, about: no context window holds a fourth of it, and each of its characters is kept, scrubbed,
# sent.
MOST_BYTES = 4 << 20


# Characters of JSON that each entry takes at least.
_LEAST: dict[type, int] = {str: 1, bytes: 1, list: 2, tuple: 2, dict: 5}


class ResultTooLarge(ValueError):
    """A tool gave back more than `MOST_BYTES`."""


def check_size(result: Any) -> None:
    """Raises `ResultTooLarge`, without looking at more of it than that takes."""
    left, waiting = MOST_BYTES, [result]
    while waiting:
        value = waiting.pop()
        each = next((least for kind, least in _LEAST.items() if isinstance(value, kind)), 0)
        left -= 1 + (each and each * len(value))
        if left < 0:
            raise ResultTooLarge(f"the result is larger than {MOST_BYTES >> 20} MiB, which no model reads; return less")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value


@dataclass
class _Recording:
    """The results of one call that the log recorded, in order; `added` is what was asked for beside its arguments."""

    arguments: Any
    results: list[Any] = field(default_factory=list)
    added: str | None = None

    def next(self) -> Any:
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


class RecordedTools:
    """The recorded results of one query, handed out for one replay of it. `check_call` comes first.

    A call is matched by name and canonical arguments; the n-th same call gets the n-th such result, and the last one from then on.
    Failing that, by the `RULES`, if all recorded calls that they allow have one and the same result. An entry without `result` is a
    call whose result was not recorded.
    """

    def __init__(self, recorded: Sequence[Mapping[str, Any]]) -> None:
        self._tools: dict[str, dict[str, _Recording]] = {}
        for entry in recorded:
            if "result" in entry:
                arguments = _plain_arguments(entry.get("arguments"))
                known = self._tools.setdefault(str(entry.get("name")), {})
                known.setdefault(canonical(arguments), _Recording(arguments)).results.append(entry["result"])

    def call(self, name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> ToolCall:
        """The call with its recorded result and the rule that found it, or with the error `tool result not recorded`."""
        known, given = self._tools.get(name, {}), dict(arguments)
        same = known.get(canonical(plain(given)))
        if same is not None:
            return ToolCall(name, given, result=same.next(), answered=EXACT)
        found = [
            (each, match) for each in known.values() if (match := self._match(each, known, given, schema or {})) is not None
        ]
        alike = [
            each for each in known.values() if _argument_values(each.arguments) == _argument_values(given)
        ]  # under whatever names
        held = {id(each): each for each in (*(each for each, _ in found), *alike)}.values()
        if not found or (len(held) > 1 and len({canonical(plain(each.results)) for each in held}) > 1):
            return ToolCall(name, given, error=NOT_RECORDED, answered=MISSING)
        recording, match = found[0]
        recording.added = match.added or recording.added
        return ToolCall(name, given, result=recording.next(), answered="+".join(match.rules))

    def _match(
        self, recording: _Recording, known: Mapping[str, _Recording], given: Mapping[str, Any], schema: Mapping[str, Any]
    ) -> _Match | None:
        if not isinstance(recording.arguments, Mapping):
            return None
        names = {name for each in known.values() if isinstance(each.arguments, Mapping) for name in each.arguments}
        match = _compare_calls(recording.arguments, given, schema, names)
        if match is None or (match.added and recording.added not in (None, match.added)):
            return None  # asked before with another value: it cannot be without meaning
        return match


@dataclass(frozen=True)
class _Match:
    """The rules by which two calls are one, and the added arguments as canonical JSON; empty: none."""

    rules: tuple[str, ...]
    added: str = ""


def _compare_calls(
    recorded: Mapping[str, Any], given: Mapping[str, Any], schema: Mapping[str, Any], names: set[str]
) -> _Match | None:
    """By what rules the call `given` is the `recorded` one; `names`: all that the recorded calls have. None: it is not."""
    properties = as_mapping(schema.get("properties"))
    rules: set[str] = set()
    for name in recorded.keys() & given.keys():
        inner = _same_value(recorded[name], given[name], as_mapping(properties.get(name)))
        if inner is None:
            return None
        rules |= inner
    rest = {name: value for name, value in given.items() if name not in recorded}
    for old in sorted(recorded.keys() - given.keys()):
        new = _new_name(old, recorded[old], rest, properties, names)
        if new is not None:
            rules.add(RENAMED)
            del rest[new]
        elif _is_default(old, recorded[old], schema):
            rules.add(LEFT_OUT)
        else:
            return None
    if rest and not all(_is_optional(name, value, schema, names) for name, value in rest.items()):
        return None
    rules |= {ADDED} if rest else set()
    return _Match(tuple(rule for rule in RULES if rule in rules), canonical(plain(rest)) if rest else "")


def _same_value(recorded: Any, given: Any, schema: Mapping[str, Any]) -> set[str] | None:
    if canonical(plain(recorded)) == canonical(plain(given)):
        return set()
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        match = _compare_calls(recorded, given, schema, set(recorded))
        return None if match is None else set(match.rules)
    lists = isinstance(recorded, list) and isinstance(given, list) and schema.get("uniqueItems") is True
    return {ORDER} if lists and _sorted(recorded) == _sorted(given) else None


def _sorted(values: Sequence[Any]) -> list[str]:
    return sorted(canonical(plain(value)) for value in values)


def _new_name(old: str, value: Any, rest: Mapping[str, Any], properties: Mapping[str, Any], names: set[str]) -> str | None:
    """The field that a recorded one became; None: the schema still has it, or nothing has its value, or chance may have."""
    if old in properties:
        return None
    wanted = canonical(plain(value))
    found = [name for name, given in rest.items() if name not in names and canonical(plain(given)) == wanted]
    alike = [name for name in found if _name_words(name) & _name_words(old)]
    return next(iter(alike or (found if _is_telling_value(value) else [])), None)


def _argument_values(arguments: Any) -> list[str]:
    return _sorted(list(arguments.values())) if isinstance(arguments, Mapping) else []


def _is_telling_value(value: Any) -> bool:
    """Whether two fields hardly have such a value by chance."""
    if value is None or isinstance(value, bool):
        return False
    return len(value if isinstance(value, str) else canonical(plain(value))) >= _TELLING


def _name_words(name: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(name)} - _COMMON_WORDS


def _is_optional(name: str, value: Any, schema: Mapping[str, Any], names: set[str]) -> bool:
    """Whether a call without the argument is the same call, as far as the schema and the recorded calls say."""
    field = as_mapping(schema.get("properties")).get(name)
    if not isinstance(field, Mapping) or name in names:
        return False
    if "default" in field:
        return canonical(plain(field["default"])) == canonical(plain(value))
    return name not in (schema.get("required") or ())


def _is_default(name: str, value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a call without the argument says the same as one with this value: what else a tool would do, nobody knows."""
    field = as_mapping(as_mapping(schema.get("properties")).get(name))
    required = name in (schema.get("required") or ())
    return "default" in field and not required and canonical(plain(field["default"])) == canonical(plain(value))


def signature(name: str, arguments: Mapping[str, Any]) -> str:
    """A call by its tool and the names of its arguments: `get_order(limit, order_id)`."""
    return f"{name}({', '.join(sorted(map(str, arguments)))})"


def recorded_calls(recorded: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(tool, arguments) of the recorded calls that have a result."""
    return ((str(entry.get("name")), _plain_arguments(entry.get("arguments"))) for entry in recorded if "result" in entry)


def check_call(tools: Sequence[Mapping[str, Any]], name: str, arguments: Mapping[str, Any]) -> str | None:
    """Why a call is refused (`unknown tool: …`, `invalid arguments: …`), naming the field; None when it is valid.

    Raises `ValueError` when that cannot be told, or not in time: a schema may search for ever on what a model wrote.
    """
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    if name not in offered:
        return f"{UNKNOWN_TOOL}: {name!r} is not offered; the tools are {', '.join(offered) or 'none'}"
    try:
        problems = _problems(canonical(plain(offered[name])), canonical(plain(arguments)))
    except (TimeoutError, ValueError) as error:
        raise ValueError(f"cannot check the arguments of {name} against its parameters: {error}") from error
    return f"{INVALID_ARGUMENTS}: {problems}" if problems else None


def may_take_long(tools: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether `check_call` may have to wait."""
    offered = [tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == name]
    return any(may_be_slow(canonical(plain(parameters))) for parameters in offered)


@lru_cache(maxsize=4096)
def _problems(schema: str, arguments: str) -> str:
    given, wanted = json_or(arguments, arguments), json_or(schema, schema)
    _check_result_schema(schema)
    errors = misfits(schema, given)
    if not errors:
        return ""
    known, required = wanted.get("properties") or {}, wanted.get("required") or []
    said = [f"missing field {name!r}" for name in required if name not in given]
    said += [f"unknown field {name!r}" for name in given if name not in known]
    named = ("required", "additionalProperties")
    said += [_field_message(error) for error in errors if error.keyword not in named or error.path or not said]
    return "; ".join(said)


def _field_message(error: Misfit) -> str:
    field = ".".join(map(str, error.path))
    return f"field {field!r}: {error.message[:200]}" if field else str(error.message)[:200]


@lru_cache(maxsize=256)
def _check_result_schema(schema: str) -> None:
    from jsonschema.validators import Draft202012Validator, validator_for

    read = json_or(schema, schema)
    try:
        validator_for(read, default=Draft202012Validator).check_schema(read)
    except Exception as error:  # jsonschema raises its own errors, those of `re` and RecursionError
        raise InputError(f"cannot read a tool's parameters as JSON Schema: {str(error).splitlines()[0]}") from error


def _plain_arguments(arguments: Any) -> Any:
    """Arguments as plain JSON; no mapping where the log has a text that is none."""
    read = json_or(arguments, arguments, numbers="finite") if isinstance(arguments, str) else arguments
    return plain(read or {})
