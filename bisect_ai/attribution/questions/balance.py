"""Were both releases asked the same? The balance of every column between them, and the covariates that make up for what differs.

A column is coarsened to a few levels (numbers to parts of one size), and its levels are compared between the releases by a
chi-squared test over first answers of clusters. All columns and all looks share one error budget of `BALANCE_ALPHA`: look k spends
the part 1 / (k (k + 1)) of it. Unbalanced columns are adjusted for: crossed where their combinations are few, else side by side. So
are columns that differ a little or foretell the score, which makes the answers needed fewer (CUPED: Deng, Xu, Kohavi and Walker
2013). A column of many values, like users, is tested by whether the canary's share scatters more between them than chance would
have it; where it does, the releases are compared within each value. Where a column cannot be adjusted for, because the releases
hardly share its values or answers are too few, it is `withheld`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints

# Chance that any balanced column is called unbalanced, over all looks.
BALANCE_ALPHA = 0.01
# p-value below which a column is adjusted for, be it for its balance or for what it foretells; nothing is claimed by that.
LEANING = 0.05
# Levels of a column; rarer values are one level together.
MOST_LEVELS = 24  # an hour of the day is a level
# Combinations of levels up to which unbalanced columns are crossed; with more each is adjusted for by itself.
MOST_CROSSED = 40
# Answers that each covariate must have.
PER_COVARIATE = 20
# Parts of the baseline's and the canary's answers that must lie in levels that both answered, for an adjustment to speak of
# them.
SHARED = (0.4, 0.9)
# Answers of either release in a level that both answered.
BESIDE = 3
FEWEST_PARTS = 5
# Answers in each part of a column of numbers that is tested; the parts are 5 at least, which sees an imbalance in few
# answers, and `MOST_LEVELS` at most.
PER_PART = 150
# The same where it is adjusted for because it is unbalanced: inside a part the imbalance stays.
PER_FINE_PART = 40
# Part of a long column's values that belong to one release alone, above which it is what the traffic was split by.
NESTED = 0.9

# Values of a long column with two answers or more, below which nothing is said of their scatter.
FEWEST_VALUES = 10

ASSIGNED = "each of its values belongs to one release: it is what the traffic was split by"
TOO_FEW = "there are too few answers yet to adjust for it"

Fate = Literal["balanced", "adjusted", "withheld", "assigned"]


@dataclass(frozen=True)
class LoggedColumn:
    """A column of the log: (n,) numbers (NaN: none), or codes of values (-1: none) with their names."""

    name: str
    numbers: Floats | None = None
    codes: Ints | None = None
    names: tuple[str, ...] = ()
    # Whether it is adjusted for whatever its balance, like a segment that was named.
    always: bool = False
    # Whether it is what the answers are clustered by.
    is_unit: bool = False

    def upto(self, n: int) -> LoggedColumn:
        """The first n answers' part."""
        numbers = None if self.numbers is None else self.numbers[:n]
        codes = None if self.codes is None else self.codes[:n]
        return LoggedColumn(self.name, numbers, codes, self.names, self.always, self.is_unit)

    @property
    def is_long(self) -> bool:
        """Whether it has too many values for each of them to be one of a few levels."""
        return self.codes is not None and (self.is_unit or len(self.names) > MOST_LEVELS)

    @cached_property
    def levels(self) -> tuple[Ints, tuple[str, ...]]:
        """(n,) few levels and what they are called."""
        return self._parts(PER_PART) if self.codes is None else self._commonest(self.codes)

    @cached_property
    def broad_levels(self) -> tuple[Ints, tuple[str, ...]]:
        """The same in fewer levels, each a class of queries that can be told: numbers in `FEWEST_PARTS`."""
        return self._parts(math.inf) if self.codes is None else self.levels

    def _commonest(self, codes: Ints) -> tuple[Ints, tuple[str, ...]]:
        counts = np.bincount(codes + 1, minlength=len(self.names) + 1)
        order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
        kept = order[: MOST_LEVELS if len(order) <= MOST_LEVELS else MOST_LEVELS - 1]
        table = np.full(len(counts), len(kept))
        table[kept] = np.arange(len(kept))
        named = [self.names[c - 1] if c else "" for c in kept]
        return table[codes + 1], (*named, *(["others"] if len(order) > len(kept) else []))

    def _parts(self, size: float) -> tuple[Ints, tuple[str, ...]]:
        assert self.numbers is not None
        known = self.numbers[~np.isnan(self.numbers)]
        if not len(known):
            return np.zeros(len(self.numbers), int), ("",)
        values = np.unique(known)
        parts = int(np.clip(len(known) / size, FEWEST_PARTS, MOST_LEVELS - 1))
        edges = values[1:] if len(values) <= parts else np.unique(np.quantile(known, np.arange(1, parts) / parts))
        found = np.searchsorted(edges, self.numbers, side="right")
        found[np.isnan(self.numbers)] = len(edges) + 1
        return found, (*_named_parts(values, edges), "")

    def slopes(self, *, fine: bool) -> Floats:
        """(n, k) covariates: an indicator for each level but one, and a number itself, in standard deviations."""
        if self.numbers is None:
            return indicators(self.levels[0])
        found = indicators(self._parts(PER_FINE_PART if fine else math.inf)[0])
        filled = np.where(np.isnan(self.numbers), np.nanmean(self.numbers) if len(self.numbers) else 0, self.numbers)
        low, high = np.quantile(filled, [0.01, 0.99])
        clipped = np.clip(filled, low, high)
        spread = float(clipped.std())
        return found if spread == 0 else np.column_stack([found, (clipped - clipped.mean()) / spread])


