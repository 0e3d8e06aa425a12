"""A model provider on loopback that answers as a script says, faults included, and logs every request that it gets.

It speaks the OpenAI form on `/v1/chat/completions` and the Anthropic form on `/v1/messages`. HTTP is written by hand, because
half of what it has to send is not HTTP.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
_CHUNK = b"x" * 65536


@dataclass(frozen=True)
class Request:
    """One request as it came in. `number` counts from 0; a header that holds a secret keeps only its name."""

    number: int
    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Say:
    """What to send back. `body` None is a plain answer with `text`; `mode` is how it goes over the wire.

    Modes: `whole`; `reset` (the connection dies, nothing sent); `hang` (no byte ever); `drip` (headers, then a byte a
    `delay`); `half` (half of the body, then the connection ends); `endless` (a body that never ends).
    """

    status: int = 200
    text: str = "Hello."
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    mode: str = "whole"
    delay: float = 0.0
    jitter: float = 0.0
    change: Callable[[dict[str, Any]], None] | None = None
    """Alters the plain answer in place: takes its usage away, empties its choices, …"""


Script = Sequence[Say] | Callable[[Request], Say]


class Provider:
    """A running provider; `requests` is its log. A list plays in turn and stays at its last entry."""

    def __init__(self, script: Script, *, seed: int = 0) -> None:
        self.requests: list[Request] = []
        self._script = script
        self._rng = random.Random(seed)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)

    def __enter__(self) -> Provider:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def model(self, route: str, name: str = "gpt-4o", **parameters: Any) -> dict[str, Any]:
        """A model axis that leads here by litellm's route `openai`, `mistral` or `anthropic`."""
        base = self.host if route == "anthropic" else f"{self.host}/v1"
        return {"model": f"{route}/{name}", "api_base": base, **parameters}

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._read(reader)) is not None and await self._answer(request, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        shown = {k: "[present]" if k in _SECRET_HEADERS else v for k, v in headers.items()}
        body = json.loads(raw) if raw else {}
        request = Request(len(self.requests), time.monotonic(), head[0].split(" ")[1], shown, body)
        self.requests.append(request)
        return request

    def _say(self, request: Request) -> Say:
        if callable(self._script):
            return self._script(request)
        return self._script[min(request.number, len(self._script) - 1)]

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Send what the script says; whether the connection lives on."""
        say = self._say(request)
        if say.mode == "drip":
            return await _drip(writer, say)
        if say.delay or say.jitter:
            await asyncio.sleep(say.delay + self._rng.uniform(0, say.jitter))
        if say.mode == "reset":
            return False
        if say.mode == "hang":
            await asyncio.sleep(3600)
        if say.mode == "endless":
            return await _endless(writer, say)
        body = _body(say, request)
        sent = body[: len(body) // 2] if say.mode == "half" else body
        writer.write(_head(say, len(body)) + sent)
        await writer.drain()
        return say.mode == "whole"


async def _drip(writer: asyncio.StreamWriter, say: Say) -> bool:
    writer.write(_head(say, 10_000))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(say.delay)


async def _endless(writer: asyncio.StreamWriter, say: Say) -> bool:
    writer.write(_head(say, None))
    while True:
        writer.write(_CHUNK)
        await writer.drain()


def _head(say: Say, length: int | None) -> bytes:
    fixed = {"content-type": "application/json"} | ({} if length is None else {"content-length": str(length)})
    lines = [f"{name}: {value}" for name, value in {**fixed, **say.headers}.items()]
    return "\r\n".join([f"HTTP/1.1 {say.status} Scripted", *lines, "", ""]).encode("latin-1")


def _body(say: Say, request: Request) -> bytes:
    if isinstance(say.body, bytes):
        return say.body
    if say.body is not None:
        return json.dumps(say.body).encode()
    if say.status >= 300:
        return json.dumps({"type": "error", "error": {"type": "scripted", "message": f"status {say.status}"}}).encode()
    plain = (openai_answer if "chat/completions" in request.path else anthropic_answer)(say.text, request.body)
    if say.change is not None:
        say.change(plain)
    return json.dumps(plain).encode()


def openai_answer(text: str, body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }


def anthropic_answer(text: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 4},
    }


def calls_tool(name: str, arguments: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Turns a plain OpenAI answer into one tool call."""

    def change(answer: dict[str, Any]) -> None:
        function = {"name": name, "arguments": json.dumps(arguments)}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
        answer["choices"] = [{"index": 0, "finish_reason": "tool_calls", "message": message}]

    return change
