"""Messages, retrieval and recorded tool results: everything of the built-in pipeline that needs no model."""

from __future__ import annotations

from typing import Any

import pytest

from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.queries.query import Query
from bisect_ai.targets import bounded
from bisect_ai.targets.answer import ToolCall
from bisect_ai.targets.pipeline import build_messages, fill_template, function_tools
from bisect_ai.targets.retrieval import Document, Indexes
from bisect_ai.targets.tool_results import NOT_RECORDED, RecordedTools, check_call, may_take_long

QUERY = Query({"id": "q1", "input": "Where is my parcel?", "plan": "Grower"})
FOUND = (Document("a.md", "Parcels take two days."), Document("b.md", "Boxes are green."))
ORDERS = {
    "type": "function",
    "function": {
        "name": "get_orders",
        "parameters": {
            "type": "object",
            "properties": {"customer_id": {"type": "string"}, "status": {"enum": ["open", "all"]}},
            "required": ["customer_id"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{plan} asks: {input}", "Grower asks: Why?"),
        ("{{plan}} {{{plan}}}", "{plan} {Grower}"),
        ("{unknown} stays", "{unknown} stays"),
        ('{"customer_id": "{plan}"}', '{"customer_id": "Grower"}'),
        ("{plan.upper} {plan[0]} {plan!r} {0} {}", "{plan.upper} {plan[0]} {plan!r} {0} {}"),
        ("{% if plan %}{{ 7*7 }}", "{% if plan %}{ 7*7 }"),
    ],
)
def test_fill_replaces_known_names_and_nothing_else(template: str, filled: str) -> None:
    assert fill_template(template, {"plan": "Grower", "input": "Why?"}) == filled


def test_fill_never_fills_what_a_value_brings_in() -> None:
    assert fill_template("{input}|{plan}", {"input": "{plan} {{plan}}", "plan": "{input}"}) == "{plan} {{plan}}|{input}"


def contents(release: dict[str, Any], query: Query = QUERY) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in build_messages(query, release, FOUND)]


BLOCK = '<document id="a.md">\nParcels take two days.\n</document>\n\n<document id="b.md">\nBoxes are green.\n</document>'


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("before_question", [("system", "Be kind."), ("user", f"{BLOCK}\n\n{QUERY.input}")]),
        ("after_question", [("system", "Be kind."), ("user", f"{QUERY.input}\n\n{BLOCK}")]),
        ("system", [("system", f"Be kind.\n\n{BLOCK}"), ("user", QUERY.input)]),
    ],
)
def test_the_context_axis_places_the_documents(place: str, expected: list[tuple[str, str]]) -> None:
    assert contents({"prompt": "Be kind.", "context": {"documents": place}}) == expected


def test_a_prompt_that_names_documents_or_history_gets_them_there_and_only_there() -> None:
    query = Query({"id": "q", "input": "And now?", "history": [{"role": "user", "content": "Hello"}]})
    release = {
        "prompt": {"system": "Known: {documents}", "user": "{history}\n{input}"},
        "context": {"document": "{text}"},
    }
    assert contents(release, query) == [
        ("system", "Known: Parcels take two days.\n\nBoxes are green."),
        ("user", "user: Hello\nAnd now?"),
    ]


def test_heading_separator_and_document_template_are_the_releases_own() -> None:
    context = {"heading": "Articles:", "separator": "\n", "document": "[{id}] {text}"}
    [(_, text)] = contents({"context": context})
    assert text == "Articles:\n[a.md] Parcels take two days.\n[b.md] Boxes are green.\nWhere is my parcel?"


@pytest.mark.parametrize(
    ("room", "kept"), [(0, ""), (7, "Parcels"), (22, "Parcels take two days."), (30, "Parcels take two days.")]
)
def test_max_chars_leaves_out_what_does_not_fit_and_cuts_only_the_first(room: int, kept: str) -> None:
    [(_, text)] = contents({"context": {"document": "{text}", "max_chars": room}})
    assert text == f"{kept}\n\n{QUERY.input}".strip()


