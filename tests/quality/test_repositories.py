"""A team's repository as it is: from tags and a program to the right verdict, in eleven lines of settings and no change to its code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.release.load import load_release
from bisect_ai.report import terminal
from tests.unit.test_git_releases import commit, git

PROGRAM = '''
"""The shop's helper: a package below src, its prompt, tool and model beside it."""
import json
import sys
from pathlib import Path

from shop.orders import orders_of

ROOT = Path(__file__).resolve().parents[2]
PROMPT = (ROOT / "prompts/system.md").read_text()
FIELD = next(iter(json.loads((ROOT / "tools/get_orders.json").read_text())["parameters"]["properties"]))


def answer(question):
    customer = next((word.strip("?") for word in question.split() if word.startswith("FH-")), None)
    if customer is None:
        return "Hello!"
    copied = "customer_id" if '{"customer_id"' in PROMPT and int(customer[3:]) % 3 == 0 else FIELD
    return orders_of(**{copied: customer}) if copied == FIELD else "Sorry, I cannot look that up."


for line in sys.stdin:
    query = json.loads(line)
    print(json.dumps({"id": query["id"], "text": answer(query["input"])}), flush=True)
'''
SETTINGS = """
repo: .
good: v1.2
bad: v1.3
axes: {prompt: prompts/**, tools: tools/*.json, model: config/model.yaml, code: [src/**, pyproject.toml]}
log: {path: logs/questions.jsonl}
target: {kind: command, run: python3 -m shop, env: {PYTHONPATH: src}, concurrency: 4}
scorers: [{kind: contains, name: correct}]
drill: false
"""
ORDERS = "def orders_of(**customer):\n    (number,) = customer.values()\n    return f'{int(number[3:]) % 7} orders'\n"


def tool(field: str) -> str:
    return json.dumps(
        {"name": "get_orders", "parameters": {"type": "object", "properties": {field: {"type": "string"}}}}, indent=1
    )


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prompt and tool break one order in three together: the prompt has a call with the old field's name copied."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    top = tmp_path / "shop"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    asked = [{"id": f"q{i}", "input": f"How many orders has FH-{i}?", "reference": f"{i % 7} orders"} for i in range(400)]
    log = "".join(json.dumps(row) + "\n" for row in asked)
    files: dict[str, str | bytes | None] = {
        "src/shop/__init__.py": "",
        "src/shop/__main__.py": PROGRAM,
        "src/shop/orders.py": ORDERS,
        "prompts/system.md": "You are the shop's helper.\nFill in the fields that the schema names.\n",
        "tools/get_orders.json": tool("customer_id"),
        "config/model.yaml": "model: small\n",
        "pyproject.toml": "[project]\nname = 'shop'\nversion = '1.2'\n",
        "logs/questions.jsonl": log,
    }
    commit(top, files, "Start")
    git(top, "tag", "v1.2")
    worse = 'You are the shop\'s helper.\nCopy the format of this call: get_orders {"customer_id": "FH-1"}\n'
    commit(top, {"prompts/system.md": worse, "tools/get_orders.json": tool("customerId")}, "House style")
    commit(top, {"config/model.yaml": "model: large\n", "src/shop/orders.py": "# tidier\n" + ORDERS}, "Larger")
    git(top, "tag", "v1.3")
    (top / "bisect.yaml").write_text(SETTINGS)
    return top


def test_a_repository_and_its_program_are_enough(shop: Path) -> None:
    before = git(shop, "status", "--porcelain")
    assert len(SETTINGS.strip().splitlines()) <= 15
    result = bisect_ai.run(shop / "bisect.yaml")
    assert [(set(c.axes), c.mode) for c in result.verdict.causes] == [({"prompt", "tools"}, "together")], (
        result.verdict.sentence
    )
    assert result.verdict.rollback is not None
    assert tuple(result.verdict.rollback.axes) in {("prompt",), ("tools",)}
    assert result.usage.calls <= 350
    assert "prompts/system.md:2" in terminal.render(result.to_dict())
    assert git(shop, "status", "--porcelain").replace("?? .bisect-ai/\n", "") == before


def test_what_follows_a_run_of_two_revisions_needs_no_names_in_the_settings(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run v1.2..v1.3` names the releases on the command line: the rollback, the suite, the post-mortem and the fix find them."""
    monkeypatch.chdir(shop)
    (shop / "bisect.yaml").write_text(SETTINGS.replace("good: v1.2\nbad: v1.3\n", ""))

    def typed(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, [*words])
        assert done.exit_code == code, done.output
        return done.output

    typed("run", "v1.2..v1.3")
    (run,) = (line.split()[0] for line in typed("runs").splitlines() if "cause" in line)
    typed("report", run, "--write-rollback", "back.yaml")
    assert load_release(shop / "back.yaml").name.startswith("v1.3, ")
    assert "settings could not be read" not in typed("report", run, "--postmortem")
    assert "broken queries" in typed("report", run, "--regression-suite", "pytest")
    assert "RUN FIX are two words" in typed("verify", "back.yaml", code=2)
    assert "fixed: " in typed("verify", run, "back.yaml")
    git(shop, "checkout", "-q", "v1.2", "--", "prompts/system.md")
    assert "fixed: " in typed("verify", run, "WORKTREE")


def test_what_follows_a_run_of_two_files_of_the_command_line_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings file, in another folder, names neither release: those that the run read are taken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    program = (
        "def answer(query, release):\n    return 'no' if release['prompt'] == 'new' and int(query.id[1:]) % 4 == 0 else 'yes'\n"
    )
    (tmp_path / "set/app.py").write_text(program)
    for side, prompt in (("a", "old"), ("b", "new")):
        (tmp_path / f"{side}.yaml").write_text(f"release: {side}\naxes: {{prompt: {prompt}, model: {side}, tools: {side}}}\n")
    rows = [{"id": f"q{i}", "input": f"question {i}", "reference": "yes"} for i in range(300)]
    (tmp_path / "set/log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = "log: {path: log.jsonl}\ntarget: {kind: python, function: 'app:answer'}\nscorers: [{kind: exact, name: right}]\n"
    (tmp_path / "set/bisect.yaml").write_text(settings)

    def typed(*words: str) -> str:
        done = CliRunner().invoke(main, [*words])
        assert done.exit_code == 0, done.output
        return done.output

    typed("run", "set/bisect.yaml", "--good", "a.yaml", "--bad", "b.yaml")
    (run,) = (line.split()[0] for line in typed("runs", "--store", "set/.bisect-ai").splitlines() if "cause" in line)
    where = ("--config", "set/bisect.yaml")
    (tmp_path / "set/bisect.yaml").write_text(settings + "good: ../b.yaml\n")
    typed("report", run, *where, "--write-rollback", "back.yaml")
    (tmp_path / "set/bisect.yaml").write_text(settings)
    assert load_release(tmp_path / "back.yaml").axes["prompt"] == "old"
    assert "could not be read" not in typed("report", run, *where, "--postmortem")
    assert "broken queries" in typed("report", run, *where, "--regression-suite", "pytest")
    assert "fixed: " in typed("verify", run, "back.yaml", *where)
