"""A credential as it may be written: as it is, in JSON, HTML, an address, base64, hex; and text without any of these."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, quote_plus

from bisect_ai.provider.redaction.secret_values import is_random

REDACTED = "[redacted]"
_WORD = re.compile(r"[A-Za-z]{1,11}")
_LEAST = 6
_CUT = 16


@dataclass(frozen=True)
class Forms:
    """All forms of some values, longest first, so that no part of one is left behind; short words only where they stand alone."""

    anywhere: tuple[str, ...]
    alone: re.Pattern[str] | None

    @classmethod
    def of(cls, values: frozenset[str]) -> Forms:
        """The forms of these values."""
        return _forms(values)

    def hide(self, text: str) -> str:
        """`text` without them."""
        for form in self.anywhere:
            if form in text:
                text = text.replace(form, REDACTED)
        return text if self.alone is None else self.alone.sub(REDACTED, text)


@lru_cache(maxsize=8)
def _forms(values: frozenset[str]) -> Forms:
    words = sorted((value for value in values if _WORD.fullmatch(value)), key=lambda word: (-len(word), word))
    forms = {form for value in values for form in _encoded_forms(value) if len(form) >= _LEAST} - set(words)
    # Not inside a longer word, though an escaped character may end right before it.
    alone = rf"(?:(?<![A-Za-z])|(?<=%[0-9A-Fa-f]{{2}})|(?<=\\[nrt]))(?:{'|'.join(words)})(?![A-Za-z])" if words else None
    ordered = tuple(sorted(forms, key=lambda form: (-len(form), form)))
    return Forms(ordered, None if alone is None else re.compile(alone))


def _encoded_forms(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield from _cut_ends(value)
    yield from _in_addresses(value)
    once = json.dumps(value)[1:-1]
    yield from (once, json.dumps(once)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], once.replace("/", "\\/"))
    yield from (repr(value)[1:-1], html.escape(value), html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"))
    yield from (raw.hex(), raw.hex().upper())
    for encoded in (*_in_base64(raw, base64.b64encode), *_in_base64(raw, base64.urlsafe_b64encode)):
        yield from (encoded, quote(encoded, safe=""), encoded.replace("/", "\\/"))


def _cut_ends(value: str) -> Iterator[str]:
    """The beginning and the end of a long value: what is left of it where a text was cut. Not of an address, nor of words."""
    for part in (value[:_CUT], value[-_CUT:]):
        if len(value) > _CUT and "://" not in value and is_random(part):
            yield part


def _in_addresses(value: str) -> Iterator[str]:
    text = value.encode("utf-8", "surrogateescape")
    for written in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield written
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), written)
        yield quote(written, safe="")


def _in_base64(raw: bytes, encode: object) -> Iterator[str]:
    """The characters that stand for the value wherever it begins inside what was encoded (`user:password`, JSON)."""
    assert callable(encode)
    for before in range(3):
        text = encode(b"\0" * before + raw).decode("ascii")
        yield text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
