"""Strict YAML and JSON: what a file says is what comes back, or one error that names the file, the line and the key.

YAML plain scalars are text, except null, true, false and the numbers that read back as written: `1.10`, `012`, `no`,
`12:30:45` and dates stay text, for two prompt versions 1.1 and 1.10 are two. Keys are always text. Duplicate keys,
anchors, aliases, tags and merge keys are refused, and so are values nested deeper than 64 or files over 64 MiB.
JSON is held to the same limits; NaN, Infinity and numbers that no double or 64-bit integer holds are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from bisect_ai.canonical import MAX_BYTES, MAX_DEPTH, BadRecord, Json, parse_json
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.provider.redaction import shown

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, bool | None] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.capitalize(), _word.upper()), _value)
_INTEGER = re.compile(r"-?[0-9]{1,20}")  # more than 20 digits are no 64-bit number
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
# A token of JSON: possessive, so that a hostile text takes linear time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]++', re.DOTALL)


def parse_yaml(text: str, where: str, *, error: type[InputError] = ReleaseError) -> Json:
    """The one value that a YAML text holds; an empty text is null. `where` names it in errors, which are of type `error`."""
    _check_size(text, where, error)
    return _Yaml(text, where, error).document()


def parse_strict_json(text: str, where: str, *, error: type[InputError] = ReleaseError) -> Json:
    """The value that a JSON text holds. `where` names it in errors, which are of type `error`."""
    _check_size(text, where, error)
    try:
        value: Json = parse_json(text.removeprefix("\ufeff"), numbers="64 bits")
    except BadRecord as bad:
        raise error(f"cannot read {where}{_json_reason(bad, text)}") from bad
    return value


def _check_size(text: str, where: str, error: type[InputError]) -> None:
    if len(text) > MAX_BYTES:
        raise error(f"cannot read {where}: it is larger than {MAX_BYTES >> 20} MiB; split it or keep texts in files")


# -- YAML --------------------------------------------------------------------------------------------------------


class _Yaml:
    """One pass over the events of one text. Events come before any object is built, so nothing is ever constructed."""

    def __init__(self, text: str, where: str, error: type[InputError]) -> None:
        self._where, self._error = where, error
        self._text = text.removeprefix("\ufeff")

    def document(self) -> Json:
        try:
            self._events: Iterator[Any] = yaml.parse(self._text, Loader=_LOADER)
            return self._only_document()
        except (yaml.YAMLError, UnicodeEncodeError) as bad:
            raise self._error(f"cannot read {self._where}{_yaml_reason(bad)}") from bad

    def _only_document(self) -> Json:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), "", 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(after, "it holds a second document; keep one in a file")
        return value

    def _value(self, event: Any, key: str, depth: int) -> Json:
        self._check(event, key)
        if isinstance(event, yaml.ScalarEvent):
            return _plain_scalar(event.value) if event.implicit[0] else str(event.value)
        if depth >= MAX_DEPTH:
            self._refuse(event, f"{_at_key(key)}it is nested more than {MAX_DEPTH} deep; flatten it")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(key, depth)
        return self._mapping(key, depth)

    def _sequence(self, key: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{key}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, key: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._key(event, key)
            inner = f"{key}.{name}" if key else name
            if name in found:
                self._refuse(event, f"the key {shown(inner)} is there twice; keep one")
            found[name] = self._value(next(self._events), inner, depth + 1)
        return found

    def _key(self, event: Any, key: str) -> str:
        self._check(event, key)
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, f"{_at_key(key)}a key must be a text, not a list or a mapping")
        if event.value == "<<" and event.implicit[0]:
            self._refuse(event, f"{_at_key(key)}merge keys (<<) are not read; write the keys out")
        return str(event.value)

    def _check(self, event: Any, key: str) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(event, f"{_at_key(key)}anchors and aliases (& and *) are not read; write the value out, or quote it")
        if event.tag is not None:
            self._refuse(event, f"{_at_key(key)}tags (!) are not read; write a plain value, or quote it")

    def _refuse(self, event: Any, reason: str) -> NoReturn:
        mark = event.start_mark
        raise self._error(f"cannot read {self._where}, line {mark.line + 1}, column {mark.column + 1}: {reason}")


def _at_key(key: str) -> str:
    return f"at {shown(key)}: " if key else ""


def _plain_scalar(text: str) -> Json:
    """A plain scalar's value: a number only when its own text would be written back, so that no spelling is lost."""
    if text in _WORDS:
        return _WORDS[text]
    # 004 and +4 are texts: a digest must not depend on a reader.
    if _INTEGER.fullmatch(text) and str(int(text)) == text and int(text).bit_length() <= 64:
        return int(text)
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def _yaml_reason(bad: Exception) -> str:
    mark = getattr(bad, "problem_mark", None)
    if mark is not None:
        return f", line {mark.line + 1}, column {mark.column + 1}: {_yaml_advice(str(getattr(bad, 'problem', None)))}"
    return f": {getattr(bad, 'reason', None) or 'it is not YAML'}; save it as plain UTF-8 text"


def _yaml_advice(problem: str) -> str:
    """What the reader of YAML found, and what is usually behind it."""
    if "cannot start any token" in problem:
        return f"{problem} (YAML); is it a tab? indent with spaces, and quote texts that begin with @ or `"
    if "expected ',' or" in problem:
        return f"{problem} (YAML); close the bracket, and quote texts that hold commas or brackets"
    return f"{problem} (YAML); indent with spaces, and quote texts that hold `: ` or ` #`"


# -- JSON --------------------------------------------------------------------------------------------------------


_JSON_REASONS = {
    "twice": "the key {} is there twice in one object; keep one",
    "constant": "{} is not JSON; use null or a finite number",
    "integer": "the integer {} does not fit 64 bits; write it as a text",
    "number": "the number {} is too large; use a finite one or a text",
}


def _json_reason(bad: BadRecord, text: str) -> str:
    """Where and why a JSON text was refused, as a message goes on after naming it."""
    if bad.spot is not None:
        return f", line {bad.spot[0]}, column {bad.spot[1]}: {bad.token} (JSON)"
    if bad.flaw not in _JSON_REASONS:
        return f": it is {bad}; flatten it" if bad.flaw == "depth" else f": {bad}"
    word = bad.token if bad.flaw == "constant" else shown(bad.token)
    return f", {_spot_of(text, bad)}: {_JSON_REASONS[bad.flaw].format(word)}"


def _spot_of(text: str, bad: BadRecord) -> str:
    """`line …, column …` of what was refused: found again token by token, since Python's reader keeps no positions."""
    position = next(_twice(text, bad.token) if bad.flaw == "twice" else _tokens(text, bad.token), 0)
    line = text.count("\n", 0, position) + 1
    return f"line {line}, column {position - text.rfind(chr(10), 0, position)}"


def _tokens(text: str, token: str) -> Iterator[int]:
    return (match.start() for match in _TOKEN.finditer(text) if match.group() == token)


def _twice(text: str, key: str) -> Iterator[int]:
    """Positions where `key` is written again in an object that has it."""
    stack: list[set[str]] = [set()]
    last = ""
    start = 0
    for match in _TOKEN.finditer(text):
        now = match.group()
        if now in ("{", "["):
            stack.append(set())
        elif now in ("}", "]"):
            stack.pop()
        elif now == ":" and last.startswith('"'):
            name = json.loads(last)
            if name in stack[-1] and name == key:
                yield start
            stack[-1].add(name)
        last, start = now, match.start()
