"""`verify` end to end: fixed, not fixed, fixed with collateral, undecided; nothing stored judges, nothing is paid for twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import InputError, StoreError
from bisect_ai.scoring.scorer import Scorer

GOOD = {"prompt": "short", "model": "a", "tools": "x"}
BAD = {"prompt": "long", "model": "b", "tools": "y"}
PLANTED = Path(__file__).parents[2] / "fixtures" / "planted"


class App:
    """The long prompt breaks a fifth of the queries; `models` says which ones a model breaks besides (by number modulo 100)."""

    version = "1"

    def __init__(self, **models: range) -> None:
        self.models, self.calls = models, 0

    def __call__(self, query: Any, release: Any) -> str:
        self.calls += 1
        number = int(query.reference) % 100
        breaks = release["prompt"] == "long" and number < 20
        return "no" if breaks or number in self.models.get(str(release["model"]), ()) else str(query.reference)


def correct(query: Any, answer: Any) -> bool:
    return bool(answer.text == query.reference)


correct.version = "1"  # type: ignore[attr-defined]


def log(size: int = 800) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "input": f"{i}?", "reference": str(i)} for i in range(size)]


def given(app: App, store: Path, size: int = 800, **more: Any) -> dict[str, Any]:
    common = {"good": GOOD, "bad": BAD, "queries": log(size), "target": app, "scorers": {"correct": correct}}
    return {**common, "store": store, "log": {"sample": min(200, size)}, **more}


def a_run(app: App, store: Path, **more: Any) -> str:
    result = bisect_ai.run(**given(app, store, **more))
    assert result.verdict.kind == "cause"
    return str(result.report["run"])


def test_a_fix_is_fixed(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    before = app.calls
    result = bisect_ai.verify(run, {**BAD, "prompt": "mended"}, **given(app, tmp_path / "store"))
    told = result.report["verify"]
    assert (result.verdict.kind, told["kind"]) == ("fixed", "fixed")
    assert told["again"]["restored"]["estimate"] == 1.0
    low, high = told["others"]["loss"]["interval"]
    assert low <= 0 <= high < 0.2 * 0.2  # less than a fifth of the 20 points that were lost
    assert told["others"]["touched"] == 0
    assert result.verdict.sentence.startswith("fixed: fix recovers 100 %")
    assert told["calls"] == result.usage.calls == app.calls - before


def test_every_answer_is_new_and_none_is_asked_twice(tmp_path: Path) -> None:
    app, fix = App(), {**BAD, "prompt": "mended"}
    run = a_run(app, tmp_path / "store")
    first = bisect_ai.verify(run, fix, **given(app, tmp_path / "store"))
    assert first.report["usage"]["cached"] == 0
    before = app.calls
    again = bisect_ai.verify(run, fix, **given(app, tmp_path / "store"))
    assert app.calls == before
    assert again.to_json() == first.to_json()
    other = bisect_ai.verify(run, {**fix, "tools": "z"}, **given(app, tmp_path / "store"))
    assert other.report["usage"]["cached"] == 0  # another fix: good and bad answer anew, at its time


def cents(query: Any, answer: Any) -> float:
    """What an answer cost, in USD: twice as much where it is wrong."""
    return (0.004 if answer.text != query.reference else 0.002) + 0.0001 * (int(query.reference) % 7)


cents.version = "1"  # type: ignore[attr-defined]


def test_a_fix_of_a_metric_in_small_units_is_fixed(tmp_path: Path) -> None:
    scorer = Scorer("cents", cents, higher_is_better=False, unit="USD", digest="cents 1")
    with_costs = partial(given, App(), tmp_path / "store", scorers=[scorer])
    run = str(bisect_ai.run(**with_costs()).report["run"])
    result = bisect_ai.verify(run, {**BAD, "prompt": "mended"}, **with_costs())
    assert result.verdict.kind == "fixed"


def test_what_does_not_help_is_not_fixed(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    result = bisect_ai.verify(run, {**BAD, "model": "a"}, **given(app, tmp_path / "store"))
    assert result.verdict.kind == "not_fixed"
    assert "a fix must recover 80 %" in result.verdict.sentence
    assert result.usage.calls < 250


def test_a_fix_that_breaks_others_is_fixed_with_collateral(tmp_path: Path) -> None:
    app = App(c=range(50, 60))
    run = a_run(app, tmp_path / "store")
    result = bisect_ai.verify(run, {**GOOD, "model": "c"}, **given(app, tmp_path / "store"))
    assert result.verdict.kind == "fixed_with_collateral"
    loss = result.report["verify"]["others"]["loss"]
    assert loss["interval"][0] > 0
    assert {example["query"] for example in result.report["examples"]} <= {f"q{i}" for i in range(800) if 50 <= i % 100 < 60}


def test_too_few_calls_leave_it_undecided_and_more_go_on(tmp_path: Path) -> None:
    app, fix = App(), {**BAD, "prompt": "mended"}
    run = a_run(app, tmp_path / "store")
    result = bisect_ai.verify(run, fix, **given(app, tmp_path / "store", budget={"calls": 200}))
    assert (result.verdict.kind, result.report["verify"]["kind"]) == ("inconclusive", "undecided")
    assert result.verdict.sentence.startswith("undecided: ")
    assert result.report["verdict"]["calls_needed"] > 0
    before = app.calls
    more = bisect_ai.verify(run, fix, **given(app, tmp_path / "store", budget={"calls": 1200}))
    assert more.verdict.kind == "fixed"
    assert app.calls - before < more.report["usage"]["calls"] + more.report["usage"]["cached"]


def test_when_the_run_touched_the_whole_log_all_of_it_is_answered_anew_and_that_is_said(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store", size=200, design="full")
    result = bisect_ai.verify(run, {**BAD, "prompt": "mended"}, **given(app, tmp_path / "store", size=200))
    assert result.verdict.kind == "fixed"
    told = result.report["verify"]["others"]
    assert (told["untouched"], told["population"]) == (0, 200)
    assert told["touched"] == told["queries"] > 0
    assert any("left only 0 queries of the log untouched" in warning for warning in result.report["warnings"])


def test_the_bisection_after_an_audit_has_the_audits_answers(tmp_path: Path) -> None:
    app = App()
    found = bisect_ai.audit(**given(app, tmp_path / "store"))
    assert found.verdict.kind == "cause"
    result = bisect_ai.verify(found.report["run"], {**BAD, "prompt": "mended"}, **given(app, tmp_path / "store"))
    assert result.verdict.kind == "fixed"
    assert result.report["verify"]["again"]["broke"] >= 10


def test_failing_answers_are_never_called_fixed(tmp_path: Path) -> None:
    class Flaky(App):
        def __call__(self, query: Any, release: Any) -> str:
            if release["prompt"] == "mended" and int(query.reference) % 7 == 0:
                raise TimeoutError("no answer")
            return super().__call__(query, release)

    app = Flaky()
    run = a_run(app, tmp_path / "store")
    result = bisect_ai.verify(run, {**BAD, "prompt": "mended"}, **given(app, tmp_path / "store"))
    assert result.report["verify"]["kind"] in ("undecided", "not_fixed")  # a failed call is the worst answer
    assert "fixed: " not in result.verdict.sentence.replace("not fixed: ", "")


@pytest.mark.parametrize(
    ("fix", "more", "says"),
    [
        (GOOD, {}, "is the good release"),
        (BAD, {}, "is the bad release"),
        ({**BAD, "prompt": "mended"}, {"good": {**GOOD, "model": "other"}}, "its good release"),
    ],
)
def test_what_cannot_be_verified_is_said_before_a_call(tmp_path: Path, fix: Any, more: Any, says: str) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    before = app.calls
    with pytest.raises(InputError, match=says):
        bisect_ai.verify(run, fix, **{**given(app, tmp_path / "store"), **more})
    assert app.calls == before


def test_a_service_that_only_knows_good_and_bad_cannot_run_another_fix(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    service = {"kind": "http", "url": "http://127.0.0.1:9/answer"}
    with pytest.raises(InputError, match="prompt of the fix is neither; use `send: axes`"):
        bisect_ai.verify(run, {**BAD, "prompt": "mended"}, **{**given(app, tmp_path / "store"), "target": service})


def test_a_fix_whose_model_has_no_price_is_refused_where_money_is_capped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    app = App()
    tools = {name: [{"name": name}] for name in "xy"}
    good, bad = (
        {**release, "model": {"model": "openai/gpt-4.1-2025-04-14", "x": release["model"]}, "tools": tools[release["tools"]]}
        for release in (GOOD, BAD)
    )
    run = a_run(app, tmp_path / "store", good=good, bad=bad)
    more = {"good": good, "bad": bad, "target": {"kind": "litellm"}, "budget": {"usd": 1}}
    with pytest.raises(InputError, match="openai/nobody-knows-1"):
        fix = {**bad, "model": {"model": "openai/nobody-knows-1"}}
        bisect_ai.verify(run, fix, **{**given(app, tmp_path / "store"), **more})


def test_an_unknown_run_and_a_verification_are_no_runs_to_verify(tmp_path: Path) -> None:
    app, fix = App(), {**BAD, "prompt": "mended"}
    run = a_run(app, tmp_path / "store")
    with pytest.raises(StoreError, match="begins with"):
        bisect_ai.verify("zzz", fix, **given(app, tmp_path / "store"))
    done = bisect_ai.verify(run, fix, **given(app, tmp_path / "store"))
    with pytest.raises(InputError, match="is a verification itself"):
        bisect_ai.verify(done.report["run"], {**fix, "tools": "z"}, **given(app, tmp_path / "store"))


def test_a_verification_is_told_in_every_format(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    result = bisect_ai.verify(run, {**BAD, "model": "a"}, **given(app, tmp_path / "store"))
    assert result.to_markdown().startswith("## not fixed: ")
    assert "What was verified" in result.to_html()
    assert '<failure message="not fixed' in result.to_junit()
    loaded = bisect_ai.load(result.report["run"], store=tmp_path / "store")
    assert loaded.verdict.sentence == result.verdict.sentence


# -- the command, on a planted incident ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("planted") / "incident"
    shutil.copytree(PLANTED / "single_axis", folder)
    shutil.copy(PLANTED / "app.py", folder)
    done = CliRunner().invoke(
        main,
        ["run", str(folder / "bisect.yaml"), "--write-rollback", str(folder / "fix.yaml"), "--json", str(folder / "r.json")],
    )
    assert done.exit_code == 0, done.output
    return folder, json.loads((folder / "r.json").read_text())["run"]


def fixed(folder: Path, name: str, **axes: Any) -> Path:
    """A release file: the rollback with some axes changed."""
    envelope = yaml.safe_load((folder / "fix.yaml").read_text())
    del envelope["digest"]
    for axis, change in axes.items():
        envelope["axes"][axis] = change(envelope["axes"][axis])
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**envelope, "release": name}))
    return path


def command(solved: tuple[Path, str], fix: Path, *more: str) -> Any:
    folder, run = solved
    return CliRunner().invoke(main, ["verify", run[:8], str(fix), "--config", str(folder / "bisect.yaml"), *more])


def test_the_rollback_is_fixed_on_the_command_line(solved: tuple[Path, str]) -> None:
    done = command(solved, solved[0] / "fix.yaml", "--json", str(solved[0] / "v.json"))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("fixed: ")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert json.loads((solved[0] / "v.json").read_text())["verify"]["run"] == solved[1]


def test_the_wrong_axis_is_not_fixed_on_the_command_line(solved: tuple[Path, str]) -> None:
    wrong = fixed(
        solved[0], "wrong", prompt=lambda prompt: {**prompt, "name_the_order": False}, corpus=lambda c: {**c, "note": 1}
    )
    done = command(solved, wrong, "--junit", str(solved[0] / "v.xml"))
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("not fixed: ")
    assert "<failure" in (solved[0] / "v.xml").read_text()


def test_a_fix_that_garbles_answers_is_collateral_on_the_command_line(solved: tuple[Path, str]) -> None:
    done = command(solved, fixed(solved[0], "hasty", runtime=lambda _: {"noise_per_cent": 12}))
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("fixed with collateral: ")


def test_undecided_ends_with_3_and_bad_input_with_2(solved: tuple[Path, str]) -> None:
    fix = fixed(solved[0], "careful", corpus=lambda corpus: {**corpus, "note": 2})
    assert command(solved, fix, "--max-calls", "30").exit_code == 3
    done = command(solved, solved[0] / "none.yaml")
    assert done.exit_code == 2
    assert "none.yaml" in done.stderr


def test_a_killed_verification_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        "def answer(query, release):\n"
        "    if release['prompt'] == 'mended':\n"
        "        time.sleep(0.02)\n"
        "    with open(os.environ['CALLS'], 'a') as file:\n"
        "        file.write(f\"{query.id} {release['prompt']} {release['model']}\\n\")\n"
        "    return 'no' if release['prompt'] == 'long' and int(query.reference) % 100 < 20 else query.reference\n"
    )
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(q) for q in log(500)))
    for name, axes in (("good", GOOD), ("bad", BAD), ("fix", {**BAD, "prompt": "mended"})):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"release": name, "axes": axes}))
    (tmp_path / "bisect.yaml").write_text(
        "good: good.yaml\nbad: bad.yaml\nlog: {path: log.jsonl, sample: 150}\ntarget: {kind: python, function: app:answer}\n"
        "scorers: [{kind: exact, name: correct, expected: reference}]\n"
    )
    calls = tmp_path / "calls"

    def bisect(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "bisect_ai", *arguments], cwd=tmp_path, env={**os.environ, "CALLS": str(calls)},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    told, _ = bisect("run", "--json", "-").communicate()
    run = json.loads(told)["run"]
    calls.write_text("")
    killed = bisect("verify", run, "fix.yaml")
    while len(calls.read_text().splitlines()) < 150:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    resumed = bisect("verify", run, "fix.yaml", "--json", "-")
    report = json.loads(resumed.communicate()[0])
    assert resumed.returncode == 0
    assert report["verify"]["kind"] == "fixed"
    made = calls.read_text().splitlines()
    told = [
        found
        for w in report["warnings"]
        if (found := re.match(r"(\d+) calls? (?:was|were) under way or about to leave when the run was stopped or killed", w))
    ]
    under_way = int(told[0][1]) if told else 0
    assert under_way <= 48  # a round
    assert 0 <= report["usage"]["calls"] - len(made) <= under_way  # what was under way counts, made or not
    passes = report["verify"]["again"]["passes"]
    assert len([line for line in set(made) if made.count(line) > 1 + passes]) <= under_way


def test_a_hostile_name_is_inert_in_every_format(tmp_path: Path) -> None:
    app = App()
    run = a_run(app, tmp_path / "store")
    fix = {"release": "\x1b[31m<script>x</script>|[a](javascript:b)\n::error::", "axes": {**BAD, "model": "a"}}
    result = bisect_ai.verify(run, fix, **given(app, tmp_path / "store"))
    assert result.verdict.kind == "not_fixed"
    for text in (result.verdict.sentence, result.to_markdown(), result.to_html(), result.to_junit(), result.to_json()):
        assert "\x1b" not in text
        assert "\n::error::" not in text
    assert result.to_html().count("<script>") == 1  # ours, for the answers
    assert "<script>x" not in result.to_html()
    assert not re.search(r"(?<!\\)\]\(javascript", re.sub(r"(`+).*?\1", "", result.to_markdown()))
