"""What leaves and what comes back: each request counted, none sent twice, no redirect, no endless body.

Requests of our own are sent by `posted`. litellm's HTTP handlers follow redirects and send a request again when its connection fails,
both unseen from outside. They all end in one transport, so the guard stands there. It acts only inside `watched`; other users of
litellm in the process see no difference. A custom provider, or a transport that the user put in litellm's place, is out of its reach.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

from bisect_ai.canonical import json_object
from bisect_ai.provider.usage import MOST_TOKENS, as_number, text_of_parts

# Of one response.
MAX_BYTES = 10 * 2**20
_TOLD = 4096  # bytes of a failed answer that are kept to say why
ELSEWHERE = "set api_base to where it leads"


@dataclass
class Exchanged:
    """What one attempt did on the wire; `refused` says why the guard ended it."""

    # The transport was asked to send.
    touched: bool = False
    # Requests that reached a connection, so the provider may have got them.
    requests: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    refused: str | None = None
    # The start of an error's body: litellm does not pass all of it on. Not redacted.
    told: bytes = b""
    # Why no connection came about, with the address: litellm does not pass it on. Not redacted.
    failure: str = ""
    # Where the request went: scheme, host, port, and the proxy on the way.
    endpoint: str | None = None
    # What the response says of its usage that cannot be.
    doubt: str | None = None
    sent: set[tuple[str, str]] = field(default_factory=set)
    # Waited for before the request leaves; raises what ends the attempt with nothing sent.
    leave: Callable[[], Awaitable[None]] | None = None
    # What `leave` raised: litellm does not pass it on as it is.
    held: Exception | None = None

    async def leaving(self) -> None:
        """Returns when the request may leave."""
        if self.leave is not None:
            try:
                await self.leave()
            except Exception as error:  # litellm takes an httpx error for a failed call, and any other for a fault of its own
                self.held = error
                raise


# Event loop to the transports that have sent on it.
_used: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[Any]] = WeakKeyDictionary()
_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
_LONGEST_HEADER = 2**16  # bytes; aiohttp's own limit of 8 KiB is less than some gateways send
_now: ContextVar[Exchanged | None] = ContextVar("bisect_ai_exchanged", default=None)


@contextmanager
def watched() -> Iterator[Exchanged]:
    """What the calls inside exchange with the provider, filled in as it happens."""
    exchanged = Exchanged()
    token = _now.set(exchanged)
    try:
        yield exchanged
    finally:
        _now.reset(token)


def under_way() -> Exchanged:
    """The exchange of the attempt that this call is part of, for a transport of our own to fill in."""
    return _now.get() or Exchanged()


def shared_session() -> Any:
    """The running event loop's aiohttp session for transports of our own: connections are kept, no proxy, cookie or login is used,
    nothing is decompressed. `close_connections` closes it."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        import aiohttp

        _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            auto_decompress=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
    return _sessions[loop]


class Unread(Exception):
    """A response is not read; the message says why."""


