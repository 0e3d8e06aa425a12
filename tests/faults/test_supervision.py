"""Whatever a target or a scorer does, the run ends by its time and a grace time, with a row or one line, and all answers kept."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import BisectError, TargetFailure
from bisect_ai.provider import retry
from bisect_ai.replay import engine, executors
from bisect_ai.runs import trials
from bisect_ai.scoring import scorer
from bisect_ai.store.trial_store import Store
from bisect_ai.targets import bounded, http_target
from tests.faults.provider import Provider, Say

QUERIES = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(20)]
GRACE = 0.4
LEEWAY = 15
"""Seconds that a busy machine may take besides; what hangs does so for a minute."""
released = threading.Event()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "GRACE_SECONDS", GRACE)
    monkeypatch.setattr(trials, "GRACE_SECONDS", GRACE)
    monkeypatch.setattr(executors, "RESPONSE_SECONDS", 0.2)
    monkeypatch.setattr(executors, "CLOSING_SECONDS", 0.5)
    released.clear()
    yield
    released.set()


def run(target: Any, *, scorers: Any = None, minutes: float | None = 0.02, **more: Any) -> bisect_ai.Result:
    study: dict[str, Any] = {
        "good": {"prompt": "a", "model": "m"},
        "bad": {"prompt": "b", "model": "n"},
        "queries": QUERIES,
        "target": target,
        "scorers": scorers or [{"kind": "exact", "name": "correct"}],
        "metric": "correct",
        "budget": {"calls": 80, **({} if minutes is None else {"minutes": minutes})},
        "design": "full",
        "drill": False,
        "concurrency": 4,
    }
    return bisect_ai.run(**{**study, **more})


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


class Sly(str):
    def __str__(self) -> str:
        raise SystemExit(7)

    def encode(self, *_: Any) -> bytes:
        raise SystemExit(7)


class Evil(dict[str, Any]):
    def keys(self) -> Any:
        raise KeyboardInterrupt


def _endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def _returning(value: Any) -> Callable[[], Any]:
    return lambda: value


def _hang() -> str:
    released.wait(60)
    return "yes"


def _answered(**fields: Any) -> Callable[[], Any]:
    return lambda: {"text": "yes", **fields}


def _object(**fields: Any) -> Callable[[], Any]:
    return lambda: bisect_ai.Answer(**{"text": "yes", **fields})


QUEER: dict[str, Callable[[], Any]] = {
    "raises": _raising(ValueError("no")),
    "raises without a word": _raising(Mute()),
    "raises CancelledError": _raising(asyncio.CancelledError()),
    "raises SystemExit": _raising(SystemExit(3)),
    "raises KeyboardInterrupt": _raising(KeyboardInterrupt()),
    "raises GeneratorExit": _raising(GeneratorExit()),
    "raises StopIteration": _raising(StopIteration(3)),
    "raises MemoryError": _raising(MemoryError()),
    "raises RecursionError": _raising(RecursionError()),
    "raises TimeoutError": _raising(TimeoutError()),
    "raises a group": _raising(BaseExceptionGroup("two", [ValueError(), SystemExit()])),
    "hangs": _hang,
    "a text that exits": _returning(Sly("yes")),
    "a mapping that interrupts": _returning(Evil(text="yes")),
    "text None": _object(text=None),
    "text of bytes": _object(text=b"yes"),
    "text with a surrogate": _returning("\ud83d"),
    "NaN for a latency": _object(latency_s=float("nan")),
    "latency of before": _object(latency_s=-1.0),
    "steps that are no count": _object(steps="many"),
    "steps beyond all": _object(steps=10**30),
    "attempts below none": _object(attempts=-1),
    "attempts None": _object(attempts=None),
    "a fingerprint that is a list": _object(fingerprint=["a"]),
    "a model that is a mapping": _object(model_returned={"a": 1}),
    "faults that are a list": _object(faults=["a"]),
    "faults that are NaN": _object(faults={"a": float("nan")}),
    "calls that are no calls": _object(tool_calls=("find",)),
    "calls that are a number": _object(tool_calls=3),
    "documents that are objects": _object(documents=(object(),)),
    "documents with NaN": _object(documents=({"score": float("nan")},)),
    "documents without end": _object(documents=(_endless(),)),
    "arguments with NaN": _answered(tool_calls=[{"name": "f", "arguments": {"x": float("nan")}}]),
    "arguments that are a text": _answered(tool_calls=[{"name": "f", "arguments": "x"}]),
    "usage that is a list": _answered(usage=[1]),
    "usage that is NaN": _answered(usage={"usd": float("nan")}),
    "usage below nothing": _answered(usage={"usd": -1, "input_tokens": -5}),
    "usage beyond all": _answered(usage={"usd": 1e18, "input_tokens": 10**18}),
    "usage without an end": _answered(usage={"usd": float("inf")}),
    "usage in words": _answered(usage={"usd": "much", "input_tokens": "five"}),
    "usage with other keys": _answered(usage={"prompt_tokens": 3, "cost": 1}),
    "an outcome that is a number": _object(outcome=3),
    "an error that is an exception": _object(error=ValueError("x")),
}


def target_of(act: Callable[[], Any], *, is_async: bool) -> Callable[..., Any]:
    def sync(query: Any, release: Any) -> Any:
        return act() if query.id == "q3" else "yes"

    async def later(query: Any, release: Any) -> Any:
        await asyncio.sleep(0)
        return sync(query, release)

    return later if is_async else sync


def test_what_the_clock_cuts_off_is_no_failure_of_the_slow_release() -> None:
    async def slow(query: Any, release: Any) -> str:
        await asyncio.sleep(0.5 + 2.2 * (int(query.id[1:]) % 10) / 9 if release["model"] == "n" else 0.01)
        return "yes"

    queries = [{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(400)]
    more: dict[str, Any] = {
        "queries": queries,
        "design": "adaptive",
        "concurrency": 32,
        "budget": {"calls": 800, "minutes": 0.05},
    }
    result = run(slow, **more)
    assert result.usage.errors > 0, "none was cut off"
    assert result.observations["error"].isna().all() and len(result.observations) + result.usage.errors <= result.usage.calls
    assert result.to_dict()["loss"]["estimate"] == 0.0


def test_a_release_whose_answers_take_longer_than_the_run_is_not_said_to_fail(tmp_path: Path) -> None:
    """All of bad's answers are cut off; that is on record, and nothing is told of it but its cost."""

    def slow(query: Any, release: Any) -> str:
        return _hang() if release["model"] == "n" and release["prompt"] == "b" else "yes"

    result = run(slow, store=tmp_path / "store", concurrency=8)
    assert result.verdict.kind == "inconclusive" and result.observations["error"].isna().all()
    with Store(tmp_path / "store") as opened:
        spent = opened.spending(result.report["run"])
    assert spent.errors > 0 and spent.trials >= len(result.observations) + spent.errors


