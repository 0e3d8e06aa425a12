"""What the provider did is in the report: requests, failed attempts by kind, waits, fates by cell, refused configurations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.facts.run_warnings import served_warnings, unencrypted_warnings
from bisect_ai.provider import retry
from bisect_ai.provider.transport import endpoint_of
from bisect_ai.report import markdown, terminal
from bisect_ai.runs.observations import Fate
from tests.faults.provider import Provider, Request, Say


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)


def _run(provider: Provider, store: Path | None = None, model: dict[str, Any] | None = None, **budget: Any) -> dict[str, Any]:
    model = model or provider.model("openai", max_tokens=50)
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


def _warned(report: dict[str, Any], about: str) -> list[str]:
    return [line for line in report["warnings"] if about in line]


def test_where_the_answers_came_from_is_told() -> None:
    with Provider([Say()]) as provider:
        report = _run(provider)
        assert report["usage"]["provider"]["endpoints"] == {provider.host: len(provider.requests)}
        assert f"answered by {provider.host}" in " ".join(terminal.render(report).split())
    assert not _warned(report, "endpoint") and not _warned(report, "unencrypted")


def test_another_endpoint_in_a_later_sitting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"model": "openai/gpt-4o", "max_tokens": 50}  # whose address is the environment's
    for number in range(2):
        with Provider([Say()]) as provider:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
            report = _run(provider, tmp_path / "store", model, tokens=1_000 if number == 0 else 1_000_000)
            assert provider.requests
    (warning,) = _warned(report, "endpoint")
    assert warning.startswith("the endpoint changed while the model ran: http://127.0.0.1:") and provider.host in warning


@pytest.mark.parametrize("what", ["model", "fingerprint"])
def test_a_provider_that_changes_under_way_is_told_and_no_axis_is_blamed(what: str) -> None:
    def say(request: Request) -> Say:
        name, key = ("late" if request.number >= 15 else "early"), {"model": "model", "fingerprint": "system_fingerprint"}[what]
        return Say(change=lambda answer: answer.update({key: name}))

    with Provider(say) as provider:
        report = _run(provider)
    (warning,) = _warned(report, f"the provider's {what} changed while the model ran")
    assert "early (15)" in warning and "late" in warning
    assert report["verdict"]["kind"] != "cause"


def test_models_that_are_meant_to_differ_are_no_change() -> None:
    seen = Counter([said("gpt-a"), said("gpt-b", ("model",)), said("gpt-b", ("model", "prompt"))])
    assert served_warnings(seen, {"model": "openai/a"}, {"model": "openai/b"}) == []
    (line,) = served_warnings(seen, {"model": "openai/a"}, {"model": "openai/a", "seed": 1})
    assert "gpt-a (1), gpt-b (2)" in line


@pytest.mark.parametrize("there", ["http://10.0.0.7:8000", "http://models.example through the proxy p:3128"])
def test_unencrypted_addresses_elsewhere_are_told(there: str) -> None:
    (line,) = unencrypted_warnings(Counter(said("m", (), to) for to in (there, "http://localhost:4000", "https://x.example")))
    assert there in line


def test_an_endpoint_is_named_without_credentials_and_with_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_of.cache_clear()
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    told = (
        endpoint_of("https", "me:secret@api.example:8443", "api.example"),
        endpoint_of("https", "inside.example", "inside.example"),
    )
    endpoint_of.cache_clear()
    assert told == ("https://api.example:8443 through the proxy proxy.example:3128", "https://inside.example")


def said(model: str, bad: tuple[str, ...] = (), endpoint: str | None = None) -> tuple[tuple[str, ...], Fate]:
    """What a trial tells of who answered."""
    return bad, Fate("ok", model, None, endpoint)
