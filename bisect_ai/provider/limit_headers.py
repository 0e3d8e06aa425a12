"""What a provider says in its refusals and headers: how long to wait, what a refusal means, and what is left of its limits.

OpenAI's form (`x-ratelimit-remaining-tokens`, a reset like `6m0s`) and Anthropic's (`anthropic-ratelimit-tokens-remaining`, a
reset as a time). Both mean a bucket that fills steadily and is full at its reset; so what is missing, divided by the time until
then, is the rate at which requests may go on when it is empty. Headers that cannot be read, or contradict themselves, say nothing.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

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
# Timeout, conflict, too early: nothing was answered, and the same request may be sent again (RFC 9110, RFC 8470).
_TRANSIENT = frozenset({408, 409, 425})


def fate(status: int | None, text: str) -> Fate:
    """What to do after a refusal: stop the run, fail this call, hold the lane and go on, or try again.

    `status` None means that no response came. A success that could not be read is paid for, so it fails.
    """
    if status is None or status in _TRANSIENT or status >= 500:
        return "again"
    # Of every call that follows as well: the run ends.
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


_NAMES = {
    **{
        unit: tuple(f"x-ratelimit-{word}-{unit}" for word in ("limit", "remaining", "reset")) for unit in ("requests", "tokens")
    },
    **{
        f"anthropic {unit}": tuple(f"anthropic-ratelimit-{unit}-{word}" for word in ("limit", "remaining", "reset"))
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    },
}
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")  # durations as OpenAI writes them: 6m0s, 17ms, 1h2m3.5s
# Below it a difference is one of floats.
_CRUMB = 1e-6
# Times the tokens of a usual request that the next one may take.
_MORE = 1.5
# Share of the newest sample in what one request is taken to use.
_LEARN = 0.2
# Part of a limit left with which more at once will not soon meet it: a bucket that is used slower than it fills stays above.
ROOMY = 0.5


class ToldLimit(NamedTuple):
    """One limit as a response told it: `reset` is in seconds from then on, when all of `limit` will be there again."""

    limit: float
    left: float
    reset: float


def told_quotas(headers: Mapping[str, str]) -> dict[str, ToldLimit]:
    """What the headers of a response say, by the name of the limit. `headers` finds names in whatever case they were sent."""
    found = {}
    for name, (limit_name, left_name, reset_name) in _NAMES.items():
        limit, left = number_of(headers.get(limit_name)), number_of(headers.get(left_name))
        if limit is None or left is None:
            continue
        reset = _reset(headers.get(reset_name, ""), headers.get("date"))
        if reset is not None and limit > 0 and left <= limit:
            found[name] = ToldLimit(limit, left, reset)
    return found


def _reset(text: str, date: str | None) -> float | None:
    """Seconds until a reset: a number of them, a duration such as 1m30.5s, or a time."""
    text = text.strip()
    seconds = number_of(text)
    if seconds is not None:
        return seconds
    if text and not _PART.sub("", text):
        return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(then.timestamp() - clock_of(date), 0.0)


@dataclass
class RateQuota:
    """One limit as a bucket: filled at `rate` a second, told anew by each response that left later than the last one heard."""

    # What one request takes: 1, or the tokens that one has taken, which is learnt.
    each: float
    learns: bool
    limit: float = 0.0
    rate: float = 0.0
    _left: float = 0.0
    _at: float = 0.0
    _heard: tuple[int, float, float] | None = None

    def hear(self, told: ToldLimit, *, number: int, sent_at: float, sent: int, now: float) -> None:
        """`told` by the response to request `number` of `sent`: what left after that one is not counted in it."""
        if self._heard is not None and number <= self._heard[0]:
            return
        self.limit = told.limit
        if told.left < told.limit and told.reset > 0:
            self.rate = (told.limit - told.left) / told.reset
        if self.learns and self._heard is not None:
            self._learn(told, number, sent_at, self._heard)
        self._heard = number, sent_at, told.left
        self._left = min(told.left + self.rate * (now - sent_at), self.limit) - self.each * (sent - number)
        self._at = now

    def _learn(self, told: ToldLimit, number: int, sent_at: float, before: tuple[int, float, float]) -> None:
        used = (before[2] + self.rate * (sent_at - before[1]) - told.left) / (number - before[0])
        sample = min(max(used, 0.0), self.limit)
        self.each = sample if not self.each else (1 - _LEARN) * self.each + _LEARN * sample

    def take(self, now: float) -> None:
        """A request leaves."""
        self._left, self._at = self.left(now) - self.each, now

    def left(self, now: float) -> float:
        """What may be left, less what is under way."""
        return min(self._left + self.rate * (now - self._at), self.limit)

    def wait(self, now: float) -> float:
        """Seconds until there is room for one more request."""
        needed = min(self.each * (_MORE if self.learns else 1.0), self.limit)
        lacks = needed - self.left(now)
        return lacks / self.rate if lacks > _CRUMB and self.rate > 0 else 0.0


class Quotas:
    """The limits that one model's responses have told of."""

    def __init__(self) -> None:
        self._known: dict[str, RateQuota] = {}

    def hear(self, headers: Mapping[str, str], *, number: int, sent_at: float, sent: int, now: float) -> None:
        """The headers of the response to request `number`, which left at `sent_at`; `sent` requests have left so far."""
        for name, told in told_quotas(headers).items():
            tokens = name.endswith("tokens")
            quota = self._known.setdefault(name, RateQuota(each=0.0 if tokens else 1.0, learns=tokens))
            quota.hear(told, number=number, sent_at=sent_at, sent=sent, now=now)

    def take(self, now: float) -> None:
        """A request leaves."""
        for quota in self._known.values():
            quota.take(now)

    def wait(self, now: float) -> float:
        """Seconds until all limits have room for one more request."""
        return max((quota.wait(now) for quota in self._known.values()), default=0.0)

    def has_room(self, now: float) -> bool | None:
        """Whether enough of each limit is left for more requests at once; None: none was told."""
        return all(quota.left(now) >= ROOMY * quota.limit for quota in self._known.values()) if self._known else None
