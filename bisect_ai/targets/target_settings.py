"""What targets that call out share: settings checked, an answer with what it took, and whether anybody listens (known in seconds)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.errors import ConfigError, TargetFailure
from bisect_ai.provider.retry import MOST_ATTEMPTS, RequestTally
from bisect_ai.targets.answer import Answer


def check_known(settings: Mapping[str, Any], known: frozenset[str], kind: str) -> None:
    """Raises `ConfigError` for a setting that a kind of target does not have."""
    if unknown := sorted(set(settings) - known):
        raise ConfigError(f"cannot read target: {unknown[0]!r} is no setting of {kind}; it has {', '.join(sorted(known))}")


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
    usage, tokens, usd = answer.usage, tally.unsettled.tokens, round(tally.unsettled.usd, 9)
    if (usage.unsettled_tokens, usage.unsettled_usd) != (tokens, usd):  # seldom: nearly all calls are settled
        usage = replace(usage, unsettled_tokens=tokens, unsettled_usd=usd)
    return replace(
        answer,
        usage=usage,
        latency_s=max(seconds - tally.waited - tally.failing, 0.0),
        waited_s=round(tally.waited, 3),
        attempts=tally.requests,
        endpoint=tally.endpoint,
        faults=dict(sorted(tally.faults.items())) if tally.faults else {},
    )


_SECONDS = 3.0  # in which a host that is there takes a connection
_AGAIN_SECONDS = 0.5  # a server that restarts is asked a second time


def unreachable(url: str) -> str | None:
    """Why nobody answers at an address, within some seconds; None: somebody does, or it takes longer to say."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_SECONDS):
            return None
    except TimeoutError:
        return None
    except (OSError, UnicodeError) as failure:
        why = "connection refused" if isinstance(failure, ConnectionRefusedError) else str(failure) or type(failure).__name__
        return f"{why} at {parts.scheme}://{parts.netloc}: nobody can be asked there; start the service, or mend the address"


def address_in_environment(model: str, environment: Mapping[str, str]) -> str | None:
    """Where the environment says that a model's provider is; None: it does not, or a proxy leads there."""
    import urllib.request  # an HTTP client and a mail parser, loaded where an address is looked at

    head, slash, _ = model.partition("/")
    provider = head if slash else "anthropic" if model.startswith("claude") else "openai"
    names = (f"{provider.upper()}_{end}" for end in ("BASE_URL", "API_BASE"))
    url = next((environment[name] for name in names if environment.get(name)), None)
    parts = urlsplit(url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    is_led = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname)
    return None if is_led else url


class Doorbell:
    """Asks each address once, before the first request to it, whether anybody listens."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    async def ring(self, url: str) -> None:
        """Returns when somebody does, or did once. Raises `TargetFailure`: nobody does, now and half a second later."""
        if url in self._open:
            return
        for pause in (_AGAIN_SECONDS, 0.0):
            why = await asyncio.to_thread(unreachable, url)
            if why is None:
                self._open.add(url)
                return
            await asyncio.sleep(pause)
        raise TargetFailure(why)
