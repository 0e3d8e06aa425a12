"""How long a provider asks to wait, and what its refusals mean."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

Fate = Literal["stop", "fail", "limited", "again"]

_MONEY = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "enforced_spend_limit_reached",
    "credit balance is too low",
    "exceeded your current quota",
    "insufficient_credits",
    "requires more credits",
)
_TRANSIENT = frozenset({408, 409, 425})


def fate(status: int | None, text: str) -> Fate:
    """What to do after a refusal: stop the run, fail this call, hold the lane and go on, or try again.

    `status` None means that no response came. A success that could not be read is paid for, so it fails.
    """
    if status is None or status in _TRANSIENT or status >= 500:
        return "again"
    if status in (401, 402, 403) or (status in (400, 429) and money_is_gone(text)):
        return "stop"
    return "limited" if status == 429 else "fail"


def money_is_gone(text: str) -> bool:
    """Whether an error says that the account is out of money rather than out of breath."""
    low = text.lower()
    return any(sign in low for sign in _MONEY)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` or `retry-after-ms` asks for, or None when it is absent or cannot be read."""
    lower = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    milliseconds = number_of(lower.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = lower.get("retry-after")
    seconds = number_of(asked)
    return seconds if seconds is not None or asked is None else _until(asked, lower.get("date"))


def number_of(text: str | None) -> float | None:
    """A finite number of at least 0, or None."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(date: str, sent: str | None) -> float | None:
    """Seconds until an HTTP date."""
    try:
        then = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, then - clock_of(sent))


def clock_of(sent: str | None) -> float:
    """Seconds since 1970 by the provider's clock, when its `Date` header can be read; else by ours."""
    try:
        return parsedate_to_datetime(sent).timestamp() if sent else time.time()
    except (ValueError, TypeError, OverflowError):
        return time.time()
