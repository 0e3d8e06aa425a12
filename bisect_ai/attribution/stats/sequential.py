"""Sequential tests: of net cost at planned looks (group-sequential, one-sided), and bets that may be looked at after every answer.

**Planned looks.** A test hears one paired difference a query, in order. It is looked at when `FIRST`, `FIRST * GROWTH`, … queries
are in, always on exactly so many, and once more at the end of the budget or of the log. The standardised sums at the looks form a
Gaussian random walk; what each must pass comes from the recursion of Armitage, McPherson and Rowe (1969), so that the planned looks
spend `EARLY` of alpha evenly and the last one all that is left (Lan and DeMets 1983).

**Pass/fail differences** are -1, 0 or 1, and "no net cost" says that a query is mended at least as often as it is broken. Given
that a difference is not 0 its sign is then a coin of bias 1/2 at most, so the tail is binomial and exact (McNemar 1947). **Other
differences** take Student's t, and a tail that is never below that of as many signs: a few queries prove little, however alike.

**Bets** on scores in [-1, 1]: a gambler who stakes a part L of the wealth on x
multiplies it by 1 + L x. If x has mean 0 or less given what came before, the wealth is a nonnegative supermartingale and ever
passes c with a chance of at most 1 / c (Ville 1939); so is that of several gamblers together.

**Error budget.** The chance of a wrong name, divided: one alpha for a whole run, and a part of it for each family of tests.
A family is one question asked of every axis. Within a family the axes share its part by Holm's steps (1979); the parts of the
families add up to alpha (Bonferroni), so the chance that the run names any axis without a net cost is at most alpha.
Which question is asked first is seen only in a run. A part that is given "in turn" goes to the next question that is asked, before
any of its answers is heard: the parts still add up to alpha at most, and each is fixed by what came before it (alpha-spending over
an adaptive order of hypotheses: Foster and Stine 2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints, cluster_sums

# Each planned look comes after a quarter more queries than the last.
GROWTH = 1.25
# Queries before the first look.
FIRST = 12
# The part of alpha that the planned looks spend; the rest is left for the end.
EARLY = 0.8
_EDGES = np.linspace(-8.0, 8.0, 321)  # bins of a twentieth of a standard error; beyond 8 lies a chance of 1e-15
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2


def standardised(differences: Floats, clusters: Ints | None = None) -> float:
    """The mean of paired differences in standard errors: the normal quantile that its one-sided p-value belongs to."""
    from scipy.special import bdtrc, ndtri, stdtr

    x = cluster_sums(differences, clusters)
    moved = x[x != 0]
    n = len(moved)
    if not n:
        return 0.0
    size = np.abs(moved)
    total = float(moved.sum())
    if size.max() - size.min() <= 1e-12 * size.max():  # all differences are of one size: the sign test is exact
        worse = int((moved > 0).sum())
        p = float(bdtrc(worse - 1, n, 0.5)) if worse else 1.0
    elif len(x) < 3:
        return 0.0
    else:
        error = float(x.std(ddof=1)) * math.sqrt(len(x))
        p = max(float(stdtr(len(x) - 1, -total / error)) if error > 0 else 0.0, 0.5**n)
    return float(-ndtri(min(max(p, 1e-15), 1 - 1e-12)))  # an infinite quantile could not be averaged


class SequentialTests:
    """One family: "this axis has no net cost", for each of k axes, at alpha over all of them and all looks.

    `weights` divide alpha over the axes; they must not depend on differences that the tests hear (weighted steps: Holm 1979).
    """

    def __init__(self, k: int, alpha: float, *, horizon: int) -> None:
        self._k = k
        self.alpha = alpha
        self.weights: Floats = np.full(k, 1 / k)
        self._schedule = look_sizes(horizon)
        self._looks: list[list[tuple[int, float]]] = [[] for _ in range(k)]
        self._over = [False] * k
        self._named: frozenset[int] = frozenset()
        # What the names above were worked out from: looks taken, alpha and its division. They are read far more often than it changes.
        self._named_at: tuple[int, float, Floats] = 0, alpha, self.weights
        self._taken = 0

    def grant(self, alpha: float) -> None:
        """Give the family its part of alpha, before its first difference is heard."""
        self.alpha = alpha

    def hear(self, axis: int, differences: Floats, clusters: Ints | None = None) -> None:
        """Take the planned looks that so many differences allow. Earlier ones must not have changed."""
        looks = self._looks[axis]
        while not self._over[axis] and len(looks) < len(self._schedule) and self._schedule[len(looks)] <= len(differences):
            size = self._schedule[len(looks)]
            self._taken += 1
            looks.append((size, standardised(differences[:size], None if clusters is None else clusters[:size])))

    def is_due(self, axis: int, queries: int) -> bool:
        """Whether so many differences allow a look that was not taken."""
        return not self._over[axis] and self.is_ahead(axis, queries)

    def is_ahead(self, axis: int, queries: int) -> bool:
        """Whether a planned look that was not taken is at so many queries or fewer."""
        looks = len(self._looks[axis])
        return looks < len(self._schedule) and self._schedule[looks] <= queries

    def is_expected(self, axis: int, z: float, queries: int, *, planned: int) -> bool:
        """Whether a look to come, at no more than the `planned` queries, is passed if these go on like those so far.

        `z`: standard errors that the mean of so many `queries` lies above 0. A guess, for no claim.
        """
        if axis in self._named or not self.alpha:
            return False
        level, most = self._level(axis, self._named), len(self._schedule)
        return any(
            z * math.sqrt(self._schedule[i] / queries) >= _look_bounds(self._schedule[: i + 1], most, level, False)[-1]
            for i in range(len(self._looks[axis]), most)
            if self._schedule[i] <= planned
        )

    def end(self, axis: int, differences: Floats, clusters: Ints | None = None) -> None:
        """The last look, when the budget or the log is at its end; later calls change nothing."""
        looks = self._looks[axis]
        if not self._over[axis] and len(differences) > (looks[-1][0] if looks else 1):
            self._over[axis] = True
            self._taken += 1
            looks.append((len(differences), standardised(differences, clusters)))

    def named(self) -> frozenset[int]:
        """The axes proved to have a net cost, by Holm's steps; a name stays."""
        looks, alpha, weights = self._named_at
        if looks == self._taken and (not looks or (alpha == self.alpha and weights is self.weights)):
            return self._named
        self._named_at, named = (self._taken, self.alpha, self.weights), set(self._named)
        while self.alpha and len(named) < self._k:
            passed = {a: x for a in range(self._k) if a not in named and (x := self._excess(a, self._level(a, named))) > 0}
            if not passed:
                break
            named.add(max(passed, key=lambda a: passed[a]))
        self._named = frozenset(named)
        return self._named

    def _level(self, axis: int, named: Iterable[int] = ()) -> float:
        left = 1 - float(sum(self.weights[a] for a in named))
        return round(self.alpha * float(self.weights[axis]) / max(left, 1e-9), 7)

    def progress(self, axis: int) -> float:
        """How near the axis's best look came to its bound, 0 to 1."""
        looks = self._looks[axis]
        if not looks or not self.alpha:
            return 0.0
        bounds = self._bounds(axis, self._level(axis))
        return float(np.clip(max(z / b for (_, z), b in zip(looks, bounds, strict=True)), 0, 1))

    def _excess(self, axis: int, level: float) -> float:
        looks = self._looks[axis]
        if not looks:
            return -math.inf
        bounds = self._bounds(axis, level)
        return max(z - b for (_, z), b in zip(looks, bounds, strict=True))

    def _bounds(self, axis: int, level: float) -> tuple[float, ...]:
        return _look_bounds(tuple(n for n, _ in self._looks[axis]), len(self._schedule), level, self._over[axis])


