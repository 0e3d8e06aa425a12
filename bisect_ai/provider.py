"""What became of the calls: where they went and who answered; failed attempts by kind, waits, answers that are none, by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.ledger import Observation

MOST_CELLS = 64
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PLACE = ("api_base", "base_url", "api_version", "custom_llm_provider", "region_name", "aws_region_name", "vertex_location")
"""Parameters of the model axis that say where a call goes; the model's name says it too, before its slash."""


def provider_block(observations: Sequence[Observation]) -> dict[str, Any] | None:
    """Plain JSON of what targets and providers did; None when nothing was called or told.

    `requests` for `answers` trials; `faults`: failed attempts by kind (a status, timeout, unknown, malformed, …); `waited_s`:
    seconds held back by limits, outages and backoff, summed over trials; `outcomes` and `cells`: the fates of answers other than ok;
    `endpoints`: where the requests went, where that is known, with the number of answers.
    """
    called = [o for o in observations if not o.logged and not o.infeasible]
    if not called:
        return None
    faults: Counter[str] = Counter()
    for o in called:
        if o.faults:
            faults.update(o.faults)
    return {
        "answers": len(called),
        "requests": sum(o.attempts for o in called),
        "faults": dict(sorted(faults.items())),
        "waited_s": round(sum(o.waited_s for o in called), 1),
        "outcomes": _fates(called),
        "cells": _cells(called),
        **(
            {"endpoints": dict(sorted(places.items()))} if (places := Counter(o.endpoint for o in called if o.endpoint)) else {}
        ),
        "failed": next((o.failed for o in called if o.failed), None),
    }


def _fates(called: Iterable[Observation]) -> dict[str, int]:
    return dict(sorted(Counter(o.outcome for o in called if o.outcome != "ok").items()))


def _cells(called: Sequence[Observation]) -> list[dict[str, Any]]:
    trials = Counter(o.bad_axes for o in called)
    others: dict[tuple[str, ...], list[Observation]] = {}
    for o in called:
        if o.outcome != "ok":
            others.setdefault(o.bad_axes, []).append(o)
    rows = [{"bad_axes": list(bad), "trials": trials[bad], "outcomes": _fates(some)} for bad, some in sorted(others.items())]
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


def served_warnings(observations: Iterable[Observation], good: Any, bad: Any) -> list[str]:
    """That another model, build or host answered than before, within an arm or between the arms: not the release, but who serves it.

    `good` and `bad` are the model axes; where they ask for the same, their trials are one arm.
    """
    called = [o for o in observations if not o.logged and not o.infeasible]
    named, placed = (part(good) != part(bad) for part in (_name, _place))
    lines = []
    for what, of, apart in (
        ("the provider's model", attrgetter("model_returned"), named),
        ("the provider's fingerprint", attrgetter("fingerprint"), named),
        ("the endpoint", attrgetter("endpoint"), placed),
    ):
        lines += [_changed(what, arm, names) for arm, names in _arms(called, of, apart=apart).items() if len(names) > 1]
    return lines


def unencrypted_warnings(observations: Iterable[Observation]) -> list[str]:
    """Where queries went unencrypted to another machine."""
    places = sorted({o.endpoint for o in observations if o.endpoint and o.endpoint.startswith("http://") and not o.logged})
    far = [place for place in places if urlsplit(place.split(" ")[0]).hostname not in _LOCAL]
    return [f"queries were sent to {place} unencrypted; use https" for place in far]


def _name(model: Any) -> Any:
    return model.get("model") if isinstance(model, Mapping) else model


def _place(model: Any) -> Any:
    given = model if isinstance(model, Mapping) else {}
    return str(_name(model)).partition("/")[0], [given.get(name) for name in _PLACE]


def _changed(what: str, arm: str, names: Mapping[str, int]) -> str:
    listed = ", ".join(f"{name} ({n})" for name, n in list(names.items())[:4])
    return f"{what} changed while {arm} ran: {listed}; differences between cells may come from there"


def _arms(called: Iterable[Observation], of: Callable[[Observation], str | None], *, apart: bool) -> dict[str, Counter[str]]:
    """Names counted in the order in which they came up, for the trials with the good and with the bad model, or for all."""
    arms: dict[str, Counter[str]] = {}
    for seen in called:
        if (name := of(seen)) is not None:
            arm = "the model" if not apart else "the bad model" if "model" in seen.bad_axes else "the good model"
            arms.setdefault(arm, Counter())[name] += 1
    return arms