@pytest.mark.parametrize("name", QUEER)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_target_that_misbehaves_once_is_at_most_a_failed_trial(name: str, is_async: bool, tmp_path: Path) -> None:
    started = time.monotonic()
    result = run(target_of(QUEER[name], is_async=is_async), store=tmp_path / "store", timeouts={"target": 0.6})
    assert time.monotonic() - started < 0.02 * 60 + GRACE + LEEWAY
    seen = result.observations
    failed = set(seen[seen["outcome"] != "ok"]["query"])
    assert failed <= ({"q3"} if name != "hangs" or not is_async else set(seen["query"]))
    assert len(seen) >= 20 or name == "hangs"
    with Store(tmp_path / "store") as opened:
        assert opened.spending(result.report["run"]).trials == len(seen)


@pytest.mark.parametrize(
    "value", [None, 3, 2.5, b"yes", ["yes"], {"txt": "yes"}, object(), (i for i in "yes")], ids=lambda v: type(v).__name__
)
def test_what_is_no_answer_at_all_ends_the_run_in_one_line(value: Any) -> None:
    with pytest.raises(BisectError, match="the target returned") as told:
        run(target_of(_returning(value), is_async=False))
    assert told.value.exit_code == 2 and "\n" not in str(told.value)


async def _cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "yes"


async def _will_not_be_cancelled() -> str:
    while not released.is_set():
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
    return "yes"


async def _leaves_a_task_that_exits() -> str:
    async def leaves() -> None:
        raise SystemExit(3)

    task = asyncio.ensure_future(leaves())
    await asyncio.sleep(0.05)
    del task
    return "yes"


