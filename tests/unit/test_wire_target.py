"""The user's program on the wire: unedited agents, each cell composed in their requests, answers mapped back and kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.queries.query import Query
from bisect_ai.runs.build_target import build_target
from tests.faults.provider import Provider
from tests.wire_shop import BAD, GOOD, QUERIES, SYSTEM, shop

AGENTS = Path(__file__).parent.parent / "wire_agents"


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("OPENAI_API_BASE", "ANTHROPIC_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider(shop) as running:
        led_to(running, monkeypatch)
        yield running


def led_to(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.host)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-canary-0123456789abcdef")


@pytest.fixture
def target(provider: Provider, tmp_path: Path) -> Iterator[Any]:
    made: list[Any] = []

    def make(run: str, good: Mapping[str, Any] = GOOD, bad: Mapping[str, Any] = BAD, **settings: Any) -> Any:
        spec = {"kind": "wire", "run": f"{sys.executable} {AGENTS}/{run}", **settings}
        made.append(build_target(spec, folder=tmp_path, good=good, bad=bad)[0])
        return made[-1]

    yield make
    for each in made:
        each.close()


def cell(*bad: str) -> dict[str, Any]:
    return {axis: (BAD if axis in bad else GOOD)[axis] for axis in GOOD}


CELLS = [(), ("prompt",), ("model", "tools"), ("model", "prompt", "tools")]
FIELD = {
    "openai_agent.py": lambda body: list(body["tools"][0]["function"]["parameters"]["properties"]),
    "responses_agent.py": lambda body: list(body["tools"][0]["parameters"]["properties"]),
    "anthropic_agent.py": lambda body: list(body["tools"][0]["input_schema"]["properties"]),
}


@pytest.mark.parametrize("agent", [f"{name}{how}" for name in FIELD for how in ("", " --stream")])
def test_each_cell_is_composed_and_answers_are_mapped_back(target: Any, provider: Provider, agent: str) -> None:
    asked = target(agent)
    for bad in CELLS:
        before = len(provider.requests)
        answer = asked(Query(QUERIES[4]), cell(*bad), 0)
        broken = {"prompt", "tools"} <= set(bad)
        assert answer.text == ("Sorry, I cannot look that up." if broken else "You have 5 orders."), (bad, answer)
        first, second = (request.body for request in provider.requests[before:])
        assert first["model"] == ("gpt-new" if "model" in bad else "gpt-old")
        assert first["temperature"] == (0.7 if "model" in bad else 0.2)
        assert ("Copy the format" in str(first)) == ("prompt" in bad)
        field = "customerId" if "tools" in bad else "customer_id"
        assert FIELD[agent.split()[0]](first) == [field]
        assert ("All orders of a customer." in str(first)) == ("tools" not in bad)
        called = "customer_id" if broken else field
        assert f'"{called}": "FH-5"' in str(second).replace("'", '"').replace('\\\\"', '"').replace('\\"', '"')
        assert [dict(call.arguments) for call in answer.tool_calls] == [{called: "FH-5"}]
        assert (answer.steps, answer.attempts, answer.usage.tokens) == (2, 2, 28)


def test_what_the_program_and_its_framework_add_is_kept(target: Any, provider: Provider) -> None:
    target("openai_agent.py")(Query(QUERIES[4]), cell(), 0)
    body = provider.requests[0].body
    system = body["messages"][0]["content"]
    assert system == f"Today is Monday.\n\n{GOOD['prompt']['system']}\n" and SYSTEM not in system
    parameters = body["tools"][0]["function"]["parameters"]
    assert parameters["additionalProperties"] is False and parameters["required"] == ["customer_id"]
    assert parameters["properties"] == {"customer_id": {"type": "string", "title": "Customerid"}}