async def posted(
    url: str, body: bytes, headers: Mapping[str, str], *, instead: str, session: Any = None, **options: Any
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and whole body of the answer to one POST; the exchange under way hears of it all.

    `session`: None: the shared one; `headers` ask for no compression; `options` are aiohttp's. Raises what aiohttp raises, and `Unread`
    for what may not be read (`instead` says what to do).
    """
    import aiohttp

    exchanged = under_way()
    await exchanged.leaving()
    exchanged.touched, exchanged.requests = True, 1
    parts = urlsplit(url)
    exchanged.endpoint = _on_the_way(parts.scheme, parts.netloc, options.get("proxy"))
    try:
        sending = (session or shared_session()).post(url, data=body, headers=headers, allow_redirects=False, **options)
        async with sending as response:
            return response.status, response.headers, await _received(response, exchanged, instead)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        exchanged.requests, exchanged.failure = 0, str(error)
        raise


async def _received(response: Any, exchanged: Exchanged, instead: str) -> bytes:
    exchanged.status, exchanged.headers = response.status, response.headers
    exchanged.refused = unwanted(response.status, response.headers, instead)
    received = bytearray()
    while exchanged.refused is None and (chunk := await response.content.readany()):
        received += chunk
        if len(received) > MAX_BYTES:
            exchanged.refused = too_long()
    if exchanged.refused is not None:
        raise Unread(exchanged.refused)
    exchanged.complete = True
    if response.status >= 400:
        exchanged.told = bytes(received[:_TOLD])
    return bytes(received)


async def cancel_others() -> None:
    """Cancel every other task of the running event loop, and return when all have ended."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def close_connections() -> None:
    """Closes what watched requests on the running event loop have left open: sessions are kept, and the loop ends."""
    loop = asyncio.get_running_loop()
    if loop in _sessions:
        await _sessions.pop(loop).close()
    for transport in _used.pop(loop, ()):
        session = getattr(transport, "client", None)
        if getattr(session, "_loop", None) is loop and session is not None:
            await session.close()
    await asyncio.sleep(0)  # the sockets close in the loop's next turn


@cache
def install(transport: Any) -> None:
    """Puts the guard into litellm's transport class, once a process."""
    import aiohttp
    import httpx

    send, capped = transport.handle_async_request, _capped_stream(httpx)

    async def guarded(self: Any, request: Any) -> Any:
        exchanged = _now.get()
        if exchanged is None:
            return await send(self, request)
        # A read error, because litellm sends a request again after a connection error.
        refuse = _refusal(exchanged, request)
        if refuse:
            raise httpx.ReadError(refuse)
        _used.setdefault(asyncio.get_running_loop(), WeakSet()).add(self)
        try:
            await exchanged.leaving()
        except Exception as error:
            raise httpx.ReadError(str(error)) from error
        try:
            exchanged.requests += 1
            exchanged.endpoint = endpoint_of(
                request.url.scheme, request.url.netloc.decode("ascii", "replace"), request.url.host
            )
            response = await send(self, request)
        except httpx.ConnectError as error:
            # Nothing was sent when no connection came about.
            exchanged.requests -= isinstance(error.__cause__, aiohttp.ClientConnectorError)
            exchanged.failure = str(error)
            raise
        exchanged.status, exchanged.headers = response.status_code, response.headers.copy()
        response.headers["x-should-retry"] = (
            "false"  # OpenAI's client waits and retries, for litellm's embeddings whatever is asked
        )
        exchanged.refused = unwanted(response.status_code, response.headers, ELSEWHERE)
        if exchanged.refused:
            await response.aclose()
            raise httpx.ReadError(exchanged.refused)
        response.stream = capped(response.stream, exchanged)
        return response

    transport.handle_async_request = guarded


@lru_cache(maxsize=256)
def endpoint_of(scheme: str, netloc: str, host: str) -> str:
    """`scheme://netloc`, and the proxy that the environment puts on the way; of neither the user's name or password."""
    return _on_the_way(scheme, netloc, proxy_for(scheme, host))


def _on_the_way(scheme: str, netloc: str, proxy: str | None) -> str:
    there = f"{scheme}://{netloc.rpartition('@')[2]}"
    return f"{there} through the proxy {proxy.rpartition('@')[2].rpartition('/')[2]}" if proxy else there


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that the environment puts on the way to a host."""
    import urllib.request  # brings Python's HTTP client and its mail parser, which a command that calls nobody never needs

    proxies = {} if urllib.request.proxy_bypass(host) else urllib.request.getproxies()
    return proxies.get(scheme) or proxies.get("all")


def _refusal(exchanged: Exchanged, request: Any) -> str | None:
    """Why a request must not leave: the same one has left in this attempt. Asks for a body whose size can be seen."""
    exchanged.touched = True
    key = (request.method, str(request.url))
    if request.method == "POST" and key in exchanged.sent:
        return f"connection failed: {exchanged.failure}"
    exchanged.sent.add(key)
    request.headers["accept-encoding"] = "identity"
    return None


def unwanted(status: int, headers: Mapping[str, str], instead: str) -> str | None:
    """Why a response is not read: it redirects (`instead` says what to do), is compressed, or says that it is too long."""
    if 300 <= status < 400:
        return (
            f"the provider redirects (status {status}); redirects are not followed, because they would carry "
            f"the credentials along: {instead}"
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        return "the provider sent a compressed body although none was asked for; its size cannot be bounded"
    declared = headers.get("content-length", "")
    return too_long() if declared.isdigit() and int(declared) > MAX_BYTES else None


def too_long() -> str:
    """That the cap on bytes was passed."""
    return f"the provider's answer is longer than {MAX_BYTES // 2**20} MiB"


# What litellm would stumble over in an answer: content in parts, counts of tokens that are no numbers, usage that is no object.
_ODD = (
    rb'"content"\s*:\s*[\[{]|"(?:prompt|completion|total|input|output)_tokens"\s*:\s*+(?!\d{1,9}\s*[,}\]])'
    rb'|"(?:usage|\w+_tokens_details)"\s*:\s*+(?![{n])'
)
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")


@cache
def _odd_answer() -> re.Pattern[bytes]:
    """Compiled at the first answer: a hundredth of a short command's time, which has none."""
    return re.compile(_ODD)


def readable(body: bytes, exchanged: Exchanged) -> bytes:
    """A response as litellm reads it: an answer in parts as one text, counts that are written as text as numbers.

    A count that cannot be is left out, and noted: litellm would refuse the whole answer, which is paid for.
    """
    if not _odd_answer().search(body):
        return body
    read = json_object(body)
    if read is None:
        return body
    choices = read.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict) and isinstance(message.get("content"), list | dict):
            message["content"] = text_of_parts(message["content"])
    if read.get("usage") is not None:
        read["usage"] = _usage_counts(read["usage"], exchanged)
    return json.dumps(read).encode("ascii")


