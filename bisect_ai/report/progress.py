"""The live view of a run on standard error: per axis how the evidence tightens, the loss so far, calls, money, time left.

Only numbers that hold at every look are shown (`Belief`: always-valid intervals and evidence), so watching costs no honesty. A
terminal gets a view that is redrawn in place and leaves nothing behind; a log gets a plain line now and then; a notebook nothing but
that. Names come from release files: they are cleaned.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from bisect_ai.report.phrases import count, duration, money
from bisect_ai.report.untrusted_text import one_line

if TYPE_CHECKING:
    from rich.console import Console

BETWEEN_LINES = 10.0
"""Seconds between two lines in a log."""
BAR = 24
_NAME = 22


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


Update = Callable[[ShownProgress], None]


@contextmanager
def live(*, file: IO[str] | None = None) -> Iterator[Update]:
    """A function to call with each round's progress; everything goes to `file` (standard error), nothing to standard output."""
    from rich.console import Console

    console = Console(file=file or sys.stderr, markup=False, highlight=False, emoji=False, force_jupyter=False)
    if console.is_terminal:
        with _redrawn(console) as update:
            yield update
    else:
        yield _Lines(console.file)


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
    """Plain lines for a log: at each new stage, and else now and then."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._last, self._stage = file, time.monotonic(), ""

    def __call__(self, progress: ShownProgress) -> None:
        now, stage = time.monotonic(), progress.belief.stage
        if stage != self._stage or now - self._last > BETWEEN_LINES:
            self._last, self._stage = now, stage
            print(line(progress), file=self._file, flush=True)


def line(progress: ShownProgress) -> str:
    """The progress on one line: spend, time left, stage, loss so far, the axes under suspicion."""
    belief = progress.belief
    suspects = sorted(belief.harm.items(), key=lambda item: -item[1])
    parts = [spent(progress), belief.stage, loss_so_far(belief)]
    parts += [f"{axis} {share:.0%}" for axis, share in suspects[:3] if share >= 0.5]
    return one_line("  ".join(filter(None, parts)))


def picture(progress: ShownProgress, *, width: int) -> list[str]:
    """The progress in a few lines of at most `width` columns: a bar for the calls, the loss, a bar of evidence for each axis."""
    belief = progress.belief
    done = min(progress.calls / max(progress.budget, 1), 1.0)
    lines = [f"{belief.stage:<10} {_bar(done)} {calls_and_money(progress)}"]
    lines.append("; ".join(filter(None, (loss_so_far(belief) or "loss not yet known", time_left(progress)))))
    if belief.harm:
        lines.append("evidence that an axis costs quality; its cost where tried (hold at every look):")
    for axis, share in sorted(belief.harm.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"  {one_line(axis, limit=_NAME):<{_NAME}} {_bar(share)} {share:>4.0%}{cost_so_far(belief, axis)}")
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


def loss_so_far(belief: ShownBelief) -> str:
    """The loss with its always-valid interval; empty before it has one."""
    if belief.loss.value is None or belief.loss.interval is None:
        return ""
    low, high = belief.loss.interval
    return f"loss {belief.loss.value:.3f} [{low:.3f}, {high:.3f}]"


def cost_so_far(belief: ShownBelief, axis: str) -> str:
    """What an axis costs where it was tried, with its always-valid interval; empty before it has one."""
    cost = belief.costs.get(axis)
    if cost is None or cost.value is None or cost.interval is None:
        return ""
    low, high = cost.interval
    return f"  {cost.value:.2f} [{low:.2f}, {high:.2f}]"


def _bar(share: float) -> str:
    full = round(min(max(share, 0.0), 1.0) * BAR)
    return "█" * full + "░" * (BAR - full)
