"""The live view of a run on standard error: what each axis costs as far as it is known, the loss so far, calls, money, time left.

Only numbers that hold at every look are shown (`Belief`: always-valid intervals and evidence), so watching costs no honesty. A
terminal gets a view that is redrawn in place and leaves nothing behind; a log gets a plain line now and then; a notebook nothing but
that. Names come from release files: they are cleaned.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol

from bisect_ai.report.blocks import Scale, count, duration, held, money
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.report.vocabulary import PROVED

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between two lines of one stage in a log.
BETWEEN_LINES = 60.0
# Evidence of harm (0 to 1) from which on an axis is named while the run goes on.
SUSPECTED = 0.5
BAR = 24  # columns of the bar: the line fits 80 with the longest numbers
_NAME = 22  # columns of an axis


class Ranged(Protocol):
    """A number with its interval, once it has them."""

    @property
    def value(self) -> float | None:
        """Score points."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Holds at every look."""


class ShownBelief(Protocol):
    """What a search believes: its stage, the loss, and by axis the evidence of harm (0 to 1) and the cost where it was tried."""

    @property
    def stage(self) -> str:
        """What it does now."""

    @property
    def loss(self) -> Ranged:
        """From good to bad."""

    @property
    def harm(self) -> Mapping[str, float]:
        """Axis to evidence."""

    @property
    def costs(self) -> Mapping[str, Ranged]:
        """Axis to cost."""


class ShownProgress(Protocol):
    """Where a run stands: calls of at most `budget`, USD, seconds of at most `minutes`, and what its search believes."""

    @property
    def calls(self) -> int:
        """Made so far."""

    @property
    def budget(self) -> int:
        """The most."""

    @property
    def usd(self) -> float:
        """Spent so far."""

    @property
    def seconds(self) -> float:
        """Since the start."""

    @property
    def minutes(self) -> float | None:
        """The cap on time."""

    @property
    def belief(self) -> ShownBelief:
        """What the search believes."""

    @property
    def is_share(self) -> bool:
        """Whether scores lie between 0 and 1."""

    @property
    def unit(self) -> str:
        """What one point of another metric is; empty: nothing but a score."""


Update = Callable[[ShownProgress], None]


@contextmanager
def live(*, file: IO[str] | None = None, log: Callable[[str], None] | None = None, silent: bool = False) -> Iterator[Update]:
    """A function to call with each round's progress; everything goes to `file` (standard error), nothing to standard output.

    `log` gets the plain lines as well, or alone where it is to be `silent`.
    """
    from rich.console import Console

    console = Console(file=file or sys.stderr, markup=False, highlight=False, emoji=False, force_jupyter=False)
    written = [_Lines(log)] if log else []
    if silent:
        yield _all(written)
    elif console.is_terminal:
        with _redrawn(console) as update:
            yield _all([update, *written])
    else:
        yield _all([_Lines(partial(print, file=console.file, flush=True)), *written])


def _all(updates: Sequence[Update]) -> Update:
    def update(progress: ShownProgress) -> None:
        for each in updates:
            each(progress)

    return update


@contextmanager
def _redrawn(console: Console) -> Iterator[Update]:
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as view:

        def update(progress: ShownProgress) -> None:
            width = max(console.width, 40)
            view.update(Text("\n".join(picture(progress, width=width))), refresh=True)

        yield update


