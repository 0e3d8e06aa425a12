"""A judge or an embedding model that nobody can reach is known before the target is paid, with the provider's own words."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import TargetFailure
from bisect_ai.provider.litellm_calls import load_litellm
from bisect_ai.store.trial_store import Store
from tests.faults.provider import Provider, Request, Say

REFUSED = Say(401, body={"error": {"message": "Incorrect API key provided: no such project", "code": "invalid_api_key"}})
NO_MONEY = Say(429, body={"error": {"message": "You exceeded your current quota, add credit", "code": "insufficient_quota"}})
QUERIES = [{"id": f"q{i}", "input": f"question {i}", "reference": f"right q{i}"} for i in range(40)]
DOWN = Say(503, body={"error": {"message": "the engine room is flooded"}})


@pytest.fixture(autouse=True)
def _around(monkeypatch: pytest.MonkeyPatch) -> None:
    load_litellm()  # takes its time, which none of the runs is to wait for
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
    sides = {"good": {"prompt": "a", "model": "x"}, "bad": {"prompt": "b", "model": "y"}}
    try:
        result: Any = bisect_ai.run(
            **sides,
            target=target,
            scorers=scorers,
            store=store,
            drill=False,
            **{"budget": {"calls": 100}, "queries": QUERIES, **more},
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


def vectors(of: Any, **more: Any) -> Any:
    """Answers with `of(index, text)` for each text."""

    def say(request: Request) -> Say:
        rows = [{"object": "embedding", "index": i, "embedding": of(i, text)} for i, text in enumerate(request.body["input"])]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return Say(body=json.dumps({"object": "list", "model": "m", "data": rows, "usage": usage, **more}).encode())

    return say


NO_VECTORS = {
    "not a number": (vectors(lambda i, text: [math.nan, 1.0]), "not a list of finite numbers"),
    "infinite": (vectors(lambda i, text: [1.0, -math.inf]), "not a list of finite numbers"),
    "empty": (vectors(lambda i, text: []), "not a list of finite numbers"),
    "text": (vectors(lambda i, text: ["a", "b"]), "not a list of finite numbers"),
    "one text": (vectors(lambda i, text: "AACAPwAAAEA="), "not a list of finite numbers"),
    "nested": (vectors(lambda i, text: [[1.0], [2.0]]), "not a list of finite numbers"),
    "null": (vectors(lambda i, text: None), "not a list of finite numbers"),
    "no data": (vectors(lambda i, text: [1.0], data=None), "holds no list of vectors"),
    "data is a mapping": (vectors(lambda i, text: [1.0], data={"a": 1}), "holds no list of vectors"),
    "too few": (vectors(lambda i, text: [1.0], data=[]), "0 vectors came back for "),
    "zeros": (vectors(lambda i, text: [0.0, 0.0]), "a vector of zeros has no direction"),
    "a page": (lambda request: Say(body=b"<html>blocked</html>"), "Expecting value"),
    "redirect": (lambda request: Say(302, headers={"location": "http://127.0.0.1:9/x"}), "redirects are not followed"),
    "an absurd wait": (lambda request: Say(429, headers={"retry-after": "1000000000"}), "asks to wait 32 years and more"),
    "reset": (lambda request: Say(mode="reset"), "from http://127.0.0.1:"),
    "hang": (lambda request: Say(mode="hang"), "no answer within 2 s"),
}


@pytest.mark.parametrize("when", [0, 3])
@pytest.mark.parametrize("name", NO_VECTORS)
def test_what_is_no_vector_gives_no_score_and_stops_with_its_reason(name: str, when: int, tmp_path: Path) -> None:
    """At once, or (`when`) after some answers that were sound."""
    say, words = NO_VECTORS[name]
    sound, began = vectors(lambda i, text: [1.0, float(len(text))]), time.monotonic()
    with Provider(lambda request: (sound if request.number < when else say)(request)) as provider:
        spec = {**scored_by("embedding", f"{provider.host}/v1"), "timeout": 2, "attempts": 2}
        asked, told = start([spec], tmp_path / "store", budget={"calls": 100, "minutes": 0.3, "usd": 1.0})
    if not isinstance(told, str):  # it was slow, so that the time cap came first
        assert when and told.verdict.kind == "inconclusive"
        told = " ".join(told.to_dict()["warnings"])
    assert words in told and (when or len(asked) <= 24), told
    assert time.monotonic() - began < 0.3 * 60 + 20 + 20


def test_vectors_of_any_size_have_a_similarity(tmp_path: Path) -> None:
    for number in (1e308, 1e-308):
        with Provider(vectors(lambda i, text, number=number: [number, str(number)])) as provider:
            _, result = start([scored_by("embedding", f"{provider.host}/v1")], tmp_path / f"{number}")
        assert result.to_dict()["loss"]["good"] == pytest.approx(1.0)


def test_vectors_of_two_lengths_are_not_compared(tmp_path: Path) -> None:
    lengths = vectors(lambda i, text: [1.0] * (2 + ("Right" in text)))
    with Provider(lengths) as provider:
        queries = [{"id": f"q{i}", "input": "?", "reference": f"Right q{i}"} for i in range(40)]
        asked, told = start([scored_by("embedding", f"{provider.host}/v1")], tmp_path / "s", queries=queries)
    assert "are not of one length" in told and len(asked) <= 24


def test_a_vector_that_says_not_whose_it_is_gives_no_score(tmp_path: Path) -> None:
    def say(request: Request) -> Say:
        rows = [{"object": "embedding", "index": 0, "embedding": [1.0, 2.0]} for _ in request.body["input"]]
        return Say(body={"object": "list", "model": "m", "data": rows, "usage": {"prompt_tokens": 5, "total_tokens": 5}})

    with Provider(say) as provider:
        _, told = start([scored_by("embedding", f"{provider.host}/v1")], tmp_path / "store")
    assert "does not say which vector is of which text" in told


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5}, {"prompt_tokens": math.nan}, {"prompt_tokens": 10**18}])
def test_usage_of_an_embedding_that_cannot_be_is_said_and_charged_at_its_bound(usage: dict[str, Any], tmp_path: Path) -> None:
    with Provider(vectors(lambda i, text: [1.0, 2.0], usage=usage)) as provider:
        _, result = start([scored_by("embedding", f"{provider.host}/v1")], tmp_path / "store")
        sent = sum(len(text) + 1 for request in provider.requests for text in request.body["input"])
    told = result.to_dict()
    assert told["usage"]["tokens"] == sent
    assert any("say what cannot be of their cost, first: good: " in line for line in told["warnings"]), told["warnings"]
