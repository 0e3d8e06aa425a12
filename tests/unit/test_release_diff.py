"""The diff of two releases: which changes there are, what they are called, how they combine."""

from __future__ import annotations

import itertools
import json
import random
import time
from typing import Any

import pytest

from bisect_ai.errors import Infeasible, ReleaseError
from bisect_ai.release.correspondence import align
from bisect_ai.release.diff import Change, Tree, diff
from bisect_ai.release.load import load_release


def tree(good: Any, bad: Any, axis: str = "prompt") -> Tree:
    return diff(load_release({axis: good}), load_release({axis: bad}))


def rows(found: Tree) -> list[tuple[str, str]]:
    return [(change.path, change.kind) for change in found.changes]


def only(found: Tree) -> Change:
    (change,) = found.changes
    return change


# -- texts -------------------------------------------------------------------------------------------------------


def rules(side: str, count: int) -> str:
    parts = (f"Section {i:04d} is about one thing.\nRule {i:04d} has the {side} wording.\n" for i in range(count))
    return "\n".join(parts)


@pytest.mark.parametrize("count", [1, 8, 512])
def test_every_changed_rule_is_a_hunk_of_its_own(count: int) -> None:
    found = tree(rules("old", count), rules("new", count))
    assert [(c.before, c.after) for c in found.changes] == [
        (f"Rule {i:04d} has the old wording.\n", f"Rule {i:04d} has the new wording.\n") for i in range(count)
    ]
    assert [c.path for c in found.changes] == [f"prompt:{3 * i + 2}" for i in range(count)]
    some = found.changes[::3]
    text = found.apply(some)["prompt"]
    assert isinstance(text, str)
    expected = [f"Rule {i:04d} has the {'new' if i % 3 == 0 else 'old'} wording." for i in range(count)]
    assert [line for line in text.split("\n") if line.startswith("Rule")] == expected


def test_hunks_lie_in_paragraphs_of_keys() -> None:
    good = {"system": "One.\nTwo.\n\nThree.\nFour.\n", "user": "{input}"}
    bad = {"system": "One.\n2.\n\nThree.\nFour!\nFive.\n", "user": "{input}"}
    found = tree(good, bad)
    assert [(c.path, c.group) for c in found.changes] == [
        ("system:2", ("system", "paragraph 1")),
        ("system:5", ("system", "paragraph 2")),
    ]
    (axis,) = found.groups
    assert (axis.label, axis.groups[0].label) == ("prompt", "system")
    assert [group.label for group in axis.groups[0].groups] == ["paragraph 1", "paragraph 2"]
    assert axis.all() == found.changes


def test_added_and_removed_lines_have_one_side_only() -> None:
    found = tree("a\nb\nc\n", "b\nc\nnew\n")
    assert [(c.kind, c.before, c.after) for c in found.changes] == [("removed", "a\n", None), ("added", None, "new\n")]


def test_contiguous_lines_are_one_hunk_and_blank_lines_divide() -> None:
    found = tree("x\na1\na2\n\nb1\ny\n", "x\nA1\nA2\n\nB1\ny\n")
    assert [c.before for c in found.changes] == ["a1\na2\n", "b1\n"]


def test_neighbouring_items_edited_alike_are_told_apart() -> None:
    good = "Rules:\n- Prices are in euros.\n- Answer in two sentences.\n- Be kind\nEnd.\n"
    bad = "Rules:\n- Prices are in euros and include tax.\n- Answer in one sentences.\n- Be kind always\nEnd.\n"
    found = tree(good, bad)
    assert [c.path for c in found.changes] == ["prompt:2", "prompt:3", "prompt:4"]
    assert found.apply(found.changes[1:2])["prompt"] == good.replace("two", "one")


def test_a_statement_that_runs_over_lines_stays_whole() -> None:
    good = "Start.\nAnswer the customer in the\nlanguage of the question.\nEnd.\n"
    bad = "Start.\nAnswer the shopper in the\nlanguage of the letter.\nEnd.\n"
    assert only(tree(good, bad)).before == "Answer the customer in the\nlanguage of the question.\n"