@pytest.mark.parametrize("act", [_cancels_itself, _will_not_be_cancelled])
def test_a_coroutine_that_plays_with_its_task_is_a_failed_trial(act: Any) -> None:
    async def target(query: Any, release: Any) -> Any:
        return await act() if query.id == "q3" else "yes"

    started = time.monotonic()
    seen = run(target, timeouts={"target": 0.6}).observations
    assert time.monotonic() - started < 0.02 * 60 + GRACE + LEEWAY
    assert set(seen[seen["outcome"] != "ok"]["query"]) == {"q3"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_answer_that_takes_too_long_is_given_up_and_the_others_go_on(is_async: bool) -> None:
    async def waits(query: Any, release: Any) -> str:
        if query.id == "q3":
            await asyncio.sleep(60)
        return "yes"

    def hangs(query: Any, release: Any) -> str:
        return _hang() if query.id == "q3" else "yes"

    seen = run(waits if is_async else hangs, minutes=None, timeouts={"target": 0.3}).observations
    failed = seen[seen["outcome"] != "ok"]
    assert set(failed["query"]) == {"q3"} and len(seen) >= 40
    assert all(re.search(r"no answer within 0.3 s \(timeouts.target\)", error) for error in failed["error"])
    assert is_async or all("bisect-ai-worker" in error for error in failed["error"])


def test_a_scorer_that_never_comes_back_is_left_behind_and_named() -> None:
    def scorer(query: Any, answer: Any) -> bool:
        if query.id == "q3":
            released.wait(60)
        return bool(answer.text == "yes")

    started = time.monotonic()
    result = run(target_of(lambda: "yes", is_async=False), scorers={"correct": scorer}, timeouts={"scorer": 0.2})
    assert time.monotonic() - started < 0.02 * 60 + GRACE + LEEWAY
    seen = result.observations
    assert set(seen[seen["correct"].isna()]["query"]) == {"q3"}
    assert any("no score within 0.2 s (timeouts.scorer); its thread bisect-ai-scorer" in w for w in result.report["warnings"])


QUEER_SCORERS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (_raising(KeyError("plan")), "KeyError: 'plan'"),
    "raises without a word": (_raising(Mute()), "Mute: its message cannot be read"),
    "exits": (_raising(SystemExit(3)), "SystemExit: 3"),
    "interrupts": (_raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "returns a mapping": (_returning({"score": 1}), "returned a dict"),
    "returns a text": (_returning("yes"), "returned a str"),
    "returns NaN": (_returning(float("nan")), "returned nan"),
    "is asynchronous": (lambda: _later(), "asynchronous"),
}


async def _later() -> bool:
    return True


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.005])
@pytest.mark.parametrize("name", QUEER_SCORERS)
def test_a_deciding_scorer_that_only_fails_stops_the_run_after_ten(name: str, seconds: float, is_async: bool) -> None:
    act, said = QUEER_SCORERS[name]
    asked: list[str] = []

    def target(query: Any, release: Any) -> str:
        asked.append(query.id)
        time.sleep(seconds)
        return "yes"

    async def later(query: Any, release: Any) -> str:
        return target(query, release)

    with pytest.raises(TargetFailure, match=r"the scorer correct failed 1[0-9] times in a row") as told:
        run(later if is_async else target, scorers={"correct": lambda query, answer: act()}, minutes=None)
    assert said in str(told.value) and "--keep-going" in str(told.value)
    assert len(asked) <= 20


def test_a_side_scorer_that_only_fails_is_told_and_stops_nothing() -> None:
    def side(query: Any, answer: Any) -> float:
        raise KeyError("tone")

    scorers = {"correct": lambda query, answer: answer.text == "yes", "tone": side}
    result = run(lambda query, release: "yes", scorers=scorers, minutes=None)
    assert result.usage.calls == 40 and result.verdict.kind == "no_regression"
    (told,) = [line for line in result.report["warnings"] if "tone" in line]
    assert told == (
        "scorer tone failed on 40 answers, first with: KeyError: 'tone'; of 40 trials; the verdict does not rest on it"
    )
    assert all(row["name"] != "tone" for row in result.report["side_metrics"])


def test_a_side_scorer_that_never_comes_back_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "MOST_IN_A_ROW", 3)
    asked: list[str] = []

    def side(query: Any, answer: Any) -> float:
        asked.append(query.id)
        if len(asked) != 2:
            released.wait(60)
        return 1.0

    scorers = {"correct": lambda query, answer: answer.text == "yes", "tone": side}
    result = run(lambda query, release: "yes", scorers=scorers, minutes=None, timeouts={"scorer": 0.2})
    assert len(asked) == 5  # the second came back: three in a row from then on
    assert result.usage.calls == 40 and result.verdict.kind == "no_regression"
    assert set(result.observations["correct"]) == {1.0}
    (told,) = [line for line in result.report["warnings"] if line.startswith("scorer tone")]
    assert "failed on 39 answers, first with: TimeoutError: no score within 0.2 s (timeouts.scorer)" in told


