"""Mistakes, each with the grade of its message: does it name what it is about, why that is wrong, and what to do?

A row is the mistake, the three fragments that its message must hold, and what it costs: nothing, for it is told before a call. The
grade is the number of fragments found. At least 75 of the mistakes have all three, none fewer than two.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from tests.unit.test_mistakes import APP, BAD, GOOD, ROWS, SETTINGS

LOG = "\n".join(map(json.dumps, ROWS))
SCORERS = "[{kind: exact, name: correct, expected: reference}]"
SCORER = SCORERS.strip("[]")
TARGET = "{kind: python, function: app:answer}"
LOGGED = "{path: log.jsonl}"


class Mistake(NamedTuple):
    """What was typed or written wrong, and what its message must name."""

    name: str
    files: dict[str, str]
    about: str
    why: str
    todo: str
    command: str = "run"


def written(before: str, after: str) -> dict[str, str]:
    """bisect.yaml with a part of it replaced."""
    assert before in SETTINGS, before
    return {"bisect.yaml": SETTINGS.replace(before, after)}


def logged(options: str) -> dict[str, str]:
    return written(LOGGED, f"{{path: log.jsonl, {options}}}")


def released(text: str) -> dict[str, str]:
    """The bad release with another system prompt."""
    return {"v2.yaml": BAD.replace('"Be vague."', text)}


def tooled(tools: str) -> dict[str, str]:
    return {"v1.yaml": GOOD + f"  tools: {tools}\n", "v2.yaml": BAD + f"  tools: {tools}\n"}


SETTINGS_MISTAKES = [
    Mistake("key misspelt", written("good:", "gooood:"), "bisect.yaml", "unknown key 'gooood'", "did you mean 'good'?"),
    Mistake("no bad", written("bad: v2.yaml\n", ""), "the key 'bad'", "is missing", "bisect-ai drift"),
    Mistake("no good", written("good: v1.yaml\n", ""), "the key 'good'", "is missing", "for example good: releases/v1.yaml"),
    Mistake("no log", written(f"log: {LOGGED}\n", ""), "log", "no log is named", "set log.path"),
    Mistake("no log path", written(LOGGED, "{format: jsonl}"), "log", "no log is named", "set log.path"),
    Mistake("no target", written(f"target: {TARGET}\n", ""), "'target'", "is missing", "for example target: {kind: python"),
    Mistake("no scorers", written(SCORERS, "[]"), "scorers", "is empty", "for example {kind: exact"),
    Mistake("log a list", written(LOGGED, "[log.jsonl]"), "key 'log'", "it takes keys with values", "write log: {path:"),
    Mistake("log key misspelt", logged("fromat: jsonl"), "bisect.yaml", "unknown key 'log.fromat'", "did you mean 'format'?"),
    Mistake("log format", logged("format: langfusee"), "key 'log.format'", "got 'langfusee'", "did you mean 'langfuse'?"),
    Mistake(
        "field misspelt", logged("columns: {inptu: input}"), "log.columns", "'inptu' is none of ours", "did you mean 'input'"
    ),
    Mistake(
        "column misspelt", logged("columns: {input: questoin}"), "the log", "no column 'questoin'", "it has id, input, part"
    ),
    Mistake("columns a list", logged("columns: [input]"), "'log.columns'", "takes keys with values", "{input: question}"),
    Mistake("segment misspelt", logged("segment: prat"), "the log", "has no column 'prat'", "did you mean 'part'?"),
    Mistake("segment a list", logged("segment: [part]"), "key 'log.segment'", "it takes a text", "write log.segment: intent"),
    Mistake("no such cluster", logged("cluster: user"), "the log", "has no column 'user'", "it has id, input, part"),
    Mistake("sample of none", logged("sample: 0"), "key 'log.sample'", "got '0'", "it must be 2 or more"),
    Mistake("sample below none", logged("sample: -5"), "key 'log.sample'", "got '-5'", "it must be 2 or more"),
    Mistake(
        "where without quotes", logged("where: part == a"), "log.where 'part == a'", '"a" not found', "texts in single quotes"
    ),
    Mistake(
        "where of no column", logged("where: \"plan = 'pro'\""), "log.where", "names no column of the log", "it has id, input"
    ),
    Mistake(
        "where no SQL", logged('where: "part ==== 1"'), "log.where 'part ==== 1'", "does not exist", "write a DuckDB condition"
    ),
    Mistake("where of nobody", logged("where: \"part = 'z'\""), "40 records", "40 left out by where", "widen log.where"),
    Mistake("since no time", logged("since: yesterday"), "(log)", "cannot read 'yesterday' as a time", "write 2026-11-20"),
    Mistake("target kind", written("kind: python", "kind: pyhton"), "target", "'pyhton' is unknown", "did you mean 'python'?"),
    Mistake(
        "no target kind", written("kind: python, ", ""), "target", "the kind None is unknown", "use one of litellm, python"
    ),
    Mistake(
        "target a text",
        written(TARGET, "app:answer"),
        "target",
        "the kind 'app:answer' is unknown",
        "use one of litellm, python",
    ),
    Mistake(
        "target key", written("function:", "func:"), "kind python", "unknown key 'func'", "it takes `function: module:function`"
    ),
    Mistake("no function", written(", function: app:answer", ""), "kind python", "`function` is missing", "write function:"),
    Mistake(
        "no colon",
        written("app:answer", "app"),
        "cannot import 'app'",
        "not of the form module:function",
        "for example app:answer",
    ),
    Mistake("no module", written("app:answer", "aap:answer"), "'aap:answer'", "no module 'aap' in", "or put aap.py there"),
    Mistake(
        "no such name", written("app:answer", "app:anser"), "'app:anser'", "has no 'anser'", "define it, or correct the name"
    ),
    Mistake(
        "no package",
        written("app:answer", "needy:answer"),
        "'needy:answer'",
        "'nosuchpackage', which is not",
        "install it where",
    ),
    Mistake("no Python", written("app:answer", "broken:answer"), "'broken:answer'", "SyntaxError", "correct the module"),
    Mistake(
        "one argument",
        written("app:answer", "one:answer"),
        "cannot use answer",
        "too many positional",
        "define answer(query, release)",
    ),
    Mistake("not callable", written("app:answer", "app:NUMBER"), "'app:NUMBER'", "which cannot be called", "name a function"),
    Mistake("no url", written(TARGET, "{kind: http}"), "kind http", "`url` is missing", "write url: https://host/path"),
    Mistake(
        "no address",
        written(TARGET, "{kind: http, url: localhost:9}"),
        "target.url",
        "is no http or https",
        "write url: https://",
    ),
    Mistake(
        "no records", written(TARGET, "{kind: recorded}"), "kind recorded", "it takes `records`", "write records: answers.jsonl"
    ),
    Mistake(
        "command without git",
        written(TARGET, "{kind: command}"),
        "kind command",
        "runs in folders with mixtures",
        "use python or http",
    ),
    Mistake(
        "a tab", written("log: {path", "log:\n\tpath"), "bisect.yaml, line 4", "cannot start any token", "indent with spaces"
    ),
    Mistake("a bracket", written("log.jsonl}", "log.jsonl"), "bisect.yaml, line 4", "expected ',' or '}'", "close the bracket"),
    Mistake(
        "settings a list", {"bisect.yaml": "- good: v1.yaml\n"}, "'bisect.yaml'", "it holds a list", "`bisect-ai init FOLDER`"
    ),
    Mistake("settings empty", {"bisect.yaml": ""}, "'bisect.yaml'", "it holds nothing", "`bisect-ai init FOLDER`"),
    Mistake(
        "a key twice", {"bisect.yaml": f"{SETTINGS}good: v2.yaml\n"}, "line 9", "the key 'good' is there twice", "keep one"
    ),
    Mistake("a percentage", written("0.02", "5%"), "key 'tolerance'", "it takes a number, got '5%'", "did you mean 0.05?"),
    Mistake("tolerance of 5", written("0.02", "5"), "tolerance 5", "lie between 0 and 1", "did you mean 0.05?"),
    Mistake(
        "detect of 5",
        written("tolerance: 0.02", "audit: {detect: 5}"),
        "audit.detect 5",
        "lie between 0 and 1",
        "did you mean 0.05?",
    ),
    Mistake("tolerance below 0", written("0.02", "-0.1"), "key 'tolerance'", "got '-0.1'", "it must be 0"),
    Mistake(
        "alpha of 95",
        written("tolerance: 0.02", "alpha: 95"),
        "key 'alpha'",
        "the chance of a wrong verdict",
        "did you mean 0.05?",
    ),
    Mistake("alpha of 0", written("tolerance: 0.02", "alpha: 0"), "key 'alpha'", "got '0'", "it must be more than 0"),
    Mistake(
        "budget a number",
        written("{calls: 600}", "600"),
        "key 'budget'",
        "takes keys with values",
        "write budget: {calls: 600}",
    ),
    Mistake("budget a word", written("calls: 600", "calls: many"), "'budget.calls'", "got 'many'", "it takes a whole number"),
    Mistake(
        "budget key",
        written("calls: 600", "dollars: 5"),
        "bisect.yaml",
        "unknown key 'budget.dollars'",
        "known: calls, requests, usd",
    ),
    Mistake("one call", written("calls: 600", "calls: 1"), "key 'budget.calls'", "got '1'", "it must be 2 or more"),
    Mistake(
        "metric", written("metric: correct", "metric: corect"), "metric 'corect'", "no scorer has that name", "one of: correct"
    ),
    Mistake("no metric", written("}]\nmetric: correct", "}, {kind: exact}]"), "2 scorers", "no `metric`", "set it to"),
    Mistake(
        "one name twice",
        written("}]\n", "}, {kind: exact, name: correct}]\n"),
        "'correct'",
        "two scorers have",
        "give each its own",
    ),
    Mistake(
        "scorer kind", written("kind: exact", "kind: exakt"), "scorers[0]", "unknown kind 'exakt'", "did you mean 'exact'?"
    ),
    Mistake(
        "scorers a mapping", written(SCORERS, "{correct: exact}"), "scorer 'correct'", "is a str", "for example - {kind: exact"
    ),
    Mistake(
        "no such column",
        written("d: reference", "d: referense"),
        "'correct'",
        "no sampled query has",
        "name another with `expected`",
    ),
    Mistake(
        "scorer key",
        written("expected:", "expect:"),
        "scorers[0] (correct)",
        "unknown key 'expect'",
        "did you mean 'expected'?",
    ),
    Mistake(
        "judge", written(SCORER, "{kind: judge, name: j, rubric: ok?}"), "scorers[0] (j)", "'model' is missing", "guide scorers"
    ),
    Mistake(
        "scorer of one argument",
        written(SCORER, "{kind: python, name: correct, function: one:answer}"),
        "scorers[0] (correct)",
        "too many positional arguments",
        "define answer(query, answer)",
    ),
    Mistake("pattern", written(SCORER, "{kind: regex, name: correct, pattern: '('}"), "pattern '('", "missing )", "correct it"),
    Mistake(
        "couplings flat",
        written("tolerance: 0.02", "couplings: [model]"),
        "'couplings.0'",
        "it takes a list",
        "[[prompt, tools]]",
    ),
    Mistake(
        "coupled axis",
        written("tolerance: 0.02", "couplings: [[model, x]]"),
        "couplings",
        "no release has an axis 'x'",
        "the axes are",
    ),
    Mistake(
        "design", written("tolerance: 0.02", "design: adaptiv"), "key 'design'", "got 'adaptiv'", "did you mean 'adaptive'?"
    ),
    Mistake(
        "store a file", written("tolerance: 0.02", "store: one.py"), "one.py", "cannot create the store", "name another folder"
    ),
]
FILE_MISTAKES = [
    Mistake("no such log", written("log.jsonl", "gone.jsonl"), "gone.jsonl", "no such file", "correct the path"),
    Mistake("empty log", written("log.jsonl", "empty.jsonl"), "the log", "holds no records", "is the file empty?"),
    Mistake("spreadsheet", written("log.jsonl", "sheet.xlsx"), "sheet.xlsx", "it is a spreadsheet", "save the sheet as CSV"),
    Mistake("log a folder", written("log.jsonl", "folder"), "folder", "not a regular file", "name files, for example"),
    Mistake(
        "half a line",
        {"log.jsonl": LOG.replace('"id": "q3"', '"id": "q3')},
        "line 4",
        "Expecting ',' delimiter",
        "set skip_bad",
    ),
    Mistake(
        "no question",
        {"log.jsonl": '{"id": 1, "frage": "x"}\n{"id": 2, "frage": "y"}'},
        "2 records",
        "no input",
        "{input: frage}",
    ),
    Mistake(
        "one id", {"log.jsonl": LOG.replace('"q4"', '"q3"')}, "the id 'q3'", "records that differ", "a column that is unique"
    ),
    Mistake("log in YAML", written("log.jsonl", "v1.yaml"), "v1.yaml", "cannot tell the format", "write it as JSONL or CSV"),
    Mistake("no such release", written("good: v1", "good: v0"), "v0.yaml", "no such file or directory", "check the path"),
    Mistake(
        "one release", written("bad: v2", "bad: v1"), "'v1' and 'v1'", "identical in every axis", "check that good and bad"
    ),
    Mistake(
        "no axes", {"v2.yaml": "release: v2\nmodel: {model: m}\n"}, "v2.yaml", "unknown key 'model'", "stand below `axes:`"
    ),
    Mistake("no such prompt", released("{file: gone.md}"), "'gone.md'", "no such file or directory", "check the path"),
    Mistake(
        "no variable", released("{env: NO_SUCH_VARIABLE}"), "'NO_SUCH_VARIABLE'", "is not set", "set it, or write the value"
    ),
    Mistake(
        "no revision", released('{git: "HEAD:x.md"}'), "'axes.prompt.system'", "not a git repository", "check the revision"
    ),
    Mistake("release no YAML", {"v2.yaml": "release: [v2\n"}, "v2.yaml, line 2", "expected ',' or ']'", "close the bracket"),
]
COMMAND_MISTAKES = [
    Mistake("no settings", {}, "other.yaml", "no such file", "`bisect-ai init` writes", "run other.yaml"),
    Mistake("option", {}, "'--buget'", "No such option", "use --max-calls", "run --buget 5"),
    Mistake("calls a word", {}, "'--max-calls'", "'abc' is no whole number", "Try '", "run --max-calls abc"),
    Mistake("one call asked", {}, "'--max-calls'", "1 is not in the range", "x>=2", "run --max-calls 1"),
    Mistake("command", {}, "'rnu'", "No such command", "Did you mean 'run'?", "rnu"),
    Mistake("no run named", {}, "'RUN'", "Missing argument", "`bisect-ai runs` lists them", "report"),
    Mistake("no store", {}, "the store .bisect-ai", "there is none", "name it with --store", "report deadbeef"),
    Mistake("demo in use", {}, "demo to .", "a bisect.yaml of another incident", "name another folder", "demo ."),
    Mistake("no results", {}, "a.json", "no such file", "correct the path", "compare a.json b.json"),
    Mistake(
        "no folder", {}, "no/such/r.html", "there is no folder", "make it, or name another file", "run --html no/such/r.html"
    ),
    Mistake(
        "two on one output", {}, "--json and --markdown", "at once", "name a file for all but one", "run --json - --markdown -"
    ),
    Mistake("no git", {}, "'v1'", "lies in no git repository", "name one with `repo:`", "run v1..v2"),
    Mistake("no labels", {}, "the baseline?", "which release", "name its label in the log with --baseline", "canary log.jsonl"),
    Mistake("no scores", {}, "the log", "has none", "add a column of that name", "onset log.jsonl"),
    Mistake("no such guide", {}, "'verdcit'", "none begins so", "there are first-incident", "guide verdcit"),
    Mistake("no such shell", {}, "'tcsh'", "is not one of", "'bash', 'zsh', 'fish'", "completion tcsh"),
    Mistake("init in use", {}, "bisect.yaml", "it is there already", "name another folder", "init ."),
    Mistake("no such place", {}, "--notify slak", "cannot use", "write slack:ENV", "run --notify slak:URL"),
    Mistake("no base", {}, "'--base'", "Missing option", "for example --base origin/main", "gate"),
    Mistake("bad a folder", written("bad: v2.yaml", "bad: folder"), "folder'", "it is a folder", "or a git revision"),
    Mistake("bad a log", written("bad: v2.yaml", "bad: log.jsonl"), "log.jsonl'", "hold records, as a log", "with `axes:`"),
    Mistake(
        "sign of money", written("{calls: 600}", "{usd: $5}"), "key 'budget.usd'", "it takes a number", "write budget.usd: 5"
    ),
    Mistake(
        "run and fix swapped",
        {},
        "'v2.yaml'",
        "it is a file, and RUN comes first",
        "verify 3f2a v2.yaml",
        "verify v2.yaml 3f2a",
    ),
    Mistake("store in a file", {}, "create the store", "a file has that name", "name another folder", "run --store app.py"),
    Mistake("report a folder", {}, "cannot write to folder", "it is a folder", "name a file in it", "run --html folder"),
    Mistake(
        "Slack's address",
        {},
        "--notify slack",
        "is a secret",
        "write --notify slack:SLACK_URL",
        "run --notify slack:https://a/b",
    ),
    Mistake("gate without git", {}, "repository", "lies in no git", "name one with `repo:`", "gate --base main"),
]
REFUSED = [*SETTINGS_MISTAKES, *FILE_MISTAKES, *COMMAND_MISTAKES]
TOLD_BESIDE = [
    Mistake(
        "type of a schema", tooled("[{name: a, parameters: {type: objekt}}]"), "tool 'a'", "'objekt' is no type", "did you mean"
    ),
    Mistake(
        "parts of a schema", tooled("[{name: a, parameters: {properties: [x]}}]"), "tool 'a'", "is a list", "write a mapping"
    ),
    Mistake("tools a number", tooled("3"), "the tools axis", "it is a int", "give a list of tools"),
    Mistake("one tool twice", tooled("[{name: a}, {name: a}]"), "two tools", "have the name 'a'", "give each its own"),
    Mistake("one query", {"log.jsonl": json.dumps(ROWS[0])}, "the log has", "1 query to ask", "log more"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"v1.yaml": GOOD, "v2.yaml": BAD, "bisect.yaml": SETTINGS, "log.jsonl": LOG, "empty.jsonl": "", "folder/x": "1"}
    files |= {"app.py": f"{APP}NUMBER = 3\n", "needy.py": f"import nosuchpackage\n{APP}", "broken.py": "def answer(:\n"}
    files["one.py"] = "def answer(query):\n    return ''\n"
    (tmp_path / "folder").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "sheet.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<x/>")
        book.writestr("xl/workbook.xml", "<x/>")
    return tmp_path


def message_of(mistake: Mistake, folder: Path) -> tuple[int, str]:
    """The exit code and what was printed."""
    for name, text in mistake.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for module in ("app", "needy", "broken", "one", "aap"):
        sys.modules.pop(module, None)
    done = CliRunner().invoke(main, mistake.command.split())
    return done.exit_code, " ".join(done.output.split())


def grade(mistake: Mistake, message: str) -> int:
    """0 to 3: whether it names what it is about, why that is wrong, what to do."""
    return sum(part in message for part in (mistake.about, mistake.why, mistake.todo))


@pytest.mark.parametrize("mistake", REFUSED, ids=lambda mistake: mistake.name)
def test_a_mistake_is_refused_with_a_message_of_full_marks(mistake: Mistake, folder: Path) -> None:
    code, message = message_of(mistake, folder)
    assert code == 2, message
    assert grade(mistake, message) == 3, message
    assert not (folder / ".bisect-ai").exists()
    assert "Traceback" not in message


@pytest.mark.parametrize("mistake", TOLD_BESIDE, ids=lambda mistake: mistake.name)
def test_what_may_be_meant_so_is_told_beside_the_verdict(mistake: Mistake, folder: Path) -> None:
    _, message = message_of(mistake, folder)
    assert grade(mistake, message) == 3, message


def test_a_function_that_asks_for_an_axis_that_is_not_there_hears_which_are(folder: Path) -> None:
    wrong = {"app.py": "def answer(query, release): return release['promt']['system']\n"}
    code, message = message_of(Mistake("axis", wrong, "KeyError", "no 'promt'", "in model, prompt"), folder)
    assert code == 4 and "no 'promt' in model, prompt" in message, message


def test_events_that_are_not_there_are_no_log(folder: Path) -> None:
    live = {"live.jsonl": "\n".join(json.dumps({**row, "scores": {"ok": 1.0}}) for row in ROWS)}
    words = "onset live.jsonl --events deploy.jsonl"
    nowhere = Mistake("events", live, "cannot read the events", "no such file", "correct the path", words)
    code, message = message_of(nowhere, folder)
    assert code == 2 and grade(nowhere, message) == 3, message


def test_a_function_that_returns_nothing_is_told_so(folder: Path) -> None:
    nothing = Mistake(
        "nothing", {"app.py": "def answer(query, release): 1\n"}, "the target", "returned nothing (None)", "`return`"
    )
    code, message = message_of(nothing, folder)
    assert code == 2 and grade(nothing, message) == 3, message


def test_a_wrong_value_of_a_variable_names_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISECT_AI_RUN_MAX_CALLS", "lots")
    held = Mistake(
        "variable", {}, "'lots' is no whole number", "in the variable BISECT_AI_RUN_MAX_CALLS", "correct or unset it"
    )
    code, message = message_of(held, folder)
    assert code == 2 and grade(held, message) == 3, message


def test_there_are_as_many_as_were_tried() -> None:
    everything = [*REFUSED, *TOLD_BESIDE]
    assert len(everything) >= 88
    assert len({mistake.name for mistake in everything}) == len(everything)
