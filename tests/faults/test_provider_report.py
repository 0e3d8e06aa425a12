"""What the provider did is in the report: requests, failed attempts by kind, waits, fates by cell, refused configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.replay import wire
from bisect_ai.report import markdown, terminal
from tests.faults.provider import Provider, Request, Say


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wire, "FIRST_BACKOFF", 0.005)


def _run(provider: Provider, store: Path | None = None, **budget: Any) -> dict[str, Any]:
    model = provider.model("openai", max_tokens=50)
    report: dict[str, Any] = bisect_ai.run(
        good={"prompt": "Be kind.", "model": {**model, "seed": 1}},
        bad={"prompt": "Be terse.", "model": {**model, "seed": 2}},
        queries=[{"id": f"q{i}", "input": f"hello {i}", "reference": "Hello."} for i in range(30)],
        target={"kind": "litellm", "timeout": 5},
        scorers=[{"kind": "exact", "name": "correct"}],
        metric="correct",
        design="full",
        drill=False,
        store=None if store is None else str(store),
        budget={"calls": 120, **budget},
    ).to_dict()
    return report


def test_failed_attempts_and_fates_are_told_and_a_resumed_run_tells_the_same(tmp_path: Path) -> None:
    def troubled(request: Request) -> Say:
        if request.number % 10 == 0:
            return Say(500)
        if request.body["seed"] == 2:
            return Say(change=lambda answer: answer["choices"][0].update(finish_reason="length"))
        return Say()

    with Provider(troubled) as provider:
        report = _run(provider, tmp_path / "store")
        requests = len(provider.requests)
        again = _run(provider, tmp_path / "store")
        assert len(provider.requests) == requests
    block = report["usage"]["provider"]
    answers, cut = block["answers"], block["outcomes"]["truncated"]
    assert block["requests"] == requests and block["faults"] == {"500": requests - answers} and requests > answers >= 60
    assert all("model" in cell["bad_axes"] and cell["outcomes"] == {"truncated": cell["trials"]} for cell in block["cells"])
    assert sum(cell["trials"] for cell in block["cells"]) == cut > 0
    assert again["usage"]["provider"] == block
    for page in (terminal.render(report), markdown.render(report)):
        flat = " ".join(page.split())
        assert f"{requests} requests, of which failed: 500 ({requests - answers})" in flat
        assert f"answers that are not whole: truncated ({cut})" in flat


def test_a_configuration_that_is_refused_is_found_as_the_cause() -> None:
    def too_long(request: Request) -> Say:
        long = (
            "Be terse." in str(request.body["messages"]) and int(str(request.body["messages"][-1]["content"]).split()[-1]) % 2
        )
        return Say(400, body={"error": {"message": "context too long"}}) if long else Say()

    with Provider(too_long) as provider:
        report = _run(provider)
    assert report["verdict"]["kind"] == "cause" and report["verdict"]["causes"][0]["axes"] == ["prompt"]
    (warning,) = [line for line in report["warnings"] if "refused for what was asked" in line]
    assert "30 trials" in warning and "prompt bad" in warning and "context too long" in warning
    assert {row["name"] for row in report["side_metrics"]} >= {"failed"}
