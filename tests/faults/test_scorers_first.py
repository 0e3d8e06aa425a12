"""A judge or an embedding model that nobody can reach is known before the target is paid, with the provider's own words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import TargetFailure
from bisect_ai.store.trial_store import Store
from tests.faults.provider import Provider, Say

REFUSED = Say(401, body={"error": {"message": "Incorrect API key provided: no such project", "code": "invalid_api_key"}})
NO_MONEY = Say(429, body={"error": {"message": "You exceeded your current quota, add credit", "code": "insufficient_quota"}})
DOWN = Say(503, body={"error": {"message": "the engine room is flooded"}})


@pytest.fixture(autouse=True)
def _around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def scored_by(kind: str, base: str) -> dict[str, Any]:
    model = {"model": "openai/gpt-4o" if kind == "judge" else "openai/text-embedding-3-small", "api_base": base}
    return {"kind": kind, "name": "good", "model": {**model, **({"max_tokens": 60} if kind == "judge" else {})}}


def start(scorers: list[dict[str, Any]], store: Path, **more: Any) -> tuple[list[str], Any]:
    asked: list[str] = []

    def target(query: Any, release: Any) -> str:
        asked.append(query.id)
        return f"right {query.id}"

    target.version = "1"  # type: ignore[attr-defined]
    queries = [{"id": f"q{i}", "input": f"question {i}", "reference": f"right q{i}"} for i in range(40)]
    sides = {"good": {"prompt": "a", "model": "x"}, "bad": {"prompt": "b", "model": "y"}}
    try:
        result: Any = bisect_ai.run(
            **sides,
            queries=queries,
            target=target,
            scorers=scorers,
            store=store,
            drill=False,
            **{"budget": {"calls": 100}, **more},
        )
    except TargetFailure as failure:
        return asked, str(failure)
    return asked, result


@pytest.mark.parametrize("kind", ["judge", "embedding"])
@pytest.mark.parametrize(
    ("say", "words"),
    [
        (REFUSED, "Incorrect API key provided: no such project"),
        (NO_MONEY, "exceeded your current quota"),
        (DOWN, "the engine room is flooded"),
    ],
)
def test_a_refusing_provider_of_scores_is_known_before_the_target_is_paid(
    kind: str, say: Say, words: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    with Provider([say]) as provider:
        asked, told = start([scored_by(kind, f"{provider.host}/v1")], tmp_path / "store")
        assert asked == [] and words in told and "the scorer good cannot be asked" in told
        assert "the target was not asked, and the scorer cost 0 USD" in told and "\n" not in told
        assert len(provider.requests) <= 30
    with Store(tmp_path / "store") as store:
        assert store.spending(next(iter(store.runs))).calls == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("kind", ["judge", "embedding"])
def test_an_address_where_nobody_listens_is_known_before_the_target_is_paid(kind: str, tmp_path: Path) -> None:
    began = time.monotonic()
    asked, told = start([scored_by(kind, "http://127.0.0.1:9/v1")], tmp_path / "store")
    assert asked == [] and "127.0.0.1:9" in told, told
    assert time.monotonic() - began < 30


def test_a_side_judge_that_is_down_does_not_end_the_run_but_one_that_refuses_the_key_does(tmp_path: Path) -> None:
    exact = {"kind": "exact", "name": "correct"}
    with Provider([DOWN]) as provider:
        side = {**scored_by("judge", f"{provider.host}/v1"), "attempts": 1}
        asked, result = start([exact, side], tmp_path / "a", metric="correct")
        assert len(asked) > 10 and result.verdict.kind in ("no_regression", "inconclusive")
    with Provider([REFUSED]) as provider:
        asked, told = start([exact, scored_by("judge", f"{provider.host}/v1")], tmp_path / "b", metric="correct")
        assert asked == [] and "Incorrect API key" in told


def test_a_cap_that_the_rehearsal_reaches_is_no_failure_of_the_judge(tmp_path: Path) -> None:
    with Provider([Say()]) as provider:
        spec = {**scored_by("judge", f"{provider.host}/v1"), "prices": {"openai/gpt-4o": {"input": 1000, "output": 1000}}}
        _, result = start([spec], tmp_path / "store", budget={"calls": 100, "usd": 0.0001})
        assert provider.requests == [] and not isinstance(result, str) and result.verdict.kind == "inconclusive"
