"""What people get wrong, and the one line that they are told: on what, why, and what to do."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main

GOOD = 'release: v1\naxes:\n  model: {model: m-1}\n  prompt: {system: "Be exact.", user: "{input}"}\n'
BAD = GOOD.replace("v1", "v2").replace("exact", "vague")
APP = "def answer(query, release):\n    return query.reference\n"
ROWS = [{"id": f"q{i}", "input": f"what is {i}?", "reference": str(7 * i), "part": "ab"[i % 2]} for i in range(40)]
SETTINGS = """good: v1.yaml
bad: v2.yaml
log: {path: log.jsonl}
target: {kind: python, function: app:answer}
scorers: [{kind: exact, name: correct, expected: reference}]
metric: correct
tolerance: 0.02
budget: {calls: 600}
"""
MISTAKES = [
    ("good: v1", "gooood: v1", "unknown key 'gooood'; did you mean 'good'?"),
    ("bad: v2.yaml\n", "", "the key 'bad' is missing; with one release: bisect-ai drift"),
    (
        "target: {kind: python, function: app:answer}\n",
        "",
        "the key 'target' is missing; say what answers, for example target: {kind:",
    ),
    ("function:", "func:", "target of kind python: unknown key 'func'; it takes `function: module:function`"),
    (", function: app:answer", "", "target of kind python: `function` is missing; write function: module:function"),
    ("kind: python", "kind: pyhton", "the kind 'pyhton' is unknown; did you mean 'python'?"),
    ("kind: python, function: app:answer", "kind: http", "`url` is missing; write url: https://host/path"),
    ("log: {path", "log:\n\tpath", "line 4, column 1: found character that cannot start any token (YAML); is it a tab? indent"),
    ("log.jsonl}", "log.jsonl", "did not find expected ',' or '}' (YAML); close the bracket, and quote texts"),
    ("tolerance: 0.02", "tolerance: 5%", "key 'tolerance': it takes a number, got '5%'; did you mean 0.05?"),
    ("tolerance: 0.02", "tolerance: 5", "did you mean 0.05?"),
    ("tolerance: 0.02", "alpha: 95", "it is the chance of a wrong verdict: did you mean 0.05?"),
    ("tolerance: 0.02", "alpha: 0.95", "it is the chance of a wrong verdict: did you mean 0.05?"),
    ("{calls: 600}", "600", "key 'budget': it takes keys with values, got '600'; write budget: {calls: 600}"),
    ("{calls: 600}", "{calls: many}", "key 'budget.calls': it takes a whole number, got 'many'"),
    ("{path: log.jsonl}", "{path: log.jsonl, format: langfusee}", "got 'langfusee'; did you mean 'langfuse'?"),
    ("{path: log.jsonl}", "{path: log.jsonl, segment: [part]}", "key 'log.segment': it takes a text, got"),
    ("tolerance: 0.02", "couplings: [model, prompt]", "it takes a list, got 'model'; write couplings: [[prompt, tools]]"),
    ("app:answer", "aap:answer", "or installed; correct the name, or put aap.py there"),
    ("app:answer", "needy:answer", "which is not installed; install it where bisect-ai is"),
    ("app:answer", "one:answer", "cannot use answer: too many positional arguments; define answer(query, release)"),
    (
        "{kind: exact, name: correct, expected: reference}",
        "{kind: python, name: correct, function: one:answer}",
        "define answer(query, answer)",
    ),
    ("[{kind: exact, name: correct, expected: reference}]", "{correct: exact}", "for example - {kind: exact, name: correct}"),
    (
        "{kind: exact, name: correct, expected: reference}",
        "{kind: judge, name: correct, rubric: right?}",
        "the key 'model' is missing; `bisect-ai guide",
    ),
    (
        "reference}]\nmetric: correct",
        "reference}, {kind: exact, expected: id}]",
        "there are 2 scorers and no `metric`: set it to",
    ),
    ("log.jsonl}", "sheet.xlsx}", "it is a spreadsheet; save the sheet as CSV (UTF-8) and name that"),
    ("log.jsonl}", "gone.jsonl}", "no such file; correct the path (it may be a pattern such as logs/*.jsonl)"),
    ("log.jsonl}", "empty.jsonl}", "the log holds no records; check log.path: is the file empty?"),
    (SETTINGS, "- good: v1.yaml\n", "it holds a list, not a mapping of keys to values; `bisect-ai init FOLDER` writes files"),
]
COMMANDS = [
    ("run --buget 5", "No such option '--buget': use --max-calls, --max-usd or --max-minutes."),
    ("run --max-calls abc", "'abc' is no whole number"),
    ("report", "Missing argument 'RUN'. Name a run, or the beginning of its id; `bisect-ai runs` lists them."),
    ("verify", "`bisect-ai runs` lists them"),
    ("demo .", "it holds a bisect.yaml of another incident; name another folder"),
    ("compare a.json b.json", "no such file; correct the path"),
]


@pytest.fixture
def incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {"v1.yaml": GOOD, "v2.yaml": BAD, "app.py": APP, "bisect.yaml": SETTINGS, "empty.jsonl": ""}
    files |= {"needy.py": f"import nosuchpackage\n{APP}", "one.py": "def answer(query):\n    return ''\n"}
    files["log.jsonl"] = "\n".join(map(json.dumps, ROWS))
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "sheet.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<x/>")
        book.writestr("xl/workbook.xml", "<x/>")
    return tmp_path


@pytest.mark.parametrize(("written", "instead", "told"), MISTAKES, ids=[told[:60] for _, _, told in MISTAKES])
def test_a_mistake_in_the_settings_is_one_line_that_says_what_to_do(
    incident: Path, written: str, instead: str, told: str
) -> None:
    assert written in SETTINGS
    (incident / "bisect.yaml").write_text(SETTINGS.replace(written, instead), encoding="utf-8")
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 2
    assert told in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (incident / ".bisect-ai").exists()


@pytest.mark.parametrize(("typed", "told"), COMMANDS, ids=[typed for typed, _ in COMMANDS])
def test_a_mistake_in_the_command_says_what_to_do(incident: Path, typed: str, told: str) -> None:
    done = CliRunner().invoke(main, typed.split())
    assert done.exit_code == 2
    assert told in done.output


def shown(settings: str = SETTINGS) -> str:
    Path("bisect.yaml").write_text(settings, encoding="utf-8")
    return " ".join(CliRunner().invoke(main, ["run"]).output.split())


def test_what_was_guessed_of_a_log_is_on_the_card(incident: Path) -> None:
    rows = [f"{row['id']};{row['input']};{row['reference']}" for row in ROWS]
    (incident / "log.csv").write_text("\n".join(["id;input;reference", *rows]), encoding="utf-8")
    told = shown(SETTINGS.replace("log.jsonl", "log.csv"))
    assert "Beware the columns of log.csv are read as separated by semicolons (guessed)" in told
    named = [{"id": row["id"], "question": row["input"], "expected_answer": row["reference"]} for row in ROWS]
    (incident / "log.jsonl").write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    assert "read as columns: {input: question, reference: expected_answer} (guessed)" in shown()


def test_releases_the_wrong_way_round_are_noticed(incident: Path) -> None:
    worse = 'def answer(query, release):\n    return query.reference if "vague" in release["prompt"]["system"] else "?"\n'
    (incident / "swapped.py").write_text(worse, encoding="utf-8")
    assert "if v2 is the older one, good and bad are swapped" in shown(SETTINGS.replace("app:answer", "swapped:answer"))


def test_a_budget_too_small_and_answers_that_are_empty_say_what_to_do(incident: Path) -> None:
    assert "too few answers for any estimate: allow more calls" in shown(SETTINGS.replace("600", "3"))
    (incident / "silent.py").write_text('def answer(query, release):\n    return ""\n', encoding="utf-8")
    told = shown(SETTINGS.replace("app:answer", "silent:answer"))
    assert "Do now bisect-ai run --store .bisect-ai-2 once you have seen why nothing is answered" in told
