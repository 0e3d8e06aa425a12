"""The values that go into attribution and come out of it: no I/O, no clock, no names beyond axes.

A cell is a bit mask: bit i set means axis i is taken from the bad release. 0 is the good release, `2**k - 1` the bad one.
A trial is one run of one query in one cell. A design is a `Search`: `ask` proposes trials, `tell` hears of them; the same
object serves a live run, a recorded one and a simulated one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# numpy takes as long to import as settings, releases and log to read: what is also read without a search imports it where it computes.
Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.int64]"
Bools: TypeAlias = "NDArray[np.bool_]"
# How named axes act; `unsettled`: each costs quality, how they act together is not known.
Mode = Literal["alone", "together", "either", "unsettled"]
EffectKind = Literal["introduced", "reverted", "shapley", "interaction", "net"]
# `ok`: an answer came, with or without a score; `error`: the call failed; `missing`: the answer rests on a tool call that
# the log does not have, so nobody knows what it would have been; `infeasible`: the combination cannot run.
Status = Literal["ok", "error", "missing", "infeasible"]
# The part of the loss that a rollback must bring back.
RESTORED = 0.8


def names_of(cell: int, axes: Sequence[str]) -> tuple[str, ...]:
    """The names of the axes that a cell takes from the bad release."""
    return tuple(axis for i, axis in enumerate(axes) if cell >> i & 1)


def bits(cell: int) -> tuple[int, ...]:
    """The axes of a cell, lowest first."""
    return tuple(i for i in range(cell.bit_length()) if cell >> i & 1)


def mask(axes: Iterable[int]) -> int:
    """The cell with just these axes bad."""
    return sum(1 << i for i in axes)


def what_counts(loss: float, tolerance: float) -> float:
    """The smallest cost that keeps an axis from being called innocent: the tolerance, or what a rollback may leave if that is more."""
    return max(tolerance, (1 - RESTORED) * loss)


def score_ends(declared: tuple[float, float] | None, lowest: float, highest: float) -> tuple[float, float]:
    """The lowest and the highest score there can be: as declared, else 0 and 1 (or -1 and 0) where all lie between, else those seen."""
    if declared is not None:
        return declared
    for low, high in ((0.0, 1.0), (-1.0, 0.0)):
        if low <= lowest and highest <= high:
            return low, high
    return lowest, highest


def cluster_numbers(clusters: Sequence[object] | Ints | None, rows: Sequence[int] | NDArray[Any] | np.bool) -> Ints:
    """(n,) numbers 0..G-1 of the clusters (names or numbers of all rows) that these `rows` (numbers, or flags) are in.

    Without clusters every row is its own.
    """
    import numpy as np

    chosen = np.asarray(rows)
    chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64, copy=False)
    if clusters is None:
        return np.arange(len(chosen))
    known = clusters if isinstance(clusters, np.ndarray) else np.array(clusters, object)
    return np.asarray(np.unique(known[chosen], return_inverse=True)[1])


def cluster_sums(values: Floats, clusters: Ints | None) -> Floats:
    """(G,) sums of the values (n,) within clusters; without clusters the values."""
    import numpy as np

    return values if clusters is None else np.asarray(np.bincount(np.unique(clusters, return_inverse=True)[1], values))


class Trial(NamedTuple):
    """One run of one query (its index in the problem) in one cell (a bit mask), with a repeat number."""

    query: int
    cell: int
    repeat: int = 0


class Outcome(NamedTuple):
    """What came back: `score` is None when nothing could be scored; `status` says why.

    `verdict` names the judgement that the score rests on, which trials of a query may share; `again` is a second one of the same
    answer. None: no judge gave the score, or it was not asked twice.
    """

    trial: Trial
    score: float | None
    status: Status = "ok"
    verdict: str | None = None
    again: float | None = None


@dataclass(frozen=True)
class Problem:
    """What a search may know before its first trial. Scores are oriented by the caller: higher is better.

    `queries` indices 0..n-1 are a random order of the sample: any prefix is a random sample of it.
    """

    axes: tuple[str, ...]
    queries: int
    # Trials that may still be asked for, the most.
    budget: int
    # The smallest loss worth acting on, in score points.
    tolerance: float = 0.02
    # Chance of naming a wrong cause, over the whole run.
    alpha: float = 0.05
    seed: int = 0
    # Queries in the log that the sample was drawn from; None: unknown or endless.
    population: int | None = None
    # (n,) how many logged queries each sampled one stands for; None: all alike.
    weights: Floats | None = None
    # (n,) cluster of each query (user, session); None: every query its own.
    clusters: Ints | None = None
    # The lowest and the highest score there can be; None: not declared.
    bounds: tuple[float, float] | None = None
    # Cells known beforehand not to run.
    infeasible: frozenset[int] = frozenset()
    # Axes declared to run only together: each tuple is one unit for naming and rollback.
    couplings: tuple[tuple[int, ...], ...] = ()
    # Axis to the mask of the axes beside whose bad side alone its own bad side runs, with what these need; (): none needs
    # any.
    needs: tuple[int, ...] = ()

    @property
    def k(self) -> int:
        """How many axes changed."""
        return len(self.axes)

    @property
    def full(self) -> int:
        """The cell of the bad release."""
        return (1 << len(self.axes)) - 1

    def reverting(self, axes: Iterable[int]) -> int:
        """The mask of `axes` with those that cannot stay bad without them: what goes back when they do."""
        back = sum(1 << a for a in axes)
        if any(self.needs):
            back |= sum(1 << a for a, needed in enumerate(self.needs) if needed & back and not back >> a & 1)
        return back

    def reverted_pair(self, axis: int) -> tuple[int, int]:
        """The (good, bad) cells that tell what reverting an axis brings back, what needs it being reverted in both."""
        low = self.full & ~self.reverting([axis]) | 1 << axis if self.needs else self.full
        return low & ~(1 << axis), low

    def introduced_pair(self, axis: int) -> tuple[int, int]:
        """The (good, bad) cells that tell what introducing an axis costs, what it needs being bad in both."""
        high = self.needs[axis] if self.needs else 0
        return high, high | 1 << axis

    def runs(self, cell: int) -> bool:
        """Whether every bad axis of a cell has what it needs."""
        return all(needed & ~cell == 0 for a, needed in enumerate(self.needs) if cell >> a & 1)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, what gave it and on how many queries. None: undefined, `method` says why."""

    value: float | None
    interval: tuple[float, float] | None
    n: int
    method: str
    # The part of the interval's variance that is a judge's own noise; None: no judge, or its noise is not known.
    judged: float | None = None
    # The interval over every value that failed and missing answers might have had (Manski); None: none is needed.
    bounds: tuple[float, float] | None = None

    @property
    def most(self) -> float:
        """What the number is below, one-sided 95 %: 1.645 of the 1.96 standard errors of its interval; infinite where undefined."""
        if self.value is None or self.interval is None:
            return math.inf
        return self.value + 1.645 / 1.96 * (self.interval[1] - self.value)


