"""The gate that text passes before it is stored or shown: whatever it holds, no credential is left in it.

Credentials are known by value and by shape. By value: what credential-like variables of the environment hold, passwords and tokens
inside the addresses, JSON and connection strings of all variables (`secret_values`), and what bisect.yaml names (`secrets:`), each as
it is and as it is encoded (`Forms`). By shape: what looks like the keys, tokens and private keys of a known service (`key_shapes`).

It is asked for each answer, so everything is prepared once and again only when the environment or the settings have changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisect_ai.errors import ConfigError
from bisect_ai.provider.redaction import key_shapes
from bisect_ai.provider.redaction.key_shapes import REDACTED, Forms, is_ordinary
from bisect_ai.provider.redaction.secret_values import is_field, is_plain, values_in

# Characters below which a value is taken for no credential: it would turn ordinary text into stars.
SHORTEST = 6
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


__all__ = ["REDACTED", "Secrets", "holds_key", "keep_secret", "obey", "ready", "redact", "redact_all", "secret_values"]


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
            self._known = known = taken, told, self.secrets, Forms.of(frozenset(values | self.told))
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
        key_shapes.maintained()


def holds_key(text: str) -> bool:
    """Whether something in `text` looks like a private key, or the key of a known service."""
    return _gate.secrets.shapes and key_shapes.is_key_like(text)
