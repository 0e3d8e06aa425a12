"""The retry loop against a provider that misbehaves: what leaves is what is counted, and nothing leaves too early."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from bisect_ai.errors import ConfigError, TargetFailure
from bisect_ai.provider import limit_headers, rate_limit, retry
from bisect_ai.provider.budget import NO_CAPS, Caps
from bisect_ai.provider.completion import Completions
from bisect_ai.provider.litellm_calls import load_litellm
from bisect_ai.provider.transport import close_connections
from bisect_ai.queries.query import Query
from bisect_ai.replay.engine import Engine
from bisect_ai.replay.executors import local_hands
from bisect_ai.replay.trial_jobs import Job
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.litellm_target import LitellmTarget
from tests.faults.provider import Provider, Request, Say, calls_tool

R = TypeVar("R")
CANARY = "sk-canary/0123456789"
ROUTES = ("openai", "anthropic", "mistral")
NAMES = {"openai": "gpt-4o", "anthropic": "claude-3-5-sonnet-20241022", "mistral": "mistral-small-latest"}
OK = Say()
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """litellm imports and builds much for the first request of each route: no deadline of a test is for that."""
    with pytest.MonkeyPatch.context() as environment, Provider([OK]) as provider:
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
            environment.setenv(name, CANARY)
        for route in ROUTES:
            ask(provider, route, timeout=60, deadline=60)


def made(*, per_trial: Caps = NO_CAPS, **settings: Any) -> LitellmTarget:
    return LitellmTarget({"timeout": 5, "deadline": 10, **settings}, folder=Path(), per_trial=per_trial)


def ask(provider: Provider, route: str = "openai", *, times: int = 1, **settings: Any) -> list[Answer]:
    """Answers to `times` queries at once, by one target."""
    target = made(**settings)

    async def all_of_them() -> list[Answer]:
        release = {"model": provider.model(route, NAMES[route]), "prompt": "Be kind."}
        return await asyncio.gather(*[target(Query({"id": str(n), "input": f"hello {n}"}), release, 0) for n in range(times)])

    return asyncio.run(closing(all_of_them()))


async def closing(work: Awaitable[R]) -> R:
    """What `work` gives, its connections closed: a socket that is collected later fails whatever test runs then."""
    try:
        return await work
    finally:
        await close_connections()


@pytest.mark.parametrize("route", ROUTES)
def test_what_a_limit_holds_back_on_its_way_out_is_no_attempt(route: str) -> None:
    """All twenty have had their turn when the first is refused: who has not left by then leaves no more, and is told why."""
    with Provider([Say(429, headers={"retry-after": "1e6"})]) as provider:
        answers = ask(provider, route, times=20)
    assert sum(answer.attempts for answer in answers) == len(provider.requests)
    for answer in answers:
        assert answer.outcome == "error" and answer.faults.get("429", 0) == answer.attempts <= 1, answer
        assert "asks to wait" in (answer.error or "") and "nothing was sent" in (answer.error or ""), answer
        assert ("(after 1 attempt; " in (answer.error or "")) == (answer.attempts == 1), answer  # with what it was refused for


def test_litellm_logs_none_of_our_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loggers run after each call, callbacks or not, unless it is told that somebody else keeps the books."""
    load_litellm()
    from litellm.litellm_core_utils.litellm_logging import Logging

    logged: list[object] = []
    monkeypatch.setattr(Logging, "handle_sync_success_callbacks_for_async_calls", lambda *_, **given: logged.append(given))
    with Provider([OK]) as provider:
        assert ask(provider, times=2)[0].outcome == "ok"
    assert not logged


