"""One account of calls and money: over failures, retries, sittings and processes, no cap is crossed, and what never left is no call."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bisect_ai
from bisect_ai.errors import BisectError
from bisect_ai.provider import retry
from bisect_ai.provider.budget import ONE_CALL, Account, Amount, CapReached, Caps
from bisect_ai.provider.usage import Usage
from bisect_ai.runs.run_accounts import Common
from bisect_ai.store import record_lines
from bisect_ai.store.trial_store import Kept, Store
from bisect_ai.targets.answer import Answer
from tests.faults.provider import Provider, Request, Say
from tests.unit.test_git_releases import commit, git
from tests.wire_shop import BAD, GOOD, shop
from tests.wire_shop import QUERIES as SHOPPERS

OK = Say(body={"text": "Hello.", "usage": {"input_tokens": 5, "output_tokens": 5, "usd": 0.001}})
QUERIES = [{"id": f"q{i}", "input": f"hello {i}", "reference": "Hello."} for i in range(40)]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary/0123456789")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)


def sitting(provider: Provider, store: Path | None, budget: dict[str, Any], *, kind: str = "http", **more: Any) -> Any:
    """One sitting; None: it ended in an error raised on purpose."""
    target: Any = {"kind": "http", "url": f"{provider.host}/answer", "concurrency": 8}
    sides: dict[str, Any] = {"good": {"prompt": "a", "model": "m"}, "bad": {"prompt": "b", "model": "n"}}
    if kind == "litellm":
        model = provider.model("openai", max_tokens=20)
        target = {"kind": "litellm", "concurrency": 8}
        sides = {"good": {"prompt": "a", "model": model}, "bad": {"prompt": "b", "model": {**model, "temperature": 0}}}
    if kind == "python":
        target = _Asking(provider)
    if kind == "command":
        target = {"kind": "command", "run": f"{sys.executable} src/answer.py {provider.host}", "concurrency": 4, "deadline": 10}
        more = {**more, "repo": str(repository(Path(str(store)).with_suffix(".git"))), "axes": PARTS}
        sides = {"good": {"git": "v1"}, "bad": {"git": "v2"}}
    study = {"queries": QUERIES, "scorers": [{"kind": "exact", "name": "correct"}], "metric": "correct", "drill": False}
    try:
        return bisect_ai.run(**{**sides, **study, "target": target, "budget": budget, "store": store, **more})
    except BisectError as error:
        assert error.exit_code in (3, 4), error
        return None


PROGRAM = """
import json, sys, urllib.request