def block(lines: str, *, good: str = "") -> list[str | None]:
    """What each change adds that puts `lines` in the middle of a prompt, in place of `good`."""
    found = tree(f"You are the shop's helper.\n\n{good}\nThe end.\n", f"You are the shop's helper.\n\n{lines}\nThe end.\n")
    return [change.after for change in found.changes]


def test_added_statements_are_a_change_each_in_their_order() -> None:
    added = [
        "- Refund within 14 days.\n",
        "- Ask for the receipt\n  and the box.\n",
        "- Be kind\n",
        "- Never guess.\n",
        "Tone: warm\n",
    ]
    found = tree("You help.\nThe end.\n", "You help.\n" + "".join(added) + "The end.\n")
    assert [change.after for change in found.changes] == added
    assert [change.path for change in found.changes] == ["prompt:+2", "prompt:+3", "prompt:+5", "prompt:+6", "prompt:+7"]
    assert {change.group for change in found.changes} == {("new lines 2–7",)}
    some = found.apply(found.changes[::-2])["prompt"]
    assert some == "You help.\n" + "".join(added[::2]) + "The end.\n"


def test_removed_statements_are_a_change_each() -> None:
    gone = ["- One is this.\n", "- Two is that.\n", "- Three is more.\n"]
    found = tree("You help.\n" + "".join(gone) + "The end.\n", "You help.\nThe end.\n")
    assert [(change.path, change.before) for change in found.changes] == [
        (f"prompt:{i + 2}", text) for i, text in enumerate(gone)
    ]


def test_rewritten_statements_stand_beside_what_they_are_edits_of() -> None:
    good = "Be brief.\nAnswer in English only.\nNever give discounts to customers.\nQuote the order number.\n"
    bad = "Answer in English or German only.\nQuote the order number and date.\nGreet first.\nSign off as Fern.\n"
    found = tree(f"You help.\n{good}End.\n", f"You help.\n{bad}End.\n")
    assert [(c.path, c.kind, c.after) for c in found.changes] == [
        ("prompt:2", "removed", None),
        ("prompt:3", "changed", "Answer in English or German only.\n"),
        ("prompt:4", "removed", None),
        ("prompt:5", "changed", "Quote the order number and date.\n"),
        ("prompt:+4", "added", "Greet first.\n"),
        ("prompt:+5", "added", "Sign off as Fern.\n"),
    ]


def test_items_that_only_got_another_number_are_one_change() -> None:
    good = "1. Greet.\n2. Ask for the number.\n3. Look the order up.\n4. Answer.\n"
    bad = "1. Greet.\n2. Apologise.\n3. Ask for the number.\n4. Look the order up.\n5. Answer.\n"
    found = tree(good, bad)
    assert [(c.kind, c.after) for c in found.changes] == [
        ("added", "2. Apologise.\n"),
        ("changed", "3. Ask for the number.\n4. Look the order up.\n5. Answer.\n"),
    ]


@pytest.mark.parametrize(
    "whole",
    [
        "Answer the customer in the\nlanguage of the question, and\nnever in another one.\n",
        "- Ask first:\n  - the name.\n  - the number.\n",
        "## Refunds\n\nRefund within 14 days.\n",
        'Such as:\n```\n{"a": 1.}\n- not an item.\n```\n',
        'Such as\n{\n  "a": "One.",\n  "b": "Two."\n}\n',
        "| a | b. |\n|---|----|\n| 1 | 2. |\n",
        "User: Where is it?\nAssistant: On its way.\nUser: Thanks.\nAssistant: Welcome.\n",
        "User: Where is it?\n\nAssistant: On its way.\n\nUser: Thanks.\n\nAssistant: Welcome.\n",
        "<rules>\n- One is this.\n- Two is that.\n</rules>\n",
        "{% if plan %}\n- One is this.\n- Two is that.\n{% endif %}\n",
        "def refund(order):\n    # Refund it.\n    return order\n",
        "retriever:\n  k: 4\n  kind: tfidf\n",
    ],
)
def test_what_would_be_nonsense_by_half_stays_whole(whole: str) -> None:
    assert block(whole) == [whole]
    assert block(whole + "- Be kind.\n- Be brief.\n")[0] in (whole, whole + "- Be kind.\n- Be brief.\n")


