"""What a scorer is, and what it says of an answer, under a deadline: nothing it does can stop a run.

A function of the user's runs in a thread that can be left behind, one answer after the other. One that gives everything one score is
seen after ten answers and for no call. That ten answers have one score says little by itself: a good release may be right ten times.
So the scorer is asked again, with an answer that notes whether it is read, and with answers that it cannot all find equally good: an
empty one, those of other questions, and the expected text. One that gives the best score to all of these is left alone if it reads
answers: it may look for what is rare.
"""

from __future__ import annotations

import inspect
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bisect_ai.errors import TargetFailure
from bisect_ai.provider.redaction import describe, line_of
from bisect_ai.provider.watchdog import AtWork
from bisect_ai.queries.query import Query
from bisect_ai.scoring import kinds
from bisect_ai.scoring.judge import Judge
from bisect_ai.scoring.kinds import Value
from bisect_ai.scoring.metric import Metric
from bisect_ai.scoring.scorer_charges import Ask, Batch
from bisect_ai.targets.answer import LARGEST_SCORE, Answer

# Outcomes whose text can be judged; any other answer is not a right one.
SCORABLE = ("ok", "truncated")
_NUMBERS = (bool, int, float)


@dataclass(frozen=True)
class Scorer(Metric):
    """A named `score(query, answer)`, or a `batch` that asks a model about many answers at a time; and what the numbers mean."""

    name: str
    # None: the batch gives the scores.
    score: Callable[[Query, Answer], Value] | None
    # SHA-256 of kind and settings; None: nothing tells its versions apart, so its scores live only in this process.
    digest: str | None = None
    batch: Batch | None = None
    # Reads the answer's text, so an answer that was filtered or is empty gets the lowest bound, or no score without one.
    content: bool = False

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


ToScore = tuple[Scorer, Query, Answer]
# How the error of an answer begins whose scorer did not come back.
OVERDUE = "TimeoutError: no score within"
# Answers in a row to which a scorer did not come back; then it is not asked any more: each takes all of its time.
MOST_IN_A_ROW = 10
_POLL_SECONDS = 0.05  # a scorer that is late is noticed within it


def is_overdue(error: str | None) -> bool:
    """Whether a scorer took too long: it may not the next time."""
    return (error or "").startswith(OVERDUE)


@dataclass
class _Work:
    """Answers to score, and how far it has come."""

    asks: Sequence[ToScore]
    scores: list[Score] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    # Free once it is over.
    lock: threading.Lock = field(default_factory=threading.Lock)
    # Nobody waits for it any more.
    left: bool = False

    def __post_init__(self) -> None:
        self.lock.acquire()

    def is_done(self, seconds: float) -> bool:
        """Whether it is over, waiting so long."""
        if done := self.lock.acquire(timeout=seconds):
            self.lock.release()
        return done


