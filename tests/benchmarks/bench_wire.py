"""What the proxy adds to a request: `python -m tests.benchmarks.bench_wire`. Requests go directly, through a bare aiohttp proxy that
passes bytes on, and through ours, in turn and one at a time, so that all see the same machine. Held against the limits: the median of
what ours adds, and how much more that is than what the bare one adds. On a machine with other work the wall is mostly waiting for a
processor: the ratio, the fastest tenth and the processor's own time say more there, and the load is printed beside them.

The request is that of an agent: 8 KB of system text, twelve tools, a model, sampling; every axis is composed, every answer kept.
"""

from __future__ import annotations

import asyncio
import copy
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.provider.budget import Account
from bisect_ai.queries.query import Query
from bisect_ai.runs.run_accounts import ExchangeJournal
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.wire.composing import WireCell
from bisect_ai.targets.wire.exchanges import Exchanges, upstreams_of
from bisect_ai.targets.wire.proxy import WireProxy, WireTrial, asking_of
from bisect_ai.targets.wire.release_pieces import pieces_of
from tests.benchmarks.bench_engine import Provider

REQUESTS = 400
LIMIT_MS = 5.0
MOST_RATIO = 5.0
"""Of what a bare proxy adds: ours reads, composes, keeps and writes 16 KB of JSON besides. Seen: 3.9 to 4.2."""
SYSTEM = "\n".join(f"Rule {number}: {'say what the customer needs to know, and no more. ' * 2}" for number in range(80))
TOOLS = [
    {
        "name": f"tool_{number}",
        "description": "Looks something up in the shop. " * 4,
        "parameters": {
            "type": "object",
            "properties": {f"customerField{i}": {"type": "string", "description": "A field."} for i in range(6)},
            "required": ["customerField0"],
        },
    }
    for number in range(12)
]
BAD: dict[str, Any] = {"model": {"model": "stand-in", "temperature": 1}, "prompt": {"system": SYSTEM}, "tools": TOOLS}
GOOD = copy.deepcopy(BAD)
GOOD["prompt"]["system"] = SYSTEM.replace("Rule 7:", "Rule seven:")
GOOD["tools"] = json.loads(json.dumps(TOOLS).replace("customerField", "customer_field_"))
GOOD["model"]["temperature"] = 0


def body_of(number: int) -> bytes:
    messages = [{"role": "system", "content": f"Today.\n{SYSTEM}"}, {"role": "user", "content": f"Question {number}"}]
    tools = [{"type": "function", "function": tool} for tool in TOOLS]
    return json.dumps({"model": "stand-in", "temperature": 1, "messages": messages, "tools": tools}).encode()


def milliseconds(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[float, float]:
    """Of the wall and of the CPU (this process's: the client's, and the proxy's, which is a thread of it)."""
    started, cpu = time.perf_counter(), time.process_time()
    connection.request("POST", path, body, {"content-type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 200, reply.status
    return (time.perf_counter() - started) * 1000, (time.process_time() - cpu) * 1000


@contextmanager
def bare_proxy(port: int) -> Iterator[int]:
    """The port of a proxy in a thread of its own that passes requests to `port` and answers back, as they are."""
    from aiohttp import ClientSession, web

    loop, ready, found = asyncio.new_event_loop(), threading.Event(), [0]

    async def serve() -> None:
        async with ClientSession() as session:

            async def passed(request: web.Request) -> web.Response:
                sent = await request.read()
                async with session.post(f"http://127.0.0.1:{port}{request.raw_path}", data=sent) as reply:
                    return web.Response(status=reply.status, body=await reply.read(), content_type=reply.content_type)

            application = web.Application(client_max_size=1 << 26)
            application.router.add_route("*", "/{path:.*}", passed)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            found[0] = runner.addresses[0][1]
            ready.set()
            try:
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

    task = loop.create_task(serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def main() -> int:
    with (
        Provider() as port,
        bare_proxy(port) as bare_port,
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder) / "store") as store,
    ):
        exchanges = Exchanges(upstreams_of(f"http://127.0.0.1:{port}/v1", {}), attempts=1, timeout=30)
        store.begin("run", {})
        exchanges.keep_in(ExchangeJournal(store, "run", Account()))
        proxy = WireProxy(exchanges)
        query = Query({"id": "q", "input": "?"})
        trial = WireTrial(asking_of(query.id, query.digest, 0, seconds=600), WireCell(pieces_of(GOOD, BAD), GOOD))
        address = urlsplit(proxy.base_urls("token")["OPENAI_BASE_URL"])
        ways = {
            "direct": (http.client.HTTPConnection("127.0.0.1", port), "/v1/chat/completions"),
            "bare": (http.client.HTTPConnection("127.0.0.1", bare_port), "/v1/chat/completions"),
            "ours": (http.client.HTTPConnection(address.netloc), f"{address.path}/chat/completions"),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        with proxy.trial(trial, "token"):
            for number in range(REQUESTS):
                for name, (connection, path) in ways.items():
                    times[name].append(milliseconds(connection, path, body_of(number)))
        for connection, _ in ways.values():
            connection.close()
        proxy.close()
    return told(times)


def told(times: dict[str, list[tuple[float, float]]]) -> int:
    """Prints what each way adds to a direct request; 1 where a limit is missed."""
    wall, cpu = ({name: median(pair[i] for pair in pairs) for name, pairs in times.items()} for i in (0, 1))
    fastest = {name: quantiles((pair[0] for pair in pairs), n=10)[0] for name, pairs in times.items()}
    added = {name: [each[name] - each["direct"] for each in (wall, cpu, fastest)] for name in ("bare", "ours")}
    ratio = added["ours"][0] / added["bare"][0]
    print(
        f"added to a request of {len(body_of(0)) // 1024} KB, median of {REQUESTS}, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} "
        "processors (wall, processor, fastest tenth, in ms)"
    )
    for name, (by_wall, busy, best) in added.items():
        print(f"  {name}: {by_wall:.2f} {busy:.2f} {best:.2f}")
    print(f"  limit {LIMIT_MS:g} ms; ours / bare {ratio:.2f}, limit {MOST_RATIO:g}")
    return int(added["ours"][0] > LIMIT_MS or ratio > MOST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