def test_examples_in_paragraphs_of_their_own_are_a_change_each() -> None:
    first, second = ("User: {}?\nAssistant: {}.\n\n".format(*words) for words in (("Where", "There"), ("When", "Then")))
    assert block(f"{first}{second}Be kind.\n") == [first, second, "Be kind.\n"]


def test_a_program_is_not_taken_apart_by_statement() -> None:
    added = "One is this.\nTwo is that.\nThree is more.\n"
    found = tree({"app.py": "a\nz\n", "app.md": "a\nz\n"}, {"app.py": f"a\n{added}z\n", "app.md": f"a\n{added}z\n"})
    assert [c.path for c in found.changes if c.after == added] == ["app.py:2"]


def test_a_rewritten_part_of_a_program_stays_whole() -> None:
    old, new = (
        f"def {name}(a):\n    # {name.title()} a. Then b.\n    x = {name}.y\n    return x.{name}\n" * 3 for name in ("f", "g")
    )
    found = tree({"app.py": f"import a\n{old}end\n"}, {"app.py": f"import a\n{new}end\n"})
    assert only(found).before == old


def test_what_comes_behind_a_last_line_without_an_end_leaves_that_as_it_is() -> None:
    good, bad = "Rules:\n- One.", "Rules:\n- One.\n- Two.\n- Three.\n- Four."
    found = tree(good, bad)
    assert [c.path for c in found.changes] == ["prompt:+3", "prompt:+4", "prompt:+5"]
    assert found.apply(found.changes[1:2])["prompt"] == "Rules:\n- One.\n- Three."


def test_a_long_rewritten_paragraph_is_compared_by_sentence() -> None:
    kept = "It never invents facts that are not in the documents that it was given by the shop. "
    parts = (
        "The assistant answers {} and politely at all times, whatever comes. ",
        kept,
        "It escalates for {} customers, of course.",
    )
    good, bad = ("".join(parts).format(*words) for words in (("briefly", "angry"), ("at length", "sad")))
    found = tree(good, bad)
    assert [c.path for c in found.changes] == ["prompt:1.1", "prompt:1.3"]
    assert found.apply(found.changes[:1])["prompt"] == good.replace("briefly", "at length")


def test_sentences_put_behind_others_are_a_change_each() -> None:
    good = "Orders of a customer. Status and day."
    added = (
        " Never call it twice in one conversation with the same customer.",
        " Ask for the number first, before anything else.",
        " Sort the orders by day, the newest first, and say so.",
    )
    found = tree({"get": {"description": good}}, {"get": {"description": good + "".join(added)}}, "tools")
    assert [(c.path, c.after) for c in found.changes] == [
        (f"get.description:+1.{i}", text) for i, text in enumerate(added, start=3)
    ]
    assert found.apply(found.changes[1:2])["tools"]["get"]["description"] == good + added[1]  # type: ignore[index, call-overload]


def test_sentences_put_before_the_first_go_with_it() -> None:
    good = "Orders of a customer, with the status of each and the day on which it should arrive. " * 3
    found = tree(good, f"Be quick. Be kind. {good}")
    assert [c.after for c in found.changes] == [
        "Be quick. Be kind. Orders" + good.partition("Orders")[2].partition(".")[0] + "."
    ]


def test_a_short_or_wholly_new_text_is_one_change() -> None:
    assert (only(tree("gpt-4", "gpt-5", "model")).path, only(tree("gpt-4", "gpt-5", "model")).kind) == ("model", "changed")
    assert only(tree("", "one\ntwo\n")).kind == "changed"
    assert only(tree("one", "two")).summary == "“one” → “two”"


def test_a_moved_paragraph_is_one_change() -> None:
    moved = "Always quote the number of the order.\n"
    found = tree(f"{moved}\nFirst thing.\n\nSecond thing.\n", f"First thing.\n\nSecond thing.\n\n{moved}")
    assert only(found).kind == "moved"
    assert "moved from line 1 to line" in only(found).summary


def test_summaries_show_where_long_lines_part() -> None:
    line = "word " * 60
    summary = only(tree(line + "old end", line + "new end")).summary
    assert "old end" in summary
    assert "new end" in summary
    assert len(summary) < 140


