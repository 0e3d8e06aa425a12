"""What targets that call out share: settings checked, and an answer with what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bisect_ai.errors import ConfigError
from bisect_ai.provider.retry import MOST_ATTEMPTS, RequestTally
from bisect_ai.targets.answer import Answer


def attempts_of(settings: Mapping[str, Any]) -> int:
    """`target.attempts`, checked."""
    attempts = positive(settings, "attempts", MOST_ATTEMPTS)
    if attempts != int(attempts) or attempts > MOST_ATTEMPTS:
        raise ConfigError(f"cannot read target.attempts: {attempts!r} is not a whole number from 1 to {MOST_ATTEMPTS}")
    return int(attempts)


def positive(settings: Mapping[str, Any], name: str, default: float) -> float:
    """A setting of the target that must be a number above 0. Raises `ConfigError`."""
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"cannot read target.{name}: {value!r} is not a number above 0")
    return value


def with_tally(answer: Answer, tally: RequestTally, seconds: float) -> Answer:
    """The answer with what `tally` counted over the `seconds` that it took."""
    usage = replace(answer.usage, unsettled_tokens=tally.unsettled.tokens, unsettled_usd=round(tally.unsettled.usd, 9))
    return replace(
        answer,
        usage=usage,
        latency_s=max(seconds - tally.waited - tally.failing, 0.0),
        waited_s=round(tally.waited, 3),
        attempts=tally.requests,
        endpoint=tally.endpoint,
        faults=dict(sorted(tally.faults.items())),
    )
