"""What the engine costs beside the bare thing, as ratios in one run; exits 1 when a limit is missed.

    python tests/benchmarks/bench_engine.py                # all parts
    python tests/benchmarks/bench_engine.py cpu wall       # some of: cpu wall crowd processes memory million thinking verdict promptfoo
    BENCH_CALLS=600 python tests/benchmarks/bench_engine.py cpu wall

`cpu`: CPU per replayed call (litellm target, loopback provider, 1 KB answers, journal on) beside a loop of bare
`litellm.acompletion` with litellm's logging off and the garbage collector's threshold raised. `wall`: time at 500 ms and at 2 s latency
with jitter and 128 concurrent calls, beside the same loop. `crowd`: wall of 4,096 calls of 500 ms, 512 at once, of the litellm and the
http target beside bare aiohttp. `processes`: two processes beside one, CPU-bound,
long enough (some minutes) that their start does not hide the rate. `memory`: 100,000
trials of 1 KB. `million`: 1,000,000 recorded trials planned, resumed, analysed. `thinking`: CPU per trial beyond the target, in
memory. `verdict`: the time that the bundled incident takes with a second a model call, beside that of its calls alone on as many
workers. `promptfoo`: its time for the `wall` work at its own concurrency, when npx has it. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUERIES = 1000
CALLS = int(os.environ.get("BENCH_CALLS", "2000"))


# -- what runs in a process of its own -------------------------------------------------------------------------------
def model_axis(port: int, name: str) -> dict[str, Any]:
    return {"model": f"openai/{name}", "api_base": f"http://127.0.0.1:{port}/v1"}


def queries(n: int = QUERIES) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "input": f"question {i}?", "reference": "word"} for i in range(n)]


def bare(port: int, calls: int, concurrency: int) -> dict[str, float]:
    """A loop of litellm calls with everything of litellm's switched off that is not the call."""
    import asyncio
    import gc
    import logging

    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    import litellm

    litellm.suppress_debug_info = True
    litellm.callbacks, litellm.success_callback, litellm.failure_callback = [], [], []
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    gc.set_threshold(100_000, 50, 50)

    async def loop(n: int) -> None:
        waiting = iter(range(n))

        async def worker() -> None:
            for i in waiting:
                messages = [{"role": "user", "content": f"question {i}?"}]
                await litellm.acompletion(**model_axis(port, "a"), messages=messages, max_retries=0, num_retries=0)

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    async def both() -> dict[str, float]:
        await loop(2 * concurrency)  # connections, caches
        cpu, wall = time.process_time(), time.perf_counter()
        await loop(calls)
        return {"cpu": (time.process_time() - cpu) / calls, "wall": time.perf_counter() - wall}

    return asyncio.run(both())


def aiohttp(port: int, calls: int, concurrency: int) -> dict[str, float]:
    """The same calls with nothing but an HTTP client."""
    import asyncio

    from aiohttp import ClientSession, TCPConnector

    async def loop() -> float:
        waiting = iter(range(calls))
        async with ClientSession(connector=TCPConnector(limit=0)) as session:

            async def worker() -> None:
                for i in waiting:
                    asked = {"model": "a", "messages": [{"role": "user", "content": f"question {i}?"}]}
                    async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=asked) as response:
                        assert (await response.json())["choices"]

            wall = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(concurrency)))
            return time.perf_counter() - wall

    return {"wall": asyncio.run(loop())}


