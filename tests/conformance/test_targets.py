"""The suite that every target passes: what it gives back, what names it, and that releases and queries stay as they are."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.canonical import digest, plain
from bisect_ai.errors import Infeasible
from bisect_ai.provider.transport import close_connections
from bisect_ai.queries.query import Query
from bisect_ai.runs.prepare import build_target
from bisect_ai.targets.answer import Answer, as_answer
from bisect_ai.targets.target import Target
from tests.faults.provider import Provider, Request, Say

GOOD: dict[str, Any] = {"prompt": "Be kind.", "model": "openai/gpt-4o"}
BAD: dict[str, Any] = {"prompt": "Be terse.", "model": "openai/gpt-4o"}
QUERY = {"id": "q1", "input": "Hello?", "plan": "gold", "history": [{"role": "user", "content": "Hi"}]}


def answer_of(target: Target, query: Query, release: Mapping[str, Any], repeat: int = 0) -> Answer:
    async def awaited() -> Any:
        try:
            returned = target(query, release, repeat)
            return await returned if inspect.isawaitable(returned) else returned
        finally:
            await close_connections()

    return as_answer(asyncio.run(awaited()))


class TargetSuite:
    """A subclass gives its settings; the answer to every query is "Hello." under good and bad."""

    @pytest.fixture
    def spec(self) -> Iterator[Any]:
        raise NotImplementedError

    @pytest.fixture
    def target(self, spec: Any, tmp_path: Path) -> Target:
        return build_target(spec, folder=tmp_path, good=self.good(spec), bad=self.bad(spec))[0]

    def good(self, spec: Any) -> dict[str, Any]:
        return GOOD

    def bad(self, spec: Any) -> dict[str, Any]:
        return BAD

    def test_it_answers(self, target: Target, spec: Any) -> None:
        answer = answer_of(target, Query(QUERY), self.good(spec))
        assert (answer.text, answer.error, answer.outcome) == ("Hello.", None, "ok")
        assert Answer.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer

    def test_release_and_query_stay_as_they_are(self, target: Target, spec: Any) -> None:
        query, release = Query(copy.deepcopy(QUERY)), copy.deepcopy(self.bad(spec))
        answer_of(target, query, release)
        assert dict(query) == QUERY and release == self.bad(spec)

    def test_identity_is_plain_and_the_same_for_the_same_settings(self, target: Target, spec: Any, tmp_path: Path) -> None:
        again = build_target(spec, folder=tmp_path, good=self.good(spec), bad=self.bad(spec))[0]
        assert digest(plain(dict(target.identity))) == digest(plain(dict(again.identity)))
        assert target.identity["kind"] and "canary" not in str(target.identity)

    def test_it_says_how_many_at_once(self, target: Target) -> None:
        assert target.concurrency >= 1


class TestPython(TargetSuite):
    @pytest.fixture
    def spec(self) -> Iterator[Any]:
        yield greet


class TestAsyncPython(TargetSuite):
    @pytest.fixture
    def spec(self) -> Iterator[Any]:
        yield greet_later


class TestRecorded(TargetSuite):
    @pytest.fixture
    def spec(self) -> Iterator[Any]:
        yield {
            "kind": "recorded",
            "records": [{"query": "q1", "bad_axes": axes, "text": "Hello."} for axes in ([], ["prompt"])],
        }


class TestLitellm(TargetSuite):
    @pytest.fixture
    def spec(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
        with Provider([Say()]) as provider:
            self.model = provider.model("openai")
            yield {"kind": "litellm"}

    def good(self, spec: Any) -> dict[str, Any]:
        return {**GOOD, "model": self.model}

    def bad(self, spec: Any) -> dict[str, Any]:
        return {**BAD, "model": self.model}


def service(request: Request) -> Say:
    return Say(body={"text": "Hello.", "usage": {"input_tokens": 3, "output_tokens": 1, "usd": 0.001}, "build": 7})


@pytest.mark.parametrize("send", ["flags", "axes"])
class TestHttp(TargetSuite):
    @pytest.fixture
    def spec(self, send: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setenv("STAGING_TOKEN", "canary-0123456789")
        with Provider(service) as self.provider:
            yield {
                "kind": "http",
                "url": f"{self.provider.host}/answer",
                "send": send,
                "headers": {"X-Token": "STAGING_TOKEN"},
                "version": 3,
            }

    def test_what_is_sent(self, target: Target, spec: Any) -> None:
        answer_of(
            target, Query({**QUERY, "output": "Old.", "scores": {"correct": 1}, "reference": "Hello."}), self.bad(spec), 2
        )
        (request,) = self.provider.requests
        sides = {"axes": {"model": "good", "prompt": "bad"}} if spec["send"] == "flags" else {"release": BAD}
        assert request.body == {"query": QUERY, "repeat": 2, **sides}
        assert request.headers["x-token"] == "canary-0123456789" and request.path == "/answer"

    def test_a_part_of_an_axis_needs_composed_axes(self, target: Target, spec: Any) -> None:
        mixed = {**GOOD, "prompt": "Be kind. Be terse."}
        if spec["send"] == "axes":
            assert answer_of(target, Query(QUERY), mixed).error is None
        else:
            with pytest.raises(Infeasible, match="a part of prompt alone"):
                answer_of(target, Query(QUERY), mixed)


def greet(query: Any, release: Any) -> str:
    return "Hello."


async def greet_later(query: Any, release: Any) -> str:
    return "Hello."
