"""What became of the calls: requests, failed attempts by kind, waits, and answers that are none, for each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bisect_ai.ledger import Observation

MOST_CELLS = 64


def provider_block(observations: Sequence[Observation]) -> dict[str, Any] | None:
    """Plain JSON of what targets and providers did; None when nothing was called or told.

    `requests` for `answers` trials; `faults`: failed attempts by kind (a status, timeout, unknown, malformed, …); `waited_s`:
    seconds held back by limits, outages and backoff, summed over trials; `outcomes` and `cells`: the fates of answers other than ok.
    """
    called = [o for o in observations if not o.logged and not o.infeasible]
    if not called:
        return None
    faults: Counter[str] = Counter()
    for o in called:
        faults.update(o.faults)
    return {
        "answers": len(called),
        "requests": sum(o.attempts for o in called),
        "faults": dict(sorted(faults.items())),
        "waited_s": round(sum(o.waited_s for o in called), 1),
        "outcomes": _fates(called),
        "cells": _cells(called),
        "failed": next((o.failed for o in called if o.failed), None),
    }


def _fates(called: Iterable[Observation]) -> dict[str, int]:
    return dict(sorted(Counter(o.outcome for o in called if o.outcome != "ok").items()))


def _cells(called: Iterable[Observation]) -> list[dict[str, Any]]:
    by_cell: dict[tuple[str, ...], list[Observation]] = {}
    for o in called:
        by_cell.setdefault(o.bad_axes, []).append(o)
    rows = [
        {"bad_axes": list(bad), "trials": len(some), "outcomes": fates}
        for bad, some in sorted(by_cell.items())
        if (fates := _fates(some))
    ]
    return rows[:MOST_CELLS]


def configuration_warnings(observations: Iterable[Observation], axes: Sequence[str]) -> list[str]:
    """That a configuration was refused: how often, and on which side of an axis when it is on one only."""
    failed = [o for o in observations if o.failed]
    if not failed:
        return []
    sides = [f"{axis} bad" for axis in axes if all(axis in o.bad_axes for o in failed)]
    sides += [f"{axis} good" for axis in axes if not any(axis in o.bad_axes for o in failed)]
    where = f", all with {' and '.join(sides)}" if sides else ""
    return [
        f"{len(failed)} trials were refused for what was asked, not for who was asked{where}: they count as wrong answers; "
        f"the first: {failed[0].failed}"
    ]
