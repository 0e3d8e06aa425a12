"""Which names say that what they hold is a credential: by their words, wherever in the name they stand."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Strength = Literal["sure", "perhaps", "none"]

_WORDS = re.compile(
    r"(?:KEY|TOKEN|SECRET|PASS|PWD|PAT|BEARER|SK|CREDENTIAL|WEBHOOK|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|AUTH|AUTHORIZATION|COOKIE|DSN"
    r"|CRED|PW|JWT|PSK|HMAC)S?"
)
_INSIDE = re.compile(r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|BEARER|APIKEY|ACCESSKEY|TOKEN(?!I[SZ])|AUTHORI[SZ]ATION")
_ABOUT = re.compile(
    r"NAME|USER|USERNAME|TYPE|MODE|KIND|UR[LI]|HOST|REGION|PATH|FILE|DIR|BACKEND|PROVIDER|LIMIT|COUNT|LENGTH|VERSION|ENDPOINT|TTL|ALGORITHM"
    r"|PREFIX|HEADER|FORMAT|METHOD|DOMAIN|ISSUER"
)
"""Last words of names of what is about a credential and hardly one itself."""
_ENDING = re.compile(r"\w(?:KEY|PASS|PWD|PAT|SK)S?$")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_FIELD = re.compile(
    r"(?:[a-z]+[-_.]?){0,3}(?:api[-_]?key|passw(?:or)?d|passphrase|secret|secret[-_]?(?:access[-_]?)?key|(?:access|auth|refresh|bearer|id)[-_]?"
    r"token|private[-_]?key|access[-_]?key|webhook[-_]?url)|authorization|(?:set-)?cookie",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[a-z_]{1,20}")


@lru_cache(maxsize=4096)
def strength(name: str) -> Strength:
    """Whether a variable of this name holds a credential: for sure, perhaps (the value decides), or not."""
    parts = [part.upper() for part in _PART.findall(name)]
    if parts and _ABOUT.fullmatch(parts[-1]):
        return "perhaps" if any(map(_WORDS.fullmatch, parts)) or _INSIDE.search(name.upper()) else "none"
    if any(map(_WORDS.fullmatch, parts)) or _INSIDE.search(name.upper()):
        return "sure"
    return "perhaps" if any(_ENDING.search(part) for part in parts) else "none"


def is_webhook(name: str) -> bool:
    """Whether the whole address that a variable holds is the credential."""
    return "HOOK" in name.upper() or "DSN" in _PART.findall(name.upper())


@lru_cache(maxsize=4096)
def is_field(name: str) -> bool:
    """Whether a field of this name (of JSON, of a form, of headers) holds a credential."""
    return isinstance(name, str) and len(name) <= 60 and _FIELD.fullmatch(name) is not None


def is_plain(name: str) -> bool:
    """Whether a key is a short word of ours, which cannot hold a credential."""
    return not isinstance(name, str) or _PLAIN.fullmatch(name) is not None
