"""The built-in target: retrieve, assemble, call the model through litellm, give its tool calls their recorded results.

Axes read: `model`, `prompt`, `corpus`, `tools`, `context`, and `sampling`, which is merged into the model's parameters.
Any other axis is part of a trial's identity but changes nothing here.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest, json_object, plain, text_or_json
from bisect_ai.errors import ConfigError, InputError, TargetFailure
from bisect_ai.provider.budget import NO_CAPS, Account, CapReached, Caps
from bisect_ai.provider.completion import Asked, Completions, Message, Reply, model_parameters
from bisect_ai.provider.prices import checked_prices, estimated_usage, total
from bisect_ai.provider.rate_limit import STARTING_CONCURRENCY
from bisect_ai.provider.redaction import describe, line_of
from bisect_ai.provider.retry import CallFailed, RequestTally, Wire
from bisect_ai.provider.usage import Usage
from bisect_ai.provider.user_code import code_identity, imported
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import MISSING, Answer, ToolCall
from bisect_ai.targets.pipeline import FILLED, build_messages, function_tools, lost_question, other_spelling, variables_of
from bisect_ai.targets.retrieval import Indexes, embedding_model
from bisect_ai.targets.target import Doorbell, address_in_environment, attempts_of, check_known, positive, with_tally
from bisect_ai.targets.tool_results import (
    INVALID_ARGUMENTS,
    RecordedTools,
    ResultTooLarge,
    check_call,
    check_size,
    may_take_long,
    signature,
)
from bisect_ai.targets.vector_index import Embedders

PIPELINE_VERSION = 4
# Tool calls with the same arguments and the same result after which a loop goes nowhere.
SAME_CALLS = 4
_SETTINGS = frozenset({"kind", "attempts", "timeout", "deadline", "concurrency", "prices", "custom_providers"}) | {
    *("max_steps", "max_tool_calls", "allow_tools", "tools_missing"),
}


@dataclass
class _Exchange:
    """One trial under way: the messages so far and what they cost."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    tools_text: str
    recorded: RecordedTools
    account: Account
    answer: Answer = field(default_factory=lambda: Answer(steps=0, usage=Usage(usd=0.0)))
    until: float = 0.0
    tally: RequestTally = field(default_factory=RequestTally)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> list[ToolCall]:
        """The calls to which nobody knows the result: whatever the model says after them is not what the application would say."""
        return [call for call in self.answer.tool_calls if call.answered == MISSING]