class Scoring:
    """Scores answers; each score may take `seconds`. Functions of the user's run in a thread of their own, the others at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._number = 0
        # Scorer to the answers in a row to which it did not come back.
        self._late: dict[str, int] = {}
        self._work: queue.SimpleQueue[_Work | None] | None = None

    def all(self, asks: Sequence[ToScore], *, ends: float = math.inf) -> list[Score]:
        """The scores, in order. `ends`: monotonic seconds after which nothing is waited for."""
        if not any(_is_theirs(scorer) for scorer, _, _ in asks):
            late = Score(None, f"{OVERDUE} the time cap")
            return [score_answer(*ask) if time.monotonic() <= ends else late for ask in asks]
        scores: list[Score] = []
        while len(scores) < len(asks):
            work = _Work(asks[len(scores) :])
            self._hand_over(work)
            while not work.is_done(_POLL_SECONDS) and not self._is_late(work, ends):
                pass
            work.left = not (done := work.is_done(0))
            scores += list(work.scores)
            if not done:
                scores += self._leave_behind(asks[len(scores) :], ends)
        return scores[: len(asks)]

    def _is_late(self, work: _Work, ends: float) -> bool:
        now = time.monotonic()
        return now > work.began + self._seconds or now > ends

    def _leave_behind(self, missing: Sequence[ToScore], ends: float) -> list[Score]:
        """Leave the thread behind: the answer that it is at has no score, and none of the others once the time is over."""
        name, self._work = self._name, None
        over = time.monotonic() > ends
        why = "the time cap" if over else f"{self._seconds:g} s (timeouts.scorer)"
        if missing and not over:
            stuck = missing[0][0].name
            self._late[stuck] = self._late.get(stuck, 0) + 1
        without = len(missing) if over else min(len(missing), 1)
        return [Score(None, f"{OVERDUE} {why}; its thread {name} is left behind")] * without

    def _score(self, ask: ToScore) -> Score:
        """One score, in the thread; none from a scorer that never comes back."""
        if self._late.get(ask[0].name, 0) >= MOST_IN_A_ROW:
            return Score(
                None, f"{OVERDUE} {self._seconds:g} s (timeouts.scorer) {MOST_IN_A_ROW} times in a row; not asked any more"
            )
        with AtWork(f"the scorer {ask[0].name!a}", ask[1].id, self._seconds):
            return score_answer(*ask)

    def _came_back(self, ask: ToScore) -> None:
        if self._late and self._late.get(ask[0].name, 0) < MOST_IN_A_ROW:
            self._late.pop(ask[0].name, None)

    def _hand_over(self, work: _Work) -> None:
        if self._work is None:
            self._number += 1
            self._work = queue.SimpleQueue()
            threading.Thread(
                target=_serve_works, args=(self._work, self._score, self._came_back), name=self._name, daemon=True
            ).start()
        self._work.put(work)

    @property
    def _name(self) -> str:
        return f"bisect-ai-scorer-{self._number}"

    def __del__(self) -> None:
        if self._work is not None:
            self._work.put(None)


def _is_theirs(scorer: Scorer) -> bool:
    return isinstance(scorer.score, kinds.Python) or not type(scorer.score).__module__.startswith("bisect_ai.")


def _serve_works(
    works: queue.SimpleQueue[_Work | None], act: Callable[[ToScore], Score], came_back: Callable[[ToScore], None]
) -> None:
    while (work := works.get()) is not None:
        for ask in work.asks:
            work.began = time.monotonic()
            try:
                score = act(ask)
            except BaseException as error:  # it may raise what ends a program
                score = Score(None, describe(error))
            work.scores.append(score)
            if work.left:
                return
            came_back(ask)
        work.lock.release()


# Answers of one score after which the scorer is looked at.
PATIENCE = 10


class ConstantScore:
    """Hears of the first answers' scores by one scorer. `keep_going`: never looks."""

    def __init__(
        self, scorer: Scorer, score: Callable[[Sequence[ToScore]], Sequence[Score]], *, keep_going: bool = False
    ) -> None:
        self._scorer, self._score = scorer, score
        self._seen: list[tuple[Query, Answer, float]] = []
        self._is_over = keep_going

    def hear(self, query: Query, answer: Answer, value: float | None) -> None:
        """It gave this answer this score. Raises `TargetFailure` once it is plain that it gives everything one."""
        if self._is_over or value is None or not (answer.text.strip() or answer.tool_calls or answer.documents):
            return  # empty answers may well have one score: they are told as what they are
        self._seen.append((query, answer, value))
        self._is_over = value != self._seen[0][2] or len(self._seen) >= PATIENCE
        if value == self._seen[0][2] and self._is_over and (wrong := self._wrong_value(value)) is not None:
            raise TargetFailure(
                f"replay stopped: {wrong}; all answers are kept: mend the scorer and run the same command again, or insist with "
                "--keep-going"
            )

    def _wrong_value(self, value: float) -> str | None:
        told = f"the scorer {self._scorer.name} gave each of the first {len(self._seen)} answers the score {value:g}"
        if not self._reads_answer():
            return f"{told}, and does not look at the answer"
        if self._is_best(value) or not self._is_blind(value):
            return None
        return f"{told}, and an empty answer, answers to other questions and the expected text the same"

    def _reads_answer(self) -> bool:
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
