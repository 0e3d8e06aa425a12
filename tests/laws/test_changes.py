"""The laws of changes, for any two releases: both ends exact, order and repetition without effect, conflicts declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from bisect_ai.canonical import canonical
from bisect_ai.errors import Infeasible
from bisect_ai.release.composition import freeze, same
from bisect_ai.release.diff import Change, Tree, diff
from bisect_ai.release.load import Release, compose, load_release

LAWFUL = settings(deadline=None, max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))

# Few names and lines, so that the two sides share much: most differences are then partial ones.
NAMES = st.sampled_from(["a", "b", "c", "customer_id", "customerId", "order", "id", "name", "required", "properties", ""])
LINES = st.sampled_from(["", " ", "one", "two", "Rule 1.", "Always quote the number of the order.", "Never do. Or do.", "é\r"])
SENTENCES = st.sampled_from(
    [f"This is the sentence with the number {n}, and it goes on for a good while longer." for n in range(5)]
)
# Lines of prompts that are told apart by statement, or stay whole: items, keys, headings, a fence, data, turns, an element.
PROMPT = """- Be kind.
- Never promise a refund
  of money.
  - But ask.
1. Greet first.
2. Greet first.
Tone: warm
Tone: stern
## Refunds
Rules:
```
{
  "a": 1
}
User: Hi.
Assistant: Hello.
<rules>
</rules>
Wrapped prose goes on in
the next line. It ends
here.
Always quote the number of the order.
{% if x %}"""
STATEMENTS = st.sampled_from(PROMPT.split("\n"))
TEXTS = st.one_of(
    st.lists(LINES, max_size=8).map("\n".join),
    st.lists(STATEMENTS, max_size=14).map("\n".join),
    st.lists(SENTENCES, max_size=7).map(" ".join),
    st.text(max_size=8),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, -0.0, 1.0, 0.5]), TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)
TYPES = st.sampled_from([{"type": "string"}, {"type": "integer"}, *({"type": "string", "description": d} for d in "xyz")])
FIELD_NAMES = st.sampled_from(["a", "b", "c", "customer_id", "customerId"])


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """An object schema whose `required` may be missing, partial, out of order or about fields that are not there."""
    fields = draw(st.dictionaries(FIELD_NAMES, TYPES, max_size=4))
    found: dict[str, Any] = {"type": "object", "properties": fields}
    if draw(st.booleans()):
        found["required"] = draw(st.lists(FIELD_NAMES, max_size=4, unique=draw(st.booleans())))
    return found


@st.composite
def tools(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(["get", "put", "find_order", "findOrder"]), max_size=3, unique=True))
    plain = draw(st.booleans())
    found = [{"name": name, "description": draw(LINES), "parameters": draw(schemas())} for name in names]
    return found if plain else [{"type": "function", "function": tool} for tool in found]


DOCUMENTS = st.dictionaries(st.sampled_from(["a.md", "b.md", "faq/a.md", "faq/c.md", "d/e/f.md"]), TEXTS, max_size=5)
AXES = st.fixed_dictionaries(
    {},
    optional={
        "model": VALUES,
        "prompt": TEXTS,
        "more": VALUES,
        "tools": tools(),
        "corpus": st.fixed_dictionaries({"documents": DOCUMENTS | VALUES}),
        "shots": st.lists(st.fixed_dictionaries({"input": LINES, "output": LINES}), max_size=4),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": LINES}), max_size=6
        ),
        "named": st.lists(
            st.fixed_dictionaries({"id": st.integers(0, 4), "t": LINES}), max_size=4, unique_by=lambda i: i["id"]
        ),
    },
)


TELLING = [{"type": "string", "description": text} for text in ("sender", "receiver", "amount", "day", "note")]


def _tool(names: list[str], required: list[int] | None) -> list[dict[str, Any]]:
    parameters: dict[str, Any] = {"type": "object", "properties": dict(zip(names, TELLING, strict=False))}
    if required is not None:
        parameters["required"] = [names[i] for i in required if i < len(names)]
    return [{"type": "function", "function": {"name": "pay", "parameters": parameters}}]


@st.composite
def releases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two sets of axes. Some of bad's are good's after the edits that people make: renamed fields, moved lines and items."""
    good, bad = draw(AXES), draw(AXES)
    if draw(st.booleans()):
        names = st.lists(FIELD_NAMES, min_size=1, max_size=4, unique=True)
        required = st.none() | st.lists(st.integers(0, 3), max_size=4, unique=True)
        good["tools"], bad["tools"] = _tool(draw(names), draw(required)), _tool(draw(names), draw(required))
    if draw(st.booleans()) and isinstance(good.get("prompt"), str):
        lines = good["prompt"].split("\n")
        put_in = draw(st.lists(STATEMENTS, max_size=6)) if draw(st.booleans()) else None
        at = draw(st.integers(0, len(lines)))
        bad["prompt"] = "\n".join(draw(st.permutations(lines)) if put_in is None else [*lines[:at], *put_in, *lines[at:]])
    for axis in ("shots", "messages", "named"):
        if axis in good and draw(st.booleans()):
            bad[axis] = draw(st.permutations(good[axis]))
    return good, bad


Axes = tuple[dict[str, Any], dict[str, Any]]


def pair(good: dict[str, Any], bad: dict[str, Any]) -> tuple[Release, Release, Tree]:
    assume(good and bad)
    first, second = load_release({"axes": good}), load_release({"axes": bad})
    return first, second, diff(first, second)


def exactly(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return canonical(dict(a)) == canonical(dict(b))


def broken(tree: Tree, some: list[Change]) -> list[tuple[Change, Change]]:
    return [(first, second) for first, second in tree.conflicts if first in some and second not in some]


@LAWFUL
@given(releases())
@example(({"more": {"a": 1}}, {"more": {"a": True}}))
@example(({"more": {"a": 0.0}}, {"more": {"a": -0.0}}))
@example(({"more": None}, {"prompt": ""}))
def test_no_change_gives_good_and_all_give_bad_exactly(axes: Axes) -> None:
    first, second, tree = pair(*axes)
    assert exactly(tree.apply([]), first.axes)
    assert exactly(tree.apply(tree.changes), second.axes)
    assert bool(tree.changes) == (first.digest != second.digest)
    for axis in tree.axes:
        for side, some in ((first, ()), (second, tree.changes)):
            assert tree.apply(some).get(axis) is side.axes.get(axis)


@LAWFUL
@given(releases(), st.data())
def test_any_set_of_changes_is_built_or_is_a_declared_conflict(axes: Axes, data: st.DataObject) -> None:
    _, _, tree = pair(*axes)
    some = [change for change in tree.changes if data.draw(st.booleans())]
    clashes = broken(tree, some)
    try:
        built = tree.apply(some)
    except Infeasible as conflict:
        assert clashes
        assert any(repr(a.path) in str(conflict) and repr(b.path) in str(conflict) for a, b in clashes)
        return
    assert not clashes
    canonical(dict(built))
    mixed = data.draw(st.permutations(some + some))
    assert exactly(tree.apply(mixed), built)


@LAWFUL
@given(releases(), st.data())
def test_a_change_acts_on_its_own_axis_only(axes: Axes, data: st.DataObject) -> None:
    first, second, tree = pair(*axes)
    chosen = [axis for axis in tree.axes if data.draw(st.booleans())]
    whole = tree.apply(change for axis in chosen for change in tree.axes[axis])
    assert exactly(whole, compose(first, second, chosen))


@LAWFUL
@given(releases())
def test_every_change_does_something_alone_and_undone_alone(axes: Axes) -> None:
    first, second, tree = pair(*axes)
    for change in tree.changes:
        if not broken(tree, [change]):
            assert not exactly(tree.apply([change]), first.axes)
        rest = [other for other in tree.changes if other != change]
        if not broken(tree, rest):
            assert not exactly(tree.apply(rest), second.axes)


@LAWFUL
@given(releases())
def test_changes_are_the_same_each_time_and_named_once(axes: Axes) -> None:
    first, second, tree = pair(*axes)
    again = diff(first, second)
    assert [c.to_dict() for c in again.changes] == [c.to_dict() for c in tree.changes]
    assert len({(c.axis, c.path) for c in tree.changes}) == len(tree.changes)
    assert sorted(c.path for group in tree.groups for c in group.all()) == sorted(c.path for c in tree.changes)
    for change in tree.changes:
        assert change.summary
        assert "\n" not in change.summary + change.path
        json.dumps(change.to_dict(), allow_nan=False)


@LAWFUL
@given(TEXTS, TEXTS, st.data())
def test_a_text_keeps_every_piece_of_the_side_it_takes(good: str, bad: str, data: st.DataObject) -> None:
    assume(good != bad)
    tree = diff(load_release({"prompt": good}), load_release({"prompt": bad}))
    sides = [data.draw(st.booleans()) for _ in tree.changes]
    some = [change for change, on in zip(tree.changes, sides, strict=True) if on]
    built = tree.apply(some)["prompt"]
    length = len(good) + sum(len(c.after or "") - len(c.before or "") for c in some if c.kind != "moved")
    assert isinstance(built, str)
    if all(c.kind != "moved" for c in some):
        assert len(built) == length
    for change in tree.changes:
        kept = change.after if change in some else change.before
        assert not isinstance(kept, str) or kept.strip() in built


@LAWFUL
@given(VALUES, VALUES)
def test_sameness_is_that_of_canonical_json(a: Any, b: Any) -> None:
    assert same(freeze(a), b) == (canonical(a) == canonical(b))
    assert same(a, json.loads(json.dumps(a)))
