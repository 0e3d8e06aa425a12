"""What a report says of answers with nothing in them."""

from __future__ import annotations

from dataclasses import replace

from bisect_ai.attribution.problem import Attribution
from bisect_ai.runs.empty_answers import EmptyCell, empty_cells, is_silent
from bisect_ai.runs.outcomes import Outcomes

MOST_NAMED = 3
SILENT = (
    "nearly every answer is empty (no text, no tool call) under both releases, so that their scores say nothing of the releases: "
    "see why the target or its provider says nothing, mend that, and run again with another `store`, for these answers are kept"
)


def without_silence(found: Attribution, outcomes: Outcomes) -> tuple[Attribution, str | None]:
    """The attribution, which claims nothing where both releases answer with nothing, and that fact; None: they answer."""
    if not is_silent(outcomes.ledger.observations, outcomes.prepared.problem.full):
        return found, None
    bare = replace(found, kind="inconclusive", causes=(), rollback=None, keep=(), candidates=(), calls_needed=None)
    return bare, SILENT


def empty_warnings(outcomes: Outcomes) -> list[str]:
    """A line on the cells whose answers are nearly all empty."""
    cells, full = empty_cells(outcomes.ledger.observations), outcomes.prepared.problem.full
    if not cells:
        return []
    told = [f"{cell.empty:,} of {cell.answers:,} of {_cell_name(cell, full)}" for cell in cells[:MOST_NAMED]]
    more = f" and {len(cells) - MOST_NAMED} more combinations" if len(cells) > MOST_NAMED else ""
    return [f"nearly every answer is empty (no text, no tool call): {', '.join(told)}{more}; see whether the target works"]


def _cell_name(cell: EmptyCell, full: int) -> str:
    if cell.cell in (0, full):
        return "the bad release" if cell.cell else "the good release"
    return f"the bad {' and '.join(cell.bad_axes)} with the rest good"
