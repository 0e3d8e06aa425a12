"""The built-in target: retrieve, assemble, call the model through litellm, give its tool calls their recorded results.

Axes read: `model`, `prompt`, `corpus`, `tools`, `context`, and `sampling`, which is merged into the model's parameters.
Any other axis is part of a trial's identity but changes nothing here.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest, plain
from bisect_ai.errors import ConfigError, InputError, ReleaseError, TargetFailure
from bisect_ai.queries.query import Query
from bisect_ai.replay.answer import Answer, ToolCall, Usage
from bisect_ai.replay.estimate import estimated_usage
from bisect_ai.replay.failures import describe
from bisect_ai.replay.guard import install
from bisect_ai.replay.pipeline import Message, build_messages, function_tools
from bisect_ai.replay.retrieval import Indexes
from bisect_ai.replay.tool_results import INVALID_ARGUMENTS, RecordedTools, check_call
from bisect_ai.replay.usage import total, usage_of
from bisect_ai.replay.wire import MOST_ATTEMPTS, CallFailed, Route, Tally, Wire

PIPELINE_VERSION = 2
SAME_CALLS = 4
"""Tool calls with the same arguments and the same result after which a loop goes nowhere."""
_SETTINGS = frozenset(
    {
        "kind",
        "max_steps",
        "max_tokens_per_answer",
        "attempts",
        "timeout",
        "deadline",
        "concurrency",
        "custom_providers",
        "allow_tools",
    }
)
_OURS = frozenset(
    {
        "messages",
        "tools",
        "stream",
        "timeout",
        "max_retries",
        "num_retries",
        "drop_params",
        "fallbacks",
        "caching",
        "api_key",
    }
)
_OUTCOMES = {"length": "truncated", "content_filter": "filtered"}
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else importing it fetches prices over the network
    "LITELLM_MODE": "PRODUCTION",  # else importing it loads a .env file
    "PYTHON_DOTENV_DISABLED": "1",
    "HF_HUB_OFFLINE": "1",  # else counting tokens may fetch a tokenizer
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@cache
def load_litellm() -> Any:
    """The litellm module, imported without network or `.env`, silent, without cache, callbacks or retries of its own."""
    os.environ.update(_ENVIRONMENT)
    import logging

    import litellm
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    litellm.suppress_debug_info = True
    litellm.drop_params = litellm.modify_params = False
    litellm.cache = None
    litellm.num_retries = 0
    litellm.callbacks, litellm.success_callback, litellm.failure_callback = [], [], []
    # Its log lines hold text of users and providers; what failed is told by the answer.
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    install(LiteLLMAiohttpTransport)
    return litellm


@dataclass
class _Exchange:
    """One trial under way: the messages so far and what they cost."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    tools_text: str
    recorded: RecordedTools
    answer: Answer = field(default_factory=lambda: Answer(steps=0, usage=Usage(usd=0.0)))
    until: float = 0.0
    tally: Tally = field(default_factory=Tally)
    seen: Counter[str] = field(default_factory=Counter)


