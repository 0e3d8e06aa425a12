"""Both ways to a model, beside each other: what the provider is sent, and what is made of its answer or its error.

Everything else is as in a run: the guard, the wire, the price. Classes of errors and what a run makes of them are equal; texts are
where the provider said why. For a connection that broke, and for what is no answer, the handler layer says more than `acompletion`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from bisect_ai.errors import BisectError
from bisect_ai.provider.budget import NO_CAPS, Account
from bisect_ai.provider.completion import Completions
from bisect_ai.provider.litellm_calls import CALLBACKS, PROVIDERS, PlainRoute, load_litellm, plain_route
from bisect_ai.provider.retry import RequestTally, Wire
from bisect_ai.provider.transport import close_connections
from tests.faults.provider import Provider, Say

MODELS = {
    "openai": ["gpt-4.1-2025-04-14", "gpt-4o", "o3", "a-model-of-ours", "ft:gpt-4o-2024-08-06:acme::x1"],
    "deepseek": ["deepseek-chat"],
    "groq": ["llama-3.3-70b-versatile", "a-model-of-ours"],
    "mistral": ["mistral-small-latest"],
    "xai": ["grok-3"],
}
ROUTES = [f"{provider}/{name}" for provider, names in MODELS.items() for name in names]
TOOL = {
    "type": "function",
    "function": {"name": "get", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
}
ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Wie geht es? \U0001f600"}]
AFTER_A_CALL = [
    *ASKED,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "get", "arguments": '{"x": "1"}'}}],
    },
    {"role": "tool", "tool_call_id": "call00001", "name": "get", "content": '{"found": 1}'},
]
REQUESTS: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "plain": ({}, ASKED, []),
    "sampling": ({"temperature": 1, "top_p": 0.5, "max_tokens": 50, "seed": 7, "stop": ["END"]}, ASKED, []),
    "tools": ({"tool_choice": "auto", "temperature": 1}, ASKED, [TOOL]),
    "after a call": ({"max_completion_tokens": 9}, AFTER_A_CALL, [TOOL]),
    "json": ({"response_format": {"type": "json_object"}}, ASKED, []),
    "schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"type": "object", "properties": {}}},
            }
        },
        ASKED,
        [],
    ),
}


def altered(**message: Any) -> Any:
    def change(body: dict[str, Any]) -> None:
        reason = message.pop("finish_reason", None)
        body["choices"][0]["message"].update(message)
        if reason:
            body["choices"][0]["finish_reason"] = reason

    return change


CALL = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"x": "\\u00e4"}'}}
ANSWERS: dict[str, dict[str, Any]] = {
    "text": {},
    "call": {"change": lambda: altered(content=None, tool_calls=[CALL], finish_reason="tool_calls")},
    "cut": {"change": lambda: altered(finish_reason="length")},
    "filtered": {"change": lambda: altered(content="", finish_reason="content_filter")},
    "refusal": {"change": lambda: altered(content=None, refusal="No.")},
    "reasoning": {"change": lambda: altered(reasoning_content="Hm.")},
    "no usage": {"change": lambda: lambda body: body.pop("usage", None)},
    "no choices": {"change": lambda: lambda body: body.update(choices=[])},
    "not JSON": {"body": "nonsense"},
}
ERRORS: dict[str, Say] = {
    "400": Say(400, body={"error": {"message": "bad value of x", "type": "invalid_request_error", "code": "invalid"}}),
    "context": Say(
        400, body={"error": {"message": "This model's maximum context length is 10 tokens", "code": "context_length_exceeded"}}
    ),
    "filter": Say(400, body={"error": {"message": "content management policy", "code": "content_policy_violation"}}),
    "401": Say(401, body={"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}),
    "403": Say(403, body={"error": {"message": "no access"}}),
    "404": Say(404, body={"error": {"message": "no such model", "code": "model_not_found"}}),
    "422": Say(422, body={"error": {"message": "unprocessable"}}),
    "429": Say(429, body={"error": {"message": "slow down"}}, headers={"retry-after": "7", "x-ratelimit-limit-requests": "10"}),
    "quota": Say(429, body={"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
    "500": Say(500, body={"error": {"message": "oops"}}),
    "503 text": Say(503, body="upstream is away"),
    "529": Say(529, body={"error": {"message": "overloaded"}}),
    "reset": Say(mode="reset"),
    "half": Say(mode="half"),
}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in PROVIDERS:
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", "sk-canary")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """litellm imports most of itself at the first call, which on a busy machine takes longer than a call may here."""
    with pytest.MonkeyPatch.context() as patch, Provider([Say()]) as provider:
        patch.setenv("OPENAI_API_KEY", "sk-canary")
        patch.setattr(Completions, "_plain_route", lambda *_: None)
        asyncio.run(_ask({"model": "openai/gpt-4o", "api_base": f"{provider.host}/v1"}, ASKED, [], RequestTally(), seconds=300))


UNREADABLE = ("not JSON",)
SAID_OTHERWISE = ("503 text", "reset", "half")


@dataclass
class Came:
    """What was sent, and what the run heard."""

    sent: list[tuple[str, str, Any]]
    reply: Any
    failure: str
    outcome: str | None
    tally: dict[str, Any]


def both_ways(model: str, parameters: dict[str, Any], messages: list[Any], tools: list[Any], say: Any) -> tuple[Came, Came]:
    """Through `acompletion`, and through the handler layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Completions, "_plain_route", lambda *_: None)
        wrapped = _one_way(model, parameters, messages, tools, say)
    used: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        send = PlainRoute.send
        patch.setattr(PlainRoute, "send", lambda self, *given: used.append(self) or send(self, *given))
        plain = _one_way(model, parameters, messages, tools, say)
    assert used, "there is no plain route"
    return wrapped, plain