for line in sys.stdin:
    query = json.loads(line)
    asked = json.dumps({"id": query["id"]}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/answer", asked, headers), timeout=5) as reply:
        found = reply.read().decode()  # what is no JSON goes out as it came in; what fails ends the program
    print(json.dumps({"id": query["id"], **json.loads(found)}) if found.startswith("{") else found, flush=True)
"""
PARTS = {"prompt": ["prompt.md"], "code": ["src/**"]}


def repository(folder: Path) -> Path:
    """Two versions of a program that asks the server, and dies of what it does not understand."""
    if not folder.exists():
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
        commit(folder, {"prompt.md": "Old\n", "src/answer.py": PROGRAM}, "Start")
        git(folder, "tag", "v1")
        commit(folder, {"prompt.md": "New\n", "src/answer.py": PROGRAM + "# more\n"}, "Next")
        git(folder, "tag", "v2")
    return folder


class _Asking:
    """The user's own code, which asks the server and raises what comes of it."""

    version = "1"

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def __call__(self, query: Any, release: Any) -> dict[str, Any]:
        import httpx

        response = httpx.post(f"{self._provider.host}/answer", json={"id": query.id}, timeout=5, trust_env=False)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found


def test_a_failed_call_counts_for_ever(tmp_path: Path) -> None:
    rng = random.Random(1)
    with Provider(lambda request: Say(body=b"<html>") if rng.random() < 0.6 else OK) as provider:
        for _ in range(3):
            result = sitting(provider, tmp_path / "store", {"calls": 60})
        assert result is not None and result.to_dict()["usage"]["calls"] == len(provider.requests) == 60
        assert "60 of 60 calls spent" in result.verdict.sentence


def test_a_run_asked_for_again_at_its_cap_says_no_less(tmp_path: Path) -> None:
    """What the first session paid for is heard again, what failed too, though no call is left to ask it once more."""
    asked: list[str] = []

    def answer(query: Any, release: Any) -> str:
        asked.append(query.id)
        if int(query.id[1:]) % 4 == 1:
            raise RuntimeError("no answer")
        return "Hello." if release["prompt"] == "a" or int(query.id[1:]) % 5 else "Bye."

    queries = [{"id": f"q{i}", "input": f"hello {i}", "reference": "Hello."} for i in range(200)]
    sides: Any = {"good": {"prompt": "a", "model": "m"}, "bad": {"prompt": "b", "model": "n"}}
    study: dict[str, Any] = {"scorers": [{"kind": "exact", "name": "correct"}], "metric": "correct", "target": answer}
    study |= {"store": tmp_path / "store", "budget": {"calls": 60}, "drill": False, "concurrency": 3}
    first = bisect_ai.run(**sides, queries=queries, **study)
    assert len(asked) == 60 and first.to_dict()["usage"]["errors"] > 2
    again = bisect_ai.run(**sides, queries=queries, **study)
    assert len(asked) == 60
    for part in ("loss", "effects", "cells"):
        assert first.to_dict()[part] == again.to_dict()[part]
    assert (
        first.verdict.kind == again.verdict.kind
        and first.to_dict()["verdict"]["candidates"] == again.to_dict()["verdict"]["candidates"]
    )
    assert len(first.observations) == len(again.observations) == 60
    assert again.to_dict()["usage"]["errors"] == first.to_dict()["usage"]["errors"]


def test_a_request_that_is_sent_again_is_a_call_too(tmp_path: Path) -> None:
    with Provider(lambda request: OK if request.number % 3 else Say(503)) as provider:
        result = sitting(provider, tmp_path / "store", {"calls": 50})
        assert result is not None and len(result.observations) < len(provider.requests) <= 50
        assert result.to_dict()["usage"]["calls"] == len(provider.requests)
        sitting(provider, tmp_path / "store", {"calls": 50})
        assert len(provider.requests) <= 50


def test_calls_that_never_left_are_no_calls(tmp_path: Path) -> None:
    limited = Say(429, headers={"retry-after": "1000000000"})
    with Provider(lambda request: OK if request.number < 20 else limited) as provider:
        sitting(provider, tmp_path / "store", {"calls": 400})
        run = _run_of(tmp_path / "store")
        assert _calls(tmp_path / "store", run) == len(provider.requests) < 40


def _run_of(store: Path) -> str:
    with Store(store) as opened:
        return next(iter(opened.runs))


def _calls(store: Path, run: str) -> int:
    with Store(store) as opened:
        return opened.spending(run).calls


FAULTS = {
    "html": Say(body=b"<html>"),
    "503": Say(503),
    "500": Say(500),
    "400": Say(400),
    "429": Say(429, headers={"retry-after": "0"}),
    "reset": Say(mode="reset"),
    "half": Say(body={"text": "Hello."}, mode="half"),
    "absurd": Say(body={"text": "Hello.", "usage": {"usd": -3}}),
}


@pytest.mark.parametrize("kind", ["http", "litellm", "python", "command"])
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    faults=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3),
    share=st.sampled_from([0.1, 0.4, 0.8]),
    calls=st.integers(10, 40),
    sittings=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_server_never_gets_more_requests_than_the_cap(
    tmp_path_factory: pytest.TempPathFactory, kind: str, faults: list[str], share: float, calls: int, sittings: int, seed: int
) -> None:
    rng, store = random.Random(seed), tmp_path_factory.mktemp("store")
    fine = Say() if kind == "litellm" else OK

    def say(request: Request) -> Say:
        return FAULTS[rng.choice(faults)] if rng.random() < share else fine

    with Provider(say) as provider:
        for number in range(sittings):
            sitting(provider, store, {"calls": calls}, kind=kind, concurrency=1 + 7 * (number % 2))
            assert len(provider.requests) <= calls


@pytest.mark.parametrize("kind", ["http", "litellm", "python", "command"])
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    fault=st.sampled_from(["html", "503", "half", "absurd"]),
    share=st.sampled_from([0.1, 0.5]),
    seed=st.integers(0, 99),
)
def test_money_at_its_upper_bound_never_passes_the_cap(
    tmp_path_factory: pytest.TempPathFactory, kind: str, fault: str, share: float, seed: int
) -> None:
    """0.001 USD an answer, or by gpt-4o's price; the cap may be passed by the one answer that told what answers cost."""
    rng, store, cap = random.Random(seed), tmp_path_factory.mktemp("store"), 0.012
    fine = Say() if kind == "litellm" else OK
    with Provider(lambda request: FAULTS[fault] if rng.random() < share else fine) as provider:
        for _ in range(2):
            sitting(provider, store, {"calls": 200, "usd": cap}, kind=kind)
    with Store(store) as opened:
        spent = opened.spending(next(iter(opened.runs)))
    assert 0 <= spent.usd + spent.doubtful.usd + spent.unsettled.usd <= cap + 0.001 + 1e-9


