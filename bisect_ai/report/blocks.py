"""What every format arranges, and how it writes numbers: values of a metric, shares, counts, money, time, and lists of names.

Tables, labelled texts, titled lists and big numbers are ready to print, but for where it says otherwise. A number never comes without
its interval where it has one; what could not be estimated says so, it is never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bisect_ai.report.untrusted_text import PLAIN, Quoting, show

# Characters of a question, a reference or an answer that a report shows at most.
TEXT_LIMIT = 600


@dataclass(frozen=True)
class Table:
    """Rows of cells that are ready to print; every column but the first holds numbers. Notes go below."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """One example: a title, and labelled untrusted texts in reading order (not cleaned yet)."""

    title: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PageList:
    """A titled list of sentences."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A big number: what it is, the number, and its interval or what it rests on."""

    label: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class ReportPart:
    """A titled part of the report: sentences, or what builds its table."""

    title: str
    lines: tuple[str, ...] = ()
    build: Callable[..., Table] | None = None


Interval = Sequence[float] | None
UNKNOWN = "not estimated"
# An end of an interval that is this much smaller than the other says no more than 0 does.
NOTHING = 1e-3
PROSE_LIMIT = 300  # characters of a change beside its place
UNITLESS = (None, "", "score", "share")


@dataclass(frozen=True)
class Scale:
    """How values of one metric are written: as percentages and points when they lie in [0, 1], else in its unit."""

    share: bool
    unit: str = ""
    decimals: int = 1
    # Per cent that intervals hold with.
    level: float = 95

    def value(self, x: float | None) -> str:
        """One value: "87.0 %", "1,240 characters"."""
        if not _is_known(x):
            return UNKNOWN
        return self.number(x) + (" %" if self.share else self._suffix)

    def difference(self, x: float | None) -> str:
        """One difference: "18.0 points", "120 characters"."""
        if not _is_known(x):
            return UNKNOWN
        if not self.share:
            return self.number(x) + self._suffix
        number = self.number(x)
        return f"{number} point" if number == "1" else f"{number} points"

    def number(self, x: float | None) -> str:
        """The bare number on this scale."""
        if x is None or not math.isfinite(x):
            return UNKNOWN
        return _unsigned_zero(f"{100 * x:.{self.decimals}f}") if self.share else plain_number(x)

    def between(self, interval: Interval) -> str:
        """An interval in words: "95 % interval 13.0 to 23.0"."""
        if interval is None:
            return f"{self.level:g} % interval {UNKNOWN}"
        return f"{self.level:g} % interval {self.ends(interval)}"

    def ends(self, interval: Sequence[float]) -> str:
        """Both ends of an interval: "13.0 to 23.0"."""
        low, high = self._ends(interval)
        return f"{low} to {high}"

    def bracket(self, x: float | None, interval: Interval, *, join: str = " ") -> str:
        """A number with its interval, for tables: "18.0 [13.0, 23.0]"."""
        if not _is_known(x):
            return UNKNOWN
        low_high = "[no interval]" if interval is None else f"[{', '.join(self._ends(interval))}]"
        return self.number(x) + join + low_high

    def _ends(self, interval: Sequence[float]) -> tuple[str, str]:
        """Both ends; one that is next to nothing beside the other is 0, not 8.69e-06."""
        reach = max(map(abs, interval)) * NOTHING
        low, high = (self.number(0.0 if not self.share and abs(end) < reach else end) for end in interval)
        return low, high

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


# Shares of the loss, of queries, of calls: whole per cent.
WHOLE = Scale(share=True, decimals=0)


def scale_for(unit: str | None, values: Iterable[float | None], *, quoting: Quoting = PLAIN) -> Scale:
    """The scale of a metric with this unit and these values."""
    if unit in UNITLESS:
        return Scale(share=all(0 <= value <= 1 for value in values if value is not None))
    return Scale(share=False, unit=quoting.prose(unit))


def held(estimate: float, interval: Interval) -> float:
    """An estimate inside its interval: what lies outside was estimated in another way than its ends."""
    return estimate if interval is None else min(max(estimate, interval[0]), interval[1])


def clipped(share: float | None, interval: Interval) -> tuple[float | None, Interval]:
    """A share of the loss and its interval as they are told: within 0 and 1, the share inside the interval."""
    ends = within_one(interval)
    return (None if share is None else min(max(held(share, ends), 0.0), 1.0)), ends


def negated(interval: Interval) -> tuple[float, float] | None:
    """The interval of a gain, from that of a loss."""
    return None if interval is None else (-interval[1], -interval[0])


def within_one(interval: Interval) -> Interval:
    """The interval of a share, cut to 0 to 1."""
    return None if interval is None else [min(max(end, 0.0), 1.0) for end in interval]


def listed(parts: Sequence[str], *, last: str = " and ") -> str:
    """A list in English: "a", "a and b", "a, b and c"."""
    return last.join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def plain_number(x: float) -> str:
    """A number outside [0, 1] scales, with as many decimals as its size deserves: 1,240 · 12.4 · 1.24 · 0.124."""
    size = abs(x)
    if size >= 1e9 or 0 < size < 1e-3:  # digits that nobody counts
        return f"{x:.2e}"
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3
    return _unsigned_zero(f"{x:,.{decimals}f}")


def count(n: float | None, one: str = "", many: str = "") -> str:
    """A count with its noun: "1 call", "4,000 calls"."""
    if n is None:
        return f"{many} {UNKNOWN}".strip()
    return f"{n:,.0f} {one if n == 1 else many or one + 's'}".strip() if one else f"{n:,.0f}"


def rough(n: float) -> float:
    """A count to two digits: a forecast has no more."""
    return float(f"{n:.2g}")


def in_ten(belief: float) -> str:
    """A degree of belief as people say it: "4 in 10"; never certain, never nothing."""
    return f"{min(max(round(10 * belief), 1), 9)} in 10"


def _is_known(x: float | None) -> bool:
    return x is not None and math.isfinite(x)


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.,") else text


def money(usd: float | None) -> str:
    """An amount in USD: cents, or two significant digits below one cent."""
    if usd is None:
        return "cost unknown"
    return f"{usd:,.2f} USD" if usd >= 0.01 or usd == 0 else f"{usd:.2g} USD"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units: "0.4 s", "1 min 1 s", "2 h 5 min"."""
    if seconds is None:
        return "time unknown"
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(rate: float) -> str:
    """A share: "40 %"; below one per cent with a decimal."""
    return f"{100 * rate:.1f} %" if 0 < rate < 0.01 else f"{100 * rate:.0f} %"


def joined(axes: Iterable[str], quoting: Quoting) -> str:
    """A set of axes: "prompt + tools"."""
    return " + ".join(quoting.name(axis) for axis in axes)


def short_value(text: object, quoting: Quoting) -> str:
    """A text of others as one part of a sentence, cut to what is read."""
    return quoting.prose(show(text, limit=PROSE_LIMIT))
