"""What bisect.yaml says of credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bisect_ai.errors import ConfigError

SHORTEST = 6
"""Characters below which a value is taken for no credential: it would turn ordinary text into stars."""
MAX_BYTES = 1 << 20
_ASSIGNED = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*(['\"]?)(.+)\1")


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
