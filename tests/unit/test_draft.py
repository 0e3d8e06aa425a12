"""`init --from`: releases, questions and scorers from what was recorded; what is not carried or known is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.release.load import load_release
from bisect_ai.runs.draft import inferred_template
from bisect_ai.runs.promptfoo_config import _ConfigReader
from bisect_ai.runs.promptfoo_tests import carried_asserts, template
from bisect_ai.runs.recorded_release import doubled_braces, litellm_model
from bisect_ai.targets.pipeline import fill_template
from bisect_ai.targets.promptfoo_target import prompt_of, provider_of
from tests.unit.made_results import broken, inspect_log, passes, promptfoo

FIXTURES = Path(__file__).parents[2] / "fixtures" / "logs"


def init(folder: Path, *arguments: Any) -> str:
    done = CliRunner().invoke(main, ["init", *map(str, arguments), str(folder)])
    assert done.exit_code == 0, done.output
    return done.output


def study(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((folder / "bisect.yaml").read_text())
    return read


def questions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / "questions.jsonl").read_text().splitlines()]


def command(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(main, [arguments[0], str(folder / "bisect.yaml"), *arguments[1:]])


# -- end to end ----------------------------------------------------------------------------------------------------------
def test_from_result_files_to_a_run_that_names_the_axis(tmp_path: Path) -> None:
    good = passes(120)
    files = [
        inspect_log(tmp_path / "good.json", good),
        inspect_log(tmp_path / "bad.json", broken(good, 3), model="acme/two", model_generate_config={"temperature": 1}),
    ]
    told = init(tmp_path / "made", "--from", files[0], "--from", files[1])
    assert "they differ in: model" in told and "not known: good.json: no system prompt is recorded" in told
    plan = command(tmp_path / "made", "plan")
    assert plan.exit_code == 0, plan.output
    (tmp_path / "made" / "app.py").write_text(
        "def answer(query, release):\n    bad = release['model']['model'] == 'acme/two'\n"
        "    return 'no' if bad and query.id.endswith(('0', '3', '6')) else 'yes'\n"
    )
    config = study(tmp_path / "made")
    config["target"] = {"kind": "python", "function": "app:answer"}
    (tmp_path / "made" / "bisect.yaml").write_text(yaml.safe_dump(config))
    done = command(tmp_path / "made", "run", "--json", str(tmp_path / "r.json"))
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert [cause["axes"] for cause in report["verdict"]["causes"]] == [["model"]]
    assert report["metric"] == "match"


def test_from_what_promptfoo_wrote(tmp_path: Path) -> None:
    told = init(tmp_path / "made", "--from", FIXTURES / "promptfoo" / "results.json")
    releases = [load_release(tmp_path / "made" / "releases" / f"{side}.yaml") for side in ("good", "bad")]
    assert [r.name for r in releases] == ["2026-11-13", "2026-11-20"]
    assert releases[0].axes["model"] == {"model": "openai/gpt-4o-2024-08-06", "temperature": 0}
    assert releases[1].axes["prompt"] == {
        "system": "You are the help desk of a plant shop. Answer in one sentence. Be brief.",
        "user": "{question}",
    }
    assert study(tmp_path / "made")["scorers"] == [
        {"kind": "contains", "name": "correct", "ignore_case": True, "expected": "reference"}
    ]
    assert "settings of provider openai:chat:gpt-4o-2024-08-06 that are not carried: apiBaseUrl" in told
    assert len(questions(tmp_path / "made")) == 12
    assert command(tmp_path / "made", "plan").exit_code == 0


def test_one_configuration_makes_both_releases_and_epochs_one_question(tmp_path: Path) -> None:
    told = init(tmp_path / "made", "--from", FIXTURES / "inspect" / "plants.eval")
    assert "both releases are the same" in told
    assert "tools were called (find_order) but their schemas are not recorded" in told
    assert "score match: none of the built-in scorers gives what was logged" in told
    assert study(tmp_path / "made")["metric"] == "includes"
    assert len(questions(tmp_path / "made")) == 12


def test_traces_of_two_releases(tmp_path: Path) -> None:
    schema = {
        "type": "function",
        "function": {"name": "find", "parameters": {"type": "object", "properties": {"file": {"type": "string"}}}},
    }
    rows = [
        {
            "id": f"{release}-{i}", "release": release, "at": f"2026-05-{day}T10:00:00Z", "input": f"Question {i}?", "model": model,
            "system": system, "params": {"temperature": 0, "timeout": 9}, "tools": [schema], "output": "x",
            "documents": [{"id": f"d{i % 3}", "text": f"Text {i % 3}"}, "loose text"],
        }
        for release, day, model, system in (("v2", "20", "gpt-4o", "Be {brief}.\nAnd kind."), ("v1", "10", "gpt-4o", "Be long."))
        for i in range(6)
    ]  # fmt: skip
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = init(tmp_path / "made", "--from", tmp_path / "traces.jsonl")
    good, bad = (load_release(tmp_path / "made" / "releases" / f"{side}.yaml") for side in ("good", "bad"))
    assert (good.name, bad.name) == ("v1", "v2"), "the earlier one is good"
    assert good.axes["tools"] == [schema], "a schema that looks like a reference is data"
    assert set(good.axes["corpus"]["documents"]) >= {"d0", "d1", "d2"} and good.axes["corpus"]["retriever"]["k"] == 2
    assert good.axes["model"] == {"model": "gpt-4o", "temperature": 0}
    assert fill_template(str(bad.axes["prompt"]["system"]), {"brief": "wrong"}) == "Be {brief}.\nAnd kind.", (
        "recorded text is no template"
    )
    assert "those never retrieved" in told and "no scorer says right or wrong" in told
    assert command(tmp_path / "made", "plan").exit_code == 0


def test_what_differs_and_no_axis_carries_is_said(tmp_path: Path) -> None:
    for name, model in (("good", "one"), ("bad", "two")):
        rows = [
            {
                "id": f"{name}{i}", "trace_id": f"{name}{i}", "op_name": "weave:///p/op/Evaluation.predict_and_score:v1",
                "started_at": "2026-05-01T10:00:00Z", "output": {"output": "4", "scores": {"right": {"correct": True}}},
                "inputs": {"example": {"question": f"2+{i}"}, "model": f"weave:///p/object/{model}:v1"},
            }
            for i in range(6)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = init(tmp_path / "made", "--from", tmp_path / "good.jsonl", "--from", tmp_path / "bad.jsonl")
    assert "this differs, and no axis carries it: model (one:v1 -> two:v1)" in told


CELLS = {
    "contains: depot 4": ("contains", "depot 4"),
    "not-icontains:no": ("not-icontains", "no"),
    'contains-any: "a, b",c': ("contains-any", ["a, b", "c"]),
    "is-json": ("is-json", None),
    "contains-json": ("contains-json", None),
    "fn: output.includes('x')": ("javascript", "output.includes('x')"),
    "eval:1": ("javascript", "1"),
    "javascript: output.length < 10": ("javascript", "output.length < 10"),
    "file://check.js": ("javascript", "file://check.js"),
    "file://checks/a.mjs:named": ("javascript", "file://checks/a.mjs:named"),
    "file://check.py:graded": ("python", "file://check.py:graded"),
    "python: len(output) < 10": ("python", "len(output) < 10"),
    "grade: polite": ("llm-rubric", "polite"),
    "rouge-n(0.6): the cat": ("rouge-n", "the cat"),
    "levenshtein(5): hello": ("levenshtein", "hello"),
    "latency(500)": ("latency", None),
    "note: hello": ("equals", "note: hello"),
    "It is: contains: x": ("equals", "It is: contains: x"),
}


@pytest.mark.parametrize("cell", CELLS)
def test_an_assert_in_a_cell_of_promptfoos_csv(tmp_path: Path, cell: str) -> None:
    with (tmp_path / "tests.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["question", "__expected", "__metadata:intent"], ["Why?", cell, "parcel"]])
    (tmp_path / "c.yaml").write_text("prompts: ['{{question}}']\nproviders: [openai:gpt-4o]\ntests: tests.csv\n")
    (test,) = _ConfigReader(tmp_path / "c.yaml").tests()
    ((kind, value),) = [(each["type"], each["value"]) for each in test["assert"]]
    assert (kind, value) == CELLS[cell]
    told = init(tmp_path / "made", "--from", tmp_path / "c.yaml")
    assert questions(tmp_path / "made")[0]["intent"] == "parcel"
    if kind in ("javascript", "python", "rouge-n", "levenshtein", "contains-json", "not-icontains"):
        assert f"asserts of type {kind} are not carried (1 test)" in told


def test_a_promptfoo_config(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(
        'Answer {{question}} as JSON {"a": 1} {input}\n---\n{% if x %}no{% endif %}{{ question | upper }}'
    )
    (tmp_path / "tests.csv").write_text("question,__expected,__expected2\nWhen?,contains:nine,cost(0.01):\nIs it?,yes,\n")
    (tmp_path / "topic.txt").write_text("hours")
    config = {
        "prompts": ["file://one.txt", "file://gen.py", "file://../secret.txt"],
        "providers": [
            "openai:chat:gpt-4o",
            {"id": "anthropic:messages:claude-x", "config": {"temperature": 0.2, "apiKey": "k"}},
        ],
        "defaultTest": {"assert": [{"type": "latency", "threshold": 5}]},
        "tests": [
            {
                "vars": {"question": "About {{x}}?", "topic": "file://topic.txt"},
                "assert": [{"type": "icontains", "value": "{{topic}}"}],
            },
            {
                "vars": {"question": ["A?", "B?"]},
                "assert": [{"type": "javascript", "value": "1"}, {"type": "llm-rubric", "value": "polite"}],
            },
            "file://tests.csv",
        ],
    }
    (tmp_path / "promptfooconfig.yaml").write_text(yaml.safe_dump(config))
    told = init(tmp_path / "made", "--from", tmp_path / "promptfooconfig.yaml")
    assert "asserts of type javascript are not carried (2 tests)" in told
    assert "gen.py: code and templates of programs are not carried" in told and "secret.txt" in told
    assert "filters, loops and conditions" in told
    asked = questions(tmp_path / "made")
    assert [q["input"] for q in asked] == ["About {{x}}?", "A?", "B?", "When?", "Is it?"]
    assert asked[0]["topic"] == "hours" and "hours" in asked[0].values()
    kinds = {scorer["name"]: scorer["kind"] for scorer in study(tmp_path / "made")["scorers"]}
    assert kinds == {
        "latency": "latency",
        "llm_rubric": "judge",
        "icontains": "contains",
        "contains": "contains",
        "cost": "cost",
        "equals": "exact",
    }
    good = load_release(tmp_path / "made" / "releases" / "good.yaml")
    filled = fill_template(str(good.axes["prompt"]["user"]), {"question": "Q", "input": "Q"})
    assert filled == 'Answer Q as JSON {"a": 1} {input}'
    assert command(tmp_path / "made", "plan").exit_code == 0
    named = init(tmp_path / "other", "--from", tmp_path / "promptfooconfig.yaml", "--bad", "anthropic/claude-x · one.txt")
    assert "bad: anthropic/claude-x · one.txt" in named


def test_a_promptfoo_config_of_programs_is_run_by_promptfoo(tmp_path: Path) -> None:
    """Two providers with one program, told apart by label and settings, and a template that only promptfoo fills."""
    template = 'Answer as {"a": 1}.{% if x %} Soon.{% endif %}\n\n{{ question | upper }}\n'
    entry = {"id": "file://shop.js", "config": {"size": "small", "apiKey": "k"}}
    config = {
        "prompts": ["file://one.txt", "Briefly: {{question}}"],
        "providers": [{**entry, "label": "small"}, {**entry, "label": "large", "config": {"size": "large"}}],
        "tests": [{"vars": {"question": "When?"}, "assert": [{"type": "contains", "value": "nine"}]}],
    }
    (tmp_path / "one.txt").write_text(template)
    (tmp_path / "promptfooconfig.yaml").write_text(yaml.safe_dump(config))
    told = init(tmp_path / "made", "--from", tmp_path / "promptfooconfig.yaml")
    assert "they differ in: model, prompt" in told and "app.py" not in told and "filters" not in told
    assert study(tmp_path / "made")["target"] == {"kind": "promptfoo", "config": "../promptfooconfig.yaml"}
    good, bad = (load_release(tmp_path / "made" / "releases" / f"{side}.yaml") for side in ("good", "bad"))
    assert (good.axes["model"], bad.axes["model"]) == (
        {"provider": "small", "size": "small"},
        {"provider": "large", "size": "large"},
    )
    assert prompt_of(good.axes["prompt"])["raw"] == template.strip()
    assert prompt_of(bad.axes["prompt"])["raw"] == "Briefly: {{question}}"
    assert provider_of(bad.axes["model"], config)["config"] == {"size": "large"}


def test_files_that_are_there_are_left_alone(tmp_path: Path) -> None:
    made = inspect_log(tmp_path / "a.json", passes(10))
    init(tmp_path / "made", "--from", made)
    done = CliRunner().invoke(main, ["init", "--from", str(made), str(tmp_path / "made")])
    assert done.exit_code == 2 and "it is there already" in done.output


def test_credentials_do_not_get_in(tmp_path: Path) -> None:
    key = "sk-proj-" + "a1B2" * 12
    rows = [
        {"id": str(i), "input": "Hello?", "system": f"Use {key}", "model": "gpt-4o", "release": r}
        for i, r in enumerate("ab" * 3)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "looked like a credential was taken out" in init(tmp_path / "made", "--from", tmp_path / "t.jsonl")
    assert not any(key in path.read_text() for path in (tmp_path / "made").rglob("*") if path.is_file())


def test_hostile_names_make_no_paths_and_no_markup(tmp_path: Path) -> None:
    evil = "../../x\x1b[2J\n::error::\u202e{env: HOME}"
    rows = [
        {
            "id": evil + str(i),
            "input": evil,
            "system": "{env: HOME}",
            "model": f"m{r}",
            "release": evil + r,
            "documents": [{"id": evil, "text": evil}],
        }
        for r in "ab"
        for i in range(3)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = init(tmp_path / "made", "--from", tmp_path / "t.jsonl")
    assert "\x1b" not in told and "\u202e" not in told
    good = load_release(tmp_path / "made" / "releases" / "good.yaml")
    assert dict(good.axes["corpus"]["documents"]) == {evil: evil}
    assert fill_template(str(good.axes["prompt"]["system"]), {}) == "{env: HOME}"
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} <= {tmp_path.name, "made", "releases", "logs"}


# -- parts ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("openai:chat:gpt-4o", "openai/gpt-4o"),
        ("openai:gpt-4o", "openai/gpt-4o"),
        ("anthropic:messages:claude-x", "anthropic/claude-x"),
        ("ollama:chat:llama3:8b", "ollama_chat/llama3:8b"),
        ("openrouter:meta/llama", "openrouter/meta/llama"),
        ("google/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("gpt-4o", "gpt-4o"),
        ("exec:./bot.sh", None),
        ("file://bot.py", None),
        ("https://example.org/api", None),
        ("acme:one", None),
    ],
)
def test_models_by_litellms_names(theirs: str, ours: str | None) -> None:
    assert litellm_model(theirs) == ours


@pytest.mark.parametrize("text", ["{input}", "{{input}}", '{"a": {"b": 1}}', "{{{x}}}", "}} {{", "plain"])
def test_a_recorded_text_comes_back_as_it_was(text: str) -> None:
    assert fill_template(doubled_braces(text), {"input": "wrong", "x": "wrong"}) == text


def test_a_template_fills_as_promptfoos_does() -> None:
    text, code = template('Say {{ name }} and {{id}} in {"json": "{name}"}')
    assert fill_template(text, {"name": "A", "var_id": "B", "id": "wrong"}) == 'Say A and B in {"json": "{name}"}'
    assert not code
    assert fill_template(template("{{{x}}} {{{{x}}}}")[0], {"x": "A"}) == "{A} {{A}}"
    assert template("{{ name | upper }}")[1]


def test_a_template_is_found_behind_prompts_as_sent() -> None:
    records = [{"vars": {"question": q, "tone": "kind"}, "input": f"Desk. {q} Be kind {{x}}."} for q in ("Where?", "When?")]
    found = inferred_template(records)
    assert found is not None
    assert fill_template(found["user"], {"question": "Why?", "tone": "kind", "x": "wrong"}) == "Desk. Why? Be kind {x}."
    assert inferred_template([*records, {"vars": {"question": "No"}, "input": "Something else: No"}]) is None


def test_asserts_that_differ_from_test_to_test_are_not_carried_as_patterns() -> None:
    same = carried_asserts([{"assert": [{"type": "regex", "value": "a+"}]} for _ in range(2)])
    assert same.scorers == [{"kind": "regex", "name": "regex", "pattern": "a+"}]
    other = carried_asserts([{"assert": [{"type": "regex", "value": v}]} for v in ("a", "b")])
    assert not other.scorers and sum(other.left_out.values()) == 2


def test_nested_sets_of_asserts_and_metrics_by_name() -> None:
    nested = [{"type": "assert-set", "assert": [{"type": "contains", "value": "x", "metric": "correct"}]}]
    found = carried_asserts([{"assert": nested}, {"assert": [{"type": "contains", "value": "{{gone}}", "metric": "correct"}]}])
    assert found.scorers == [{"kind": "contains", "name": "correct", "expected": "reference"}]
    assert found.columns == [{"reference": "x"}, {}]
    assert sum(found.left_out.values()) == 1


def test_grids_give_first_and_last_and_named_ones(tmp_path: Path) -> None:
    good = passes(12)
    grid = promptfoo(
        tmp_path / "g.json",
        {("openai:m1", "p1"): good, ("openai:m1", "p2"): good, ("openai:m2", "p1"): good, ("openai:m2", "p2"): good},
    )
    assert "good: openai:m1 · p1; bad: openai:m2 · p2" in init(tmp_path / "a", "--from", grid)
    assert "they differ in: prompt" in init(tmp_path / "b", "--from", grid, "--bad", "openai:m1 · p2")


def test_arguments_of_a_task_that_differ_are_an_axis(tmp_path: Path) -> None:
    good = passes(40)
    given = {"style": "brief", "shots": 3}
    files = [
        inspect_log(tmp_path / "good.json", good, task_args=given),
        inspect_log(tmp_path / "bad.json", broken(good, 3), task_args={**given, "shots": 0}),
    ]
    told = init(tmp_path / "made", "--from", files[0], "--from", files[1])
    assert "they differ in: task" in told and "arguments differ (shots)" in told and "app.py" in told
    releases = [load_release(tmp_path / "made" / "releases" / f"{side}.yaml") for side in ("good", "bad")]
    assert [release.axes["task"] for release in releases] == [given, {**given, "shots": 0}]
    assert study(tmp_path / "made")["target"] == {"kind": "python", "function": "app:answer"}
    plan = command(tmp_path / "made", "plan")
    assert plan.exit_code == 0 and "over 1 changed axis" in plan.output and "axes             task" in plan.output, plan.output


def test_arguments_of_a_task_that_are_alike_are_none(tmp_path: Path) -> None:
    files = [
        inspect_log(tmp_path / f"{model}.json", passes(20), model=f"acme/{model}", task_args={"style": {"deep": 1}})
        for model in ("one", "two")
    ]
    assert "they differ in: model" in init(tmp_path / "made", "--from", files[0], "--from", files[1])
    assert study(tmp_path / "made")["target"] == {"kind": "litellm"}