@pytest.mark.parametrize("route", ["openai", "scripted"])
def test_a_request_that_nobody_waits_for_when_it_is_ready_is_dropped_in_silence(
    route: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """litellm prepares it in a thread, as a coroutine that its caller awaits, who may have been stopped meanwhile."""
    litellm = load_litellm()
    handler = litellm.CustomLLM() if route == "scripted" else litellm.main.openai_chat_completions
    make, begun, stopped, ready = handler.acompletion, threading.Event(), threading.Event(), threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        begun.set()
        stopped.wait(10)
        ready.set()
        return make(*given, **named)

    async def stop(provider: Provider) -> None:
        model = "scripted/one" if route == "scripted" else provider.model(route, NAMES[route])
        call = asyncio.ensure_future(target(Query({"id": "q", "input": "?"}), {"model": model, "prompt": ""}, 0))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
        stopped.set()

    monkeypatch.setattr(handler, "acompletion", slowly)
    monkeypatch.setattr(Completions, "_plain_route", lambda *_: None)
    target = made(timeout=30, deadline=30, custom_providers={"scripted": handler} if route == "scripted" else {})
    with Provider([OK]) as provider:
        asyncio.run(closing(stop(provider)))
        assert ready.is_set() and not provider.requests
    gc.collect()
    assert [str(each.message) for each in recwarn] == []


def after(**headers: str) -> Say:
    return Say(429, headers={name.replace("_", "-"): value for name, value in headers.items()})


# name -> the script, requests, the outcome
MATRIX: dict[str, tuple[Callable[[], list[Say]], int, str]] = {
    "ok": (lambda: [OK], 1, "ok"),
    "429": (lambda: [Say(429), OK], 2, "ok"),
    "retry-after": (lambda: [after(retry_after="0.1"), OK], 2, "ok"),
    "retry-after-ms": (lambda: [after(retry_after_ms="100"), OK], 2, "ok"),
    "retry-after-date": (
        lambda: [after(retry_after=formatdate(10, usegmt=True), date=formatdate(9.5, usegmt=True)), OK],
        2,
        "ok",
    ),
    "retry-after-0": (lambda: [after(retry_after="0"), OK], 2, "ok"),
    "retry-after-junk": (lambda: [after(retry_after="soon"), OK], 2, "ok"),
    "retry-after-negative": (lambda: [after(retry_after="-5"), OK], 2, "ok"),
    "retry-after-1e9": (lambda: [after(retry_after="1e9"), OK], 1, "error"),
    **{str(n): ((lambda n=n: [Say(n), OK]), 2, "ok") for n in (500, 502, 503, 529)},  # type: ignore[misc]
    **{str(n): ((lambda n=n: [Say(n)]), 1, "failed") for n in (400, 404, 422)},  # type: ignore[misc]
    "500 for ever": (lambda: [Say(500)], 6, "error"),
    "reset": (lambda: [Say(mode="reset"), OK], 2, "ok"),
    "reset for ever": (lambda: [Say(mode="reset")], 6, "error"),
    "half body": (lambda: [Say(mode="half"), OK], 2, "ok"),
    "hang": (lambda: [Say(mode="hang"), OK], 2, "ok"),
    "drip": (lambda: [Say(mode="drip", delay=0.05), OK], 2, "ok"),
    "endless body": (lambda: [Say(mode="endless")], 1, "unknown"),
    "compressed body": (lambda: [Say(headers={"content-encoding": "gzip"}, body=b"\x1f\x8b")], 1, "unknown"),
    "no JSON": (lambda: [Say(body=b"<html>")], 1, "malformed"),
    "302": (lambda: [Say(302, headers={"location": "/v1/elsewhere"})], 1, "error"),
    "307": (lambda: [Say(307, headers={"location": "/v1/elsewhere"})], 1, "error"),
    "slow": (lambda: [Say(delay=0.05, jitter=0.05)], 1, "ok"),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", MATRIX)
def test_attempts_are_the_requests_that_the_provider_got(name: str, route: str) -> None:
    script, requests, outcome = MATRIX[name]
    with Provider(script()) as provider:
        (answer,) = ask(provider, route, timeout=1.5 if name in ("hang", "drip") else 5)
    assert (answer.attempts, len(provider.requests)) == (requests, requests)
    got = (answer.outcome, answer.error or answer.reason)
    assert got[0] == outcome and (got[1] is None) == (outcome == "ok"), got
    failed = sum(n for kind, n in answer.faults.items() if kind != "held back")
    assert failed == requests - (outcome == "ok"), answer.faults
    assert "canary" not in str(answer) and answer.text == ("Hello." if outcome == "ok" else "")


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_listening_any_more_is_no_request(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody did when the run began (who never did is said at once, see test_preflight)."""

    async def answered(*_: object) -> None:
        return

    monkeypatch.setattr("bisect_ai.targets.target.Doorbell.ring", answered)
    with Provider([OK]) as provider:
        pass
    (answer,) = ask(provider, route, attempts=2)
    assert answer.error is not None and "after 2 attempts" in answer.error and answer.attempts == 0


@pytest.mark.parametrize("route", ROUTES)
def test_a_lane_holds_everyone_back_until_the_provider_allows(route: str) -> None:
    def limited_for_a_second(request: Request) -> Say:
        opened.setdefault("at", request.at + 1.0)
        early = request.at < opened["at"]
        return after(retry_after="1") if early else OK

    opened: dict[str, float] = {}
    with Provider(limited_for_a_second) as provider:
        answers = ask(provider, route, times=8)
    refused = [r.at for r in provider.requests if r.at < opened["at"]]
    assert all(a.error is None for a in answers) and sum(a.attempts for a in answers) == len(provider.requests)
    # All eight left before the first refusal came back; from then on nobody until a second has passed.
    assert len(refused) <= 8 and max(refused) - min(refused) < 0.5


def test_a_storm_is_paced_without_losing_an_answer() -> None:
    window = {"start": 0.0, "taken": 0.0}

    def forty_a_second(request: Request) -> Say:
        if request.at >= window["start"] + 0.5:
            window.update(start=request.at, taken=0)
        window["taken"] += 1
        left = window["start"] + 0.5 - request.at
        return OK if window["taken"] <= 20 else after(retry_after_ms=f"{1000 * left + 1:.0f}")

    async def thirty_two_workers(provider: Provider) -> list[Answer]:
        target, answers, queries = made(deadline=30), [], iter(range(100))

        async def work() -> None:
            for n in queries:
                answers.append(await target(Query({"id": str(n), "input": "hi"}), {"model": provider.model("openai")}, 0))

        await asyncio.gather(*[work() for _ in range(32)])
        return answers

    with Provider(forty_a_second) as provider:
        answers = asyncio.run(closing(thirty_two_workers(provider)))
    assert len(answers) == 100 and not [a.error for a in answers if a.error]
    assert sum(a.attempts for a in answers) == len(provider.requests) <= 1.35 * 100


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("say", "said"),
    [
        (Say(401), "refused the credentials"),
        (Say(403), "refused the credentials"),
        (Say(402), "money or quota is spent"),
        (Say(429, body={"error": {"code": "insufficient_quota", "message": "over"}}), "money or quota is spent"),
        (
            Say(400, body={"type": "error", "error": {"type": "x", "message": "Your credit balance is too low"}}),
            "is spent",
        ),
        (Say(401, body={"error": {"message": f"Incorrect API key: {CANARY}"}}), "refused the credentials"),
    ],
)
def test_refused_keys_and_spent_money_stop_the_run_after_one_request(route: str, say: Say, said: str) -> None:
    with Provider([say]) as provider, pytest.raises(TargetFailure, match=said) as stopped:
        ask(provider, route)
    assert len(provider.requests) == 1 and "canary" not in str(stopped.value) and "\n" not in str(stopped.value)


@pytest.mark.parametrize("route", ["openai", "anthropic"])  # litellm asks mistral without a key; it answers 401
def test_a_missing_key_stops_the_run_before_any_request(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{route.upper()}_API_KEY")
    with Provider([OK]) as provider, pytest.raises(TargetFailure, match="environment"):
        ask(provider, route)
    assert provider.requests == []


@pytest.mark.parametrize("mode", ["hang", "drip"])
@pytest.mark.parametrize("route", ROUTES)
def test_the_deadline_of_an_answer_is_kept(route: str, mode: str) -> None:
    """Within a second (FAULTS R11) of a clock in the same event loop: what a busy machine takes from both is not the deadline's."""
    deadline = 1.5

    async def asked(provider: Provider) -> tuple[Answer, float]:
        async def until(work: Awaitable[R]) -> tuple[R, float]:
            return await work, time.monotonic()

        target = made(timeout=0.5, deadline=deadline)
        answer = target(Query({"id": "q", "input": "hello"}), {"model": provider.model(route, NAMES[route]), "prompt": ""}, 0)
        (found, answered), (_, rang) = await asyncio.gather(until(answer), until(asyncio.sleep(deadline)))
        return found, answered - rang

    with Provider([Say(mode=mode, delay=0.05)]) as provider:
        answer, late = asyncio.run(closing(asked(provider)))
    assert answer.error is not None and late < 1.0
    assert answer.attempts == len(provider.requests) >= 2


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    with Provider([OK]) as tripwire, Provider([Say(status, headers={"location": f"{tripwire.host}/v1"})]) as provider:
        (answer,) = ask(provider)
    assert tripwire.requests == [] and answer.error is not None and "redirects are not followed" in answer.error


OWN_WORDS: dict[str, tuple[Any, str]] = {
    "text": (b"upstream connect error: pool eu-7 is empty", "upstream connect error: pool eu-7 is empty"),
    "page": (
        b"<html><head><title>x</title></head><body><h1>Pool eu-7 is <b>empty</b></h1></body></html>",
        "Pool eu-7 is empty",
    ),
    "detail": ({"detail": "pool eu-7 is empty"}, "pool eu-7 is empty"),
    "nested": ({"error": {"message": "pool eu-7 is empty", "code": None}}, "pool eu-7 is empty"),
    "another shape": ({"fault": {"why": "pool eu-7 is empty"}}, "pool eu-7 is empty"),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", OWN_WORDS)
def test_a_failure_is_told_in_the_providers_own_words(name: str, route: str) -> None:
    body, words = OWN_WORDS[name]
    with Provider([Say(503, body=body)]) as provider:
        (answer,) = ask(provider, route, attempts=1)
    assert answer.error is not None and answer.error.count(words) == 1


def test_the_providers_own_words_are_told_without_the_key_and_control_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    with Provider([Say(503, body=b"\x1b[31mkey sk-canary/0123456789 is \xe2\x80\xaetired")]) as provider:
        (answer,) = ask(provider, attempts=1)
    assert answer.error is not None and "is tired" in answer.error
    assert "canary" not in answer.error and answer.error.isprintable()


def test_an_outage_opens_the_breaker_and_a_probe_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "Breaker", partial(rate_limit.Breaker, first_wait=0.3))
    healthy_at: dict[str, float] = {}

    def down_for_a_second(request: Request) -> Say:
        healthy_at.setdefault("at", request.at + 1.0)
        return Say(500) if request.at < healthy_at["at"] else OK

    with Provider(down_for_a_second) as provider:
        answers = ask(provider, times=16)
    failed = [r for r in provider.requests if r.at < healthy_at["at"]]
    assert len(failed) <= 20 + 16 and all(a.attempts <= 6 for a in answers)
    assert [a.outcome for a in answers if a.error is None] == ["ok"] * 16
    assert sum(a.attempts for a in answers) == len(provider.requests)


def test_a_provider_that_is_down_is_asked_little_and_no_trial_more_than_six_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "Breaker", partial(rate_limit.Breaker, first_wait=30.0))
    with Provider([Say(500)]) as provider:
        answers = ask(provider, times=32, deadline=2)
    assert len(provider.requests) <= 20 + 32 and all(a.attempts <= 6 for a in answers)
    assert all(a.outcome in ("error", "timeout") and a.error for a in answers)
    assert sum(a.attempts for a in answers) == len(provider.requests)


def test_a_server_error_of_one_input_is_the_outcome_of_what_was_asked() -> None:
    def poisoned(request: Request) -> Say:
        return Say(500) if "hello 3" in str(request.body) else OK

    with Provider(poisoned) as provider:
        answers = ask(provider, times=24)
    assert [a.outcome for a in answers] == ["ok"] * 3 + ["failed"] + ["ok"] * 20
    assert (answers[3].attempts, answers[3].error) == (6, None) and "after 6 attempts" in str(answers[3].reason)


READER = """
import sys
from pathlib import Path
from tests.faults.provider import Provider
from tests.faults.test_wire import ask

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

plain, endless = Provider([]), Provider([])
plain.port, endless.port = map(int, sys.argv[1:])
warm = ask(plain)  # the imports of litellm are not what is measured
before = peak()
answers = ask(endless, times=3)
print(warm[0].outcome, *[answer.outcome for answer in answers], peak() - before)
"""


def test_a_body_of_hundreds_of_megabytes_is_not_held() -> None:
    """In a process of its own: the peak of one that ran other tests, or that holds the provider too, says nothing of the reader."""
    with Provider([OK]) as plain, Provider([Say(mode="endless")]) as endless:
        command = [sys.executable, "-c", READER, str(plain.port), str(endless.port)]
        told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=True).stdout.split()
    assert told[:4] == ["ok", *["unknown"] * 3] and float(told[4]) <= 50, told


def test_refused_keys_stop_all_that_are_under_way() -> None:
    with Provider(lambda request: Say(401, delay=0.05) if request.number >= 2 else OK) as provider:
        with pytest.raises(TargetFailure, match="refused the credentials"):
            asyncio.run(closing(_one_after_another(provider, 40)))
        assert len(provider.requests) <= 2 + 8


async def _one_after_another(provider: Provider, trials: int) -> None:
    target, queries = made(), iter(range(trials))

    async def work() -> None:
        for n in queries:
            await target(Query({"id": str(n), "input": "hi"}), {"model": provider.model("openai")}, 0)

    done = await asyncio.gather(*[work() for _ in range(8)], return_exceptions=True)
    raise next(error for error in done if error is not None)


def test_a_run_leaves_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = []
    opened = aiohttp.ClientSession.__init__

    def noted(self: aiohttp.ClientSession, *args: Any, **settings: Any) -> None:
        sessions.append(self)
        opened(self, *args, **settings)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", noted)
    with Provider([OK]) as provider:
        release = {"model": provider.model("openai", "gpt-4o"), "prompt": "Be kind."}
        with Engine(local_hands(made(), 4), concurrency=4, commit=lambda done: None) as engine:
            engine.run([Job(n, Query({"id": str(n), "input": "hello"}), release, 0) for n in range(8)])
        assert len(provider.requests) == 8
    assert sessions and all(session.closed for session in sessions)


def test_a_long_outage_is_told_at_once() -> None:
    async def outage() -> None:
        breaker = rate_limit.Breaker(failures=2, patience=0.0)
        breaker.failed()
        breaker.failed()
        await asyncio.sleep(0.01)
        async with breaker.passage(time.monotonic() + 60):
            pass

    with pytest.raises(rate_limit.HeldBack, match="2 times in a row"):
        asyncio.run(closing(outage()))


def empty_choices(answer: dict[str, Any]) -> None:
    answer["choices"] = []


def null_content(answer: dict[str, Any]) -> None:
    answer["choices"][0]["message"]["content"] = None


def ended(reason: str) -> Callable[[dict[str, Any]], None]:
    return lambda answer: answer["choices"][0].update(finish_reason=reason)


# what is changed in the provider's plain answer -> the outcome, for each form of answer
FATES: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("openai", empty_choices, "empty"),
    ("openai", null_content, "empty"),
    ("openai", ended("length"), "truncated"),
    ("openai", ended("content_filter"), "filtered"),
    ("openai", lambda answer: answer["choices"][0]["message"].update(content=None, refusal="I cannot."), "filtered"),
    ("openai", lambda answer: answer.pop("choices"), "malformed"),
    ("openai", lambda answer: answer.update(model="other"), "ok"),
    ("mistral", empty_choices, "empty"),
    ("mistral", null_content, "empty"),
    ("mistral", ended("length"), "truncated"),
    ("mistral", lambda answer: answer.update(model="other"), "ok"),
    ("anthropic", lambda answer: answer.update(content=[]), "empty"),
    ("anthropic", lambda answer: answer.update(stop_reason="max_tokens"), "truncated"),
    ("anthropic", lambda answer: answer.update(stop_reason="refusal"), "filtered"),
    ("anthropic", lambda answer: answer.pop("content"), "malformed"),
    ("anthropic", lambda answer: answer.update(model="other"), "ok"),
]