def look_sizes(horizon: int) -> tuple[int, ...]:
    """Queries at each planned look, when at most `horizon` can be had."""
    sizes, size = [], float(FIRST)
    while size <= max(horizon, FIRST):
        sizes.append(math.ceil(size))
        size *= GROWTH
    return tuple(sizes)


@lru_cache(maxsize=4096)
def _look_bounds(sizes: tuple[int, ...], planned: int, alpha: float, over: bool) -> tuple[float, ...]:
    """The z that each look must pass: one-sided, alpha in all; every planned look spends the same part of EARLY * alpha."""
    if not sizes:
        return ()
    before, spent = sizes[:-1], EARLY * alpha / planned
    last = _bound_for(_density_at(sizes, planned, alpha), alpha - len(before) * spent if over else spent)
    return (*_look_bounds(before, planned, alpha, False), last)


@lru_cache(maxsize=1024)
def _density_at(sizes: tuple[int, ...], planned: int, alpha: float) -> Floats:
    """Of the standardised sum at the last of these looks, by bins, where it passed none of those before."""
    *before, size = sizes
    if not before:
        return _first_density()
    earlier = tuple(before)
    bound = _look_bounds(earlier, planned, alpha, False)[-1]
    inside = np.clip((bound - _EDGES[:-1]) / (_EDGES[1] - _EDGES[0]), 0, 1)
    return np.asarray((_density_at(earlier, planned, alpha) * inside) @ _steps(round(math.sqrt(before[-1] / size), 3)))


