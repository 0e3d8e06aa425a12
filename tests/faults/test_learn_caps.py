"""`run --learn`: what its programs ask is in one ledger with the run that follows, and a cap that is crossed ends it with one line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bisect_ai.cli import main
from bisect_ai.provider import retry
from tests.faults.provider import Provider, Request, Say
from tests.faults.test_command_target import left_over
from tests.wire_shop import QUERIES, shop

AGENT = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"
PRICES = {name: {"input": 1.0, "output": 1.0} for name in ("gpt-old", "gpt-new")}


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)
    monkeypatch.chdir(tmp_path)
    code = AGENT.read_text()
    (tmp_path / "good.py").write_text(code.replace("gpt-new", "gpt-old").replace("customerId", "customer_id"))
    (tmp_path / "bad.py").write_text(code)
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES[:30]))


def learn(provider: Provider, monkeypatch: pytest.MonkeyPatch, budget: dict[str, Any], *words: str, **target: Any) -> Result:
    scorers = [{"kind": "contains", "name": "correct", "expected": "reference"}]
    settings = {"log": "log.jsonl", "scorers": scorers, "budget": budget, "concurrency": 4, "drill": False}
    Path("bisect.yaml").write_text(json.dumps({**settings, **({"target": {"kind": "wire", **target}} if target else {})}))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
    programs = [" ".join([sys.executable, f"{side}.py", *words]) for side in ("good", "bad")]
    return CliRunner().invoke(main, ["run", "--learn", programs[0], "--json", "report.json", "--", *programs[1].split()])


@pytest.mark.parametrize(
    ("budget", "cap"),
    [
        ({"calls": 4}, "the call cap: 4 of 4 calls spent"),
        ({"calls": 40, "requests": 5}, "the request cap: 5 of 5 requests left"),
        ({"calls": 40, "tokens": 40}, "the token cap"),
    ],
)
def test_a_cap_that_is_reached_while_learning_ends_it_with_one_line(
    budget: dict[str, Any], cap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ever: what was spent is spent when the same command comes again."""
    with Provider(shop) as provider:
        for _ in range(2):
            done = learn(provider, monkeypatch, budget)
            assert done.exit_code == 3, done.output
            assert f"release was not learnt: stopped at {cap}" in done.output and len(done.output.splitlines()) <= 3
            asked = len(provider.requests)
            assert 2 <= asked <= budget.get("requests", 10)
        assert left_over() == []


def test_the_run_that_follows_has_what_learning_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """In requests, calls and tokens, in every sitting; its report tells one sum."""
    with Provider(shop) as provider:
        for _ in range(3):
            done = learn(provider, monkeypatch, {"calls": 60, "requests": 50, "tokens": 100_000})
            assert done.exit_code == 3, done.output
            assert len(provider.requests) == 50
        usage = json.loads(Path("report.json").read_text())["usage"]
    cut = 4  # trials under way: a request of one that the cap cut off before its next is counted when the trial is asked again
    assert usage["tokens"] >= 14 * (50 - cut) and 25 <= usage["calls"] <= 60
    with Provider(shop) as provider:
        Path("releases/learned-good.yaml").unlink()
        done = learn(provider, monkeypatch, {"calls": 30}, "--", "x")
        usage = json.loads(Path("report.json").read_text())["usage"]
        assert usage["calls"] == 30, done.output


def test_failed_requests_of_learning_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: Request) -> Say:
        return Say(500, body={"error": {"message": f"no {request.number}"}})

    with Provider(fails) as provider:
        for _ in range(3):
            done = learn(provider, monkeypatch, {"calls": 40, "requests": 8}, attempts=3, run="replaced")
            assert done.exit_code in (3, 4) and len(provider.requests) <= 8, done.output


def test_learning_ends_by_its_minutes_and_leaves_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider(lambda request: Say(mode="hang")) as provider:
        began = time.monotonic()
        done = learn(provider, monkeypatch, {"calls": 40, "minutes": 0.02})
        assert done.exit_code == 3 and "stopped at the time cap of 0.02 minutes" in done.output
        assert time.monotonic() - began < 0.02 * 60 + 20 + 15 and left_over() == []
