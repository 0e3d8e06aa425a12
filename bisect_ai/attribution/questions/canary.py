"""Is a canary as good as its baseline? Promote, roll back or wait, from live scores, however often it is looked at.

**Blocks.** Queries are not asked of both releases, so answers are compared in blocks: the stretch of the log, inside one segment, until
both releases have answered. A block's number is the mean score of its baseline answers less that of its canary answers. What moves
both alike (the time of day, an outage, a share of traffic that grows) stays inside a block; where a block ends depends on labels
alone. A cluster (user, session) counts in the first block that it is part of, by its answers there: later ones depend on them, and
are left out.

**Verdict.** While the canary is no worse in any block, given the past, staking on harm wins nothing on average (`sequences.py`); when
that wealth passes 1 / alpha, roll back. When the wealth that is staked against "the loss is `tolerance` or more" passes 1 / alpha,
promote. The first of the two is the verdict and stays it. Either error has a chance of at most alpha over all looks, and no loss can be
the victim of both. A loss between 0 and the tolerance may end either way.

**Answers without a score** count. Few of them are left out of the blocks; when they are more than `FEW`, or lean to one release, a
verdict must also hold with every one of them at the value that speaks most against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Estimate, Floats, Ints
from bisect_ai.attribution.stats import sequences

FEW = 0.03
"""Share of answers without a score that a verdict may leave out, on either side."""
LEANS = 0.01
"""p-value below which answers without a score lean to one release."""
POINTS = 24
"""Looks that the history of the interval is told at."""
PRIOR = np.array([-0.7, 0.7])
"""Numbers of two made-up blocks: a forecast from few blocks must not take them for all there is."""
MOST_BLOCKS = 10**7

Kind = Literal["promote", "roll_back", "wait"]


@dataclass(frozen=True)
class CanaryRule:
    """What is fixed before the first look; `tolerance` is on the scale of the scores, which lie in [0, 1]."""

    tolerance: float = 0.02
    alpha: float = 0.05
    """Chance of a wrong verdict, over all looks."""

    @property
    def bound(self) -> float:
        """What a wealth must pass."""
        return 1 / self.alpha


@dataclass(frozen=True)
class Answers:
    """Live answers in the order of time: arrays of one length. Scores in [0, 1], higher is better; NaN: none."""

    is_canary: Ints
    score: Floats
    cluster: Ints | None = None
    segment: Ints | None = None

    def __len__(self) -> int:
        return len(self.is_canary)


@dataclass(frozen=True)
class Blocks:
    """(b,) each: mean scores, and the place of the answer that ended the block. `used` (n,) says which answers are in one."""

    baseline: Floats
    canary: Floats
    end: Ints
    used: Ints
    repeated: Ints
    """(n,) 1 where a cluster had been counted before."""

    @property
    def loss(self) -> Floats:
        """(b,) score points: what the canary lost."""
        return self.baseline - self.canary


@dataclass(frozen=True)
class Needed:
    """What would probably bring a verdict: further scored answers of each release. None: no number of them would."""

    blocks: int | None
    baseline: int | None
    canary: int | None


@dataclass(frozen=True)
class Side:
    """The answers of one release: all of them, those without a score, and how many counted."""

    answers: int
    unscored: int
    counted: int


@dataclass(frozen=True)
class Look:
    """The interval after `answers` answers in `blocks` blocks."""

    answers: int
    blocks: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class CanaryFinding:
    """The verdict and what it rests on; estimates are means over the blocks up to it, score points."""

    kind: Kind
    loss: Estimate
    """Its interval holds at every look, each end but for a chance of alpha."""
    baseline: Estimate
    canary: Estimate
    harm: float
    """The wealth staked on harm, to be compared with `bound`."""
    well: float
    """The wealth staked against a loss of the tolerance or more."""
    blocks: int
    decided_after: int | None
    """Answers until the verdict; None while waiting."""
    sides: tuple[Side, Side]
    repeated: int
    unpaired: int
    """Scored answers that no block has taken yet: the other release did not answer beside them."""
    bounded: bool
    """Whether the verdict holds for every value of the missing scores."""
    leans: bool
    if_no_loss: Needed
    if_loss: Needed
    """Should it lose twice the tolerance."""
    looks: tuple[Look, ...] = field(default=())


def blocks_of(answers: Answers, score: Floats) -> Blocks:
    """The blocks of the answers that have a `score` (n,) here, in the order of their ends. The scores themselves decide nothing."""
    sorting = _Sorting(answers)
    for place in np.flatnonzero(~np.isnan(score)).tolist():
        sorting.take(place)
    n, done, told = len(answers), sorting.done, score.tolist()
    means = [[sum(told[place] for place in members) / len(members) for members in sides] for sides, _ in done]
    table = np.array(means, float).reshape(-1, 2)
    used, repeated = np.zeros(n, int), np.zeros(n, int)
    used[[place for sides, _ in done for members in sides for place in members]] = 1
    repeated[sorting.repeated] = 1
    return Blocks(table[:, 0], table[:, 1], np.array([end for _, end in done], int), used, repeated)


class _Sorting:
    """Sorts answers into blocks one by one: a block ends with the first answer of its other release."""

    def __init__(self, answers: Answers) -> None:
        n = len(answers)
        self._canary: list[int] = answers.is_canary.tolist()
        self._segment: list[int] = [0] * n if answers.segment is None else answers.segment.tolist()
        self._cluster: list[int] = list(range(n)) if answers.cluster is None else answers.cluster.tolist()
        self._open: dict[int, tuple[list[int], list[int]]] = {}
        self._home: dict[int, int] = {}
        self.done: list[tuple[tuple[list[int], list[int]], int]] = []
        self.repeated: list[int] = []

    def take(self, place: int) -> None:
        """The next answer."""
        segment = self._segment[place]
        if self._home.setdefault(self._cluster[place], segment) != segment:
            self.repeated.append(place)
            return
        sides = self._open.setdefault(segment, ([], []))
        sides[self._canary[place]].append(place)
        if all(sides):
            self.done.append((self._open.pop(segment), place))
            self._home |= {self._cluster[p]: _COUNTED for members in sides for p in members}


_COUNTED = -1


def find(answers: Answers, rule: CanaryRule, *, history: bool = True) -> CanaryFinding:
    """The verdict on the answers so far. More answers at the end never change the blocks before them. `history`: with `looks`."""
    unscored = np.isnan(answers.score)
    leans = _leans(answers.is_canary, unscored)
    bounded = leans or any(
        unscored[answers.is_canary == side].mean() > FEW for side in (0, 1) if (answers.is_canary == side).any()
    )
    told = blocks_of(answers, answers.score)
    evidence = _Evidence(rule, told, _worst(answers) if bounded else None)
    kind, after = evidence.verdict()
    stop = len(answers) if after is None else after
    return CanaryFinding(
        kind,
        *evidence.estimates(stop),
        harm=math.exp(min(evidence.wealth("roll_back", stop), 700.0)),
        well=math.exp(min(evidence.wealth("promote", stop), 700.0)),
        blocks=int((told.end < stop).sum()),
        decided_after=after,
        sides=(_canary_side(answers, told, 0), _canary_side(answers, told, 1)),
        repeated=int(told.repeated.sum()),
        unpaired=int((~unscored).sum() - told.used.sum() - told.repeated.sum()),
        bounded=bounded,
        leans=leans,
        if_no_loss=evidence.needed("promote", 0.0, answers),
        if_loss=evidence.needed("roll_back", 2 * rule.tolerance, answers),
        looks=evidence.looks(stop) if history else (),
    )


def _canary_side(answers: Answers, told: Blocks, side: int) -> Side:
    own = answers.is_canary == side
    return Side(int(own.sum()), int(np.isnan(answers.score[own]).sum()), int(told.used[own].sum()))


def _leans(is_canary: Ints, unscored: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> bool:
    """Whether answers of one release lack their score more often, by Fisher's exact test."""
    if not unscored.any():
        return False
    from scipy import stats

    table = [[int((unscored[is_canary == side] == lost).sum()) for lost in (True, False)] for side in (0, 1)]
    return bool(stats.fisher_exact(table).pvalue < LEANS)


