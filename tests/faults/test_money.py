"""No cap is ever crossed: not at any concurrency, not by retries, not after a restart."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import ConfigError
from bisect_ai.provider import retry
from bisect_ai.provider.budget import Account, Amount, CapReached, Caps
from bisect_ai.queries.query import Query
from bisect_ai.targets.target import metered
from tests.faults.provider import Provider, Request, Say

WORKERS = 64


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)


async def _spend_all(account: Account, rng: random.Random) -> float:
    """64 workers until the cap; the most that was spent and under way at once, in USD."""
    peak, open_now = 0.0, 0.0

    async def work() -> None:
        nonlocal peak, open_now
        while True:
            most = Amount(1, 100, rng.uniform(0.5, 1.0))
            try:
                held = await account.acquire(most)
            except CapReached:
                return
            open_now += most.usd
            peak = max(peak, account.spent.usd + open_now)
            await asyncio.sleep(0)
            open_now -= most.usd
            account.settle(held, Amount(1, rng.randint(0, 100), most.usd * rng.choice((0.0, 0.5, 1.0))))

    await asyncio.gather(*[work() for _ in range(WORKERS)])
    return peak


@pytest.mark.parametrize("runs", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_sixty_four_workers_never_cross_a_cap(runs: int) -> None:
    for seed in range(runs):
        rng = random.Random(seed)
        account = Account(Caps(calls=10_000, usd=10.0, tokens=3_000))
        peak = asyncio.run(_spend_all(account, rng))
        assert peak <= 10.0 + 1e-6 and account.spent.tokens <= 3_000, seed
        assert (account.stopped is not None and account.spent.usd > 5.0 - 1) or account.spent.tokens > 2_800, seed


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_sixty_four_threads_make_ten_calls_of_ten(runs: int) -> None:
    for _ in range(runs):
        account, made = Account(Caps(calls=10)), []

        def work(account: Account = account, made: list[int] = made) -> None:
            try:
                while True:
                    account.spend(Amount(calls=1))
                    made.append(1)
            except CapReached:
                return

        threads = [threading.Thread(target=work) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 10


def test_a_reservation_that_others_stand_in_the_way_of_waits_and_one_that_never_fits_is_refused() -> None:
    account = Account(Caps(usd=1.0))
    first = account.reserve(Amount(usd=0.8))
    assert first is not None and account.reserve(Amount(usd=0.3)) is None and account.stopped is None
    account.settle(first, Amount(usd=0.1))
    second = account.reserve(Amount(usd=0.9))
    assert second is not None
    account.settle(second, Amount(usd=0.9))
    with pytest.raises(CapReached, match="stopped at the money cap: 1 of 1 USD spent"):
        account.reserve(Amount(usd=0.01))


def test_a_trial_has_caps_of_its_own_below_those_of_the_run() -> None:
    run = Account(Caps(usd=1.0))
    trial = run.trial(Caps(calls=2))
    for _ in range(2):
        held = trial.reserve(Amount(1, 5, 0.4))
        assert held is not None
        trial.settle(held, Amount(1, 5, 0.3))
    with pytest.raises(CapReached) as reached:
        trial.reserve(Amount(1, 5, 0.1))
    assert reached.value.account is trial and reached.value.cap == "calls" and run.stopped is None
    assert (run.spent.calls, run.spent.tokens, round(run.spent.usd, 9)) == (0, 10, 0.6)
    with pytest.raises(CapReached) as reached:
        run.trial(Caps()).reserve(Amount(1, 5, 0.5))
    assert reached.value.account is run and reached.value.exit_code == 3


def test_no_call_begins_after_the_time_cap() -> None:
    now = [0.0]
    account = Account(Caps(minutes=1), clock=lambda: now[0])
    account.spend(Amount(calls=1))
    now[0] = 60.0
    with pytest.raises(CapReached, match="time cap of 1 minutes"):
        account.spend(Amount(calls=1))
    assert account.is_closed()


# -- whole runs ----------------------------------------------------------------------------------------------------------
def _study(provider: Provider, budget: dict[str, Any], **more: Any) -> Any:
    model = provider.model("openai", max_tokens=50)
    return bisect_ai.run(
        good={"prompt": "Be kind.", "model": model},
        bad={"prompt": "Be terse.", "model": {**model, "temperature": 0}},
        queries=[{"id": f"q{i}", "input": f"hello {i}", "reference": "Hello."} for i in range(60)],
        target={"kind": "litellm", "concurrency": 32, "timeout": 5},
        scorers=[{"kind": "exact", "name": "correct"}],
        metric="correct",
        budget={"calls": 400, **budget},
        **more,
    )


PRICE = 10 * 2.5e-6 + 4 * 10e-6
"""USD of one of the provider's answers by gpt-4o."""


def test_a_run_stops_at_the_money_cap_and_says_so(tmp_path: Path) -> None:
    with Provider([Say(delay=0.01)]) as provider:
        result = _study(provider, {"usd": 0.005}, store=str(tmp_path / "store"))
        served = len(provider.requests)
        assert served * PRICE <= 0.005 and served > 20
        assert result.verdict.kind == "inconclusive" and "stopped at the money cap" in result.verdict.sentence
        assert result.usage.calls == served and any("money cap" in line for line in result.to_dict()["warnings"])
        again = _study(provider, {"usd": 0.005}, store=str(tmp_path / "store"))
        # What is left is less than a call may cost: the journal tells the next run so.
        assert len(provider.requests) == served and again.verdict.kind == "inconclusive"


def test_a_run_stops_at_the_token_cap() -> None:
    with Provider([Say()]) as provider:
        result = _study(provider, {"tokens": 1_000})
        assert 14 * len(provider.requests) <= 1_000 and "stopped at the token cap" in result.verdict.sentence


