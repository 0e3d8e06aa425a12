"""What the proxy adds to a request: `python -m tests.benchmarks.bench_wire`. Direct and proxied requests alternate in one run, one at a
time, so that both see the same machine; the median difference is held against the limit. On a machine with other work the wall is
mostly waiting for a processor: the fastest tenth and the processor's own time say more there, and the load is printed beside them.

The request is that of an agent: 8 KB of system text, twelve tools, a model, sampling; every axis is composed, every answer kept.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import sys
import tempfile
import time
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


def main() -> int:
    with Provider() as port, tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store") as store:
        exchanges = Exchanges(upstreams_of(f"http://127.0.0.1:{port}/v1", {}), attempts=1, timeout=30)
        store.begin("run", {})
        exchanges.keep_in(ExchangeJournal(store, "run", Account()))
        proxy = WireProxy(exchanges)
        query = Query({"id": "q", "input": "?"})
        trial = WireTrial(asking_of(query.id, query.digest, 0, seconds=600), WireCell(pieces_of(GOOD, BAD), GOOD))
        address = urlsplit(proxy.base_urls("token")["OPENAI_BASE_URL"])
        direct, proxied = http.client.HTTPConnection("127.0.0.1", port), http.client.HTTPConnection(address.netloc)
        times: dict[str, list[tuple[float, float]]] = {"direct": [], "proxied": []}
        with proxy.trial(trial, "token"):
            for number in range(REQUESTS):
                times["direct"].append(milliseconds(direct, "/v1/chat/completions", body_of(number)))
                times["proxied"].append(milliseconds(proxied, f"{address.path}/chat/completions", body_of(number)))
        direct.close()
        proxied.close()
        proxy.close()
    wall, cpu = ({name: median(pair[i] for pair in pairs) for name, pairs in times.items()} for i in (0, 1))
    added, busy = (each["proxied"] - each["direct"] for each in (wall, cpu))
    fastest = {name: quantiles((pair[0] for pair in pairs), n=10)[0] for name, pairs in times.items()}
    print(
        f"added to a request of {len(body_of(0)) // 1024} KB, median of {REQUESTS}: {added:.2f} ms, {busy:.2f} ms of them CPU "
        f"(direct {wall['direct']:.2f}, proxied {wall['proxied']:.2f}); fastest tenth {fastest['proxied'] - fastest['direct']:.2f} ms; "
        f"limit {LIMIT_MS:g} ms; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors"
    )
    return int(added > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
