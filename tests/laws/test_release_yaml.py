"""A release as YAML: every text reads back as it was, and one of several lines stands as a block that people can read."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_ai.release.strict import parse_yaml
from bisect_ai.runs.release_writer import yaml_text

TEXTS = st.text(alphabet=st.sampled_from(" \t\na:#-'\"{}%|>é\xa0\u200b\u2028\r\x85😀&*!?,@"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_every_text_reads_back(one: str, other: str) -> None:
    value = {"x": one, "y": {"z": [other, {"q": one}]}, "end": other}
    written = yaml_text(value)
    assert yaml.safe_load(written) == value
    assert parse_yaml(written, "x.yaml") == value


@pytest.mark.parametrize("text", ["one\n\ttwo\n", "two  \nthree", "  a\n b\n", 'say "no": # never\nor not'])
def test_tabs_and_blanks_at_line_ends_stand_in_a_block(text: str) -> None:
    written = yaml_text({"system": text})
    assert written.startswith("system: |") and all(line in written for line in text.splitlines())
