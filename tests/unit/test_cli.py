"""The command line, as a person types it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bisect_ai.cli import main
from bisect_ai.errors import BisectError
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.study import Study

PLANTED = Path(__file__).parents[2] / "fixtures" / "planted"


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture
def incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PLANTED / "together", tmp_path / "incident")
    monkeypatch.chdir(tmp_path / "incident")
    return tmp_path / "incident"


def test_a_package_that_was_left_out_is_told_with_what_installs_it(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it raises
    done = invoke("run", "--html", "report.html")
    assert done.exit_code == BisectError.exit_code
    assert "this needs matplotlib, which is not installed: pip install matplotlib, and run" in done.stderr
    monkeypatch.undo()
    monkeypatch.chdir(incident)
    assert invoke("run", "--html", "report.html").exit_code == 0
    assert "<html" in (incident / "report.html").read_text()


def test_run_prints_the_verdict_first_and_writes_the_files(incident: Path) -> None:
    done = invoke("run", "--json", "report.json", "--markdown", "report.md")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].startswith("prompt and tools together cause the drop")
    report = json.loads((incident / "report.json").read_text())
    assert report["verdict"]["kind"] == "cause"
    assert (incident / "report.md").read_text().startswith("#")


def test_run_again_makes_no_calls_and_writes_the_same_bytes(incident: Path) -> None:
    first = invoke("run", "--json", "first.json")
    second = invoke("run", "--json", "second.json")
    assert second.stdout == first.stdout
    assert "this time: 0 calls made" in second.stderr
    assert (incident / "first.json").read_bytes() == (incident / "second.json").read_bytes()


def test_a_stored_run_is_listed_and_shown_again(incident: Path) -> None:
    first = invoke("run")
    listed = invoke("runs")
    assert listed.exit_code == 0
    run = listed.stdout.split()[0]
    again = invoke("report", run[:6])
    assert again.stdout.endswith(first.stdout)  # the card
    assert "How it was decided" in again.stdout
    assert "How it was decided" not in first.stdout
    as_json = invoke("report", run, "--json", "-")
    assert json.loads(as_json.stdout)["run"] == run


def test_json_on_standard_output_is_json_alone(incident: Path) -> None:
    assert json.loads(invoke("run", "--json", "-").stdout)["schema"] == "bisect-ai/report@1"


def test_options_override_the_file(incident: Path) -> None:
    done = invoke("run", "--design", "full", "--max-calls", "640", "--seed", "3", "--store", "elsewhere", "--json", "r.json")
    assert done.exit_code in (0, 3)
    report = json.loads((incident / "r.json").read_text())
    assert report["usage"]["calls"] <= 640
    assert report["design"] == "full"
    assert (incident / "elsewhere").is_dir()


def test_a_budget_too_small_is_inconclusive(incident: Path) -> None:
    done = invoke("run", "--max-calls", "20")
    assert done.exit_code == 3
    assert "inconclusive" in done.stdout.lower()


def test_diff_and_plan_spend_nothing(incident: Path) -> None:
    tree = invoke("diff", "releases/good.yaml", "releases/bad.yaml")
    assert tree.exit_code == 0
    assert "prompt" in tree.stdout
    plan = invoke("plan")
    assert plan.exit_code == 0
    assert "smallest effect" in plan.stdout
    planned = json.loads(invoke("plan", "--json").stdout)
    assert {o["design"] for o in planned["alternatives"]} >= {"adaptive", "full", "fractional"}
    assert json.loads(invoke("diff", "releases/good.yaml", "releases/bad.yaml", "--json").stdout)["good"]
    assert not (incident / ".bisect-ai").exists()


TWO = ("releases/good.yaml", "releases/bad.yaml")


@pytest.mark.parametrize(("words", "key"), [(("plan",), "alternatives"), (("diff", *TWO), "axes"), (("runs", "--history"), 0)])
def test_json_takes_a_file_in_every_command(incident: Path, words: tuple[str, ...], key: str | int) -> None:
    invoke("run", "--max-calls", "20")
    printed = invoke(*words, "--json", "-")
    assert json.loads(printed.stdout)[key]
    assert invoke(*words, "--json").stdout == printed.stdout
    assert invoke(*words, "--json", "told.json").stdout == ""
    assert (incident / "told.json").read_text() == printed.stdout


def test_json_may_stand_alone_before_what_a_command_looks_at(incident: Path) -> None:
    before = {path: path.read_bytes() for path in incident.rglob("*.yaml")}
    assert invoke("plan", "--json", "bisect.yaml").stdout == invoke("plan", "--json", "-").stdout
    assert invoke("diff", "--json", *TWO).stdout == invoke("diff", *TWO, "--json", "-").stdout
    (incident / "good.json").write_text('{"release": "a", "axes": {"prompt": "x"}}')
    assert invoke("diff", "--json", "good.json", TWO[1]).exit_code == 0
    for words in (("run", "--json", "bisect.yaml"), ("diff", "--json", "bisect.yaml", *TWO), ("report", "a", "--html", TWO[0])):
        refused = invoke(*words)
        assert refused.exit_code == 2 and "holds settings or a release" in refused.stderr
    assert before == {path: path.read_bytes() for path in incident.rglob("*.yaml")}


def test_a_plan_without_a_price_tells_the_cap_on_calls_that_there_is(incident: Path) -> None:
    told = invoke("plan", "--max-usd", "3", "--max-calls", "1234", "--json")
    lines = [line for line in json.loads(told.stdout)["warnings"] if "price" in line]
    assert len(lines) == 1
    assert "1,234 calls are the most" in lines[0]
    assert "as well" not in lines[0]


def test_init_writes_files_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("init").exit_code == 0
    assert invoke("diff", "releases/good.yaml", "releases/bad.yaml").exit_code == 0
    assert invoke("plan").exit_code == 0
    again = invoke("init")
    assert again.exit_code == 2
    assert "there already" in again.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "nowhere.yaml"], "no such file"),
        (["diff", "releases/good.yaml", "releases/good.yaml"], "identical"),
        (["diff", "releases/good.yaml", "nowhere.yaml"], "nowhere.yaml"),
        (["report", "abc"], "no"),
        (["runs", "--store", "nowhere"], "there is none"),
        (["run", "--metric", "quality"], "quality"),
        (["run", "--log", "nowhere.jsonl"], "nowhere.jsonl"),
        (["run", "--html", "nowhere/report.html"], "no folder nowhere"),
        (["audit", "--history", "nowhere/audits.jsonl"], "no folder nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(incident: Path, words: list[str], says: str) -> None:
    done = invoke(*words)
    assert done.exit_code == 2, done.output
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert says in lines[0]
    assert lines[0].startswith("bisect-ai: ")


def test_a_target_that_keeps_failing_ends_with_4(incident: Path) -> None:
    (incident / "app.py").write_text("def answer(query, release):\n    raise ConnectionError('refused')\n")
    done = invoke("run")
    assert done.exit_code == 4
    assert "refused" in done.stderr
    assert "same command again" in done.stderr


FAILING = """
asked = []

