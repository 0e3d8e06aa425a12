"""What each kind of scorer counts as right, how scorers are built, and what a scorer's failure looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisect_ai.errors import ConfigError
from bisect_ai.queries.query import Query
from bisect_ai.scoring.kinds import expected_calls, last_number, same_json
from bisect_ai.scoring.scorer import Score, Scorer, score_answer
from bisect_ai.scoring.scorers import build_scorers
from bisect_ai.targets.answer import Answer, ToolCall


def scored(settings: dict[str, Any], reference: Any, answer: str | Answer) -> float | None:
    (scorer,) = build_scorers([settings]).values()
    given = Answer(text=answer) if isinstance(answer, str) else answer
    got = score_answer(scorer, Query({"id": "q", "input": "?", "reference": reference}), given)
    assert got.error is None
    return got.value


@pytest.mark.parametrize(
    ("options", "reference", "text", "score"),
    [
        ({}, "Yes", " Yes\n", 1),
        ({}, "Yes", "yes", 0),
        ({"ignore_case": True}, "STRASSE", "straße", 1),
        ({"strip": False}, "Yes", "Yes ", 0),
        ({}, ["a", "b"], "b", 1),
        ({}, ["a", "b"], "c", 0),
        ({}, 12, "12", 1),
        ({}, {"a": [1]}, '{"a":[1]}', 1),
        ({}, {"a": [1]}, '{"a":[2]}', 0),
        ({}, "caf\u00e9", "cafe\u0301", 0),
        ({}, None, "x", None),
    ],
)
def test_exact(options: dict[str, Any], reference: Any, text: str, score: float | None) -> None:
    assert scored({"kind": "exact", **options}, reference, text) == score


@pytest.mark.parametrize(
    ("options", "reference", "text", "score"),
    [
        ({}, "b", "abc", 1),
        ({}, "B", "abc", 0),
        ({"ignore_case": True}, "B", "abc", 1),
        ({}, ["a", "c"], "abc", 1),
        ({}, ["a", "d"], "abc", 0),
        ({"mode": "any"}, ["a", "d"], "abc", 1),
        ({}, 42, "it is 42", 1),
        ({}, "", "abc", None),
        ({}, [], "abc", None),
        ({}, None, "abc", None),
    ],
)
def test_contains(options: dict[str, Any], reference: Any, text: str, score: float | None) -> None:
    assert scored({"kind": "contains", **options}, reference, text) == score


@pytest.mark.parametrize(
    ("options", "text", "score"),
    [
        ({"pattern": r"\d+"}, "a1", 1),
        ({"pattern": r"\d+", "full": True}, "a1", 0),
        ({"pattern": "A", "ignore_case": True}, "a", 1),
        ({"pattern": "A"}, "a", 0),
    ],
)
def test_regex(options: dict[str, Any], text: str, score: float) -> None:
    assert scored({"kind": "regex", **options}, None, text) == score


def test_a_pattern_gone_astray_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisect_ai.scoring.kinds.PATTERN_SECONDS", 0.05)
    (scorer,) = build_scorers([{"kind": "regex", "pattern": r"(a|a?)+$"}]).values()
    got = score_answer(scorer, Query({"id": "q"}), Answer(text="a" * 500 + "b"))
    assert got.value is None and "simplify it" in str(got.error)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 1,234.50 in all", 1234.5),
        ("from 3 to -4", -4),
        ("\u22125", -5),
        ("2e3", 2000),
        (".5", 0.5),
        ("3-5", 5),
        ("costs $12.", 12),
        ("12,34", 34),
        ("v2", None),
        ("none - at all.", None),
        ("", None),
        ("50%", 50),
        ("1,234,567", 1234567),
    ],
)
def test_the_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("options", "reference", "text", "score"),
    [
        ({}, 0.3, "0.1 + 0.2 = 0.3", 1),
        ({}, "12 apples", "I count 12", 1),
        ({"abs": 0.5}, 10, "10.6", 0),
        ({"rel": 0.1}, 10, "10.6", 1),
        ({}, 10, "ten", 0),
        ({}, None, "10", None),
    ],
)
def test_numeric(options: dict[str, Any], reference: Any, text: str, score: float | None) -> None:
    assert scored({"kind": "numeric", **options}, reference, text) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [('{"a": 1}', 1), ('{"a": "1"}', 0), ("{}", 0), ('```json\n{"a": 1}\n```', 0), ('{"a": NaN}', 0), ('{"a": 1} x', 0)],
)
def test_json_schema(text: str, score: float) -> None:
    schema = {"properties": {"a": {"type": "number"}}, "required": ["a"]}
    assert scored({"kind": "json_schema", "schema": schema}, None, text) == score


def test_a_schema_file_is_read_and_remote_references_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"$ref": "http://127.0.0.1:9/schema"}))
    (scorer,) = build_scorers([{"kind": "json_schema", "schema": "s.json"}], folder=tmp_path).values()
    got = score_answer(scorer, Query({"id": "q"}), Answer(text="{}"))
    assert got.value is None and "Unresolvable" in str(got.error)


CALLS = (ToolCall("find", {"id": 1, "deep": {"a": [1, 2], "b": 2}}), ToolCall("send", {"to": "x"}))
FIND = {"name": "find", "arguments": {"id": 1, "deep": {"a": [1, 2], "b": 2}}}
SEND = {"function": {"name": "send", "arguments": '{"to": "x"}'}}


@pytest.mark.parametrize(
    ("options", "reference", "score"),
    [
        ({}, FIND, 1),
        ({}, [SEND, FIND], 1),
        ({"ordered": True}, [SEND, FIND], 0),
        ({"ordered": True}, [FIND, SEND], 1),
        ({"only": True}, [FIND], 0),
        ({"only": True}, [FIND, SEND], 1),
        ({}, {"name": "find", "arguments": {"id": 1}}, 0),
        ({"arguments": "subset"}, {"name": "find", "arguments": {"id": 1, "deep": {"b": 2}}}, 1),
        ({"arguments": "subset"}, {"name": "find", "arguments": {"id": 2}}, 0),
        ({}, {"name": "find", "arguments": {**FIND["arguments"], "id": True}}, 0),
        ({}, "find", 1),
        ({}, json.dumps([FIND]), 1),
        ({}, [FIND, FIND], 0),
        ({}, [], 0),
        ({}, None, None),
    ],
)
def test_tool_calls(options: dict[str, Any], reference: Any, score: float | None) -> None:
    assert scored({"kind": "tool_call", **options}, reference, Answer(tool_calls=CALLS)) == score


def test_no_call_is_right_when_none_is_expected() -> None:
    assert scored({"kind": "tool_call"}, [], "no need") == 1


def test_each_expected_call_needs_a_call_of_its_own() -> None:
    """The loose call fits both, the strict one only the first: a greedy match would fail here."""
    made = Answer(tool_calls=(ToolCall("f", {"a": 1, "b": 1}), ToolCall("f", {"a": 1})))
    wanted = [{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"b": 1}}]
    assert scored({"kind": "tool_call", "arguments": "subset"}, wanted, made) == 1
    assert scored({"kind": "tool_call", "arguments": "subset"}, [wanted[1], wanted[1]], made) == 0


@pytest.mark.parametrize(
    "written", [3, {"arguments": {}}, [{"name": ""}], {"name": "f", "arguments": "not json"}, {"function": 3}]
)
def test_what_is_no_call_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="not a name or"):
        expected_calls(written)


def test_values_are_compared_as_json() -> None:
    assert same_json({"a": 1}, {"a": 1.0}, subset=False) and not same_json([1], [1, 2], subset=True)
    assert not same_json(0, False, subset=False) and not same_json({}, [], subset=True)


def test_length_and_its_direction() -> None:
    assert scored({"kind": "length"}, None, "abc d") == 5
    assert build_scorers([{"kind": "length"}])["length"].higher_is_better is False
    assert build_scorers([{"kind": "length", "higher_is_better": "true"}])["length"].higher_is_better is True


def test_an_unknown_price_is_no_score() -> None:
    assert scored({"kind": "cost"}, None, "x") is None and scored({"kind": "latency"}, None, "x") is None


def exits(query: Query, answer: Answer) -> float:
    raise SystemExit(1)


def fails(query: Query, answer: Answer) -> float:
    raise KeyError("no\x1b]0;title\x07\nsecond line" + "x" * 500)


async def later(query: Query, answer: Answer) -> float:
    return 1.0


class Later:
    async def __call__(self, query: Query, answer: Answer) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("function", "score"),
    [
        (lambda q, a: True, Score(1.0)),
        (lambda q, a: np.float32(0.5), Score(0.5)),
        (lambda q, a: np.bool_(False), Score(0.0)),
        (lambda q, a: None, Score(None)),
        (lambda q, a: float("nan"), Score(None, "the scorer returned nan; return a finite number or None")),
        (lambda q, a: -float("inf"), Score(None, "the scorer returned -inf; return a finite number or None")),
        (lambda q, a: "1", Score(None, "the scorer returned a str; return a number, a boolean or None")),
        (lambda q, a: 10**400, Score(None, "OverflowError: int too large to convert to float")),
        (exits, Score(None, "SystemExit: 1")),
        (lambda q, a: later(q, a), Score(None, "the scorer is asynchronous; make it a plain function")),
        (lambda q, a: -1e308, Score(None, "the scorer returned -1e+308; return numbers up to 1e+100, such as a logarithm")),
        (lambda q, a: 1e-300, Score(0.0)),
    ],
)
def test_what_a_function_returns(function: Any, score: Score) -> None:
    scorer = build_scorers({"mine": function})["mine"]
    assert score_answer(scorer, Query({"id": "q"}), Answer(text="x")) == score


def test_an_exception_becomes_one_clean_line() -> None:
    got = score_answer(build_scorers({"mine": fails})["mine"], Query({"id": "q"}), Answer())
    assert got.value is None and got.error is not None
    assert got.error.startswith("KeyError: ") and got.error.isprintable() and len(got.error) == 300


def test_a_score_outside_its_bounds_is_an_error() -> None:
    settings = {"kind": "python", "function": lambda q, a: 2, "bounded": [0, 1]}
    (scorer,) = build_scorers([settings]).values()
    assert score_answer(scorer, Query({"id": "q"}), Answer()).error == "the scorer returned 2.0, outside 0.0 to 1.0"


def test_functions_and_scorers_by_name() -> None:
    given = Scorer("other", fails, higher_is_better=False, unit="points")
    built = build_scorers({"mine": exits, "given": given})
    assert list(built) == ["mine", "given"] and built["given"].name == "given" and built["given"].unit == "points"
    assert built["mine"].digest is not None and build_scorers({"mine": lambda q, a: 1})["mine"].digest is None


def test_a_function_named_in_the_list_is_imported(tmp_path: Path) -> None:
    (tmp_path / "judged.py").write_text("def score(query, answer):\n    return answer.text == query['gold']\n")
    spec = [{"kind": "python", "function": "judged:score", "name": "gold"}]
    scorer = build_scorers(spec, folder=tmp_path)["gold"]
    assert score_answer(scorer, Query({"id": "q", "gold": "x"}), Answer(text="x")) == Score(1.0)
    assert scorer.digest is not None and not scorer.content


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "scorers is empty"),
        ("exact", "scorers is a str"),
        (["exact"], r"scorers\[0\] is a str"),
        ([{"kind": "exat"}], "unknown kind 'exat'; did you mean 'exact'"),
        ([{"kind": "equals"}], "unknown kind 'equals'; did you mean 'exact'"),
        ([{"kind": "llm-rubric"}], "unknown kind 'llm-rubric'; did you mean 'judge'"),
        ([{"kind": "vibes"}], "unknown kind 'vibes'; use one of exact, contains"),
        ([{}], "unknown kind None"),
        (
            [{"kind": "exact", "ignorecase": True}],
            r"scorers\[0\] \(exact\): unknown key 'ignorecase'; did you mean 'ignore_case'",
        ),
        ([{"kind": "cost", "x": 1}], "unknown key 'x'; use one of \\(none\\)"),
        ([{"kind": "exact"}, {"kind": "exact"}], "two scorers have the name 'exact'"),
        ([{"kind": "exact", "name": " "}], "the name ' ' is not a text"),
        ([{"kind": "exact", "ignore_case": "perhaps"}], "ignore_case: Input should be a valid boolean"),
        ([{"kind": "contains", "mode": "some"}], "mode: Input should be 'all' or 'any'"),
        ([{"kind": "regex", "pattern": "("}], "pattern '\\(' is not a regular expression"),
        ([{"kind": "regex"}], "the key .pattern. is missing"),
        ([{"kind": "numeric", "abs": -1}], "must not be negative"),
        ([{"kind": "json_schema", "schema": {"type": 3}}], "not a JSON Schema"),
        ([{"kind": "json_schema", "schema": "gone.json"}], "cannot read the schema gone.json"),
        ([{"kind": "python", "function": "gone:score"}], "no module 'gone'"),
        ({"": exits}, "a scorer has the name ''"),
        ({"mine": 3}, "scorer 'mine' is a int"),
        ({"mine": later}, "cannot use later: it is asynchronous; give a plain function"),
        ({"mine": Later()}, "cannot use Later: it is asynchronous"),
    ],
)
def test_what_is_no_scorer_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_scorers(spec)