@dataclass(frozen=True)
class ColumnBalance:
    """What became of a column: its p-value, already paid for over columns and looks; the level that differs most, with its shares."""

    name: str
    fate: Fate
    p: float
    level: str = ""
    baseline: float = 0.0
    canary: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Adjustment:
    """(n, k) covariates that must be adjusted for, and those that only sharpen; what was found of each column, the worst first."""

    needed: Floats
    sharpening: Floats
    columns: tuple[ColumnBalance, ...]
    crossed: bool
    sharpened_by: tuple[str, ...] = ()
    # (n,) the values of long columns that the releases are compared within.
    absorbed: tuple[Ints, ...] = ()
    # Long columns that differ a little and cannot be compared within yet: nothing adjusts for them.
    leaning: tuple[str, ...] = ()

    @property
    def covariates(self) -> Floats:
        """All covariates."""
        return np.column_stack([self.needed, self.sharpening])

    def of_fate(self, fate: Fate) -> tuple[ColumnBalance, ...]:
        """The columns that it became of."""
        return tuple(each for each in self.columns if each.fate == fate)


def _named_parts(values: Floats, edges: Floats) -> Iterator[str]:
    """What numbers between edges are called: by themselves where each value is a part."""
    if len(values) == len(edges) + 1:
        yield from (f"{value:.4g}" for value in values)
        return
    yield f"below {edges[0]:.4g}" if len(edges) else ""
    yield from (f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges))
    yield from (f"{edge:.4g} or more" for edge in edges[-1:])


def indicators(levels: Ints) -> Floats:
    """(n, k) a column for each level that occurs, but for the commonest."""
    counts = np.bincount(levels)
    kept = np.flatnonzero(counts)
    kept = kept[kept != counts.argmax()]
    return np.asarray((levels[:, None] == kept[None, :]).astype(float))


@dataclass(frozen=True)
class Sides:
    """The answers so far: (n,) whose, (n,) scores with NaN for none, (n,) 1 for the first answer of its cluster."""

    is_canary: Ints
    score: Floats
    first: Ints

    def __len__(self) -> int:
        return len(self.score)