@lru_cache(maxsize=1)
def _first_density() -> Floats:
    return np.diff(_normal_cdf(_EDGES))


def _bound_for(density: Floats, spent: float) -> float:
    """The z above which the density has the mass `spent`."""
    above = np.append(density[::-1].cumsum()[::-1], 0.0)
    return float(np.interp(-spent, -above, _EDGES))


@lru_cache(maxsize=64)
def _steps(rho: float) -> Floats:
    """(from, to) chances of a standardised sum to get from one bin to another when its correlation over time is rho."""
    spread = math.sqrt(max(1 - rho**2, 1e-6))
    return np.asarray(np.diff(_normal_cdf((_EDGES[None] - rho * _MIDDLES[:, None]) / spread), axis=1))


def _normal_cdf(z: Floats) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


class LossBelow:
    """Whether a mean is shown to lie below a bound, at any planned look, with a chance of at most alpha / 2 that it does not."""

    def __init__(self, alpha: float, *, horizon: int) -> None:
        self._alpha = alpha / 2
        self._schedule = look_sizes(horizon)
        self._taken: list[int] = []
        self.shown = False

    def hear(self, size: int, z: float) -> None:
        """A look at `size` queries: `z` standard errors below the bound. Counts when a planned look is due."""
        if self.shown or len(self._taken) >= len(self._schedule) or size < self._schedule[len(self._taken)]:
            return
        self._taken.append(size)
        while len(self._taken) < len(self._schedule) and self._schedule[len(self._taken)] <= size:
            self._schedule = (*self._schedule[: len(self._taken)], *self._schedule[len(self._taken) + 1 :])
        self.shown = z > _look_bounds(tuple(self._taken), len(self._schedule), self._alpha / EARLY, False)[-1]


# Parts of the wealth that are bet, and what each starts with: half of all on the largest, which settles answers that repeat
# exactly in 7 pairs instead of 8 with equal shares. Proofs of losses of 5 to 100 points take 1.2 to 1.6 times the pairs that
# the best single stake for each would take (tests/quality/test_stakes.py).
STAKES = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 0.95])
PURSES = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.5])


def mean_wealth(logs: Floats) -> float:
    """The mean of the wealths whose logarithms are given."""
    return float(np.exp(np.minimum(logs, 700.0)).mean())


class Wealth:
    """What gamblers who stake STAKES have together, starting with 1 in all."""

    def __init__(self) -> None:
        self._logs: Floats = np.log(PURSES)

    def bet(self, x: float, *, worst: float = 1.0) -> None:
        """Take in an outcome whose mean is 0 or less if the claim is wrong; `worst`: how far below 0 it could have been."""
        self._logs = self._logs + np.log1p(STAKES / max(worst, 1.0) * x)

    @property
    def log(self) -> float:
        """The logarithm of their wealth."""
        return float(np.logaddexp.reduce(self._logs))

    @property
    def value(self) -> float:
        """Their wealth, cut where a float ends."""
        return math.exp(min(self.log, 700.0))