def engine(port: int, calls: int, concurrency: int, kind: str = "litellm") -> dict[str, float]:
    """The same number of calls as a run: two axes changed, all four cells (no loss is below a tolerance of 0), scored, journal on."""
    import bisect_ai

    target = {"kind": "litellm"} if kind == "litellm" else {"kind": "http", "url": f"http://127.0.0.1:{port}/x"}

    def run(n: int, folder: str) -> int:
        good = {"model": model_axis(port, "a"), "prompt": {"user": "{input}"}}
        bad = {"model": model_axis(port, "b"), "prompt": {"user": "Now: {input}"}}
        result = bisect_ai.run(
            good=good,
            bad=bad,
            queries=queries(n),
            target=target,
            scorers=[{"kind": "contains", "name": "correct", "expected": "reference"}],
            design="full",
            budget={"calls": 4 * n},
            concurrency=concurrency,
            store=folder,
            tolerance=0.0,
        )
        return result.usage.calls

    with tempfile.TemporaryDirectory() as folder:
        run(max(2 * concurrency // 4, 4), f"{folder}/warm")
        cpu, wall = time.process_time(), time.perf_counter()
        made = run(calls // 4, f"{folder}/store")
        return {"cpu": (time.process_time() - cpu) / made, "wall": time.perf_counter() - wall, "calls": made}


def crunch(query: Any, release: Any) -> str:
    """CPU-bound work that holds the lock: about 20 ms."""
    total = 0
    for i in range(200_000):
        total += i * i
    return "word" if total else ""


def processes(jobs: int, calls: int) -> dict[str, float]:
    import bisect_ai

    def run(n: int) -> None:
        bisect_ai.run(
            good={"a": 1, "b": 1},
            bad={"a": 2, "b": 2},
            queries=queries(n),
            target={"kind": "python", "function": "bench_engine:crunch"},
            scorers=[{"kind": "contains", "name": "correct", "expected": "reference"}],
            design="full",
            budget={"calls": 4 * n},
            jobs=jobs,
        )

    os.chdir(HERE)
    run(8)
    wall = time.perf_counter()
    run(calls // 2)
    return {"wall": time.perf_counter() - wall}


def kilobyte(query: Any, release: Any) -> str:
    return "word " * 200


def memory(trials: int) -> dict[str, float]:
    """The coordinator's peak after `trials` answers of 1 KB in a store on the disk."""
    import resource

    import bisect_ai

    with tempfile.TemporaryDirectory() as folder:
        bisect_ai.run(
            good={"a": 1, "b": 1},
            bad={"a": 2, "b": 2},
            queries=queries(trials // 2),
            target=kilobyte,
            scorers=[{"kind": "contains", "name": "correct", "expected": "reference"}],
            design="full",
            budget={"calls": 2 * trials},
            store=folder,
        )
    return {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def million(trials: int) -> dict[str, float]:
    """Peak memory of planning, running and resuming `trials` recorded answers in 2^4 cells, and the CPU of the second time."""
    import resource

    import bisect_ai

    axes = ("model", "prompt", "corpus", "tools")
    n = trials // 16
    cells = [[a for i, a in enumerate(axes) if c >> i & 1] for c in range(16)]
    records = (
        {"query": f"q{q}", "bad_axes": bad, "text": "no" if "prompt" in bad and q % 5 == 0 else "word"}
        for bad in cells
        for q in range(n)
    )
    settings: dict[str, Any] = {
        "good": dict.fromkeys(axes, "good"),
        "bad": dict.fromkeys(axes, "bad"),
        "queries": queries(n),
        "target": {"kind": "recorded", "records": list(records)},
        "scorers": [{"kind": "contains", "name": "correct", "expected": "reference"}],
        "design": "full",
        "budget": {"calls": trials},
        "drill": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        first = bisect_ai.run(**settings, store=folder)
        assert first.usage.calls == trials, first.usage
        cpu = time.process_time()
        again = bisect_ai.run(**settings, store=folder)
        assert again.usage.calls == 0
        cpu = time.process_time() - cpu
    return {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "cpu": cpu}


def thinking(design: str, calls: int) -> dict[str, float]:
    """CPU per trial beyond the target, in memory, on 2,000 queries whose answers nothing changes but one axis."""
    import zlib

    import bisect_ai

    spent = 0.0

    def target(query: Any, release: Any) -> str:
        nonlocal spent
        start = time.thread_time()
        broken = release["prompt"] == "bad" and zlib.crc32(query.id.encode()) % 40 == 0
        flaky = zlib.crc32(f"{query.id}{sorted(release.items())}".encode()) % 20 == 0
        spent += time.thread_time() - start
        return "no" if broken != flaky else "word"

    axes = ("model", "prompt", "corpus", "tools")
    settings: dict[str, Any] = {
        "good": dict.fromkeys(axes, "good"),
        "bad": dict.fromkeys(axes, "bad"),
        "queries": queries(2000),
        "target": target,
        "scorers": {"correct": lambda query, answer: query.reference in answer.text},
        "design": design,
        "drill": False,
    }
    bisect_ai.run(**settings, budget={"calls": 64})
    spent = 0.0
    cpu = time.process_time()
    result = bisect_ai.run(**settings, budget={"calls": calls})
    return {"us": (time.process_time() - cpu - spent) / result.usage.calls * 1e6, "calls": result.usage.calls}


def verdict(concurrency: int) -> dict[str, float]:
    """Seconds to the verdict on the bundled incident, and those of its model calls of a second each."""
    import asyncio

    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import bisect_ai

    with tempfile.TemporaryDirectory() as folder:
        incident = shutil.copytree(HERE.parents[1] / "fixtures" / "helpdesk", Path(folder) / "incident")
        sys.path.insert(0, str(incident))
        import stand_in

        answer, slept = stand_in.StandIn.acompletion, 0

        async def slow(self: Any, *args: Any, **settings: Any) -> Any:
            nonlocal slept
            slept += 1
            await asyncio.sleep(1)
            return await answer(self, *args, **settings)

        stand_in.StandIn.acompletion = slow
        wall, cpu = time.perf_counter(), time.process_time()
        result = bisect_ai.run(incident / "bisect.yaml", store=Path(folder) / "store", concurrency=concurrency)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert result.verdict.kind == "cause", result.verdict
    return {"wall": wall, "cpu": cpu, "calls": slept, "trials": result.usage.calls}


PARTS = {f.__name__: f for f in (bare, aiohttp, engine, processes, memory, million, thinking, verdict)}


# -- the bench -------------------------------------------------------------------------------------------------------
def apart(part: str, *arguments: Any) -> dict[str, float]:
    """The figures of a part that ran in a fresh process."""
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "none",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, __file__, "--apart", part, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{part}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Provider:
    def __init__(self, latency: float = 0.0, jitter: float = 0.0) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process = subprocess.Popen([sys.executable, HERE / "loopback.py", str(self.port), str(latency), str(jitter)])
        time.sleep(1)

    def __enter__(self) -> int:
        return self.port

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()


MISSED: list[str] = []


def row(what: str, value: str, ratio: float, limit: float, *, at_least: bool = False) -> None:
    good = ratio >= limit if at_least else ratio <= limit
    if not good:
        MISSED.append(what)
    print(
        f"{what:46} {value:44} {ratio:8.2f} {'>=' if at_least else '<='} {limit:<7g} {'ok' if good else 'MISSED'}", flush=True
    )


def best(part: str, times: int, key: str, *arguments: Any) -> float:
    return min(apart(part, *arguments)[key] for _ in range(times))


def run_cpu() -> None:
    with Provider() as port:
        rounds = [(apart("bare", port, CALLS, 64)["cpu"], apart("engine", port, CALLS, 64)["cpu"]) for _ in range(3)]
        plain, ours = (min(column) for column in zip(*rounds, strict=True))
    row("CPU per call, engine / bare litellm", f"{ours * 1e3:.2f} ms / {plain * 1e3:.2f} ms", ours / plain, 0.5)


def run_wall() -> None:
    for latency in (0.5, 2.0):  # at half a second a slow processor, not the latency, is the limit of both
        with Provider(latency, 0.4 * latency) as port:
            plain = best("bare", 2, "wall", port, CALLS, 128)
            ours = best("engine", 2, "wall", port, CALLS, 128)
        row(f"wall at {latency:g} s, 128 at once, engine / bare", f"{ours:.1f} s / {plain:.1f} s", ours / plain, 1.05)


def run_crowd() -> None:
    with Provider(0.5) as port:
        plain = best("aiohttp", 2, "wall", port, 4096, 512)
        for kind, limit in (("litellm", 2.2), ("http", 1.5)):
            ours = best("engine", 2, "wall", port, 4096, 512, kind)
            row(f"4,096 calls of 0.5 s, 512 at once, {kind} / aiohttp", f"{ours:.1f} s / {plain:.1f} s", ours / plain, limit)


def run_processes() -> None:
    one, two = best("processes", 1, "wall", 1, 8000), best("processes", 1, "wall", 2, 8000)
    row("CPU-bound, one process / two", f"{one:.1f} s / {two:.1f} s", one / two, 1.8, at_least=True)


def run_memory() -> None:
    row("coordinator, 100,000 trials of 1 KB, MiB", "", apart("memory", 100_000)["mib"], 500)


def run_million() -> None:
    found = apart("million", 1_000_000)
    row("1,000,000 recorded trials, twice, MiB", f"resumed in {found['cpu']:.0f} s CPU", found["mib"], 2048)


def run_thinking() -> None:
    for design, calls in (("full", 32_000), ("adaptive", 6_400)):
        found = apart("thinking", design, calls)
        row(f"thinking, {design}, us CPU per trial", f"{found['calls']:.0f} trials", found["us"], 150)


def run_verdict() -> None:
    for concurrency, limit in ((16, 1.3), (64, 1.6)):
        found = apart("verdict", concurrency)
        ideal = found["calls"] / concurrency
        told = f"{found['wall']:.1f} s / {ideal:.1f} s, {found['calls']:.0f} calls, CPU {found['cpu']:.1f} s"
        row(f"verdict at 1 s a call, {concurrency} at once / its calls", told, found["wall"] / ideal, limit)


def run_promptfoo() -> None:
    npx = shutil.which("npx")
    if npx is None:
        print("promptfoo: no npx, left out")
        return
    with Provider(0.5, 0.2) as port, tempfile.TemporaryDirectory() as folder:
        config = {
            "prompts": ["{{input}}"],
            "providers": [{"id": "openai:chat:a", "config": {"apiBaseUrl": f"http://127.0.0.1:{port}/v1", "apiKey": "none"}}],
            "tests": [{"vars": {"input": f"question {i}?"}} for i in range(QUERIES)],
        }
        (Path(folder) / "promptfooconfig.json").write_text(json.dumps(config))
        command = [npx, "--yes", "promptfoo", "eval", "-c", "promptfooconfig.json", "--no-cache", "-j", "128", "--no-table"]
        quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_CONFIG_DIR": folder}
        subprocess.run(
            [*command[:3], "--version"], capture_output=True, check=False, timeout=600
        )  # fetched before the clock runs
        wall = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **quiet}, capture_output=True, text=True, check=False, timeout=900
        )
        wall = time.perf_counter() - wall
        if done.returncode not in (0, 100):
            print(f"promptfoo: left out, it ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
            return
        ours = apart("engine", port, QUERIES, 128)["wall"]
    print(f"promptfoo / engine, {QUERIES} calls at 500 ms, 128 at once: {wall:.1f} s / {ours:.1f} s = {wall / ours:.2f}")


def main() -> int:
    if sys.argv[1:2] == ["--apart"]:
        part, arguments = sys.argv[2], [int(a) if a.isdigit() else a for a in sys.argv[3:]]
        print(json.dumps(PARTS[part](*arguments)))
        return 0
    parts = {name.removeprefix("run_"): f for name, f in globals().items() if name.startswith("run_")}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(parts), metavar="part", help=", ".join(parts))
    for name in parser.parse_args().parts:
        parts[name]()
    if MISSED:
        print("limits missed: " + "; ".join(MISSED))
    return 1 if MISSED else 0


if __name__ == "__main__":
    sys.exit(main())