# -- mappings, lists, documents ----------------------------------------------------------------------------------


def test_mappings_are_compared_by_key() -> None:
    good = {"model": "m", "sampling": {"temperature": 0, "seed": None}, "gone": 1}
    bad = {"model": "m", "sampling": {"temperature": 0.5, "seed": None, "top_p": 1}, "flag": True}
    found = tree(good, bad, "model")
    assert rows(found) == [
        ("sampling.temperature", "changed"),
        ("sampling.top_p", "added"),
        ("gone", "removed"),
        ("flag", "added"),
    ]
    assert only(tree({"seed": 1}, {"seed": None}, "model")).after is None
    assert only(tree({"seed": 1}, {"seed": True}, "model")).kind == "changed"


def test_a_renamed_key_is_one_change() -> None:
    text = "You are an assistant that answers questions."
    assert rows(tree({"system": text, "user": "x"}, {"system_prompt": text, "user": "x"})) == [("system", "renamed")]
    assert rows(tree({"max_tokens": 1}, {"maxTokens": 2})) == [("max_tokens", "renamed"), ("max_tokens~2", "changed")]
    assert rows(tree({"a": 0}, {"b": 0})) == [("a", "removed"), ("b", "added")]


def test_odd_keys_have_readable_paths() -> None:
    assert [c.path for c in tree({"a\nb": 1, "": 2}, {"a\nb": 2, "": 3}).changes] == ['"a\\nb"', '""']


def test_named_items_are_compared_by_name() -> None:
    good = [{"name": "a", "text": 1}, {"name": "b", "text": 2}, {"name": "c", "text": 3}]
    bad = [{"name": "new", "text": 9}, {"name": "a", "text": 1}, {"name": "c", "text": 4}]
    assert rows(tree(good, bad, "examples")) == [("new", "added"), ("b", "removed"), ("c.text", "changed")]


def test_another_order_of_named_items_is_one_change() -> None:
    items = [{"id": i, "text": "x"} for i in range(4)]
    found = tree(items, [items[2], items[0], items[1], {"id": 9, "text": "y"}], "examples")
    assert rows(found) == [("9", "added"), ("3", "removed"), ("order", "reordered")]
    order = [c for c in found.changes if c.kind == "reordered"]
    assert [item["id"] for item in found.apply(order)["examples"]] == [2, 0, 1, 3]


def test_items_without_names_are_aligned() -> None:
    good = [{"input": "a", "output": "x"}, {"input": "b", "output": "y"}, "stop", 1]
    bad = [{"input": "new", "output": "n"}, {"input": "a", "output": "x"}, {"input": "b", "output": "z"}, "stop", 2]
    found = tree(good, bad, "examples")
    assert rows(found) == [("[+0]", "added"), ("[1].output", "changed"), ("[3]", "changed")]


def test_an_example_with_another_question_and_answer_is_one_change() -> None:
    example = {"input": "Where is order one?", "output": "It is on its way."}
    other = {"input": "Where is order two?", "output": "It is on its way back."}
    assert only(tree({"examples": [example]}, {"examples": [other]})).path == "examples[0]"
    assert only(tree({"examples": [{"name": "a", **example}]}, {"examples": [{"name": "a", **other}]})).path == "examples.a"
    answered = {**example, "output": "It is on its way now."}
    assert only(tree({"examples": [example]}, {"examples": [answered]})).path == "examples[0].output"


def test_what_a_user_asks_and_an_assistant_answers_is_one_change() -> None:
    def turns(*words: str) -> list[dict[str, str]]:
        roles = ("user", "assistant") * len(words)
        return [{"role": role, "content": word} for role, word in zip(roles, words, strict=False)]

    start = [{"role": "system", "content": "Help."}, *turns("Where is it?", "On its way.")]
    found = tree({"messages": start}, {"messages": start + turns("May I return it?", "Yes.", "How?", "By mail.")})
    assert [(c.path, c.after) for c in found.changes] == [
        ("messages[+3]", turns("May I return it?", "Yes.")),
        ("messages[+5]", turns("How?", "By mail.")),
    ]
    assert found.apply(found.changes[1:])["prompt"] == {"messages": start + turns("How?", "By mail.")}
    both = tree({"messages": start}, {"messages": [start[0], *turns("Where is my order?", "In the van.")]})
    assert only(both).path == "messages[1]"
    answer = tree({"messages": start}, {"messages": [*start[:2], {"role": "assistant", "content": "In the van."}]})
    assert only(answer).path.startswith("messages[2]")


