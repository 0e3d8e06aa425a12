"""promptfoo's other files: the CSV export (a block of columns for each prompt and provider), and the SQLite database of all runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.formats.field_table import Value
from bisect_ai.queries.readers import BLOCK
from bisect_ai.queries.values import embedded

SQLITE = b"SQLite format 3\0"
REASON = " > Grader Reason"
RESULTS = """
SELECT r.id, r.eval_id AS evalId, r.prompt_idx AS promptIdx, r.test_idx AS testIdx, r.test_case AS testCase, r.prompt, r.provider,
  r.response, r.error, r.failure_reason AS failureReason, r.success, r.score, r.grading_result AS gradingResult,
  r.named_scores AS namedScores, r.cost, r.latency_ms AS latencyMs, e.created_at AS createdAt, e.description, e.prompts
FROM eval_results r LEFT JOIN evals e ON e.id = r.eval_id ORDER BY r.eval_id, r.test_idx, r.prompt_idx, r.rowid
"""
JSON = ("testCase", "prompt", "provider", "response", "gradingResult", "namedScores")


def is_csv_row(value: Mapping[str, Any]) -> bool:
    """Whether a row is one of the CSV export."""
    return any(str(name).endswith(REASON) for name in value)


def csv_rows(value: Mapping[str, Any]) -> Iterator[Value]:
    """The row's outputs as rows of results, one for each prompt and provider."""
    outputs = [name.removesuffix(REASON) for name in value if name.endswith(REASON)]
    blocks = {f"{output} > {column}" for output in outputs for column in BLOCK}
    variables = {name: each for name, each in value.items() if name not in blocks and name not in outputs and each is not None}
    for index, output in enumerate(outputs):
        cells = {column: value.get(f"{output} > {column}") for column in BLOCK}
        provider, _, label = output.removeprefix("[").partition("] ")
        failed = cells["Status"] == "ERROR"
        yield {
            "promptIdx": index,
            "testIdx": None,
            "provider": {"id": provider},
            "prompt": {"label": label or output},
            "vars": variables,
            "response": {"output": value.get(output)},
            "success": None if failed else cells["Status"] == "PASS",
            "score": _number(cells["Score"]),
            "namedScores": embedded(cells["Named Scores"]),
            "failureReason": 2 if failed else 0,
            "reason": cells["Grader Reason"],
        }


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def open_database(path: Path) -> Iterator[tuple[str, Value]] | None:
    """The results of all runs of a database; None: the file is none. Raises `QueryError` for a database of something else."""
    with path.open("rb") as stream:
        if stream.read(len(SQLITE)) != SQLITE:
            return None
    return _results(path)


def _results(path: Path) -> Iterator[tuple[str, Value]]:
    try:
        for row in _rows(path):
            named = {name: embedded(each) if name in JSON else each for name, each in row.items() if name != "prompts"}
            prompts, index = embedded(row["prompts"]), row["promptIdx"]
            known = prompts[index] if isinstance(prompts, list) and isinstance(index, int) and index < len(prompts) else {}
            run = {"evalId": row["evalId"], "results.timestamp": row["createdAt"], "config.description": row["description"]}
            yield "", {**named, "run": run, "template": known.get("raw") if isinstance(known, Mapping) else None}
    except sqlite3.Error as error:
        raise QueryError(f"cannot read {path}: {str(error)[:80]}; it is no database of promptfoo, or damaged") from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a database that is opened to read only, and whose schema may do nothing."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA query_only = ON")
        for row in database.execute(RESULTS):
            yield dict(row)
    finally:
        database.close()
