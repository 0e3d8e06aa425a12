"""A key that stands in the user's own log is in no artefact: reports in each format, audits, history, rollback, canary, live view.

Queries are stored and shown, so whatever a log holds may come out again at any of these places.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import ReleaseError
from bisect_ai.facts.run_facts import execute
from bisect_ai.report import html, junit, markdown, progress, terminal
from bisect_ai.runs.prepare import prepare, settle
from bisect_ai.runs.prepared import Prepared
from bisect_ai.targets.answer import Answer, ToolCall
from tests.faults.provider import Provider, Say
from tests.faults.test_redaction import ELSEWHERE, KEYS, NAMES, WRITTEN, A, H
from tests.faults.test_secrets import CANARY, FORMS, MARKS

REPORTS: dict[str, str] = {"json": "report.json", "markdown": "report.md", "html": "report.html", "junit": "report.xml"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BILLING_SECRET_2", CANARY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-quiet-000000")
    monkeypatch.chdir(tmp_path)


def incident(folder: Path, told: str, *, size: int = 150) -> None:
    """A folder with a config, two releases and a log whose every column holds the key; the bad prompt breaks a third."""
    (folder / "app.py").write_text(
        "def answer(query, release):\n"
        "    broken = release['prompt'] == 'long' and int(query.id[1:]) % 3 == 0\n"
        f"    return 'no {{}}'.format({told!r}) if broken else query.reference\n"
    )
    rows = [
        {
            "id": f"q{i}",
            "input": f"my key is {told}, why does {i} fail?",
            "reference": f"answer {i}",
            "note": told,
            "intent": f"about {told}",
            "user": f"{told}-{i}",
            "output": told,
            "release": "good",
            "history": [{"role": "user", "content": told}],
        }
        for i in range(size)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for side, axes in (
        ("good", {"prompt": "short", "model": "a", "tools": "x"}),
        ("bad", {"prompt": "long", "model": "b", "tools": "y"}),
    ):
        (folder / f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    settings = {
        "good": "good.yaml",
        "bad": "bad.yaml",
        "log": {"path": "log.jsonl", "segment": "intent", "cluster": "user"},
        "target": {"kind": "python", "function": "app:answer"},
        "scorers": [{"kind": "exact", "name": "correct"}],
        "budget": {"calls": 400},
        "drill": False,
    }
    (folder / "bisect.yaml").write_text(yaml.safe_dump(settings))


def run(folder: Path, told: str) -> None:
    incident(folder, told)
    _command("run", *_asked(), "--write-rollback", "rollback.yaml")
    assert (folder / "rollback.yaml").is_file()


def audit(folder: Path, told: str) -> None:
    incident(folder, told)
    _command("audit", *_asked(), "--history", "audits.jsonl", "--write-rollback", "rollback.yaml", "--max-calls", "250")
    assert (folder / "audits.jsonl").read_text().startswith("{")
    _command("runs", "--history", "--json")
    _command("runs", "--history")


def canary(folder: Path, told: str) -> None:
    rows = [
        {
            "id": f"{told} {i}",
            "release": "v1" if i % 2 else f"v2 {told}",
            "intent": f"{told} {i % 3}",
            "user": f"{told}{i}",
            "scores": {"correct": i % 4 != 0, f"other {told}": 1},
        }
        for i in range(200)
    ]
    (folder / "live.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["canary", "live.jsonl", "--baseline", "v1", "--segment", "intent", "--cluster", "user"]
    _command(*asked, "--canary", f"v2 {told}", "--metric", "correct", *_asked())
    for wrong in (["--canary", f"v3 {told}"], ["--canary", f"v2 {told}"], ["--canary", f"v2 {told}", "--metric", told]):
        _command(*asked, *wrong, expected=2)


def live_view(folder: Path, told: str) -> None:
    """The view in a terminal and in a log while a run goes on whose log and answers hold the key."""
    incident(folder, told)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out in (Terminal(), io.StringIO()):
        with progress.live(file=out) as update:
            prepared, place = _prepared(folder)
            execute(prepared, folder=place, watch=update)
        assert out.getvalue()
        (folder / f"{type(out).__name__}.txt").write_text(out.getvalue())


def _prepared(folder: Path) -> tuple[Prepared, Path]:
    settings, place = settle({"store": None}, config=folder / "bisect.yaml")
    return prepare(settings.model_copy(update={"store": None}), folder=place), place


WAYS: dict[str, Callable[[Path, str], None]] = {"run": run, "audit": audit, "canary": canary, "live view": live_view}


def _asked() -> list[str]:
    return [word for name, path in REPORTS.items() for word in (f"--{name}", path)]


def _command(*arguments: str, expected: int | None = None) -> None:
    """Runs it and keeps what it printed beside its files."""
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code in ((0, 1, 3) if expected is None else (expected,)), done.output
    with Path("printed.txt").open("a", encoding="utf-8") as file:
        file.write(done.output)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_no_key_of_the_log_is_in_what_comes_out(way: str, form: str, tmp_path: Path) -> None:
    WAYS[way](tmp_path, FORMS[form])
    own = {"app.py", "log.jsonl", "live.jsonl", "good.yaml", "bad.yaml", "bisect.yaml"}
    made = [path for path in _files(tmp_path) if path.name not in own]
    leaks = [(path.name, mark) for path in made for mark in MARKS[:-1] if mark in path.read_bytes()]
    assert made and not leaks


# -- any name, any form, any shape ---------------------------------------------------------------------------------------
ENVIRONMENT = {name: f"qz{i:02}x-Vault+{i}/end{i}" for i, name in enumerate(NAMES)}
"""Variable to the value that must not show."""


def _marks(secret: str) -> set[bytes]:
    """What of a secret would be seen in a byte scan, however it is written."""
    raw = secret.encode()
    texts = {form(secret) for name, form in WRITTEN.items() if not name.startswith(("json", "base64 after"))}
    return {text.encode() for text in texts} | {base64.b64encode(raw)[4:-8]}


def _every_form(secrets: Iterable[str]) -> str:
    return " | ".join(form(secret) for secret in secrets for form in WRITTEN.values())


def _scanned(folder: Path, marks: Iterable[bytes]) -> list[tuple[str, bytes]]:
    own = {"app.py", "log.jsonl", "live.jsonl", "good.yaml", "bad.yaml", "bisect.yaml", "values.txt"}
    made = {path: path.read_bytes() for path in _files(folder) if path.name not in own}
    assert {"report.json", "report.md", "report.html", "report.xml", "printed.txt"} <= {path.name for path in made}
    marks = set(marks)
    return [(path.name, mark) for path, held in made.items() for mark in marks if mark in held]


def everything(folder: Path, told: str) -> None:
    """Each command that shows or writes something of a run whose log, answers, errors and changes hold the secrets."""
    incident(folder, told, size=90)
    _command("run", *_asked(), "--write-rollback", "rollback.yaml")
    _command("audit", *_asked(), "--history", "audits.jsonl", "--max-calls", "120")
    run = json.loads((folder / "report.json").read_text())["run"]
    _command("report", run, "--postmortem", "--blast-radius", "hits.csv", "--json", "again.json", expected=0)
    _command("report", run, "--blast-radius", "hits.jsonl", expected=0)
    for words in (["runs", "--json"], ["runs", "--verify"], ["runs", "--history"], ["plan", "--json"], ["plan"]):
        _command(*words, expected=0)
    for words in (
        ["runs", "--purge-query", told[:200]],
        ["diff", "good.yaml", "bad.yaml"],
        ["diff", "good.yaml", "bad.yaml", "--json"],
    ):
        _command(*words, expected=0)
    _command("run", "--metric", told[:200], expected=2)


def test_no_credential_of_any_name_in_any_form_is_in_any_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [*ENVIRONMENT.values(), *(secret for _, secret in ELSEWHERE.values())]
    for name, value in {**ENVIRONMENT, **{name: value for name, (value, _) in ELSEWHERE.items()}}.items():
        monkeypatch.setenv(name, value)
    everything(tmp_path, _every_form(secrets))
    assert not _scanned(tmp_path, {mark for secret in secrets for mark in _marks(secret)})


def test_no_key_by_its_shape_is_in_any_artefact(tmp_path: Path) -> None:
    everything(tmp_path, " | ".join(KEYS.values()))
    assert not _scanned(tmp_path, {A.encode(), H.encode() * 2, b"QZ7F3A", b"hunter2"})


@pytest.mark.parametrize("way", [[], ["--json"]])
def test_a_diff_is_told_without_the_keys_in_it(way: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    told = _every_form(ENVIRONMENT.values()) + " ".join(KEYS.values())
    for side, text in (("good", "a"), ("bad", f"b {told}")):
        axes = {
            "prompt": {"system": f"{text}\nuse {told}\n{text * 9}"},
            "tools": [{"name": f"{text}", "description": told[:300]}],
        }
        (tmp_path / f"{side}.yaml").write_text(json.dumps({"release": side, "axes": axes}))
    shown = CliRunner().invoke(main, ["diff", "good.yaml", "bad.yaml", *way])
    assert shown.exit_code == 0 and "redacted" in shown.output
    marks = {mark for value in ENVIRONMENT.values() for mark in _marks(value)} | {A.encode(), b"QZ7F3A", b"hunter2"}
    assert not [mark for mark in marks if mark in shown.output_bytes]


def test_what_the_user_names_is_in_no_artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE", "the-name-of-the-house")
    secrets = ["the-name-of-the-house", "one of my values", "tucked.away"]
    (tmp_path / "values.txt").write_text("one of my values\nOTHER=tucked.away\n")
    incident(tmp_path, _every_form(secrets), size=90)
    settings = yaml.safe_load((tmp_path / "bisect.yaml").read_text())
    settings["secrets"] = {"env": ["HOUSE"], "values_from": "values.txt"}
    (tmp_path / "bisect.yaml").write_text(yaml.safe_dump(settings))
    _command("run", *_asked())
    _command("run", *_asked(), "--jobs", "2", "--store", "other")
    assert not _scanned(tmp_path, {mark for secret in secrets for mark in _marks(secret)})


def test_no_field_of_an_answer_is_kept_with_a_key(tmp_path: Path) -> None:
    def target(query: object, release: object) -> Answer:
        call = ToolCall(CANARY, {CANARY: CANARY, "password": "hunter2hunter"}, {"a": [CANARY]}, error=CANARY)
        return Answer(
            text="x",
            tool_calls=(call,),
            documents=({"id": CANARY, "authorization": "Basic aHVudGVyMmh1bnRlcg=="},),
            model_returned=CANARY,
            fingerprint=CANARY,
            outcome="failed",
            reason=CANARY,
            faults={CANARY: 1},
            endpoint=CANARY,
        )

    def score(query: object, answer: object) -> float:
        raise ValueError(CANARY)

    result = bisect_ai.run(
        good={"prompt": "a"},
        bad={"prompt": "b"},
        queries=[{"id": f"q{i} {CANARY}", "input": "x"} for i in range(4)],
        target=target,
        scorers={"scored": score, f"named {CANARY}": lambda query, answer: 1.0},
        metric="scored",
        store=tmp_path / "store",
        budget={"calls": 8},
        drill=False,
    )
    kept = (
        b"".join(path.read_bytes() for path in _files(tmp_path))
        + result.to_json().encode()
        + repr(result.observations["query"].tolist()).encode()
    )
    assert b"redacted" in kept
    assert not [mark for mark in (*MARKS, b"hunter2", b"aHVudGVy") if mark in kept]
    assert len(set(result.observations["query"])) == 4


def test_a_query_whose_id_holds_a_key_can_be_purged_by_it(tmp_path: Path) -> None:
    incident(tmp_path, CANARY, size=30)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({**row, "id": f"{row['id']} {CANARY}"}) + "\n" for row in rows))
    (tmp_path / "app.py").write_text("def answer(query, release):\n    return release['prompt']\n")
    _command("run", *_asked(), "--max-calls", "60", "--design", "full")
    told = [CliRunner().invoke(main, ["runs", "--purge-query", f"{row['id']} {CANARY}"]).output for row in rows[:20]]
    assert [text for text in told if "removed 0 answers" not in text]
    assert not [text for text in told if "canary" in text]


def test_headers_and_the_name_of_the_model_are_told_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(told: str) -> Say:
        return Say(
            body={"text": "Hello.", "model_returned": told, "fingerprint": told}, headers={"x-request-id": "sk-canary-1234"}
        )

    with Provider([say(CANARY)]) as provider:
        result = bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": "b"},
            queries=[{"id": f"q{i}", "input": "x", "reference": "Hello."} for i in range(4)],
            target={"kind": "http", "url": f"{provider.host}/x", "attempts": 1},
            scorers=[{"kind": "exact", "name": "correct"}],
            store=tmp_path / "store",
            budget={"calls": 8},
            drill=False,
        )
    kept = b"".join(path.read_bytes() for path in _files(tmp_path)) + result.to_json().encode()
    assert b"Hello." in kept and b"redacted" in kept
    assert not [mark for mark in MARKS if mark in kept]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_the_python_result_renders_without_the_key() -> None:
    rows = [{"id": f"{CANARY}{i}", "release": f"v{i % 2}", "intent": CANARY, "scores": {"ok": 1}} for i in range(40)]
    result = bisect_ai.canary(rows, baseline="v0", canary="v1", settings={"segment": "intent"})
    report = dict(result.report)
    pages = [result.to_json(), result._repr_html_(), *(page.render(report) for page in (terminal, markdown, junit, html))]
    assert not [mark for page in pages for mark in MARKS[:-1] if mark.decode() in page]


def test_an_axis_that_is_named_like_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live view shows names of axes, and so do all reports."""
    monkeypatch.setenv("BILLING_SECRET_2", "sk-canary.0123456789")
    with pytest.raises(ReleaseError, match="holds the value of the environment variable BILLING_SECRET_2") as refused:
        bisect_ai.run(
            good={"prompt": "a", "sk-canary.0123456789": "x"},
            bad={"prompt": "b", "sk-canary.0123456789": "y"},
            queries=[{"id": "q", "input": "hi"}, {"id": "r", "input": "hi"}],
            target=lambda query, release: "x",
            scorers=[{"kind": "length", "name": "length"}],
        )
    assert "sk-canary" not in str(refused.value)


def test_a_table_from_elsewhere_is_told_without_the_key() -> None:
    rows = [{"query": f"{CANARY} {i}", "prompt": c, "score": float(not c or i % 2)} for i in range(20) for c in (0, 1)]
    told = bisect_ai.attribute(rows, axes=["prompt"], metric=f"score of {CANARY}")
    assert CANARY not in told.to_json()
