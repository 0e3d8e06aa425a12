"""The user's program on the wire: unedited agents, each cell composed in their requests, answers mapped back and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import Infeasible
from bisect_ai.queries.query import Query
from bisect_ai.runs.prepare import build_target
from bisect_ai.targets.wire.composing import SeenOnWire, WireCell, fill_like
from bisect_ai.targets.wire.release_pieces import argument_renames, files_read, merged_schema, model_name, pieces_of
from bisect_ai.targets.wire.request_shapes import ChatShape, TextSpot
from tests.faults.provider import Provider
from tests.wire_shop import BAD, GOOD, QUERIES, SYSTEM, shop

AGENTS = Path(__file__).parent.parent / "wire_agents"


@pytest.fixture(autouse=True)
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("OPENAI_API_BASE", "ANTHROPIC_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider(shop) as running:
        led_to(running, monkeypatch)
        yield running


def led_to(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.host}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.host)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-canary-0123456789abcdef")


@pytest.fixture
def target(provider: Provider, tmp_path: Path) -> Iterator[Any]:
    made: list[Any] = []

    def make(run: str, good: Mapping[str, Any] = GOOD, bad: Mapping[str, Any] = BAD, **settings: Any) -> Any:
        spec = {"kind": "wire", "run": f"{sys.executable} {AGENTS}/{run}", **settings}
        made.append(build_target(spec, folder=tmp_path, good=good, bad=bad)[0])
        return made[-1]

    yield make
    for each in made:
        each.close()


def cell(*bad: str) -> dict[str, Any]:
    return {axis: (BAD if axis in bad else GOOD)[axis] for axis in GOOD}


CELLS = [(), ("prompt",), ("model", "tools"), ("model", "prompt", "tools")]
FIELD = {
    "openai_agent.py": lambda body: list(body["tools"][0]["function"]["parameters"]["properties"]),
    "functions_agent.py": lambda body: list(body["functions"][0]["parameters"]["properties"]),
    "responses_agent.py": lambda body: list(body["tools"][0]["parameters"]["properties"]),
    "anthropic_agent.py": lambda body: list(body["tools"][0]["input_schema"]["properties"]),
}


@pytest.mark.parametrize("agent", [f"{name}{how}" for name in FIELD for how in ("", " --stream")])
def test_each_cell_is_composed_and_answers_are_mapped_back(target: Any, provider: Provider, agent: str) -> None:
    asked = target(agent)
    for bad in CELLS:
        before = len(provider.requests)
        answer = asked(Query(QUERIES[4]), cell(*bad), 0)
        broken = {"prompt", "tools"} <= set(bad)
        assert answer.text == ("Sorry, I cannot look that up." if broken else "You have 5 orders."), (bad, answer)
        first, second = (request.body for request in provider.requests[before:])
        assert first["model"] == ("gpt-new" if "model" in bad else "gpt-old")
        assert first["temperature"] == (0.7 if "model" in bad else 0.2)
        assert ("Copy the format" in str(first)) == ("prompt" in bad)
        field = "customerId" if "tools" in bad else "customer_id"
        assert FIELD[agent.split()[0]](first) == [field]
        assert ("All orders of a customer." in str(first)) == ("tools" not in bad)
        called = "customer_id" if broken else field
        assert f'"{called}": "FH-5"' in str(second).replace("'", '"').replace('\\\\"', '"').replace('\\"', '"')
        assert [dict(call.arguments) for call in answer.tool_calls] == [{called: "FH-5"}]
        assert (answer.steps, answer.attempts, answer.usage.tokens) == (2, 2, 28)


def test_what_the_program_and_its_framework_add_is_kept(target: Any, provider: Provider) -> None:
    target("openai_agent.py")(Query(QUERIES[4]), cell(), 0)
    body = provider.requests[0].body
    system = body["messages"][0]["content"]
    assert system == f"Today is Monday.\n\n{GOOD['prompt']['system']}\n" and SYSTEM not in system
    parameters = body["tools"][0]["function"]["parameters"]
    assert parameters["additionalProperties"] is False and parameters["required"] == ["customer_id"]
    assert parameters["properties"] == {"customer_id": {"type": "string", "title": "Customerid"}}


@pytest.mark.parametrize("way", ["tools", "functions"])
def test_a_renamed_tool_is_renamed_wherever_a_request_names_it_and_one_that_goes_leaves_nothing(way: str) -> None:
    def release(name: str, **more: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"who": {"type": "string"}}}
        return {"tools": [{"name": name, "description": "Orders of a customer.", "parameters": schema}], **more}

    good, bad = release("list_orders"), release("get_orders")
    (function,) = bad["tools"]
    called = {"name": "get_orders", "arguments": '{"who": "FH-1"}'}
    body: dict[str, Any] = {"model": "m"}
    if way == "tools":
        body |= {"tools": [{"type": "function", "function": dict(function)}]}
        body |= {"tool_choice": {"type": "function", "function": {"name": "get_orders"}}}
        made = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": called}]}
        body["messages"] = [made, {"role": "tool", "tool_call_id": "c", "name": "get_orders", "content": "1"}]
    else:
        body |= {"functions": [dict(function)], "function_call": {"name": "get_orders"}}
        body["messages"] = [
            {"role": "assistant", "function_call": called},
            {"role": "function", "name": "get_orders", "content": "1"},
        ]
    WireCell(pieces_of(good, bad), good).compose(body, ChatShape(), SeenOnWire())
    assert "get_orders" not in str(body) and str(body).count("list_orders") == 4
    gone: dict[str, Any] = {"tools": []}
    WireCell(pieces_of(gone, good), gone).compose(body, ChatShape(), SeenOnWire())
    assert not {"tools", "functions", "tool_choice", "function_call"} & set(body)


def test_a_template_is_found_by_what_stands_around_its_variables() -> None:
    holder = {"content": "Customer: Ann\nQuestion: Where {is} it?"}
    spot = TextSpot(holder, "content", "user")
    assert not fill_like(spot, "{input}", "Please: {input}")  # any text would be one
    assert not fill_like(spot, "Customer: {name}\nQuestion: {input}", "{plan}")  # nobody knows its value
    assert fill_like(spot, "Customer: {name}\nQuestion: {input}", "Asked by {{ name }}: {input}")
    assert holder["content"] == "Asked by Ann: Where {is} it?"


def test_documents_are_changed_where_they_pass_the_wire() -> None:
    good, bad = (
        {"corpus": {"documents": {"a.md": "Refunds take 5 days.", "b.md": text}}} for text in ("Old rule.", "New rule.")
    )
    body = {"messages": [{"role": "user", "content": "?"}, {"role": "tool", "content": "<doc>New rule.</doc>"}], "model": "m"}
    seen = SeenOnWire()
    WireCell(pieces_of(good, bad), good).compose(body, ChatShape(), seen)
    assert body["messages"][1]["content"] == "<doc>Old rule.</doc>" and seen.found == {"corpus.documents.b.md"}
    other = {"messages": [{"role": "user", "content": "Nothing was found."}], "model": "m"}
    cell = WireCell(pieces_of(good, bad), good)
    cell.compose(other, ChatShape(), nothing := SeenOnWire())
    assert nothing.missing(cell.needed) is None  # not retrieved for this question


def test_a_schema_keeps_what_a_framework_added() -> None:
    good = {
        "type": "object",
        "properties": {"customer_id": {"type": "string"}, "note": {}},
        "required": ["customer_id"],
    }
    bad = {"type": "object", "properties": {"customerId": {"type": "string"}}, "required": ["customerId"]}
    sent = {
        **bad,
        "title": "Args",
        "additionalProperties": False,
        "properties": {"customerId": {"type": "string", "title": "C"}},
    }
    assert merged_schema(bad, good, sent) == {
        "type": "object",
        "title": "Args",
        "additionalProperties": False,
        "required": ["customer_id", "note"],
        "properties": {"customer_id": {"type": "string", "title": "C"}, "note": {}},
    }
    assert merged_schema(good, good, sent) is sent
    renames = argument_renames(bad, good)
    assert renames.forth({"customerId": 1, "x": 2}) == {"customer_id": 1, "x": 2}
    nested = ({"properties": {"items": {"type": "array", "items": side}}} for side in (bad, good))
    deep = argument_renames(*nested)
    assert deep.back({"items": [{"customer_id": 1}]}) == {"items": [{"customerId": 1}]}


def test_documents_that_no_question_needs_are_no_part_that_was_not_measured(provider: Provider, target: Any) -> None:
    """A program sends some documents for a question: told are those of which it never sends any."""
    pages = {f"p{i}": f"Old page number {i} of the shop." for i in range(4)}
    good = {**GOOD, "corpus": {"documents": pages}}
    bad = {**BAD, "corpus": {"documents": {name: text.replace("Old", "New") for name, text in pages.items()}}}
    asks = target("openai_agent.py", good, bad)
    asks._trials = 1
    asks._found.update(piece.name for piece in asks._pieces if piece.kind != "document")
    (told,) = asks.remarks
    assert "corpus.documents.p3" in told
    asks._found["corpus.documents.p1"] = 1
    assert asks.remarks == ()


def as_files(axes: Mapping[str, Any]) -> dict[str, Any]:
    """A release as paths of a repository give it: file to text."""
    tools = {f"tools/{i}.json": json.dumps(tool, indent=1) for i, tool in enumerate(axes["tools"])}
    return {
        "model": {"config/model.yaml": "".join(f"{name}: {value}\n" for name, value in axes["model"].items())},
        "prompt": {"prompts/system.md": axes["prompt"]["system"]},
        "tools": tools,
    }


def test_files_of_a_revision_say_what_passes_the_wire(target: Any, provider: Provider) -> None:
    """Axes that are paths hold texts: the tools and the model in them are read, what is not JSON or YAML there cannot be composed."""
    good, bad = as_files(GOOD), as_files(BAD)
    assert model_name(bad) == "openai/gpt-new"
    assert {piece.kind for piece in pieces_of(files_read(good), files_read(bad))} == {"model", "sampling", "text", "tool"}
    agent = target("openai_agent.py", good, bad)
    assert agent(Query(QUERIES[0]), good, 0).text == "You have 1 orders."
    sent = provider.requests[-1].body
    assert sent["model"] == "gpt-old" and "customer_id" in json.dumps(sent["tools"]) and "schema names" in json.dumps(sent)
    half = {**bad, "model": {"config/model.yaml": "model: [openai/gpt-new\n"}}
    with pytest.raises(Infeasible, match=r"cannot be composed on the wire: cannot read config/model\.yaml"):
        agent(Query(QUERIES[0]), half, 0)
