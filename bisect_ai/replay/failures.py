"""A failure as one clean line: its class and message, without line breaks, control characters or credentials."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

MAX_CHARS = 300
REDACTED = "[redacted]"
_CREDENTIAL = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|AUTH|AUTHORIZATION|COOKIE|DSN)S?(_(\d+|V\d+|B64|BASE64|OLD|NEW))?$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:]*:([^/@]+)@", re.IGNORECASE)
_SHORTEST = 6
_PLAIN_KEY = re.compile(r"[a-z_]{1,20}")
_told: set[str] = set()


def describe(error: BaseException) -> str:
    """`<class>: <message>` on one line of at most 300 characters after the class, credentials redacted; whatever the error is."""
    return f"{type(error).__name__}: {line_of(error)}".rstrip(": ")


def line_of(error: BaseException | str) -> str:
    """The message alone, on one line, credentials redacted, at most 300 characters."""
    text = redact(_said(error))
    clean = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(clean.split())[:MAX_CHARS]


def _said(error: BaseException | str) -> str:
    """What an error says; one of the user's own may fail even in that."""
    try:
        return str.__str__(str(error))
    except BaseException as worse:  # it may exit as well
        return f"its message cannot be read: its __str__ raises {type(worse).__name__}"


def redact(text: str) -> str:
    """`text` without credentials: values of credential-like environment variables, passwords in the addresses of others, and
    what `keep_secret` was told; as they are, URL-encoded, as JSON writes them, in base64."""
    for form in _secrets_now.forms():
        if form in text:
            text = text.replace(form, REDACTED)
    return text


def redact_all(value: Any) -> Any:
    """Plain JSON with `redact` applied to all its texts, and to the keys that are no plain short words: those come from data."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key if _PLAIN_KEY.fullmatch(key) else redact(key): redact_all(each) for key, each in value.items()}
    return [redact_all(each) for each in value] if isinstance(value, list | tuple) else value


def keep_secret(value: str) -> None:
    """From now on `redact` hides this value too."""
    if len(value) >= _SHORTEST:
        _told.add(value)


def secret_variables() -> dict[str, str]:
    """Credential-like environment variables and their values."""
    return _secrets(dict(os.environ))


class _SecretsNow:
    """The forms of what must not show, worked out anew when the environment or what was told has changed: asked for each answer."""

    def __init__(self) -> None:
        self._known: tuple[dict[Any, Any], int, tuple[str, ...]] | None = None

    def forms(self) -> tuple[str, ...]:
        environment, told = vars(os.environ).get("_data", os.environ), len(_told)
        if self._known is None or self._known[0] != environment or self._known[1] != told:
            taken = dict(environment)
            self._known = taken, told, _forms(_values(taken))
        return self._known[2]


def _values(environment: Mapping[Any, Any]) -> frozenset[str]:
    read = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    passwords = {found[1] for value in read.values() if "://" in value and (found := _URL_PASSWORD.match(value))}
    return frozenset({*_secrets(read).values(), *_told, *(p for p in passwords if len(p) >= _SHORTEST)})


def _secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if len(value) >= _SHORTEST and _is_credential(name)}


@lru_cache(maxsize=4096)
def _is_credential(name: str) -> bool:
    return _CREDENTIAL.search(name) is not None


@lru_cache(maxsize=8)
def _forms(values: frozenset[str]) -> tuple[str, ...]:
    """Longest first, so that no part of one is left behind."""
    forms = {form for value in values for form in _written(value)}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _written(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogateescape")
    encoded = {base64.b64encode(raw).decode("ascii").rstrip("="), base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")}
    once = json.dumps(value)[1:-1]
    return {value, quote(value, safe=""), quote(value), quote_plus(value), once, json.dumps(once)[1:-1], *encoded}


_secrets_now = _SecretsNow()
