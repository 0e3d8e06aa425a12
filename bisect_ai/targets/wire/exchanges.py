"""Requests to the provider itself: each answer kept by its request, so that none is paid for twice; caps, limits and retries are ours.

The identity of an exchange is the digest of the composed request, its query and repeat, and how often the same one came in its trial.
So a run that was killed in the middle of a trial asks on where it stopped, and cells that send the same request share its answer.
Credentials pass through in headers, which are never kept; only whole answers with a status below 300 are. What an answer cost is what
it says, or the most that it can have cost where it does not, or says what cannot be.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from bisect_ai.canonical import digest
from bisect_ai.errors import ConfigError
from bisect_ai.provider.budget import Account, Amount, Caps
from bisect_ai.provider.prices import Price
from bisect_ai.provider.redaction import redact
from bisect_ai.provider.retry import CallFailed, ModelRequest, RequestTally, Route, Wire
from bisect_ai.provider.transport import MAX_BYTES, posted
from bisect_ai.provider.usage import Usage, as_number, sound_usage
from bisect_ai.targets.target import Doorbell

# Provider to the variable in which its client looks for the key.
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
# Provider to the variables that hold its base URL, the base URL where none does, and the path that clients expect in it.
PROVIDERS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1", "/v1"),
    "anthropic": (("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"), "https://api.anthropic.com", ""),
}
_FREE = frozenset(("GET", "HEAD", "OPTIONS"))
_NOT_PASSED = frozenset(
    (
        *("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive", "upgrade", "te"),
        *("trailer", "proxy-connection", "expect", "proxy-authorization"),
    )
)


class ExchangeBook(Protocol):
    """What keeps a run's exchanges."""

    def account(self, most: int | None) -> Account:
        """What requests come out of, `most` of them in all sittings and processes of the run."""

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """The answer that was kept for an identity."""

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep an answer to one query, without credentials. Raises `StoreError`."""


class UnkeptBook:
    """Keeps exchanges for this process only."""

    def __init__(self) -> None:
        self._kept: dict[str, Mapping[str, Any]] = {}

    def account(self, most: int | None) -> Account:
        """Theirs alone."""
        return Account(Caps(calls=most))

    def find(self, identity: str) -> Mapping[str, Any] | None:
        """The answer that was kept for an identity."""
        return self._kept.get(identity)

    def keep(self, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep an answer."""
        del query
        self._kept[identity] = record


@dataclass(frozen=True)
class ProviderReply:
    """A whole answer of the provider's. `is_new`: it was paid for now, or by a sitting that was killed before its trial ended."""

    status: int
    type: str
    body: bytes
    is_new: bool = True
    used: Amount = Amount(1)  # noqa: RUF009  # frozen: shared safely

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events."""
        return self.type.startswith("text/event-stream")


@dataclass
class Asking:
    """What the exchanges of one trial share."""

    # Its id, under which what is kept can be removed.
    query: str
    digest: str
    repeat: int
    # Monotonic seconds.
    until: float
    tally: RequestTally = field(default_factory=RequestTally)
    times: Counter[str] = field(default_factory=Counter)


class _ProviderRefused(Exception):
    """The provider answered with an error."""

    def __init__(self, reply: ProviderReply) -> None:
        super().__init__(f"status {reply.status}: {redact(reply.body[:4096].decode('utf-8', 'replace'))[:200]}")
        self.status_code, self.reply = reply.status, reply


class ExchangeFailed(Exception):
    """No answer came: `reply` is what the program gets to hear, `outcome` as of an `Answer` with an error, or `failed`."""

    def __init__(self, failed: CallFailed, reply: ProviderReply | None) -> None:
        super().__init__(str(failed))
        self.outcome, self.reply = failed.outcome, reply


def upstreams_of(given: Any, environment: Mapping[str, str]) -> dict[str, str]:
    """Provider to its real base URL: `upstream` of the settings, else as the environment says, else the provider's own."""
    named = dict.fromkeys(PROVIDERS, given) if isinstance(given, str) else given or {}
    if not isinstance(named, Mapping) or set(named) - set(PROVIDERS):
        raise ConfigError(f"cannot read target.upstream: give a URL, or a mapping of {', '.join(PROVIDERS)} to URLs")
    found = {}
    for provider, (variables, default, _) in PROVIDERS.items():
        url = named.get(provider) or next((environment[v] for v in variables if environment.get(v)), default)
        parts = urlsplit(str(url))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError(
                f"cannot use the base URL {redact(str(url))[:80]!r} of {provider}: give an http or https address without a password"
            )
        found[provider] = str(url).rstrip("/")
    return found


