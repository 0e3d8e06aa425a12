"""A scorer that gives everything one score measures nothing: seen after ten answers, for no call.

That ten answers have one score says little by itself: a good release may be right ten times. So the scorer is asked again, with an
answer that notes whether it is read, and with answers that it cannot all find equally good: an empty one, those of other questions, and
the expected text. One that gives the best score to all of these is left alone if it reads answers: it may look for what is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bisect_ai.errors import TargetFailure
from bisect_ai.queries.query import Query
from bisect_ai.scoring.scorers import Score, Scorer
from bisect_ai.scoring.supervised import Ask
from bisect_ai.targets.answer import Answer

PATIENCE = 10
"""Answers of one score after which the scorer is looked at."""


class ConstantScore:
    """Hears of the first answers' scores by one scorer. `keep_going`: never looks."""

    def __init__(self, scorer: Scorer, score: Callable[[Sequence[Ask]], Sequence[Score]], *, keep_going: bool = False) -> None:
        self._scorer, self._score = scorer, score
        self._seen: list[tuple[Query, Answer, float]] = []
        self._is_over = keep_going

    def hear(self, query: Query, answer: Answer, value: float | None) -> None:
        """It gave this answer this score. Raises `TargetFailure` once it is plain that it gives everything one."""
        if self._is_over or value is None or not (answer.text.strip() or answer.tool_calls or answer.documents):
            return  # empty answers may well have one score: they are told as what they are
        self._seen.append((query, answer, value))
        self._is_over = value != self._seen[0][2] or len(self._seen) >= PATIENCE
        if value == self._seen[0][2] and self._is_over and (wrong := self._wrong(value)) is not None:
            raise TargetFailure(
                f"replay stopped: {wrong}; all answers are kept: mend the scorer and run the same command again, or insist with "
                "--keep-going"
            )

    def _wrong(self, value: float) -> str | None:
        told = f"the scorer {self._scorer.name} gave each of the first {len(self._seen)} answers the score {value:g}"
        if not self._reads():
            return f"{told}, and does not look at the answer"
        if self._is_best(value) or not self._is_blind(value):
            return None
        return f"{told}, and an empty answer, answers to other questions and the expected text the same"

    def _reads(self) -> bool:
        watched = [(query, WatchedAnswer.of(answer)) for query, answer, _ in self._seen[:2]]
        self._score([(self._scorer, query, answer) for query, answer in watched])
        return any(answer.is_read for _, answer in watched)

    def _is_best(self, value: float) -> bool:
        """Whether no score is better, as far as is known."""
        low, high = self._scorer.bounded or (0.0, 1.0)
        return value >= high if self._scorer.higher_is_better else value <= low

    def _is_blind(self, value: float) -> bool:
        query = self._seen[0][0]
        others = [answer for _, answer, _ in self._seen[1:4]]
        expected = [Answer(text=str(query.reference))] if query.reference is not None else []
        scores = self._score([(self._scorer, query, answer) for answer in (Answer(text=""), *expected, *others)])
        return all(score.value == value for score in scores)


class WatchedAnswer(Answer):
    """An answer that notes whether anything of it was read."""

    @classmethod
    def of(cls, answer: Answer) -> WatchedAnswer:
        """A copy of the answer, not read yet."""
        copy: WatchedAnswer = object.__new__(cls)
        object.__getattribute__(copy, "__dict__").update(vars(answer), _reads=[])
        return copy

    @property
    def is_read(self) -> bool:
        """Whether the scorer, and not only what called it, read a field."""
        return any(name not in ("error", "outcome") for name in object.__getattribute__(self, "__dict__")["_reads"])

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "is_read"):
            object.__getattribute__(self, "__dict__").get("_reads", []).append(name)
        return object.__getattribute__(self, name)
