"""The built-in target against a scripted provider: calls, tool loop, limits, failures, credentials."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.canonical import digest, plain
from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.provider.completion import model_parameters
from bisect_ai.provider.litellm_calls import load_litellm
from bisect_ai.provider.redaction import describe
from bisect_ai.queries.query import Query
from bisect_ai.targets import bounded
from bisect_ai.targets.answer import Answer, ToolCall
from bisect_ai.targets.litellm_target import LitellmTarget

TOOL = {
    "name": "get_orders",
    "parameters": {"type": "object", "properties": {"customer_id": {"type": "string"}}, "required": ["customer_id"]},
}
RELEASE: dict[str, Any] = {"model": "scripted/one", "prompt": "Be kind.", "tools": [TOOL]}
RECORDED = [{"name": "get_orders", "arguments": {"customer_id": "A"}, "result": {"orders": ["pot"]}}]
QUERY = Query({"id": "q1", "input": "Orders of A?", "tool_results": RECORDED})
Script = Callable[[dict[str, Any]], Any]


def says(text: str | None, *calls: tuple[str, str], reason: str = "stop", usd: float | None = 0.001) -> Any:
    litellm = load_litellm()
    asked = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    message = litellm.Message(role="assistant", content=text, tool_calls=asked or None)
    usage = litellm.Usage(prompt_tokens=10, completion_tokens=4, total_tokens=14)
    response = litellm.ModelResponse(
        model="one-2026", choices=[litellm.Choices(finish_reason=reason, message=message)], usage=usage
    )
    response.system_fingerprint = "fp"
    if usd is not None:
        response._hidden_params["response_cost"] = usd
    return response


@pytest.fixture
def target(tmp_path: Path) -> Callable[..., tuple[LitellmTarget, list[dict[str, Any]]]]:
    """A target whose provider plays the given responses in turn, and the requests that reached it."""

    def build(*script: Any, **settings: Any) -> tuple[LitellmTarget, list[dict[str, Any]]]:
        seen: list[dict[str, Any]] = []
        remaining = list(script)

        class Scripted(load_litellm().CustomLLM):  # type: ignore[misc]
            async def acompletion(self, *args: Any, **request: Any) -> Any:
                seen.append(request)
                step = remaining.pop(0) if len(remaining) > 1 else remaining[0]
                if isinstance(step, Exception):
                    raise step
                return await step() if callable(step) else step

        made = LitellmTarget({"custom_providers": {"scripted": Scripted()}, **settings}, folder=tmp_path)
        return made, seen

    return build


def ask(target: LitellmTarget, release: dict[str, Any] = RELEASE, query: Query = QUERY) -> Answer:
    return asyncio.run(target(query, release, 0))


def test_an_answer_carries_text_tokens_price_model_and_fingerprint(target: Any) -> None:
    made, seen = target(says("Hello."))
    answer = ask(made, {**RELEASE, "model": {"model": "scripted/one", "temperature": 0}, "sampling": {"max_tokens": 5}})
    assert (answer.text, answer.outcome, answer.error, answer.steps) == ("Hello.", "ok", None, 1)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.usd) == (10, 4, 0.001)
    assert answer.fingerprint == "fp" and answer.latency_s is not None and answer.model_returned
    assert {name: seen[0]["optional_params"].get(name) for name in ("temperature", "max_tokens")} == {
        "temperature": 0,
        "max_tokens": 5,
    }


def test_a_tool_call_gets_its_recorded_result_and_tokens_add_up(target: Any) -> None:
    made, seen = target(says(None, ("get_orders", '{"customer_id": "A"}'), reason="tool_calls"), says("One pot."))
    answer = ask(made)
    assert answer.tool_calls == (ToolCall("get_orders", {"customer_id": "A"}, result={"orders": ["pot"]}, answered="exact"),)
    assert (answer.text, answer.steps, answer.usage.input_tokens, answer.usage.usd) == ("One pot.", 2, 20, 0.002)
    assert [m["role"] for m in seen[1]["messages"]] == ["system", "user", "assistant", "tool"]
    assert seen[1]["messages"][-1]["content"] == '{"orders": ["pot"]}'
    assert seen[1]["messages"][-1]["tool_call_id"] == seen[1]["messages"][-2]["tool_calls"][0]["id"]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        (
            "get_orders",
            '{"customerId": "A"}',
            "invalid arguments: missing field 'customer_id'; unknown field 'customerId'",
        ),
        ("get_orders", '{"customer_id"', "invalid arguments: they are not a JSON object"),
        ("get_orders", "[]", "invalid arguments: they are not a JSON object"),
        ("drop_tables", "{}", "unknown tool: 'drop_tables' is not offered; the tools are get_orders"),
    ],
)
def test_a_call_that_gets_no_result_is_typed_and_told_to_the_model(target: Any, name: str, arguments: str, error: str) -> None:
    made, seen = target(says(None, (name, arguments)), says("Sorry."))
    answer = ask(made)
    assert [call.error for call in answer.tool_calls] == [error]
    assert seen[1]["messages"][-1]["content"] == f"Error: {error}"
    assert answer.error is None and answer.text == "Sorry."


def test_arguments_that_cannot_be_checked_in_time_are_a_failed_trial(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.5)
    schema = {"type": "object", "properties": {"customer_id": {"type": "string", "pattern": "^(a+)+$"}}}
    release = {**RELEASE, "tools": [{"name": "get_orders", "parameters": schema}]}
    made, _ = target(says(None, ("get_orders", json.dumps({"customer_id": "a" * 40 + "!"}))), says("One pot."))
    answer = ask(made, release)
    assert answer.outcome == "error" and "cannot check the arguments of get_orders" in str(answer.error)
    assert answer.usage.usd == 0.001  # what was paid is kept


def test_a_model_that_always_wants_one_more_call_ends_at_max_steps(target: Any) -> None:
    made, seen = target(says("hm", ("get_orders", '{"customer_id": "A"}')), max_steps=3)
    answer = ask(made)
    assert (answer.outcome, answer.steps, len(seen), len(answer.tool_calls)) == ("max_steps", 3, 3, 3)


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (lambda: says("Half of", reason="length"), "truncated"),
        (lambda: says("", reason="content_filter"), "filtered"),
        (lambda: says(None), "empty"),
        (lambda: says(""), "empty"),
    ],
)
def test_what_is_no_full_answer_is_typed(target: Any, response: Callable[[], Any], outcome: str) -> None:
    made, _ = target(response())
    answer = ask(made)
    assert (answer.outcome, answer.error) == (outcome, None)


def test_a_model_without_a_known_price_has_none_not_zero(target: Any) -> None:
    made, _ = target(says("Hello.", usd=None))
    assert ask(made).usage.usd is None


def test_a_failure_is_one_clean_line_without_credentials_and_one_request(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_API_KEY", "sk-canary/12345")
    told = "bad key sk-canary/12345 or sk-canary%2F12345\n::error::c2stY2FuYXJ5LzEyMzQ1\x1b[2J"
    made, seen = target(RuntimeError(told))
    answer = ask(made)
    assert answer.error is not None and answer.error.startswith("APIConnectionError: ")
    assert "canary" not in answer.error and "c2stY2FuYXJ5" not in answer.error and "[redacted]" in answer.error
    assert answer.error.isprintable() and len(answer.error) < 350
    assert len(seen) == 1


def test_what_was_paid_before_a_failure_is_kept(target: Any) -> None:
    made, _ = target(says(None, ("get_orders", '{"customer_id": "A"}')), RuntimeError("gone"))
    answer = ask(made)
    assert answer.error is not None and answer.usage.input_tokens == 10 and len(answer.tool_calls) == 1


def test_the_deadline_holds_for_the_whole_answer(target: Any) -> None:
    async def hang() -> Any:
        await asyncio.sleep(60)

    made, _ = target(hang, deadline=0.05)
    answer = ask(made)
    assert answer.error == "TimeoutError: no answer within 0.05 s"
    assert answer.latency_s is not None and answer.latency_s < 5


def test_cancelling_a_trial_is_not_an_answer(target: Any) -> None:
    async def hang() -> Any:
        await asyncio.sleep(60)

    made, _ = target(hang)

    async def run() -> None:
        task = asyncio.ensure_future(made(QUERY, RELEASE, 0))
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_a_live_tool_runs_only_when_it_is_named(target: Any) -> None:
    ran: list[str] = []

    def live(customer_id: str) -> dict[str, Any]:
        ran.append(f"{customer_id} {os.environ['BISECT_REPLAY']}")
        return {"live": True}

    script = (says(None, ("get_orders", '{"customer_id": "A"}')), says("Done."))
    assert ask(target(*script)[0]).tool_calls[0].result == {"orders": ["pot"]}
    assert ran == []
    assert ask(target(*script, allow_tools={"get_orders": live})[0]).tool_calls[0].result == {"live": True}
    assert ran == ["A 1"]


def test_a_live_tool_that_raises_is_an_error_of_the_call(target: Any) -> None:
    def live(customer_id: str) -> None:
        raise KeyError(customer_id)

    made, _ = target(says(None, ("get_orders", '{"customer_id": "A"}')), says("Done."), allow_tools={"get_orders": live})
    assert ask(made).tool_calls[0].error == "KeyError: 'A'"


def test_schemas_reach_the_provider_as_copies(target: Any) -> None:
    made, seen = target(says("Hello."))
    ask(made)
    seen[0]["optional_params"]["tools"][0]["function"]["parameters"]["properties"].clear()
    assert TOOL["parameters"]["properties"] == {"customer_id": {"type": "string"}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ({}, "model axis names none"),
        ({"model": {"temperature": 0}}, "model axis names none"),
        ({"model": {"model": "scripted/one", "api_key": "sk-1"}}, "'api_key' does not belong"),
        ({"model": "scripted/one", "sampling": {"stream": True}}, "'stream' does not belong"),
        ({"model": "scripted/one", "sampling": 3}, "sampling axis"),
    ],
)
def test_a_release_without_a_usable_model_is_refused(release: dict[str, Any], said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        model_parameters(release)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0}, "'temperature' is no setting"),
        ({"max_steps": 0}, "max_steps"),
        ({"timeout": "soon"}, "timeout"),
    ],
)
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LitellmTarget(settings, folder=tmp_path)


def test_identity_moves_with_what_can_change_an_answer_and_with_nothing_else(tmp_path: Path) -> None:
    def named(**settings: Any) -> str:
        return digest(plain(LitellmTarget(settings, folder=tmp_path).identity))

    code = tmp_path / "mine.py"
    code.write_text("x = 1\n")
    assert named() == named(timeout=5, deadline=9, concurrency=2)
    assert named() != named(max_steps=2)
    first = named(custom_providers={"mine": "mine:x"})
    code.write_text("x = 2\n")
    assert first != named(custom_providers={"mine": "mine:x"}) != named()


def test_describe_ends_in_no_colon_without_a_message() -> None:
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("a\r\n  b\u202e\x07c")) == "ValueError: a b c"


def test_importing_the_target_is_light_and_litellm_comes_without_network_or_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PLANTED=1\n")
    code = (
        "import socket, sys, os\n"
        "def refuse(*a, **k): raise SystemExit('a name was looked up')\n"
        "socket.getaddrinfo = refuse\n"
        "import bisect_ai.provider.completion as t, bisect_ai.targets.litellm_target\n"
        "assert not {'litellm', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "m = bisect_ai.provider.litellm_calls.load_litellm()\n"
        "assert 'PLANTED' not in os.environ and 'litellm.proxy.proxy_server' not in sys.modules\n"
        "assert m.drop_params is False and m.cache is None and m.callbacks == []\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
