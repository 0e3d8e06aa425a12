"""Results and traces of DeepEval, ragas, LangSmith, Braintrust, MLflow, Weave, lm-eval and OpenAI evals, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import LogSettings, Sample


def loaded(path: Path, value: Any, **settings: Any) -> Sample:
    text = "\n".join(json.dumps(each) for each in value) if path.suffix == ".jsonl" else json.dumps(value, indent=1)
    path.write_text(text)
    return load_queries(path, settings=LogSettings(sample=None, **settings))


def only(sample: Sample) -> Query:
    (query,) = sample.queries
    return query


def test_deepeval_has_scores_documents_tools_and_hyperparameters(tmp_path: Path) -> None:
    metrics = [
        {"name": "Faithfulness [GEval]", "score": 0.9, "success": True, "threshold": 0.5},
        {"name": "Broken", "score": None, "success": False, "error": "timeout"},
    ]
    case = {
        "name": "t",
        "input": "2+2",
        "actualOutput": '{"a":1}',
        "expectedOutput": "4",
        "retrievalContext": ["sums"],
        "order": 3,
    }
    case |= {
        "metricsData": metrics,
        "success": False,
        "toolsCalled": [{"name": "add", "inputParameters": {"a": 2}, "output": 4}],
    }
    run = {"identifier": "night", "testCases": [case], "hyperparameters": {"model": "m", "prompt": "p2"}}
    for value in ({"testRunData": run}, run):
        sample = loaded(tmp_path / "test_run_20260501_100000.json", value)
        query = only(sample)
        assert (sample.format, query.input, query.output, query.reference) == ("deepeval", "2+2", '{"a":1}', "4")
        assert (query.scores, query.documents) == ({"Faithfulness [GEval]": 0.9}, ["sums"])
        assert query.tool_results == [{"name": "add", "arguments": {"a": 2}, "result": 4}]
        assert (query["versions"], query["run_id"], query["run_at"]) == (
            {"model": "m", "prompt": "p2"},
            "night",
            "20260501T10:00:00",
        )


def test_a_conversation_of_deepeval_asks_its_last_question(tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": text, "order": i} for i, (role, text) in enumerate([("user", "hi"), ("assistant", "ho")])
    ]
    case = {"name": "c", "turns": turns, "success": True, "metricsData": [{"name": "Role", "score": 1, "success": True}]}
    query = only(loaded(tmp_path / "run.json", {"testCases": [], "conversationalTestCases": [case]}))
    assert (query.input, query.output, query.scores) == ("hi", "ho", {"Role": 1, "success": 1})


def test_ragas_rows_of_several_turns(tmp_path: Path) -> None:
    talk = [{"content": "2+2", "type": "human"}, {"content": "4", "type": "ai"}, {"content": "3+3", "type": "human"}]
    row = {
        "user_input": talk,
        "response": "6",
        "retrieved_contexts": ["sums"],
        "reference": "6",
        "faithfulness": 0.5,
        "bleu": None,
    }
    query = only(loaded(tmp_path / "r.jsonl", [row]))
    assert (query.input, query.output, query.scores, query.documents) == ("3+3", "6", {"faithfulness": 0.5}, ["sums"])


def run(name: str, parent: str | None, kind: str, inputs: Any, outputs: Any, **more: Any) -> dict[str, Any]:
    base = {
        "id": name,
        "trace_id": "root",
        "parent_run_id": parent,
        "run_type": kind,
        "name": name,
        "start_time": f"2026-05-01T10:00:0{len(name)}",
    }
    return {**base, "inputs": inputs, "outputs": outputs, "error": None, "end_time": "2026-05-01T10:01", **more}


def test_a_trace_of_langsmith_is_one_query(tmp_path: Path) -> None:
    human = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": "2+2"},
    }
    said = {"generations": [[{"text": "4", "message": {"kwargs": {"content": "4"}}}]]}
    rows = [
        run(
            "root",
            None,
            "chain",
            {"question": "2+2"},
            {"output": "4"},
            feedback_stats={"ok": {"n": 2, "avg": 0.5}, "x": {"avg": None}},
        ),
        run("find", "root", "retriever", {"query": "2+2"}, {"documents": [{"page_content": "sums", "metadata": {"id": 1}}]}),
        run("tool", "root", "tool", {"input": "a"}, {"output": "b"}),
        run(
            "model",
            "root",
            "llm",
            {"messages": [[human]]},
            said,
            extra={"metadata": {"ls_model_name": "m", "revision_id": "r"}},
        ),
    ]
    for path, value in ((tmp_path / "runs.jsonl", rows), (tmp_path / "runs.json", rows)):
        sample = loaded(path, value)
        query = only(sample)
        assert (sample.format, sample.read, query.input, query.output, query.scores) == (
            "langsmith",
            4,
            "2+2",
            "4",
            {"ok": 0.5},
        )
        assert (query.release, query["model"], query.documents[0]["text"]) == ("r", "m", "sums")
        assert query.tool_results == [{"name": "tool", "arguments": "a", "result": "b"}]


def test_a_failed_run_of_langsmith_has_no_score(tmp_path: Path) -> None:
    row = run("root", None, "chain", {"question": "2+2"}, None, error="boom", feedback_stats={"ok": {"avg": 0.0}})
    query = only(loaded(tmp_path / "runs.jsonl", [row]))
    assert (query.input, query.output, query.scores) == ("2+2", None, {})


def test_an_experiment_of_langsmith_as_a_table(tmp_path: Path) -> None:
    rows = [
        {
            "example_id": f"e{i}",
            "id": f"r{i}",
            "inputs.question": f"{i}+{i}",
            "outputs.output": str(2 * i),
            "reference.answer": str(2 * i),
        }
        | {"feedback.correct": i % 2, "error": None if i else "boom"}
        for i in range(3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "experiment.csv", index=False)
    sample = load_queries(tmp_path / "experiment.csv")
    told = {q.id: (q.input, q.output, q.scores, q.reference) for q in sample.queries}
    assert sample.format == "langsmith"
    assert told == {
        "r0": ("0+0", None, {}, "0"),
        "r1": ("1+1", "2", {"correct": 1}, "2"),
        "r2": ("2+2", "4", {"correct": 0}, "4"),
    }


def test_rows_of_braintrust_are_put_together(tmp_path: Path) -> None:
    def row(name: str, above: list[str], kind: str, **more: Any) -> dict[str, Any]:
        attributes = {"name": name, "type": kind, **({"purpose": "scorer"} if kind == "score" else {})}
        return {
            "id": name,
            "span_id": name,
            "root_span_id": "eval",
            "span_parents": above,
            "span_attributes": attributes,
            "_xact_id": "1",
            **more,
        }

    top = row("eval", [], "eval", input={"question": "2+2"}, output="4", expected="4", experiment_id="x", created="2026-05-01")
    rows = [
        {**top, "scores": {"old": 1}},
        {**top, "_xact_id": "2", "scores": {"Factuality": 0.5, "none": None}, "metadata": {"model": "m"}},
        row(
            "chat",
            ["eval"],
            "llm",
            input=[{"role": "user", "content": "2+2"}],
            output=[{"message": {"role": "assistant", "content": "4"}}],
        ),
        row("Factuality", ["eval"], "score", input={"output": "4"}, output=0.5),
    ]
    sample = loaded(tmp_path / "rows.jsonl", rows)
    query = only(sample)
    assert (sample.format, sample.read, sample.dropped["duplicate"]) == ("braintrust", 4, 1)
    assert (query.input, query.output, query.scores, query.reference) == ("2+2", "4", {"Factuality": 0.5}, "4")
    assert query["run_id"] == "x"


def test_a_trace_of_mlflow_is_one_query(tmp_path: Path) -> None:
    def span(name: str, above: str | None, kind: str, given: Any, returned: Any) -> dict[str, Any]:
        told = {"mlflow.spanType": kind, "mlflow.spanInputs": given, "mlflow.spanOutputs": returned}
        return {
            "span_id": name,
            "parent_span_id": above,
            "name": name,
            "attributes": {k: json.dumps(v) for k, v in told.items()},
        }

    messages = [{"role": "user", "content": "2+2"}]
    spans = [
        span("agent", None, "AGENT", {"question": "2+2"}, "4"),
        span("find", "agent", "RETRIEVER", {"query": "2+2"}, [{"page_content": "sums"}]),
        span(
            "chat",
            "agent",
            "CHAT_MODEL",
            {"messages": messages, "model": "m"},
            {"choices": [{"message": {"role": "assistant", "content": "4"}}]},
        ),
    ]
    assessments = [
        {"assessment_name": "correct", "feedback": {"value": "yes"}},
        {"assessment_name": "safe", "feedback": {"value": None, "error": {"error_code": "x"}}},
        {"assessment_name": "old", "feedback": {"value": 1}, "valid": False},
        {"assessment_name": "expected_response", "expectation": {"value": "4"}},
    ]
    info = {"trace_id": "tr-1", "request_time": "2026-05-01T10:00:00Z", "state": "OK", "assessments": assessments}
    info |= {"trace_metadata": {"mlflow.sourceRun": "run7", "mlflow.modelId": "m-3"}, "tags": {"mlflow.trace.session": "s"}}
    for value in ({"info": info, "data": {"spans": spans}}, [{"info": info, "data": {"spans": spans}}]):
        sample = loaded(tmp_path / "traces.json", value)
        query = only(sample)
        assert (sample.format, query.input, query.output, query.scores, query.reference) == (
            "mlflow",
            "2+2",
            "4",
            {"correct": 1.0},
            "4",
        )
        assert (query.release, query.cluster, query["run_id"], query.documents[0]["text"]) == ("m-3", "s", "run7", "sums")
        assert query["model"] == "m" and query["versions"] == {"model": "m"}
    flat = {**info, "request": '"2+2"', "response": '"4"', "execution_duration": 5, "spans": spans}
    assert only(loaded(tmp_path / "table.jsonl", [flat])).input == "2+2"


def test_an_evaluation_table_of_mlflow(tmp_path: Path) -> None:
    names = [
        "inputs",
        "ground_truth",
        "outputs",
        "token_count",
        "toxicity/v1/score",
        "exact_match/v1/score",
        "toxicity/v1/ratio",
    ]
    table = {"columns": names, "data": [["2+2", "4", "4", 1, 0.25, True, 0.0], ["3+3", "6", "5", 1, None, False, 0.0]]}
    sample = loaded(tmp_path / "eval_results_table.json", table)
    told = {q.input: (q.output, q.reference, q.scores) for q in sample.queries}
    assert sample.format == "mlflow"
    assert told == {
        "2+2": ("4", "4", {"toxicity/v1": 0.25, "exact_match/v1": 1.0}),
        "3+3": ("5", "6", {"exact_match/v1": 0.0}),
    }


def test_an_evaluation_of_weave_is_its_examples(tmp_path: Path) -> None:
    def call(name: str, op: str, above: str | None, inputs: Any, output: Any, **more: Any) -> dict[str, Any]:
        base = {
            "id": name,
            "op_name": f"weave:///a/p/op/{op}:v1",
            "trace_id": "t",
            "parent_id": above,
            "started_at": "2026-05-01T10:00:00Z",
        }
        return {**base, "inputs": inputs, "output": output, "exception": None, "summary": {}, **more}

    scored = {"output": "4", "scores": {"match": {"correct": True}, "f1": 0.5}, "model_latency": 1}
    rows = [
        call("e", "Evaluation.evaluate", None, {"self": "weave:///a/p/object/Evaluation:v0"}, {"f1": {"mean": 0.5}}),
        call(
            "p",
            "Evaluation.predict_and_score",
            "e",
            {"example": {"question": "2+2", "expected": "4"}, "model": "weave:///a/p/object/Desk:v2"},
            scored,
        ),
        call("m", "Desk.predict", "p", {"question": "2+2"}, "4"),
    ]
    sample = loaded(tmp_path / "calls.jsonl", rows)
    query = only(sample)
    assert (sample.format, sample.dropped) == ("weave", {"part of another record": 2})
    assert (query.input, query.output, query.reference, query["versions"]) == ("2+2", "4", "4", {"model": "Desk:v2"})
    assert query.scores == {"match.correct": 1.0, "f1": 0.5}


def test_a_rendered_prompt_of_the_harness_is_told(tmp_path: Path) -> None:
    base = {
        "doc_id": 0,
        "target": "4",
        "resps": [["4"]],
        "filtered_resps": ["4"],
        "filter": "none",
        "metrics": ["acc"],
        "acc": 1.0,
    }
    row = {**base, "doc": {"premise": "two and two"}, "arguments": [["Solve: two and two\nAnswer:", {}]]}
    sample = loaded(tmp_path / "samples_sums_2026-05-01T10-00-00.000.jsonl", [row])
    query = only(sample)
    assert (sample.format, query.input, query.output, query.scores) == (
        "lm_eval",
        "Solve: two and two\nAnswer:",
        "4",
        {"acc": 1.0},
    )
    assert (query["run_name"], query["run_at"]) == ("sums", "2026-05-01T10:00:00.000")
    assert any("old prompt" in line for line in sample.notices)
    choice = {
        **base,
        "doc": {"question": "2+2"},
        "arguments": {"gen_args_0": {"arg_0": "Q: 2+2", "arg_1": " 4"}},
        "resps": [[["-0.5", "True"]]],
    }
    assert only(loaded(tmp_path / "b.jsonl", [choice])).output is None


def test_samples_of_openai_evals_are_joined_by_id(tmp_path: Path) -> None:
    def event(kind: str, **data: Any) -> dict[str, Any]:
        return {
            "run_id": "r",
            "event_id": 0,
            "sample_id": "s.0",
            "type": kind,
            "data": data,
            "created_by": "",
            "created_at": "2026-05-01",
        }

    rows = [
        {"spec": {"completion_fns": ["m"], "eval_name": "sums.v0", "run_id": "r", "created_at": "2026-04-30"}},
        event("sampling", prompt="2+2", sampled=["4"]),
        event("sampling", prompt="[BEGIN DATA] grade", sampled=["Y"]),
        event("metrics", choice="Y", score=0.5),
        {"final_report": {"accuracy": 0.5}},
    ]
    query = only(loaded(tmp_path / "record.jsonl", rows))
    assert (query.input, query.output, query.scores, query["run_name"]) == ("2+2", "4", {"score": 0.5}, "sums.v0")


def test_times_in_file_names_are_times() -> None:
    from bisect_ai.queries.values import microseconds

    for stamp in ("20260501T10:00:00", "2026-05-01T10:00:00.000"):
        assert microseconds(stamp) == 1_777_629_600_000_000
