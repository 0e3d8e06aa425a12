"""Replaying agents does nothing real: tools answer from the log, no address out of a query is ever connected to."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from bisect_ai.queries.query import Query
from bisect_ai.targets.litellm_target import LitellmTarget
from tests.faults.provider import Provider, Request, Say, calls_tool

TOOLS = [{"name": "refund", "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}}}]


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every address that a socket of this process is connected to, and every name that is looked up."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-quiet-000000")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    seen: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def watched(self: socket.socket, address: Any) -> None:
        seen.append(address)
        connect(self, address)

    async def watched_later(self: asyncio.BaseEventLoop, sock: socket.socket, address: Any) -> None:
        seen.append(address)
        await original(self, sock, address)

    def looked_up(host: Any, *rest: Any, **more: Any) -> Any:
        seen.append((host, 0))
        return look_up(host, *rest, **more)

    original = asyncio.selector_events.BaseSelectorEventLoop.sock_connect
    monkeypatch.setattr(socket.socket, "connect", watched)
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", watched_later)
    yield seen


def _outside(connects: list[Any], provider: Provider) -> list[Any]:
    return [address for address in connects if address[:2] not in (("127.0.0.1", provider.port), ("127.0.0.1", 0))]


@pytest.mark.parametrize("replays", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_agents_run_no_tool_and_reach_nothing_but_their_model(replays: int, connects: list[Any], tmp_path: Any) -> None:
    (tmp_path / "live.py").write_text("def refund(order):\n    open('ran', 'a').write('x')\n")
    recorded = [{"name": "refund", "arguments": {"order": n}, "result": {"paid": n}} for n in range(3)]

    def agent(request: Request) -> Say:
        calls = sum(message["role"] == "tool" for message in request.body["messages"])
        return Say(text="Done.") if calls == 3 else Say(change=calls_tool("refund", {"order": calls + calls // 2 * 7}))

    with Provider(agent) as provider:
        target = LitellmTarget({"timeout": 60}, folder=tmp_path)
        release = {"model": provider.model("openai"), "tools": TOOLS}

        async def all_of_them() -> list[Any]:
            places = asyncio.Semaphore(16)

            async def one(query: Query) -> Any:
                async with places:
                    return await target(query, release, 0)

            queries = [Query({"id": str(n), "input": "Refund it.", "tool_results": recorded}) for n in range(replays)]
            return await asyncio.gather(*[one(query) for query in queries])

        answers = asyncio.run(all_of_them())
        assert connects and not _outside(connects, provider)
    assert not list(tmp_path.rglob("ran"))
    for answer in answers:
        assert [call.result for call in answer.tool_calls] == [{"paid": 0}, {"paid": 1}, None]
        assert answer.tool_calls[2].error == "tool result not recorded" and answer.text == "Done."


def _addresses(count: int) -> list[str]:
    """Spellings of addresses inside: decimal, octal, hexadecimal, mapped, shortened, of metadata services, by other schemes."""
    rng, found = random.Random(5), ["file:///etc/passwd", "gopher://127.0.0.1:70/x", "//127.0.0.1/x", "data:text/plain,x"]
    while len(found) < count:
        a, b, c, d = rng.choice([(127, 0, 0, 1), (169, 254, 169, 254), (10, rng.randrange(256), 0, 1), (192, 168, 0, 7)])
        whole = (a << 24) + (b << 16) + (c << 8) + d
        host = rng.choice(
            [
                f"{a}.{b}.{c}.{d}",
                str(whole),
                hex(whole),
                f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
                f"[::ffff:{a}.{b}.{c}.{d}]",
                f"[::ffff:{(a << 8) + b:x}:{(c << 8) + d:x}]",
                f"{a}.{(b << 16) + (c << 8) + d}",
                f"{a}.{b}.{c}.{d}.nip.io",
                "localhost",
                "metadata.google.internal",
                f"user@{a}.{b}.{c}.{d}",
                f"{a}.{b}.{c}.{d}%2f@example.com",
            ]
        )
        found.append(
            f"{rng.choice(['http', 'https', 'HTTP', 'ftp'])}://{host}{rng.choice(['', ':80', ':8080'])}/latest/meta-data"
        )
    return found


def test_addresses_in_queries_are_neither_fetched_nor_passed_on(connects: list[Any], tmp_path: Any) -> None:
    addresses = _addresses(200)
    with Provider([Say()]) as provider:
        target = LitellmTarget({"timeout": 5}, folder=tmp_path)
        release = {"model": provider.model("openai"), "prompt": "Be kind."}

        async def all_of_them() -> None:
            for start in range(0, len(addresses), 20):
                await asyncio.gather(*[target(_query(url), release, 0) for url in addresses[start : start + 20]])

        asyncio.run(all_of_them())
        assert len(provider.requests) == 200 and not _outside(connects, provider)
        sent = [str(request.body) for request in provider.requests]
    assert all("Look at this." in body and "[image_url not replayed]" in body for body in sent)
    assert not [url for url in addresses if any(url in body for body in sent)]


def _query(url: str) -> Query:
    parts = [
        {"type": "text", "text": "Look at this."},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": url},
        {"type": "file", "file": {"file_data": url}},
    ]
    return Query({"id": url, "messages": [{"role": "user", "content": parts}], "history": [{"role": "user", "content": parts}]})
