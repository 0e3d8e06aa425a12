"""The static check across axes: what it suspects, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from bisect_ai.release.check import Suspect, static_check
from bisect_ai.release.load import load_release
from bisect_ai.release.tool_faults import tool_faults

OWNERS = {axis: {"owner": "team"} for axis in ("model", "prompt", "corpus", "tools", "context")}


def suspects(good: dict[str, Any], bad: dict[str, Any], columns: list[str] | None = None) -> list[Suspect]:
    first, second = (
        load_release({"release": name, "axes": axes, "provenance": {a: OWNERS[a] for a in axes if a in OWNERS}})
        for name, axes in (("g", good), ("b", bad))
    )
    return static_check(first, second, columns=columns)


def tools(*fields: str, name: str = "get_order", style: str = "openai") -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {f: {"type": "string", "description": "a number"} for f in fields}}
    if style == "openai":
        return [{"type": "function", "function": {"name": name, "parameters": schema}}]
    return [{"name": name, "description": "finds an order", style: schema}]


@pytest.mark.parametrize("style", ["openai", "parameters", "input_schema"])
def test_a_renamed_field_that_the_prompt_still_uses(style: str) -> None:
    prompt = {"system": "Be brief.\nCall get_order with customer_id.", "examples": [{"arguments": {"customer_id": "C1"}}]}
    (found,) = suspects(
        {"tools": tools("customer_id", style=style), "prompt": prompt},
        {"tools": tools("customerId", style=style), "prompt": prompt},
    )
    assert found.axes == ("tools", "prompt")
    assert found.message == "'get_order' no longer has the field 'customer_id' (now 'customerId'), but prompt still uses it"
    assert found.where == "prompt: system line 2; prompt: examples[0].arguments.customer_id"


def test_names_match_as_whole_words_only() -> None:
    prompt = "Use customer_id_hash, my_customer_id and customer_ids."
    good, bad = {"tools": tools("customer_id"), "prompt": prompt}, {"tools": tools("customerId"), "prompt": prompt}
    assert suspects(good, bad) == []


def test_a_name_that_is_a_word_counts_only_where_it_is_code() -> None:
    good, bad = {"tools": tools("order", "x1")}, {"tools": tools("reference", "x1")}
    prose = "Tell the customer about the order: it is on its way."
    assert suspects({**good, "prompt": prose}, {**bad, "prompt": prose}) == []
    code = 'Call it with {"order": 12}.'
    assert [s.axes for s in suspects({**good, "prompt": code}, {**bad, "prompt": code})] == [("tools", "prompt")]


def test_a_lost_tool_is_found_in_documents_and_context() -> None:
    rest = {
        "corpus": {"documents": {"a.md": "x", "b.md": "one\ntwo\nSee get_order."}},
        "context": {"heading": "from get_order"},
    }
    found = suspects({"tools": tools("a1"), **rest}, {"tools": tools("a1", name="other_tool"), **rest})
    assert [s.axes for s in found] == [("tools", "corpus"), ("tools", "context")]
    assert found[0].where == "corpus: documents.b.md line 3"
    assert "the tool 'get_order' is gone (now 'other_tool')" in found[0].message


def test_the_schemas_themselves_are_no_use_but_descriptions_are() -> None:
    good = tools("customer_id") + tools("customer_id", name="refund")
    bad = tools("customerId") + tools("customer_id", name="refund")
    assert suspects({"tools": good}, {"tools": bad}) == []
    bad[1]["function"]["description"] = "needs the customer_id"
    (found,) = suspects({"tools": good}, {"tools": bad})
    assert found.axes == ("tools",)
    assert "another tool still has that name" in found.message


def test_many_places_are_counted() -> None:
    prompt = "customer_id\n" * 10
    (found,) = suspects({"tools": tools("customer_id"), "prompt": prompt}, {"tools": tools("customerId"), "prompt": prompt})
    assert found.where.endswith("line 3 and 7 more")


def test_a_new_template_variable_without_a_source() -> None:
    good = {"prompt": {"user": "{input} {plan}"}}
    bad = {"prompt": {"user": "{input} {plan} {{literal}}\n{custmer} {custmer}", "examples": [{"a": "{example_only}"}]}}
    (found,) = suspects(good, bad)
    assert found.axes == ("prompt",)
    assert "{custmer} has no known source" in found.message
    assert found.where == "prompt: user line 2"
    assert [s.message.split("}")[0] for s in suspects(good, bad, columns=["custmer"])] == ["the template variable {plan"]


@pytest.mark.parametrize(
    ("name", "dated"),
    [
        ("openai/gpt-4.1-2025-04-14", True),
        ("anthropic/claude-3-5-sonnet-20241022", True),
        ("gpt-4-0613", True),
        ("gemini-1.5-pro-002", True),
        ("bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0", True),
        ("openai/gpt-4o", False),
        ("claude-3-5-sonnet-latest", False),
        ("mistral-large", False),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_models_without_a_date(name: str, dated: bool, nested: bool) -> None:
    found = suspects({"model": "m-2025-01-01"}, {"model": {"model": name, "temperature": 0} if nested else name})
    assert [s.axes for s in found] == ([] if dated else [("model",)])


def test_changed_axes_without_an_owner_are_one_suspect() -> None:
    good, bad = load_release({"a": 1, "b": 1, "c": 1}), load_release({"a": 2, "b": 2, "c": 1})
    (found,) = static_check(good, bad)
    assert found.axes == ("a", "b")
    assert "no owner" in found.message


def test_a_clean_pair_has_no_suspects() -> None:
    good = {"model": "m-2025-01-01", "tools": tools("customer_id"), "prompt": "Use customer_id: {input}"}
    bad = {"model": "m-2025-02-01", "tools": tools("customerId"), "prompt": "Use customerId: {input}"}
    assert suspects(good, bad) == []


@pytest.mark.parametrize(
    ("axis", "faults"),
    [
        ([{"name": "a", "parameters": {"type": "object", "properties": {"x": {"type": "STRING"}}}}], 0),
        ([{"name": "a", "parameters": {"type": "object", "properties": {"x": {"type": "text"}}}}], 1),
        ({"config/tools.json": [{"name": "a", "parameters": {"type": "objekt"}}], "README.md": "tools"}, 1),
        ({"config/tools.json": [{"name": "a", "description": "fine"}], "notes.yaml": {"retries": 3}}, 0),
        (["search", "calculator"], 0),
        (None, 0),
    ],
)
def test_only_what_is_a_list_of_tools_is_read_as_one(axis: Any, faults: int) -> None:
    assert len(list(tool_faults(axis))) == faults
