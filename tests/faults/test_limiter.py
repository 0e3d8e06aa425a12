"""A storm of 429s in virtual time: 32 workers against a capacity of 5 a second, by several kinds of limits and of Retry-After."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from bisect_ai.replay import limiter

Server = Callable[[float], float | None]
"""Asked at a time: None, or the seconds after which it would take a request."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Nothing waits: the clock jumps to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            self.now += max(timeout or 0.0, 0.0)
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def bucket(rate: float, burst: int) -> Server:
    state = {"at": 0.0, "left": float(burst)}

    def ask(now: float) -> float | None:
        state["left"] = min(burst, state["left"] + (now - state["at"]) * rate)
        state["at"] = now
        if state["left"] < 1 - 1e-9:
            return (1 - state["left"]) / rate
        state["left"] -= 1
        return None

    return ask


def window(size: int, seconds: float) -> Server:
    state = {"window": -1.0, "taken": 0.0}

    def ask(now: float) -> float | None:
        current = now // seconds
        if current != state["window"]:
            state.update(window=current, taken=0)
        state["taken"] += 1
        return None if state["taken"] <= size else (current + 1) * seconds - now

    return ask


def sliding(size: int, seconds: float) -> Server:
    log: list[float] = []

    def ask(now: float) -> float | None:
        log[:] = [then for then in log if then > now - seconds]
        if len(log) >= size:
            return log[0] + seconds - now
        log.append(now)
        return None

    return ask


def exact(wait: float) -> float:
    return wait + 0.001


def whole(wait: float) -> float:
    return max(1.0, math.ceil(wait))


class Storm(NamedTuple):
    requests: int
    lost: int
    early: int
    seconds: float


async def storm(server: Server, told: Callable[[float], float], *, needed: int, seed: int) -> Storm:
    loop, rng, lane = asyncio.get_running_loop(), random.Random(seed), limiter.Lane(opens=0.0)
    lane._opened = began = loop.time()
    seen = {"requests": 0, "lost": 0, "early": 0}
    allowed, queries = 0.0, iter(range(needed))

    async def one() -> None:
        nonlocal allowed
        for _ in range(6):
            ticket = await lane.turn(loop.time() + 600)
            seen["requests"] += 1
            seen["early"] += loop.time() < allowed - 1e-6
            await asyncio.sleep(rng.uniform(0.04, 0.06))
            wait = server(loop.time())
            await asyncio.sleep(rng.uniform(0.04, 0.06))
            if wait is None:
                return
            allowed = max(allowed, loop.time() + told(wait))
            lane.limited(told(wait), ticket)
        seen["lost"] += 1

    async def work() -> None:
        for _ in queries:
            await one()

    await asyncio.gather(*[work() for _ in range(32)])
    return Storm(**seen, seconds=loop.time() - began)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    virtual = VirtualLoop()
    monkeypatch.setattr(limiter, "monotonic", virtual.time)
    yield virtual
    virtual.close()


KINDS: dict[str, Callable[[], Server]] = {
    "bucket of 5": lambda: bucket(5, 5),
    "bucket of 10": lambda: bucket(5, 10),
    "bucket of 1": lambda: bucket(5, 1),
    "5 in each second": lambda: window(5, 1),
    "5 in any second": lambda: sliding(5, 1),
    "50 in each ten seconds": lambda: window(50, 10),
}
# A bucket of 1 cannot be used up: what leaves every 0.2 s arrives up to 20 ms closer, and what comes too close is refused.
LESS = {("bucket of 1", exact): 0.88, ("bucket of 1", whole): 0.82}
# In the first 40 s there is the limit to be found, by refusals, each of which makes everyone wait for up to a second too long.
AT_FIRST = {("bucket of 1", exact): 0.86, ("bucket of 1", whole): 0.72, ("5 in any second", whole): 0.86}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("needed", [200, 600])
@pytest.mark.parametrize("told", [exact, whole])
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_is_paced(kind: str, told: Callable[[float], float], needed: int, seed: int, loop: VirtualLoop) -> None:
    seen = loop.run_until_complete(storm(KINDS[kind](), told, needed=needed, seed=seed))
    assert (seen.lost, seen.early) == (0, 0)
    used = (AT_FIRST if needed == 200 else LESS).get((kind, told), 0.9)
    assert seen.requests <= 1.2 * needed and needed / (5 * seen.seconds) >= used, seen


def test_a_lane_that_nobody_refuses_any_more_ends_its_pacing(loop: VirtualLoop) -> None:
    async def calm() -> float | None:
        lane = limiter.Lane(opens=0.0)
        lane.limited(1.0, await lane.turn(loop.time() + 10))
        for _ in range(3_000):
            await lane.turn(loop.time() + 60)
        return lane.rate

    assert loop.run_until_complete(calm()) is None


def test_a_wait_past_the_deadline_is_told_at_once(loop: VirtualLoop) -> None:
    async def late() -> float:
        lane = limiter.Lane(opens=0.0)
        lane.limited(30.0, await lane.turn(loop.time() + 10))
        began = loop.time()
        with pytest.raises(limiter.HeldBack, match="30 s more"):
            await lane.turn(loop.time() + 10)
        return loop.time() - began

    assert loop.run_until_complete(late()) < 0.1