def within_one(share: Estimate) -> Estimate:
    """A share cut to 0 to 1, with its interval: axes that win something back leave others more than the whole loss."""
    if share.value is None or 0 <= share.value <= 1:
        return share
    value = min(max(share.value, 0.0), 1.0)
    low, high = share.interval or (value, value)
    return replace(share, value=value, interval=(min(max(low, 0.0), value), max(min(high, 1.0), value)))


def unseen_part(losses: Floats, clusters: Ints) -> float:
    """The part of a loss that may act otherwise though none of the queries with these `losses` (n,) does, 97.5 %: 1 - 0.025^(1/m).

    None of m (Clopper and Pearson 1934), m being how many equal losses of clusters tell as much as these do (Kish 1965).
    """
    lost = cluster_sums(losses, clusters)
    return float(1 - 0.025 ** (1 / max(float(lost.sum() ** 2 / (lost @ lost)), 1.0)))


@dataclass(frozen=True)
class Effect:
    """A contrast of cell values, in score points; positive means the change costs quality."""

    axes: tuple[str, ...]
    kind: EffectKind
    estimate: Estimate
    p_adjusted: float | None
    # Of a net effect: what it costs where it costs, score points over all queries. `estimate` is `breaks` less `mends`.
    breaks: float | None = None
    # Of a net effect: what it gains where it gains.
    mends: float | None = None
    # Of a net effect: whether the cost is proved within the run's error budget.
    proved: bool = False


@dataclass(frozen=True)
class CellValue:
    """The mean score of one cell over the query population."""

    cell: int
    estimate: Estimate
    trials: int
    errors: int
    status: Literal["run", "infeasible", "not_run"]


@dataclass(frozen=True)
class Failing:
    """What a cause does to answers when it makes them fail, on the same queries with it and with it reverted."""

    # Share of calls that fail with it.
    with_it: float
    without: float
    # The part of its cost that is answers that failed, 0 to 1.
    share: float
    # Queries.
    n: int


