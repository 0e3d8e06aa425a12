"""CPU of a call of the http target beside bare aiohttp with kept connections, in one run: python tests/benchmarks/bench_http.py

Each part is a process of its own against one service on loopback that answers with 1 KB; exits 1 beyond 3 times aiohttp's.
`engine`: the same calls as a run, with trials, scores and journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

CALLS = int(os.environ.get("BENCH_CALLS", "4000"))
CONCURRENCY = 32
ANSWER = json.dumps({"text": "word " * 200}).encode()
SERVICE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import loopback
loopback.RESPONSE = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (
    int(sys.argv[3]), sys.argv[4].encode()
)
asyncio.run(loopback.serve(int(sys.argv[2]), 0.0, 0.0))
"""


async def loop(call: Callable[[int], Awaitable[Any]], calls: int) -> float:
    """CPU seconds a call of `calls` of them, so many at once, after some to warm up."""

    async def some(count: int) -> None:
        waiting = iter(range(count))

        async def worker() -> None:
            for i in waiting:
                await call(i)

        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))

    await some(4 * CONCURRENCY)
    began = time.process_time()
    await some(calls)
    return (time.process_time() - began) / calls


async def aiohttp_alone(url: str) -> float:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def call(i: int) -> None:
            async with session.post(url, json={"query": {"id": f"q{i}", "input": "question?"}}) as response:
                assert (await response.json())["text"]

        return await loop(call, CALLS)


async def target_alone(url: str) -> float:
    from bisect_ai.provider import transport
    from bisect_ai.queries.query import Query
    from bisect_ai.targets.http_target import HttpTarget

    good, bad = {"prompt": "a"}, {"prompt": "b"}
    target = HttpTarget({"kind": "http", "url": url}, good=good, bad=bad)

    async def call(i: int) -> None:
        assert (await target(Query({"id": f"q{i}", "input": "question?"}), bad, 0)).text

    try:
        return await loop(call, CALLS)
    finally:
        await transport.close_connections()


def engine(url: str) -> float:
    import bisect_ai

    def run(n: int, folder: str) -> int:
        return bisect_ai.run(
            good={"a": 1, "b": 1},
            bad={"a": 2, "b": 2},
            queries=[{"id": f"q{i}", "input": "question?", "reference": "word"} for i in range(n)],
            target={"kind": "http", "url": url},
            scorers=[{"kind": "contains", "name": "correct", "expected": "reference"}],
            design="full",
            budget={"calls": 4 * n},
            concurrency=CONCURRENCY,
            store=folder,
            tolerance=0.0,
        ).usage.calls

    with tempfile.TemporaryDirectory() as folder:
        run(CONCURRENCY, f"{folder}/warm")
        began = time.process_time()
        made = run(CALLS // 4, f"{folder}/store")
        return (time.process_time() - began) / made


PARTS: dict[str, Callable[[str], float]] = {
    "aiohttp": lambda url: asyncio.run(aiohttp_alone(url)),
    "target": lambda url: asyncio.run(target_alone(url)),
    "engine": engine,
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> int:
    if len(sys.argv) > 1:
        print(PARTS[sys.argv[1]](sys.argv[2]))
        return 0
    port = free_port()
    serve = [sys.executable, "-c", SERVICE, str(Path(__file__).parent), str(port), str(len(ANSWER)), ANSWER.decode()]
    service = subprocess.Popen(serve)
    try:
        time.sleep(1)
        found = {}
        for part in PARTS:
            asked = [sys.executable, __file__, part, f"http://127.0.0.1:{port}/x"]
            found[part] = float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
            print(
                f"{part:8} {found[part] * 1e3:5.2f} ms of processor a call, {found[part] / found['aiohttp']:4.1f} times aiohttp's"
            )
        return int(found["target"] > 3 * found["aiohttp"])
    finally:
        service.kill()


if __name__ == "__main__":
    sys.exit(main())
