"""How many answers are under way at once where the user sets no number: 32, and more while the provider's headers leave room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.provider.rate_limit import MOST_GROWTH, STARTING_CONCURRENCY, Headroom
from bisect_ai.queries.query import Query
from bisect_ai.replay.engine import Engine
from bisect_ai.replay.executors import local_hands
from bisect_ai.replay.trial_jobs import Done, Job
from bisect_ai.runs.prepare import build_target
from tests.faults.provider import Provider, Request, Say
from tests.faults.test_quotas import anthropic, openai

SECONDS = 0.4
"""Of one answer."""
MOST = int(STARTING_CONCURRENCY * MOST_GROWTH)
KINDS = ("openai", "anthropic", "http")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-of-nobody")


def say(headers: dict[str, str] | None = None, status: int = 200) -> Say:
    return Say(status, delay=SECONDS, headers=headers or {})


def most_at_once(requests: list[Request], since: float = 0.0) -> int:
    """The most requests that came in within one answer's time."""
    times = [request.at for request in requests if request.at >= since]
    return max(sum(0 <= at - other < SECONDS for other in times) for at in times)


def replay(provider: Provider, kind: str, trials: int, **how: Any) -> list[Done]:
    """The outcomes of a target at `provider`, built and run as the settings say."""
    release = {"model": provider.model(kind) if kind != "http" else "m", "prompt": "Be kind."}
    settings: dict[str, Any] = {"kind": "http", "url": f"{provider.host}/x"} if kind == "http" else {"kind": "litellm"}
    settings |= how.pop("settings", {})
    target = build_target(settings, folder=Path(), good=release, bad=release, **how)[0]
    jobs = [Job(i, Query({"id": str(i), "input": f"{i}?"}), release, 0) for i in range(trials)]
    with Engine(local_hands(target, target.concurrency), concurrency=target.concurrency, commit=lambda _: None) as engine:
        return engine.run(jobs)


def served(kind: str, script: Callable[[Request], Say], trials: int = 400, **how: Any) -> list[Request]:
    """What a provider gets of a replay in which every answer comes in."""
    with Provider(script) as provider:
        done = replay(provider, kind, trials, **how)
    assert {d.answer.outcome for d in done} == {"ok"}
    return provider.requests


def body_for(kind: str, told: Say) -> Say:
    return Say(told.status, delay=told.delay, headers=told.headers, body={"text": "Hello."}) if kind == "http" else told


ROOMY = {
    "openai": openai("requests", 10_000, 9_900, "0.6s") | openai("tokens", 2_000_000, 1_990_000, "1s"),
    "anthropic": anthropic("requests", 10_000, 9_900, "2999-01-01T00:00:00Z")
    | anthropic("input-tokens", 9_000_000, 8_999_000, "1s"),
    "http": openai("requests", 1_000, 900, "6s"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_word_of_limits_it_stays_where_it_starts(kind: str) -> None:
    requests = served(kind, lambda _: body_for(kind, say()), 100)
    assert 0.75 * STARTING_CONCURRENCY <= most_at_once(requests) <= STARTING_CONCURRENCY


@pytest.mark.parametrize("kind", KINDS)
def test_it_rises_while_the_headers_leave_room(kind: str) -> None:
    requests = served(kind, lambda _: body_for(kind, say(ROOMY[kind])))
    assert 1.5 * STARTING_CONCURRENCY <= most_at_once(requests) <= MOST


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_of_the_users_stays(kind: str) -> None:
    for how in ({"concurrency": 6}, {"settings": {"concurrency": 6}}):
        assert most_at_once(served(kind, lambda _: body_for(kind, say(ROOMY[kind])), 40, **how)) <= 6


@pytest.mark.parametrize(
    "told",
    [
        openai("requests", 1000, 450, "60s"),
        ROOMY["openai"] | openai("tokens", 2_000_000, 900_000, "60s"),
        openai("requests", 1000, "many", "1s"),
    ],
)
def test_limits_that_are_half_used_or_cannot_be_read_leave_it(told: dict[str, str]) -> None:
    assert most_at_once(served("openai", lambda _: say(told), 100)) <= STARTING_CONCURRENCY


def test_what_is_under_way_counts_as_used() -> None:
    """Of 60 a minute 59 are left when the first response leaves; but thirty more requests are on their way by then."""

    def script(request: Request) -> Say:
        return say(openai("requests", 60, 59 - request.number, f"{request.number + 1}s"))

    assert most_at_once(served("openai", script, 56)) <= STARTING_CONCURRENCY


def test_a_refusal_lowers_it() -> None:
    refused, after = 200, 480  # what had its turn before it leaves yet

    def script(request: Request) -> Say:
        return say(ROOMY["openai"] | {"retry-after": "0.1"}, 429) if request.number == refused else say(ROOMY["openai"])

    requests = served("openai", script, 600)
    assert most_at_once(requests[:refused]) >= 1.5 * STARTING_CONCURRENCY
    assert most_at_once(requests[after:]) <= STARTING_CONCURRENCY


def test_it_does_not_come_again_to_where_it_was_refused() -> None:
    room = Headroom()
    for _ in range(64):
        room.rise()
    assert room.growth == 3.0
    room.fall()
    assert room.growth == 1.0
    for _ in range(1000):
        room.rise()
    assert 2.5 < room.growth < 3.0