class LitellmTarget:
    """Answers with the model that the release names. A failed call is an `Answer` with an error, never an exception.

    Settings: `max_steps` (model calls per answer, 6), `max_tool_calls` (per answer, 64), `attempts` (per model call, at
    most 6), `timeout` (seconds per attempt, 60), `deadline` (seconds per answer, 180), `concurrency` (starts at
    32 and rises as the provider's limits leave room; a number of yours stays),
    `custom_providers` (provider name to `module:object`, a litellm CustomLLM or what makes one), `allow_tools` (tool name
    to `module:function` or a callable: runs instead of the recorded result), `tools_missing` (likewise, a stub: runs where the log has
    no result; `LookupError` says that it has none either), `prices` (model to `{input, output}` in USD per
    million tokens and `max_output` in tokens). `per_trial` are the caps of one answer. What the release or the settings get
    wrong raises `InputError`; refused credentials or spent money raise `TargetFailure`; a cap of the run `CapReached`.
    """

    is_async = True

    def __init__(self, settings: Mapping[str, Any], *, folder: Path, per_trial: Caps = NO_CAPS) -> None:
        check_known(settings, _SETTINGS, "litellm")
        self._folder = Path(folder)
        self._max_steps = int(positive(settings, "max_steps", 6))
        self._max_tool_calls = int(positive(settings, "max_tool_calls", 64))
        self.deadline = self._deadline = min(positive(settings, "deadline", 180), (per_trial.minutes or 1e9) * 60)
        self._caps = replace(per_trial, minutes=None)
        self.concurrency = int(positive(settings, "concurrency", STARTING_CONCURRENCY))
        providers = dict(settings.get("custom_providers") or {})
        self._live = _functions(settings, "allow_tools")
        self._stubs = _functions(settings, "tools_missing")
        timeout = positive(settings, "timeout", 60)
        wire = Wire(attempts=attempts_of(settings), timeout=timeout)
        self.headroom = None if "concurrency" in settings else wire.headroom
        self._completions = Completions(
            wire,
            timeout=timeout,
            providers=providers,
            prices=checked_prices(settings.get("prices")),
            folder=self._folder,
        )
        self._doorbell = Doorbell()
        self._account = Account()
        embedders = Embedders(self._completions, providers, folder=self._folder, seconds=3 * timeout)
        self._indexes, self.keep_vectors = Indexes(embedders.of), embedders.keep_in
        self.embedding = self._indexes.embedding
        self.identity: Mapping[str, Any] = {
            "kind": "litellm",
            "pipeline": PIPELINE_VERSION,
            "max_steps": self._max_steps,
            **({"max_tool_calls": self._max_tool_calls} if "max_tool_calls" in settings else {}),
            **{f"most_{name}": cap for name, cap in asdict(self._caps).items() if cap is not None},
            "custom_providers": {name: code_identity(spec, self._folder) for name, spec in providers.items()},
            "allow_tools": {name: code_identity(spec, self._folder) for name, spec in self._live.items()},
            **(
                {"tools_missing": {n: code_identity(spec, self._folder) for n, spec in self._stubs.items()}}
                if self._stubs
                else {}
            ),
        }

    @property
    def answers_itself(self) -> frozenset[str]:
        """Tools whose calls need no recorded result: they run live, or a stub stands in."""
        return frozenset((*self._live, *self._stubs))

    def wrong_templates(self, release: Mapping[str, Any], columns: Collection[str]) -> list[str]:
        """What of a release's prompt would reach the model unfilled; `columns` are those of the log."""
        known = {*FILLED, *columns}
        found = [
            f"{place} names {variable}, which nothing fills: the log has {', '.join(sorted(columns))} (map one with "
            f"log.columns; braces that are text are written {{{{ and }}}})"
            for place, variable, name in dict.fromkeys(variables_of(release, known))
            if name not in known
        ]
        found += [
            f"{place} names {{{{{name}}}}} where others are {{name}}, so it would be sent as {{{name}}}; write {{{name}}}"
            for place, name in dict.fromkeys(other_spelling(release, known))
            if name in known
        ]
        if (user := lost_question(release, known)) is not None:
            found.append(
                f"prompt.user is {user[:60]!r}: it names no column, so no question would reach the model; write {{input}}"
            )
        return found

    def odd_templates(self, release: Mapping[str, Any], columns: Collection[str]) -> list[str]:
        """What of a release's prompt may be a variable that nothing fills, or braces that are meant."""
        known = {*FILLED, *columns}
        spelt = [each for each in dict.fromkeys(other_spelling(release, known)) if each[1] not in known]
        return [f"{place} has {{{{{name}}}}}, which no column fills: it is sent as {{{name}}}" for place, name in spelt]

    def sent_columns(self, release: Mapping[str, Any], columns: Collection[str]) -> list[tuple[str, str, str]]:
        """(where, variable as written, column) of what a release's prompt sends of a query besides its question."""
        found = variables_of(release, {*FILLED, *columns})
        return [each for each in dict.fromkeys(found) if each[2] in columns and each[2] not in FILLED]

    def addresses(self, release: Mapping[str, Any]) -> list[str]:
        """The services that a release's model is called at, where it or the environment says."""
        model = model_parameters(release)
        base = model.get("api_base") or address_in_environment(str(model.get("model")), os.environ)
        return [base] if isinstance(base, str) else []

    def missing_keys(self, release: Mapping[str, Any]) -> list[str]:
        """Variables of the environment that its model's provider wants and that are not set."""
        return self._completions.missing_keys(model_parameters(release))

    def absent_keys(self, release: Mapping[str, Any]) -> list[str]:
        """Those without which no request of it can be answered."""
        models = filter(None, (model_parameters(release), embedding_model(release)))
        return [key for model in models for key in self._completions.absent_keys(model)]

    def pay_from(self, account: Account) -> None:
        """From now on every request is paid from the run's account."""
        self._account = account

    def check_tools(self, *releases: Mapping[str, Any]) -> None:
        """Raises `InputError` when the tools of a release cannot be read, or the user's code for them not imported. Spends nothing."""
        for release in releases:
            function_tools(release.get("tools"))
            if (model := embedding_model(release)) is not None:
                model_parameters({"model": model})
        for spec in (*self._live.values(), *self._stubs.values()):
            imported(spec, self._folder)

    def check_caps(self, *releases: Mapping[str, Any]) -> None:
        """Raises `ConfigError` when a cap on money or tokens could not be kept for one of the releases. Spends nothing."""
        account = self._account.trial(self._caps)
        if account.need_bounds:
            for release in releases:
                self._completions.check_caps(model_parameters(release), account)
                if (model := embedding_model(release)) is not None:
                    self._completions.check_caps(model, account, answers=False)

    async def __call__(self, query: Query, release: Mapping[str, Any], repeat: int) -> Answer:
        """The answer to `query` by `release`. `repeat` is not sent: a repeat asks the same again."""
        del repeat
        self._completions.ready()
        model = model_parameters(release)
        for address in self.addresses(release):
            await self._doorbell.ring(address)
        try:
            found = (
                await self._indexes.find(release["corpus"], query.input, query.id) if release.get("corpus") is not None else ()
            )
        except CallFailed as failed:
            return _failed_answer(Answer(), CallFailed(f"the question was not embedded: {failed}", outcome=failed.outcome))
        tools = function_tools(release.get("tools"))
        messages, recorded = build_messages(query, release, found), RecordedTools(query.tool_results)
        account = self._account.trial(self._caps)
        exchange = _Exchange(messages, tools, json.dumps(tools) if tools else "", recorded, account)
        started = time.monotonic()
        exchange.until = started + self._deadline
        exchange.answer = replace(exchange.answer, documents=tuple(one.to_dict() for one in found))
        answer = await self._answered(model, exchange)
        if exchange.missing:
            answer = replace(answer, error=_told_missing(exchange.missing), outcome=MISSING, reason=None)
        return with_tally(answer, exchange.tally, time.monotonic() - started)

    def preview(self, query: Query, release: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The messages of the first model call, exactly as they would be sent. Spends nothing."""
        found = self._indexes.get(release["corpus"]).likely(query.input) if release.get("corpus") is not None else ()
        return build_messages(query, release, found)

    def estimate(self, query: Query, release: Mapping[str, Any]) -> Usage:
        """What one model call for this answer will cost, from the length of what would be sent. Spends nothing."""
        price, tools = self._completions.price(str(model_parameters(release)["model"])), function_tools(release.get("tools"))
        found = self._indexes.get(release["corpus"]).likely(query.input) if release.get("corpus") is not None else ()
        return estimated_usage(price, build_messages(query, release, found), tools, query.output)

    async def _answered(self, model: Mapping[str, Any], exchange: _Exchange) -> Answer:
        try:
            async with asyncio.timeout(self._deadline):
                await self._converse(model, exchange)
        except (InputError, TargetFailure):
            raise
        except CapReached as reached:
            return self._capped(reached, exchange)
        except CallFailed as failed:
            return _failed_answer(exchange.answer, failed)
        except _ToolFailed as failed:
            return replace(exchange.answer, error=str(failed), outcome="error")
        except TimeoutError:
            return replace(exchange.answer, error=f"TimeoutError: no answer within {self._deadline:g} s", outcome="timeout")
        except Exception as error:
            return replace(exchange.answer, error=describe(error), outcome="error")
        return exchange.answer

    def _capped(self, reached: CapReached, exchange: _Exchange) -> Answer:
        """An outcome when the cap is the trial's own; the run's stops the run, but what a trial has paid for is kept."""
        sent = exchange.tally.requests
        if reached.account is not exchange.account:
            if not sent:
                raise reached
            return replace(exchange.answer, error=str(reached), outcome="error")
        if not sent:
            raise ConfigError(f"budget.per_trial is too small for one call: {reached}; raise it, or set max_tokens lower")
        return replace(exchange.answer, outcome=f"max_{reached.cap}")

    async def _converse(self, model: Mapping[str, Any], exchange: _Exchange) -> None:
        for step in range(1, self._max_steps + 1):
            reply = await self._completions.ask(
                model,
                exchange.messages,
                exchange.tools_text,
                until=exchange.until,
                tally=exchange.tally,
                account=exchange.account,
            )
            exchange.answer = _noted(exchange.answer, reply)
            if not reply.calls:
                return
            exchange.messages.append(_assistant_message(reply))
            for call in reply.calls[: self._max_tool_calls - len(exchange.answer.tool_calls)]:
                await self._call_tool(exchange, call)
            if hit := self._limit(exchange, step):
                exchange.answer = replace(exchange.answer, outcome=hit)
                return

    def _limit(self, exchange: _Exchange, step: int) -> str | None:
        """The limit that an answer which wants to go on has hit."""
        if max(exchange.seen.values(), default=0) >= SAME_CALLS:
            return "repeated_calls"
        if len(exchange.answer.tool_calls) >= self._max_tool_calls:
            return "max_tool_calls"
        return "max_steps" if step == self._max_steps else None

    async def _call_tool(self, exchange: _Exchange, call: Asked) -> None:
        done = await self._result(exchange, call.name, json_object(call.arguments, numbers="finite"))
        exchange.answer = replace(exchange.answer, tool_calls=(*exchange.answer.tool_calls, done))
        exchange.seen[digest(asdict(done))] += 1
        content = f"Error: {done.error}" if done.error else text_or_json(done.result)
        exchange.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content})

    async def _result(self, exchange: _Exchange, name: str, arguments: dict[str, Any] | None) -> ToolCall:
        if arguments is None:
            return ToolCall(name, {}, error=f"{INVALID_ARGUMENTS}: they are not a JSON object")
        check = partial(check_call, exchange.tools, name, arguments)
        refused = await asyncio.to_thread(check) if may_take_long(exchange.tools, name) else check()
        if refused:
            return ToolCall(name, arguments, error=refused)
        if name in self._live:
            return await self._run_live(name, arguments)
        done = exchange.recorded.call(name, arguments, _tool_parameters(exchange.tools, name))
        return await self._run_stub(done) if done.answered == MISSING and name in self._stubs else done

    async def _run_live(self, name: str, arguments: dict[str, Any]) -> ToolCall:
        function = imported(self._live[name], self._folder)
        try:
            return ToolCall(name, arguments, result=await _call_tool(function, arguments), answered="live")
        except ResultTooLarge as error:
            raise _ToolFailed(f"the tool {name} in allow_tools: {error}") from error
        except Exception as error:
            return ToolCall(name, arguments, error=describe(error), answered="live")

    async def _run_stub(self, missed: ToolCall) -> ToolCall:
        """What the user's stub says; a stub that fails is no tool that does: nothing is known of what the tool would say."""
        function = imported(self._stubs[missed.name], self._folder)
        try:
            return replace(missed, result=await _call_tool(function, missed.arguments), error=None, answered="stub")
        except LookupError:
            return missed
        except Exception as error:
            raise _ToolFailed(f"the stub of {missed.name} in tools_missing failed: {describe(error)}") from error


class _ToolFailed(Exception):
    """A stub of the user's raised, or what a tool gave back is no use."""


async def _call_tool(function: Any, arguments: Mapping[str, Any]) -> Any:
    os.environ["BISECT_REPLAY"] = "1"
    returned = await asyncio.to_thread(function, **arguments)
    result = await returned if inspect.isawaitable(returned) else returned
    check_size(result)
    return plain(result)


def _functions(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A setting that maps tools to functions. Raises `ConfigError` naming what is wrong."""
    given = settings.get(key) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"cannot read target.{key}: it is a {type(given).__name__}; give a mapping of tool to module:function"
        )
    for name, spec in given.items():
        if not isinstance(spec, str) and not callable(spec):
            raise ConfigError(f"cannot read target.{key}.{name}: {str(spec)[:60]!r} is no module:function")
    return {str(name): spec for name, spec in given.items()}


def _tool_parameters(tools: list[dict[str, Any]], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == name)
    return found


def _told_missing(calls: list[ToolCall]) -> str:
    """The error of a trial that rests on these calls: what to record, with the values of the first."""
    others = dict.fromkeys(signature(call.name, call.arguments) for call in calls[1:])
    more = f"; also {line_of(', '.join(others))}" if others else ""
    first = f"{signature(calls[0].name, calls[0].arguments)}, asked with {json.dumps(calls[0].arguments, ensure_ascii=False)}"
    return f"ToolResultMissing: the log has no result of {line_of(first)}{more}"


def _noted(answer: Answer, reply: Reply) -> Answer:
    """The answer after a reply: its text and fate are the last reply's, its cost is the sum."""
    return replace(
        answer,
        text=reply.text,
        steps=answer.steps + 1,
        usage=total(answer.usage, reply.usage),
        model_returned=reply.model,
        fingerprint=reply.fingerprint,
        outcome=reply.outcome,
    )


def _failed_answer(answer: Answer, failed: CallFailed) -> Answer:
    if failed.outcome == "failed":
        return replace(answer, text="", outcome="failed", reason=str(failed))
    return replace(answer, error=str(failed), outcome=failed.outcome)


def _assistant_message(reply: Reply) -> Message:
    asked = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.calls
    ]
    return {"role": "assistant", "content": reply.content, "tool_calls": asked}
