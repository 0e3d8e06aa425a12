"""Figures by matplotlib: the data is arranged first, apart from drawing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """One bar: an estimate with the lengths of its interval's arms, in score points."""

    label: str
    value: float
    below: float
    above: float


def effect_bars(report: Mapping[str, Any], *, kind: str) -> list[Bar]:
    """The defined effects of `kind`, largest cost first."""
    rows = [e for e in report["effects"] if e["kind"] == kind and e["estimate"] is not None and e["interval"] is not None]
    bars = [
        Bar(" × ".join(e["axes"]), e["estimate"], e["estimate"] - e["interval"][0], e["interval"][1] - e["estimate"])
        for e in rows
    ]
    return sorted(bars, key=lambda b: -b.value)


def effects(report: Mapping[str, Any], *, kind: str) -> Any:
    """A matplotlib axes with the effects of `kind` as horizontal bars with 95 % intervals."""
    import matplotlib.pyplot as plt

    bars = effect_bars(report, kind=kind)
    _, axes = plt.subplots(figsize=(7, 0.5 * max(len(bars), 2) + 1.2), layout="constrained")
    places = range(len(bars))
    arms = [[b.below for b in bars], [b.above for b in bars]]
    colours = ["#b3261e" if b.value - b.below > 0 else "#8a8f98" for b in bars]
    axes.barh(places, [b.value for b in bars], xerr=arms, color=colours, capsize=3)
    axes.set_yticks(places, [b.label.replace("$", r"\$") for b in bars])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"cost in points of {report['metric']} ({kind})".replace("$", r"\$"))
    return axes
