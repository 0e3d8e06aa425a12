"""Every command line of README and guides is run in a prepared folder; those that cannot run offline are named with the reason."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from tests.docs.pages import ROOT
from tests.docs.test_readme import command_lines

NOT_HERE = {
    "run -- python my_agent.py": "needs a provider; tests/unit/test_wire_runs.py runs it against one of ours",
    "run --learn 'python v1/agent.py' -- python v2/agent.py": "needs a provider; tests/unit/test_wire_runs.py likewise",
    "run --backend dask --scheduler tcp://127.0.0.1:8786": "needs a cluster; tests/unit/test_engine.py starts one",
    "audit --notify slack:SLACK_URL --notify github": "needs services to tell; tests/faults/test_notify.py has them",
    "diff @yesterday @now": "needs a snapshot of yesterday; tests/unit/test_snapshot.py makes one",
}
MORE = {"compare good.eval bad.eval": "--metric match"}
"""What a command needs on the files here: this log has two scores."""
IN_GIT = ("v1.2", "v1.3", "origin/main", "--events git")
EMPTY = ("init", "init --from results.json", "init --ci github")
SETTINGS = """log: {path: log.jsonl, segment: intent}
scorers: [{kind: exact, name: correct, expected: reference}]
budget: {calls: 400}
"""
PLAIN = f"good: releases/good.yaml\nbad: releases/bad.yaml\ntarget: {{kind: python, function: guide_app:answer}}\n{SETTINGS}"
APP = 'def answer(query, release):\n    return query.reference if "exact" in release["prompt"]["system"] else "?"\n'
RELEASE = 'axes:\n  model: {{model: m-{v}}}\n  prompt: {{system: "Be {how}.", user: "{{input}}"}}\n'
PROGRAM = """import json, pathlib, sys
is_good = "exact" in pathlib.Path("prompts/system.md").read_text()
for line in sys.stdin:
    query = json.loads(line)
    number = int(query["input"].split()[-1].rstrip("?"))
    print(json.dumps({"id": query["id"], "text": str(7 * number) if is_good else "?"}), flush=True)
"""
GIT = """repo: .
axes: {prompt: prompts/**, model: config/model.yaml, code: [answer.py]}
target: {kind: command, run: "python3 answer.py"}
"""


def rows(many: int = 40) -> list[dict[str, object]]:
    return [
        {
            "id": f"q{n}",
            "input": f"what is {n}?",
            "reference": str(7 * n),
            "intent": ("price", "time")[n % 2],
            "release": "good",
        }
        | {"output": str(7 * n), "scores": {"correct": 1.0}}
        for n in range(many)
    ]


def lines(path: Path, values: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, values)) + "\n", encoding="utf-8")


def live() -> list[dict[str, object]]:
    """Live answers of two pairs of releases; from the middle on the new one is bad."""
    start, names = datetime(2026, 11, 20, tzinfo=UTC), ("v41", "v42", "2026-11-13", "2026-11-20")
    return [
        {
            "id": f"l{n}",
            "input": f"what is {n}?",
            "release": names[n % 4],
            "at": (start + timedelta(minutes=n)).isoformat(),
            "intent": ("price", "time")[n // 4 % 2],
            "session": f"s{n // 8}",
            "scores": {"correct": float(n % 4 in (0, 2) or n % 3 > 0), "cost": 1.0, "latency": 2.0, "refusal": 0.0},
        }
        for n in range(1200)
    ]


def files_of(folder: Path) -> None:
    for side, how in (("good", "exact"), ("bad", "vague")):
        text = f"release: {side}\n{RELEASE.format(v=side, how=how)}"
        (folder / "releases").mkdir(exist_ok=True)
        (folder / "releases" / f"{side}.yaml").write_text(text, encoding="utf-8")
    for name, text in {"bisect.yaml": PLAIN, "guide_app.py": APP, "rollback": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "rollback").chmod(0o755)
    shutil.copy(folder / "releases" / "good.yaml", folder / "release.yaml")
    (folder / "fixed.yaml").write_text(f"release: fixed\n{RELEASE.format(v='bad', how='exact')}", encoding="utf-8")
    for name in ("good.eval", "bad.eval"):
        shutil.copy(ROOT / "fixtures" / "logs" / "inspect" / "plants.eval", folder / name)
    shutil.copy(ROOT / "fixtures" / "logs" / "promptfoo" / "results.json", folder / "results.json")
    lines(folder / "log.jsonl", rows())
    lines(folder / "live" / "one.jsonl", live())
    lines(folder / "deploys.jsonl", [{"at": "2026-11-20T10:00:00Z", "name": "v42"}])
    scored = [{"id": row["id"], "input": row["input"], "intent": row["intent"]} for row in rows()]
    made = {side: [{**row, "prompt_version": side, "correct": float(side == "a")} for row in scored] for side in "ab"}
    lines(folder / "runs.jsonl", [row for side in made.values() for row in side])
    for side, values in made.items():
        (folder / "runs").mkdir(exist_ok=True)
        (folder / "runs" / f"{side}1.json").write_text(json.dumps(values), encoding="utf-8")


def repository_of(folder: Path) -> None:
    """Three tags; the second is bad, the third mends it."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=Ida", "-c", "user.email=ida@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    for tag, how in (("v1.2", "exact"), ("v1.3", "vague"), ("v1.3.1", "exact")):
        for name, text in {
            "prompts/system.md": f"Be {how}.\n",
            "config/model.yaml": f"model: {tag}\n",
            "answer.py": PROGRAM,
        }.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        git("add", "prompts", "config", "answer.py")
        git("commit", "-q", "-m", tag)
        git("tag", tag)
    git("update-ref", "refs/remotes/origin/main", "v1.2")
    (folder / "bisect.yaml").write_text(GIT + SETTINGS, encoding="utf-8")
    lines(folder / "log.jsonl", rows())
    lines(folder / "live" / "one.jsonl", live())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("plain", "git")}
    files_of(folders["plain"])
    repository_of(folders["git"])
    with pytest.MonkeyPatch.context() as patch:
        for folder, words in ((folders["plain"], ["run"]), (folders["git"], ["run", "v1.2..v1.3"])):
            patch.chdir(folder)
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, done.output
            (folder / "RUN").write_text(done.output.rsplit("bisect-ai report ", 1)[1].split()[0], encoding="utf-8")
    return folders


LINES = sorted({shlex.join(words) for words in command_lines()})


@pytest.mark.parametrize("line", [line for line in LINES if line not in NOT_HERE])
def test_every_command_of_the_guides_runs(
    line: str, prepared: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = prepared["git" if any(mark in line for mark in IN_GIT) else "plain"]
    folder = tmp_path / "here"
    if line in EMPTY:
        folder.mkdir()
        shutil.copy(source / "results.json", folder)
    else:
        shutil.copytree(source, folder)
    monkeypatch.chdir(folder)
    run = (source / "RUN").read_text(encoding="utf-8")
    words = shlex.split(f"{line} {MORE.get(line, '')}")
    done = CliRunner().invoke(main, [{"RUN": run, "ID": "q1"}.get(word, word) for word in words])
    assert done.exit_code in (0, 1, 3), done.output
    assert "fault of bisect-ai" not in done.output
    assert done.output.strip()


def test_what_does_not_run_here_is_still_written_there() -> None:
    assert set(NOT_HERE) <= set(LINES)