def test_answers_that_never_came_whole_stay_charged() -> None:
    with Provider(lambda request: Say(mode="half") if request.number % 2 else Say()) as provider:
        result = _study(provider, {"usd": 0.01})
        halves = len(provider.requests) // 2
        usage = result.to_dict()["usage"]
    # A half-received answer may have been billed: 50 tokens of output at 10 USD a million, and its input.
    assert "stopped at the money cap" in result.verdict.sentence
    assert usage["unsettled_usd"] > halves * 50 * 10e-6 and usage["usd"] + usage["unsettled_usd"] <= 0.01


def test_missing_usage_is_charged_at_the_most() -> None:
    with Provider([Say(change=lambda answer: answer.pop("usage"))]) as provider:
        _study(provider, {"usd": 0.01})
        assert len(provider.requests) * 50 * 10e-6 <= 0.01


def test_an_unpriced_model_is_refused_before_any_call_and_a_price_helps() -> None:
    with Provider([Say()]) as provider:
        model = provider.model("openai", "in-house-7b")
        study: dict[str, Any] = {
            "good": {"prompt": "Be kind.", "model": model},
            "bad": {"prompt": "Be terse.", "model": {**model, "temperature": 0}},
            "queries": [{"id": f"q{i}", "input": "hi", "reference": "Hello."} for i in range(60)],
            "scorers": [{"kind": "exact", "name": "correct"}],
            "metric": "correct",
            "budget": {"calls": 100, "usd": 1},
        }
        with pytest.raises(ConfigError, match=r"no price is known for openai/in-house-7b; set target.prices"):
            bisect_ai.run(**study, target={"kind": "litellm"})
        prices: dict[str, Any] = {"openai/in-house-7b": {"input": 1, "output": 2}}
        with pytest.raises(ConfigError, match="max_output"):
            bisect_ai.run(**study, target={"kind": "litellm", "prices": prices})
        assert provider.requests == []
        prices["openai/in-house-7b"]["max_output"] = 100
        result = bisect_ai.run(**study, target={"kind": "litellm", "prices": prices})
        assert result.usage.usd == pytest.approx(len(provider.requests) * (10 * 1e-6 + 4 * 2e-6))


def test_a_cap_of_a_trial_below_one_call_is_refused() -> None:
    with Provider([Say()]) as provider:
        with pytest.raises(ConfigError, match=r"budget.per_trial is too small for one call"):
            _study(provider, {"per_trial": {"usd": 1e-6}})
        assert provider.requests == []


def test_python_targets_are_metered_by_what_they_say() -> None:
    asked: list[str] = []

    def answer(query: Any, release: Any) -> dict[str, Any]:
        asked.append(query.id)
        return {"text": "Hello.", "usage": {"input_tokens": 10, "output_tokens": 5, "usd": 0.01}}

    result = bisect_ai.run(
        good={"prompt": "a", "model": "m"},
        bad={"prompt": "b", "model": "n"},
        queries=[{"id": f"q{i}", "input": "hi", "reference": "Hello."} for i in range(60)],
        target=answer,
        scorers=[{"kind": "exact", "name": "correct"}],
        metric="correct",
        budget={"calls": 400, "usd": 0.25},
    )
    assert len(asked) == 25 and "stopped at the money cap" in result.verdict.sentence


@pytest.mark.parametrize("kind", ["threads", "loop"])
def test_until_a_cost_is_known_an_answer_goes_alone(kind: str) -> None:
    answer = {"text": "Hello.", "usage": {"input_tokens": 10, "output_tokens": 4}}
    account, asked = Account(Caps(tokens=30)), list[int]()

    class Target:
        identity, concurrency, is_async = "t", 16, kind == "loop"

        def __call__(self, query: Any, release: Any, repeat: int) -> Any:
            asked.append(repeat)
            if self.is_async:
                return self._later()
            time.sleep(0.05)
            return answer

        async def _later(self) -> Any:
            await asyncio.sleep(0.05)
            return answer

    paid: Any = metered(Target(), account, per_trial=None, usual=account.usual)

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(
            *(paid(Query({"id": "q", "input": "hi"}), {}, i) for i in range(16)), return_exceptions=True
        )

    def one(i: int) -> Any:
        try:
            return paid(Query({"id": "q", "input": "hi"}), {}, i)
        except CapReached as error:
            return error

    if kind == "loop":
        ended = asyncio.run(all_at_once())
    else:
        with ThreadPoolExecutor(16) as pool:
            ended = list(pool.map(one, range(16)))
    assert len(asked) == 2 and account.spent.tokens == 28
    assert sum(isinstance(end, CapReached) for end in ended) == 14


def test_prices_that_cannot_be_read_are_named() -> None:
    for wrong in ({"m": {}}, {"m": {"input": 1}}, {"m": {"input": -1, "output": 2}}, {"m": 3}, [1]):
        with pytest.raises(ConfigError, match=r"target.prices"):
            bisect_ai.run(
                good={"model": "openai/m", "prompt": "a"},
                bad={"model": "openai/m", "prompt": "b"},
                queries=[{"id": i, "input": "hi", "reference": "Hello."} for i in "qr"],
                target={"kind": "litellm", "prices": wrong},
                scorers=[{"kind": "exact", "name": "correct"}],
            )


def storm(request: Request) -> Say:
    return Say(429, headers={"retry-after": "0"}) if request.number < 3 else Say()


def test_refusals_cost_nothing() -> None:
    with Provider(storm) as provider:
        result = _study(provider, {"usd": 0.005})
        paid = sum(1 for request in provider.requests if request.number >= 3)
    assert result.to_dict()["usage"]["usd"] == pytest.approx(paid * PRICE)