class _Lines:
    """Plain lines for a log: one at each new stage, and another when a stage takes long."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._last, self._stage = tell, time.monotonic(), ""

    def __call__(self, progress: ShownProgress) -> None:
        now, stage = time.monotonic(), progress.belief.stage
        if stage != self._stage or now - self._last > BETWEEN_LINES:
            self._last, self._stage = now, stage
            self._tell(line(progress))


def line(progress: ShownProgress) -> str:
    """The progress on one line: stage, spend, loss so far, the axes whose cost is shown; no share that reads as certainty."""
    belief = progress.belief
    parts = [belief.stage, spent(progress), loss_so_far(progress), *_shown_costs(progress)]
    return one_line("; ".join(filter(None, parts)))


def _shown_costs(progress: ShownProgress) -> list[str]:
    """The axes under most suspicion, with what is known of their cost: proved only where its interval leaves nothing out."""
    suspects = sorted(progress.belief.harm.items(), key=lambda item: (-item[1], item[0]))
    return [f"{axis} {cost}" for axis, share in suspects[:3] if share >= SUSPECTED and (cost := cost_so_far(progress, axis))]


def picture(progress: ShownProgress, *, width: int) -> list[str]:
    """The progress in a few lines of at most `width` columns: calls, loss, what each axis is known to cost."""
    belief = progress.belief
    done = min(progress.calls / max(progress.budget, 1), 1.0)
    lines = [f"{belief.stage:<10} {_bar(done)} {calls_and_money(progress)}"]
    lines.append("; ".join(filter(None, (loss_so_far(progress) or "loss not yet known", time_left(progress)))))
    for axis, share in sorted(belief.harm.items(), key=lambda item: (-item[1], item[0])):
        told = cost_so_far(progress, axis) or ("suspected" if share >= SUSPECTED else "not known yet")
        lines.append(f"  {one_line(axis, limit=_NAME):<{_NAME}} {told}")
    return [one_line(each, limit=width) for each in lines]


def spent(progress: ShownProgress) -> str:
    """Calls, money and time so far, with the most that may come."""
    return ", ".join(filter(None, (calls_and_money(progress), time_left(progress))))


def calls_and_money(progress: ShownProgress) -> str:
    """Calls of the most that may be made, and money where there is any."""
    calls = f"{progress.calls:,} of at most {count(progress.budget, 'call')}"
    return f"{calls}, {money(progress.usd)}" if progress.usd else calls


def time_left(progress: ShownProgress) -> str:
    """The time so far, and what the rest of the budget would take at this pace; empty in the first second."""
    if not progress.calls or progress.seconds <= 1:
        return ""
    rest = progress.seconds / progress.calls * max(progress.budget - progress.calls, 0)
    if progress.minutes is not None:
        rest = min(rest, max(60 * progress.minutes - progress.seconds, 0))
    return f"{duration(progress.seconds)}, at most {duration(rest)} left"


def loss_so_far(progress: ShownProgress) -> str:
    """The loss with its always-valid interval, "loss 11 points (2 to 19)"; empty before it has one.

    An interval that holds zero says that no loss is shown yet.
    """
    loss = progress.belief.loss
    told = _told(loss, progress)
    is_shown = loss.interval is not None and not loss.interval[0] <= 0 <= loss.interval[1]
    return f"{'loss' if is_shown else 'no loss shown yet:'} {told}" if told else ""


def cost_so_far(progress: ShownProgress, axis: str) -> str:
    """What an axis costs where it was tried, "costs 11 points (6 to 17), proved"; empty before its interval is known.

    An interval that holds zero says that no cost is shown yet.
    """
    cost = progress.belief.costs.get(axis)
    told = "" if cost is None else _told(cost, progress)
    if cost is None or cost.interval is None or not told:
        return ""
    low, high = cost.interval
    return f"costs {told}, {PROVED}" if low > 0 else f"gains {told}" if high < 0 else f"no cost shown yet: {told}"


def _told(ranged: Ranged, progress: ShownProgress) -> str:
    """A number of score points with its interval; shares differ by 1 at most."""
    if ranged.value is None or ranged.interval is None:
        return ""
    low, high = ranged.interval
    ends = (max(low, -1.0), min(high, 1.0)) if progress.is_share else (low, high)
    scale = Scale(share=progress.is_share, unit=progress.unit, decimals=0)
    return f"{scale.difference(held(ranged.value, ends))} ({scale.ends(ends)})"


def _bar(share: float) -> str:
    full = round(min(max(share, 0.0), 1.0) * BAR)
    return "█" * full + "░" * (BAR - full)
