"""The live view of a run on standard error: calls, money, time left, and what the search believes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bisect_ai.report.clean import one_line


@contextmanager
def live(budget: int) -> Iterator[Callable[[Any], None]]:
    """A function to call with each round's progress; the bar is drawn on standard error and leaves nothing on standard output."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total} calls {task.fields[usd]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reproduce", total=budget, usd="")
        last = time.monotonic()

        def update(progress: Any) -> None:
            nonlocal last
            usd = f"${progress.usd:.2f}" if progress.usd else ""
            bar.update(task, completed=progress.calls, description=describe(progress), usd=usd)
            if not console.is_terminal and time.monotonic() - last > 10:  # a log gets a line now and then
                last = time.monotonic()
                print(f"{progress.calls} of at most {progress.budget} calls {usd} {describe(progress)}", file=sys.stderr)

        yield update


def describe(progress: Any) -> str:
    """Stage, loss so far and the axes under suspicion, on one line."""
    belief = progress.belief
    parts = [belief.stage]
    if belief.loss.value is not None and belief.loss.interval is not None:
        low, high = belief.loss.interval
        parts.append(f"loss {belief.loss.value:.3f} [{low:.3f}, {high:.3f}]")
    suspects = sorted(belief.harm.items(), key=lambda item: -item[1])
    parts += [f"{axis} {share:.0%}" for axis, share in suspects[:3] if share >= 0.5]
    return one_line("  ".join(parts))