def _worst(answers: Answers) -> dict[Kind, Blocks]:
    """The blocks with every missing score at the value that speaks most against a verdict."""
    missing, canary = np.isnan(answers.score), answers.is_canary == 1
    kind: dict[Kind, Floats] = {"roll_back": canary.astype(float), "promote": (~canary).astype(float)}
    return {name: blocks_of(answers, np.where(missing, filled, answers.score)) for name, filled in kind.items()}


class _Evidence:
    """The wealth of both gamblers, on the blocks as scored and, where much is missing, on the worst that they could be."""

    def __init__(self, rule: CanaryRule, told: Blocks, worst: dict[Kind, Blocks] | None) -> None:
        self._rule, self._told = rule, told
        self._blocks: dict[Kind, list[Blocks]] = {
            kind: [told, *([worst[kind]] if worst else [])] for kind in ("roll_back", "promote")
        }
        self._paths = {kind: [self._path(kind, blocks) for blocks in each] for kind, each in self._blocks.items()}

    def _numbers(self, kind: Kind, blocks: Blocks) -> tuple[Floats, float]:
        """What is staked on, and the mean that it is staked to be above."""
        return (blocks.loss, 0.0) if kind == "roll_back" else (-blocks.loss, -self._rule.tolerance)

    def _path(self, kind: Kind, blocks: Blocks) -> Floats:
        return sequences.path(*self._numbers(kind, blocks))

    def verdict(self) -> tuple[Kind, int | None]:
        """The verdict that came first, and the number of answers until then."""
        when = {kind: self._passed(kind) for kind in self._paths}
        reached = [(after, kind) for kind, after in when.items() if after is not None]
        if not reached:
            return "wait", None
        after, kind = min(reached, key=lambda each: each[0])
        return kind, after

    def _passed(self, kind: Kind) -> int | None:
        """The number of answers after which every wealth on `kind` has passed its bound; None: it has not."""
        last = 0
        for wealth, blocks in zip(self._paths[kind], self._blocks[kind], strict=True):
            over = np.flatnonzero(wealth >= math.log(self._rule.bound))
            if not len(over):
                return None
            last = max(last, int(blocks.end[over[0]]) + 1)
        return last

    def wealth(self, kind: Kind, stop: int) -> float:
        """The logarithm of the least wealth on `kind` after `stop` answers."""
        done = [wealth[blocks.end < stop] for wealth, blocks in zip(self._paths[kind], self._blocks[kind], strict=True)]
        return min(float(each[-1]) if len(each) else 0.0 for each in done)

    def estimates(self, stop: int) -> tuple[Estimate, Estimate, Estimate]:
        """Loss, baseline and canary over the blocks until then."""
        inside = self._told.end < stop
        base, canary, loss = self._told.baseline[inside], self._told.canary[inside], self._told.loss[inside]
        n, how = len(loss), "blocks of answers that were given side by side"
        if not n:
            nothing = Estimate(None, None, 0, f"{how}: there is none yet")
            return nothing, nothing, nothing
        ends = self._ends(stop)
        level = f"{100 * (1 - 2 * self._rule.alpha):g} % confidence sequence by betting"
        missing = ", whatever the missing scores are" if len(self._blocks["promote"]) > 1 else ""
        return (
            Estimate(float(loss.mean()), ends, n, f"loss over {how}, {level}{missing}"),
            Estimate(float(base.mean()), None, n, f"mean over {how}"),
            Estimate(float(canary.mean()), None, n, f"mean over {how}"),
        )

    def _ends(self, stop: int) -> tuple[float, float]:
        harm, well = ([b.loss[b.end < stop] for b in self._blocks[kind]] for kind in ("roll_back", "promote"))
        alpha = self._rule.alpha
        return min(sequences.lower(x, alpha) for x in harm), max(-sequences.lower(-x, alpha) for x in well)

    def looks(self, stop: int) -> tuple[Look, ...]:
        """How the interval tightened, at numbers of blocks that grow by a constant factor; as scored."""
        ends, loss = self._told.end[self._told.end < stop], self._told.loss
        if len(ends) < 2:
            return ()
        sizes = np.unique(np.geomspace(1, len(ends), POINTS).astype(int)).tolist()
        means = np.cumsum(loss) / np.arange(1, len(loss) + 1)
        rows = [(size, *sequences.interval_fast(loss[:size], self._rule.alpha)) for size in sizes]
        return tuple(Look(int(ends[b - 1]) + 1, b, float(means[b - 1]), low, high) for b, low, high in rows)

    def needed(self, kind: Kind, loss: float, answers: Answers) -> Needed:
        """Blocks, and scored answers of each release, until the verdict `kind` should the true loss be this."""
        parts = [self._blocks_needed(kind, loss, blocks) for blocks in self._blocks[kind]]
        if any(part is None for part in parts):
            return Needed(None, None, None)
        blocks = max(part for part in parts if part is not None)
        done, used = max(len(self._told.end), 1), self._told.used
        shares = [int(used[answers.is_canary == side].sum()) / done if len(self._told.end) else 1.0 for side in (0, 1)]
        return Needed(blocks, math.ceil(blocks * shares[0]), math.ceil(blocks * shares[1]))

    def _blocks_needed(self, kind: Kind, loss: float, blocks: Blocks) -> int | None:
        told = self._told.loss if len(self._told.end) else np.zeros(0)
        lost = float(blocks.loss.mean() - told.mean()) if len(told) and len(blocks.end) else 0.0
        spread = np.concatenate([told - told.mean() if len(told) else told, PRIOR])
        likely = np.clip(spread + loss + lost, -1, 1)
        sign, against = (1, 0.0) if kind == "roll_back" else (-1, -self._rule.tolerance)
        growth = sequences.log_wealth(sign * likely, against).mean(0)
        numbers, mean = self._numbers(kind, blocks)
        start = sequences.log_wealth(numbers, mean).sum(0) if len(numbers) else np.zeros(len(growth))
        return _first_reached(lambda n: bool(sequences.mixed(start + n * growth) >= math.log(self._rule.bound)))


def _first_reached(reached: Callable[[int], bool]) -> int | None:
    """The smallest number for which it is reached, by doubling and halving; None beyond `MOST_BLOCKS`."""
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_BLOCKS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return 0 if reached(0) else high
