"""A failure as one clean line: its class and message, without line breaks, control characters or credentials."""

from __future__ import annotations

import base64
import os
import re
from urllib.parse import quote

MAX_CHARS = 300
REDACTED = "[redacted]"
_CREDENTIAL = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$", re.IGNORECASE)
_SHORTEST = 6


def describe(error: BaseException) -> str:
    """`<class>: <message>` on one line of at most 300 characters after the class, credentials redacted."""
    text = redact(str(error))
    clean = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(clean.split())
    return f"{type(error).__name__}: {line[:MAX_CHARS]}".rstrip(": ")


def redact(text: str) -> str:
    """`text` without the values of credential-like environment variables, plain, URL-encoded or in base64."""
    for secret in _secrets():
        text = text.replace(secret, REDACTED)
    return text


def _secrets() -> list[str]:
    values = [value for name, value in os.environ.items() if _CREDENTIAL.search(name) and len(value) >= _SHORTEST]
    forms = {form for value in values for form in (value, quote(value, safe=""), _base64(value))}
    return sorted(forms, key=len, reverse=True)


def _base64(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogateescape")).decode("ascii").rstrip("=")
