"""A local proxy between programs and their provider, on 127.0.0.1: each program has its own base URL, whose path tells its trial.

http://127.0.0.1:PORT/TOKEN/openai/v1/chat/completions  ->  compose the cell -> the provider's answer, kept or new -> its names back

A streamed answer (server-sent events) is read as the whole answer that it amounts to, its tool calls under other names. It is complete
here before the program gets any of it, so that a stream that breaks off can be asked for again. Arguments that change stand whole in
the first event that has a part of them; later parts are empty.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import canonical, json_object, text_or_json
from bisect_ai.errors import BisectError
from bisect_ai.provider.redaction import describe
from bisect_ai.provider.transport import cancel_others
from bisect_ai.targets.answer import ToolCall
from bisect_ai.targets.wire.composing import SeenOnWire, WireCell
from bisect_ai.targets.wire.exchanges import (
    PROVIDERS,
    Asking,
    ExchangeFailed,
    Exchanges,
    PaidExchange,
    ProviderReply,
    longest_asked,
)
from bisect_ai.targets.wire.request_shapes import (
    Body,
    RequestShape,
    bodies_in,
    choice_name,
    shape_of_path,
)

# Of one request of a program's.
MOST_BYTES = 64 << 20
_READY_SECONDS = 10.0  # of a loop in a thread of our own: it is there in milliseconds, or never


@dataclass
class WireTrial:
    """One trial as the proxy sees it. `cell` None: requests pass as they are, and `bodies` has them."""

    asking: Asking
    cell: WireCell | None
    seen: SeenOnWire = field(default_factory=SeenOnWire)
    # The provider's whole answers, as it gave them.
    answers: list[Body] = field(default_factory=list)
    # Of those that cost something now.
    paid: list[PaidExchange] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    # (path, body) of each request as the program sent it.
    bodies: list[tuple[str, Body]] = field(default_factory=list)
    failures: list[BisectError | ExchangeFailed] = field(default_factory=list)


class WireProxy:
    """Runs in a thread of its own from the first trial to `close`."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._trials: dict[str, WireTrial] = {}
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready, self._port = threading.Event(), 0
        self._wrong: str | None = None

    def base_urls(self, token: str) -> dict[str, str]:
        """Variables for the environment of a program that has this token, so that its requests come here."""
        self._start()
        found: dict[str, str] = {}
        for provider, (variables, _, path) in PROVIDERS.items():
            found |= dict.fromkeys(variables, f"http://127.0.0.1:{self._port}/{token}/{provider}{path}")
        return found

    @contextmanager
    def trial(self, trial: WireTrial, token: str) -> Iterator[None]:
        """Inside, requests under the token's base URLs are the trial's."""
        with self._guard:
            self._trials[token] = trial
        try:
            yield
        finally:
            with self._guard:
                del self._trials[token]

    def close(self) -> None:
        """End the proxy and its connections."""
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_READY_SECONDS)
            self._loop, self._thread = None, None
            self._ready.clear()

    # -- its thread --------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bisect-ai-wire", daemon=True)
                self._thread.start()
        if not self._ready.wait(_READY_SECONDS) or self._wrong:
            raise BisectError(f"cannot start the proxy on 127.0.0.1: {self._wrong or 'it does not answer'}")

    def _run(self) -> None:
        from aiohttp import web

        self._loop = loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        application = web.Application(client_max_size=MOST_BYTES)
        application.router.add_route("*", "/{token}/{provider}/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        try:
            loop.run_until_complete(runner.setup())
            site = web.TCPSite(runner, "127.0.0.1", 0)
            loop.run_until_complete(site.start())
            self._port = runner.addresses[0][1]
        except OSError as error:
            self._wrong = describe(error)
        self._ready.set()
        try:
            if self._wrong is None:
                loop.run_forever()
        finally:
            loop.run_until_complete(self._end(runner))
            loop.close()

    async def _end(self, runner: Any) -> None:
        await cancel_others()
        await self._exchanges.close()
        await runner.cleanup()
        await asyncio.sleep(0)

    # -- one request -------------------------------------------------------------------------------------------------
    async def _handle(self, request: Any) -> Any:
        from aiohttp import web

        with self._guard:
            trial = self._trials.get(request.match_info["token"])
        provider = request.match_info["provider"]
        if trial is None or provider not in PROVIDERS:
            return web.json_response(_error("this trial is over"), status=404, headers=_NO_RETRY)
        path = request.raw_path.split(f"/{provider}", 1)[1].removeprefix(PROVIDERS[provider][2])
        try:
            reply = await self._replied(trial, request.method, provider, path, request.headers, await request.read())
        except (ExchangeFailed, BisectError) as failed:
            trial.failures.append(failed)
            own = failed.reply if isinstance(failed, ExchangeFailed) else None
            reply = own or ProviderReply(502, "application/json", json.dumps(_error(str(failed))).encode())
        headers = {"content-type": reply.type, **(_NO_RETRY if reply.status >= 300 else {})}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    async def _replied(
        self, trial: WireTrial, method: str, provider: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> ProviderReply:
        read = json_object(body) if method == "POST" else None
        if read is None:
            return await self._exchanges.pass_on(method, provider, path, headers, body)
        shape = shape_of_path(path.partition("?")[0])
        if shape is not None:
            trial.bodies.append((path, json.loads(canonical(read)) if trial.cell is None else {}))
        if shape is not None and trial.cell is not None:
            trial.cell.compose(read, shape, trial.seen)
            body = json.dumps(read, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        reply = await self._exchanges.answer(trial.asking, provider, path, headers, body, str(read.get("model") or ""))
        return reply if shape is None else self._given_back(trial, read, body, reply, shape)

    def _given_back(
        self, trial: WireTrial, read: Body, sent: bytes, reply: ProviderReply, shape: RequestShape
    ) -> ProviderReply:
        """The answer as the program gets it; the trial notes what it says."""
        answer = whole_answer(reply.body, shape) if reply.is_stream else json_object(reply.body)
        if reply.is_new:
            said = answer or {}
            model = str(said.get("model") or read.get("model"))
            trial.paid.append(PaidExchange(model, said.get("usage"), len(sent), longest_asked(read)))
        if answer is None:
            return reply
        trial.answers.append(answer)
        for call in shape.calls(answer):
            trial.calls.append(ToolCall(str(call.holder.get("name")), _arguments(call.holder.get(call.key or ""))))
        cell, body = trial.cell, reply.body
        if cell is None:
            return reply
        if reply.is_stream:
            body = changed_stream(body, shape, lambda whole: cell.decompose(whole, shape, trial.seen))
        else:
            given = json.loads(body)
            if cell.decompose(given, shape, trial.seen):
                body = json.dumps(given, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return ProviderReply(reply.status, reply.type, body)


# What OpenAI's and Anthropic's clients heed: the retries are ours, and over.
_NO_RETRY = {"x-should-retry": "false"}


def new_token() -> str:
    """A path that nobody can guess: other users of the machine must not spend this one's money."""
    return secrets.token_urlsafe(18)


def asking_of(query: str, digest: str, repeat: int, *, seconds: float) -> Asking:
    """What the exchanges of a trial share, that begins now and may take so long."""
    return Asking(query, digest, repeat, time.monotonic() + seconds)


def _error(message: str) -> Body:
    return {"error": {"message": f"bisect-ai: {message}", "type": "bisect_ai", "code": None, "param": None}, "type": "error"}


def _arguments(written: Any) -> dict[str, Any]:
    if isinstance(written, str):
        written = json_object(written, numbers="finite")
    return written if isinstance(written, dict) else {}


# Changes a whole answer in place; gives whether it did.
Change = Callable[[Body], bool]
Key = tuple[Any, ...]


def whole_answer(stream: bytes, shape: RequestShape) -> Body:
    """The answer that a stream amounts to, in the form of one that is not streamed."""
    lines = stream.decode("utf-8", "replace").split("\n")  # not `splitlines`: JSON may hold other ends of line
    return shape.whole([event for line in lines if (event := _event(line)) is not None])


def changed_stream(stream: bytes, shape: RequestShape, change: Change) -> bytes:
    """The stream with its tool calls as `change` makes them; the same bytes when it changes nothing."""
    answer = whole_answer(stream, shape)
    if not change(answer):
        return stream
    said = {call.id: (call.holder.get("name"), text_or_json(call.holder.get(call.key or ""))) for call in shape.calls(answer)}
    put = _Rewritten(said)
    lines = [put.line(line) for line in stream.decode("utf-8", "replace").split("\n")]
    return "\n".join(lines).encode("utf-8")


def _event(line: str) -> Body | None:
    return json_object(line[5:]) if line.startswith("data:") else None


class _Rewritten:
    """Rewrites a stream line by line; `said` is id of a call to its new name and arguments."""

    def __init__(self, said: dict[str, tuple[Any, str]]) -> None:
        self._said = said
        # Place of a call in the stream to its id.
        self._ids: dict[Key, str] = {}
        self._put: set[str] = set()

    def line(self, line: str) -> str:
        """The line with the new names and arguments."""
        event = _event(line)
        if event is None:
            return line
        for choice in bodies_in(event.get("choices")):
            delta = choice.get("delta") or {}
            for part in bodies_in(delta.get("tool_calls")):
                self._chat_part(part, (choice.get("index", 0), part.get("index", 0)))
            self._function_part(delta.get("function_call"), choice_name(choice))
        self._anthropic(event)
        self._responses(event)
        end = "\r" if line.endswith("\r") else ""
        return f"data: {json.dumps(event, ensure_ascii=False)}{end}"

    def _chat_part(self, part: Body, place: Key) -> None:
        if part.get("id"):
            self._ids[place] = str(part["id"])
        self._function_part(part.get("function"), self._ids.get(place, ""))

    def _function_part(self, function: Any, call: str) -> None:
        if call not in self._said or not isinstance(function, dict):
            return
        if function.get("name"):
            function["name"] = self._said[call][0]
        if function.get("arguments"):
            function["arguments"] = self._once(call)

    def _anthropic(self, event: Body) -> None:
        place, block, delta = ("block", event.get("index")), event.get("content_block"), event.get("delta")
        if isinstance(block, dict) and block.get("type") == "tool_use":
            self._ids[place] = str(block.get("id"))
            if self._ids[place] in self._said:
                block["name"] = self._said[self._ids[place]][0]
        elif isinstance(delta, dict) and delta.get("partial_json") and self._ids.get(place) in self._said:
            delta["partial_json"] = self._once(self._ids[place])

    def _responses(self, event: Body) -> None:
        if isinstance(event.get("response"), dict):
            for item in bodies_in(event["response"].get("output")):
                self._item(item)
        if isinstance(event.get("item"), dict):
            self._item(event["item"])
        call = self._ids.get(("item", event.get("item_id")), "")
        if call in self._said:
            if event.get("delta"):
                event["delta"] = self._once(call)
            if "arguments" in event:
                event["arguments"] = self._said[call][1]
            if "name" in event:
                event["name"] = self._said[call][0]

    def _item(self, item: Body) -> None:
        call = str(item.get("call_id"))
        if item.get("type") != "function_call" or call not in self._said:
            return
        self._ids["item", item.get("id")] = call
        item["name"] = self._said[call][0]
        if item.get("arguments"):
            item["arguments"] = self._said[call][1]

    def _once(self, call: str) -> str:
        """The whole arguments the first time, nothing after it."""
        if call in self._put:
            return ""
        self._put.add(call)
        return self._said[call][1]