class LitellmTarget:
    """Answers with the model that the release names. A failed call is an `Answer` with an error, never an exception.

    Settings: `max_steps` (model calls per answer, 6), `max_tokens_per_answer` (no limit), `attempts` (per model call, at
    most 6), `timeout` (seconds per attempt, 60), `deadline` (seconds per answer, 180), `concurrency` (16),
    `custom_providers` (provider name to `module:object`, a litellm CustomLLM or what makes one), `allow_tools` (tool name
    to `module:function` or a callable: runs instead of the recorded result). What the release or the settings get wrong
    raises `InputError`; refused credentials or spent money raise `TargetFailure`.
    """

    def __init__(self, settings: Mapping[str, Any], *, folder: Path) -> None:
        unknown = sorted(set(settings) - _SETTINGS)
        if unknown:
            raise ConfigError(
                f"cannot read target: {unknown[0]!r} is no setting of litellm; it has {', '.join(sorted(_SETTINGS))}"
            )
        self._folder = Path(folder)
        self._max_steps = int(_positive(settings, "max_steps", 6))
        self._max_tokens = _positive(settings, "max_tokens_per_answer", math.inf)
        self._timeout, self._deadline = _positive(settings, "timeout", 60), _positive(settings, "deadline", 180)
        self._wire = Wire(attempts=_attempts(settings), timeout=self._timeout)
        self.concurrency = int(_positive(settings, "concurrency", 16))
        self._providers = dict(settings.get("custom_providers") or {})
        self._live = dict(settings.get("allow_tools") or {})
        self._handlers: dict[str, Any] | None = None
        self._indexes = Indexes()
        self.identity: Mapping[str, Any] = {
            "kind": "litellm",
            "pipeline": PIPELINE_VERSION,
            "max_steps": self._max_steps,
            **({} if math.isinf(self._max_tokens) else {"max_tokens_per_answer": self._max_tokens}),
            "custom_providers": {name: self._code(spec) for name, spec in self._providers.items()},
            "allow_tools": {name: self._code(spec) for name, spec in self._live.items()},
        }

    async def __call__(self, query: Query, release: Mapping[str, Any], repeat: int) -> Answer:
        """The answer to `query` by `release`. `repeat` is not sent: a repeat asks the same again."""
        del repeat
        litellm = self._ready()
        model = model_parameters(release)
        found = self._indexes.get(release["corpus"]).search(query.input) if release.get("corpus") is not None else ()
        tools = function_tools(release.get("tools"))
        messages, recorded = build_messages(query, release, found), RecordedTools(query.tool_results)
        exchange = _Exchange(messages, tools, json.dumps(tools), recorded)
        started = time.monotonic()
        exchange.until = started + self._deadline
        exchange.answer = replace(exchange.answer, documents=tuple(one.to_dict() for one in found))
        answer = await self._answered(litellm, model, exchange)
        return replace(answer, latency_s=time.monotonic() - started, attempts=exchange.tally.requests)

    def estimate(self, query: Query, release: Mapping[str, Any]) -> Usage:
        """What one model call for this answer will cost, from the length of what would be sent. Spends nothing."""
        litellm, tools = self._ready(), function_tools(release.get("tools"))
        found = self._indexes.get(release["corpus"]).search(query.input) if release.get("corpus") is not None else ()
        messages = build_messages(query, release, found)
        return estimated_usage(litellm, str(model_parameters(release)["model"]), messages, tools, query.output)

    async def _answered(self, litellm: Any, model: Mapping[str, Any], exchange: _Exchange) -> Answer:
        try:
            async with asyncio.timeout(self._deadline):
                await self._converse(litellm, model, exchange)
        except (InputError, TargetFailure):
            raise
        except CallFailed as failed:
            return replace(exchange.answer, error=str(failed))
        except TimeoutError:
            return replace(exchange.answer, error=f"TimeoutError: no answer within {self._deadline:g} s")
        except Exception as error:
            return replace(exchange.answer, error=describe(error))
        return exchange.answer

    async def _converse(self, litellm: Any, model: Mapping[str, Any], exchange: _Exchange) -> None:
        route = self._route(litellm, model)
        for step in range(1, self._max_steps + 1):
            response = await self._send(litellm, model, route, exchange)
            message = _note(litellm, model, exchange, response)
            calls = list(getattr(message, "tool_calls", None) or [])
            if not calls:
                return
            exchange.messages.append(_said(message, calls))
            for call in calls:
                await self._call_tool(exchange, call)
            if hit := self._limit(exchange, step):
                exchange.answer = replace(exchange.answer, outcome=hit)
                return

    async def _send(self, litellm: Any, model: Mapping[str, Any], route: Route, exchange: _Exchange) -> Any:
        def call() -> Any:
            # Copies: some providers rewrite schemas and messages in place, and a release is read-only.
            extra = {"tools": json.loads(exchange.tools_text)} if exchange.tools else {}
            return litellm.acompletion(**model, **extra, messages=list(exchange.messages), timeout=self._timeout, **_ONE_CALL)

        return await self._wire.send(call, route, until=exchange.until, tally=exchange.tally)

    def _route(self, litellm: Any, model: Mapping[str, Any]) -> Route:
        name = str(model["model"])
        provider = model.get("custom_llm_provider") or _provider(litellm, name, model.get("api_base"))
        return Route(f"{provider} {model.get('api_base') or ''}".rstrip(), name, custom=provider in self._providers)

    def _limit(self, exchange: _Exchange, step: int) -> str | None:
        """The limit that an answer which wants to go on has hit."""
        usage = exchange.answer.usage
        if max(exchange.seen.values(), default=0) >= SAME_CALLS:
            return "repeated_calls"
        if usage.input_tokens + usage.output_tokens >= self._max_tokens:
            return "max_tokens"
        return "max_steps" if step == self._max_steps else None

    async def _call_tool(self, exchange: _Exchange, call: Any) -> None:
        name, arguments = str(call.function.name), _arguments(call.function.arguments)
        done = await self._result(exchange, name, arguments)
        exchange.answer = replace(exchange.answer, tool_calls=(*exchange.answer.tool_calls, done))
        exchange.seen[digest(asdict(done))] += 1
        content = f"Error: {done.error}" if done.error else _content(done.result)
        exchange.messages.append({"role": "tool", "tool_call_id": call.id, "name": name, "content": content})

    async def _result(self, exchange: _Exchange, name: str, arguments: dict[str, Any] | None) -> ToolCall:
        if arguments is None:
            return ToolCall(name, {}, error=f"{INVALID_ARGUMENTS}: they are not a JSON object")
        refused = check_call(exchange.tools, name, arguments)
        if refused:
            return ToolCall(name, arguments, error=refused)
        if name in self._live:
            return await self._run_live(name, arguments)
        return exchange.recorded.call(name, arguments)

    async def _run_live(self, name: str, arguments: dict[str, Any]) -> ToolCall:
        os.environ["BISECT_REPLAY"] = "1"
        try:
            function = self._imported(self._live[name])
            returned = await asyncio.to_thread(function, **arguments)
            result = await returned if inspect.isawaitable(returned) else returned
            return ToolCall(name, arguments, result=plain(result))
        except Exception as error:
            return ToolCall(name, arguments, error=describe(error))

    def _ready(self) -> Any:
        litellm = load_litellm()
        if self._handlers is None:
            self._handlers = {name: _handler(self._imported(spec)) for name, spec in self._providers.items()}
        others = [entry for entry in litellm.custom_provider_map if entry["provider"] not in self._handlers]
        ours = [{"provider": name, "custom_handler": handler} for name, handler in self._handlers.items()]
        if litellm.custom_provider_map != [*others, *ours]:
            litellm.custom_provider_map = [*others, *ours]
        return litellm

    def _imported(self, spec: Any) -> Any:
        if not isinstance(spec, str):
            return spec
        from bisect_ai.callables import import_callable

        return import_callable(spec, folder=self._folder)

    def _code(self, spec: Any) -> dict[str, str]:
        """What names code in a trial's identity: the spec, and the digest of its file when it lies in the folder."""
        if not isinstance(spec, str):
            return {"spec": f"{getattr(spec, '__module__', '')}:{getattr(spec, '__qualname__', type(spec).__name__)}"}
        file = self._folder / (spec.partition(":")[0].replace(".", "/") + ".py")
        return {"spec": spec, **({"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if file.is_file() else {})}


# One request for one call: retries would hide attempts; without a dropped parameter it is the release's own model.
# The last one keeps litellm from importing its proxy, an optional part of it, whenever tools are offered.
_ONE_CALL: dict[str, Any] = {"max_retries": 0, "num_retries": 0, "drop_params": False, "_skip_mcp_handler": True}


def model_parameters(release: Mapping[str, Any]) -> dict[str, Any]:
    """The litellm parameters that the `model` and `sampling` axes give. Raises `ReleaseError` naming the key at fault."""
    axis, sampling = release.get("model"), release.get("sampling") or {}
    given = {"model": axis} if isinstance(axis, str) else axis
    if not isinstance(given, Mapping) or not isinstance(given.get("model"), str):
        raise ReleaseError("cannot call a model: the model axis names none; write model: {model: provider/name}")
    if not isinstance(sampling, Mapping):
        raise ReleaseError(f"cannot read the sampling axis: it is a {type(sampling).__name__}; give a mapping")
    parameters = {name: plain(value, where=f"model.{name}") for name, value in {**given, **sampling}.items()}
    refused = sorted(_OURS & set(parameters))
    if refused:
        raise ReleaseError(
            f"cannot call {given['model']}: {refused[0]!r} does not belong in the model axis; credentials come from the "
            "environment, time limits from the target's settings"
        )
    return parameters


def _note(litellm: Any, model: Mapping[str, Any], exchange: _Exchange, response: Any) -> Any:
    """The message of a response, after the answer has taken over what it says and costs."""
    choice = response.choices[0] if response.choices else None
    message = getattr(choice, "message", None)
    text = getattr(message, "content", None) or ""
    called = bool(getattr(message, "tool_calls", None))
    cost = usage_of(litellm, response, model=model["model"], messages=exchange.messages, tools=exchange.tools, said=str(text))
    ended = getattr(choice, "finish_reason", None)
    exchange.answer = replace(
        exchange.answer,
        text=text if isinstance(text, str) else str(text),
        steps=exchange.answer.steps + 1,
        usage=total(exchange.answer.usage, cost),
        model_returned=getattr(response, "model", None),
        fingerprint=getattr(response, "system_fingerprint", None),
        outcome=_OUTCOMES.get(str(ended)) or ("ok" if text or called else "empty"),
    )
    return message


def _said(message: Any, calls: list[Any]) -> Message:
    named = [(call.id, {"name": call.function.name, "arguments": call.function.arguments}) for call in calls]
    asked = [{"id": call_id, "type": "function", "function": function} for call_id, function in named]
    return {"role": "assistant", "content": getattr(message, "content", None), "tool_calls": asked}


def _arguments(text: Any) -> dict[str, Any] | None:
    try:
        read = json.loads(text or "{}")
    except (ValueError, TypeError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _content(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _handler(imported: Any) -> Any:
    return imported if hasattr(imported, "acompletion") and not isinstance(imported, type) else imported()


@cache
def _provider(litellm: Any, name: str, api_base: str | None) -> str:
    """The provider whose limits a model's calls fall under, as litellm reads its name."""
    try:
        return str(litellm.get_llm_provider(model=name, api_base=api_base)[1])
    except Exception:  # litellm says what is wrong with the name when it is called
        return name.partition("/")[0]


def _attempts(settings: Mapping[str, Any]) -> int:
    attempts = _positive(settings, "attempts", MOST_ATTEMPTS)
    if attempts != int(attempts) or attempts > MOST_ATTEMPTS:
        raise ConfigError(f"cannot read target.attempts: {attempts!r} is not a whole number from 1 to {MOST_ATTEMPTS}")
    return int(attempts)


def _positive(settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigError(f"cannot read target.{name}: {value!r} is not a number above 0")
    return value