def test_a_moved_item_is_one_change() -> None:
    found = tree(["alpha", "beta", "gamma"], ["beta", "gamma", "alpha"], "examples")
    assert [c.kind for c in found.changes] == ["moved"]


def test_another_type_is_one_change() -> None:
    assert only(tree({"a": [1]}, {"a": {"b": 1}})).path == "a"
    assert only(tree({"a": "1"}, {"a": 1})).kind == "changed"


def test_documents_are_added_removed_edited_and_moved() -> None:
    page = "".join(f"Line {i} of the returns page.\n" for i in range(6))
    good = {"documents": {"a.md": "A\nB\nC\n", "faq/b.md": "the same text", "old/c.md": page, "d.md": "gone"}, "k": 4}
    bad = {
        "documents": {"a.md": "A\nX\nC\nY\n", "help/b.md": "the same text", "new/c.md": page + "More.\n", "e.md": "new"},
        "k": 4,
    }
    found = tree(good, bad, "corpus")
    assert rows(found) == [
        ("documents/a.md", "changed"),
        ("documents/faq/b.md", "moved"),
        ("documents/old/c.md", "moved"),
        ("documents/d.md", "removed"),
        ("documents/e.md", "added"),
    ]
    moved, moved_and_edited = found.changes[1:3]
    assert (moved.before, moved.after, moved.group) == ("faq/b.md", "help/b.md", ("documents", "faq"))
    assert moved_and_edited.before == {"old/c.md": page}
    assert found.apply([moved])["corpus"]["documents"] == {
        **{k: v for k, v in good["documents"].items() if k != "faq/b.md"},
        "help/b.md": "the same text",
    }


def test_documents_given_as_a_list_are_whole_too() -> None:
    good = [{"id": "a", "text": "one\ntwo\n\nthree\n"}, {"id": "b", "text": "x"}]
    bad = [{"id": "a", "text": "one\n2\n\n3\n"}, {"id": "b", "text": "x"}]
    assert rows(tree({"documents": good}, {"documents": bad}, "corpus")) == [("documents.a", "changed")]


def test_texts_that_went_round_among_documents_can_be_combined_freely() -> None:
    good, bad = {"1.md": "alpha", "2.md": "beta"}, {"1.md": "beta", "2.md": "gamma", "3.md": "alpha"}
    found = tree({"documents": good}, {"documents": bad}, "corpus")
    assert [c.kind for c in found.changes] == ["changed", "changed", "added"]
    assert found.conflicts == ()


def test_ten_thousand_documents_with_a_thousand_changes_are_quick_and_not_copied() -> None:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(2000)]
    good = {f"f{i % 50}/{i}.md": "\n".join(" ".join(rng.choices(words, k=8)) for _ in range(10)) for i in range(10_000)}
    bad = dict(good)
    for i, name in enumerate(list(good)[:1000]):
        text = bad.pop(name)
        if i % 4 == 0:
            bad[name] = text + "\nedited"
        elif i % 4 == 1:
            bad[f"moved/{name}"] = text
        elif i % 4 == 2:
            bad[f"moved/{name}"] = text + "\nedited"
    releases = load_release({"corpus": {"documents": good}}), load_release({"corpus": {"documents": bad}})
    start = time.process_time()
    found = diff(*releases)
    assert time.process_time() - start < 5
    assert len(found.changes) == 1000
    assert [c.kind for c in found.changes].count("moved") == 500
    edited = found.changes[0]
    assert edited.before is good["f0/0.md"]
    built = found.apply(found.changes[1:])["corpus"]["documents"]
    assert built["f0/0.md"] is good["f0/0.md"]


# -- tools -------------------------------------------------------------------------------------------------------


def schema(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return found if required is None else {**found, "required": required}


def openai(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}}


