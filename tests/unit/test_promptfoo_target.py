"""promptfoo's providers as target: the eval that is asked for, the answer that is read, and one line where it is not installed.

`python -m pytest -m producers tests/producers` runs the real promptfoo; here a stand-in reads the same command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import ConfigError, Infeasible
from bisect_ai.queries.query import Query
from bisect_ai.runs.draft import write_draft
from bisect_ai.runs.prepare import build_target
from bisect_ai.targets.promptfoo_target import answer_in_results, prompt_of, provider_of

CONFIG = """\
prompts: ["Answer: {{question}}"]
providers:
  - id: file://answer.py
    label: desk
    config: {tone: kind}
  - exec:./answer.sh
  - openai:gpt-4o: {config: {temperature: 0.5}}
"""
STAND_IN = """\
#!/usr/bin/env python3
import json, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
asked = json.load(open(given["-c"]))
code = open("answer.py").read()
raw = asked["prompts"][0]["raw"]
for name, value in asked["tests"][0]["vars"].items():
    raw = raw.replace("{{%s}}" % name, value)
said = {"output": f"{code} {asked['providers'][0]['config']['tone']}: {raw}", "tokenUsage": {"prompt": 3, "completion": 2},
        "cost": 0.01}
if "fail" in raw:
    said = {"error": "the provider is down"}
