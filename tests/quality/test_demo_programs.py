"""The bundled incident told by a repository's program: the line, the field, and what it took."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from tests.unit.test_git_releases import git

HELPDESK = Path(__file__).parents[2] / "fixtures" / "helpdesk"
AGENT = Path(__file__).parents[1] / "wire_agents" / "helpdesk_agent.py"
SIDES = {
    "v1": ("2026-11-13", "helpdesk-1", {"k": 4, "documents": "before_question"}),
    "v2": ("2026-11-20", "helpdesk-2", {"k": 5, "documents": "after_question"}),
}
SETTINGS = """
repo: .
good: v1
bad: v2
axes: {{model: model.json, prompt: prompts/**, corpus: corpus/**, tools: tools.json, context: context.json}}
log: {{path: logs/queries.jsonl, sample: 400, cluster: cluster}}
target: {{kind: command, run: {python} agent.py, concurrency: 2}}
scorers: [{{kind: contains, name: correct, expected: reference, ignore_case: true}}]
budget: {{calls: 5000}}
"""
MOST_CALLS = 1100
"""Seen: 984, of them the race 522, after the names 197, the drill-down 268."""


def repository(top: Path) -> Path:
    """The two releases as two tags, the program beside their files."""
    (top / "prompts").mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    shutil.copy(AGENT, top / "agent.py")
    shutil.copy(HELPDESK / "stand_in.py", top)
    shutil.copytree(HELPDESK / "logs", top / "logs")
    for tag, (day, model, context) in SIDES.items():
        shutil.rmtree(top / "corpus", ignore_errors=True)
        shutil.copytree(HELPDESK / f"releases/corpus-{day}", top / "corpus")
        shutil.copy(HELPDESK / f"releases/prompts/system-{day}.md", top / "prompts/system.md")
        shutil.copy(HELPDESK / f"releases/tools-{day}.json", top / "tools.json")
        (top / "model.json").write_text(json.dumps({"model": model}) + "\n")
        (top / "context.json").write_text(json.dumps(context) + "\n")
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", tag)
        git(top, "tag", tag)
    return top


def found(result: bisect_ai.Result) -> tuple[Any, ...]:
    (cause,) = result.verdict.causes
    return set(cause.axes), cause.mode, {(change.axis, change.path) for change in cause.changes}


@pytest.mark.slow
def test_the_demo_told_by_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    top = repository(tmp_path / "desk")
    (top / "bisect.yaml").write_text(SETTINGS.format(python=sys.executable))
    result = bisect_ai.run(top / "bisect.yaml")
    guilty = {("prompt", "prompts/system.md:11"), ("tools", "tools.json:get_orders.parameters.customer_id")}
    assert found(result) == ({"prompt", "tools"}, "together", guilty)
    assert result.usage.calls <= MOST_CALLS
