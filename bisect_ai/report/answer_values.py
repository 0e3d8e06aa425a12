"""Every replayed query with its answers by combination: for the table on the page and the frame of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bisect_ai.report.report_values import ShownAnswer

# `failed`: the call under one of the two failed, where the other has a score.
BROKE, FAILED, MENDED, SAME = "broke", "failed", "mended", "same"
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class AnsweredQuery:
    """A query and its first answer in each combination that it was asked in, by the axes that were bad there.

    `input` and `reference` are None where the run's log is not at hand.
    """

    query: str
    segment: object = None
    input: str | None = None
    reference: object = None
    answers: Mapping[tuple[str, ...], ShownAnswer] = field(default_factory=dict)


def outcome(good: ShownAnswer | None, bad: ShownAnswer | None, *, higher_is_better: bool | None) -> str:
    """Whether a query broke or was mended from good to bad, by the scores of its two answers."""
    if good is None or bad is None:
        return NOT_COMPARED
    if good.score is None or bad.score is None:
        is_one = (good.failed and bad.score is not None) or (bad.failed and good.score is not None)
        return FAILED if is_one else NOT_COMPARED
    if good.score == bad.score:
        return SAME
    return BROKE if (bad.score < good.score) == (higher_is_better is not False) else MENDED