@pytest.mark.parametrize(("route", "change", "outcome"), FATES)
def test_what_is_no_full_answer_has_a_type(route: str, change: Callable[[dict[str, Any]], None], outcome: str) -> None:
    with Provider([Say(change=change)]) as provider:
        (answer,) = ask(provider, route)
    assert (answer.outcome, answer.attempts, len(provider.requests)) == (outcome, 1, 1), answer.error
    assert (answer.error is None) == (outcome != "malformed")
    if outcome == "malformed":
        assert answer.usage.unsettled_tokens > 0  # it may have been billed
    elif outcome == "ok":
        assert answer.model_returned is not None and answer.model_returned.endswith("other")


@pytest.mark.parametrize("present", [True, False])
def test_missing_usage_is_estimated_and_marked(present: bool) -> None:
    with Provider([Say(text="word " * 100, change=None if present else lambda answer: answer.pop("usage"))]) as provider:
        (answer,) = ask(provider)
    assert answer.usage.estimated is not present
    assert answer.usage.usd is not None and answer.usage.usd > 0
    assert answer.usage.output_tokens == 4 if present else answer.usage.output_tokens > 100
    assert Answer.from_dict(answer.to_dict()) == answer


def test_a_loop_of_identical_tool_calls_is_an_outcome() -> None:
    answer = _loop(max_steps=50)
    assert (answer.outcome, answer.steps, answer.error) == ("repeated_calls", 4, None)


