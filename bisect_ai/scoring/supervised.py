"""Scores under a deadline: a function of the user's runs in a thread that can be left behind, one answer after the other."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bisect_ai.provider.failure_text import describe
from bisect_ai.provider.watchdog import AtWork
from bisect_ai.queries.query import Query
from bisect_ai.scoring import kinds
from bisect_ai.scoring.scorers import Score, Scorer, score_answer
from bisect_ai.targets.answer import Answer

Ask = tuple[Scorer, Query, Answer]
OVERDUE = "TimeoutError: no score within"
"""How the error of an answer begins whose scorer did not come back."""
MOST_IN_A_ROW = 10
"""Answers in a row to which a scorer did not come back; then it is not asked any more: each takes all of its time."""
_POLL_SECONDS = 0.05


def is_overdue(error: str | None) -> bool:
    """Whether a scorer took too long: it may not the next time."""
    return (error or "").startswith(OVERDUE)


@dataclass
class _Work:
    """Answers to score, and how far it has come. `done` says that it is over."""

    asks: Sequence[Ask]
    scores: list[Score] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    """Nobody waits for it any more."""


class Scoring:
    """Scores answers; each score may take `seconds`. Functions of the user's run in a thread of their own, the others at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._number = 0
        self._late: dict[str, int] = {}
        """Scorer to the answers in a row to which it did not come back."""
        self._work: queue.SimpleQueue[_Work | None] | None = None

    def all(self, asks: Sequence[Ask], *, ends: float = math.inf) -> list[Score]:
        """The scores, in order. `ends`: monotonic seconds after which nothing is waited for."""
        if not any(_is_theirs(scorer) for scorer, _, _ in asks):
            late = Score(None, f"{OVERDUE} the time cap")
            return [score_answer(*ask) if time.monotonic() <= ends else late for ask in asks]
        scores: list[Score] = []
        while len(scores) < len(asks):
            work = _Work(asks[len(scores) :])
            self._hand_over(work)
            while not work.done.wait(_POLL_SECONDS) and not self._is_late(work, ends):
                pass
            work.left = not work.done.is_set()
            scores += list(work.scores)
            if not work.done.is_set():
                scores += self._leave(asks[len(scores) :], ends)
        return scores[: len(asks)]

    def _is_late(self, work: _Work, ends: float) -> bool:
        now = time.monotonic()
        return now > work.began + self._seconds or now > ends

    def _leave(self, missing: Sequence[Ask], ends: float) -> list[Score]:
        """Leave the thread behind: the answer that it is at has no score, and none of the others once the time is over."""
        name, self._work = self._name, None
        over = time.monotonic() > ends
        why = "the time cap" if over else f"{self._seconds:g} s (timeouts.scorer)"
        if missing and not over:
            stuck = missing[0][0].name
            self._late[stuck] = self._late.get(stuck, 0) + 1
        without = len(missing) if over else min(len(missing), 1)
        return [Score(None, f"{OVERDUE} {why}; its thread {name} is left behind")] * without

    def _score(self, ask: Ask) -> Score:
        """One score, in the thread; none from a scorer that never comes back."""
        if self._late.get(ask[0].name, 0) >= MOST_IN_A_ROW:
            return Score(
                None, f"{OVERDUE} {self._seconds:g} s (timeouts.scorer) {MOST_IN_A_ROW} times in a row; not asked any more"
            )
        with AtWork(f"the scorer {ask[0].name!a}", ask[1].id, self._seconds):
            return score_answer(*ask)

    def _came_back(self, ask: Ask) -> None:
        if self._late and self._late.get(ask[0].name, 0) < MOST_IN_A_ROW:
            self._late.pop(ask[0].name, None)

    def _hand_over(self, work: _Work) -> None:
        if self._work is None:
            self._number += 1
            self._work = queue.SimpleQueue()
            threading.Thread(
                target=_serve, args=(self._work, self._score, self._came_back), name=self._name, daemon=True
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


def _serve(works: queue.SimpleQueue[_Work | None], act: Callable[[Ask], Score], came_back: Callable[[Ask], None]) -> None:
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
        work.done.set()