ASKING = """
import json, sys, urllib.request

def answer(query, release):
    asked = urllib.request.Request(HOST + "/answer", json.dumps({"id": query.id}).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=5) as reply:
        return json.load(reply)
"""
AGENT = REPOSITORY / "tests" / "wire_agents" / "plain_agent.py"


def written(folder: Path, provider: Provider, kind: str, budget: dict[str, Any], **more: Any) -> None:
    """The settings of one run, for the command line."""
    target: dict[str, Any] = {"kind": kind, "concurrency": 4}
    sides: dict[str, Any] = {"good": {"prompt": "a", "model": "m"}, "bad": {"prompt": "b", "model": "n"}}
    queries = QUERIES[:20]
    if kind == "http":
        target["url"] = f"{provider.host}/answer"
    if kind == "python":
        (folder / "app.py").write_text(ASKING.replace("HOST", repr(provider.host)))
        target["function"] = "app:answer"
    if kind == "litellm":
        model = provider.model("openai", max_tokens=20)
        sides = {"good": {"prompt": "a", "model": model}, "bad": {"prompt": "b", "model": {**model, "temperature": 0}}}
    if kind == "command":
        target |= {"run": f"{sys.executable} src/answer.py {provider.host}", "deadline": 10}
        more |= {"repo": str(repository(folder / "repository")), "axes": PARTS}
        sides = {"good": {"git": "v1"}, "bad": {"git": "v2"}}
    if kind == "wire":
        target |= {"run": [sys.executable, str(AGENT)], "attempts": 3}
        sides, queries = {"good": GOOD, "bad": BAD}, SHOPPERS[:20]
    if kind != "command":
        sides = {side: {"release": side, "axes": axes} for side, axes in sides.items()}
    scorers = [{"kind": "contains", "name": "correct", "expected": "reference"}]
    study = {**sides, "target": target, "log": "log.jsonl", "scorers": scorers, "budget": budget, "drill": False, **more}
    (folder / "bisect.yaml").write_text(json.dumps(study))
    (folder / "log.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))


@pytest.mark.parametrize(
    ("kind", "seed"),
    [(kind, 0) for kind in ("http", "litellm", "python", "command", "wire")]
    + [pytest.param(kind, seed, marks=pytest.mark.slow) for kind in ("http", "command", "wire") for seed in range(1, 9)],
)
def test_processes_at_once_never_send_more_requests_than_the_cap(
    kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two or three commands on one store, some with processes of their own, twice; the provider fails at random."""
    draw = random.Random(f"{kind} {seed}")
    share, faults, most = draw.choice([0.1, 0.4, 0.8]), draw.sample(sorted(FAULTS), 2), draw.randrange(8, 26)
    fine = {"litellm": lambda request: Say(), "wire": shop}.get(kind, lambda request: OK)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    with Provider(lambda request: FAULTS[draw.choice(faults)] if draw.random() < share else fine(request)) as provider:
        budget = {"requests": most, "calls": 60} if kind == "wire" else {"calls": most}
        written(tmp_path, provider, kind, budget, **({"jobs": 2} if kind in ("http", "python") and draw.random() < 0.5 else {}))
        if kind == "wire":
            monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        for _ in range(2):
            command = [sys.executable, "-m", "bisect_ai", "run"]
            both = [
                subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for _ in range(draw.choice([2, 2, 3]))
            ]
            said = [process.communicate(timeout=240)[1] for process in both]
            assert {process.returncode for process in both} <= {0, 3, 4}, said
            assert 0 < len(provider.requests) <= most, said
    with Store(tmp_path / ".bisect-ai") as store:
        (spent,) = [store.spending(run) for run in store.runs]
    assert (spent.requests if kind == "wire" else spent.calls + spent.charges + spent.killed.counted) <= most


APP = """
import time

def answer(query, release):
    with open("calls.log", "a") as log:
        log.write(query.id + "\\n")
    time.sleep(0.01)
    return {"text": "Hello.", "usage": {"usd": 0.001, "input_tokens": 5, "output_tokens": 5}}

answer.version = "1"
"""
SITTING = """
import sys, bisect_ai
from app import answer

print("ready", flush=True)
sys.stdin.readline()
bisect_ai.run(good={"prompt": "a", "model": "m"}, bad={"prompt": "b", "model": "n"},
    queries=[{"id": f"q{i}", "input": "hi", "reference": "Hello."} for i in range(60)], target=answer,
    scorers=[{"kind": "exact", "name": "correct"}], metric="correct", design="full", drill=False, store="store",
    budget={"calls": 400, "usd": 0.03}, jobs=JOBS)
"""


def _sitter(folder: Path, *, jobs: int = 1) -> subprocess.Popen[str]:
    (folder / "app.py").write_text(APP)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", SITTING.replace("JOBS", str(jobs))],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_processes_pay_from_one_account(tmp_path: Path, jobs: int) -> None:
    """Their own processes too, with `jobs`."""
    both = [_sitter(tmp_path, jobs=jobs) for _ in range(2)]
    for process in both:
        _go(process)
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert 25 <= len((tmp_path / "calls.log").read_text().splitlines()) <= 31


def test_calls_under_way_in_two_processes_are_not_waited_for(tmp_path: Path) -> None:
    """Each would wait for the other's calls, in the thread that has to bring its own to an end."""
    with Store(tmp_path) as mine, Store(tmp_path) as theirs:
        accounts = [Account(Caps(calls=6), shared=Common(store, "run")) for store in (mine, theirs)]
        for n in range(6):
            account, store = accounts[n % 2], (mine, theirs)[n % 2]
            with account.turn():
                account.spend(ONE_CALL)
                store.reserve("run", f"{n:064x}", usd=None)
        for account in accounts:
            refused: list[BaseException] = []

            def spend(account: Account = account, refused: list[BaseException] = refused) -> None:
                try:
                    with account.turn():
                        account.spend(ONE_CALL)
                except CapReached as reached:
                    refused.append(reached)

            thread = threading.Thread(target=spend, daemon=True)
            thread.start()
            thread.join(10)
            assert [str(each) for each in refused] == [
                "stopped at the call cap: 6 of 6 calls spent, and the next call may take up to 1"
            ]


@pytest.mark.parametrize("cap", [Caps(calls=9, usd=0.01), Caps(calls=9, tokens=10)])
def test_a_call_is_counted_at_once_whatever_money_is_set_aside(cap: Caps) -> None:
    """It asks for none; waiting, with the store's turn in hand, it would keep others from settling what they have set aside."""
    account = Account(cap)
    held = account.reserve(Amount(0, 10, 0.01))
    assert held is not None
    account._held += Amount(0, 1, 0.001)  # more than there is: an answer that cost more than was foreseen
    done = threading.Event()
    threading.Thread(target=lambda: (account.spend(ONE_CALL), done.set()), daemon=True).start()
    assert done.wait(10) and account.spent.calls == 1


def test_what_was_under_way_in_a_killed_process_counts(tmp_path: Path) -> None:
    for _ in range(3):
        process = _sitter(tmp_path)
        _go(process)
        log, until = tmp_path / "calls.log", time.monotonic() + 30
        before = len(log.read_text().splitlines()) if log.exists() else 0
        while time.monotonic() < until and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) > before + 5:
                break
            time.sleep(0.005)
        process.kill()
        process.communicate()
    process = _sitter(tmp_path)
    _go(process)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len((tmp_path / "calls.log").read_text().splitlines()) <= 31


@pytest.mark.parametrize("by_contents", [False, True])
def test_a_new_sitting_sets_aside_what_the_dearest_answer_cost(
    tmp_path: Path, by_contents: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the mean over all that was counted: a call that was about to start when its process was killed has cost nothing yet."""
    monkeypatch.setattr(record_lines, "FEWEST", 1 if by_contents else 1000)
    with Store(tmp_path) as store:
        for i, usd in enumerate((0.001, 0.003)):
            answer = Answer(text="yes", usage=Usage(5, 5, usd))
            store.keep("run", [Kept(f"{i:064x}", "run", f"q{i}", (), 0, answer)], [])
        for i in range(8):
            store.reserve("run", f"{i:063x}a", usd=0.0)
    with Store(tmp_path) as store:
        assert Account(Caps(usd=1.0), shared=Common(store, "run")).usual == Amount(0, 10, 0.003)