def _one_way(model: str, parameters: dict[str, Any], messages: list[Any], tools: list[Any], say: Any) -> Came:
    given, tally = copy.deepcopy(messages), RequestTally()
    with Provider([say()]) as provider:
        asked = {"model": model, "api_base": f"{provider.host}/v1", **parameters}
        try:
            reply, failure, outcome = asyncio.run(_ask(asked, given, tools, tally)), "", None
        except BisectError as error:
            failure, outcome = (
                f"{type(error).__name__}: {error}".replace(f":{provider.port}", ""),
                getattr(error, "outcome", None),
            )
            reply = None
    assert given == messages
    told = {name: value for name, value in asdict(tally).items() if name in ("requests", "faults", "unsettled")}
    sent = [(request.path, request.headers.get("authorization", ""), request.body) for request in provider.requests]
    return Came(sent, reply, failure, outcome, told)


async def _ask(asked: dict[str, Any], messages: list[Any], tools: list[Any], tally: RequestTally, seconds: float = 5) -> Any:
    offered, until = json.dumps(tools) if tools else "", monotonic() + seconds
    try:
        completions = Completions(Wire(attempts=1, timeout=seconds), timeout=seconds)
        return await completions.ask(asked, messages, offered, until=until, tally=tally, account=Account(NO_CAPS))
    finally:
        await close_connections()


