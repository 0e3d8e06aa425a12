"""The tape: which rule answers a call, what counts as a miss, where misses lean, and what a miss is to store and engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bisect_ai.attribution.problem import Attribution, Cause, Estimate, Trial
from bisect_ai.errors import ConfigError
from bisect_ai.facts.missing_answers import tape_block
from bisect_ai.queries.query import Query
from bisect_ai.replay.job_queue import JobQueue
from bisect_ai.replay.trial_jobs import Done, Job
from bisect_ai.report.accounting import tape_phrase, warnings
from bisect_ai.report.json_edge import read
from bisect_ai.report.run_blocks import TapeBlock
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import FinishedTrial
from bisect_ai.runs.tape_misses import Count, Tape, find_lean, is_held, tape_of
from bisect_ai.store.trial_store import Kept, Store
from bisect_ai.targets.answer import MISSING, Answer, ToolCall, as_answer
from bisect_ai.targets.litellm_target import LitellmTarget
from bisect_ai.targets.tool_results import RecordedTools
from tests.unit.test_litellm_target import QUERY, RELEASE, ask, says, target

__all__ = ["target"]

FIELDS: dict[str, Any] = {
    "order_id": {"type": "string"},
    "limit": {"type": "integer"},
    "page": {"type": "integer", "default": 1},
    "parts": {"type": "array", "uniqueItems": True},
    "route": {"type": "array"},
}
SCHEMA = {"type": "object", "properties": FIELDS, "required": ["order_id"]}


def tape(*entries: tuple[dict[str, Any], Any]) -> RecordedTools:
    return RecordedTools([{"name": "get", "arguments": a, "result": r} for a, r in entries])


def answered(tools: RecordedTools, arguments: dict[str, Any], schema: dict[str, Any] | None = SCHEMA) -> tuple[Any, Any]:
    done = tools.call("get", arguments, schema)
    assert (done.error is None) == (done.answered != MISSING)
    return done.result, done.answered


ONE = {"order_id": "O-1"}


@pytest.mark.parametrize(
    ("recorded", "asked", "rule"),
    [
        (ONE, ONE, "exact"),
        ({**ONE, "parts": ["a", "b"]}, {**ONE, "parts": ["b", "a"]}, "order"),
        ({**ONE, "route": ["a", "b"]}, {**ONE, "route": ["b", "a"]}, MISSING),
        ({"orderId": "O-1"}, ONE, "renamed"),
        ({"number": "O-1"}, ONE, "renamed"),
        ({"number": 7}, {"limit": 7, "order_id": 7}, MISSING),  # 7 may be anything
        ({**ONE, "limit": 7000}, {**ONE, "page": 7000}, MISSING),  # the schema still has both
        ({"order_id": "A", "limit": 3}, {"order_id": "B", "limit": 3}, MISSING),
        ({"from": "A-1", "to": "B-1"}, {"from": "B-1", "to": "A-1"}, MISSING),  # the same values, swapped
        (ONE, {**ONE, "limit": 5}, "added"),
        (ONE, {**ONE, "page": 1}, "added"),
        (ONE, {**ONE, "page": 2}, MISSING),  # not the default
        (ONE, {**ONE, "force": True}, MISSING),  # in no schema
        ({**ONE, "limit": 5}, ONE, MISSING),  # what it would be without is in no schema
        ({**ONE, "page": 1}, ONE, "left_out"),
        ({**ONE, "page": 2}, ONE, MISSING),  # not the default
        ({**ONE, "force": True}, ONE, MISSING),  # in no schema
        ({**ONE, "page": 1}, {**ONE, "limit": 5}, "added+left_out"),
        ({"orderId": "O-1", "page": 1}, ONE, "renamed+left_out"),
        ({**ONE, "filter": {"page": 1}}, {**ONE, "filter": {}}, MISSING),  # no schema of what is inside
        ({**ONE, "limit": 5}, {**ONE, "limit": 6}, MISSING),
        ({"orderId": "O-1"}, {**ONE, "limit": 5}, "renamed+added"),
        ({**ONE, "filter": {"orderId": "O-1"}}, {**ONE, "filter": {"order_id": "O-1"}}, "renamed"),
    ],
)
def test_the_rule_that_answers_a_call(recorded: dict[str, Any], asked: dict[str, Any], rule: str) -> None:
    assert answered(tape((recorded, "R")), asked) == (None if rule == MISSING else "R", rule)


def test_an_argument_that_the_schema_requires_is_not_optional() -> None:
    required = {**SCHEMA, "required": ["order_id", "limit"]}
    assert answered(tape((ONE, "R")), {**ONE, "limit": 5}, required)[1] == MISSING
    with_default = {**required, "properties": {**FIELDS, "limit": {"default": 5}}}
    assert answered(tape((ONE, "R")), {**ONE, "limit": 5}, with_default)[1] == "added"


def test_an_argument_that_the_schema_requires_is_not_left_out() -> None:
    assert answered(tape(({**ONE, "page": 1}, "R")), ONE, {**SCHEMA, "required": ["order_id", "page"]})[1] == MISSING


def test_of_two_pages_a_call_without_one_is_the_first() -> None:
    pages = tape(({**ONE, "page": 1}, "R"), ({**ONE, "page": 2}, "S"))
    assert answered(pages, ONE) == ("R", "left_out")


def test_a_recorded_call_with_the_argument_contradicts_that_it_means_nothing() -> None:
    tools = tape((ONE, "R"), ({"order_id": "O-2", "limit": 1}, "S"))
    assert answered(tools, {**ONE, "limit": 5})[1] == MISSING


def test_one_recorded_call_is_not_two_pages() -> None:
    tools = tape((ONE, "R"))
    assert [answered(tools, {**ONE, "limit": n})[1] for n in (5, 5, 6, 5)] == ["added", "added", MISSING, "added"]


def test_two_recorded_calls_that_fit_must_agree() -> None:
    fits = ({"orderId": "O-1"}, {"order": "O-1"})
    assert answered(tape((fits[0], "R"), (fits[1], "R")), ONE) == ("R", "renamed")
    assert answered(tape((fits[0], "R"), (fits[1], "S")), ONE)[1] == MISSING


def test_a_call_whose_result_was_not_recorded_is_missing_not_null() -> None:
    tools = RecordedTools([{"name": "get", "arguments": ONE}])
    assert answered(tools, ONE)[1] == MISSING
    assert answered(RecordedTools([{"name": "get", "arguments": ONE, "result": None}]), ONE) == (None, "exact")


def test_the_same_call_again_gets_the_next_result_under_any_rule() -> None:
    tools = tape((ONE, 1), (ONE, 2))
    assert [answered(tools, {**ONE, "limit": 5})[0] for _ in range(3)] == [1, 2, 2]


# -- the target ---------------------------------------------------------------------------------------------------------------
MISSED = ("get_orders", '{"customer_id": "B"}')


def test_a_trial_with_a_miss_is_censored_and_says_what_was_missing(target: Any) -> None:
    made, seen = target(says(None, MISSED, ("get_orders", '{"customer_id": "C"}')), says("Sorry."))
    answer = ask(made)
    assert (answer.outcome, answer.text, len(seen), answer.is_failure) == (MISSING, "Sorry.", 2, False)
    assert seen[1]["messages"][-1]["content"] == "Error: tool result not recorded"
    assert answer.error == (
        'ToolResultMissing: the log has no result of get_orders(customer_id), asked with {"customer_id": "B"}; '
        "also get_orders(customer_id)"
    )
    assert [call.answered for call in answer.tool_calls] == [MISSING, MISSING]
    assert answer.usage.input_tokens == 20


@pytest.mark.parametrize(
    "then", [lambda: RuntimeError("gone"), lambda: says(None, MISSED), lambda: says("Half of", reason="length")]
)
def test_a_miss_stays_one_whatever_comes_after(target: Any, then: Any) -> None:
    answer = ask(target(says(None, MISSED), then())[0])
    assert answer.outcome == MISSING and answer.error is not None and answer.error.startswith("ToolResultMissing: ")


def test_a_miss_survives_serialisation_and_the_store(target: Any, tmp_path: Path) -> None:
    answer = ask(target(says(None, MISSED))[0])
    assert Answer.from_dict(answer.to_dict()) == answer
    with Store(tmp_path / "s") as store:
        store.begin("r" * 16, {})
        store.keep("r" * 16, [Kept("ab" * 32, "r" * 16, "q1", (), 0, answer)], [])
    with Store(tmp_path / "s") as store:
        kept = store.answer("ab" * 32)
        assert kept is not None and kept.answer == answer
        assert store.spending("r" * 16).errors == 0


def test_an_answer_of_before_the_rules_had_names_is_read() -> None:
    call = {"name": "get", "arguments": {}, "result": 1, "error": None}
    assert Answer.from_dict({"text": "x", "tool_calls": [call]}).tool_calls == (ToolCall("get", {}, 1),)
    assert Answer(tool_calls=(ToolCall("get"),)).to_dict()["tool_calls"][0].keys() == call.keys()


@pytest.mark.parametrize("returned", [{"text": "x", "outcome": "missing"}, Answer(text="x", outcome="missing")])
def test_a_target_of_the_users_may_say_that_a_result_is_missing(returned: Any) -> None:
    assert "ToolResultMissing" in str(as_answer(returned).error)
    assert as_answer(replace(as_answer(returned), error="mine")).error == "mine"


def orders(customer_id: str) -> dict[str, Any]:
    if customer_id == "Z":
        raise KeyError(customer_id)
    if customer_id == "Y":
        raise TypeError("broken")
    return {"orders": [customer_id]}


@pytest.mark.parametrize(
    ("customer", "by", "outcome"), [("A", "exact", "ok"), ("B", "stub", "ok"), ("Z", MISSING, MISSING), ("Y", None, "error")]
)
def test_a_stub_stands_in_where_the_log_has_nothing(target: Any, customer: str, by: str | None, outcome: str) -> None:
    made, _ = target(
        says(None, ("get_orders", f'{{"customer_id": "{customer}"}}')), says("Done."), tools_missing={"get_orders": orders}
    )
    answer = ask(made)
    assert answer.outcome == outcome
    assert [call.answered for call in answer.tool_calls] == ([by] if by else [])
    if outcome == "error":
        assert answer.error == "the stub of get_orders in tools_missing failed: TypeError: broken" and answer.is_failure


def test_what_a_model_calls_its_arguments_stays_on_one_line(target: Any) -> None:
    nasty = '{"customer_id": "B", "a\\n::error::\\u001b[2J": "<b>"}'
    made, _ = target(says(None, ("get_orders", nasty), ("get_orders", nasty)))
    answer = ask(made)
    assert answer.outcome == MISSING and answer.error is not None and answer.error.isprintable() and len(answer.error) < 700


def test_a_stub_is_part_of_the_targets_identity_and_none_is_not(tmp_path: Path) -> None:
    plain, stubbed = (LitellmTarget(s, folder=tmp_path) for s in ({}, {"tools_missing": {"get_orders": orders}}))
    assert plain.identity != stubbed.identity and "tools_missing" not in plain.identity


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tools_missing": ["get_orders"]}, "target.tools_missing: it is a list"),
        ({"tools_missing": {"get_orders": 3}}, "target.tools_missing.get_orders"),
        ({"tools_missing": {"get_orders": "nowhere:orders"}}, "no module 'nowhere'"),
        ({"allow_tools": {"get_orders": "nowhere:orders"}}, "no module 'nowhere'"),
    ],
)
def test_a_stub_that_cannot_be_is_told_before_a_call(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LitellmTarget(settings, folder=tmp_path).check_tools(RELEASE)


def test_misses_in_a_row_are_no_failing_target() -> None:
    desk = JobQueue()

    def hear(answer: Answer, first: int) -> None:
        desk.add([Job(place, Query(dict(QUERY)), {}, 0) for place in range(first, first + 200)])
        desk.put([Done(job, answer) for _ in range(200) if (job := desk.take()) is not None])

    hear(Answer(error="ToolResultMissing: x", outcome=MISSING), 0)
    assert desk.failure is None
    hear(Answer(error="gone", outcome="error"), 200)
    assert desk.failure is not None


# -- where misses lean ----------------------------------------------------------------------------------------------------------
def cells(**rates: float) -> dict[int, Count]:
    return {int(name[1:], 2): Count(40, round(40 * rate)) for name, rate in rates.items()}


@pytest.mark.parametrize(
    ("counts", "axes", "side", "told_apart"),
    [
        (cells(b000=0, b001=1, b010=0, b111=1), (0,), "bad", True),
        (cells(b000=0, b110=0, b111=1, b101=1, b011=0), (0, 2), "bad", True),
        (cells(b000=0.5, b001=0, b110=0.5, b111=0), (0,), "good", True),
        (cells(b000=0.5, b001=0.5, b010=0.5, b011=0, b111=0), (0, 1), "good", True),
        (cells(b000=0, b111=0.4), (0, 1, 2), "bad", False),
    ],
)
def test_misses_lean_to_the_axes_that_ask(counts: dict[int, Count], axes: tuple[int, ...], side: str, told_apart: bool) -> None:
    lean = find_lean(counts, 3)
    assert lean is not None and (lean.axes, lean.side, lean.told_apart) == (axes, side, told_apart)


@pytest.mark.parametrize("counts", [cells(b000=0, b111=0), cells(b000=0.5, b111=0.5), cells(b000=0, b111=0.025), cells(b000=1)])
def test_misses_that_come_anywhere_lean_to_nothing(counts: dict[int, Count]) -> None:
    assert find_lean(counts, 3) is None


def found(loss: float, *axes: str) -> Attribution:
    one = Estimate(loss, (loss - 0.01, loss + 0.01), 100, "t")
    return Attribution("cause", one, one, one, causes=(Cause(axes, "alone", one),))


@pytest.mark.parametrize(
    ("rate", "loss", "blamed", "held"),
    [(0.4, 0.3, "a", True), (0.4, 0.3, "b", False), (0.1, 1.0, "a", False), (0.1, 0.3, "a", True)],
)
def test_a_cause_is_held_where_misses_lean_to_it_by_more_than_a_trifle(
    rate: float, loss: float, blamed: str, held: bool
) -> None:
    counts = {0: Count(200, 0), 1: Count(200, round(200 * rate)), 2: Count(200, 0), 3: Count(200, round(200 * rate))}
    told = Tape(counts, find_lean(counts, 2), (), {})
    assert is_held(found(loss, blamed), told, ("a", "b")) is held


def test_trials_of_single_changes_are_counted_and_told() -> None:
    ledger = Ledger(("correct",))
    for level, cell, rows in (("axes", 0, 4), ("axes", 1, 4), ("changes", 2, 6)):
        for i in range(rows):
            missed = level == "changes" and i < 3
            call = ToolCall("get", {"order_id": i}, answered=MISSING if missed else "exact")
            answer = Answer(
                "yes", tool_calls=(call,), outcome=MISSING if missed else "ok", error="no result" if missed else None
            )
            ledger.add(FinishedTrial(f"q{i}", Trial(i, cell), (), "0" * 64, answer, {}, None, fresh=True, level=level))
    told = tape_of(ledger.observations, 1, ledger.inside)
    assert (told.whole, told.inside) == (Count(8, 0), Count(6, 3))
    assert [(call.signature, call.queries) for call in told.calls] == [("get(order_id)", 3)]
    block = tape_block(told, SimpleNamespace(axes=("prompt",)), held=False)  # type: ignore[arg-type]  # only its axes are read
    (line,) = warnings(block)
    assert line.startswith("3 of 6 trials of single changes rest on a tool call") and 'get: "stubs:get"' in line


def test_the_phrase_names_who_asks_for_what() -> None:
    block = {
        "axes": ["prompt", "tools", "model"],
        "trials": 100,
        "missing": 20,
        "leans": {"axes": ["prompt"], "side": "bad", "told_apart": True, "rate": 0.4, "elsewhere": 0.0},
        "calls": [{"tool": "get", "call": f"get({n})", "queries": 1} for n in "abcd"],
        "more_calls": 2,
    }
    assert tape_phrase(read(TapeBlock, block)) == (
        "the new prompt asks for calls that the log never saw (40 % of its queries): get(a), get(b), get(c) and 3 more"
    )
    pair = {**block["leans"], "axes": ["prompt", "tools"], "side": "good"}  # type: ignore[dict-item]
    assert "the old prompt and tools together ask for" in tape_phrase(read(TapeBlock, {**block, "leans": pair}))
    assert "the old prompt or tools (each is enough) asks" in tape_phrase(
        read(TapeBlock, {**block, "leans": {**pair, "every": False}})
    )
    assert "the new tools ask for" in tape_phrase(
        read(TapeBlock, {**block, "leans": {**pair, "axes": ["tools"], "side": "bad"}})
    )
    assert "the new prompt or tools (not told apart) asks" in tape_phrase(
        read(TapeBlock, {**block, "leans": {**pair, "side": "bad", "told_apart": False}})
    )
    bare = {**block, "leans": None, "calls": [], "more_calls": 0}
    assert tape_phrase(read(TapeBlock, bare)) == "replay asks for calls that the log never saw (20 % of all queries)"