def answer(query, release):
    asked.append(query)
    if len(asked) > 5:
        raise FAULT
    return {"text": "14 days", "usage": {"usd": 0.01, "input_tokens": 3, "output_tokens": 4}}
"""


@pytest.mark.parametrize("command", ["run", "audit"])
@pytest.mark.parametrize(
    ("fault", "kind", "code"), [("ConnectionError('no')", "failed", 4), ("KeyboardInterrupt", "interrupted", 130)]
)
def test_the_report_of_what_ended_without_a_verdict_says_what_was_spent(
    incident: Path, command: str, fault: str, kind: str, code: int
) -> None:
    (incident / "app.py").write_text(FAILING.replace("FAULT", fault))
    if kind == "interrupted":  # as by Ctrl-C, in the program's own thread
        (incident / "app.py").write_text(
            FAILING.replace("raise FAULT", "import os; len(asked) == 6 and os.kill(os.getpid(), 2)")
        )
    more = ["--history", "audits.jsonl"] if command == "audit" else []
    done = invoke(command, "--json", "told.json", "--markdown", "told.md", *more)
    assert done.exit_code == code, done.output
    told = json.loads(Path("told.json").read_text())
    assert (told["verdict"]["kind"], told["metric"], told["good"]) == (kind, "correct", "2026-11-13")
    usage = told["usage"]
    (row,) = json.loads(invoke("runs", "--json").stdout)
    assert (row["run"], row["calls"], row["usd"]) == (told["run"], usage["calls"], usage["usd"])
    assert usage["usd"] >= 0.05 and usage["tokens"] >= 35 and usage["seconds"] > 0
    assert f"bisect-ai report {told['run'][:8]}" not in Path("told.md").read_text()  # it has none in the store
    if more:
        line = json.loads(Path("audits.jsonl").read_text())
        assert (line["run"], line["calls"], line["kind"]) == (told["run"], usage["calls"], kind)


def test_what_failed_before_anything_was_asked_has_cost_nothing(incident: Path) -> None:
    for words in (("report", "abc"), ("run", "--log", "nowhere.jsonl"), ("canary", "nowhere.jsonl")):
        done = invoke(*words, "--json")
        assert done.exit_code == 2
        told = json.loads(done.stdout)
        assert (told["verdict"]["kind"], told["usage"]["calls"], told["usage"]["usd"]) == ("failed", 0, 0)


def test_a_typo_in_the_file_is_named_with_a_suggestion(incident: Path) -> None:
    text = (incident / "bisect.yaml").read_text()
    (incident / "bisect.yaml").write_text(text.replace("tolerance:", "tolerence:"))
    done = invoke("run")
    assert done.exit_code == 2
    assert "bisect.yaml" in done.stderr
    assert "did you mean 'tolerance'" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["audit"], ["canary", "--baseline", "a", "--canary", "b"]])
def test_a_fault_of_its_own_is_one_line_and_no_verdict(
    words: list[str], incident: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own exit code for an exception is 1: `audit` says "regression" by it and `canary` "roll back"."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by \x1b[31mzero")

    for place in ("bisect_ai.runs.prepare.prepare", "bisect_ai.facts.canary_facts.canary"):
        monkeypatch.setattr(place, broken)
    done = invoke(*words)
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert "fault of bisect-ai" in line
    assert "ZeroDivisionError" in line
    assert "--debug" in line
    assert "\x1b" not in line
    assert isinstance(invoke("--debug", *words).exception, ZeroDivisionError)


def test_every_command_has_a_whole_line_in_the_help() -> None:
    said = invoke("--help").output
    assert "..." not in said.split("Commands:")[1]
    assert "1 a regression" in said


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_is_explained_in_a_sentence(name: str) -> None:
    for option in main.commands[name].params:
        if isinstance(option, click.Option):
            assert re.fullmatch(r"[A-Z].+\.(  \[default: .+\])?", option.help or ""), option.name


@pytest.mark.parametrize("option", [("--design", "full"), ("--drill",), ("--no-drill",)])
def test_verify_refuses_what_it_would_not_obey(option: tuple[str, ...]) -> None:
    """A verification searches for no cause: it has no design and no drill-down."""
    result = invoke("verify", "0a1b", "fix.yaml", *option)
    assert result.exit_code == 2
    assert re.search(rf"No such option:? '?{option[0]}", result.output)


def test_the_card_is_the_last_thing_and_its_command_can_be_pasted(incident: Path) -> None:
    done = invoke("run")
    lines = done.stdout.splitlines()
    assert len(lines) <= 20
    (typed,) = [line.partition("Do now")[2].strip() for line in lines if line.startswith("Do now")]
    pasted = invoke(*shlex.split(typed)[1:])
    assert pasted.exit_code == 0, pasted.output
    assert (incident / "rollback.yaml").read_text().startswith("release:")


def test_the_rollback_of_a_run_whose_releases_changed_is_refused(incident: Path) -> None:
    invoke("run")
    run = invoke("runs").stdout.split()[0]
    text = (incident / "releases" / "bad.yaml").read_text()
    (incident / "releases" / "bad.yaml").write_text(text.replace("release:", "release: other\n#"))
    (incident / "releases" / "good.yaml").write_text(text)
    done = invoke("report", run, "--write-rollback", "r.yaml")
    assert done.exit_code == 2
    assert "does not name the releases that it compared" in done.stderr
    assert not (incident / "r.yaml").exists()


def test_quiet_prints_the_first_sentence_alone_and_the_log_file_has_the_rest(incident: Path) -> None:
    done = invoke("run", "-q", "--log-file", "run.log")
    assert done.stdout.startswith("prompt and tools together cause the drop: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    kept = (incident / "run.log").read_text()
    assert "this time: " in kept
    assert "How it was decided" in kept
    assert "of at most" in kept  # the progress


def test_verbose_prints_the_report_before_the_card(incident: Path) -> None:
    card = invoke("run").stdout
    whole = invoke("run", "-v").stdout
    assert whole.endswith(card)
    assert "Combinations" in whole


def test_options_can_be_set_by_the_environment(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISECT_AI_RUN_QUIET", "1")
    monkeypatch.setenv("BISECT_AI_RUN_MAX_CALLS", "20")
    done = invoke("run")
    assert done.exit_code == 3
    assert done.stdout.count("\n") == 1


def test_the_variable_of_an_option_is_its_own_word(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISECT_AI_RUN_JSON", "told.json")
    monkeypatch.setenv("BISECT_AI_RUN_LOG", "nowhere.jsonl")
    done = invoke("run")
    assert done.exit_code == 2 and "nowhere.jsonl" in done.stderr
    assert json.loads(Path("told.json").read_text())["verdict"]["kind"] == "failed"
    monkeypatch.setenv("BISECT_AI_PLAN_JSON", "yes")
    assert json.loads(invoke("plan").stdout)["good"]
    monkeypatch.setenv("BISECT_AI_PLAN_JSON", "0")
    assert invoke("plan").stdout.startswith("adaptive")


def test_a_step_of_github_gets_the_report_in_its_summary(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(incident / "summary.md"))
    invoke("run")
    assert (incident / "summary.md").read_text().startswith("## `prompt` and `tools` together cause the drop")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(incident / "nowhere" / "summary.md"))
    done = invoke("run")
    assert done.exit_code == 0
    assert "the step's summary was not written" in done.stderr


@pytest.mark.parametrize("words", [["run"], ["audit", "--history", "audits.jsonl"]])
def test_files_and_history_are_written_when_there_is_no_verdict(words: list[str], incident: Path) -> None:
    (incident / "app.py").write_text("def answer(query, release):\n    raise ConnectionError('refused')\n")
    files = ["--junit", "junit.xml", "--json", "run.json", "--markdown", "run.md", "--html", "run.html"]
    done = invoke(*words, *files)
    assert done.exit_code == 4
    verdict = json.loads((incident / "run.json").read_text())["verdict"]
    assert verdict["kind"] == "failed" and "refused" in verdict["sentence"]
    for name in ("run.md", "run.html"):
        assert "no verdict: " in (incident / name).read_text() and "refused" in (incident / name).read_text()
    assert 'errors="1"' in (incident / "junit.xml").read_text()
    assert "refused" in (incident / "junit.xml").read_text()
    if "--history" in words:
        row = json.loads((incident / "audits.jsonl").read_text())
        assert row["kind"] == "failed"
        assert "refused" in row["reason"]


def test_the_page_has_every_answer_with_the_texts_of_the_queries(incident: Path) -> None:
    invoke("run", "--html", "now.html", "-q")
    now = (incident / "now.html").read_text()
    assert now.count('data-outcome="') > 20
    run = invoke("runs").stdout.split()[0]
    invoke("report", run, "--html", "later.html")
    later = (incident / "later.html").read_text()
    assert later.count('class="asked"') == now.count('class="asked"') > 20


def _replayed(monkeypatch: pytest.MonkeyPatch, *words: object) -> bool:
    """Whether the command goes through the run's answers again."""

    def seen(*_: object, **__: object) -> None:
        raise BisectError("a replay began")

    with monkeypatch.context() as patched:
        patched.setattr(Study, "__init__", seen)
        done = invoke("run", *words)
    assert done.exit_code == 0 or "a replay began" in done.output, done.output
    return done.exit_code != 0


