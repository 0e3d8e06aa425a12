"""Strict YAML and JSON: what is written is what comes back."""

from __future__ import annotations

import json

import pytest

from bisect_ai.errors import ConfigError, ReleaseError
from bisect_ai.release.references import read_mapping
from bisect_ai.release.strict import parse_strict_json, parse_yaml

PLAIN = [
    ("no", "no"),
    ("on", "on"),
    ("1.10", "1.10"),
    ("1.1", 1.1),
    ("012", "012"),
    ("0", 0),
    ("-7", -7),
    ("-0", "-0"),
    ("0.70", "0.70"),
    ("0.7", 0.7),
    ("1e3", "1e3"),
    ("1_000", "1_000"),
    ("0x1F", "0x1F"),
    ("12:30:45", "12:30:45"),
    ("2026-11-20", "2026-11-20"),
    ("2026-11-20T16:02:00Z", "2026-11-20T16:02:00Z"),
    (".inf", ".inf"),
    (".nan", ".nan"),
    ("=", "="),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ('"true"', "true"),
    ("'12'", "12"),
    ("18446744073709551616", "18446744073709551616"),
    ("18446744073709551615", 18446744073709551615),
]


@pytest.mark.parametrize(("written", "value"), PLAIN)
def test_a_plain_scalar_is_text_unless_it_reads_back_as_written(written: str, value: object) -> None:
    read = parse_yaml(f"key: {written}\n", "x.yaml")
    assert read == {"key": value}
    assert type(read["key"]) is type(value)


def test_two_prompt_versions_stay_two() -> None:
    assert parse_yaml("[1.10, 1.1]", "x") == ["1.10", 1.1]


def test_keys_are_text_and_blocks_keep_their_lines() -> None:
    text = "1: a\nno: b\ntrue: c\nnull: d\nblock: |\n  12\n  no\n"
    assert parse_yaml(text, "x") == {"1": "a", "no": "b", "true": "c", "null": "d", "block": "12\nno\n"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3, column 1: the key 'a' is there twice"),
        ("a: {b: 1, b: 2}\n", "line 1, column 11: the key 'a.b' is there twice"),
        ('1: a\n"1": b\n', "the key '1' is there twice"),
        ("a: &x 1\n", "line 1, column 4: at 'a': anchors and aliases"),
        ("a: *x\n", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [echo]\n", "tags"),
        ("a: !!str 1\n", "tags"),
        ("a: ! 1\n", "tags"),
        ("<<: {a: 1}\n", "merge keys"),
        ("? [a]\n: 1\n", "a key must be a text"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a: [1,\n", "line 2, column 1"),
        ("a:\n\t- x\n", "line 2, column 1"),
        ("[" * 100 + "]" * 100, "nested more than 64 deep"),
        ("- " * 100 + "a", "nested more than 64 deep"),
    ],
)
def test_yaml_that_could_mean_something_else_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        parse_yaml(text, "x.yaml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merge_and_alias_signs_may_be_quoted() -> None:
    assert parse_yaml('"<<": "*x"\nb: "&y !z"\n', "x") == {"<<": "*x", "b": "&y !z"}


def test_64_levels_are_read_in_both_formats() -> None:
    deep = "[" * 64 + "]" * 64
    assert parse_yaml(deep, "x") == parse_strict_json(deep, "x") == json.loads(deep)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1,\n "a": 2}', "x.json, line 2, column 2: the key 'a' is there twice"),
        ('{"b": {"a": 1}, "a": {"c": [1, "a"], "c": 2}}', "line 1, column 38: the key 'c' is there twice"),
        ('{"a": ["NaN",\n NaN]}', "line 2, column 2: NaN is not JSON"),
        ("[Infinity]", "column 2: Infinity"),
        ("[-Infinity]", "column 2: -Infinity"),
        ("[1e999]", "column 2: the number '1e999'"),
        (f"[{'9' * 5000}]", "does not fit 64 bits"),
        ("[18446744073709551616]", "does not fit 64 bits"),
        ("[" * 1000 + "]" * 1000, "nested more than 64 deep"),
        ("[" * 200_000, "nested more than 64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ('{"a": 1,}', "line 1, column"),
        ("", "line 1, column 1"),
        ("[1] [2]", "column 5"),
    ],
)
def test_json_that_python_would_accept_or_choke_on_is_refused(text: str, says: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        parse_strict_json(text, "x.json")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_values_come_back_exactly() -> None:
    text = '{"a": [1, 1.0, true, null, "\\ud83d", "é"], "b": {"a": 18446744073709551615}}'
    assert parse_strict_json(text, "x") == json.loads(text)
    assert parse_strict_json("\ufeff[1]", "x") == [1]


def test_a_file_is_read_by_its_suffix(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1.10\n")
    (tmp_path / "a.json").write_text('{"a": 1.10}')
    assert read_mapping(tmp_path / "a.yaml") == {"a": "1.10"}
    assert read_mapping(str(tmp_path / "a.json")) == {"a": 1.1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"- a\n", "it holds a list, not a mapping"),
        (b"", "it holds nothing"),
        (b"12", "it holds a number"),
        (b"a: \xff\n", "line 1: it is not UTF-8"),
        (b"ok: 1\na: \xc3\n", "line 2: it is not UTF-8"),
        (b"a: 1\nb: \x00\n", "line 2: it has a NUL byte"),
        ("a: 1".encode("utf-16"), "UTF-16"),
        (b"a: \x1b[2J\n", "control characters"),
    ],
)
def test_a_file_that_is_no_mapping_of_text_is_an_error_of_the_asked_type(tmp_path, content: bytes, says: str) -> None:
    path = tmp_path / "bisect.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_mapping(path, error=ConfigError)
    assert says in str(caught.value)
    assert "bisect.yaml" in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_mapping(tmp_path / "a.yaml") == {"a": 1}


def test_a_missing_file_and_a_folder_are_named(tmp_path) -> None:
    with pytest.raises(ReleaseError, match=r"cannot read '.*gone\.yaml': no such file or directory; check the path"):
        read_mapping(tmp_path / "gone.yaml")
    with pytest.raises(ReleaseError, match="it is a folder; name a file"):
        read_mapping(tmp_path)
