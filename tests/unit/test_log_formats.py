"""Files that real producers wrote (fixtures/logs/*/make.py): every record accounted for, and a run from each to a verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

import bisect_ai
from bisect_ai.config import LogOptions
from bisect_ai.errors import QueryError
from bisect_ai.queries.files import IMPORTERS
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.messages import tool_results
from bisect_ai.queries.sample import FORMATS, LogSettings, Sample

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
GOOD, BAD = "2026-11-13", "2026-11-20"
ROLLOUT = [(BAD, "gpt-4.1-2025-04-14", 10), (BAD, "gpt-4o-2024-08-06", 2), (GOOD, "gpt-4o-2024-08-06", 12)]


class Case(NamedTuple):
    files: str
    format: str
    read: int
    kept: int
    dropped: dict[str, int]
    rollout: bool = True
    """Whether the file says which release answered."""
    tools: bool = True


CASES = [
    Case("opentelemetry/spans.jsonl", "otlp", 54, 24, {"part of another record": 30}),
    Case("opentelemetry/events.jsonl", "otlp", 156, 24, {"part of another record": 132}),
    Case("openllmetry/spans.jsonl", "otlp", 54, 24, {"part of another record": 30}),
    Case("openllmetry/flattened.jsonl", "otlp", 54, 24, {"part of another record": 30}),
    Case("openinference/spans.jsonl", "otlp", 78, 24, {"part of another record": 54}),
    Case("langfuse/otlp.jsonl", "otlp", 54, 24, {"part of another record": 30}),
    Case("langfuse/observations.jsonl", "langfuse", 54, 24, {"part of another record": 30}),
    Case("langfuse/*.csv", "langfuse", 78, 24, {"part of another record": 54}),
    Case("litellm/callbacks.jsonl", "litellm", 30, 24, {"part of another record": 6}),
    Case("promptfoo/results.json", "promptfoo", 24, 24, {}, rollout=False, tools=False),
    Case("promptfoo/results.jsonl", "promptfoo", 24, 24, {}, rollout=False, tools=False),
    Case("inspect/plants.eval", "inspect", 24, 24, {}, rollout=False),
    Case("inspect/plants.json", "inspect", 24, 24, {}, rollout=False),
    Case("openai/batch-*.jsonl", "openai", 48, 24, {"part of another record": 24}, tools=False),
    Case("openai/stored*.json", "openai", 72, 24, {"part of another record": 48}, tools=False),
]


def loaded(files: str, **settings: Any) -> Sample:
    return load_queries(str(LOGS / files), settings=LogSettings(sample=None, **settings))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.files)
def test_every_record_is_accounted_for(case: Case) -> None:
    sample = loaded(case.files)
    assert sample.format == case.format
    assert (sample.read, sample.kept, sample.dropped) == (case.read, case.kept, case.dropped)
    assert sample == loaded(case.files, format=case.format)
    asked = {query.input for query in sample.queries}
    assert {text.rstrip("?").rstrip("0123456789") for text in asked} == {
        "Where is my order ",
        "How often do I water plant number ",
    }
    assert all("Water it" in str(query.output) or "on its way" in str(query.output) for query in sample.queries)
    if case.rollout:
        mixed = sorted((m.release, m.versions["model"], m.n) for m in sample.mixtures)
        assert mixed == sorted(ROLLOUT)
        assert len(asked) == 24


@pytest.mark.parametrize("case", [case for case in CASES if case.tools], ids=lambda case: case.files)
def test_tool_calls_come_with_the_results_that_were_recorded(case: Case) -> None:
    for query in loaded(case.files).queries:
        if "order" in query.input:
            (run,) = query.tool_results
            number = int(query.input.rstrip("?").split()[-1])
            assert (run["name"], run["arguments"]) == ("find_order", {"number": number})
            assert json.loads(run["result"]) == {"number": number, "state": "on its way"}
        else:
            assert query.tool_results == []


def answer(query: Any, release: Any) -> str:
    right = release["prompt"] == "Be exact." and query.input
    return str(query.output) if right else "I do not know."


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.files)
def test_a_run_goes_from_the_file_to_a_verdict(case: Case) -> None:
    result = bisect_ai.run(
        good={"prompt": "Be exact.", "model": "a"},
        bad={"prompt": "Be brief.", "model": "b"},
        queries=str(LOGS / case.files),
        target=answer,
        scorers={"correct": lambda query, said: said.text == query.output},
        design="full",
    )
    assert result.verdict.kind == "cause"
    assert result.verdict.causes[0].axes == ("prompt",)
    log = result.to_dict()["log"]
    assert (log["format"], log["read"], log["kept"]) == (case.format, case.read, case.kept)
    assert log["read"] == log["kept"] + sum(log["dropped"].values())


def test_content_that_was_not_recorded_is_counted_and_said() -> None:
    with pytest.raises(
        QueryError, match=r"none of the 156 records can be replayed .*24 no input.*log the content of its messages"
    ):
        loaded("opentelemetry/without-content.jsonl")
    with pytest.raises(QueryError, match=r"none of the \d records can be replayed .*4 redacted"):
        loaded("litellm/redacted.jsonl")


def test_documents_of_a_retriever_reach_the_query() -> None:
    query = next(query for query in loaded("openinference/spans.jsonl").queries if query.input.endswith("number 1?"))
    assert query.documents == [{"id": "plants/1.md", "text": "Plant 1 needs 1 times.", "score": 0.75}]
    assert (query.cluster, query["params"], query["metadata"]) == ("user-0", {"temperature": 0}, '{"intent": "care"}')


def test_scores_and_references_of_an_evaluation_are_read() -> None:
    for files, name in (("promptfoo/results.json", "correct"), ("inspect/plants.eval", "includes")):
        queries = loaded(files).queries
        assert {query.scores[name] for query in queries} == {1.0}
        assert {query.reference for query in queries} == {"on its way", *(f"{i} times" for i in range(12) if i % 4)}
    assert {query.scores["match"] for query in loaded("inspect/plants.eval").queries} == {0.0, 1.0}


def test_an_absent_release_is_not_guessed_but_can_be_named() -> None:
    assert {query.release for query in loaded("promptfoo/results.json").queries} == {None}
    named = loaded("promptfoo/results.json", columns={"release": "prompt.label"})
    assert [(each.release, each.n) for each in named.logged] == [(GOOD, 12), (BAD, 12)]


def test_both_inspect_files_hold_the_same_samples() -> None:
    zipped, plain = loaded("inspect/plants.eval"), loaded("inspect/plants.json")
    assert [(q.id, q.input, q.reference) for q in zipped.queries] == [(q.id, q.input, q.reference) for q in plain.queries]


@pytest.mark.parametrize("name", ["observations.parquet", "observations.json", "observations.csv"])
def test_a_langfuse_export_is_known_in_every_file_type(tmp_path: Path, name: str) -> None:
    rows = [json.loads(line) for line in (LOGS / "langfuse" / "observations.jsonl").read_text().splitlines()]
    flat = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
    path = tmp_path / name
    if name.endswith("parquet"):
        pd.DataFrame(flat).to_parquet(path)
    elif name.endswith("csv"):
        pd.DataFrame(flat).to_csv(path, index=False)
    else:
        path.write_text(json.dumps({"data": rows, "meta": {"cursor": None}}))
    sample, wanted = load_queries(path), loaded("langfuse/observations.jsonl")
    assert (sample.format, sample.read, sample.dropped) == ("langfuse", 54, wanted.dropped)
    assert [(q.id, q.input, q.output, q.release) for q in sample.queries] == [
        (q.id, q.input, q.output, q.release) for q in wanted.queries
    ]


def test_of_rows_that_langfuse_wrote_twice_the_newest_counts(tmp_path: Path) -> None:
    row = {
        "id": "o1",
        "traceId": "t1",
        "type": "GENERATION",
        "startTime": "2026-11-13T10:00:00Z",
        "input": "hi",
        "projectId": "p",
    }
    first, second = ({**row, "output": text, "updatedAt": at} for text, at in (("new", "2026-11-14"), ("old", "2026-11-13")))
    score = {"id": "s1", "name": "helpful", "value": 0.5, "traceId": "t1", "source": "API", "dataType": "NUMERIC"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (first, second, score)))
    sample = load_queries(tmp_path / "rows.jsonl")
    assert sample.dropped == {"duplicate": 1, "part of another record": 1}
    assert (sample.queries[0].output, sample.queries[0].scores) == ("new", {"helpful": 0.5})


def spend_log(i: int, **changed: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "temperature": 0, "messages": [{"role": "user", "content": f"ask {i}"}]}
    row = {
        "request_id": f"r{i}",
        "call_type": "acompletion",
        "spend": 0.1,
        "model": "gpt-4o",
        "end_user": f"u{i}",
        "cache_hit": "False",
    }
    response = {"model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": f"answer {i}"}}]}
    return {**row, "messages": "{}", "response": json.dumps(response), "proxy_server_request": json.dumps(body), **changed}


def test_spend_logs_are_read_from_the_stored_request(tmp_path: Path) -> None:
    cut = {"messages": [{"role": "user", "content": "long (litellm_truncated skipped 900 chars)"}]}
    rows = [
        spend_log(0, request_tags='["release:2026-11-13"]'),
        spend_log(1, proxy_server_request=json.dumps(cut)),
        spend_log(2, proxy_server_request='{"messages": [{"role": "user", "content": "litellm_truncated'),
        spend_log(3, proxy_server_request="{}", response="{}"),
        spend_log(4, call_type="aembedding"),
        spend_log(5, proxy_server_request='{"messages": [{"role": "user", "content": "redacted-by-litellm"}]}'),
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "spend.csv", index=False)
    sample = load_queries(tmp_path / "spend.csv")
    assert sample.format == "litellm"
    assert sample.dropped == {"truncated": 2, "no input": 1, "not a question": 1, "redacted": 1}
    (query,) = sample.queries
    assert (query.input, query.output, query.release, query.cluster) == ("ask 0", "answer 0", "2026-11-13", "u0")
    assert (query["params"], query["request_tags"]) == ({"temperature": 0}, '["release:2026-11-13"]')


def test_a_promptfoo_table_of_version_2_is_read(tmp_path: Path) -> None:
    head = {"prompts": [{"raw": "Answer: {{q}}", "label": "a", "provider": "openai:x"}], "vars": ["q"]}
    output = {"text": "four", "pass": True, "score": 1, "namedScores": {"right": 1}, "prompt": "Answer: 2+2", "latencyMs": 3}
    test = {"vars": {"q": "2+2"}, "assert": [{"type": "equals", "value": "four"}]}
    table = {"head": head, "body": [{"outputs": [output], "vars": ["2+2"], "test": test}]}
    (tmp_path / "v2.json").write_text(json.dumps({"evalId": "e", "results": {"version": 2, "table": table}}, indent=1))
    sample = load_queries(tmp_path / "v2.json")
    (query,) = sample.queries
    assert (sample.format, query.input, query.output, query.reference) == ("promptfoo", "2+2", "four", "four")
    assert query.scores == {"score": 1.0, "success": 1.0, "right": 1.0}
    assert (query["vars"], query["versions"]) == ({"q": "2+2"}, {"model": "openai:x", "prompt": "a"})


def test_events_whose_span_is_missing_are_read_or_called_fragments(tmp_path: Path) -> None:
    def event(span: str, name: str, **body: str) -> dict[str, Any]:
        pairs = [{"key": key, "value": {"stringValue": value}} for key, value in body.items()]
        return {"eventName": name, "traceId": "t" + span, "spanId": span, "body": {"kvlistValue": {"values": pairs}}}

    logs = [event("1", "gen_ai.user.message", content="hi"), event("2", "gen_ai.assistant.message", content="yes")]
    export = {"resourceLogs": [{"resource": {}, "scopeLogs": [{"logRecords": logs}]}]}
    (tmp_path / "logs.json").write_text(json.dumps(export))
    sample = load_queries(tmp_path / "logs.json")
    assert [query.input for query in sample.queries] == ["hi"]
    assert sample.dropped == {"fragment": 1}


def test_an_answer_is_not_paired_with_one_of_two_requests(tmp_path: Path) -> None:
    request = {"custom_id": "q1", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "hi"}]}}
    (tmp_path / "batch.jsonl").write_text(json.dumps(request) + "\n" + json.dumps({**request, "method": "POST"}) + "\n")
    with pytest.raises(QueryError, match="2 ambiguous pair"):
        load_queries(tmp_path / "batch.jsonl")


def test_a_crashed_inspect_log_has_no_header(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(LOGS / "inspect" / "plants.eval") as source, zipfile.ZipFile(tmp_path / "x.eval", "w") as target:
        for name in source.namelist():
            if name != "header.json":
                target.writestr(name, source.read(name))
    assert load_queries(tmp_path / "x.eval").kept == 24


def test_files_of_one_tool_are_one_log_and_of_two_are_none(tmp_path: Path) -> None:
    shutil.copy(LOGS / "langfuse" / "observations.jsonl", tmp_path)
    shutil.copy(LOGS / "litellm" / "callbacks.jsonl", tmp_path)
    with pytest.raises(QueryError, match=r"mixes formats \(langfuse, litellm\)"):
        load_queries(str(tmp_path / "*.jsonl"))


def test_every_format_can_be_named() -> None:
    assert set(FORMATS) == {"auto", "jsonl", "csv", "parquet", *IMPORTERS}
    assert all(LogOptions(format=name).format == name for name in FORMATS)


def test_the_files_hold_nothing_of_the_machine_that_wrote_them() -> None:
    import re
    import zipfile

    for path in LOGS.rglob("*"):
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as archive:
                text = "".join(archive.read(name).decode() for name in archive.namelist())
        elif path.is_file() and path.suffix != ".py":
            text = path.read_text()
        else:
            continue
        assert not re.search(r"/(work|root|home/(?!user)|tmp)/|sk-[a-zA-Z0-9]{8}|api[_-]key\"?: ?\"(?!none)", text), path


def test_a_tool_result_whose_call_id_is_no_text_belongs_to_no_call() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    odd = {"role": "tool", "content": "odd", "tool_call_id": {"a": 1}}
    assert tool_results([asked, odd]) == [{"name": "find", "arguments": {}}]
    told = tool_results([asked, odd, {"role": "tool", "content": "found", "tool_call_id": "c1"}])
    assert told == [{"name": "find", "arguments": {}, "result": "found"}]
