"""What became of the calls: where they went and who answered; failed attempts by kind, waits, answers that are none, by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from bisect_ai.report.run_blocks import ProviderBlock, ProviderCell
from bisect_ai.runs.observations import Fate, Observations, Tally

MOST_CELLS = 64
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PLACE = ("api_base", "base_url", "api_version", "custom_llm_provider", "region_name", "aws_region_name", "vertex_location")
"""Parameters of the model axis that say where a call goes; the model's name says it too, before its slash."""


def provider_block(seen: Observations) -> ProviderBlock | None:
    """What targets and providers did; None when nothing was called or told.

    `requests` for `answers` trials; `faults`: failed attempts by kind (a status, timeout, unknown, malformed, …); `waited_s`:
    seconds held back by limits, outages and backoff, summed over trials; `outcomes` and `cells`: the fates of answers other than ok;
    `endpoints`: where the requests went, where that is known, with the number of answers.
    """
    called, tally = set(seen.called), seen.tally()
    if not called:
        return None
    faults: Counter[str] = Counter()
    for row in called & seen.faults.keys():
        faults.update(seen.faults[row])
    places = _counted((fate.endpoint, n) for (_, fate), n in tally.items() if fate.endpoint)
    return ProviderBlock(
        answers=len(called),
        requests=sum(seen.attempts[row] for row in called),
        faults=dict(sorted(faults.items())),
        waited_s=round(sum((wait for row, wait in seen.waits.items() if row in called), 0.0), 1),
        outcomes=_fates(tally),
        cells=_cells(tally),
        endpoints=places or None,
        failed=next((told for row, told in sorted(seen.failed.items()) if row in called), None),
    )


def _counted(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The sum for each name, by name."""
    sums: Counter[str] = Counter()
    for name, n in pairs:
        sums[name] += n
    return dict(sorted(sums.items()))


def _fates(tally: Tally) -> dict[str, int]:
    return _counted((fate.outcome, n) for (_, fate), n in tally.items() if fate.outcome != "ok")


def _cells(tally: Tally) -> tuple[ProviderCell, ...]:
    trials: Counter[tuple[str, ...]] = Counter()
    others: dict[tuple[str, ...], Tally] = {}
    for (bad, fate), n in tally.items():
        trials[bad] += n
        if fate.outcome != "ok":
            others.setdefault(bad, Counter())[bad, fate] += n
    shown = sorted(others.items())[:MOST_CELLS]
    return tuple(ProviderCell(bad_axes=bad, trials=trials[bad], outcomes=_fates(some)) for bad, some in shown)


def configuration_warnings(seen: Observations, axes: Sequence[str]) -> list[str]:
    """That a configuration was refused: how often, and on which side of an axis when it is on one only."""
    failed = [seen[row] for row in sorted(seen.failed)]
    if not failed:
        return []
    sides = [f"{axis} bad" for axis in axes if all(axis in o.bad_axes for o in failed)]
    sides += [f"{axis} good" for axis in axes if not any(axis in o.bad_axes for o in failed)]
    where = f", all with {' and '.join(sides)}" if sides else ""
    return [
        f"{len(failed)} trials were refused for what was asked, not for who was asked{where}: they count as wrong answers; "
        f"the first: {failed[0].failed}"
    ]


def served_warnings(tally: Tally, good: Any, bad: Any) -> list[str]:
    """That another model, build or host answered than before, within an arm or between the arms: not the release, but who serves it.

    `good` and `bad` are the model axes; where they ask for the same, their trials are one arm.
    """
    named, placed = (part(good) != part(bad) for part in (_name, _place))
    lines = []
    for what, of, apart in (
        ("the provider's model", attrgetter("model_returned"), named),
        ("the provider's fingerprint", attrgetter("fingerprint"), named),
        ("the endpoint", attrgetter("endpoint"), placed),
    ):
        lines += [_changed(what, arm, names) for arm, names in _arms(tally, of, apart=apart).items() if len(names) > 1]
    return lines


def unencrypted_warnings(tally: Tally) -> list[str]:
    """Where queries went unencrypted to another machine."""
    places = sorted({fate.endpoint for _, fate in tally if fate.endpoint and fate.endpoint.startswith("http://")})
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


def _arms(tally: Tally, of: Callable[[Fate], str | None], *, apart: bool) -> dict[str, Counter[str]]:
    """Names counted in the order in which they came up, for the trials with the good and with the bad model, or for all."""
    arms: dict[str, Counter[str]] = {}
    for (axes, fate), n in tally.items():
        if (name := of(fate)) is not None:
            arm = "the model" if not apart else "the bad model" if "model" in axes else "the good model"
            arms.setdefault(arm, Counter())[name] += n
    return arms
