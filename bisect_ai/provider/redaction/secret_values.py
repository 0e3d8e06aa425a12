"""Which names say that what they hold is a credential, and what of a variable's value it is.

A name says so by its words, wherever in the name they stand. Of a value it is all, or a part of the address, JSON or list. Words that
everybody uses are never hidden (`key_shapes.is_ordinary`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bisect_ai.canonical import json_or
from bisect_ai.provider.redaction.key_shapes import LETTERS, RANDOM, SHORTEST, is_ordinary, is_random

Strength = Literal["sure", "perhaps", "none"]

# Words of a name that say what it holds.
_WORDS = re.compile(
    r"(?:KEY|TOKEN|SECRET|PASS|PWD|PAT|BEARER|SK|CREDENTIAL|WEBHOOK|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|AUTH|AUTHORIZATION|COOKIE|DSN"
    r"|CRED|PW|JWT|PSK|HMAC)S?"
)
# The same inside of longer words: MYSECRETVALUE, but not TOKENIZER.
_INSIDE = re.compile(r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|BEARER|APIKEY|ACCESSKEY|TOKEN(?!I[SZ])|AUTHORI[SZ]ATION")
# Two words written as one, the first of them that of a service, an account or a use: DBPASS, but not BYPASS.
_GLUED = re.compile(
    r"(?:PG|DB|SQL|POSTGRES|MONGO|REDIS|FTP|SMTP|IMAP|LDAP|MAIL|SSH|ROOT|ADMIN|USER|SERVICE|GIT(?:HUB|LAB)|AZURE|AWS|GCP|OPENAI|CLAUDE"
    r"|ANTHROPIC|GEMINI|MISTRAL|STRIPE|SLACK|SIGNING|ENCRYPTION|MASTER|PRIVATE|PRIV|HMAC|SAS|AUTH|DEPLOY|ACCOUNT)(?:KEY|PASS|PWD|PW|PAT|SK)S?$"
    r"|(?<!OLD)\BPWDS?$"
)
# Last words of names of what is about a credential and hardly one itself.
_ABOUT = re.compile(
    r"NAME|USER|USERNAME|TYPE|MODE|KIND|UR[LI]|HOST|REGION|PATH|FILE|DIR|BACKEND|PROVIDER|LIMIT|COUNT|LENGTH|VERSION|ENDPOINT|TTL|ALGORITHM"
    r"|PREFIX|HEADER|FORMAT|METHOD|DOMAIN|ISSUER"
)
_ENDING = re.compile(r"\w(?:KEY|PASS|PWD|PAT|SK)S?$")  # the same glued to the end of a name: OPENAIKEY
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")  # words of camelCase, snake_case and capitals
# Fields of JSON that hold a credential.
_FIELD = re.compile(
    r"(?:[a-z]+[-_.]?){0,3}(?:api[-_]?key|passw(?:or)?d|passphrase|secret|secret[-_]?(?:access[-_]?)?key|(?:access|auth|refresh|bearer|id)[-_]?"
    r"token|private[-_]?key|access[-_]?key|webhook[-_]?url)|authorization|(?:set-)?cookie",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[a-z_]{1,20}")  # a word in small letters is a kind or a name


@lru_cache(maxsize=4096)
def strength(name: str) -> Strength:
    """Whether a variable of this name holds a credential: for sure, perhaps (the value decides), or not."""
    parts = [part.upper() for part in _PART.findall(name)]
    if parts and _ABOUT.fullmatch(parts[-1]):
        return "perhaps" if any(map(_WORDS.fullmatch, parts)) or _INSIDE.search(name.upper()) else "none"
    if any(map(_WORDS.fullmatch, parts)) or _INSIDE.search(name.upper()) or any(map(_GLUED.search, parts)):
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


# Characters of a credential in an address, the fewest.
_LONG = 8
_PAIR = re.compile(r"([A-Za-z][\w .-]{0,40})=([^;&\s]+)")  # parts of a connection string: Server=…;Password=…


def values_in(name: str, value: str) -> set[str]:
    """The credentials in the value of a variable."""
    if len(value) < SHORTEST:
        return set()
    sure, text = strength(name), value.strip()
    found = {part for part in _credentials_inside(text) if not is_ordinary(part)}
    address = _address(text)
    if address is not None:
        if is_webhook(name):
            return found | _whole_address(text, address)
        return found | (
            {part for part in address.path.split("/") if is_random(part, shortest=LETTERS)} if sure == "sure" else set()
        )
    if sure == "none" or is_ordinary(text) or (sure == "perhaps" and not is_random(text)):
        return found
    first, _, rest = text.partition(" ")
    schemed = {rest.strip()} if first.lower().rstrip(":") in ("bearer", "basic", "token") and len(rest) >= SHORTEST else set()
    lines = {line.strip() for line in text.splitlines() if len(line.strip()) >= RANDOM and "-----" not in line}
    listed = {part for part in re.split(r"[\s,;:|]+", text) if is_random(part)}
    return found | {value, text} | schemed | lines | listed


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
    return {text, *parts} | ({path} if len(path) >= RANDOM else set())


def _credentials_inside(text: str) -> Iterator[str]:
    """Credentials in the addresses, JSON or pairs of any variable, credential-like or not."""
    address = _address(text)
    if address is not None:
        yield from _in_address(address)
    elif text[:1] in "{[" and text[-1:] in "}]":
        yield from _in_json(json_or(None, text), "")
    elif "=" in text:
        for field, value in _PAIR.findall(text):
            if len(value) >= SHORTEST and strength(field.replace(" ", "")) == "sure":
                yield value


def _in_address(address: SplitResult) -> Iterator[str]:
    user, colon, password = address.netloc.rpartition("@")[0].partition(":")
    told = [password] if colon else [user] if is_random(user, shortest=_LONG) else []
    told += [
        value for field, value in parse_qsl(address.query) if strength(field) == "sure" or field.lower() in ("sig", "signature")
    ]
    for value in told:
        if len(value) >= SHORTEST:
            yield from (value, unquote(value))


def _in_json(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _in_json(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _in_json(inner, field)
    elif isinstance(value, str) and len(value) >= SHORTEST:
        address = _address(value)
        if address is not None:
            yield from _in_address(address)
            if "hook" in field.lower():
                yield from _whole_address(value, address)
        elif is_field(field) or strength(field) == "sure":
            yield value
            yield from (line.strip() for line in value.splitlines() if len(line) >= RANDOM and "-----" not in line)
