"""What the report says of the log: the funnel, what replay lacks, what answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.record_accounting import log_block
from bisect_ai.queries.sample import LogSettings
from bisect_ai.report.accounting import log_sentences
from bisect_ai.report.json_edge import read
from bisect_ai.report.planning_values import LogBlock

ROLLOUT: list[dict[str, Any]] = [
    {
        "id": f"q{i}",
        "input": f"ask {i}",
        "release": "new" if i >= 4 else "old",
        "model": "b" if i >= 4 else "a",
        "prompt": {"version": 2 if i >= 6 else 1},
    }
    for i in range(10)
]


@pytest.mark.parametrize("suffix", ["rows", "parquet"])
def test_a_rollout_shows_as_mixtures_of_one_release(tmp_path: Path, suffix: str) -> None:
    pd.DataFrame(ROLLOUT).to_parquet(tmp_path / "log.parquet")
    source: Any = ROLLOUT if suffix == "rows" else tmp_path / "log.parquet"
    sample = load_queries(source, settings=LogSettings(versions=["model", "prompt.version"]))
    assert [(m.release, dict(m.versions), m.n) for m in sample.mixtures] == [
        ("new", {"model": "b", "prompt.version": "2"}, 4),
        ("old", {"model": "a", "prompt.version": "1"}, 4),
        ("new", {"model": "b", "prompt.version": "1"}, 2),
    ]


def test_every_record_is_accounted_for_and_what_replay_lacks_is_named() -> None:
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "x"}], "documents": [], "tool_results": [], "params": {"t": 0}},
        {"id": "b", "input": "y", "tool_results": [{"name": "find", "arguments": {}}], "documents": ["d"], "history": []},
        {"id": "c"},
    ]
    block = log_block(load_queries(rows))
    assert block["read"] == block["kept"] + sum(block["dropped"].values()) == 3
    assert block["missing"] == {"tool results": 1, "sampling settings": 1}
    assert block["releases"] == [{"release": None, "versions": {}, "n": 2}]


def test_the_paragraph_says_what_was_left_out_and_why() -> None:
    block = {
        "format": "otlp",
        "read": 1_200,
        "kept": 1_000,
        "dropped": {"redacted": 50, "no input": 150},
        "sampled": 400,
        "missing": {},
        "releases": [{"release": None, "versions": {}, "n": 1}, *({"release": str(i), "n": 1} for i in range(6))],
    }
    funnel, releases = log_sentences(read(LogBlock, block))
    assert funnel == "1,200 records read (otlp), 1,000 kept, 200 left out (150 no input, 50 redacted)"
    assert releases.startswith("answered by no release named: 1; release 0: 1;")
    assert releases.endswith("3 more mixtures in the JSON report")
    assert log_sentences(None) == []