TEXT = {"type": "string"}
ID = {"type": "string", "description": "the customer's number"}


@pytest.mark.parametrize(
    "tool",
    [
        openai,
        lambda name, parameters: {"name": name, "description": "d", "parameters": parameters},
        lambda name, parameters: {"name": name, "description": "d", "input_schema": parameters},
    ],
)
def test_a_renamed_field_is_one_change_with_its_required_entry(tool: Any) -> None:
    good = [tool("get", schema({"limit": TEXT, "customer_id": ID}, ["limit", "customer_id"])), tool("put", schema({}))]
    bad = [tool("get", schema({"limit": TEXT, "customerId": ID}, ["limit", "customerId"])), tool("put", schema({}))]
    change = only(tree(good, bad, "tools"))
    assert (change.kind, change.before, change.after) == ("renamed", "customer_id", "customerId")
    assert change.path.startswith("get.")
    assert change.path.endswith(".customer_id")
    assert change.group[0] == "get"


def test_a_field_renamed_and_edited_can_be_taken_apart() -> None:
    good = [openai("get", schema({"customer_id": ID}, ["customer_id"]))]
    bad = [openai("get", schema({"customerId": {**ID, "description": "number"}}, ["customerId"]))]
    found = tree(good, bad, "tools")
    assert [c.kind for c in found.changes] == ["renamed", "changed"]
    (built,) = found.apply(found.changes[:1])["tools"]
    assert built["function"]["parameters"] == schema({"customerId": ID}, ["customerId"])
    (built,) = found.apply(found.changes[1:])["tools"]
    assert built["function"]["parameters"] == schema({"customer_id": {**ID, "description": "number"}}, ["customer_id"])


def test_fields_take_their_required_entries_along() -> None:
    found = tree(
        [openai("t", schema({"a": TEXT, "b": ID}, ["a", "b"]))],
        [openai("t", schema({"b": ID, "c": {"type": "integer"}}, ["b", "c"]))],
        "tools",
    )
    assert rows(found) == [("t.parameters.a", "removed"), ("t.parameters.c", "added")]
    for count in range(3):
        for some in itertools.combinations(found.changes, count):
            (built,) = found.apply(some)["tools"]
            parameters = built["function"]["parameters"]
            assert sorted(parameters["required"]) == sorted(parameters["properties"])


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (None, ["a"], ["added"]),
        (["a"], None, ["removed"]),
        (["a", "b"], ["b", "a"], ["reordered"]),
        (["a"], ["a", "zz"], ["added"]),
        ([], ["a"], ["added"]),
        (None, [], ["added"]),
    ],
)
def test_what_is_required_may_change_alone(before: list[str] | None, after: list[str] | None, kinds: list[str]) -> None:
    fields = {"a": TEXT, "b": ID}
    found = tree([openai("t", schema(fields, before))], [openai("t", schema(fields, after))], "tools")
    assert [c.kind for c in found.changes] == kinds


def test_required_follows_a_rename_also_when_it_became_optional() -> None:
    good = [openai("t", schema({"customer_id": ID}, ["customer_id"]))]
    bad = [openai("t", schema({"customerId": ID}, []))]
    rename, optional = tree(good, bad, "tools").changes
    built = tree(good, bad, "tools").apply([rename])["tools"][0]["function"]["parameters"]
    assert (built["required"], list(built["properties"])) == (["customerId"], ["customerId"])
    assert optional.kind == "removed"


def test_a_renamed_tool_is_one_change() -> None:
    good = [openai("get_order", schema({"a": ID})), openai("b", schema({}))]
    bad = [openai("find_order", schema({"a": ID})), openai("b", schema({}))]
    change = only(tree(good, bad, "tools"))
    assert (change.kind, change.before, change.after) == ("renamed", "get_order", "find_order")


