"""The user's program on the wire when things go wrong: on its side, on the provider's, and when the run is killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.config import Budget
from bisect_ai.errors import BisectError, ConfigError, Infeasible, TargetFailure
from bisect_ai.provider import retry
from bisect_ai.provider.budget import NOTHING, ONE_CALL, Account, CapReached
from bisect_ai.queries.query import Query
from bisect_ai.runs.prepare import build_target
from bisect_ai.runs.run_accounts import ExchangeJournal
from bisect_ai.store.purge import purge_query
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.wire.wire_target import FIRST, command_for
from tests.faults.provider import Provider, Request, Say
from tests.faults.test_command_target import left_over
from tests.wire_shop import BAD, GOOD, QUERIES, shop

AGENT = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"
KEY = "sk-canary-0123456789abcdef"
ASKED = Query(QUERIES[4])
SCORERS = [{"kind": "contains", "name": "correct", "expected": "reference"}]


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider(shop) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{running.host}/v1")
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Any]:
    made: list[Any] = []

    def make(*words: str, good: Any = GOOD, bad: Any = BAD, budget: Any = None, **settings: Any) -> Any:
        spec = {"kind": "wire", "run": [sys.executable, str(AGENT), *words], **settings}
        made.append(build_target(spec, folder=tmp_path, good=good, bad=bad, budget=budget)[0])
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- the program -----------------------------------------------------------------------------------------------------
def test_the_question_stands_where_the_command_says(target: Any, provider: Provider) -> None:
    assert target("stdin", stdin=True)(ASKED, GOOD, 0).text == "You have 5 orders."
    hostile = "$(touch x); `id` --flag {input} \"'"
    assert command_for({"run": "python a.py {input} -v"}, hostile) == ["python", "a.py", hostile, "-v"]
    assert command_for({"run": "python a.py"}, hostile)[-1] == hostile
    shell = command_for({"run": "cat {input} | wc", "shell": True}, hostile)
    assert shell == ["/bin/sh", "-c", 'cat "$1" | wc', "sh", hostile]
    with pytest.raises(ConfigError, match="set stdin: true"):
        command_for({"run": "python a.py"}, "x" * 200_000)


def test_an_answer_in_json_says_what_it_cost(target: Any, provider: Provider) -> None:
    answer = target("json")(ASKED, GOOD, 0)
    assert (answer.text, answer.usage.usd, answer.usage.tokens) == ("You have 5 orders.", 0.5, 3)


def test_a_program_that_cannot_start_is_an_infeasible_mixture_with_its_last_words(target: Any, provider: Provider) -> None:
    crashing = target("crash")
    with pytest.raises(Infeasible, match="ended before its first answer: exit code 1: no configuration found"):
        crashing(ASKED, {**GOOD, "prompt": BAD["prompt"]}, 0)
    with pytest.raises(TargetFailure, match="the program of the good release does not run"):
        crashing(ASKED, GOOD, 0)


def test_a_hang_is_a_timeout_and_leaves_no_process(target: Any, provider: Provider) -> None:
    hanging = target("hang", deadline=1)
    answer = hanging(ASKED, GOOD, 0)
    assert answer.outcome == "timeout" and "no answer within 1 s" in answer.error
    assert left_over() == []


def test_a_program_that_does_not_ask_through_us_is_told_after_a_few_trials(target: Any, provider: Provider) -> None:
    silent = target("silent")
    for number in range(FIRST - 1):
        assert silent(ASKED, GOOD, number).text == "forty-two"
    with pytest.raises(TargetFailure, match="sent nothing through the base URL"):
        silent(ASKED, GOOD, FIRST)
    assert provider.requests == []


def test_a_served_program_answers_each_trial_with_its_own_cell(tmp_path: Path, provider: Provider) -> None:
    spec = {"kind": "wire", "serve": f"{sys.executable} {AGENT.with_name('served_agent.py')}", "concurrency": 2}
    served: Any = build_target(spec, folder=tmp_path, good=GOOD, bad=BAD)[0]
    try:
        assert served(ASKED, GOOD, 0).text == "You have 5 orders."
        assert served(ASKED, BAD, 0).text == "Sorry, I cannot look that up."
        assert served(ASKED, {**BAD, "tools": GOOD["tools"]}, 0).text == "You have 5 orders."
        assert len(left_over()) == 1
    finally:
        served.close()
    assert left_over() == []


# -- what cannot be composed -------------------------------------------------------------------------------------------
def test_a_text_that_does_not_stand_word_for_word_cannot_be_composed(target: Any, provider: Provider) -> None:
    reworded = target("reworded")
    assert reworded(ASKED, BAD, 0).error is None  # the program is the bad release as deployed
    with pytest.raises(Infeasible, match=r"prompt\.system: the text of neither release stands word for word"):
        reworded(ASKED, {**BAD, "prompt": GOOD["prompt"]}, 0)
    with pytest.raises(TargetFailure, match="the good release cannot be composed on the wire"):
        reworded(ASKED, GOOD, 0)


def test_a_model_that_neither_release_has_cannot_be_composed(target: Any, provider: Provider) -> None:
    good, bad = ({**side, "model": {"model": f"openai/gpt-{n}"}} for side, n in ((GOOD, 4), (BAD, 5)))
    with pytest.raises(TargetFailure, match="asks for the model 'gpt-new', which neither release has"):
        target(good=good, bad=bad)(ASKED, good, 0)


def test_what_no_request_holds_is_refused_before_any_call(target: Any) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.retriever\.k differs between the releases, and no request"):
        target(good={"corpus": {"retriever": {"k": 3}}}, bad={"corpus": {"retriever": {"k": 4}}})
    with pytest.raises(ConfigError, match="'watch' is no setting of wire"):
        target(watch=True)


def test_a_tool_that_only_good_has_cannot_be_composed(target: Any, provider: Provider) -> None:
    other = {
        "name": "refund",
        "description": "Pays an order back.",
        "parameters": {"type": "object", "properties": {"order": {}}},
    }
    good = {**BAD, "tools": [*BAD["tools"], other]}
    with pytest.raises(TargetFailure, match="offers no tool refund, and has no code for it"):
        target(good=good)(ASKED, good, 0)


# -- the provider ------------------------------------------------------------------------------------------------------
def scripted(*first: Say) -> Any:
    def say(request: Request) -> Say:
        return first[request.number] if request.number < len(first) else shop(request)

    return say


@pytest.mark.parametrize("first", [Say(status=500), Say(status=429, headers={"retry-after": "0.1"}), Say(mode="half")])
def test_what_may_pass_is_asked_again(target: Any, monkeypatch: pytest.MonkeyPatch, first: Say) -> None:
    with Provider(scripted(first)) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        answer = target()(ASKED, GOOD, 0)
        assert (answer.text, answer.error, answer.attempts) == ("You have 5 orders.", None, 3)


def test_a_provider_that_gives_no_answer_is_no_score(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider([Say(status=503)]) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        answer = target(attempts=2)(ASKED, GOOD, 0)
        assert answer.error is not None and "503" in answer.error and len(provider.requests) == 2


def test_a_refused_request_is_the_programs_business(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider([Say(status=400)]) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        answer = target()(ASKED, GOOD, 0)
        assert (answer.outcome, answer.error, len(provider.requests)) == ("failed", None, 1)


def test_a_refused_key_ends_the_run(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider([Say(status=401)]) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        with pytest.raises(TargetFailure, match="refused the credentials"):
            target()(ASKED, GOOD, 0)
        assert len(provider.requests) == 1


def test_nobody_at_the_address_is_told_within_seconds(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    started = time.monotonic()
    with pytest.raises(TargetFailure, match=r"connection refused at http://127\.0\.0\.1:9"):
        target()(ASKED, GOOD, 0)
    assert time.monotonic() - started < 30


def test_an_address_in_the_programs_own_environment_is_where_its_requests_go(
    target: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert target(env={"OPENAI_BASE_URL": f"{provider.host}/v1"})(ASKED, GOOD, 0).text == "You have 5 orders."


@pytest.mark.parametrize("agent", [["plain_agent.py"], ["openai_agent.py", "--stream"]])
def test_an_answer_that_does_not_say_what_it_cost_costs_the_most_that_it_can(
    target: Any, monkeypatch: pytest.MonkeyPatch, agent: list[str]
) -> None:
    def silent(request: Request) -> Say:
        said = shop(request)
        body = said.body
        if isinstance(body, bytes):
            return dataclasses.replace(said, body=body.replace(b'"usage"', b'"used"'))
        return dataclasses.replace(said, body={key: value for key, value in dict(body).items() if key != "usage"})

    with Provider(silent) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        run = [sys.executable, str(AGENT.with_name(agent[0])), *agent[1:]]
        asked = target(run=run, prices={"gpt-old": {"input": 4.0, "output": 8.0, "max_output": 100}})
        usage = asked(ASKED, GOOD, 0).usage
    assert usage.estimated and usage.input_tokens > 200 and usage.output_tokens > 5
    assert usage.usd == pytest.approx((usage.input_tokens * 4 + usage.output_tokens * 8) / 1e6)


# -- what is kept ------------------------------------------------------------------------------------------------------
def keeping(target: Any, store: Store, run: str = "r1") -> Any:
    store.begin(run, {})
    target.keep_exchanges(ExchangeJournal(store, run, Account()))
    return target


def test_a_request_is_paid_for_once(target: Any, provider: Provider, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        first = keeping(target(), store)(ASKED, GOOD, 0)
        assert len(provider.requests) == 2
    with Store(tmp_path / "store") as store:
        again = keeping(target(), store)
        answer = again(ASKED, GOOD, 0)
        assert (answer.text, answer.attempts, len(provider.requests)) == (first.text, 0, 2)
        again(ASKED, GOOD, 1)  # a repeat is asked anew
        assert len(provider.requests) == 4
    whole = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert KEY.encode() not in whole and b"You have 5 orders." in whole
    done = purge_query(tmp_path / "store", ASKED.id)
    assert done.exchanges == 4 and done.left == []
    assert not any(b"5 orders" in path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())


def test_the_cap_on_requests_ends_the_run_and_holds_over_sittings(provider: Provider, tmp_path: Path) -> None:
    spec = {"kind": "wire", "run": [sys.executable, str(AGENT)], "concurrency": 2}
    asked: dict[str, Any] = {"target": spec, "queries": QUERIES[:20], "scorers": SCORERS, "store": tmp_path / "store"}
    budget = {"requests": 7, "calls": 40}
    result = bisect_ai.run(good=GOOD, bad=BAD, budget=budget, **asked)
    assert len(provider.requests) == 7 and result.verdict.kind == "inconclusive"
    assert any("stopped at the request cap: 7 of 7 requests left" in warning for warning in result.to_dict()["warnings"])
    bisect_ai.run(good=GOOD, bad=BAD, budget=budget, **asked)
    assert len(provider.requests) == 7


def test_requests_that_failed_count_against_the_cap_in_later_sittings(provider: Provider, tmp_path: Path) -> None:
    """Only their answers are not kept. What found no connection is no request."""
    provider._script = lambda request: Say(500, body={"error": {"message": f"no {request.number}"}})
    spec = {"kind": "wire", "run": [sys.executable, str(AGENT)], "concurrency": 2, "attempts": 2}
    asked: dict[str, Any] = {"target": spec, "queries": QUERIES[:20], "scorers": SCORERS, "store": tmp_path / "store"}
    for _ in range(3):
        with contextlib.suppress(BisectError):
            bisect_ai.run(good=GOOD, bad=BAD, budget={"requests": 9, "calls": 40}, **asked)
        assert len(provider.requests) <= 9
    assert len(provider.requests) == 9


UPLOAD = """
import os, sys, urllib.request
base = os.environ["OPENAI_BASE_URL"]
for method in ("GET", "POST", "POST"):
    body = b"[1]" if method == "POST" else None
    urllib.request.urlopen(urllib.request.Request(base + "/files", body, method=method), timeout=30)
