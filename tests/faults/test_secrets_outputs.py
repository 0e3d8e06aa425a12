"""A byte scan of what leaves beside the reports: suites, learnt and frozen releases, payloads of --notify, logs, step summaries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from tests.faults.provider import Provider
from tests.faults.test_notify import Place, place  # noqa: F401 - a fixture
from tests.faults.test_redaction import KEYS, A, H
from tests.faults.test_secrets_artefacts import ENVIRONMENT, _every_form, _marks, incident
from tests.wire_shop import shop

MARKS = {mark for value in ENVIRONMENT.values() for mark in _marks(value)} | {A.encode(), H.encode() * 2, b"QZ7F3A", b"hunter2"}
OWN = {"app.py", "log.jsonl", "live.jsonl", "good.yaml", "bad.yaml", "bisect.yaml", "agent.py"}
AGENT = Path(__file__).parent.parent / "wire_agents" / "plain_agent.py"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every secret in every form, in the environment of a folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return f"{_every_form(ENVIRONMENT.values())} {' | '.join(KEYS.values())}"


def command(*words: str, codes: tuple[int, ...] = (0, 1, 3)) -> str:
    done = CliRunner().invoke(main, list(words))
    with Path("printed.txt").open("a", encoding="utf-8") as file:
        file.write(done.output)
    assert done.exit_code in codes, done.output[:4000]
    return done.output


def leaks(folder: Path) -> list[tuple[str, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in OWN and "__pycache__" not in path.parts)
    made = {path: path.read_bytes() for path in files}
    assert made
    return [(str(path.relative_to(folder)), mark) for path, held in made.items() for mark in MARKS if mark in held]


def test_no_suite_log_or_summary_holds_a_secret(told: str, tmp_path: Path) -> None:
    incident(tmp_path, told, size=90)
    command("run", "--log-file", "run.log", "-v", "--html", "report.html", "--json", "report.json")
    assert "trial" in (tmp_path / "report.html").read_text() and (tmp_path / "summary.md").stat().st_size > 200
    run = json.loads((tmp_path / "report.json").read_text())["run"]
    for kind in ("pytest", "promptfoo", "inspect", "langfuse"):
        command("report", run, "--regression-suite", kind, "--suite", f"suite-{kind}", codes=(0,))
        assert b"redacted" in (tmp_path / f"suite-{kind}" / "cases.json").read_bytes()
    command("onset", "log.jsonl", "--metric", "correct", "--log-file", "run.log", codes=(0, 1, 2))
    command("drift", "--log-file", "run.log", "--store", "drift", "--max-calls", "60", codes=(0, 1, 2, 3))
    assert leaks(tmp_path) == []


@pytest.fixture
def places(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:  # noqa: F811 - a fixture
    monkeypatch.setenv("HOOK", place.address)
    monkeypatch.setenv("GITHUB_API_URL", place.address)
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("GITHUB_REF", "refs/pull/7/merge")
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    for name, value in (("HOST", place.address), ("PUBLIC_KEY", "pk-lf-1"), ("SECRET_KEY", "sk-lf-1")):
        monkeypatch.setenv(f"LANGFUSE_{name}", value)
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", place.address)
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_of-this-test")
    place.answers["GET"] = []
    yield place


def test_no_place_that_is_told_gets_a_secret(told: str, tmp_path: Path, places: Place) -> None:
    incident(tmp_path, told, size=90)
    sinks = ["slack:HOOK", "webhook:HOOK", "github", "langfuse", "phoenix"]
    notify = [word for sink in sinks for word in ("--notify", sink)]
    command("run", *notify)
    rows = [
        {
            "id": f"{told[:300]} {i}",
            "release": f"v{i % 2} {told}",
            "intent": told,
            "scores": {"correct": i % 4 != 0, told[:200]: 1},
        }
        for i in range(200)
    ]
    (tmp_path / "live.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--baseline", f"v0 {told}", "--canary", f"v1 {told}", "--metric", "correct", "--segment", "intent"]
    command("canary", "live.jsonl", *asked, *notify, codes=(0, 1, 2, 3))
    command("compare", "live.jsonl", "--by", "release", "--metric", "correct", *notify, codes=(0, 1, 2, 3))
    assert len(places.came) >= 2 * len(sinks)
    bodies = json.dumps([body for _, _, _, body in places.came]).encode() + repr(places.came).encode()
    assert [mark for mark in MARKS if mark in bodies] == []
    assert leaks(tmp_path) == []


def test_no_option_from_the_environment_shows_a_secret(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incident(tmp_path, told, size=20)
    for option in ("METRIC", "MAX_CALLS", "SAMPLE", "LOG", "GOOD", "NOTIFY", "DESIGN", "BACKEND", "SCHEDULER"):
        with monkeypatch.context() as patch:
            patch.setenv(f"BISECT_AI_RUN_{option}", told[:240])
            assert command("run", codes=(0, 2)).strip()
    for words in (
        ["run", f"--{told[:60]}"],
        [told[:60]],
        ["guide", told[:60]],
        ["report", told[:200]],
        ["diff", told[:200], "x"],
    ):
        command(*words, codes=(2,))
    assert leaks(tmp_path) == []


def test_no_learnt_or_frozen_release_holds_a_secret(told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By value (one of the environment) and by shape: what an agent sends may hold its own key."""
    (tmp_path / "log.jsonl").write_text('{"id": "a", "input": "x", "reference": "y"}\n')
    (tmp_path / "bisect.yaml").write_text('{"log": "log.jsonl", "scorers": [{"kind": "contains", "name": "correct"}]}')
    monkeypatch.setenv("OPENAI_API_KEY", "sk-quiet-0123456789")
    secrets: dict[str, Any] = {"by value": next(iter(ENVIRONMENT.values())), "by shape": KEYS[next(iter(KEYS))]}
    with Provider(shop) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
        for name, secret in secrets.items():
            (tmp_path / "agent.py").write_text(AGENT.read_text().replace("Be warm.", f"Be warm. Sign with {secret} always."))
            agent = f"{sys.executable} {tmp_path / 'agent.py'}"
            said = command("run", "--learn", agent, "--max-calls", "4", "--", *agent.split(), codes=(2,))
            assert "would spread" in said or "environment variable" in said, name
            release = {"release": "r", "axes": {"prompt": {"system": f"Sign with {secret} always."}}}
            (tmp_path / "good.yaml").write_text(json.dumps(release))
            command("snapshot", "good.yaml", codes=(0, 2))
    assert leaks(tmp_path) == []
