"""One door for JSON texts: what is strict there is strict everywhere, and no text of a model or a provider makes it raise."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bisect_ai.canonical import MAX_DEPTH, BadRecord, json_object, json_or, parse_json
from bisect_ai.errors import ConfigError
from bisect_ai.facts.regression_suite import cases_pass
from bisect_ai.targets.promptfoo_target import answer_in_results
from bisect_ai.targets.tool_results import RecordedTools, recorded_calls

DEEP = ["[" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "[" * 70 + "]" * 70, "[{" * 900]
POLICIES = ["finite", "64 bits", "or null", "as text", "as sent"]


@pytest.mark.parametrize("numbers", POLICIES)
@pytest.mark.parametrize("text", DEEP, ids=["brackets", "objects", "closed", "mixed"])
def test_deep_nesting_is_refused_in_every_way_of_reading(text: str, numbers: str) -> None:
    with pytest.raises(BadRecord):
        parse_json(text, numbers=numbers)  # type: ignore[arg-type]
    assert json_or("none", text, numbers=numbers) == "none"  # type: ignore[arg-type]


def test_the_deepest_value_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) != []


@pytest.mark.parametrize(
    "text, read",
    [
        ("NaN", ["refused", "refused", None, "NaN", math.nan]),
        ("[1e999]", ["refused", "refused", "refused", ["1e999"], [math.inf]]),
        ("18446744073709551616", [2**64, "refused", 2**64, 2**64, 2**64]),
        ("1" * 5_000, ["refused", "refused", "refused", "1" * 5_000, "refused"]),
        ('{"a": 1, "a": 2}', ["refused", "refused", "refused", "refused", {"a": 2}]),
    ],
    ids=["nan", "overflow", "65 bits", "5000 digits", "twice"],
)
def test_each_way_of_reading_numbers(text: str, read: list[object]) -> None:
    told = [json_or("refused", text, numbers=numbers) for numbers in POLICIES]  # type: ignore[arg-type]
    assert repr(told) == repr(read)  # NaN is not equal to itself


@pytest.mark.parametrize("text", ["", "[1,", b"\xff", "nope", "\x00", b'{"a"'])
def test_what_is_no_json_is_no_object(text: str | bytes) -> None:
    assert json_object(text) is None


def test_only_objects_are_objects() -> None:
    assert [json_object(text) for text in ('{"a": 1}', b"\xef\xbb\xbf{}", "[1]", "null")] == [{"a": 1}, {}, None, None]


def test_a_key_that_comes_twice_among_very_many_is_found_at_once() -> None:
    keys = ", ".join(f'"k{number}": 0' for number in range(100_000))
    with pytest.raises(BadRecord, match="'k99999' is there twice"):
        parse_json(f'{{{keys}, "k99999": 1}}')


@pytest.mark.parametrize("arguments", ['{"x": NaN}', '{"x": 1e999}', *DEEP], ids=lambda text: text[:10])
def test_recorded_arguments_that_are_no_json_stay_a_text(arguments: str) -> None:
    recorded = [{"name": "find", "arguments": arguments, "result": 1}]
    assert list(recorded_calls(recorded)) == [("find", arguments)]
    assert RecordedTools(recorded).call("find", {"x": 2}).error


@pytest.mark.parametrize("written", [text.encode() for text in DEEP], ids=["brackets", "objects", "closed", "mixed"])
def test_a_deep_result_file_is_a_malformed_answer(written: bytes) -> None:
    assert answer_in_results(written).outcome == "malformed"


@pytest.mark.parametrize(
    "text", ["{", '{"cases": [], "cases": []}', '{"cases": NaN}', "[" * 2_000], ids=["cut", "twice", "nan", "deep"]
)
def test_a_broken_suite_is_said_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cannot read cases\.json[^\n]+$"):
        cases_pass(tmp_path)