def test_a_loop_ends_at_the_token_limit_of_an_answer() -> None:
    # A request can take about 350 tokens at most: its bytes, and the answer.
    answer = _loop(max_steps=50, per_trial=Caps(tokens=400), vary=True, max_tokens=20)
    assert (answer.outcome, answer.error) == ("max_tokens", None) and 1 <= answer.steps < 50
    assert answer.usage.tokens == 14 * answer.steps <= 400


def test_a_loop_ends_at_the_requests_of_an_answer() -> None:
    answer = _loop(max_steps=50, per_trial=Caps(calls=3), vary=True)
    assert (answer.outcome, answer.steps, answer.attempts, answer.error) == ("max_calls", 3, 3, None)


def test_a_loop_ends_at_the_tool_calls_of_an_answer() -> None:
    answer = _loop(max_steps=50, max_tool_calls=5, vary=True)
    assert (answer.outcome, len(answer.tool_calls), answer.error) == ("max_tool_calls", 5, None)


def test_different_calls_are_no_repetition() -> None:
    assert _loop(max_steps=7, vary=True).outcome == "max_steps"


def _loop(*, vary: bool = False, max_tokens: int | None = None, **settings: Any) -> Answer:
    def one_more(request: Request) -> Say:
        return Say(change=calls_tool("look", {"page": request.number if vary else 0}))

    tools = [{"name": "look", "parameters": {"type": "object", "properties": {"page": {"type": "integer"}}}}]
    tape = [{"name": "look", "arguments": {"page": page}, "result": "more"} for page in range(60)]
    with Provider(one_more) as provider:
        release = {
            "model": provider.model("openai", **({} if max_tokens is None else {"max_tokens": max_tokens})),
            "tools": tools,
        }
        return asyncio.run(closing(made(**settings)(Query({"id": "q", "input": "go", "tool_results": tape}), release, 0)))


def test_settings_bound_the_attempts() -> None:
    with Provider([Say(500)]) as provider:
        (answer,) = ask(provider, attempts=2)
    assert answer.attempts == len(provider.requests) == 2 and "after 2 attempts" in str(answer.error)
    for wrong in (7, 1.5, 0, "many"):
        with pytest.raises(ConfigError, match="attempts"):
            made(attempts=wrong)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "9", "Retry-After-Ms": "1500"}, 1.5),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after": formatdate(5, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(1e9 + 7, usegmt=True), "date": formatdate(1e9, usegmt=True)}, 7.0),
        ({}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert limit_headers.asked_wait(headers) == seconds