def provider_spoken(upstreams: Mapping[str, str], model: str) -> str:
    """The provider that a program speaks to, as far as is known beforehand: the one with an address of its own, else by model."""
    named = [provider for provider, (_, default, _) in PROVIDERS.items() if upstreams[provider] != default]
    if len(named) == 1:
        return named[0]
    return "anthropic" if model.startswith(("anthropic/", "claude")) else "openai"


class Exchanges:
    """Asks providers for a run's trials, on one event loop. `most`: the most requests that may leave."""

    def __init__(self, upstreams: Mapping[str, str], *, attempts: int, timeout: float, most: int | None = None) -> None:
        self._upstreams, self._timeout, self._most = upstreams, timeout, most
        self._wire = Wire(attempts=attempts, timeout=timeout)
        self._doorbell = Doorbell()
        self._session: Any = None
        self._mine: set[str] = set()
        self.keep_in(UnkeptBook())

    def keep_in(self, book: ExchangeBook) -> None:
        """From now on answers are kept there, and requests counted."""
        self._book, self._account = book, book.account(self._most)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def answer(
        self, asking: Asking, provider: str, path: str, headers: Mapping[str, str], body: bytes, model: str
    ) -> ProviderReply:
        """The answer to a POST, kept or new. Raises `ExchangeFailed`, `TargetFailure`, `CapReached`, `StoreError`."""
        identity = self._identity(asking, provider, path, body)
        if (kept := self._book.find(identity)) is not None:
            is_new = identity not in self._mine
            self._mine.add(identity)
            return ProviderReply(kept["status"], kept["type"], str(kept["body"]).encode("utf-8"), is_new)
        reply = await self._asked(asking, provider, path, headers, body, model)
        self._mine.add(identity)
        record = {"status": reply.status, "type": reply.type, "body": reply.body.decode("utf-8", "replace")}
        self._book.keep(identity, asking.query, record)
        return reply

    def _identity(self, asking: Asking, provider: str, path: str, body: bytes) -> str:
        own = hashlib.sha256(b"\n".join((self._upstreams[provider].encode(), path.encode(), body))).hexdigest()
        asking.times[own] += 1
        return digest({"request": own, "query": asking.digest, "repeat": asking.repeat, "time": asking.times[own]})

    async def _asked(
        self, asking: Asking, provider: str, path: str, headers: Mapping[str, str], body: bytes, model: str
    ) -> ProviderReply:
        url = f"{self._upstreams[provider]}{path}"
        if not _has_way_round():  # else nobody need be reached directly
            await self._doorbell.ring(url)
        last: list[ProviderReply] = []

        async def send() -> ProviderReply:
            try:
                return await self._post(url, headers, body)
            except _ProviderRefused as refused:
                last[:] = [refused.reply]
                raise

        call = ModelRequest(send, lambda: Amount(1), lambda reply: reply)
        route = Route(urlsplit(url).netloc, model or path)
        try:
            return await self._wire.send(call, route, until=asking.until, tally=asking.tally, account=self._account)
        except CallFailed as failed:
            raise ExchangeFailed(failed, last[0] if last else None) from failed

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> ProviderReply:
        """One request, its answer read up to the cap on bytes."""
        parts = urlsplit(url)
        status, told, received = await posted(
            url,
            body,
            passed_on(headers),
            instead="set target.upstream to where it leads",
            session=self._connections(),
            proxy=_way_to(parts.scheme, parts.hostname or ""),
        )
        reply = ProviderReply(status, told.get("content-type", "application/json"), received)
        if status >= 300:
            raise _ProviderRefused(reply)
        return reply

    async def pass_on(self, method: str, provider: str, path: str, headers: Mapping[str, str], body: bytes) -> ProviderReply:
        """What is no question to a model (a list of models, a file): sent once, not kept; one that may cost something is counted."""
        import aiohttp

        if method not in _FREE:
            self._account.settle(await self._account.acquire(Amount(1)), Amount(1))
        try:
            async with self._connections().request(
                method,
                f"{self._upstreams[provider]}{path}",
                data=body or None,
                headers=passed_on(headers),
                proxy=_way_to(*urlsplit(self._upstreams[provider])[:2]),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            ) as response:
                received = await response.content.read(MAX_BYTES)
                return ProviderReply(response.status, response.headers.get("content-type", "application/json"), received)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ExchangeFailed(CallFailed(f"{type(error).__name__}: {redact(str(error))}"), None) from error

    def _connections(self) -> Any:
        if self._session is None:
            import aiohttp

            limits = aiohttp.TCPConnector(limit=0)
            waits = aiohttp.ClientTimeout(total=None, sock_connect=30)
            self._session = aiohttp.ClientSession(connector=limits, timeout=waits, auto_decompress=False)
        return self._session