def _usage_counts(usage: Any, exchanged: Exchanged) -> dict[str, Any]:
    """What is said of usage, with whole numbers as counts: 0 where none, or none that can be, was said."""
    if not isinstance(usage, dict):
        exchanged.doubt = exchanged.doubt or f"usage is a {type(usage).__name__}"
        return {}
    details = {k for k, v in usage.items() if k.endswith("_tokens_details") and not isinstance(v, dict)}
    counts = {name: _usage_count(name, usage[name], exchanged) for name in _TOKENS if name in usage}
    return {**{k: v for k, v in usage.items() if k not in details}, **counts}


def _usage_count(name: str, said: Any, exchanged: Exchanged) -> int:
    number = 0 if said is None else as_number(said)
    if number is None or number % 1 or not 0 <= number < MOST_TOKENS:
        exchanged.doubt = exchanged.doubt or f"usage.{name} is {str(said)[:40]}"
        return 0
    return int(number)


def _capped_stream(httpx: Any) -> Any:
    """A class of response body that ends with an error when it is too long."""

    class Capped(httpx.AsyncByteStream):  # type: ignore[misc]  # httpx comes late, so its types do not come at all
        def __init__(self, stream: Any, exchanged: Exchanged) -> None:
            self._stream, self._exchanged = stream, exchanged

        async def __aiter__(self) -> AsyncIterator[bytes]:
            received, whole = 0, bytearray()
            async for chunk in self._stream:
                received += len(chunk)
                if received > MAX_BYTES:
                    self._exchanged.refused = too_long()
                    raise httpx.ReadError(self._exchanged.refused)
                if (self._exchanged.status or 0) >= 400:
                    self._exchanged.told += chunk[: _TOLD - min(len(self._exchanged.told), _TOLD)]
                    yield chunk
                else:
                    whole += chunk
            self._exchanged.complete = True
            if whole:
                yield readable(bytes(whole), self._exchanged)

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Capped
