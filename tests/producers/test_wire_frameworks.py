"""Unedited agents of real frameworks on the wire, newest versions, against the stand-in provider. `pytest -m producers`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.queries.query import Query
from bisect_ai.runs.prepare import build_target
from tests.faults.provider import Provider
from tests.producers.test_producers import python_tool
from tests.wire_shop import BAD, GOOD, QUERIES, shop

pytestmark = pytest.mark.producers
AGENTS = Path(__file__).parent.parent / "wire_agents"
FRAMEWORKS = {
    "agents_sdk_agent.py": ("openai-agents",),
    "langgraph_agent.py": ("langgraph", "langchain-openai"),
    "pydantic_ai_agent.py": ("pydantic-ai-slim[openai]",),
    "anthropic_agent.py --client": ("anthropic", "openai"),
    "anthropic_agent.py --client --stream": ("anthropic", "openai"),
}


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Provider(shop) as running:
        for name, url in (("OPENAI", f"{running.host}/v1"), ("ANTHROPIC", running.host)):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
            monkeypatch.setenv(f"{name}_API_KEY", "sk-canary-0123456789abcdef")
            monkeypatch.delenv(f"{name}_API_BASE", raising=False)
        yield running


@pytest.mark.parametrize("agent", FRAMEWORKS)
def test_an_unedited_agent_answers_as_each_cell_would(tmp_path: Path, provider: Provider, agent: str) -> None:
    python = python_tool(tmp_path, *FRAMEWORKS[agent])
    spec = {"kind": "wire", "run": f"{python} {AGENTS}/{agent}"}
    target: Any = build_target(spec, folder=tmp_path, good=GOOD, bad=BAD)[0]
    try:
        for bad in ((), ("prompt",), ("tools",), ("prompt", "tools"), ("model", "prompt", "tools")):
            before = len(provider.requests)
            release = {axis: (BAD if axis in bad else GOOD)[axis] for axis in GOOD}
            answer = target(Query(QUERIES[4]), release, 0)
            broken = {"prompt", "tools"} <= set(bad)
            assert ("You have 5 orders." not in answer.text) == broken, (bad, answer)
            first = provider.requests[before].body
            assert first["model"] == ("gpt-new" if "model" in bad else "gpt-old")
            assert ("Copy the format" in str(first)) == ("prompt" in bad)
            assert ("customerId" in str(first["tools"])) == ("tools" in bad)
    finally:
        target.close()
