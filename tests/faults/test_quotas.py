"""Limits that a provider tells in its headers, on requests and on tokens: nobody sends what would be refused, and no room is left."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from bisect_ai.provider import rate_limit
from bisect_ai.provider.limit_headers import ToldLimit, told_quotas
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer
from tests.faults.provider import Provider, Request, Say
from tests.faults.test_limiter import VirtualLoop
from tests.faults.test_wire import NAMES, closing, made

_DATE = formatdate(1_000_000, usegmt=True)


def openai(unit: str, limit: object, left: object, reset: object) -> dict[str, str]:
    words = zip(("limit", "remaining", "reset"), (limit, left, reset), strict=True)
    return {f"x-ratelimit-{word}-{unit}": str(value) for word, value in words}


def anthropic(unit: str, limit: object, left: object, reset: object) -> dict[str, str]:
    words = zip(("limit", "remaining", "reset"), (limit, left, reset), strict=True)
    return {f"anthropic-ratelimit-{unit}-{word}": str(value) for word, value in words}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("17ms", 0.017),
        ("2m59.56s", 179.56),
        ("7.66", 7.66),
        ("0s", 0),
        ("1d", 86400),
    ],
)
def test_resets_are_durations_or_seconds(reset: str, seconds: float) -> None:
    assert told_quotas(openai("tokens", 60, 59, reset)) == {"tokens": ToldLimit(60, 59, pytest.approx(seconds))}


@pytest.mark.parametrize("unit", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_resets_are_times_by_the_clock_of_the_provider(unit: str) -> None:
    headers = {**anthropic(unit, 50, 20, at(1_000_012.5)), "date": _DATE}
    assert told_quotas(headers) == {f"anthropic {unit}": ToldLimit(50, 20, pytest.approx(12.5))}


@pytest.mark.parametrize(
    ("limit", "left", "reset"),
    [
        *[(value, 1, "1s") for value in ("", "many", "-5", "nan", "inf", "0")],
        *[(60, value, "1s") for value in ("", "-1", "61", "1e999", "nan")],
        *[(60, 1, value) for value in ("", "soon", "-3s", "1x", "∞", "9999-99-99T00:00:00Z")],
    ],
)
def test_what_makes_no_sense_says_nothing(limit: object, left: object, reset: object) -> None:
    assert told_quotas(openai("requests", limit, left, reset)) == {}


class Limited:
    """A provider with a bucket for requests and one for tokens, which it tells of when it lets a request in."""

    def __init__(self, requests: tuple[float, float], tokens: tuple[float, float]) -> None:
        self._size, self._rate = {"requests": requests[0], "tokens": tokens[0]}, {"requests": requests[1], "tokens": tokens[1]}
        self._left, self._at = dict(self._size), 0.0
        self.refused = 0

    def ask(self, now: float, tokens: float) -> Mapping[str, str] | None:
        """The headers; None: refused."""
        for unit, rate in self._rate.items():
            self._left[unit] = min(self._size[unit], self._left[unit] + (now - self._at) * rate)
        self._at, used = now, {"requests": 1.0, "tokens": tokens}
        if any(self._left[unit] < amount for unit, amount in used.items()):
            self.refused += 1
            return None
        headers: dict[str, str] = {}
        for unit, amount in used.items():
            self._left[unit] -= amount
            reset = (self._size[unit] - self._left[unit]) / self._rate[unit]
            headers |= openai(unit, int(self._size[unit]), int(self._left[unit]), f"{reset:.3f}s")
        return headers


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    virtual = VirtualLoop()
    monkeypatch.setattr(rate_limit, "monotonic", virtual.time)
    yield virtual
    virtual.close()


async def served(provider: Limited, needed: int, seed: int) -> float:
    loop, lane, rng = asyncio.get_running_loop(), rate_limit.RateLimiter(opens=0.0), random.Random(seed)
    began, queries = loop.time(), iter(range(needed))

    async def work() -> None:
        for _ in queries:
            while True:
                ticket = await lane.turn(loop.time() + 600)
                await asyncio.sleep(rng.uniform(0.02, 0.04))
                headers = provider.ask(loop.time(), rng.uniform(200, 600))
                await asyncio.sleep(rng.uniform(0.2, 1.0))
                if headers is not None:
                    lane.heard(headers, ticket)
                    break
                lane.limited(0.5, ticket)

    await asyncio.gather(*[work() for _ in range(32)])
    return loop.time() - began


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("requests", "tokens", "most"),
    [((60, 10), (1e9, 1e9), 10), ((1e6, 1e6), (20_000, 4_000), 10), ((60, 10), (20_000, 4_000), 10)],
)
def test_told_limits_are_used_up_and_not_passed(
    requests: tuple[float, float], tokens: tuple[float, float], most: float, seed: int, loop: VirtualLoop
) -> None:
    provider, needed = Limited(requests, tokens), 600
    seconds = loop.run_until_complete(served(provider, needed, seed))
    assert provider.refused <= 0.04 * needed
    assert needed / (most * seconds) >= 0.9


def test_an_empty_quota_holds_the_next_caller_back_and_a_far_reset_is_told_at_once(loop: VirtualLoop) -> None:
    async def waits(reset: str, until: float) -> float:
        lane = rate_limit.RateLimiter(opens=0.0)
        lane.heard(openai("requests", 1, 0, reset), await lane.turn(loop.time() + 1))
        began = loop.time()
        await lane.turn(began + until)
        return loop.time() - began

    assert loop.run_until_complete(waits("2s", 10)) == pytest.approx(2, abs=0.01)
    with pytest.raises(rate_limit.HeldBack, match="3600 s more; nothing was sent"):
        loop.run_until_complete(waits("1h0m0s", 10))


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_targets_heed_what_responses_tell(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-test")
    full, empty = (
        (openai("requests", 5, 5, "0s"), openai("requests", 5, 0, "1s"))
        if route == "openai"
        else (anthropic("input-tokens", 1000, 1000, at(1_000_000)), anthropic("input-tokens", 1000, 0, at(1_000_001)))
    )

    def say(request: Request) -> Say:
        return Say(headers={**(empty if request.number else full), "date": _DATE}, delay=0.05 * request.number)

    with Provider(say) as provider:
        answers = asked_in_turn(provider, route)
    assert [answer.outcome for answer in answers] == ["ok"] * 3
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(provider.requests)]
    # One of five requests a second; half as much again as the 1,000 tokens that one took is more than there can be: all of them.
    assert gaps[1] >= (0.15 if route == "openai" else 0.9)


def asked_in_turn(provider: Provider, route: str) -> list[Answer]:
    target = made(deadline=30)
    release = {"model": provider.model(route, NAMES[route]), "prompt": "Be kind."}

    async def all_of_them() -> list[Answer]:
        return [await target(Query({"id": str(n), "input": f"hello {n}"}), release, 0) for n in range(3)]

    return asyncio.run(closing(all_of_them()))
