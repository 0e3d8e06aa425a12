"""What is read of each tool's files, as a table that this test makes: `log_matrix.md` beside it.

After a change of a reader, `python -m tests.unit.test_log_matrix` writes the table anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bisect_ai.errors import InputError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.result_files import read_results
from bisect_ai.queries.sample import LogSettings, Sample
from tests.faults.made_logs import MADE
from tests.faults.test_log_fuzz import FILES, FORMAT_OF, LOGS, small

TABLE = Path(__file__).with_name("log_matrix.md")
STORED = {
    **{name: path for name, path in FILES.items() if name not in MADE},
    "openai": "openai/stored*.json",
    "openai batch": "openai/batch-*.jsonl",
    "openllmetry": "openllmetry/spans.jsonl",
    "langfuse spans": "langfuse/otlp.jsonl",
    "langfuse csv": "langfuse/observations.csv",
    "promptfoo lines": "promptfoo/results.jsonl",
}
"""Fixtures, as patterns below their folder."""
OTHERWISE = {
    **FORMAT_OF,
    "openai batch": "openai",
    "openllmetry": "otlp",
    "langfuse spans": "otlp",
    "langfuse csv": "langfuse",
    "promptfoo lines": "promptfoo",
}
FEATURES: dict[str, Callable[[Query], Any]] = {
    "question": lambda query: query.input,
    "answer": lambda query: query.get("output"),
    "system prompt": lambda query: query.get("system"),
    "messages": lambda query: query.get("messages"),
    "tools": lambda query: query.get("tools"),
    "tool results": lambda query: query.tool_results,
    "documents": lambda query: query.get("documents"),
    "settings": lambda query: query.get("params"),
    "scores": lambda query: query.get("scores"),
    "reference": lambda query: query.get("reference"),
    "release": lambda query: query.get("release"),
    "model, versions": lambda query: query.get("versions"),
    "user or session": lambda query: query.get("cluster"),
    "time": lambda query: query.get("at"),
    "run": lambda query: query.get("run_id"),
}


def stored(name: str, folder: Path) -> Path:
    """A file of the tool: the fixture as it is, or the records that were made for the tests."""
    if name in STORED:
        return LOGS / STORED[name]
    path = folder / f"{name.replace(' ', '_')}{Path(FILES[name]).suffix}"
    path.write_bytes(small(name))
    return path


def read(name: str, path: Path) -> Sample:
    """The file's queries; its format is recognised, not told."""
    sample = load_queries(path, settings=LogSettings(sample=None))
    assert sample.format == OTHERWISE.get(name, name), (name, sample.format)
    return sample


def compared(path: Path) -> bool:
    """Whether the file gives rows with scores to `compare`."""
    try:
        return any(row.scores for each in read_results([path]).configurations for row in each.rows)
    except InputError:
        return False


def table() -> str:
    """One row for each kind of file, one column for each thing that a record may hold: x where some record of the file gives it."""
    lines = [["file of", *FEATURES, "compare"], ["---"] * (len(FEATURES) + 2)]
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({*STORED, *MADE}):
            path = stored(name, Path(folder))
            queries = read(name, path).queries
            told = ["x" if any(has(query) for query in queries) else "" for has in FEATURES.values()]
            lines.append([name, *told, "x" if compared(path) else ""])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def test_the_table_says_what_is_read() -> None:
    assert table() == TABLE.read_text(encoding="utf-8")


def test_every_tool_gives_the_question_and_the_answer() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()[2:]]
    assert len(rows) == len({*STORED, *MADE})
    assert all(row[1:3] == ["x", "x"] for row in rows)


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
