"""Trials under way: outcomes are told in the order of asking, and more is asked for while the last ones are still out.

**No barriers.** A round is begun while earlier ones are under way, so that no worker idles while the slowest answer of one comes in.

**What is asked depends on no clock.** Whether there is room for a round is a count of trials asked for and told, and outcomes are
told in the order of asking, whichever came in first. So when a search is asked for its next trials it has heard of all but the last
few that it asked for, and which these are is that count: a resumed run, a slower provider and a replay from the store ask for the
same trials, and pay for none twice.

**Slow answers that are worse answers bias nothing.** If outcomes were told as they come in, the quick ones would be known first, and
a cell whose failures take long would look well in every sum but the last. Told in order, what is known is a prefix of what was asked
for. Which prefix is fixed by no waiting time, and what is asked next by the outcomes in it: the filtration that the sequential tests
are valid in. An answer that never comes is a failed trial at its deadline, and takes its place in the order.
What has not come in when the run's time is over is no failure: what is told ends with the round before, and is a prefix still. Counted
as failures, the answers of a release that is slow and as good made a loss whose 95 % interval held the truth in 25 to 93 % of runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from bisect_ai.attribution.problem import Outcome, Trial

Begun = TypeVar("Begun")


@dataclass(frozen=True)
class Pace:
    """Trials that are asked for at once, and the most that may be under way when it is asked, by trials asked for so far."""

    width: int
    most: Callable[[int], int]


# Parts of its budget that an adaptive search hears of one after the other, at least: else it decides too late.
LOOKS = 12
# Trials under way of a search that decides as it goes, however small its budget is.
NARROW = 16
# Trials that such a search is asked for at once, the most: with 16 it hears later of the first, and 64 workers pay 3 % more.
STEP = 8
# Trials under way that keep up to so many workers busy while the slowest come in.
SPARE = 32
WIDE = 64  # see `pace_of`
# More than `WIDE` are under way only where that is less than this part of what was paid for already.
PART = 16


Kind = Literal["fixed", "adaptive", "rounds"]


def pace_of(design: Kind, concurrency: int, *, budget: int, growth: float = 1.0) -> Pace:
    """As many trials under way as keep every worker busy while the slowest come in.

    A fixed design loses nothing by asking ahead. An adaptive one decides on what it has heard, and what is under way when it decides
    was paid for in vain: up to 16 workers have a second trial each to go on with, more than 32 none, and a small budget makes it fewer,
    down to `NARROW`. Planted losses take 3 to 4 % more trials with 64 or 128 at once than with 8 (24 seeds), and the bundled incident
    9 %. No more than `WIDE` are under way until a thousand trials are paid for; fewer make 64 workers wait too long. Right of 60
    planted losses by two axes together, 200 calls, no noise: .65 with 64 asked for at once, .97 with 32, 1.00 with 16.

    `growth`: times as many workers as there may come to be while a provider allows it. They get work as the run grows, by what was
    asked for and not by what is allowed. As wide as for all of them at once, the bundled incident takes 8 % more calls (5 seeds).
    """
    workers = int(growth * concurrency)
    if design == "fixed":
        return Pace(4 * workers, lambda _: 12 * workers)
    fewest_looks = max(NARROW, budget // LOOKS)
    if design == "rounds":
        width = min(4 * workers, fewest_looks)
        return Pace(width, lambda _: width)
    most, soon = min(max(workers, min(2 * workers, SPARE)), fewest_looks), min(WIDE, max(concurrency, SPARE))
    return Pace(min(STEP, (most + 1) // 2), lambda asked: min(most, max(soon, asked // PART)))


class TrialWindow(Generic[Begun]):
    """The trials under way on one ground, never more than the pace allows.

    `begin` starts trials, and `finish` waits for what it gave, in the order of the trials; None is one that was stopped before.
    """

    def __init__(
        self, begin: Callable[[Sequence[Trial]], Begun], finish: Callable[[Begun], Sequence[Outcome | None]], pace: Pace
    ) -> None:
        self._begin, self._finish, self._pace = begin, finish, pace
        self._begun: deque[tuple[int, Begun]] = deque()
        self._asked, self._under_way = 0, 0

    def __bool__(self) -> bool:
        """Whether anything is under way."""
        return bool(self._begun)

    @property
    def has_room(self) -> bool:
        """Whether as many trials as are asked for at once may begin."""
        return self._under_way + self._pace.width <= self._pace.most(self._asked)

    def begin(self, trials: Sequence[Trial]) -> None:
        """Start trials; they are told after all that began before."""
        self._begun.append((len(trials), self._begin(trials)))
        self._under_way += len(trials)
        self._asked += len(trials)

    def next_outcomes(self) -> list[Outcome]:
        """What came of the trials that began first, once all of them are in; without those that were stopped before they came in."""
        count, begun = self._begun.popleft()
        self._under_way -= count
        return [o for o in self._finish(begun) if o is not None]
