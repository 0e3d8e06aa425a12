"""The gate that text passes before it is stored or shown: whatever it holds, no credential is left in it.

Credentials are known by value and by shape. By value: what credential-like variables of the environment hold, passwords and tokens
inside the addresses, JSON and connection strings of all variables (`values_in`), and what bisect.yaml names (`secrets:`), each as
it is and as it is encoded (`Forms`). By shape: what looks like the keys, tokens and private keys of a known service (`key_shapes`).
A variable's name says by its words, wherever in it they stand, that it holds a credential. Words that everybody uses are never hidden.

`describe` and `line_of` make one clean line of a failure; `shown`, `excerpt` and `turn` quote a value on one line. The gate is
asked for each answer, so everything is prepared once and again only when the environment or the settings have changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bisect_ai.canonical import digest, json_or
from bisect_ai.errors import ConfigError, nearest
from bisect_ai.provider.redaction import key_shapes
from bisect_ai.provider.redaction.key_shapes import LETTERS, RANDOM, REDACTED, SHORTEST, Forms, forms_of, is_ordinary, is_random

__all__ = [
    "MAX_CHARS",
    "REDACTED",
    "Secrets",
    "clear_id",
    "describe",
    "did_you_mean",
    "excerpt",
    "holds_key",
    "keep_secret",
    "line_of",
    "obey",
    "ready",
    "redact",
    "redact_all",
    "secret_values",
    "shown",
    "turn",
]

MAX_CHARS = 300  # a stored trial keeps it, so a provider that answers with a page must not fill the store
# The lines of a traceback inside a message, but for the last one, which says what happened; and litellm's guess that it has a bug.
_FRAMES = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t]+.*\n)*|\s*This looks like a bug in LiteLLM(?:.|\n)*")

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
# Characters of a credential in an address, the fewest.
_LONG = 8
_PAIR = re.compile(r"([A-Za-z][\w .-]{0,40})=([^;&\s]+)")  # parts of a connection string: Server=…;Password=…

MAX_BYTES = 1 << 20  # a file of secrets is short: a larger one was named by mistake
_ASSIGNED = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*(['\"]?)(.+)\1")  # a line of an .env file, quoted or not


@dataclass(frozen=True)
class Secrets:
    """`env`: variables whose values are hidden, whatever they are called; `ignore`: variables whose values may show.

    `values`: further values; `shapes`: whether what looks like a known service's key is hidden too.
    """

    env: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    shapes: bool = True


def values_of(path: Path) -> frozenset[str]:
    """The values that a file holds, one a line, or as `NAME=value` (an .env file). Raises `ConfigError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"cannot read secrets.values_from {path}: it is larger than {MAX_BYTES >> 20} MiB")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read secrets.values_from {path}: {why}; it holds one value a line") from None
    found = set[str]()
    for line in filter(None, map(str.strip, lines)):
        assigned = _ASSIGNED.fullmatch(line)
        found |= {line} if assigned is None else {line, assigned[2]}
    return frozenset(value for value in found if len(value) >= SHORTEST)


class _Gate:
    """What must not show, as it stands now."""

    def __init__(self) -> None:
        self.secrets = Secrets()
        self.told: set[str] = set()
        self._known: tuple[dict[Any, Any], int, Secrets, Forms] | None = None

    def forms(self) -> Forms:
        environment, told = vars(os.environ).get("_data", os.environ), len(self.told)
        known = self._known
        if known is None or known[0] != environment or known[1] != told or known[2] is not self.secrets:
            taken = dict(environment)
            values = {value for found in self.values(taken).values() for value in found}
            self._known = known = taken, told, self.secrets, forms_of(frozenset(values | self.told))
        return known[3]

    def values(self, environment: Mapping[Any, Any]) -> dict[str, frozenset[str]]:
        """The credentials that each variable of the environment, and what the user named, holds."""
        read = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
        named, left = self.secrets.env, self.secrets.ignore
        found = {name: {value} if name in named else values_in(name, value) for name, value in read.items() if name not in left}
        told = {
            f"the environment variable {name}": frozenset(v for v in some if len(v) >= SHORTEST) for name, some in found.items()
        }
        return {**told, "the file of secrets.values_from": frozenset(self.secrets.values)}


_gate = _Gate()


def redact(text: str) -> str:
    """`text` without credentials, each replaced by `[redacted]`."""
    clear = _gate.forms().hide(text)
    return key_shapes.hide(clear) if _gate.secrets.shapes else clear


def redact_all(value: Any) -> Any:
    """Plain JSON with `redact` applied to all texts and keys, and without the values of keys such as `password`."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, int | float):  # a vector has thousands: to ask whether each is a mapping takes long
        return value
    if isinstance(value, Mapping):
        return {_safe_key(key): REDACTED if _tells_secret(key, each) else redact_all(each) for key, each in value.items()}
    return [redact_all(each) for each in value] if isinstance(value, list | tuple) else value


def _safe_key(key: str) -> str:
    return key if is_plain(key) else redact(key)


def _tells_secret(key: str, value: Any) -> bool:
    """Whether a key says that its value is a credential, and the value could be one."""
    if not isinstance(value, str) or len(value) < SHORTEST or not is_field(key) or not _gate.secrets.shapes:
        return False
    return not is_ordinary(value) and (" " not in value.strip() or value.lower().startswith(("bearer ", "basic ")))


def keep_secret(value: str) -> None:
    """From now on this value is hidden too."""
    if len(value) >= SHORTEST and not is_ordinary(value):
        _gate.told.add(value)


def obey(secrets: Secrets) -> None:
    """From now on what `secrets:` of bisect.yaml says holds, for all that this process does."""
    if secrets != _gate.secrets:
        _gate.secrets = secrets


def secret_values() -> dict[str, frozenset[str]]:
    """Where credentials were found, in words, and the credentials."""
    return {where: values for where, values in _gate.values(vars(os.environ).get("_data", os.environ)).items() if values}


def ready() -> None:
    """Import what the gate needs, now: later it would hold up the answers under way."""
    if _gate.secrets.shapes:
        key_shapes.any_maintained()


def holds_key(text: str) -> bool:
    """Whether something in `text` looks like a private key, or the key of a known service."""
    return _gate.secrets.shapes and key_shapes.is_key_like(text)


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


def clear_id(name: str) -> str:
    """A query's id as it may be stored and shown: where it holds a credential, without it, and still its own."""
    clear = redact(name)
    return name if clear == name else f"{clear} {digest(name)[:8]}"


def describe(error: BaseException) -> str:
    """`<class>: <message>` on one line of at most 300 characters after the class, credentials redacted; whatever the error is."""
    return f"{type(error).__name__}: {line_of(error)}".rstrip(": ")


def line_of(error: BaseException | str) -> str:
    """The message alone, on one line, credentials redacted, at most 300 characters."""
    text = _FRAMES.sub("", redact(_error_text(error)))
    clean = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(clean.split())[:MAX_CHARS]


def _error_text(error: BaseException | str) -> str:
    """What an error says; one of the user's own may fail even in that."""
    try:
        return str.__str__(str(error))
    except BaseException as worse:  # it may exit as well
        return f"its message cannot be read: its __str__ raises {type(worse).__name__}"


LONGEST = 80  # characters of a name in an error
LONGEST_PATH = 240  # of a path, which is of no use when it is cut


def shown(value: object) -> str:
    """`value` quoted on one line, control characters escaped, cut when long (a path at its front): fit for any message."""
    text = repr(redact(str(value)))
    if isinstance(value, Path):
        return text if len(text) <= LONGEST_PATH else f"{text[0]}…{text[-LONGEST_PATH:]}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…{text[-1]}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None, *, cutoff: float = 0.6) -> str:
    """`; did you mean 'axes'?` when a known word is near (`cutoff`: how near), else `otherwise`, else the known words."""
    words = list(known)
    if near := nearest(word, words, cutoff=cutoff):
        return f"; did you mean {shown(near)}?"
    return f"; known here: {', '.join(words)}" if otherwise is None else otherwise


def excerpt(value: Any, *, start: int = 0, width: int = 60) -> str:
    """One line of `value` from character `start` on, quoted when it is text."""
    return _quoted_excerpt(redact_all(value), start=start, width=width)  # before it is cut: half a key does not look like one


def _quoted_excerpt(value: Any, *, start: int, width: int = 60) -> str:
    if not isinstance(value, str):
        line = json.dumps(value, ensure_ascii=False)
        return line if len(line) <= width else f"{line[: width - 1]}…"
    begin = max(0, start - width // 3) if len(value) > width else 0
    line = " ".join(value[begin : begin + 4 * width].split())
    cut = f"{line[: width - 1]}…" if len(line) > width else line
    return f"“{'…' if begin else ''}{cut}”"


def turn(before: Any, after: Any) -> str:
    """`before → after` on one line, both cut around their first difference."""
    before, after = redact_all(before), redact_all(after)
    start = _first_difference(before, after) if isinstance(before, str) and isinstance(after, str) else 0
    return f"{_quoted_excerpt(before, start=start)} → {_quoted_excerpt(after, start=start)}"


def _first_difference(before: str, after: str) -> int:
    length = min(len(before), len(after))
    return next((i for i in range(length) if before[i] != after[i]), length)
