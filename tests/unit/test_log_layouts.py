"""Layouts that exports come in: rows anywhere in JSON, downloads of web pages, spans as consoles, tables and SDKs write them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings, Sample

ROWS = [{"id": f"q{i}", "input": f"question {i}", "reference": str(i)} for i in range(4)]
ONE_BY_ONE = "\n".join(json.dumps(row, indent=1) for row in ROWS)
TABLE = [[*ROWS[0]], *([*row.values()] for row in ROWS)]
LAYOUTS = {
    "array.json": json.dumps(ROWS, indent=1),
    "array.jsonl": json.dumps(ROWS),
    "lines.json": "".join(json.dumps(row) + "\n" for row in ROWS),
    "lines.log": "\n\n".join(json.dumps(row) for row in ROWS),
    "one by one.jsonl": ONE_BY_ONE,
    "one by one.json": ONE_BY_ONE.replace("}\n{", "}{"),
    "with bom.json": "\ufeff" + json.dumps(ROWS),
    "held.json": json.dumps({"model": "a", "results": ROWS}, indent=1),
    "held on one line.json": json.dumps({"model": "a", "inner": {"results": ROWS}}),
    "held on one line.jsonl": json.dumps({"results": ROWS}),
    "keyed.json": json.dumps({row["id"]: {k: v for k, v in row.items() if k != "id"} for row in ROWS}),
    "keyed inside.json": json.dumps({"model": "a", "rows": {row["id"]: {**row} for row in ROWS}}, indent=2),
    "table.json": json.dumps({"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}),
    "columns.json": pd.DataFrame(ROWS).to_json(),
    "quoted lines.jsonl": "".join(json.dumps(json.dumps(row)) + "\n" for row in ROWS),
    "headed.json": json.dumps(TABLE),
    "headed lines.jsonl": "".join(json.dumps(cells) + "\n" for cells in TABLE),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_are_found_in_every_layout(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LAYOUTS[name])
    assert load_queries(tmp_path / name) == load_queries(ROWS)


def test_of_several_lists_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"meta": {"models": [{"name": "a"}]}, "results": ROWS}))
    with pytest.raises(
        QueryError, match=r"it holds the lists meta.models \(1\), results \(4\); name one, such as rows: results"
    ):
        load_queries(path)
    assert load_queries(path, settings=LogSettings(rows="results")) == load_queries(ROWS)
    with pytest.raises(QueryError, match=r"has no list there; it has lists at meta.models, results"):
        load_queries(path, settings=LogSettings(rows="result"))


def test_a_broken_line_keeps_its_place(tmp_path: Path) -> None:
    for name, text, place in (
        ("a.jsonl", '{"id": 1, "input": \n{"id": 2, "input": "x"}\n', "line 1"),
        ("b.json", '{"id": 1, "input": "x"}\n{"id": 2,\n', "line 2"),
        ("c.json", '{\n "results": [\n {"id": 1,, "input": "x"}]}', "line 3"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(QueryError, match=place):
            load_queries(tmp_path / name)


def loaded(path: Path, value: Any, **settings: Any) -> Sample:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return load_queries(path, settings=LogSettings(**settings))


TRACE = {"id": "t1", "timestamp": "2026-05-01T10:00:00Z", "name": "desk", "release": "r7", "userId": "u1"}


def test_a_page_of_traces_is_langfuse_s(tmp_path: Path) -> None:
    row = {
        **TRACE,
        "bookmarked": False,
        "public": False,
        "input": '"say \\"hi\\""',
        "output": '"[1]"',
        "tags": [],
        "fine": [1, 0],
    }
    name = "1777629600000-lf-traces-export-clx123.json"
    (query,) = loaded(tmp_path / name, [row]).queries
    assert (query.input, query.output, query.scores, query.release) == ('say "hi"', "[1]", {"fine": 0.5}, "r7")
    assert (query["run_id"], query["run_at"], query["file"]) == ("clx123", 1777629600000, name)


def test_a_downloaded_trace_is_langfuse_s(tmp_path: Path) -> None:
    score = {"id": "s", "name": "ok", "value": 0.5, "source": "API", "dataType": "NUMERIC", "traceId": "t1"}
    call = {"id": "o1", "traceId": "t1", "type": "GENERATION", "startTime": "2026-05-01T10:00:00Z", "model": "m"}
    call |= {"input": {"args": ["2+2"], "kwargs": {}}, "output": '{"role": "admin"}'}
    for value in (
        {"trace": {**TRACE, "scores": [score]}, "observations": [call]},
        {**TRACE, "scores": [score], "observations": [call]},
    ):
        (query,) = loaded(tmp_path / "trace.json", value).queries
        assert (query.input, query.output, query.scores, query.release) == ("2+2", '{"role": "admin"}', {"ok": 0.5}, "r7")


def span(**attributes: Any) -> dict[str, Any]:
    context = {"trace_id": "0x1", "span_id": "0x2", "trace_state": "[]"}
    return {
        "name": "chat",
        "context": context,
        "parent_id": None,
        "start_time": "2026-05-01T10:00:00Z",
        "attributes": attributes,
    }


def test_a_console_dump_of_spans_is_read(tmp_path: Path) -> None:
    said = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "2+2"}]}])
    told = {**span(**{"gen_ai.operation.name": "chat", "gen_ai.input.messages": said})}
    told |= {"resource": {"attributes": {"service.version": "7"}, "schema_url": ""}}
    other = {**told, "context": {**told["context"], "trace_id": "0x3", "span_id": "0x4"}}
    sample = loaded(tmp_path / "spans.log", json.dumps(told, indent=4) + "\n" + json.dumps(other, indent=4) + "\n")
    assert (sample.format, [(q.input, q.release) for q in sample.queries]) == ("otlp", [("2+2", "7")] * 2)


@pytest.mark.parametrize(
    "given",
    [
        "2+2",
        '{"messages": [{"role": "user", "content": "2+2"}]}',
        '{"question": "2+2"}',
        '[{"type": "human", "content": "2+2"}]',
    ],
)
def test_phoenix_spans_may_have_an_input_value_only(tmp_path: Path, given: str) -> None:
    told = {**span(**{"input.value": given, "output.value": "4", "output.mime_type": "text/plain"}), "span_kind": "LLM"}
    (query,) = loaded(tmp_path / "spans.jsonl", json.dumps(told)).queries
    assert (query.input, query.output) == ("2+2", "4")


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"resourceSpans": [x]}, lambda x: [x], lambda x: [{"resourceSpans": [x]}]]
)
def test_spans_of_a_resource_stand_anywhere(tmp_path: Path, wrap: Any) -> None:
    pairs = [
        {"key": k, "value": {"stringValue": v}} for k, v in (("gen_ai.request.model", "m"), ("gen_ai.prompt.0.role", "user"))
    ]
    pairs.append({"key": "gen_ai.prompt.0.content", "value": {"stringValue": "2+2"}})
    told = {"traceId": "1", "spanId": "2", "name": "chat", "attributes": pairs}
    version = {"key": "service.version", "value": {"stringValue": "7"}}
    resource = {"resource": {"attributes": [version]}, "scopeSpans": [{"spans": [told]}]}
    for text in (json.dumps(wrap(resource)), json.dumps(wrap(resource), indent=1)):
        (query,) = loaded(tmp_path / "spans.json", text, columns={"team": "resource.service.version"}).queries
        assert (query.input, query.release, query["team"]) == ("2+2", "7", "7")


def test_vercel_s_spans_are_one_query_with_its_tools(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "Where is 7?"}]}]
    call = {"type": "tool-call", "toolCallId": "c", "toolName": "find", "input": {"n": 7}}
    back = {"type": "tool-result", "toolCallId": "c", "toolName": "find", "output": {"type": "text", "value": "here"}}
    steps = [*asked, {"role": "assistant", "content": [call]}, {"role": "tool", "content": [back]}]
    calls = [
        {
            "ai.operationId": "ai.generateText",
            "ai.prompt": json.dumps({"prompt": "Where is 7?"}),
            "ai.response.text": '{"a":1}',
        },
        {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m", "ai.prompt.messages": json.dumps(asked)},
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.prompt.messages": json.dumps(steps),
            "ai.response.text": '{"a":1}',
        },
    ]
    rows = [
        {**span(**each), "context": {"trace_id": "t", "span_id": str(i)}, "parent_id": "0" if i else None}
        for i, each in enumerate(calls)
    ]
    (query,) = loaded(tmp_path / "spans.jsonl", "\n".join(map(json.dumps, rows))).queries
    assert (query.input, query.output) == ("Where is 7?", '{"a":1}')
    assert query.tool_results == [{"name": "find", "arguments": {"n": 7}, "result": "here"}]


def test_recognised_formats_obey_columns(tmp_path: Path) -> None:
    row = {"id": "o", "traceId": "t", "type": "GENERATION", "startTime": "2026-05-01T10:00:00Z", "metadata": {"arm": "b"}}
    row |= {"input": {"question": "2+2", "context": "sums"}, "output": {"answer": "4", "why": "x"}}
    columns = {"input": "input.context", "output": "output.answer", "release": "metadata.arm"}
    (query,) = loaded(tmp_path / "o.jsonl", json.dumps(row), columns=columns).queries
    assert (query.input, query.output, query.release) == ("sums", "4", "b")
    assert query.messages == [{"role": "user", "content": "sums"}]


UNKNOWN = [
    (
        [{"q": {"question": "2+2"}, "a": {"answer": "4"}, "expected": "4"}],
        "columns: {input: q.question, output: a.answer, reference: expected}",
    ),
    ([{"conversations": [{"from": "human", "value": "2+2"}]}], "columns: {messages: conversations}"),
    ([{"body": "What is 2+2?", "n": 4}], "text is in body; write columns: {input: body}"),
    ([{"n": 4}], "map the question with columns"),
]


@pytest.mark.parametrize(("rows", "advice"), UNKNOWN)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_that_nobody_knows_says_how_to_read_it(
    tmp_path: Path, suffix: str, rows: list[dict[str, Any]], advice: str
) -> None:
    path = tmp_path / f"log.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(QueryError) as raised:
        load_queries(path)
    assert advice in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04xl", "a spreadsheet"),
        (b"<log/>", "XML"),
        (b"", "empty"),
        (b"a\0b", "binary"),
        (b"hello there", "plain text, and begins 'hello"),
    ],
)
def test_a_file_of_another_kind_is_told_apart(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "log.xyz").write_bytes(data)
    with pytest.raises(QueryError, match=f"{told}|damaged") as raised:
        load_queries(tmp_path / "log.xyz")
    assert "\n" not in str(raised.value)


def test_the_plan_shows_the_first_question_as_it_would_be_sent(tmp_path: Path) -> None:
    from bisect_ai.report.planning_text import render_plan
    from bisect_ai.runs.prepare import make_plan

    talk = [{"role": "user", "content": "Größe?\n\x1b[31m"}, {"role": "assistant", "content": "42"}]
    (tmp_path / "log.jsonl").write_text(json.dumps({"id": "q1", "talk": talk}))
    (tmp_path / "bisect.yaml").write_text(
        "good: {model: {model: openai/gpt-4o-2024-08-06}, prompt: {system: Be exact., user: 'Say: {input}'}}\n"
        "bad: {model: {model: openai/gpt-4o-2024-08-06}, prompt: Be brief.}\n"
        "log: {path: log.jsonl, columns: {messages: talk}}\ntarget: {kind: litellm}\nscorers: [{kind: length, name: words}]\n"
    )
    plan = make_plan(tmp_path / "bisect.yaml", {})
    assert plan["first"]["messages"] == [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "Say: Größe?\n\x1b[31m"},
    ]
    assert plan["first"]["used"] == {"question from": "talk", "output": 2, "scores": {}, "file": "log.jsonl"}
    page = render_plan(plan)
    assert "user: Say: Größe?" in page and "\x1b" not in page


def test_the_plan_names_the_column_that_was_guessed_to_hold_the_question(tmp_path: Path) -> None:
    from bisect_ai.runs.prepare import make_plan

    rows = [{"nr": i, "question_text": f"What is {i}?", "expected_answer": str(7 * i)} for i in range(9)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "bisect.yaml").write_text(
        "good: {model: {model: openai/gpt-4o-2024-08-06}, prompt: Be exact.}\n"
        "bad: {model: {model: openai/gpt-4o-2024-08-06}, prompt: Be brief.}\n"
        "log: {path: log.jsonl}\ntarget: {kind: litellm}\nscorers: [{kind: exact, name: correct, expected: reference}]\n"
    )
    assert make_plan(tmp_path / "bisect.yaml", {})["first"]["used"]["question from"] == "question_text"


TURNS = [[{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}] for i in range(4)]
SHARED = [[{"from": "human", "value": f"What is {i}?"}, {"from": "gpt", "value": f"It is {i}."}] for i in range(4)]


@pytest.mark.parametrize("rows", [TURNS, SHARED], ids=["roles", "from and value"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_list_of_messages_is_a_conversation(tmp_path: Path, rows: list[Any], name: str) -> None:
    text = json.dumps(rows, indent=1) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    sample = load_queries(tmp_path / name)
    assert sorted((query.input, query["output"]) for query in sample.queries) == [
        (f"What is {i}?", f"It is {i}.") for i in range(4)
    ]


def test_a_list_of_messages_alone_is_one_conversation(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([*TURNS[0], *TURNS[1]]))
    (query,) = load_queries(tmp_path / "a.json").queries
    assert query.input == "What is 1?" and len(query.messages) == 3 and query["output"] == "It is 1."


@pytest.mark.parametrize("text", ['["What?", "Why?"]', '"What?"\n"Why?"\n', '["What?", {"input": "Why?"}]'])
def test_a_text_is_a_question(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    assert sorted(query.input for query in load_queries(tmp_path / "a.jsonl").queries) == ["What?", "Why?"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "a.json[0] is a int; a query is a mapping of columns, a text or a list of messages"),
        ('[["What?", "That."]]', "a.json[0] is a list; a query is a mapping of columns"),
        ('[{"input": "What?"}, "Why?"]', "a.json[1] is a str; a query is a mapping of columns"),
        ('{"input": "What?"}\n"Why?"\n', "a.json line 2: a str, not an object"),
        ('{"input": "What?"}\n[{"role": "user", "content": "Why?"}]\n', "a.json line 2: a list, not an object"),
    ],
)
def test_what_is_no_record_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(QueryError, match=re.escape(said)):
        load_queries(tmp_path / "a.json")