def test_names_passed_on_from_field_to_field_conflict_and_say_so() -> None:
    first, second = {"type": "string", "description": "sender"}, {"type": "string", "description": "receiver"}
    found = tree(
        [openai("pay", schema({"a": first, "b": second}))], [openai("pay", schema({"b": first, "c": second}))], "tools"
    )
    one, two = found.changes
    assert [(c.before, c.after) for c in found.changes] == [("a", "b"), ("b", "c")]
    assert found.conflicts == ((one, two),)
    with pytest.raises(
        Infeasible, match=r"pay\.parameters\.a.*'a' renamed to 'b'.*needs.*pay\.parameters\.b.*'b' renamed to 'c'"
    ):
        found.apply([one])
    assert found.apply([two])["tools"][0]["function"]["parameters"]["properties"] == {"a": first, "c": second}


def test_names_swapped_between_fields_go_only_together() -> None:
    first, second = {"type": "string", "description": "sender"}, {"type": "string", "description": "receiver"}
    good, bad = [openai("pay", schema({"a": first, "b": second}))], [openai("pay", schema({"b": first, "a": second}))]
    found = tree(good, bad, "tools")
    for change in found.changes:
        with pytest.raises(Infeasible):
            found.apply([change])
    assert found.apply(found.changes)["tools"] == bad


# -- axes and trees ----------------------------------------------------------------------------------------------


def test_an_axis_of_one_side_is_one_change() -> None:
    good, bad = load_release({"a": 1, "old": {"x": 1}}), load_release({"a": 1, "new": [1]})
    found = diff(good, bad)
    assert [(c.axis, c.path, c.kind, c.before, c.after) for c in found.changes] == [
        ("old", "old", "removed", {"x": 1}, None),
        ("new", "new", "added", None, [1]),
    ]
    assert dict(found.apply(found.changes[:1])) == {"a": 1}
    assert dict(found.apply(found.changes[1:])) == {"a": 1, "old": {"x": 1}, "new": [1]}


def test_equal_releases_have_no_changes() -> None:
    found = tree({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]})
    assert (found.changes, dict(found.axes), found.groups) == ((), {}, ())


def test_a_change_carries_what_the_bad_release_knows_of_its_axis() -> None:
    good = load_release({"release": "g", "axes": {"prompt": "a", "model": "x"}, "provenance": {"prompt": {"owner": "old"}}})
    bad = load_release({"release": "b", "axes": {"prompt": "b", "model": "y"}, "provenance": {"prompt": {"owner": "new"}}})
    prompt, model = diff(good, bad).changes
    assert (dict(prompt.provenance), dict(model.provenance)) == ({"owner": "new"}, {})


def test_to_dict_is_plain_json_with_whole_texts() -> None:
    long = "line\n" * 1000
    found = tree({"a": long, "b": {"c": 1}}, {"a": long + "new", "b": {"c": [2]}})
    kept = json.loads(json.dumps(found.to_dict()))
    assert [row["path"] for row in kept["axes"]["prompt"]] == ["a:1001", "b.c"]
    assert set(kept["axes"]["prompt"][0]) == {"axis", "path", "kind", "summary", "before", "after", "group", "provenance"}
    assert kept["conflicts"] == []


def test_a_change_of_another_diff_is_refused() -> None:
    found, other = tree({"a": 1}, {"a": 2}), tree({"a": 1}, {"a": 3})
    again = tree({"a": 1}, {"a": 2})
    assert found.apply(again.changes)["prompt"] == {"a": 2}
    for stranger in (other.changes, tree({"b": 1}, {"b": 2}).changes):
        with pytest.raises(ReleaseError, match="is not part of this diff"):
            found.apply(stranger)


def test_a_combination_of_changes_is_read_only() -> None:
    good, bad = load_release({"p": "a\nb\nc\n"}), load_release({"p": "A\nb\nC\n"})
    changes = diff(good, bad).changes
    assert diff(good, bad).apply(changes[:1]) == {"p": "A\nb\nc\n"}
    with pytest.raises(TypeError):
        diff(good, bad).apply(changes)["p"] = 1  # type: ignore[index]


def test_alignment_stays_quick_on_repetition() -> None:
    a, b = (["ab"[i % 2] for i in range(60_000)], ["abb"[i % 3] for i in range(60_000)])
    start = time.process_time()
    runs = align(a, b)
    assert time.process_time() - start < 5
    assert [x for r in runs for x in a[r.i1 : r.i2]] == a
    assert [x for r in runs for x in b[r.j1 : r.j2]] == b