@pytest.mark.parametrize("model", ROUTES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_the_provider_is_sent_the_same(model: str, request_: str) -> None:
    parameters, messages, tools = REQUESTS[request_]
    taken = {name: value for name, value in parameters.items() if not model.endswith("/o3") or name not in ("top_p", "stop")}
    tier = Say(
        change=lambda body: body.update(service_tier="default")
    )  # litellm refuses an answer of groq's without one, both ways
    wrapped, plain = both_ways(model, taken, messages, tools, lambda: tier)
    assert plain == wrapped
    assert len(plain.sent) == 1 and plain.reply.text == "Hello."


@pytest.mark.parametrize("model", ROUTES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_its_answer_is_read_the_same(model: str, answer: str) -> None:
    given = ANSWERS[answer]
    wrapped, plain = both_ways(
        model, {}, ASKED, [TOOL], lambda: Say(body=given.get("body"), change=given["change"]() if "change" in given else None)
    )
    if answer in UNREADABLE:
        assert plain.failure and wrapped.failure
        plain.failure = wrapped.failure
    assert plain == wrapped


@pytest.mark.parametrize("model", ROUTES)
@pytest.mark.parametrize("error", ERRORS)
def test_its_errors_are_told_the_same(model: str, error: str) -> None:
    wrapped, plain = both_ways(model, {}, ASKED, [], lambda: ERRORS[error])
    if error in SAID_OTHERWISE:
        assert plain.failure.split()[:2] == wrapped.failure.split()[:2]
        plain.failure = wrapped.failure
    assert plain == wrapped and plain.failure


@pytest.mark.parametrize(
    "model",
    [
        {"model": "openai/gpt-5.4"},
        {"model": "openai/responses/gpt-4.1"},
        {"model": "openai/gpt-4.1", "reasoning_effort": "low"},
        {"model": "openai/gpt-4.1", "logit_bias": {"1": 1}},
        {"model": "openai/o3", "temperature": 0},
        {"model": "openai/gpt-4o", "stop": list("abcde")},
        {"model": "anthropic/claude-3-5-sonnet-20241022"},
        {"model": "azure/gpt-4o", "api_base": "http://127.0.0.1:1"},
        {"model": "no-such-model"},
    ],
)
def test_what_is_not_plain_goes_through_acompletion(model: dict[str, Any]) -> None:
    assert plain_route(load_litellm(), model, "") is None


@pytest.mark.parametrize("name", ["OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", None])
def test_settings_of_an_account_go_through_acompletion(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    litellm = load_litellm()
    assert plain_route(litellm, {"model": "openai/gpt-4.1"}, "") is not None
    monkeypatch.setenv(name, "x") if name else monkeypatch.delenv("OPENAI_API_KEY")
    assert plain_route(litellm, {"model": "openai/gpt-4.1"}, "") is None


def test_requests_leave_on_our_own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    load_litellm()
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    def refuse(*_: Any) -> Any:
        raise AssertionError("litellm's own client was asked")

    monkeypatch.setattr(LiteLLMAiohttpTransport, "handle_async_request", refuse)
    came = _one_way("openai/gpt-4.1", {}, ASKED, [], Say)
    assert came.reply.text == "Hello." and len(came.sent) == 1


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "SSL_CERTIFICATE"])
def test_a_proxy_or_a_certificate_of_the_users_needs_litellms_client(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    litellm = load_litellm()
    route = plain_route(litellm, {"model": "openai/gpt-4.1"}, "")
    assert route is not None and route.client is not None
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    route = plain_route(litellm, {"model": "openai/gpt-4.1"}, "")
    assert route is not None and route.client is None


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """litellm with lists of callbacks of its own: it spreads what is in one of them over others."""
    module = load_litellm()
    for name in CALLBACKS:
        monkeypatch.setattr(module, name, [])
    return module


@pytest.mark.parametrize("name", ["input_callback", "callbacks", "pre_call_rules", "_async_success_callback"])
def test_a_callback_of_the_users_is_called_by_acompletion(name: str, litellm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    send = PlainRoute.send
    monkeypatch.setattr(PlainRoute, "send", lambda self, *given: used.append(name) or send(self, *given))
    assert _one_way("openai/gpt-4.1", {}, ASKED, [], Say).reply.text == "Hello." and used == [name]
    monkeypatch.setattr(litellm, name, [lambda *_: True])
    assert _one_way("openai/gpt-4.1", {}, ASKED, [], Say).reply.text == "Hello." and used == [name]


def test_a_logger_registered_for_input_hears_each_request(litellm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from litellm.integrations.custom_logger import CustomLogger

    heard: list[Any] = []

    class Listening(CustomLogger):
        def log_pre_api_call(self, model: str, messages: Any, kwargs: Any) -> None:
            heard.append((model, messages))

    monkeypatch.setattr(litellm, "input_callback", [Listening()])
    _one_way("openai/gpt-4.1", {}, ASKED, [], Say)
    assert heard == [("gpt-4.1", ASKED)]


def test_a_logger_registered_before_the_first_call_hears_of_its_end() -> None:
    code = """
import asyncio
import litellm
from litellm.integrations.custom_logger import CustomLogger

class Listening(CustomLogger):
    async def async_log_success_event(self, **_):
        heard.set()

async def main(port):
    global heard
    heard = asyncio.Event()
    await _ask({"model": "openai/gpt-4.1", "api_base": f"http://127.0.0.1:{port}/v1"}, ASKED, [], RequestTally())
    await asyncio.wait_for(heard.wait(), 30)

litellm.callbacks = [Listening()]
from tests.conformance.test_plain_calls import ASKED, Provider, RequestTally, Say, _ask
with Provider([Say()]) as provider:
    asyncio.run(main(provider.port))
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