@lru_cache(maxsize=64)
def _way_to(scheme: str, host: str) -> str | None:
    """The proxy of the environment's that leads to a host; not aiohttp's own look, which reads `.netrc` for every request."""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)


@lru_cache(maxsize=1)
def _has_way_round() -> bool:
    return bool(urllib.request.getproxies())


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The program's headers, credentials included, for the provider; of what concerns one connection only nothing."""
    kept = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED}
    return {**kept, "Accept-Encoding": "identity"}


# -- what an answer cost -------------------------------------------------------------------------------------------------
_SENT, _BACK = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
# Anthropic counts them beside the others; charged at the highest rate of those, which is at least what they cost.
_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
_LONGEST = ("max_completion_tokens", "max_output_tokens", "max_tokens")


@dataclass(frozen=True)
class PaidExchange:
    """A new answer: what it says of its usage, and what bounds its cost (bytes of the request, tokens that it lets an answer have)."""

    model: str
    said: Any
    sent: int
    longest: int | None


def longest_asked(request: Mapping[str, Any]) -> int | None:
    """Tokens that a request lets an answer have; None: it does not say."""
    asked = _first_said(request, *_LONGEST)
    return asked if isinstance(asked, int) and asked > 0 else None


def usage_of_exchange(paid: PaidExchange, price: Price) -> Usage:
    """Tokens and USD of one answer. No request has 0 tokens: that means that the provider did not say, as a stream often does not."""
    said = paid.said if isinstance(paid.said, Mapping) else {}
    read = sound_usage({"input_tokens": _sent(said), "output_tokens": _first_said(said, *_BACK)})
    doubt = read.doubt or (None if said else sound_usage(paid.said).doubt)
    if read.input_tokens and doubt is None:
        return replace(read, usd=price.of(read.input_tokens, read.output_tokens))
    longest = paid.longest or price.longest
    usd = None if longest is None else price.of(paid.sent, longest)
    return Usage(paid.sent, longest or 0, usd, estimated=True, doubt=doubt)


def _sent(said: Mapping[str, Any]) -> Any:
    """Tokens in, those written to and read from a cache included; what is said instead, where that is no number."""
    sent, cached = _first_said(said, *_SENT), [as_number(said.get(name)) or 0 for name in _CACHED]
    number = as_number(sent)
    return sent if number is None or number < 0 else number + sum(max(each, 0) for each in cached)


def _first_said(said: Mapping[str, Any], *names: str) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), None)
