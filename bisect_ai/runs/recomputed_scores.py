"""Which of our scorers gives the scores that a log has: tried on the logged answers, taken where it gives the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bisect_ai.queries.pairing import ResultRow
from bisect_ai.queries.query import Query
from bisect_ai.queries.result_files import LOWER_IS_BETTER
from bisect_ai.scoring.scorers import build_scorers, score_answer
from bisect_ai.targets.answer import Answer

CANDIDATES: tuple[Mapping[str, Any], ...] = (
    {"kind": "exact"},
    {"kind": "exact", "ignore_case": True},
    {"kind": "contains"},
    {"kind": "contains", "ignore_case": True},
    {"kind": "contains", "mode": "any"},
    {"kind": "numeric"},
)
AGREES = 0.99
FEWEST = 3
MOST = 500
"""Rows that are tried."""


def recomputed(rows: Sequence[ResultRow]) -> tuple[list[dict[str, Any]], list[str]]:
    """A scorer for each logged score that one of ours gives too, and a sentence on each that none does."""
    names = sorted({name for row in rows for name in row.scores} - LOWER_IS_BETTER)
    scorers, told = [], []
    for name in names:
        known = [(row, row.scores[name]) for row in rows if name in row.scores and row.reference and not row.failed][:MOST]
        found = next((each for each in CANDIDATES if _agrees(each, known)), None)
        if found is None:
            told.append(
                f"score {name}: none of the built-in scorers gives what was logged; write your own ({{kind: python}}) or a judge"
            )
            continue
        scorers.append({**found, "name": name, "expected": "reference"})
        if len({score for _, score in known}) == 1:
            told.append(
                f"score {name}: {found['kind']} gives what was logged, but all logged scores are alike, so check that it is meant"
            )
    return scorers, told


def _agrees(settings: Mapping[str, Any], known: Sequence[tuple[ResultRow, float]]) -> bool:
    """Whether the scorer gives the logged score of nearly every row."""
    if len(known) < FEWEST:
        return False
    scorer = build_scorers([{**settings, "name": "tried"}])["tried"]
    same = 0
    for row, logged in known:
        query = Query({"id": "", "input": row.question, "reference": (row.record or {}).get("reference")})
        same += score_answer(scorer, query, Answer(text=str((row.record or {}).get("output") or ""))).value == logged
    return same >= AGREES * len(known)