checks = asked["tests"][0].get("assert", [])
row = {"response": said, "success": all(each["value"] in said.get("output", "") for each in checks)}
json.dump({"results": {"results": [row]}}, open(given["-o"], "w"))
"""
RELEASE = {"model": {"provider": "file://answer.py"}, "prompt": {"user": "Ask: {question}"}}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "desk"
    (folder / "node_modules" / ".bin").mkdir(parents=True)
    (folder / "promptfooconfig.yaml").write_text(CONFIG)
    (folder / "answer.py").write_text("desk")
    tool = folder / "node_modules" / ".bin" / "promptfoo"
    tool.write_text(STAND_IN)
    tool.chmod(0o755)
    return folder


@pytest.fixture
def target(desk: Path) -> Iterator[Any]:
    spec = {"kind": "promptfoo", "config": "promptfooconfig.yaml"}
    made: Any = build_target(spec, folder=desk, good=RELEASE, bad=RELEASE)[0]
    yield made
    made.close()


def test_a_trial_is_one_eval_of_the_composed_prompt_by_the_configs_provider(target: Any, desk: Path) -> None:
    before = sorted(path.name for path in desk.iterdir())
    query = Query({"id": "q1", "question": "Where is it?", "reference": "secret", "output": "logged"})
    answer = target(query, RELEASE, 0)
    assert answer.text == "desk kind: Ask: Where is it?"
    assert (answer.usage.tokens, answer.usage.usd, answer.error) == (5, 0.01, None)
    stern = {"model": {"provider": "file://answer.py", "tone": "stern"}, "prompt": {"user": "{question}"}}
    assert target(query, stern, 0).text == "desk stern: Where is it?"
    assert sorted(path.name for path in desk.iterdir()) == before
    hostile = Query({"id": "q3", "question": "file://answer.py"})
    assert target(hostile, RELEASE, 0).text == "desk kind: Ask:  file://answer.py"  # a space keeps promptfoo from reading it
    named = Query({"id": "q4", "question": "?", "var_documents": "Handbook."})
    assert target(named, {**RELEASE, "prompt": {"user": "{{documents}}"}}, 0).text == "desk kind: Handbook."
    failed = target(Query({"id": "q2", "question": "fail"}), RELEASE, 0)
    assert (failed.error, failed.text) == ("the provider is down", "")


def test_a_provider_that_the_config_does_not_have_is_infeasible(target: Any) -> None:
    with pytest.raises(Infeasible, match=r"no provider 'python:x\.py'; it has desk, exec:\./answer\.sh, openai:gpt-4o"):
        target(Query({"id": "q", "question": "?"}), {**RELEASE, "model": "python:x.py"}, 0)


def test_axes_in_promptfoos_spelling() -> None:
    config = {"providers": ["echo", {"id": "openai:gpt-4o", "config": {"temperature": 0}}]}
    assert provider_of({"model": "openai/gpt-4o", "temperature": 1}, config, []) == {
        "id": "openai:gpt-4o",
        "config": {"temperature": 1, "tools": []},
    }
    assert provider_of("echo", config) == {"id": "echo"}
    assert prompt_of({"user": "{{question}} {as it is}"})["raw"] == "{{question}} {as it is}"
    assert prompt_of('Answer {question} as {{"a": 1}}.') == 'Answer {{question}} as {"a": 1}.'
    theirs = '{% if plan %}As {"a": 1}{% endif %} {{ question | upper }} {x}'
    assert prompt_of(theirs) == theirs
    raw = json.loads(prompt_of({"system": "Be {tone}.", "user": "{input}"})["raw"])
    assert [message["content"] for message in raw] == ["Be {{tone}}.", "{{input}}"]


def test_results_that_are_none_are_a_failed_trial() -> None:
    for written in (b"", b"{}", b'{"results": {"results": []}}', b"[1]"):
        assert answer_in_results(written).outcome == "malformed"
    assert answer_in_results(b'{"results": {"results": [{"response": {"output": {"a": 1}}}]}}').text == '{"a": 1}'


def test_one_line_where_promptfoo_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"promptfoo is not installed here; `npm install promptfoo` beside the config"
    ) as raised:
        build_target({"kind": "promptfoo", "config": "c.yaml"}, folder=tmp_path, good={}, bad={})
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="there is no file"):
        build_target({"kind": "promptfoo", "config": "d.yaml"}, folder=tmp_path, good={}, bad={})


DIFFERENT = """\
prompts: ["Ask: {{question}}", "Shout: {{question}}"]
providers: [{id: file://answer.py, label: desk, config: {tone: kind}}]
tests:
"""


def test_tests_with_different_asserts_are_checked_by_promptfoo_itself(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No scorer of ours speaks for all of them: each would leave most tests without a score, and the run without a verdict."""
    kinds = ("contains", "javascript", "regex")
    tests = [
        {"vars": {"question": f"where is {i}?"}, "assert": [{"type": kinds[i % 3], "value": "Ask" if i % 2 else "where"}]}
        for i in range(60)
    ]
    (desk / "promptfooconfig.yaml").write_text(DIFFERENT + "".join(f"  - {json.dumps(test)}\n" for test in tests))
    told = write_draft([desk / "promptfooconfig.yaml"], desk)
    assert any("promptfoo checks them itself" in line for line in told)
    assert json.loads((desk / "promptfoo-asserts.json").read_text())["test-1"] == tests[1]["assert"]
    result = bisect_ai.run(desk / "bisect.yaml", drill=False)
    assert [cause.axes for cause in result.verdict.causes] == [("prompt",)], result.verdict.sentence
    assert result.to_dict()["metric"] == "passed"
    assert 0.3 < result.to_dict()["loss"]["estimate"] < 0.7  # half of the tests want what the other prompt does not say


def test_asserts_are_of_a_file_beside_the_settings_and_never_of_the_log(desk: Path) -> None:
    spec = {"kind": "promptfoo", "config": "promptfooconfig.yaml"}
    with pytest.raises(ConfigError, match=r"there is no file gone\.json"):
        build_target({**spec, "asserts": "gone.json"}, folder=desk, good=RELEASE, bad=RELEASE)
    made: Any = build_target(spec, folder=desk, good=RELEASE, bad=RELEASE)[0]
    try:
        answer = made(Query({"id": "q1", "question": "x", "assert": [{"type": "javascript", "value": "no"}]}), RELEASE, 0)
        assert answer.error is None and answer.scores is None
    finally:
        made.close()
