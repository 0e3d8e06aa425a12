"""A clock that jumps a day back and forth under a run: waits, deadlines and durations go by the monotonic one."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

import bisect_ai
from bisect_ai.provider import retry
from tests.faults.provider import Provider, Request, Say

DAY = 86_400.0


def test_a_run_whose_clock_jumps_ends_as_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked, real = itertools.count(), time.time
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def say(request: Request) -> Say:
        held = Say(429, headers={"retry-after": "0.05"}) if request.number in (3, 60) else None
        wrong = "Be terse." in str(request.body["messages"])
        return held or Say(text="No." if wrong else "Hello.")

    with Provider(say) as provider, monkeypatch.context() as jumping:
        jumping.setattr(time, "time", lambda: real() + (DAY, 0.0, -DAY)[next(asked) % 3])
        model = provider.model("openai", max_tokens=50)
        result = bisect_ai.run(
            good={"prompt": "Be kind.", "model": model},
            bad={"prompt": "Be terse.", "model": {**model, "seed": 2}},
            queries=[{"id": f"q{i}", "input": f"hello {i}", "reference": "Hello."} for i in range(30)],
            target={"kind": "litellm", "timeout": 60, "deadline": 240},
            scorers=[{"kind": "exact", "name": "correct"}],
            metric="correct",
            store=str(tmp_path / "store"),
            budget={"calls": 200, "minutes": 5},
        )
    assert next(asked) > 10
    assert result.verdict.kind == "cause" and [c.axes for c in result.verdict.causes] == [("prompt",)]
    usage = result.to_dict()["usage"]
    assert usage["errors"] == 0 and 0 < usage["seconds"] < 3600
    assert all(0 <= seconds < 3600 for seconds in result.observations["seconds"])
