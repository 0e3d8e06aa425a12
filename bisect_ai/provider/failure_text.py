"""A failure as one clean line: its class and message, without line breaks, control characters or credentials."""

from __future__ import annotations

import re

from bisect_ai.provider.redaction import REDACTED, keep_secret, redact, redact_all

__all__ = ["MAX_CHARS", "REDACTED", "describe", "keep_secret", "line_of", "redact", "redact_all"]

MAX_CHARS = 300  # a stored trial keeps it, so a provider that answers with a page must not fill the store
# The lines of a traceback inside a message, but for the last one, which says what happened; and litellm's guess that it has
# a bug.
_FRAMES = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t]+.*\n)*|\s*This looks like a bug in LiteLLM(?:.|\n)*")


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
