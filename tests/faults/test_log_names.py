"""Names out of logs (ids, releases, models, scores) are what the log says, as JSON, or nothing: never Python's notation of a value."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import InputError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.messages import read_messages
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import LogSettings
from tests.faults.test_log_fuzz import FILES, FORMAT_OF, GONE, packed, places, record, replaced, written

PYTHON = re.compile(r"\{'|\['|\bNone\b|\bTrue\b|\bFalse\b|\bnan\b")
MOST = 150
NAMED = ("id", "release", "cluster", "run_id", "run_name", "model")


def names(query: Query) -> Iterator[str]:
    yield from (name for name in map(query.get, NAMED) if isinstance(name, str))
    for listed in (query.get("versions"), query.scores):
        yield from (text for pair in (listed.items() if isinstance(listed, dict) else ()) for text in map(str, pair))


def read(folder: Path, kind: str, value: Any) -> list[Query]:
    path = folder / f"log{Path(FILES[kind]).suffix}"
    path.write_bytes(packed(value) if kind == "inspect" else written(kind, value))
    try:
        settings = LogSettings(format=FORMAT_OF.get(kind, kind), sample=None)  # type: ignore[arg-type]
        return list(load_queries(path, settings=settings).queries)
    except InputError:
        return []


@pytest.mark.parametrize("kind", FILES)
def test_no_name_is_pythons_notation_of_a_value(tmp_path: Path, kind: str) -> None:
    whole = record(kind)
    cases = [(at, other) for at in places(whole) for other in ({"a": True, "b": [None]}, GONE)]
    told = {
        (at, name)
        for at, other in random.Random(1).sample(cases, min(MOST, len(cases)))
        for query in read(tmp_path, kind, replaced(whole, at, other))
        for name in names(query)
        if PYTHON.search(name)
    }
    assert told == set()


@pytest.mark.parametrize("missing", [GONE, None, ""])
def test_a_sample_without_an_id_is_named_by_what_it_asks(tmp_path: Path, missing: Any) -> None:
    (query,) = read(tmp_path, "inspect", replaced(record("inspect"), ("id",), missing))
    assert query.id.startswith("content-") and query.cluster is None


def test_parts_of_a_message_that_are_no_text_are_json() -> None:
    (message,) = (
        read_messages([{"role": "user", "content": [["a", True], False, {"type": "text", "text": {"value": "b"}}]}]) or []
    )
    assert message["content"] == '["a", true]\nfalse\nb'