print("sent")
"""


def test_what_is_no_question_to_a_model_counts_too_unless_it_only_looks(
    target: Any, provider: Provider, tmp_path: Path
) -> None:
    provider._script = lambda request: Say(body={})
    spec = {"kind": "wire", "run": [sys.executable, "-c", UPLOAD]}
    with Store(tmp_path / "store") as store:
        built = build_target(spec, folder=tmp_path, good=GOOD, bad=BAD, budget=Budget(requests=3))[0]
        account = Account()
        built.keep_exchanges(ExchangeJournal(store, "r1", account))
        with contextlib.closing(built), contextlib.suppress(BisectError):
            for _ in range(2):
                built(ASKED, GOOD, 0)
        assert [request.path for request in provider.requests].count("/v1/files") == 5  # three of them may cost something
        assert store.spending("r1").requests == 3
        assert account.stopped == "stopped at the request cap: 3 of 3 requests left (budget.requests)"


def test_two_processes_share_the_cap_on_requests(tmp_path: Path) -> None:
    with Store(tmp_path) as mine, Store(tmp_path) as theirs:
        accounts = [ExchangeJournal(store, "run", Account()).account(7) for store in (mine, theirs)]
        for n in range(6):
            account = accounts[n % 2]
            held = account.reserve_noted(ONE_CALL)
            assert held is not None
            if n != 5:  # that one is under way all the time, and the first did not leave
                account.settle(held, ONE_CALL if n else NOTHING)
        for _ in range(2):
            held = accounts[0].reserve_noted(ONE_CALL)
            assert held is not None
            accounts[0].settle(held, ONE_CALL)
        with pytest.raises(CapReached, match="stopped at the request cap: 7 of 7 requests left"):
            accounts[0].reserve_noted(ONE_CALL)
    with Store(tmp_path) as later:
        assert later.spending("run").requests == 7


def test_a_killed_run_pays_for_no_request_twice_and_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(request: Request) -> Say:
        return dataclasses.replace(shop(request), delay=0.2)

    for side, axes in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{side}.json").write_text(json.dumps({"release": side, "axes": axes}))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES[:12]))
    settings = {"good": "good.json", "bad": "bad.json", "log": "log.jsonl", "scorers": SCORERS, "budget": {"calls": 30}}
    (tmp_path / "bisect.yaml").write_text(json.dumps({**settings, "drill": False}))
    command = [sys.executable, "-m", "bisect_ai", "run", "--concurrency", "3", "--", sys.executable, str(AGENT)]
    with Provider(slow) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while len(provider.requests) < 7 and time.monotonic() < until:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        time.sleep(1)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 3), done.stderr
        bodies = [json.dumps(request.body, sort_keys=True) for request in provider.requests]
    twice = len(bodies) - len(set(bodies))
    assert twice <= 3  # what was under way when it was killed
    assert left_over() == []


@pytest.mark.parametrize("how", ["run", "serve"])
def test_a_run_whose_time_is_up_leaves_no_program_that_hangs(how: str, tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text("import time\ntime.sleep(999)\n")
    target = {"kind": "wire", how: f"{sys.executable} hang.py"}
    log = [{"id": f"q{n}", "input": "hello", "reference": "x"} for n in range(20)]
    settings = {"good": GOOD, "bad": BAD, "log": "log.jsonl", "scorers": SCORERS, "target": target, "budget": {"minutes": 0.05}}
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(query) + "\n" for query in log))
    (tmp_path / "bisect.yaml").write_text(json.dumps({**settings, "drill": False}))
    command = [sys.executable, "-m", "bisect_ai", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3 and "the time cap of 0.05 minutes" in done.stdout, done.stderr
    assert left_over() == []


FAULTS = {
    "html": Say(body=b"<html>"),
    "503": Say(503),
    "500": Say(500),
    "400": Say(400),
    "429": Say(429, headers={"retry-after": "0"}),
    "reset": Say(mode="reset"),
    "half": Say(mode="half"),
}


@pytest.mark.parametrize("seed", range(3))
def test_a_provider_that_fails_at_random_never_gets_more_requests_than_the_cap(
    seed: int, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over sittings; half of the seeds cap tokens too, at the most that each answer may have cost."""
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)
    draw = random.Random(seed)
    share, faults, most = draw.choice([0.1, 0.4, 0.8]), draw.sample(sorted(FAULTS), 2), draw.randrange(6, 25)
    provider._script = lambda request: FAULTS[draw.choice(faults)] if draw.random() < share else shop(request)
    budget = {"requests": most, "calls": 40, **({"tokens": 14 * most // 2} if seed % 2 else {})}
    spec = {"kind": "wire", "run": [sys.executable, str(AGENT)], "concurrency": draw.choice([1, 4]), "attempts": 3}
    asked: dict[str, Any] = {"target": spec, "queries": QUERIES[:20], "scorers": SCORERS, "store": tmp_path / "store"}
    for _ in range(draw.randrange(1, 4)):
        with contextlib.suppress(BisectError):
            bisect_ai.run(good=GOOD, bad=BAD, budget=budget, drill=False, **asked)
        assert len(provider.requests) <= most
    with Store(tmp_path / "store") as store:
        assert store.spending(next(iter(store.runs))).requests == len(provider.requests)
