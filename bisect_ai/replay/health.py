"""Whether what measures still works: a target, a scorer or a judge that only fails stops the run early, and its reason is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bisect_ai.errors import TargetFailure

KEPT = "all answers are kept"
_MORE = 5
"""Times as many failures in a row that are borne from what has worked before."""


@dataclass
class Health:
    """Failures in a row of `who`: at most `patience`, and five times that from what has `worked`. `keep_going`: never too many."""

    who: str
    patience: int
    advice: str
    worked: bool = False
    keep_going: bool = False
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _in_a_row: int = 0
    _spent: int = 0
    _first: tuple[str, float] = ("", 0.0)
    _last: tuple[str, float] = ("", 0.0)

    def well(self) -> None:
        """It worked."""
        self.worked, self._in_a_row, self._spent = True, 0, 0

    def failed(self, told: str, *, calls: int = 0, is_cause: bool = True) -> None:
        """It failed, as `told` says, and `calls` were spent on that. `is_cause`: it says why, not only that nobody was asked."""
        now = self.clock()
        if not self._in_a_row:
            self._first = ("", now)
        if is_cause:
            self._first = (self._first[0] or told, self._first[1])
        if is_cause or not self._last[0]:
            self._last = (told, now)
        self._in_a_row += 1
        self._spent += calls

    @property
    def failure(self) -> TargetFailure | None:
        """Why to stop; None: go on."""
        if self.keep_going or self._in_a_row < self.patience * (_MORE if self.worked else 1):
            return None
        (first, since), (last, until) = self._first, self._last
        changed = f", first with: {first}" if first and first != last else ""
        return TargetFailure(
            f"replay stopped: {self.who} failed {self._in_a_row} times in a row, last with: {last}{changed}; from {_clock(since)} "
            f"to {_clock(until)} UTC, {self._spent} calls; {KEPT}: {self.advice} and run the same command again, or insist with "
            "--keep-going"
        )


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))