def test_history_keeps_the_last_messages_and_names_what_is_not_sent() -> None:
    image = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}]
    talk = [
        {"role": "system", "content": "old rules"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": image},
        {"role": "assistant", "content": "three"},
    ]
    query = Query({"id": "q", "input": "four", "history": talk})
    seen = build_messages(query, {"context": {"history": 2}}, ())
    assert [m["content"] for m in seen] == ["see\n[image_url not replayed]", "three", "four"]
    assert [m["content"] for m in build_messages(query, {"context": {"history": 0}}, ())] == ["four"]


def test_examples_come_as_turns_with_their_calls_and_results() -> None:
    call = {"name": "get_orders", "arguments": {"customer_id": "A"}, "result": {"orders": []}}
    release = {"prompt": {"system": "S", "examples": [{"input": "Orders?", "tool_calls": [call], "output": "None."}]}}
    roles = build_messages(QUERY, release, ())
    assert [m["role"] for m in roles] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert roles[2]["tool_calls"][0]["function"] == {"name": "get_orders", "arguments": '{"customer_id": "A"}'}
    assert roles[3] == {"role": "tool", "tool_call_id": roles[2]["tool_calls"][0]["id"], "content": '{"orders": []}'}


@pytest.mark.parametrize(
    ("release", "key"),
    [
        ({"prompt": {"system": 3}}, "prompt.system"),
        ({"prompt": {"system": "x", "examples": "y"}}, "prompt.examples"),
        ({"prompt": {"system": "x", "examples": [{"output": "y"}]}}, r"prompt.examples\[0\]"),
        ({"context": {"documents": "above"}}, "context.documents"),
        ({"context": "above"}, "context axis"),
    ],
)
def test_what_cannot_be_read_is_named(release: dict[str, Any], key: str) -> None:
    with pytest.raises(ReleaseError, match=key):
        build_messages(QUERY, release, FOUND)


def test_tools_are_read_in_three_forms_and_refused_otherwise() -> None:
    plain_tool = {"name": "get_orders", "parameters": ORDERS["function"]["parameters"]}  # type: ignore[index]
    assert function_tools([ORDERS]) == function_tools([plain_tool]) == function_tools({"get_orders": plain_tool})
    assert function_tools(None) == []
    with pytest.raises(ReleaseError, match=r"tools\[0\]"):
        function_tools([{"description": "nameless"}])


CORPUS = {"b.md": "Cats sleep all day.", "a.md": "A parcel travels for two days.", "c.md": "Invoices are due in March."}


@pytest.mark.parametrize("kind", ["tfidf", "bm25"])
def test_retrieval_finds_what_the_question_is_about(kind: str) -> None:
    index = Indexes().get({"documents": CORPUS, "retriever": {"kind": kind, "k": 2}})
    assert [d.id for d in index.search("How long does a parcel travel?")][:1] == ["a.md"]
    assert [d.id for d in index.search("invoices in March")][:1] == ["c.md"]
    assert index.search("zebra") == ()


def test_bm25_gives_the_scores_of_its_formula() -> None:
    scores = Indexes().get({"documents": {"x": "red red blue", "y": "blue"}, "retriever": "bm25"}).scores
    assert scores is not None
    # By hand: texts are "x red red blue" and "y blue", single letters are no words: lengths 3 and 1, mean 2.
    # idf(red) = ln(1 + 1.5/1.5), tf = 2, damping = 1.2 * (0.25 + 0.75 * 3/2) = 1.65; ln 2 * 2 * 2.2 / 3.65.
    assert scores("red") == pytest.approx([0.693147 * 4.4 / 3.65, 0.0], abs=1e-5)


def test_without_a_retriever_the_documents_come_as_they_stand() -> None:
    index = Indexes().get({"documents": [{"id": "z", "text": "Z"}, "plain"], "retriever": {"kind": "none"}})
    assert [d.id for d in index.search("anything")] == ["z", "1"]


def test_ties_keep_the_order_of_the_corpus_and_k_is_respected() -> None:
    index = Indexes().get({"documents": {"b": "same words", "a": "same words", "c": "same words"}, "retriever": {"k": 2}})
    assert [d.id for d in index.search("same")] == ["a", "b"]


def test_one_corpus_is_indexed_once_whatever_object_carries_it() -> None:
    indexes = Indexes()
    assert indexes.get({"documents": CORPUS}) is indexes.get({"documents": dict(CORPUS)})
    assert indexes.get({"documents": CORPUS}) is not indexes.get({"documents": {**CORPUS, "a.md": "changed"}})


@pytest.mark.parametrize(
    ("corpus", "key"),
    [
        ({"documents": "text"}, "corpus.documents"),
        ({"documents": {"a": 1}}, "'a'"),
        ({"documents": {}, "retriever": {"kind": "magic"}}, "magic"),
        ({"documents": {}, "retriever": {"k": -1}}, "k is -1"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_named(corpus: Any, key: str) -> None:
    with pytest.raises(ReleaseError, match=key):
        Indexes().get(corpus)


def recorded(*entries: tuple[dict[str, Any], Any]) -> RecordedTools:
    return RecordedTools([{"name": "get_orders", "arguments": a, "result": r} for a, r in entries])


def test_a_call_is_answered_by_name_and_arguments_then_by_order() -> None:
    tape = recorded(({"customer_id": "A"}, 1), ({"customer_id": "A"}, 2), ({"customer_id": "B"}, 3))
    assert [tape.call("get_orders", {"customer_id": c}).result for c in "ABAA"] == [1, 3, 2, 2]


def test_a_renamed_field_is_answered_by_the_only_result_with_the_same_values() -> None:
    tape = recorded(({"customer_id": "A"}, 1), ({"customer_id": "B"}, 2))
    assert tape.call("get_orders", {"customerId": "B"}) == ToolCall(
        "get_orders", {"customerId": "B"}, result=2, answered="renamed"
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("get_orders", {"customerId": "C"}), ("get_invoice", {"customer_id": "A"}), ("get_orders", {"customer_id": 1})],
)
def test_what_was_not_recorded_is_said_and_not_invented(name: str, arguments: dict[str, Any]) -> None:
    done = recorded(({"customer_id": "A"}, 1), ({"customer_id": "1"}, 2)).call(name, arguments)
    assert (done.result, done.error) == (None, NOT_RECORDED)


def test_two_results_with_the_same_values_answer_no_renamed_call() -> None:
    tape = recorded(({"customer_id": "A"}, 1), ({"client": "A"}, 2))
    assert tape.call("get_orders", {"customerId": "A"}).error == NOT_RECORDED


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("get_orders", {"customer_id": "A"}, None),
        (
            "get_orders",
            {"customerId": "A"},
            "invalid arguments: missing field 'customer_id'; unknown field 'customerId'",
        ),
        ("get_orders", {"customer_id": 3}, "invalid arguments: field 'customer_id': 3 is not of type 'string'"),
        ("get_order", {}, "unknown tool: 'get_order' is not offered; the tools are get_orders"),
    ],
)
def test_a_refused_call_is_told_which_field(name: str, arguments: dict[str, Any], said: str | None) -> None:
    assert check_call([ORDERS], name, arguments) == said


def test_a_tool_without_parameters_takes_none_and_any() -> None:
    tools = function_tools([{"name": "ping"}])
    assert check_call(tools, "ping", {}) is None
    assert check_call(tools, "ping", {"extra": 1}) is None


def test_a_broken_schema_is_the_releases_mistake() -> None:
    tools = function_tools([{"name": "ping", "parameters": {"properties": {"host": {"type": "nonsense"}}}}])
    with pytest.raises(InputError, match="JSON Schema"):
        check_call(tools, "ping", {})


SLOW = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["name"]}


def test_a_schema_that_searches_for_ever_on_what_a_model_wrote_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 0.5)
    tools = function_tools([{"name": "find", "parameters": SLOW}])
    assert may_take_long(tools, "find") and not may_take_long([ORDERS], "get_orders")
    assert check_call(tools, "find", {"name": "aaa"}) is None
    with pytest.raises(ValueError, match=r"cannot check the arguments of find .* the schema took more than 0.5 s"):
        check_call(tools, "find", {"name": "a" * 40 + "!"})
    said = "invalid arguments: missing field 'name'; unknown field 'nom'; field 'age': 'x' is not of type 'integer'"
    for slow in (True, False):  # the same words from here and from the process that can be killed
        name = {"type": "string", **({"pattern": "^a"} if slow else {})}
        schema = {**SLOW, "properties": {"name": name, "age": {"type": "integer"}}}
        assert check_call(function_tools([{"name": "find", "parameters": schema}]), "find", {"nom": "a", "age": "x"}) == said
