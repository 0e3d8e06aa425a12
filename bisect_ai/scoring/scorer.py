"""What a scorer is, and what it says of an answer: nothing it does can stop a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bisect_ai.provider.redaction import describe, line_of
from bisect_ai.queries.query import Query
from bisect_ai.scoring.judge import Judge
from bisect_ai.scoring.kinds import Value
from bisect_ai.scoring.scorer_charges import Ask, Batch
from bisect_ai.targets.answer import LARGEST_SCORE, Answer

# Outcomes whose text can be judged; any other answer is not a right one.
SCORABLE = ("ok", "truncated")
_NUMBERS = (bool, int, float)


@dataclass(frozen=True)
class Scorer:
    """A named `score(query, answer)`, or a `batch` that asks a model about many answers at a time; and what the numbers mean."""

    name: str
    # None: the batch gives the scores.
    score: Callable[[Query, Answer], Value] | None
    higher_is_better: bool = True
    bounded: tuple[float, float] | None = None
    unit: str = "score"
    # SHA-256 of kind and settings; None: nothing tells its versions apart, so its scores live only in this process.
    digest: str | None = None
    batch: Batch | None = None
    # Reads the answer's text, so an answer that was filtered or is empty gets the lowest bound, or no score without one.
    content: bool = False

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is: a score times its sign is oriented."""
        return 1.0 if self.higher_is_better else -1.0

    def oriented(self, low: float, high: float) -> tuple[float, float]:
        """The ends of a range of scores, turned so that higher is better."""
        return (low, high) if self.higher_is_better else (-high, -low)

    @property
    def compares_with(self) -> str | None:
        """The log's column that answers are compared with; None: it needs none."""
        kind = self.score if self.batch is None else self.batch
        return None if getattr(kind, "keys", None) else getattr(kind, "expected", None)

    @property
    def judge(self) -> Judge | None:
        """The settings of the judge that gives the scores; None: none does."""
        judge: Judge | None = getattr(self.batch, "judge", None)
        return judge


class Score(NamedTuple):
    """What a scorer said of one answer: `value` None means no score, because of `error` or because it does not apply."""

    value: float | None
    error: str | None = None


def score_answer(scorer: Scorer, query: Query, answer: Answer) -> Score:
    """The scorer's number for the answer; it never raises: a scorer that fails is a `Score` with an error.

    An answer that infrastructure failed to give is never scored.
    """
    if answer.error is not None:
        return Score(None)
    if scorer.score is None:
        return score_many(scorer, [Ask(query, answer)])[0]
    if scorer.content and answer.outcome not in SCORABLE:
        return Score(scorer.bounded[0] if scorer.bounded else None)
    try:
        return _checked_score(scorer, scorer.score(query, answer))
    except (Exception, SystemExit) as error:  # the user's code may raise, or even exit
        return Score(None, line_of(describe(error)))


def score_many(scorer: Scorer, asks: Sequence[Ask]) -> list[Score]:
    """The scores of many answers by a scorer that gives many at a time, in order.

    Raises `TargetFailure` or `InputError` when it cannot be asked at all.
    """
    assert scorer.batch is not None
    plain = [ask for ask in asks if ask.answer.error is None and not _is_lowest(scorer, ask)]
    given = iter(scorer.batch.many(plain) if plain else ())
    scores = []
    for ask in asks:
        if ask.answer.error is not None:
            scores.append(Score(None))
        elif _is_lowest(scorer, ask):
            scores.append(Score(scorer.bounded[0] if scorer.bounded else None))
        else:
            value, error = next(given)
            scores.append(Score(value, None if error is None else line_of(error)))
    return scores


def _is_lowest(scorer: Scorer, ask: Ask) -> bool:
    return scorer.content and ask.answer.outcome not in SCORABLE


def _checked_score(scorer: Scorer, value: Any) -> Score:
    if isinstance(value, _NUMBERS):
        return _bounded_score(scorer, float(value))
    if value is None:
        return Score(None)
    if inspect.iscoroutine(value):
        value.close()
        return Score(None, "the scorer is asynchronous; make it a plain function")
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, _NUMBERS):
        return Score(None, f"the scorer returned a {type(value).__name__}; return a number, a boolean or None")
    return _bounded_score(scorer, float(value))


def _bounded_score(scorer: Scorer, number: float) -> Score:
    if not math.isfinite(number):
        return Score(None, f"the scorer returned {number}; return a finite number or None")
    if abs(number) > LARGEST_SCORE:
        return Score(None, f"the scorer returned {number:g}; return numbers up to {LARGEST_SCORE:g}, such as a logarithm")
    if scorer.bounded and not scorer.bounded[0] <= number <= scorer.bounded[1]:
        return Score(None, f"the scorer returned {number}, outside {scorer.bounded[0]} to {scorer.bounded[1]}")
    return Score(number if abs(number) >= 1 / LARGEST_SCORE else 0.0)