def adjustment(columns: Sequence[LoggedColumn], sides: Sides, *, look: int) -> Adjustment:
    """The covariates at the `look`-th look, and what was found of each column."""
    usable = [column for column in columns if np.ptp(column.levels[0]) > 0]
    pay = max(len(columns), 1) * look * (look + 1)
    raw = [_unlike(column, sides) for column in usable]
    told = [_balance(column, sides, min(p * pay, 1.0)) for column, p in zip(usable, raw, strict=True)]
    most = len(sides) // PER_COVARIATE
    within = [c for c, p, b in zip(usable, raw, told, strict=True) if c.is_long and p < LEANING and _is_within(c, b, sides)]
    flagged = [c for c, b in zip(usable, told, strict=True) if (b.p < BALANCE_ALPHA or c.always) and b.fate == "balanced"]
    needed, crossed, fates = _needed([c for c in flagged if c not in within], most, len(sides))
    fates |= {c.name: "" for c in flagged if c in within}
    found = [_settled(b, fates.get(b.name)) for b in told]
    calm = [(c, p) for c, p, b in zip(usable, raw, found, strict=True) if b.fate == "balanced" and c not in within]
    sharpening, names = _sharpening([each for each in calm if not each[0].is_unit], sides, most - needed.shape[1])
    ordered = tuple(sorted(found, key=lambda b: (b.p, b.name)))
    names = (*(c.name for c in within if c not in flagged), *names)
    long = sum(c.is_long for c in usable)
    leaning = tuple(c.name for c, p in calm if c.is_long and p < LEANING / long)
    absorbed = tuple(c.codes for c in within if c.codes is not None)
    return Adjustment(needed, sharpening, ordered, crossed, names, absorbed, leaning)


def _settled(found: ColumnBalance, why: str | None) -> ColumnBalance:
    """A flagged column is adjusted for, or withheld for want of answers."""
    if why is None:
        return found
    fate: Fate = "withheld" if why else "adjusted"
    return ColumnBalance(found.name, fate, found.p, found.level, found.baseline, found.canary, why)


def _unlike(column: LoggedColumn, sides: Sides) -> float:
    """p-value of a difference between the releases, by first answers of clusters."""
    first = sides.first == 1
    if column.is_long and column.codes is not None:
        known = (column.codes >= 0) & (first | column.is_unit)
        return _scattered(_table(column.codes[known], sides.is_canary[known]))
    return _chi_squared(_table(column.levels[0][first], sides.is_canary[first]))


def _balance(column: LoggedColumn, sides: Sides, p: float) -> ColumnBalance:
    levels, names = column.levels
    counts = _table(levels, sides.is_canary)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    worst = int(np.abs(shares[1] - shares[0]).argmax())
    fate, why = _fate(column, sides, counts, p)
    level = names[worst] if worst < len(names) else ""
    return ColumnBalance(column.name, fate, p, level, float(shares[0, worst]), float(shares[1, worst]), why)


def _fate(column: LoggedColumn, sides: Sides, counts: Floats, p: float) -> tuple[Fate, str]:
    if p >= BALANCE_ALPHA:
        return "balanced", ""
    if _is_assigned(column, sides):
        return "assigned", "" if column.is_unit else ASSIGNED
    for side, least, name in zip(_shared(column, sides, counts), SHARED, ("baseline", "canary"), strict=True):
        if side < least:
            return "withheld", f"only {side:.0%} of the {name}'s answers have a value that both releases answered"
    return "balanced", ""


def _shared(column: LoggedColumn, sides: Sides, counts: Floats) -> Floats:
    """(2,) the parts of the baseline's and of the canary's answers whose value both releases answered."""
    least = 1 if column.is_long else BESIDE
    table = _table(column.codes + 1, sides.is_canary) if column.is_long and column.codes is not None else counts
    return np.asarray(table[:, table.min(0) >= least].sum(1) / np.maximum(table.sum(1), 1))


def _is_within(column: LoggedColumn, found: ColumnBalance, sides: Sides) -> bool:
    """Whether the releases can be compared within each value of a long column."""
    shared = _shared(column, sides, np.zeros((2, 0)))
    return found.fate == "balanced" and not _is_assigned(column, sides) and bool((shared >= SHARED).all())


def _is_assigned(column: LoggedColumn, sides: Sides) -> bool:
    """Whether a column of many values names what was assigned to a release as a whole, like a user."""
    if column.codes is None or not column.is_long:
        return False
    table = _table(column.codes + 1, sides.is_canary)[:, 1:]
    often = table[:, table.sum(0) >= 2]
    enough = FEWEST_VALUES if column.is_unit else MOST_LEVELS
    return bool(often.shape[1] > enough and (often.min(0) == 0).mean() > NESTED)