def test_a_finished_run_is_shown_from_the_store_without_a_replay(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("run", "--json", "first.json")
    assert not _replayed(monkeypatch, "--json", "again.json")
    assert (incident / "first.json").read_bytes() == (incident / "again.json").read_bytes()


def test_a_finished_run_is_replayed_once_by_another_version_of_the_program(
    incident: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("run")
    (before,) = json.loads(invoke("runs", "--history", "--json").stdout)
    monkeypatch.setattr(Prepared, "basis", "of another version")
    assert _replayed(monkeypatch)
    assert "this time: 0 calls made" in invoke("run").stderr
    assert not _replayed(monkeypatch)
    assert json.loads(invoke("runs", "--history", "--json").stdout) == [before]  # and it ended when it ended


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: _edit(folder / "bisect.yaml", "tolerance: 0.05", "tolerance: 0.05\nalpha: 0.04"),
        lambda folder: _edit(folder / "bisect.yaml", "segment: topic", "segment: id"),
        lambda folder: _add_comment(folder / "app.py"),
        lambda folder: _edit(folder / "releases" / "bad.yaml", "axes:", "axes:\n  sampling: {temperature: 0.5}"),
        lambda folder: (folder / "log.jsonl").write_text("\n".join((folder / "log.jsonl").read_text().splitlines()[:-1])),
        lambda folder: invoke("runs", "--purge-query", re.findall(r'"query":"(q[0-9]+)"', _journal(folder).read_text())[0]),
        lambda folder: _cut(_journal(folder)),
    ],
    ids=["alpha", "segment", "code", "release", "log", "purged", "damaged"],
)
def test_a_run_whose_basis_changed_is_replayed(
    incident: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    assert invoke("run").exit_code == 0
    change(incident)
    assert _replayed(monkeypatch)


def _add_comment(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


def _journal(folder: Path) -> Path:
    return next((folder / ".bisect-ai" / "journal").glob("*.journal"))


def _cut(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:10] + lines[11:]))


def test_answers_in_the_page_are_read_by_a_replay(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("run").exit_code == 0
    assert _replayed(monkeypatch, "--html", "page.html")


def test_a_run_without_a_verdict_goes_on(incident: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("run", "--max-calls", "20").exit_code == 3
    assert _replayed(monkeypatch, "--max-calls", "20")
