"""A local proxy between programs and their provider, on 127.0.0.1: each program has its own base URL, whose path tells its trial.

http://127.0.0.1:PORT/TOKEN/openai/v1/chat/completions  ->  compose the cell -> the provider's answer, kept or new -> its names back
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import canonical, json_object
from bisect_ai.errors import BisectError
from bisect_ai.provider.redaction import describe
from bisect_ai.targets.answer import ToolCall
from bisect_ai.targets.wire.composing import SeenOnWire, WireCell
from bisect_ai.targets.wire.event_streams import changed_stream, whole_answer
from bisect_ai.targets.wire.exchanges import (
    PROVIDERS,
    Asking,
    ExchangeFailed,
    Exchanges,
    PaidExchange,
    ProviderReply,
    longest_asked,
)
from bisect_ai.targets.wire.request_shapes import Body, RequestShape, shape_of_path

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
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
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
        except ExchangeFailed as failed:
            trial.failures.append(failed)
            reply = failed.reply or ProviderReply(502, "application/json", json.dumps(_error(str(failed))).encode())
        except BisectError as failed:
            trial.failures.append(failed)
            reply = ProviderReply(502, "application/json", json.dumps(_error(str(failed))).encode())
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