def _table(levels: Ints, is_canary: Ints) -> Floats:
    """(2, L) counts of baseline and canary."""
    size = int(levels.max(initial=0)) + 1
    return np.bincount(levels + size * is_canary, minlength=2 * size).reshape(2, size).astype(float)


def _chi_squared(table: Floats) -> float:
    """p-value of a difference between two rows of counts; levels that are expected fewer than five times count together."""
    from scipy.special import chdtrc

    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / max(table.sum(), 1)
    rare = expected.min(0, initial=np.inf) < 5
    if rare.any():
        table, expected = (np.column_stack([t[:, ~rare], t[:, rare].sum(1)]) for t in (table, expected))
    if table.shape[1] < 2 or expected.min() < 1:
        return 1.0
    return float(chdtrc(table.shape[1] - 1, float(((table - expected) ** 2 / expected).sum())))


def _scattered(table: Floats) -> float:
    """p-value of the canary's share differing between many values, each of few answers, by more than chance: Pearson's statistic
    over the values with two answers or more, whose mean and variance are known however few they are (Haldane 1940)."""
    sizes = table.sum(0)
    table, sizes = table[:, sizes >= 2], sizes[sizes >= 2]
    total = float(sizes.sum())
    share = float(table[1].sum()) / total if total else 0.0
    scatter = share * (1 - share)
    if len(sizes) < FEWEST_VALUES or scatter * total < FEWEST_VALUES:
        return 1.0
    statistic = float(((table[1] - sizes * share) ** 2 / (sizes * scatter)).sum())
    spread = math.sqrt(float((2 + (1 - 6 * scatter) / (sizes * scatter)).sum()))
    return 0.5 * math.erfc((statistic - (len(sizes) - 1)) / spread / math.sqrt(2))


def _needed(columns: Sequence[LoggedColumn], most: int, rows: int) -> tuple[Floats, bool, dict[str, str]]:
    """The covariates of unbalanced columns, whether they are crossed, and why each column had to be left out ('': it was not)."""
    size = math.prod(len(set(c.levels[0].tolist())) for c in columns)
    if columns and all(c.codes is not None for c in columns) and size <= min(MOST_CROSSED, most):
        joint = np.unique(np.column_stack([c.levels[0] for c in columns]), axis=0, return_inverse=True)[1].reshape(-1)
        return indicators(joint), len(columns) > 1, {c.name: "" for c in columns}
    parts, fates, left = [np.zeros((rows, 0))], {}, most
    for column in columns:
        part = column.slopes(fine=True)
        fits = part.shape[1] <= left
        fates[column.name] = "" if fits else TOO_FEW
        if fits:
            parts.append(part)
            left -= part.shape[1]
    return np.column_stack(parts), False, fates


def _sharpening(calm: Sequence[tuple[LoggedColumn, float]], sides: Sides, room: int) -> tuple[Floats, tuple[str, ...]]:
    """The covariates of columns that lean or foretell the score, the best first, while there is room."""
    known = ~np.isnan(sides.score)
    ranked = [(min(_foretells(c, sides.score, known), p), c) for c, p in calm]
    parts, names = [np.zeros((len(sides), 0))], []
    for p, column in sorted(ranked, key=lambda each: each[0]):
        part = column.slopes(fine=False) if p < LEANING else None
        if part is not None and part.shape[1] <= room:
            parts.append(part)
            names.append(column.name)
            room -= part.shape[1]
    return np.column_stack(parts), tuple(names)


def _foretells(column: LoggedColumn, score: Floats, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """p-value of a difference of the scores between levels (analysis of variance)."""
    from scipy.special import fdtrc

    levels, y = column.levels[0][known], score[known]
    counts = np.bincount(levels)
    k, n = int((counts > 0).sum()), len(y)
    if k < 2 or n <= k + 1:
        return 1.0
    means = np.bincount(levels, y) / np.maximum(counts, 1)
    between = float((counts * (means - y.mean()) ** 2).sum())
    inside = float(((y - y.mean()) ** 2).sum()) - between
    if inside <= 1e-12:
        return 0.0 if between > 1e-12 else 1.0
    return float(fdtrc(k - 1, n - k, (between / (k - 1)) / (inside / (n - k))))
