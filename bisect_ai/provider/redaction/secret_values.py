"""What of a variable's value is the credential: all of it, or a part of the address, JSON or list that it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bisect_ai.provider.redaction.plain_words import COMMON
from bisect_ai.provider.redaction.secret_names import is_field, is_webhook, strength

_SHORTEST = 6
_LONG = 8
_RANDOM = 12
"""Characters from which a mixture of letters and digits is taken for chosen by a machine."""
_LETTERS = 16
_NUMBER = re.compile(r"[\d.,:_/+\sTZeE-]{1,40}")
_MOST_DIGITS = 19
_DRIVE = re.compile(r"(?:~|\.{0,2}|[A-Za-z]:)(?:[/\\][\w. @+-]{1,48})+[/\\]?(?::.*)?")
_WHOLE_PATH = re.compile(r"[A-Za-z0-9+=]{20,}")
_PAIR = re.compile(r"([A-Za-z][\w .-]{0,40})=([^;&\s]+)")


def values_in(name: str, value: str) -> set[str]:
    """The credentials in the value of a variable."""
    if len(value) < _SHORTEST:
        return set()
    sure, text = strength(name), value.strip()
    found = {part for part in _credentials_inside(text) if not is_ordinary(part)}
    address = _address(text)
    if address is not None:
        if is_webhook(name):
            return found | _whole_address(text, address)
        return found | (
            {part for part in address.path.split("/") if is_random(part, shortest=_LETTERS)} if sure == "sure" else set()
        )
    if sure == "none" or is_ordinary(text) or (sure == "perhaps" and not is_random(text)):
        return found
    first, _, rest = text.partition(" ")
    schemed = {rest.strip()} if first.lower().rstrip(":") in ("bearer", "basic", "token") and len(rest) >= _SHORTEST else set()
    lines = {line.strip() for line in text.splitlines() if len(line.strip()) >= _RANDOM and "-----" not in line}
    listed = {part for part in re.split(r"[\s,;:|]+", text) if is_random(part)}
    return found | {value, text} | schemed | lines | listed


def is_ordinary(value: str) -> bool:
    """Whether a value says nothing secret: a number, a date, a path, a common word, one character again and again."""
    text = value.strip()
    if len(text) < _SHORTEST or len(set(text)) == 1 or COMMON.fullmatch(text):
        return True
    if _NUMBER.fullmatch(text) and sum(c.isdigit() for c in text) <= _MOST_DIGITS:
        return True
    return "/" in text + "\\" and _DRIVE.fullmatch(text) is not None and not _machine_made(text)


def is_random(text: str, *, shortest: int = _RANDOM) -> bool:
    """Whether letters and digits are mixed as only a machine does."""
    if len(text) < shortest or any(c.isspace() for c in text):
        return False
    digits, letters = any(c.isdigit() for c in text), any(c.isalpha() for c in text)
    return letters and (digits or (len(text) >= _LETTERS and text.lower() != text and text.upper() != text))


def _machine_made(path: str) -> bool:
    return any(is_random(part) for part in re.split(r"[/\\]", path) if _WHOLE_PATH.fullmatch(part))


def _address(text: str) -> SplitResult | None:
    if "://" not in text or any(c.isspace() for c in text):
        return None
    try:
        parts = urlsplit(text)
        return parts if parts.scheme and parts.netloc else None
    except ValueError:
        return None


def _whole_address(text: str, address: SplitResult) -> set[str]:
    """A webhook's address, and what makes it secret."""
    path = f"{address.path}?{address.query}" if address.query else address.path
    parts = {part for part in (*address.path.split("/"), address.username or "") if is_random(part, shortest=_LONG)}
    return {text, *parts} | ({path} if len(path) >= _RANDOM else set())


def _credentials_inside(text: str) -> Iterator[str]:
    """Credentials in the addresses, JSON or pairs of any variable, credential-like or not."""
    address = _address(text)
    if address is not None:
        yield from _in_address(address)
    elif text[:1] in "{[" and text[-1:] in "}]":
        try:
            yield from _in_json(json.loads(text), "")
        except (ValueError, RecursionError):
            return
    elif "=" in text:
        for field, value in _PAIR.findall(text):
            if len(value) >= _SHORTEST and strength(field.replace(" ", "")) == "sure":
                yield value


def _in_address(address: SplitResult) -> Iterator[str]:
    user, colon, password = address.netloc.rpartition("@")[0].partition(":")
    told = [password] if colon else [user] if is_random(user, shortest=_LONG) else []
    told += [
        value for field, value in parse_qsl(address.query) if strength(field) == "sure" or field.lower() in ("sig", "signature")
    ]
    for value in told:
        if len(value) >= _SHORTEST:
            yield from (value, unquote(value))


def _in_json(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _in_json(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _in_json(inner, field)
    elif isinstance(value, str) and len(value) >= _SHORTEST:
        address = _address(value)
        if address is not None:
            yield from _in_address(address)
            if "hook" in field.lower():
                yield from _whole_address(value, address)
        elif is_field(field) or strength(field) == "sure":
            yield value
            yield from (line.strip() for line in value.splitlines() if len(line) >= _RANDOM and "-----" not in line)
