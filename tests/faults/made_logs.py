"""A few records of tools whose files are small enough to write down, as their JSON: what mutations start from."""

from __future__ import annotations

from typing import Any

TALK = [{"type": "human", "content": "2+2"}, {"type": "ai", "content": "4"}]
_RUN = {"trace_id": "t", "start_time": "2026-05-01T10:00:00", "end_time": "2026-05-01T10:00:01", "error": None}
MADE: dict[str, Any] = {
    "deepeval": {
        "testRunData": {
            "identifier": "night",
            "hyperparameters": {"model": "m"},
            "testCases": [
                {
                    "name": "a",
                    "input": "2+2",
                    "actualOutput": "4",
                    "expectedOutput": "4",
                    "retrievalContext": ["sums"],
                    "success": True,
                    "toolsCalled": [{"name": "add", "inputParameters": {"a": 2}, "output": 4}],
                    "metricsData": [{"name": "Right", "score": 1.0, "success": True, "error": None}],
                }
            ],
            "conversationalTestCases": [
                {"name": "c", "turns": [{"role": "user", "content": "hi"}], "success": True, "metricsData": []}
            ],
        }
    },
    "ragas": {"user_input": TALK, "retrieved_contexts": ["sums"], "response": "4", "reference": "4", "faithfulness": 0.5},
    "langsmith": [
        {**_RUN, "id": "r", "run_type": "chain", "name": "d", "parent_run_id": None, "inputs": {"messages": TALK[:1]}}
        | {
            "outputs": {"messages": TALK},
            "extra": {"metadata": {"revision_id": "a"}},
            "feedback_stats": {"ok": {"n": 1, "avg": 1}},
        },
        {**_RUN, "id": "m", "run_type": "llm", "name": "m", "parent_run_id": "r", "inputs": {"messages": [TALK]}}
        | {"outputs": {"generations": [[{"text": "4", "message": {"kwargs": {"content": "4"}}}]]}},
        {"example_id": "e", "id": "x", "inputs.question": "2+2", "outputs.output": "4", "feedback.correct": 1},
    ],
    "braintrust": [
        {
            "id": "a",
            "_xact_id": "1",
            "span_id": "a",
            "root_span_id": "a",
            "span_parents": [],
            "input": {"question": "2+2"},
            "output": "4",
        }
        | {"span_attributes": {"name": "eval", "type": "eval"}, "scores": {"ok": 1}, "expected": "4", "experiment_id": "x"},
        {"id": "b", "_xact_id": "1", "span_id": "b", "root_span_id": "a", "span_parents": ["a"], "input": TALK, "output": "4"}
        | {"span_attributes": {"name": "chat", "type": "llm"}, "metadata": {"model": "m"}},
    ],
    "mlflow": [
        {
            "info": {
                "trace_id": "t",
                "request_time": "2026-05-01T10:00:00Z",
                "trace_metadata": {"mlflow.sourceRun": "r"},
                "tags": {},
                "assessments": [{"assessment_name": "ok", "feedback": {"value": "yes"}}, {"expectation": {"value": "4"}}],
            },
            "data": {
                "spans": [
                    {
                        "span_id": "1",
                        "parent_span_id": None,
                        "name": "a",
                        "attributes": {"mlflow.spanInputs": '{"question": "2+2"}'},
                    },
                    {"span_id": "2", "parent_span_id": "1", "name": "b", "attributes": {"mlflow.spanType": '"RETRIEVER"'}},
                ]
            },
        },
        {"inputs": "2+2", "outputs": "4", "exact_match/v1/score": 1, "ground_truth": "4"},
    ],
    "weave": [
        {
            "id": "a",
            "op_name": "weave:///p/op/desk:v3",
            "trace_id": "t",
            "parent_id": None,
            "started_at": "2026-05-01T10:00:00Z",
        }
        | {"inputs": {"question": "2+2"}, "output": {"text": "4"}, "exception": None, "summary": {}},
        {
            "id": "b",
            "op_name": "weave:///p/op/Evaluation.predict_and_score:v1",
            "trace_id": "u",
            "started_at": "2026-05-01T10:00:00Z",
        }
        | {
            "inputs": {"example": {"question": "2+2"}, "model": "x"},
            "output": {"output": "4", "scores": {"m": {"correct": True}}},
        },
    ],
    "lm_eval": {
        "doc_id": 0,
        "doc": {"question": "2+2"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": "Q: 2+2", "arg_1": {"until": ["x"]}}},
        "resps": [["4"]],
        "filtered_resps": ["4"],
        "filter": "none",
        "metrics": ["acc"],
        "acc": 1.0,
    },
    "openai_evals": [
        {"spec": {"completion_fns": ["m"], "eval_name": "e", "run_id": "r", "created_at": "2026-05-01"}},
        {"run_id": "r", "event_id": 0, "sample_id": "s", "type": "sampling", "data": {"prompt": "2+2", "sampled": ["4"]}},
        {"run_id": "r", "event_id": 1, "sample_id": "s", "type": "match", "data": {"correct": True, "expected": "4"}},
    ],
    "langfuse page": {
        "id": "t0",
        "timestamp": "2026-05-01T10:00:00Z",
        "name": "desk",
        "bookmarked": False,
        "public": False,
        "tags": [],
        "input": '{"messages": [{"role": "user", "content": "2+2"}]}',
        "output": '"4"',
        "correct": [1],
    },
    "langfuse download": {
        "trace": {
            "id": "t",
            "timestamp": "2026-05-01T10:00:00Z",
            "scores": [{"id": "s", "name": "ok", "value": 1, "source": "API", "traceId": "t"}],
        },
        "observations": [{"id": "o", "traceId": "t", "type": "GENERATION", "input": {"args": ["2+2"]}, "output": "4"}],
    },
    "held rows": {
        "model": "m",
        "results": [{"id": 1, "input": "2+2", "output": ["4"], "scores": {"a": [1]}, "documents": "['a']"}],
    },
}
"""Several records are written one a line."""
