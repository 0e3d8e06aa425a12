"""What judges and embedding models cost: under the run's caps, on record for the next sitting, through the one retry loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import litellm
import pytest

import bisect_ai
from bisect_ai.errors import ConfigError, TargetFailure
from bisect_ai.provider import retry
from bisect_ai.provider.budget import Account, Amount, Caps
from bisect_ai.queries.query import Query
from bisect_ai.scoring.model_scorers import Embedder, Embedding
from bisect_ai.scoring.scorer_charges import NOT_ASKED, Ask, Purse
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Answer
from tests.faults.judges import Embeds, StandIn, honest

PRICES = {"stand/j": {"input": 10, "output": 1000, "max_output": 40}}
VERDICT = 10 * 10e-6 + 20 * 1000e-6
"""USD: litellm's mock says 10 tokens in and 20 out."""


class Slow(StandIn):
    """Takes a moment, so that many verdicts are under way at once."""

    def __init__(self) -> None:
        super().__init__(honest)
        self.now = self.most = 0

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.003)
        self.now -= 1
        return await super().acompletion(*args, **kwargs)


def run(judge: StandIn, store: Path | None, budget: dict[str, Any], **settings: Any) -> bisect_ai.Result:
    def target(query: Any, release: Any) -> dict[str, Any]:
        text = f"{'wrong' if release['prompt'] == 'b' and int(query.id[1:]) % 4 == 0 else 'right'} {query.id}"
        return {"text": text, "usage": {"input_tokens": 1, "output_tokens": 1, "usd": 0.001}}

    target.version = "1"  # type: ignore[attr-defined]
    spec = {"kind": "judge", "name": "good", "model": "stand/j", "custom_providers": {"stand": judge}, "prices": PRICES}
    return bisect_ai.run(
        good={"prompt": "a", "model": "x"},
        bad={"prompt": "b", "model": "y"},
        queries=[{"id": f"q{i}", "input": f"question {i}"} for i in range(60)],
        target=target,
        scorers=[{**spec, "concurrency": 32, **settings}],
        budget={"calls": 240, **budget},
        design="full",
        drill=False,
        store=store,
    )


@pytest.mark.parametrize("budget", [{"usd": 1.0}, {"tokens": 4_000}])
def test_no_cap_is_crossed_by_many_verdicts_at_once_nor_by_a_second_sitting(tmp_path: Path, budget: dict[str, Any]) -> None:
    judge = Slow()
    first = run(judge, tmp_path / "s", budget)
    asked = len(judge.prompts)
    spent = first.report["usage"]
    assert judge.most > 1 and 0 < asked < 240  # the cap cut it short
    assert spent["usd"] == pytest.approx(asked * VERDICT + spent["calls"] * 0.001)
    assert spent["usd"] <= budget.get("usd", 99) and spent["tokens"] <= budget.get("tokens", 1e9)
    assert any("stopped at the" in line for line in first.report["warnings"])
    again = run(judge, tmp_path / "s", budget).report["usage"]
    assert again["usd"] <= budget.get("usd", 99) and again["tokens"] <= budget.get("tokens", 1e9)
    assert again["usd"] == pytest.approx(len(judge.prompts) * VERDICT + again["calls"] * 0.001)


def test_what_a_judge_cost_before_is_told_by_the_next_sitting(tmp_path: Path) -> None:
    judge = Slow()
    first = run(judge, tmp_path / "s", {})
    asked = len(judge.prompts)
    again = run(judge, tmp_path / "s", {})
    assert len(judge.prompts) == asked
    told = [result.report["judges"][0]["usd"] for result in (first, again)]
    assert told == pytest.approx([asked * VERDICT] * 2)
    assert again.report["usage"]["usd"] == pytest.approx(first.report["usage"]["usd"])


def test_a_verdict_that_was_never_asked_for_is_asked_for_by_the_next_sitting(tmp_path: Path) -> None:
    class Down(StandIn):
        up = False

        async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
            if not self.up:
                raise RuntimeError("no")
            return await super().acompletion(*args, **kwargs)

    judge = Down(honest)
    with pytest.raises(TargetFailure, match=r"the scorer good cannot be asked: .*RuntimeError: no;"):
        run(judge, tmp_path / "s", {}, attempts=1, timeout=2)
    judge.up = True
    assert run(judge, tmp_path / "s", {}).verdict.kind == "cause"


def test_a_cap_in_usd_needs_the_judges_price_before_anything_is_spent() -> None:
    judge = StandIn(honest)
    with pytest.raises(ConfigError, match=r"no price is known for stand/j; set judge\.prices"):
        run(judge, None, {"usd": 1.0}, prices={})
    assert not judge.prompts


class Embedded(Embeds):
    """Fails the first times, and says what the texts cost."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures, self.requests = failures, 0

    async def aembedding(self, model: str, input: list[str], *args: Any, **kwargs: Any) -> Any:  # noqa: A002 - litellm's name
        self.requests += 1
        if self.requests <= self.failures:
            raise litellm.InternalServerError("try again", "vectors", model)
        response = await super().aembedding(model, input, *args, **kwargs)
        response.usage = litellm.Usage(prompt_tokens=5 * len(input), completion_tokens=0, total_tokens=5 * len(input))
        return response


def embed(provider: Embedded, purse: Purse, texts: int = 3) -> list[Any]:
    prices = {"vectors/e": {"input": 1000, "output": 0}}
    settings = Embedding("vectors/e", custom_providers={"vectors": provider}, prices=prices, attempts=4, timeout=5)
    embedder = Embedder(settings, folder=Path())
    embedder.pay_from(purse)
    try:
        asks = [
            Ask(Query({"id": f"q{i}", "input": "?", "reference": f"yes {i}"}), Answer(text=f"yes {i}")) for i in range(texts)
        ]
        return embedder.many(asks)
    finally:
        embedder.close()


def test_embeddings_are_retried_counted_and_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.001)
    provider, account = Embedded(failures=2), Account(Caps(usd=1.0))
    with Store(tmp_path / "s") as store:
        store.begin("run", {})
        found = embed(provider, Purse(account, store, run="run", who="near"))
        assert [one.value for one in found] == pytest.approx([1.0] * 3)
        assert provider.requests == 3 and account.spent.tokens == 15 and account.spent.usd == pytest.approx(0.015)
        assert store.spending("run").scorers == {"near": pytest.approx(0.015)}
    with Store(tmp_path / "s") as store:
        kept = store.spending("run")
        assert kept.usd == pytest.approx(0.015) and kept.tokens == 15 and kept.calls == 0 and kept.unsettled.calls == 0


def test_embeddings_stop_at_a_cap() -> None:
    provider, account = Embedded(), Account(Caps(tokens=20), spent=Amount(tokens=15))
    found = embed(provider, Purse(account))
    assert provider.requests == 0 and account.spent.tokens == 15
    assert all(one.value is None and str(one.error).startswith(NOT_ASKED) and "token cap" in str(one.error) for one in found)