def test_who_insists_gets_all_of_it() -> None:
    result = run(lambda query, release: "yes", scorers={"correct": lambda q, a: {"x": 1}}, minutes=None, keep_going=True)
    assert result.usage.calls == 80 and result.verdict.kind == "inconclusive"


def test_a_schema_with_a_catastrophic_pattern_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.5)
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert bounded.fits(schema, "aaa") and not bounded.fits(schema, "ab")
    with pytest.raises(TimeoutError, match=r"the schema took more than 0.5 s; simplify its patterns"):
        bounded.fits(schema, "a" * 40 + "!")
    assert bounded.fits(schema, "aaa")

    def target(query: Any, release: Any) -> str:
        return json.dumps("a" * 40 + "!" if query.id == "q3" else "aaa")

    seen = run(target, scorers=[{"kind": "json_schema", "name": "correct", "schema": schema}], minutes=None).observations
    assert set(seen[seen["correct"].isna()]["query"]) == {"q3"} and set(seen["correct"].dropna()) == {1.0}


# -- what is not there ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("kind", ["refused", "503"])
def test_a_service_that_never_answers_is_named_within_seconds(
    kind: str, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.05)
    started = time.monotonic()
    with Provider([Say(503, body={"error": "the cluster is being moved"})]) as provider:
        url = "http://127.0.0.1:9/answer" if kind == "refused" else f"{provider.host}/answer"
        with pytest.raises(TargetFailure) as told:
            run({"kind": "http", "url": url}, minutes=None, concurrency=concurrency)
        requests = len(provider.requests)
    line = str(told.value)
    assert url.rpartition("/")[0] in line
    if kind == "refused":  # seen before the first call
        assert "connection refused" in line and requests == 0
    else:
        assert re.search(r"from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d UTC", line)
        assert "status 503" in line and "the cluster is being moved" in line
        assert f"{requests} calls" in line and requests <= 8 + concurrency
    assert time.monotonic() - started < LEEWAY


def test_a_service_that_takes_the_connection_and_says_nothing_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one behind a firewall that drops what comes; here TLS is never answered. No request has left."""
    monkeypatch.setattr(http_target, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.05)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}/answer"
        with pytest.raises(TargetFailure, match=r"no connection to 127.0.0.1:\d+ within 0.3 s.*, 0 calls;") as told:
            run({"kind": "http", "url": url, "timeout": 60}, minutes=None)
    assert url.rpartition("/")[0] in str(told.value) and time.monotonic() - started < 2 * LEEWAY


def test_a_judge_that_is_not_there_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.05)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    judge = {"kind": "judge", "name": "correct", "model": {"model": "openai/gpt-4o", "api_base": "http://127.0.0.1:9/v1"}}
    started = time.monotonic()
    named = r"the scorer correct cannot be asked: .*http://127.0.0.1:9/v1.*[Cc]onnect.*; the target was not asked"
    with pytest.raises(TargetFailure, match=named):
        run(lambda query, release: "yes", scorers=[judge], minutes=None)
    assert time.monotonic() - started < 3 * LEEWAY


def test_a_judge_that_hangs_ends_with_the_time_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from bisect_ai.scoring import scorer_charges

    monkeypatch.setattr(scorer_charges, "GRACE_SECONDS", GRACE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    started = time.monotonic()
    with Provider([Say(mode="hang")]) as provider:
        judge = {"kind": "judge", "name": "correct", "model": provider.model("openai")}
        result = run(lambda query, release: "yes", scorers=[judge])
    assert time.monotonic() - started < 3 * LEEWAY
    assert result.verdict.kind == "inconclusive" and "time cap" in result.verdict.sentence


def test_a_run_that_is_shorter_than_one_answer_says_so_and_accuses_nobody() -> None:
    result = run(lambda query, release: _hang(), minutes=0.01, concurrency=24)
    assert result.verdict.kind == "inconclusive"
    assert result.verdict.sentence.startswith("inconclusive: stopped at the time cap of 0.01 minutes")
    todo = " ".join(str(result).split())
    assert (
        "too few answers came in before the time was up: allow more minutes" in todo
        and "calls" not in todo.split("Do now")[1].split("Cost")[0]
    )