@dataclass(frozen=True)
class Cause:
    """Axes that cost quality, how they act, and their share of the loss (1 = all of it)."""

    axes: tuple[str, ...]
    mode: Mode
    share: Estimate
    # Set: what they cost is mainly answers that fail.
    failing: Failing | None = None
    # Axes without whose bad side it does not run, so that its cost was measured beside that.
    beside_new: tuple[str, ...] = ()
    # Whether none of its axes runs without another's bad side, so that they were measured as one.
    is_unit: bool = False
    # Axes that do not run without its bad side, so that its cost was measured beside their good one.
    beside_old: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollback:
    """The smallest set of axes whose reversion restores at least 80 % of the loss, in a cell that ran."""

    axes: tuple[str, ...]
    cell: int
    value: Estimate
    # Share of the loss that the measured cell brings back.
    restores: float | None
    # Of `restores`: 95 %.
    interval: tuple[float, float] | None = None
    # Of `axes`, those that are not to blame and go back because they cannot run without the others' bad side.
    along: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limit:
    """What an axis costs at most, one-sided 95 %."""

    most: float
    # Whether something rather says that it costs what counts than that it costs nothing, or nothing is known of it.
    leans: bool = True


@dataclass(frozen=True)
class Attribution:
    """What a search ends with. `kind` is one of: cause, no_regression, inconclusive."""

    kind: Literal["cause", "no_regression", "inconclusive"]
    loss: Estimate
    good: Estimate
    bad: Estimate
    causes: tuple[Cause, ...] = ()
    rollback: Rollback | None = None
    keep: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    cells: tuple[CellValue, ...] = ()
    # Inconclusive: sets of axes that may be the cause, with a degree of belief each.
    candidates: tuple[tuple[tuple[str, ...], float], ...] = ()
    # Inconclusive: how many more trials would probably settle it; None: no number can be named.
    calls_needed: int | None = None
    # Why the verdict is what it is, one sentence.
    reason: str = ""
    # What a reader must know besides: aliased effects, cells that could not run, few queries.
    notes: tuple[str, ...] = ()
    # (query, cell) of the trials that were made because the query broke: they say nothing of other queries.
    chosen: frozenset[tuple[int, int]] = frozenset()
    # Beside a cause: axes that are not named and what each costs at most, which decides whether it is kept.
    limits: tuple[tuple[str, Limit], ...] = ()
    # Fits the linear model of a fixed design's scores; deferred, because statsmodels takes a second to import.
    regression: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    def withdrawn(self, reason: str | None = None) -> Attribution:
        """The same without its claims: inconclusive, with nobody named and nothing to revert or keep; `reason`: why."""
        why = self.reason if reason is None else reason
        return replace(self, kind="inconclusive", causes=(), rollback=None, keep=(), reason=why, calls_needed=None)


@dataclass(frozen=True)
class Belief:
    """What a search believes after a round, for a live view. Intervals hold at every look (always-valid), or are None."""

    stage: str
    loss: Estimate
    # Axis to a degree of evidence in [0, 1] that it costs quality.
    harm: dict[str, float] = field(default_factory=dict)
    # Axis to what it costs where it was tried so far, score points.
    costs: dict[str, Estimate] = field(default_factory=dict)


class Search(Protocol):
    """A design as a conversation. `ask` gives the next round (empty: settled or spent), `tell` hears what came back."""

    def ask(self, width: int) -> Sequence[Trial]:
        """The next trials, about `width` at most; empty when settled or spent."""

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what came back."""

    def belief(self) -> Belief:
        """What the search believes so far."""

    def result(self) -> Attribution:
        """What the evidence so far says."""


@dataclass(frozen=True)
class JudgeNoise:
    """The noise of the verdicts that a table's scores rest on."""

    # Of one verdict, in squared score points; None: too few answers were judged twice.
    variance: float | None
    # (n, cells) numbers 0.. of the verdicts; equal where cells share one.
    verdicts: Ints

    def of(self, contrasts: Floats, loads: Floats) -> Floats:
        """(m,) variance that verdicts give to contrasts (m, cells) of means in which a query's score has the load (n, cells)."""
        import numpy as np

        if self.variance is None:
            return np.full(len(contrasts), np.inf)
        names = self.verdicts.ravel()
        return np.array([self.variance * (np.bincount(names, (loads * c).ravel()) ** 2).sum() for c in contrasts])


def share_of(judged: float, variance: float) -> float | None:
    """The part of a variance that is the judge's noise, 1 at most; None: its noise is not known."""
    if not math.isfinite(judged):
        return None
    return min(1.0, judged / variance) if variance > 0 else float(judged > 0)


def interaction_contrast(k: int, axes: Sequence[int]) -> Floats:
    """(2^k,) the interaction of `axes`, averaged over the settings of the others."""
    import numpy as np

    inside = mask(axes)
    cells = np.arange(1 << k)
    on = np.array([(cell & inside).bit_count() for cell in cells])
    sign = np.where((len(axes) - on) % 2 == 0, -1.0, 1.0)
    return sign / (1 << (k - len(axes)))
