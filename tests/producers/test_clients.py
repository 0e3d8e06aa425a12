"""Clients that send to a server, newest versions: MLflow into its SQLite store, LangSmith and Langfuse to a stand-in on 127.0.0.1."""

from __future__ import annotations

from pathlib import Path

import pytest

import bisect_ai
from bisect_ai.queries.load_log import load_queries
from tests.producers.test_producers import QUESTIONS, loses_half, python_tool, ran

pytestmark = pytest.mark.producers
MLFLOW = """\
import mlflow
mlflow.set_tracking_uri("sqlite:///store.db")
for name, wrong in (("good", 0), ("bad", 6)):
    made = mlflow.create_experiment(name)
    mlflow.set_experiment(name)
    for i in range(12):
        with mlflow.start_span("answer", span_type="CHAT_MODEL") as span:
            span.set_inputs({"messages": [{"role": "user", "content": f"Question {i}?"}], "model": "m"})
            span.set_outputs({"choices": [{"message": {"role": "assistant", "content": "no" if i < wrong else "yes"}}]})
        mlflow.flush_trace_async_logging()
        mlflow.log_feedback(trace_id=span.trace_id, name="correct", value=float(i >= wrong))
    with open(f"{name}.jsonl", "w") as out:
        out.writelines(trace.to_json() + "\\n" for trace in mlflow.search_traces(locations=[made], return_type="list"))
"""
STAND_IN = """\
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Desk(BaseHTTPRequestHandler):
    def sent(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))
    def reply(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.reply({"version": "0.1"})
    def log_message(self, *given):
        pass

def serving(desk):
    server = ThreadingHTTPServer(("127.0.0.1", 0), desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
"""
LANGSMITH = """\
import datetime, uuid
from langsmith import Client
runs, feedback, project = {}, {}, "00000000-0000-4000-8000-000000000000"

def filled(run):
    return {n: value for n, value in run.items() if value is not None}

class Runs(Desk):
    def do_PATCH(self):
        runs[self.path.rsplit("/", 1)[-1]].update(filled(json.loads(self.sent())))
        self.reply({})
    def do_POST(self):
        sent = json.loads(self.sent())
        if self.path.endswith("/runs/query"):
            told = {"status": "success", "parent_run_ids": [], "app_path": "/o/r", "session_id": project}
            self.reply({"runs": [
                {**told, **run, "trace_id": key, "dotted_order": key, "feedback_stats": {"correct": {"n": 1, "avg": feedback[key]}}}
                for key, run in runs.items()
            ], "cursors": {}})
        elif self.path.endswith("/feedback"):
            feedback[sent["run_id"]] = sent["score"]
            self.reply(sent)
        else:
            runs[sent["id"]] = filled(sent)
            self.reply({})

client = Client(api_url=serving(Runs), api_key="none", auto_batch_tracing=False)
for name, wrong in (("good", 0), ("bad", 6)):
    runs.clear()
    for i in range(12):
        run, at = uuid.uuid4(), datetime.datetime.now(datetime.timezone.utc)
        given = {"messages": [{"role": "user", "content": f"Question {i}?"}]}
        client.create_run("answer", given, "llm", id=run, start_time=at, project_name=name)
        client.update_run(run, outputs={"generations": [{"text": "no" if i < wrong else "yes"}]}, end_time=at)
        client.create_feedback(run, "correct", score=float(i >= wrong))
    with open(f"{name}.jsonl", "w") as out:
        out.writelines(run.model_dump_json() + "\\n" for run in client.list_runs(project_id=project))
"""
LANGFUSE = """\
import gzip
from google.protobuf.json_format import MessageToDict
from langfuse import Langfuse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
kept = []

class Collector(Desk):
    def do_POST(self):
        data = self.sent()
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        if self.path.endswith("/traces"):
            kept.append(MessageToDict(ExportTraceServiceRequest.FromString(data)))
        self.reply({})

client = Langfuse(public_key="pk-none", secret_key="sk-none", base_url=serving(Collector))
for name, wrong in (("good", 0), ("bad", 6)):
    kept.clear()
    for i in range(12):
        asked = [{"role": "user", "content": f"Question {i}?"}]
        with client.start_as_current_observation(as_type="generation", name="answer", model=name, input=asked) as span:
            said = {"role": "assistant", "content": "no" if i < wrong else "yes"}
            span.update(output=said, metadata={"correct": float(i >= wrong)})
    client.flush()
    with open(f"{name}.jsonl", "w") as out:
        out.writelines(json.dumps(each) + "\\n" for each in kept)
"""


def made_by(folder: Path, package: str, script: str) -> tuple[Path, Path]:
    """The results of both releases, as the package writes them."""
    python = python_tool(folder, package)
    (folder / "make.py").write_text(script)
    ran(folder, python, "make.py")
    return folder / "good.jsonl", folder / "bad.jsonl"


def test_mlflow(tmp_path: Path) -> None:
    good, bad = made_by(tmp_path, "mlflow", MLFLOW)
    loses_half(good, bad)
    assert load_queries(good).format == "mlflow"


def test_langsmith(tmp_path: Path) -> None:
    good, bad = made_by(tmp_path, "langsmith", STAND_IN + LANGSMITH)
    loses_half(good, bad)
    assert load_queries(good).format == "langsmith"


def test_langfuse_spans(tmp_path: Path) -> None:
    good, bad = made_by(tmp_path, "langfuse", STAND_IN + LANGFUSE)
    sample = load_queries(good)
    assert {(query.input, query.get("output")) for query in sample.queries} == {
        (f"Question {i}?", "yes") for i in range(QUESTIONS)
    }
    assert [dict(each.versions) for each in sample.mixtures] == [{"model": "good"}]
    scored = {"columns": {"scores": {"correct": "langfuse.observation.metadata.correct"}}}
    assert bisect_ai.compare(good, bad, tolerance=0.1, settings=scored).report["loss"]["estimate"] == 0.5
