"""A key that stands in the user's own log is in no artefact: reports in each format, audits, history, rollback, canary, live view.

Queries are stored and shown, so whatever a log holds may come out again at any of these places.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import bisect_ai
from bisect_ai.api import execute, prepare, settle
from bisect_ai.cli import main
from bisect_ai.errors import ReleaseError
from bisect_ai.report import html, junit, markdown, progress, terminal
from bisect_ai.study import Prepared
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
