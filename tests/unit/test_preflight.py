"""What is wrong is said before anything is paid, by `check` and by a run itself."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.errors import ConfigError, TargetFailure
from bisect_ai.queries.query import Query
from bisect_ai.release.tool_faults import wrong_parameters
from bisect_ai.runs.preflight import refuse
from bisect_ai.runs.prepare import check_settings
from bisect_ai.targets.pipeline import build_messages
from bisect_ai.targets.target import address_in_environment

ECHO = """
import litellm

class Echo(litellm.CustomLLM):
    calls = 0
    def _answer(self, messages):
        Echo.calls += 1
        return litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": messages[-1]["content"]}}])
    async def acompletion(self, *args, messages, **kwargs):
        return self._answer(messages)
"""
GOOD = {"model": {"model": "echo/one-2026-01-01"}, "prompt": {"system": "Be brief.", "user": "{input}"}}


def bad(**changed: str) -> dict[str, Any]:
    return {**GOOD, "prompt": {"system": "Be kind.", "user": "{input}", **changed}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "echo.py").write_text(ECHO)
    (tmp_path / "system.md").write_text("Be brief.")
    rows = [{"id": f"q{i}", "input": f"{i}?", "reference": f"{i}", "topic": "t"} for i in range(40)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, bad_axes: dict[str, Any], **settings: Any) -> None:
    for name, axes in (("good", GOOD), ("bad", bad_axes)):
        (folder / f"{name}.json").write_text(json.dumps({"release": name, "axes": axes}))
    target = {"kind": "litellm", "custom_providers": {"echo": "echo:Echo"}}
    scorers = [{"kind": "contains", "name": "correct", "expected": "reference"}]
    told = {
        "good": "good.json",
        "bad": "bad.json",
        "log": {"path": "log.jsonl"},
        "target": target,
        "scorers": scorers,
        **settings,
    }
    (folder / "bisect.yaml").write_text(json.dumps(told))


def check() -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check"])
    return done.exit_code, done.output


def test_nothing_wrong_is_said_so_and_the_first_query_is_asked_of_both_releases(folder: Path) -> None:
    write(folder, bad())
    code, said = check()
    assert code == 0, said
    assert "nothing is wrong" in said
    number = re.search(
        r"asked: query q(\d+): \1\?\n  good: \1\?\n    scores: correct 1\n  bad: \1\?\n    scores: correct 1", said
    )
    assert number, said
    assert check()[1].count("(stored)") == 2
    assert bisect_ai.run("bisect.yaml", budget={"calls": 40}).usage.calls == 38


@pytest.mark.parametrize(("more", "budget"), [(["--free"], {}), (["--no-calls"], {}), ([], {"tokens": 1})])
def test_nothing_is_asked_against_the_budget_or_the_users_word(folder: Path, more: list[str], budget: dict[str, Any]) -> None:
    prices = {"echo/one-2026-01-01": {"max_output": 50}}
    target = {"kind": "litellm", "custom_providers": {"echo": "echo:Echo"}, "prices": prices}
    write(folder, bad(), budget=budget, target=target)
    done = CliRunner().invoke(main, ["check", *more])
    assert "scores:" not in done.output
    assert ("asked" in done.output) == bool(budget)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("return 1 / 0", "the scorer mine failed on the first query: ZeroDivisionError: division by zero"),
        ("return 'good'", "the scorer mine failed on the first query: the scorer returned a str; return a number"),
        ("return float('nan')", "the scorer mine failed on the first query: the scorer returned nan; return a finite number"),
        ("return None", "the scorer mine gave no score (None) to the first query's answers"),
    ],
)
def test_a_scorer_that_fails_is_named_by_two_calls(folder: Path, source: str, said: str) -> None:
    (folder / "mine.py").write_text(f"def score(query, answer):\n    {source}\n")
    write(folder, bad(), scorers=[{"kind": "python", "name": "mine", "function": "mine:score"}])
    sys.modules.pop("mine", None)
    code, told = check()
    assert code == 4 and said in told, told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user": "{text}"}, "prompt.user names {text}, which nothing fills: the log has file, id, input, reference, topic"),
        ({"user": "{{input}} {{question}}"}, "prompt.user names {{question}}, which nothing fills"),
        (
            {"user": "{{question}}"},
            "prompt.user is '{{question}}': it names no column, so no question would reach the model; write {input}",
        ),
        ({"system": "system.md"}, "prompt.system is the text 'system.md', which looks like a path, and there is such a file"),
    ],
)
def test_what_would_be_paid_for_nothing_is_refused_by_check_and_by_run(
    folder: Path, changed: dict[str, str], said: str
) -> None:
    write(folder, bad(**changed))
    code, told = check()
    assert code == 2 and f"wrong: the release 'bad': {said}" in told, told
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 2 and said in done.output and "--keep-going" in done.output
    assert not list((folder / ".bisect-ai").glob("journal/*"))
    assert CliRunner().invoke(main, ["run", "--keep-going", "--max-calls", "20"]).exit_code in (0, 3)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (
            {"corpus": {"documents": {"a": "x"}, "retreiver": {"kind": "bm25"}}},
            "'retreiver' of the axis corpus; did you mean 'retriever'",
        ),
        ({"prompt": {"systm": "Be kind.", "user": "{input}"}}, "'systm' of the axis prompt; did you mean 'system'"),
        ({"context": {"max_char": 10}}, "'max_char' of the axis context; did you mean 'max_chars'"),
    ],
)
def test_a_misspelt_key_of_an_axis_is_refused(folder: Path, axes: dict[str, Any], said: str) -> None:
    write(folder, {**bad(), **axes})
    told = CliRunner().invoke(main, ["check"])
    assert told.exit_code == 2 and said in told.output and "Traceback" not in told.output


def test_a_key_that_nothing_reads_is_told(folder: Path) -> None:
    write(folder, {**bad(), "context": {"reranker": "v2"}})
    told = CliRunner().invoke(main, ["plan"])
    assert told.exit_code == 0
    assert "reads no key 'reranker' of the axis context: what it holds reaches no model" in " ".join(told.output.split())


def test_the_other_spelling_of_a_variable_is_filled(folder: Path) -> None:
    write(folder, bad(user="{{ input }} about {{topic}}"))
    assert check()[0] == 0
    query = Query({"id": "q", "input": "why?", "topic": "hats"})
    (_, asked) = build_messages(query, bad(user="{{ input }} about {{topic}}, as {{json}}"), ())
    assert asked["content"] == "why? about hats, as {{json}}"


def test_two_spellings_in_one_prompt_are_told(folder: Path) -> None:
    write(folder, bad(system="You know {{topic}}."))
    code, said = check()
    assert code == 2 and "prompt.system names {{topic}} where others are {name}, so it would be sent as {topic}" in said
    write(folder, bad(system='Write {{first_name}}, as JSON {{"a": 1}}.'))
    code, said = check()
    assert code == 0
    assert "odd: the release 'bad': prompt.system has {{first_name}}, which no column fills: it is sent as {first_name}" in said


@pytest.mark.parametrize(
    ("changed", "column", "said"),
    [
        ({"user": "{input}\nExpected: {reference}"}, "topic", "prompt.user sends the model {reference}, the expected answer"),
        (
            {"system": "It is about {topic}."},
            "topic",
            "prompt.system sends the model {topic}, what the scorer 'correct' expects",
        ),
        (
            {"user": "{{input}} = {{reference}}"},
            "reference",
            "prompt.user sends the model {{reference}}, what the scorer 'correct' expects",
        ),
    ],
)
def test_a_prompt_that_holds_the_expected_answer_is_told_by_check_and_run(
    folder: Path, changed: dict[str, str], column: str, said: str
) -> None:
    write(folder, bad(**changed), scorers=[{"kind": "contains", "name": "correct", "expected": column}])
    code, told = check()
    assert code == 0 and f"odd: the prompt of 'bad': {said}" in told, told
    done = CliRunner().invoke(main, ["run", "--max-calls", "8"])
    assert said in " ".join(done.stdout.split()), done.output


def test_several_scorers_without_a_metric_are_named(folder: Path) -> None:
    two = [{"kind": "contains", "name": name, "expected": "reference"} for name in ("one", "other")]
    write(folder, bad(), scorers=two)
    assert "there are 2 scorers and no `metric`: set it to the one that decides, one of: one, other" in check()[1]


def test_a_path_that_is_not_there_and_a_column_that_is_not_are_odd(folder: Path) -> None:
    scorers = [
        {"kind": "contains", "name": "correct", "expected": "reference"},
        {"kind": "contains", "name": "also", "expected": "wanted"},
    ]
    write(folder, bad(system="nowhere.md"), scorers=scorers, metric="correct")
    code, said = check()
    assert code == 0
    assert (
        "odd: the release 'bad': prompt.system is the text 'nowhere.md', which looks like a path, though no such file" in said
    )
    assert "odd: the scorer 'also' compares with the column 'wanted', which the log lacks" in said


def test_swapped_releases_are_told_by_the_log(folder: Path) -> None:
    rows = [
        {"id": f"q{i}", "input": f"{i}?", "reference": f"{i}", "release": side, "scores": {"correct": score}}
        for i, (side, score) in enumerate([("good", i % 2) for i in range(40)] + [("bad", 1)] * 40)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(folder, bad())
    code, said = check()
    assert (
        code == 0
        and "odd: the log says that good ('good': 0.5) scores worse than bad ('bad': 1): perhaps the two are swapped" in said
    )


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_a_dead_address_is_said_within_seconds(folder: Path, dead_port: int) -> None:
    url = f"http://127.0.0.1:{dead_port}"
    write(folder, bad(), target={"kind": "http", "url": f"{url}/answer"})
    code, said = check()
    assert code == 2 and f"wrong: connection refused at {url}: nobody can be asked there" in said
    began = time.monotonic()
    with pytest.raises(TargetFailure, match=f"connection refused at {url}"):
        bisect_ai.run("bisect.yaml")
    assert time.monotonic() - began < 15


def test_a_dead_address_of_a_model_is_said_within_seconds(folder: Path, dead_port: int) -> None:
    base = f"http://127.0.0.1:{dead_port}/v1"
    write(folder, {**bad(), "model": {"model": "openai/x-2026-01-01", "api_base": base}}, target={"kind": "litellm"})
    (folder / "good.json").write_text(
        json.dumps({"release": "good", "axes": {**GOOD, "model": {"model": "openai/x-2026-01-01", "api_base": base}}})
    )
    began = time.monotonic()
    with pytest.raises(TargetFailure, match=f"connection refused at http://127.0.0.1:{dead_port}"):
        bisect_ai.run("bisect.yaml")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/x-2026-01-01", "OPENAI_BASE_URL"),
        ("gpt-4o-2024-08-06", "OPENAI_API_BASE"),
        ("groq/x-2026-01-01", "GROQ_API_BASE"),
    ],
)
def test_a_dead_address_in_the_environment_is_said_within_seconds(
    folder: Path, dead_port: int, model: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.setenv(name, "sk-canary-0123456789abcdef")
    monkeypatch.setenv(variable, f"http://127.0.0.1:{dead_port}/v1")
    write(folder, {**bad(), "model": {"model": model}}, target={"kind": "litellm"})
    (folder / "good.json").write_text(json.dumps({"release": "good", "axes": {**GOOD, "model": {"model": model}}}))
    code, said = check()
    assert code == 2 and f"wrong: connection refused at http://127.0.0.1:{dead_port}" in said
    with pytest.raises(TargetFailure, match=f"connection refused at http://127.0.0.1:{dead_port}"):
        bisect_ai.run("bisect.yaml")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert address_in_environment(model, os.environ) is None  # only the proxy can say


def test_the_provider_of_a_program_on_the_wire_is_looked_for_before_any_call(
    folder: Path, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    address = f"http://127.0.0.1:{dead_port}/v1"
    write(folder, bad(), target={"kind": "wire", "run": [sys.executable, "agent.py"], "upstream": {"openai": address}})
    code, said = check()
    assert code == 2 and f"wrong: connection refused at http://127.0.0.1:{dead_port}" in said
    assert "odd: the environment has no OPENAI_API_KEY: unless the program has its key from elsewhere" in said


def test_a_key_that_is_not_set_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write(folder, {**bad(), "model": {"model": "openai/gpt-4.1-2025-04-14"}})
    code, said = check()
    assert code == 2 and "wrong: the environment has no OPENAI_API_KEY, which the model's provider wants" in said


def tool(order: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "get_order", "parameters": {"type": "object", "properties": {"order": order}, **more}}]


LOOP = {"A": {"$ref": "#/$defs/B"}, "B": {"allOf": [{"$ref": "#/$defs/A"}]}}
NO_PARAMETERS: dict[str, tuple[Any, str]] = {
    "not there": (tool({"$ref": "#/$defs/Nope"}), "'#/$defs/Nope', which is not there; add it under $defs of the same tool"),
    "no anchor": (tool({"$ref": "#nope"}), "'#nope', which is not there"),
    "dynamic": (tool({"items": {"$dynamicRef": "#nope"}}), "'#nope', which is not there"),
    "remote": (tool({"$ref": "https://example.org/order.json"}), "'https://example.org/order.json', outside the schema, and"),
    "a file": (
        tool({"anyOf": [{"$ref": "file:///etc/passwd"}]}),
        "'file:///etc/passwd', outside the schema, and nothing is fetched",
    ),
    "a circle": (tool({"$ref": "#/$defs/A"}, **{"$defs": LOOP}), "which goes in a circle; give the schema itself there"),
    "itself": (tool({}, allOf=[{"$ref": "#"}]), "'#', which goes in a circle"),
    "in a definition": (tool({}, definitions={"A": {"items": {"$ref": "#/nowhere"}}}), "'#/nowhere', which is not there"),
    "a number": (tool({"$ref": 5}), "are no JSON Schema: 5 is not of type 'string'"),
    "a type": (tool({"type": "strng"}), "are no JSON Schema: 'strng' is not valid"),
    "MCP": (
        [{"name": "get_order", "inputSchema": {"type": "object", "properties": {"x": {"$ref": "#/no"}}}}],
        "'#/no', which is",
    ),
}


@pytest.mark.parametrize("name", NO_PARAMETERS)
def test_tools_whose_arguments_could_not_be_checked_are_told_before_any_call(name: str, folder: Path) -> None:
    tools, said = NO_PARAMETERS[name]
    write(folder, {**bad(), "tools": tools})
    with pytest.raises(ConfigError) as told:
        bisect_ai.run("bisect.yaml")
    line = str(told.value)
    assert line.startswith("the release 'bad': the parameters of the tool 'get_order' ") and said in line
    assert not (folder / ".bisect-ai").exists()


@pytest.mark.parametrize(
    "tools",
    [
        tool({"$ref": "#/$defs/O"}, **{"$defs": {"O": {"type": "string"}}}),
        tool({"$ref": "#/$defs/N"}, **{"$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}}),
        tool({"$ref": "#here"}, **{"$defs": {"O": {"$anchor": "here", "type": "string"}}}),
        tool({"enum": [{"$ref": "#/nope"}]}),
        [{"name": "t", "parameters": {"type": "object", "properties": {"$ref": {"type": "string"}}}}],
        tool(
            {"allOf": [{"$ref": f"#/$defs/{0}"}]},
            **{"$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)} | {"40": {}}},
        ),
    ],
)
def test_references_that_lead_somewhere_are_no_objection(tools: Any) -> None:
    assert list(wrong_parameters(tools)) == []


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "MISTRAL_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


KEYLESS = {
    "openai/gpt-4.1-2025-04-14": "OPENAI_API_KEY",
    "claude-sonnet-4-5": "ANTHROPIC_API_KEY",
    "gemini/gemini-2.5-pro": "GEMINI_API_KEY",
    "mistral/mistral-small": "MISTRAL_API_KEY",
}


@pytest.mark.parametrize("model", KEYLESS)
def test_a_run_without_a_key_that_only_bad_wants_asks_nobody(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    write(folder, {**bad(), "model": {"model": model}})
    with pytest.raises(ConfigError, match=f"the environment has no {KEYLESS[model]}, which the model's provider wants"):
        bisect_ai.run("bisect.yaml")
    assert not (folder / ".bisect-ai").exists()
    monkeypatch.setenv(KEYLESS[model], "")  # empty is none
    with pytest.raises(ConfigError, match=KEYLESS[model]):
        bisect_ai.run("bisect.yaml")


@pytest.mark.parametrize("scorer", [{"kind": "judge"}, {"kind": "embedding"}], ids=str)
def test_a_run_whose_judge_has_no_key_pays_for_no_answer(
    folder: Path, scorer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch)
    graded = {"name": "correct", "model": "openai/gpt-4o" if scorer["kind"] == "judge" else "openai/text-embedding-3-small"}
    write(folder, bad(), scorers=[{**scorer, **graded}], metric="correct")
    with pytest.raises(ConfigError, match="no OPENAI_API_KEY, which the provider of the scorer 'correct' wants; set it"):
        bisect_ai.run("bisect.yaml")
    assert not (folder / ".bisect-ai").exists()


def test_who_may_be_let_in_without_a_key_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_keys(monkeypatch)
    for model in ({"model": "openai/local", "api_base": "http://127.0.0.1:9/v1"}, {"model": "bedrock/some.model-v1"}):
        write(folder, {**bad(), "model": model})
        prepared = check_settings(folder / "bisect.yaml", {})[1]
        assert not any("the environment has no" in line for line in refuse(prepared, folder=folder))


def test_a_program_that_is_not_installed_is_named_by_check(folder: Path) -> None:
    from tests.unit.test_git_releases import commit, git

    git(folder, "init", "-q")
    commit(folder, {"prompts/a.md": "a"})
    git(folder, "tag", "v1")
    commit(folder, {"prompts/a.md": "b"})
    write(folder, bad(), good={"git": "v1"}, bad={"git": "HEAD"}, axes={"prompt": "prompts/**"})
    told = json.loads((folder / "bisect.yaml").read_text())
    (folder / "bisect.yaml").write_text(json.dumps({**told, "target": {"kind": "command", "run": "no-such-program x"}}))
    code, said = check()
    assert code == 2 and "there is no program 'no-such-program' here" in said


def scored(score: Any, **more: Any) -> list[str]:
    """The queries that a run with this scorer asked; good and bad answer differently in one of three."""
    asked = []

    def target(query: Any, release: Any) -> str:
        asked.append(query.id)
        return "x" if release["prompt"] == "b" and int(query.input) % 3 == 0 else query.reference

    queries = [{"id": f"q{i}", "input": str(i), "reference": f"r{i}"} for i in range(300)]
    try:
        bisect_ai.run(
            good={"prompt": "a"},
            bad={"prompt": "b"},
            queries=queries,
            target=target,
            scorers={"mine": score},
            concurrency=4,
            **more,
        )
    except TargetFailure:
        assert len(asked) < 60
        raise
    return asked


def fails(query: Any, answer: Any) -> float:
    raise KeyError("grade")


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda query, answer: None, r"the scorer mine failed \d+ times in a row, last with: it gave no score \(None\)"),
        (lambda query, answer: "good", r"the scorer mine failed \d+ times in a row, last with: the scorer returned a str"),
        (lambda query, answer: float("nan"), r"the scorer mine failed \d+ times in a row, last with: the scorer returned nan"),
        (fails, r"the scorer mine failed \d+ times in a row, last with: KeyError: 'grade'"),
        (
            lambda query, answer: 1.0,
            r"the scorer mine gave each of the first 10 answers the score 1, and does not look at the answer",
        ),
        (
            lambda query, answer: 0.5 + 0 * len(answer.text),
            r"mine gave each of the first 10 answers the score 0.5, and an empty answer, answers to other questions and the expected",
        ),
        (
            lambda query, answer: answer.text == query.get("refrence"),
            r"mine gave each of the first 10 answers the score 0, and an",
        ),
    ],
)
def test_a_scorer_that_says_nothing_stops_the_run_after_ten_answers(score: Any, said: str) -> None:
    with pytest.raises(TargetFailure, match=said):
        scored(score)


def test_a_scorer_that_only_sees_what_is_rare_is_left_alone_and_so_is_one_that_is_insisted_on() -> None:
    assert len(scored(lambda query, answer: "sorry" not in answer.text, budget={"calls": 80})) == 80
    assert len(scored(lambda query, answer: 0.5, budget={"calls": 40}, keep_going=True)) == 40


def test_the_tolerance_is_checked_against_the_scale(folder: Path) -> None:
    write(folder, bad(), tolerance=5)
    done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 2 and "did you mean 0.05" in done.output


def test_a_gate_from_python_is_a_config_error(folder: Path) -> None:
    write(folder, bad(user="{text}"))
    with pytest.raises(ConfigError, match=r"names \{text\}"):
        bisect_ai.run("bisect.yaml")


def test_a_column_that_the_scorer_cannot_read_is_wrong_and_what_looks_like_a_key_is_odd(folder: Path) -> None:
    rows = [{"id": f"q{i}", "input": f"{i}?", "reference": "none"} for i in range(40)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    key = "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12Mn34Op56Qr78St90"
    write(folder, bad(system=f"Use {key}."), scorers=[{"kind": "numeric", "name": "right"}])
    code, said = check()
    assert code == 2 and key not in said
    assert "wrong: the scorer 'right' cannot use the column 'reference' of any of the first 20 queries: ValueError" in said
    assert "odd: the release 'bad': prompt.system holds what looks like a key or token" in said
