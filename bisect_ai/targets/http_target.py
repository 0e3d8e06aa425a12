"""A staging service as target: POST a query and which side each axis is on, read the answer as JSON.

The request: `{"query": {column: value}, "axes": {axis: "good" | "bad"}, "repeat": n}`; with `send: axes` the composed values
stand under `release` instead of `axes`. What the log says that was answered (`output`, `scores`, `reference`) is not sent, images
and files of messages only by name. The answer: an object of `Answer`'s fields (`text`, `tool_calls`, `documents`, `steps`, `usage`,
`model_returned`, `scores`, …), others are left out. Status 422: this combination cannot run, the body's `reason` says why.

Attempts of one trial carry the same `Idempotency-Key`, so that a service can answer a repeated request from what it has; connections
are kept and shared, and no request is sent again unseen: each is an attempt. Nothing is followed and no proxy is used: the host is
the config's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal
from urllib.parse import urlsplit

from bisect_ai.canonical import BadRecord, digest, parse_json, plain, text_or_json
from bisect_ai.errors import ConfigError, Infeasible, TargetFailure
from bisect_ai.provider.budget import Account, Amount, nothing_sent
from bisect_ai.provider.rate_limit import STARTING_CONCURRENCY
from bisect_ai.provider.redaction import describe, keep_secret, line_of, redact
from bisect_ai.provider.retry import CallFailed, ModelRequest, RequestTally, Route, Wire
from bisect_ai.provider.transport import Unread, posted
from bisect_ai.provider.usage import sound_usage
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import MISSING, Answer, joined_text, message_text, sound_scores
from bisect_ai.targets.target import Doorbell, attempts_of, check_known, positive, with_tally

# That a connection may take, TLS included: TCP repeats its first packet after 1, 3 and 7 s, and who hears none is not there.
CONNECT_SECONDS = 10.0
_SETTINGS = frozenset({"kind", "url", "send", "headers", "version", "attempts", "timeout", "deadline", "concurrency"})
_NOT_SENT = frozenset({"output", "scores", "reference"})
_OURS = frozenset({"attempts", "waited_s", "faults", "reason", "endpoint"})
# Keys of which an answer has one at least.
ANSWERS = frozenset({"text", "tool_calls", "scores", "error"})
# Where a service says why it cannot run a combination; the frameworks' own words for it after ours.
_REASONS = ("reason", "detail", "error", "message")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # token of RFC 9110, section 5.6.2
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class ServiceError(Exception):
    """Inside this module: the service refused, or its answer is not read."""


@dataclass(frozen=True)
class _Reply:
    """What the service said: an answer, or the reason why it cannot run the combination."""

    answer: Answer
    infeasible: str | None = None
    used: Amount = Amount(1)  # noqa: RUF009  # frozen: shared safely


class HttpTarget:
    """Answers of a service that knows both releases (`send: flags`) or takes composed ones (`send: axes`).

    Settings: `url`; `send` (flags); `headers` (header to the name of the environment variable that holds its value);
    `version` (of the service: part of a trial's identity); `attempts` (6), `timeout` (seconds per attempt, 60), `deadline`
    (seconds per answer, 180), `concurrency` (starts at 32 and rises as the service's limit headers leave room; a number of yours
    stays). A failed call is an `Answer` with an error; `Infeasible` as the service says;
    refused credentials raise `TargetFailure`.
    """

    is_async = True

    def __init__(
        self, settings: Mapping[str, Any], *, good: Mapping[str, Any], bad: Mapping[str, Any], minutes: float | None = None
    ) -> None:
        check_known(settings, _SETTINGS, "http")
        self._url, self.notices = _checked_url(settings.get("url"))
        self._send = _checked_send(settings.get("send", "flags"))
        self._headers = _checked_headers(settings.get("headers") or {})
        self._good, self._bad = good, bad
        self._doorbell = Doorbell()
        self._timeout = positive(settings, "timeout", 60)
        self.deadline = self._deadline = min(positive(settings, "deadline", 180), (minutes or 1e9) * 60)
        self.concurrency = int(positive(settings, "concurrency", STARTING_CONCURRENCY))
        self._wire = Wire(attempts=attempts_of(settings), timeout=self._timeout)
        self.headroom = None if "concurrency" in settings else self._wire.headroom
        self.identity: Mapping[str, Any] = {
            "kind": "http",
            "url": self._url,
            "send": self._send,
            **({"version": str(settings["version"])} if "version" in settings else {}),
        }

    def addresses(self, release: Mapping[str, Any]) -> list[str]:
        """Where it is asked, whatever the release."""
        del release
        return [self._url]

    async def __call__(self, query: Query, release: Mapping[str, Any], repeat: int) -> Answer:
        """The service's answer to `query` by `release`. Raises `Infeasible` when it says that it cannot run the combination."""
        nothing_sent()
        body = json.dumps(self._request(query, release, repeat), ensure_ascii=True, allow_nan=False).encode("ascii")
        await self._doorbell.ring(self._url)
        started, tally = time.monotonic(), RequestTally()
        reply = await self._replied(body, started + self._deadline, tally)
        if reply.infeasible is not None:
            raise Infeasible(reply.infeasible)
        return with_tally(reply.answer, tally, time.monotonic() - started)

    async def _replied(self, body: bytes, until: float, tally: RequestTally) -> _Reply:
        headers = {**self._secrets(), "content-type": "application/json", "idempotency-key": digest(body.decode("ascii"))}
        call = ModelRequest(lambda: self._post(body, headers), lambda: Amount(1), lambda reply: reply)
        parts = urlsplit(self._url)
        route = Route(parts.netloc, parts.path or "/")
        try:
            async with asyncio.timeout(self._deadline):
                return await self._wire.send(call, route, until=until, tally=tally, account=Account())
        except TargetFailure:
            raise
        except CallFailed as failed:
            if failed.outcome == "failed":
                return _Reply(Answer(outcome="failed", reason=str(failed)))
            return _Reply(Answer(error=str(failed), outcome=failed.outcome))
        except TimeoutError:
            return _Reply(Answer(error=f"TimeoutError: no answer within {self._deadline:g} s", outcome="timeout"))
        except Exception as error:  # a failed trial is a row, never an exception
            return _Reply(Answer(error=describe(error), outcome="error"))

    def _request(self, query: Query, release: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        asked = {"query": plain(sent_columns(query), where="query"), "repeat": repeat}
        if self._send == "axes":
            return {**asked, "release": plain(dict(release), where="release")}
        return {**asked, "axes": {axis: self._side(axis, release) for axis in sorted({*self._good, *self._bad})}}

    def _side(self, axis: str, release: Mapping[str, Any]) -> str:
        value = release.get(axis)
        for side, values in (("good", self._good), ("bad", self._bad)):
            known = values.get(axis)
            if value is known or value == known:
                return side
        raise Infeasible(
            f"a part of {axis} alone cannot be sent as good or bad; a service that takes `send: axes` could run it"
        )

    def _secrets(self) -> dict[str, str]:
        missing = sorted(name for name in self._headers.values() if not os.environ.get(name))
        if missing:
            raise ConfigError(
                f"cannot send the headers of target.headers: the environment has no {missing[0]}; set it, run again"
            )
        secrets = {header: os.environ[name] for header, name in self._headers.items()}
        for value in secrets.values():
            keep_secret(value)
            keep_secret(value.rpartition(" ")[2])  # "Bearer …" may come back without its first word
        return secrets

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> _Reply:
        """One request, its body read up to the cap."""
        import aiohttp

        parts = urlsplit(self._url)
        try:
            status, _, received = await posted(
                self._url,
                body,
                {**headers, "accept-encoding": "identity"},
                instead="set target.url to where it leads",
                timeout=_connect_timeout(),  # the wire ends an attempt that takes too long: a second timer would only cost
                ssl=_verify() if parts.scheme == "https" else True,
            )
        except Unread as unread:
            raise ServiceError(str(unread)) from unread
        except aiohttp.ConnectionTimeoutError as error:
            raise ServiceError(f"no connection to {parts.netloc} within {CONNECT_SECONDS:g} s") from error
        except aiohttp.ClientResponseError as error:
            raise ServiceError(f"the service's answer is no HTTP: {error.message}") from error
        if status >= 400 and status != 422:
            told = redact(received[:4096].decode("utf-8", "replace"))[:200]
            raise ServiceError(f"the service answered with status {status}: {told}")
        return _read_reply(status, received)


@cache
def _connect_timeout() -> Any:
    """aiohttp's limit on connecting alone."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)


def _read_reply(status: int, body: bytes) -> _Reply:
    """The reply of a whole response. Raises `ValueError` for what is no answer."""
    try:
        value = parse_json(body.decode("utf-8"), numbers="as text")
    except (BadRecord, UnicodeDecodeError) as error:
        if status == 422:
            return _Reply(Answer(), infeasible=_service_reason(body.decode("utf-8", "replace")))
        raise ValueError(f"the service's answer is no JSON: {error}") from error
    if status == 422:
        named = [value[name] for name in _REASONS if value.get(name)] if isinstance(value, Mapping) else []
        return _Reply(Answer(), infeasible=_service_reason(named[0] if named else value))
    return _Reply(read_answer(value))


def _service_reason(told: Any) -> str:
    return line_of(text_or_json(told or "")) or "the service said so (status 422)"


def read_answer(value: Any) -> Answer:
    """The answer that a service or program gave as JSON. Raises `ValueError` naming what cannot be read."""
    if not isinstance(value, Mapping) or not ANSWERS & set(value):
        raise ValueError("the service's answer is no object with `text`")
    kept = {field.name: value[field.name] for field in fields(Answer) if field.name in value and field.name not in _OURS}
    kept = {name: found for name, found in kept.items() if found is not None}
    if "text" in kept:
        kept["text"] = joined_text(kept["text"])
    if "usage" in kept:
        kept["usage"] = sound_usage(kept["usage"])
    if "scores" in kept:
        kept["scores"] = sound_scores(kept["scores"])
    from pydantic import ValidationError

    try:
        answer: Answer = _adapter().validate_python(kept)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"the service's answer cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if answer.error is not None:
        outcome = answer.outcome if answer.outcome == MISSING else "error"
        return replace(answer, error=line_of(answer.error), outcome=outcome)
    return (
        answer if answer.text or answer.tool_calls or answer.scores or "outcome" in kept else replace(answer, outcome="empty")
    )


def sent_columns(query: Query) -> dict[str, Any]:
    """The query's columns for the service; images and files named, not passed on: it might fetch them."""
    columns = {name: value for name, value in query.items() if name not in _NOT_SENT}
    for name in ("messages", "history"):
        if isinstance(columns.get(name), list):
            columns[name] = [_message_for_service(message) for message in columns[name]]
    return columns


def _message_for_service(message: Any) -> Any:
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
        return message
    return {**message, "content": message_text(message["content"])}


def _checked_url(url: Any) -> tuple[str, list[str]]:
    if url is None:
        raise ConfigError("target of kind http: `url` is missing; write url: https://host/path")
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\\]", str(url)):
        raise ConfigError(
            f"cannot read target.url: {str(url)[:80]!r} is no http or https address; write url: https://host/path"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"cannot use target.url: it holds credentials for {host}; put them into target.headers by the name of a variable"
        )
    plain_text = parts.scheme == "http" and host not in _LOCAL
    return str(url), [f"target.url sends queries to {host} unencrypted; use https"] if plain_text else []


def _checked_send(send: Any) -> Literal["flags", "axes"]:
    if send not in ("flags", "axes"):
        raise ConfigError(
            f"cannot read target.send: {send!r}; use flags (good or bad for each axis) or axes (the composed values)"
        )
    return send  # type: ignore[no-any-return]  # one of the two


def _checked_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise ConfigError(
            f"cannot read target.headers: it is a {type(headers).__name__}; map headers to names of environment variables"
        )
    for header, name in headers.items():
        if not _HEADER.fullmatch(str(header)) or not re.fullmatch(r"[A-Za-z_]\w*", str(name)):
            raise ConfigError(
                f"cannot read target.headers of {str(header)[:40]!r}: give the name of the environment variable that holds its "
                "value, not the value"
            )
    return {str(header): str(name) for header, name in headers.items()}


@cache
def _verify() -> Any:
    """One set of trusted certificates: reading them takes long."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Answer)
