"""The engine: parallel, one fsync a group, failures as rows."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from bisect_ai.canonical import canonical
from bisect_ai.errors import BisectError, Infeasible, InputError, TargetFailure
from bisect_ai.provider.budget import Account, CapReached
from bisect_ai.provider.usage import Usage
from bisect_ai.queries.query import Query
from bisect_ai.replay.engine import Engine
from bisect_ai.replay.executors import local_hands
from bisect_ai.replay.trial_jobs import Done, Job
from bisect_ai.targets.answer import Answer, ToolCall
from bisect_ai.targets.target import PythonTarget


def jobs(n: int) -> list[Job]:
    return [Job(i, Query({"id": str(i), "input": "?"}), {"prompt": "p"}, 0) for i in range(n)]


def run(function: Callable[..., Any], n: int = 30, *, concurrency: int = 8) -> tuple[list[Done], list[list[Done]]]:
    groups: list[list[Done]] = []
    target = PythonTarget(function, identity={})
    with Engine(local_hands(target, concurrency), concurrency=concurrency, commit=groups.append) as engine:
        return engine.run(jobs(n)), groups


def sync_echo(query: Query, release: Mapping[str, Any]) -> str:
    return f"{query.id} {release['prompt']}"


async def async_echo(query: Query, release: Mapping[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"text": f"{query.id} {release['prompt']}"}


@pytest.mark.parametrize("function", [sync_echo, async_echo])
def test_answers_come_back_in_order_and_are_all_committed(function: Callable[..., Any]) -> None:
    done, groups = run(function)
    assert [d.answer.text for d in done] == [f"{i} p" for i in range(30)]
    assert sorted(d.job.place for g in groups for d in g) == list(range(30))
    assert all(d.answer.latency_s is not None for d in done)


def test_a_commit_comes_before_the_round_ends() -> None:
    done, groups = run(sync_echo, 5)
    assert len(done) == sum(len(g) for g in groups)


@pytest.mark.parametrize("is_async", [False, True])
def test_concurrency_is_used_and_bounded(is_async: bool) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def enter(step: int) -> None:
        nonlocal now, most
        with lock:
            now += step
            most = max(most, now)

    def blocking(query: Query, release: Mapping[str, Any]) -> str:
        enter(1)
        time.sleep(0.02)
        enter(-1)
        return ""

    async def waiting(query: Query, release: Mapping[str, Any]) -> str:
        enter(1)
        await asyncio.sleep(0.02)
        enter(-1)
        return ""

    run(waiting if is_async else blocking, 24, concurrency=6)
    assert 3 <= most <= 6


def test_calls_that_were_quick_and_no_longer_are_get_all_workers() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def turning(query: Query, release: Mapping[str, Any]) -> str:
        nonlocal now, most
        if int(query.id) >= 40:
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.1)
            with lock:
                now -= 1
        return ""

    hands = local_hands(PythonTarget(turning, identity={}), 6)
    with Engine(hands, concurrency=6, commit=lambda group: None) as engine:
        engine.run(jobs(40))
        assert hands.gathers
        engine.run(jobs(64)[40:])
        assert not hands.gathers
    assert most >= 4


def test_a_wait_is_used_once_and_a_quick_answer_leaves_none() -> None:
    used: list[float] = []

    def waited(function: Callable[..., Any]) -> None:
        hands = local_hands(PythonTarget(function, identity={}), 2)
        with Engine(hands, concurrency=2, commit=lambda group: None, meanwhile=lambda: used.append(time.monotonic())) as engine:
            engine.run(jobs(4))

    waited(lambda query, release: "")
    assert not used
    waited(lambda query, release: time.sleep(0.4) or "")
    assert len(used) == 1


def test_a_failed_trial_is_a_row() -> None:
    def flaky(query: Query, release: Mapping[str, Any]) -> str:
        if int(query.id) % 3 == 0:
            raise TimeoutError("no answer\nsecond line")
        return "fine"

    done, _ = run(flaky)
    assert [bool(d.answer.error) for d in done] == [i % 3 == 0 for i in range(30)]
    assert done[0].answer.error == "TimeoutError: no answer second line"  # one line, whatever it was


def test_a_callable_that_exits_is_a_row_too() -> None:
    def leaves(query: Query, release: Mapping[str, Any]) -> str:
        if query.id == "3":
            raise SystemExit(1)
        return "fine"

    done, _ = run(leaves, 10)
    assert [d.answer.error is not None for d in done] == [i == 3 for i in range(10)]


def test_infeasible_is_neither_error_nor_answer() -> None:
    def cannot(query: Query, release: Mapping[str, Any]) -> str:
        raise Infeasible("old tools, new prompt")

    done, _ = run(cannot, 3)
    assert {d.infeasible for d in done} == {"old tools, new prompt"}
    assert {d.answer.error for d in done} == {None}


def test_a_target_that_only_fails_is_stopped_and_all_is_kept() -> None:
    def broken(query: Query, release: Mapping[str, Any]) -> str:
        raise ConnectionError("refused")

    groups: list[list[Done]] = []
    target = PythonTarget(broken, identity={})
    with (
        Engine(local_hands(target, 4), concurrency=4, commit=groups.append) as engine,
        pytest.raises(TargetFailure, match=r"refused.*same command again"),
    ):
        engine.run(jobs(500))
    assert 20 <= sum(len(g) for g in groups) <= 200


def test_a_wrong_return_value_is_the_users_to_mend() -> None:
    with pytest.raises(InputError, match="returned a int"):
        run(lambda query, release: 3, 4)
    with pytest.raises(InputError, match="unknown fields"):
        run(lambda query, release: {"txt": "a"}, 4)


def test_it_works_inside_a_running_loop() -> None:
    async def notebook() -> list[Done]:
        return run(async_echo, 10)[0]

    assert len(asyncio.run(notebook())) == 10


def test_an_answers_own_latency_is_kept() -> None:
    done, _ = run(lambda query, release: Answer(text="a", latency_s=7.5), 2)
    assert {d.answer.latency_s for d in done} == {7.5}


def test_a_target_that_is_refused_for_good_stops_the_run_after_one_call() -> None:
    calls: list[str] = []

    def refused(query: Query, release: Mapping[str, Any]) -> str:
        calls.append(query.id)
        raise TargetFailure("the key was refused")

    with pytest.raises(TargetFailure, match="key was refused"):
        run(refused, concurrency=1)
    assert calls == ["0"]


def test_an_answer_that_is_a_text_is_like_any_other() -> None:
    answer = Answer.of_text("yes", 0.5)
    assert answer == Answer(text="yes", latency_s=0.5)
    assert vars(answer).keys() == vars(Answer()).keys()
    assert answer.faults is not Answer.of_text("yes", 0.5).faults
    assert answer.is_text
    assert not any(replace(answer, **{f.name: object()}).is_text for f in fields(Answer))  # type: ignore[arg-type]  # anything else


def test_what_is_kept_of_an_answer_is_all_of_it() -> None:
    usage = Usage(3, 4, 0.5, estimated=True, unsettled_tokens=5, unsettled_usd=0.25)
    full = Answer(
        text="a",
        tool_calls=(ToolCall("find", {"id": 1}, result="r"),),
        documents=({"id": "d"},),
        steps=2,
        usage=usage,
        latency_s=1.5,
        model_returned="m",
        fingerprint="f",
        outcome="failed",
        error="e",
        attempts=3,
        reason="r",
        waited_s=0.5,
        faults={"503": 2},
        endpoint="https://provider.example:443",
        scores={"ok": 0.5, "none": None},
    )
    default = Answer()
    assert all(getattr(full, f.name) != getattr(default, f.name) for f in fields(Answer)), "a new field belongs here too"
    for answer in (full, default, replace(full, attempts=0), replace(full, latency_s=None, usage=Usage(usd=0.0))):
        assert Answer.from_dict(json.loads(canonical(answer.to_dict()))) == answer


@pytest.mark.parametrize(("hurried", "kept"), [(False, 2), (True, 0)])
def test_what_is_under_way_at_a_cap_is_waited_for_unless_somebody_is_in_a_hurry(hurried: bool, kept: int) -> None:
    """Both calls take ten times the grace time, which is for those who stop a run, not for caps: the calls are paid for."""
    allowed, groups = threading.Semaphore(2), list[list[Done]]()

    def begin(job: Job) -> bool:
        if not allowed.acquire(blocking=False):
            raise CapReached("two calls are the cap", cap="calls", account=Account())
        return True

    def slow(query: Query, release: Mapping[str, Any]) -> str:
        time.sleep(1.0)
        return "late"

    target = PythonTarget(slow, identity={})
    with Engine(local_hands(target, 4), concurrency=4, commit=groups.append, begin=begin, grace=0.1) as engine:
        handed = engine.submit(jobs(5))
        if hurried:
            engine.stop()
        assert len(engine.wait(handed)) == sum(len(group) for group in groups) == kept


@pytest.mark.parametrize(("patient", "kept"), [(True, 2), (False, 1)])
def test_who_can_stop_again_waits_as_long_as_answers_have_taken(patient: bool, kept: int) -> None:
    """Seven times the grace time, which is for those who give a process seconds to end."""
    groups, begun = list[list[Done]](), threading.Semaphore(0)

    def slow(query: Query, release: Mapping[str, Any]) -> str:
        begun.release()
        time.sleep(0.7)
        return "paid for"

    with Engine(local_hands(PythonTarget(slow, identity={}), 1), concurrency=1, commit=groups.append, grace=0.1) as engine:
        handed = engine.submit(jobs(3))
        begun.acquire()
        engine._hear()
        begun.acquire()  # the second one
        engine._hear()  # the first came in
        seconds = engine.stop(patient)
        assert (0.7 <= seconds < 5) == patient and (seconds == 0.1) != patient
        assert len(engine.wait(handed)) == sum(len(group) for group in groups) == kept


def test_what_stopped_a_run_is_told_by_the_last_answer_that_was_not_held_back() -> None:
    def failing(query: Query, release: Mapping[str, Any]) -> Answer:
        return Answer(
            error="ConnectionError: refused" if int(query.id) < 4 else "HeldBack: the provider failed 4 times in a row"
        )

    with pytest.raises(TargetFailure, match="last with: ConnectionError: refused"):
        run(failing, 200, concurrency=1)


@pytest.mark.parametrize("function", [sync_echo, async_echo], ids=["threads", "loop"])
@pytest.mark.parametrize("step", ["begin", "undo"])
def test_what_fails_around_a_call_ends_the_run_and_no_worker(function: Callable[..., Any], step: str) -> None:
    groups: list[list[Done]] = []

    def fails(job: Job) -> bool:
        if job.place > 9:
            raise RuntimeError("a fault\nof ours")
        return True

    def capped(query: Query, release: Mapping[str, Any]) -> str:
        if int(query.id) > 9:
            raise CapReached("stopped at a cap", cap="usd", account=Account())
        return "yes"

    async def capped_later(query: Query, release: Mapping[str, Any]) -> str:
        return capped(query, release)

    asked = function if step == "begin" else capped if function is sync_echo else capped_later
    around: dict[str, Any] = {"begin": fails} if step == "begin" else {"undo": fails}
    what = "begin a call" if step == "begin" else "take back a call that was not made"
    with (
        Engine(
            local_hands(PythonTarget(asked, identity={}), 4), concurrency=4, commit=groups.append, grace=2, **around
        ) as engine,
        pytest.raises(
            BisectError, match=rf"^cannot {what}: RuntimeError: a fault of ours; everything answered so far is kept$"
        ),
    ):
        engine.run(jobs(30))
    assert sorted(d.job.place for g in groups for d in g) == list(range(10))