class MeanAbove:
    """E-process against "the mean of a population of N is 0 or less", its values drawn one by one without replacement.

    If the mean of all N were 0, that of those left is -(sum so far) / (N - n), so a value less that is a fair bet (Waudby-Smith and
    Ramdas 2020): the fewer are left, the less can hide in them. Half of the wealth is bet at fixed stakes (`Wealth`), half at the
    Kelly stake for the mean and variance so far, which wins where values vary much.
    """

    def __init__(self, population: int, *, reach: float = 1.0) -> None:
        self._population, self._reach = population, reach
        self._fixed, self._kelly = Wealth(), 0.0
        self._n, self._sum, self._squares = 0, 0.0, 0.0

    def hear(self, x: float, *, shift: float = 0.0) -> None:
        """Take in the next value, at least `shift` - reach."""
        fair = -self._sum / max(self._population - self._n, 1)
        worst = max(self._reach - shift + fair, 1e-9)
        self._fixed.bet(x - fair, worst=worst)
        if self._n:
            expected = self._sum / self._n - fair
            # one more value at the far end keeps early stakes small
            variance = (self._squares - self._sum**2 / self._n + self._reach**2) / self._n
            stake = min(max(expected / (variance + expected**2), 0.0), STAKES[-1] / worst)
            self._kelly += math.log1p(stake * (x - fair))
        self._n, self._sum, self._squares = self._n + 1, self._sum + x, self._squares + x * x

    @property
    def value(self) -> float:
        """The e-value."""
        return math.exp(min(float(np.logaddexp(self._fixed.log, self._kelly)) - math.log(2), 700.0))

    def mean(self) -> tuple[float, float]:
        """The mean so far and its standard error, as if one further value at the far end had come."""
        n = max(self._n, 1)
        return self._sum / n, math.sqrt(max(self._squares - self._sum**2 / n, 0.0) + self._reach**2) / n


def ruled_in(losses: Floats, *, population: int, reach: float = 1.0) -> tuple[float, float]:
    """The lowest and highest mean of a population in [-1, 1] that the losses, drawn from it in this order, leave possible."""
    half = min(2.0, 6 / math.sqrt(len(losses)))  # a bet on n values in [-1, 1] leaves less than 4 / sqrt(n) open
    means = np.unique(np.clip(losses.mean() + half * np.linspace(-1.0, 1.0, 241), -1.0, 1.0))
    wealth = [np.tile(np.log(PURSES), (len(means), 1)) for _ in range(2)]
    most = [np.full(len(means), -np.inf) for _ in range(2)]
    lost = 0.0
    for n, loss in enumerate(losses):
        expected = (population * means - lost) / max(population - n, 1)
        for side, sign in enumerate((1.0, -1.0)):  # against "as much or less", against "as much or more"
            worst = np.maximum(reach + sign * expected, 1.0)
            wealth[side] = wealth[side] + np.log1p(STAKES * (sign * (loss - expected) / worst)[:, None])
            most[side] = np.maximum(most[side], np.logaddexp.reduce(wealth[side], axis=1))
        lost += loss
    bound = math.log(2 / 0.05)
    low, high = means[most[0] < bound], means[most[1] < bound]
    return float(low.min(initial=lost / len(losses))), float(high.max(initial=lost / len(losses)))


# Family to what is said of it.
TOLD = {
    "net": "both net costs",
    "introduced": "changed alone",
    "reverted": "taken back alone",
    "further": "taken back beside what is proved",
    "table": "every query in every combination",
    "again": "the same asked again while answers vary",
}


@dataclass
class ErrorBudget:
    """A run's alpha, and the part of it that each family of tests may spend."""

    alpha: float
    # Family to its part of alpha; with `in_turn` they add up to 1 at most.
    parts: Mapping[str, float] = field(default_factory=dict)
    # Parts for the families that have none yet, in the order in which they are asked.
    in_turn: Sequence[float] = ()
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        total = sum(self.parts.values()) + sum(self.in_turn)
        if total > 1 + 1e-9:
            raise ValueError(f"the parts of an error budget add up to {total:g}, more than 1")

    def of(self, family: str) -> float:
        """The alpha of a family; 0 for one that has no part, or was not asked yet."""
        turns = dict(zip(self.asked, self.in_turn, strict=False))
        return self.alpha * self.parts.get(family, turns.get(family, 0.0))

    def ask(self, family: str) -> float:
        """The alpha of a family that is asked from now on."""
        if family not in self.parts and family not in self.asked:
            self.asked.append(family)
        return self.of(family)

    def describe(self) -> str:
        """How it is divided, in words."""
        shares = [f"{TOLD.get(name, name)} {self.alpha * part:.3g}" for name, part in self.parts.items()]
        told = ", ".join(f"{TOLD.get(name, name)} {self.of(name):.3g}" for name in self.asked)
        in_turn = ", ".join(f"{self.alpha * part:.3g}" for part in self.in_turn)
        if self.in_turn:
            shares.insert(0, told or f"{in_turn} to the questions in the order they are asked")
        return f"alpha = {self.alpha:g}, divided: {', '.join(shares)}"
