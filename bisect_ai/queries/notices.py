"""What a report says of a log's content: what replay cannot send, and questions that hold an old prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import LogSettings

OLD_PROMPT = "prompt_in_question"
"""The column that marks a question into which a prompt was rendered."""


def score_notices(queries: Sequence[Query], scored: Mapping[str, str]) -> Iterator[str]:
    """A line for each score that was asked for and that no sampled record has, though its column (name to column) holds something."""
    for name, column in scored.items():
        held = [value for query in queries if (value := _reached(query, column)) not in (None, "", [], {})]
        if held and not any(name in (query.get("scores") or {}) for query in queries):
            yield (
                f"the score {name!r} is missing everywhere: {column} holds no number, true, false, pass, fail, yes or no, but for "
                f"example {' '.join(str(held[0]).split())[:40]!r}; map a column of numbers with columns: {{scores: …}}"
            )


def _reached(query: Mapping[str, Any], column: str) -> Any:
    found: Any = query
    for step in [column] if column in query else column.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def content_notices(queries: Sequence[Query], lost: Mapping[str, int], settings: LogSettings) -> Iterator[str]:
    """The lines, each with how many records it is about."""
    if told := ", ".join(f"{kind} in {n:,}" for kind, n in sorted(lost.items()) if n):
        done = "asked all the same" if settings.on_lost == "keep" else "left out (log.on_lost: keep asks them without)"
        yield f"records whose question cannot be replayed as it was: {told}; they are {done}"
    if inside := sum(bool(query.get(OLD_PROMPT)) for query in queries):
        yield (
            f"the question of {inside:,} sampled queries is a whole rendered prompt, so the old prompt would be asked inside the new "
            "one: name the variable that holds the question, such as columns: {input: vars.question}"
        )
