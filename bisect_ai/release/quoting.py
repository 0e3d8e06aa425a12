"""Small pieces of messages: text from a file made safe to quote, near misses, one-line excerpts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bisect_ai.provider.redaction import redact, redact_all

LONGEST = 80  # characters of a name in an error
LONGEST_PATH = 240  # of a path, which is of no use when it is cut


def shown(value: object) -> str:
    """`value` quoted on one line, control characters escaped, cut when long (a path at its front): fit for any message."""
    text = repr(redact(str(value)))
    if isinstance(value, Path):
        return text if len(text) <= LONGEST_PATH else f"{text[0]}…{text[-LONGEST_PATH:]}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…{text[-1]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'axes'?` when a known word is near, else the list of known words."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {shown(near[0])}?" if near else f"; known here: {', '.join(words)}"


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
