"""Trials under way: outcomes are told in the order of asking, and more is asked for while the last ones are still out.

**No barriers.** A round is begun while earlier ones are under way, so that no worker idles while the slowest answer of one comes in.

**What is decided waits for nobody.** A search that has decided on more trials than may be under way is asked for these all the same.
Two searches may be under way together: the drill-down looks for suspects while the axes are still measured. Each hears of its own
trials only, and neither takes the other's room.

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

from bisect_ai.attribution.problem import Outcome

Begun = TypeVar("Begun")
Hear = Callable[[list[Outcome]], None]


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
# Trials under way of workers that have two each; more workers have `EACH`, so that few wait while the slowest come in.
SPARE = 32
EACH = 1.5
WIDE = 96  # see `pace_of`
# More than `WIDE` are under way only where that is less than this part of what was paid for already.
PART = 16
# Times as many are under way where it is decided already what they are: that costs no trial.
AHEAD = 2


Kind = Literal["fixed", "adaptive", "rounds"]


def pace_of(design: Kind, concurrency: int, *, budget: int, growth: float = 1.0) -> Pace:
    """As many trials under way as keep every worker busy while the slowest come in.

    A fixed design loses nothing by asking ahead. An adaptive one decides on what it has heard, and what is under way when it decides
    was paid for in vain: up to 16 workers have a second trial each to go on with, more half a trial, and a small budget makes it
    fewer, down to `NARROW`. Planted losses take 6 % more trials with 64 or 128 at once than with 8 (5 families, seeds 700 to 747). No
    more than `WIDE` are under way until a thousand trials are paid for; with 64 they take 4 % more, and at 64 workers, where half of
    the trials take twice as long, a tenth more time. Right of 60 planted losses by two axes together, 200 calls, no noise: .65 with 64
    asked for at once, .97 with 32, 1.00 with 16.

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
    most, soon = (max(round(EACH * n), min(2 * n, SPARE)) for n in (workers, concurrency))
    most, soon = min(most, fewest_looks), min(WIDE, soon)
    return Pace(min(STEP, (most + 1) // 2), lambda asked: min(most, max(soon, asked // PART)))


class TrialWindow(Generic[Begun]):
    """The trials under way; of each search no more than the pace allows.

    `finish` waits for what was begun together, in the order of the trials; None is one that was stopped before.
    """

    def __init__(self, finish: Callable[[Begun], Sequence[Outcome | None]], pace: Pace) -> None:
        self._finish, self._pace = finish, pace
        self._begun: deque[tuple[int, Begun, Hear]] = deque()
        self._asked = 0

    def __bool__(self) -> bool:
        """Whether anything is under way."""
        return bool(self._begun)

    def awaits(self, hear: Hear) -> int:
        """How many trials are under way that will be told so."""
        return sum(count for count, _, own in self._begun if own == hear)

    def has_room(self, hear: Hear, decided: int = 0) -> bool:
        """Whether as many trials as are asked for at once may begin; `decided`: trials that no outcome to come can change."""
        most = self._pace.most(self._asked)
        return self.awaits(hear) + self._pace.width <= (AHEAD * most if decided else most)

    def add(self, count: int, begun: Begun, hear: Hear) -> None:
        """So many trials were begun; they are told after all that began before."""
        self._begun.append((count, begun, hear))
        self._asked += count

    def tell_next(self) -> None:
        """Tell what came of the trials that began first, once all of them are in; without those that were stopped before."""
        _, begun, hear = self._begun.popleft()
        hear([o for o in self._finish(begun) if o is not None])
