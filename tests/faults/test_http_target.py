"""A staging service that misbehaves: typed outcomes, attempts as requests, no redirect, no proxy, nothing endless."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import ConfigError, Infeasible, TargetFailure
from bisect_ai.provider import retry
from bisect_ai.provider.transport import close_connections
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.http_target import HttpTarget
from tests.faults.provider import Provider, Request, Say

GOOD, BAD = {"prompt": "a", "model": "m"}, {"prompt": "b", "model": "m"}
OK = Say(body={"text": "Hello."})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)


def ask(provider: Provider, query: dict[str, Any] | None = None, **settings: Any) -> Answer:
    target = HttpTarget({"kind": "http", "url": f"{provider.host}/x", "timeout": 5, **settings}, good=GOOD, bad=BAD)
    return asyncio.run(_asked(target, Query({"id": "q", "input": "hi", **(query or {})})))[0]


async def _asked(target: HttpTarget, *queries: Query) -> list[Answer]:
    try:
        return [await target(query, BAD, 0) for query in queries]
    finally:
        await close_connections()


MATRIX: dict[str, tuple[list[Say], int, str]] = {
    "ok": ([OK], 1, "ok"),
    "empty": ([Say(body={"text": ""})], 1, "empty"),
    "its own outcome": ([Say(body={"text": "", "outcome": "filtered"})], 1, "filtered"),
    "its own error": ([Say(body={"error": "no index"})], 1, "error"),
    "its own tape": ([Say(body={"error": "nothing recorded for get_order(limit)", "outcome": "missing"})], 1, "missing"),
    "429": ([Say(429, headers={"retry-after": "0.05"}), OK], 2, "ok"),
    "500": ([Say(500), OK], 2, "ok"),
    "503 for ever": ([Say(503)], 6, "error"),
    "400": ([Say(400)], 1, "failed"),
    "reset": ([Say(mode="reset"), OK], 2, "ok"),
    "half": ([Say(body={"text": "Hello."}, mode="half"), OK], 2, "ok"),
    "hang": ([Say(mode="hang"), OK], 2, "ok"),
    "drip": ([Say(mode="drip", delay=0.05), OK], 2, "ok"),
    "endless": ([Say(mode="endless")], 1, "unknown"),
    "compressed": ([Say(headers={"content-encoding": "gzip"}, body=b"\x1f\x8b")], 1, "unknown"),
    "no JSON": ([Say(body=b"<html>")], 1, "malformed"),
    "NaN": ([Say(body=b'{"text": NaN}')], 1, "ok"),  # what was written is what it said
    "deep": ([Say(body=b"[" * 100_000)], 1, "malformed"),
    "a list": ([Say(body=[1])], 1, "malformed"),
    "no text": ([Say(body={"answer": "Hello."})], 1, "malformed"),
    "text of a wrong type": ([Say(body={"text": {"a": 1}})], 1, "malformed"),
    "calls of a wrong type": ([Say(body={"text": "x", "tool_calls": [3]})], 1, "malformed"),
    "302": ([Say(302, headers={"location": "/y"})], 1, "error"),
}


@pytest.mark.parametrize("name", MATRIX)
def test_attempts_are_the_requests_that_the_service_got(name: str) -> None:
    script, requests, outcome = MATRIX[name]
    with Provider(script) as provider:
        answer = ask(provider, timeout=0.4 if name in ("hang", "drip") else 5)
    assert (answer.attempts, len(provider.requests), answer.outcome) == (requests, requests, outcome), answer.error
    assert (answer.error is None) == (outcome in ("ok", "empty", "filtered", "failed"))
    assert len({request.headers["idempotency-key"] for request in provider.requests}) == 1


def test_the_deadline_is_kept() -> None:
    started = time.monotonic()
    with Provider([Say(mode="drip", delay=0.05)]) as provider:
        answer = ask(provider, timeout=0.3, deadline=0.7)
    assert answer.error is not None and time.monotonic() - started < 1.7


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"reason": "no index for these documents"}, "no index for these documents"),
        (b"plain words", "plain words"),
        (b"", "status 422"),
        ({"detail": [{"loc": ["axes"]}]}, "loc"),
        ({"error": "the new index needs the new model"}, "^[^{]*the new index needs the new model"),
        ({"code": 7}, '"code": 7'),
        ({}, "status 422"),
    ],
)
def test_status_422_says_that_the_combination_cannot_run(body: Any, reason: str) -> None:
    with Provider([Say(422, body=body)]) as provider, pytest.raises(Infeasible, match=reason):
        ask(provider)


def test_refused_credentials_stop_the_run() -> None:
    with Provider([Say(401)]) as provider, pytest.raises(TargetFailure, match="refused the credentials"):
        ask(provider)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_and_proxies_lead_nowhere(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider([OK]) as tripwire, Provider([Say(status, headers={"location": f"{tripwire.host}/x"})]) as provider:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, tripwire.host)
        answer = ask(provider)
        assert tripwire.requests == [] and len(provider.requests) == 1
        assert answer.error is not None and "set target.url to where it leads" in answer.error


def test_images_and_files_of_messages_are_named_not_passed_on() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "file", "file": {"file_id": "file:///etc/passwd"}},
    ]
    with Provider([OK]) as provider:
        ask(provider, {"messages": [{"role": "user", "content": parts}], "history": [{"role": "user", "content": parts}]})
    sent = str(provider.requests[0].body)
    assert "What is this?" in sent and "[image_url not replayed]" in sent
    assert "169.254" not in sent and "passwd" not in sent


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "`url` is missing"),
        ({"url": "ftp://host/x"}, "no http or https address"),
        ({"url": "http://"}, "no http or https address"),
        ({"url": "http://[::1/x"}, "no http or https address"),
        ({"url": "http://host:99999/x"}, "no http or https address"),
        ({"url": "http://host/a b"}, "no http or https address"),
        ({"url": "https://me:secret@host/x"}, "it holds credentials for host"),
        ({"url": "http://host/x", "send": "all"}, "target.send"),
        ({"url": "http://host/x", "headers": {"Authorization": "Bearer sk-123"}}, "not the value"),
        ({"url": "http://host/x", "headers": ["a"]}, "target.headers"),
        ({"url": "http://host/x", "redirects": True}, "'redirects' is no setting of http"),
    ],
)
def test_settings_that_cannot_be_read_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as wrong:
        HttpTarget({"kind": "http", **settings}, good=GOOD, bad=BAD)
    assert "secret" not in str(wrong.value) and "sk-123" not in str(wrong.value)


def test_a_header_without_its_variable_is_told_before_any_request() -> None:
    with Provider([OK]) as provider, pytest.raises(ConfigError, match="no NOT_THERE"):
        ask(provider, headers={"X-Token": "NOT_THERE"})
    assert provider.requests == []


def test_a_whole_run_over_a_service_with_a_combination_that_cannot_run() -> None:
    def service(request: Request) -> Say:
        axes = request.body["axes"]
        if axes["corpus"] == "bad" and axes["model"] == "good":
            return Say(422, body={"reason": "the new index needs the new model"})
        wrong = axes["prompt"] == "bad" and int(request.body["query"]["id"][1:]) % 3 == 0
        return Say(body={"text": "no" if wrong else "yes"})

    with Provider(service) as provider:
        result = bisect_ai.run(
            good={"prompt": "a", "model": "m", "corpus": {"documents": {"x": "1"}}},
            bad={"prompt": "b", "model": "n", "corpus": {"documents": {"x": "2"}}},
            queries=[{"id": f"q{i}", "input": f"hello {i}", "reference": "yes"} for i in range(120)],
            target={"kind": "http", "url": f"{provider.host}/answer"},
            scorers=[{"kind": "exact", "name": "correct"}],
            metric="correct",
            design="full",
            drill=False,
            budget={"calls": 1000},
        )
        assert result.usage.calls == len(provider.requests)
    assert result.verdict.kind == "cause" and tuple(result.verdict.causes[0].axes) == ("prompt",)
    status = {tuple(cell["bad_axes"]): cell["status"] for cell in result.to_dict()["cells"]}
    ran = {axes for axes, how in status.items() if how == "run"}
    assert ran == {(), ("prompt",), ("model",), ("prompt", "model"), ("model", "corpus"), ("prompt", "model", "corpus")}
    assert {axes for axes, how in status.items() if how == "infeasible"} == {("corpus",), ("prompt", "corpus")}
    loss = result.to_dict()["loss"]
    assert (loss["good"], loss["bad"], loss["n"]) == (1.0, pytest.approx(2 / 3), 120)


class Keeping:
    """A service that keeps connections: counts them, closes one after `most` answers without saying so, and sets a cookie."""

    def __init__(self, most: int, answer: bytes = b"") -> None:
        body = b'{"text": "Hello."}'
        kept = b"HTTP/1.1 200 OK\r\nset-cookie: seen=1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        self.most, self.answer = most, answer or kept
        self.connections = 0
        self.heads: list[bytes] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self.most):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            self.heads.append(head.lower())
            writer.write(self.answer)
        writer.close()

    async def asked(self, times: int) -> list[Answer]:
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
            target = HttpTarget({"kind": "http", "url": url, "timeout": 5}, good=GOOD, bad=BAD)
            return await _asked(target, *(Query({"id": f"q{i}", "input": "hi"}) for i in range(times)))


def test_calls_share_a_connection_and_no_cookie() -> None:
    service = Keeping(most=100)
    answers = asyncio.run(service.asked(5))
    assert [(answer.text, answer.attempts) for answer in answers] == [("Hello.", 1)] * 5
    assert service.connections == 2 and len(service.heads) == 5  # one looks whether the service is there at all
    assert not any(b"cookie" in head for head in service.heads)


def test_calls_that_begin_together_look_once_whether_the_service_is_there() -> None:
    service = Keeping(most=100)

    async def together() -> list[Answer]:
        server = await asyncio.start_server(service.connected, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
            target = HttpTarget({"kind": "http", "url": url, "timeout": 5}, good=GOOD, bad=BAD)
            queries = (Query({"id": f"q{i}", "input": "hi"}) for i in range(20))
            try:
                return await asyncio.gather(*(target(query, BAD, 0) for query in queries))
            finally:
                await close_connections()

    answers = asyncio.run(together())
    assert [answer.text for answer in answers] == ["Hello."] * 20
    assert service.connections <= 1 + 20


def test_where_nobody_listens_all_calls_that_begin_together_are_told() -> None:
    target = HttpTarget({"kind": "http", "url": "http://127.0.0.1:9/x"}, good=GOOD, bad=BAD)

    async def together() -> list[Answer | BaseException]:
        queries = (Query({"id": f"q{i}", "input": "hi"}) for i in range(20))
        return await asyncio.gather(*(target(query, BAD, 0) for query in queries), return_exceptions=True)

    began = time.monotonic()
    told = asyncio.run(together())
    assert {type(each) for each in told} == {TargetFailure} and time.monotonic() - began < 5


def test_parts_of_an_axis_that_flags_cannot_name_cost_no_call() -> None:
    def service(request: Request) -> Say:
        wrong = request.body["axes"]["retriever"] == "bad" and int(request.body["query"]["id"][1:]) % 3 == 0
        return Say(body={"text": "no" if wrong else "yes"})

    with Provider(service) as provider:
        result = bisect_ai.run(
            good={"prompt": "a", "retriever": {"k": 6, "chunk": 900}},
            bad={"prompt": "b", "retriever": {"k": 3, "chunk": 400}},
            queries=[{"id": f"q{i}", "input": f"hello {i}", "reference": "yes"} for i in range(120)],
            target={"kind": "http", "url": f"{provider.host}/answer"},
            scorers=[{"kind": "exact", "name": "correct"}],
            budget={"calls": 1000},
        )
        assert result.usage.calls == len(provider.requests)
    assert tuple(result.verdict.causes[0].axes) == ("retriever",)
    assert "Down to the changes: retriever k and retriever chunk, which only run together." in result.verdict.sentence
    assert "no part of these changes runs without the others" in " ".join(result.to_markdown().split())


def test_a_connection_that_the_service_closes_costs_at_most_an_attempt() -> None:
    service = Keeping(most=2)
    answers = asyncio.run(service.asked(6))
    assert [answer.text for answer in answers] == ["Hello."] * 6
    assert len(service.heads) == 6 and service.connections >= 3


def test_what_is_no_http_is_told_without_the_address() -> None:
    service = Keeping(most=1, answer=b"NONSENSE key=hunter2\r\n\r\n")
    [answer] = asyncio.run(service.asked(1))
    assert answer.error is not None and "no HTTP" in answer.error and "127.0.0.1" not in answer.error
    assert answer.attempts == len(service.heads) == 6
