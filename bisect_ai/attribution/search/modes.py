"""How named axes act: each alone, only together, or either is enough; unsettled where that was not measured.

**The queries that an axis moved** say most for least. Where reverting an axis a moved a query, introducing a set G that holds a moves
it as well if a needs no axis outside of G to cost something, and does not if it needs one. So x = y(F-a) - y(F), t = y(0) - y(G), and
the mean of t - x/2 over these queries is half of what a costs, or minus half. G = {a}: whether it acts alone, whoever its partner is.
What an axis shuffles cancels, as queries that it moved up and down are both looked at; these are chosen by x alone, so t is heard
without a bend. They enter no other mean.

**Means over all queries**: what axes cost one by one, added up and divided by what they cost in all, is the number of axes where they
act only together, 1 where each acts alone, 0 where either is enough (reverted; introduced, the first and the last change places). The
sum less an edge times the whole is a mean over the same queries, so the loss itself need not be known well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from bisect_ai.attribution.problem import Ints, Mode, Problem, mask
from bisect_ai.attribution.search.query_rows import MOVED, NOTHING, Mean, QueryRows

# Cell to its weight.
Contrast = dict[int, float]
# How the axes act where their sum is small, and where it is large.
Ways = tuple[Mode, Mode]
COARSE = 1.5  # times the error of the most precise evidence from which on evidence does not count
FEWEST_PAIRED = 8  # queries below which nothing is said
PLAIN_APART = (
    2.0  # standard errors from the edge between two ways at which it is settled: three kinds of evidence are looked at
)
FEWEST_MOVED = 6  # queries that moved below which nothing is said
ENOUGH_MOVED = 12  # of these that ran in the good release, from which on no further query runs there for this
AGREES = 1.0  # the same at which it agrees that several axes act alone (of 48 runs on a lesser pair 2 said so with 0, seeds 700 to 715)
MOVED_APART = 2.0  # standard errors from the middle at which it is settled
# Queries that are looked at in one go: with 8 two that act together take as many calls, and a tenth more time at 64 calls at once.
BATCH = 12
MOST, MOST_EACH = 72, 48  # in all, divided by the number of named axes, and for one set
UNDOUBTED = 16  # for one axis where no other is likely to act with it

Group = tuple[int, ...]
ADDED_UP = 1.0  # standard errors below the least part by which what several bring back exceeds their sum at most


class Acting(NamedTuple):
    """How named axes act, as far as it is known."""

    alone: frozenset[int] = frozenset()
    # Axes that act jointly and need nobody else.
    joint: tuple[tuple[Group, Mode], ...] = ()
    # Axes that act with others, none of whom is likely to be named.
    partial: frozenset[int] = frozenset()

    @property
    def settled(self) -> frozenset[int]:
        """The axes of which it is known how they act."""
        return self.alone.union(*(group for group, _ in self.joint))


class OwnCost:
    """Sets of named axes beside the other release, on the queries that one of them moved."""

    def __init__(
        self, rows: QueryRows, proved_by: Callable[[int], Sequence[str]], pairs: Callable[[str, int], list[tuple[int, int]]]
    ) -> None:
        self._rows = rows
        # The cells whose difference a question is about.
        self._pairs = pairs
        # The questions that proved an axis.
        self._proved_by = proved_by
        # Trials asked for by when the last of these is.
        self._until = 0

    def look(self, named: Collection[int], *, doubted: bool) -> bool:
        """Queue the next set on queries that moved; False once it is settled, or cannot be.

        `doubted`: of some axis it is not excluded that it acts with them.
        """
        if len(named) == self._rows.problem.k:
            return False
        if not doubted and len(named) == 2 and mode_of(self._rows, named) in ("together", "either"):
            return False  # all queries tell it
        most = min(MOST_EACH, MOST // len(named)) if doubted or len(named) > 1 else UNDOUBTED
        if queued := sum(self._queue(axis, group, most) for axis, group in self._wanted(named, {})) > 0:
            self._until = self._rows.spent + self._rows.queued
        return queued

    @property
    def under_way(self) -> bool:
        """Whether anything that was queued here is under way; outcomes are told in the order of asking."""
        return self._rows.out > 0 and self._rows.spent - self._rows.out < self._until

    def acting(self, named: Collection[int]) -> Acting:
        """How the named axes act."""
        return self._rows.once(("acting", frozenset(named)), lambda: self._acting(named))

    def _acting(self, named: Collection[int]) -> Acting:
        found: dict[Group, Mode] = {}
        asked = list(self._wanted(named, found))
        likely = [group for lead, group in asked if len(group) > 1 and self._mean(lead, group).z > 0]
        # What is seen only where others are reverted may be enough like one of them, though it needs nobody.
        alone = frozenset(a for a in named if self._verdict(a, (a,)) > 0 and "reverted" in self._proved_by(a))
        with_others = frozenset(a for a in named if self._verdict(a, (a,)) < 0)
        return Acting(alone, tuple(found.items()), with_others.difference(*found, *likely))

    def pair_acts(self, pair: Group, apart: float) -> Mode | None:
        """How two axes act; None: neither the queries that they moved nor all of them tell it."""
        acting = self.acting(pair)
        told: Mode | None = "alone" if acting.alone.issuperset(pair) else dict(acting.joint).get(pair)
        return told or mode_of(self._rows, pair, apart)

    def contradicts(self, modes: Sequence[tuple[Group, Mode]]) -> bool:
        """Whether the queries that moved rather say otherwise than that the axes act like this."""
        least = AGREES if len(modes) > 1 else 0.0  # beside several, means over all queries tell "alone" badly
        alone = [self._mean(a, (a,)) for axes, mode in modes if mode == "alone" for a in axes]
        joint = [axes for axes, mode in modes if mode == "together"]
        against = [self._mean(a, (a,)).z > 0 for axes in joint for a in axes] + [
            self._mean(axes[0], axes).z < 0 for axes in joint
        ]
        return any(against) or any(m.n > 0 and m.z < least for m in alone)

    def _wanted(self, named: Collection[int], found: dict[Group, Mode]) -> Iterator[tuple[int, Group]]:
        """What is to be looked at, in order, by what is known so far; the sets that need nobody else are put into `found`."""
        rest = sorted(a for a in named if self._runs_apart(a))
        while rest:
            lead, *rest = rest
            yield lead, (lead,)
            if self._verdict(lead, (lead,)) >= 0:
                continue
            others = [b for b in rest if len(self._moved(b)) and self._verdict(b, (b,)) <= 0]
            for group in (*((lead, b) for b in others), *([(lead, *others)] if len(others) == 2 else [])):
                yield lead, group
                if self._verdict(lead, group) > 0:
                    found[group] = "together"
                    rest = [b for b in rest if b not in group]
                    break

    def _runs_apart(self, axis: int) -> bool:
        """Whether it needs no other axis, and none needs it."""
        p = self._rows.problem
        return p.reverting([axis]) == 1 << axis == p.introduced_pair(axis)[1]

    def _verdict(self, axis: int, group: Group) -> int:
        """1: it needs nobody outside of the group; -1: it does; 0: not known."""
        z = self._mean(axis, group).z
        return 0 if abs(z) < MOVED_APART else 1 if z > 0 else -1

    def _mean(self, axis: int, group: Group) -> Mean:
        return self._rows.once(("own", axis, group), lambda: self._mean_of(axis, group))

    def _mean_of(self, axis: int, group: Group) -> Mean:
        """The mean of t - x/2."""
        rows, queries, seen = self._rows, self._known(axis, group), self._seen(axis)
        if len(queries) < FEWEST_MOVED or seen is None:
            return NOTHING
        high, low = seen
        x, t = (
            rows.scores(high, queries) - rows.scores(low, queries),
            rows.scores(0, queries) - rows.scores(mask(group), queries),
        )
        return rows.mean_of(queries, (t - x / 2) * (1.0 if rows.problem.weights is None else rows.problem.weights[queries]))

    def _queue(self, axis: int, group: Group, most: int) -> bool:
        rows, known = self._rows, set(self._known(axis, group).tolist())
        seen = self._seen(axis)
        if self._verdict(axis, group) or len(known) >= most or seen is None:
            return False
        moved = self._moved(axis)
        fresh = [int(q) for q in moved if int(q) not in known]
        ready = fresh[: min(BATCH, most - len(known))] if len(moved) >= FEWEST_MOVED else []
        if rows.advise(ready, mask(group), why=MOVED):
            return True
        return len(moved) < ENOUGH_MOVED and rows.fill(self._next_in_good(seen, ENOUGH_MOVED - len(moved)), 0, awaited=False)

    def _next_in_good(self, seen: tuple[int, int], wanted: int) -> list[int]:
        """Queries to run in the good release, of all that ran, moved or not: else what other means hear of good were bent."""
        done = set(self._rows.returned(0).tolist())
        queries, x = self._rows.differences(*seen)
        more = [(int(q), bool(moved)) for q, moved in zip(queries, x != 0, strict=True) if int(q) not in done]
        enough = next((i for i, n in enumerate(accumulate(moved for _, moved in more), 1) if n >= wanted), len(more))
        return [q for q, _ in more[: BATCH * math.ceil(enough / BATCH)]]

    def _seen(self, axis: int) -> tuple[int, int] | None:
        """The (good, bad) cells that proved what reverting it brings back; None: something else was proved."""
        return next((self._pairs(f, axis)[0] for f in ("reverted", "further") if f in self._proved_by(axis)), None)

    def _moved(self, axis: int) -> Ints:
        """The queries that reverting it moved, which ran in the good release."""
        seen = self._seen(axis)
        if seen is None:
            return np.zeros(0, int)
        queries, x = self._rows.differences(*seen)
        return np.asarray(np.intersect1d(queries[x != 0], self._rows.ran(0)))

    def _known(self, axis: int, group: Group) -> Ints:
        """Those of them that ran with the group alone."""
        heard = np.union1d(self._rows.ran(mask(group)), self._rows.chosen(mask(group), why=MOVED))
        return np.asarray(np.intersect1d(self._moved(axis), heard))


def how_named_act(rows: QueryRows, named: Group, own: OwnCost, *, may_join: bool) -> list[tuple[Group, Mode]]:
    """The named axes in groups, with how each acts: as the queries that they moved say, else as all do where nothing is against it.

    `may_join`: of some axis that is not named it is not excluded that it acts with one that is.
    """
    if _is_chain(rows.problem, named):
        return [((a,), "alone") for a in named]
    acting = own.acting(named)
    known: list[tuple[Group, Mode]] = [*(((a,), "alone") for a in sorted(acting.alone)), *acting.joint]
    rest = tuple(a for a in named if a not in acting.settled)
    if not rest:
        return known
    modes = _by_all(rows, named, may_join=may_join)
    if own.contradicts(modes) or (known and modes[0][1] != "alone"):
        return [*known, (rest, "unsettled")]
    return [*known, *((axes, mode) for axes, mode in modes if set(axes) <= set(rest))]


def _by_all(rows: QueryRows, named: Group, *, may_join: bool) -> list[tuple[Group, Mode]]:
    """How they act by means over all queries."""
    acts: Mode | None = "alone"
    if len(named) > 1:
        paired = all(rows.problem.reverting([a]) == 1 << a for a in named)
        acts = (mode_of(rows, named) if paired else None) or _by_parts(rows, named)
    if acts == "alone" and not may_join and (len(named) == 1 or adds_up(rows, named, ADDED_UP)):
        return [((a,), "alone") for a in named]
    return [(named, "unsettled" if acts in (None, "alone") else acts)]


def _by_parts(rows: QueryRows, named: Group) -> Mode | None:
    """The same where no sum over the same queries tells it: each part over all of its own queries, one standard error from the edge."""
    p, full, count = rows.problem, rows.problem.full, len(named)
    single = [rows.mean(*p.reverted_pair(a)) for a in named]
    needy = any(p.needs)  # then what is left without an axis lacks what needs it as well
    left = single if needy else [rows.mean(0, full & ~(1 << a)) for a in named]
    both, loss = rows.mean(full & ~p.reverting(named), full), rows.mean(0, full)
    whole = loss if loss.error < both.error or both.n < FEWEST_PAIRED else both
    if min(m.n for m in (*single, *left)) < FEWEST_PAIRED or whole.value <= 0:
        return None
    brought, short = (sum(m.value for m in means) / whole.value for means in (single, left))
    errors = [
        math.hypot(*(m.error for m in means), share * whole.error) / whole.value
        for means, share in ((single, brought), (left, short))
    ]
    share, error = (brought, errors[0]) if needy or errors[0] <= errors[1] else (count - short, errors[1])
    edges = (0.5, 0.5 * (1 + count))
    if min(abs(share - edge) for edge in edges) < error:
        return None
    return "together" if share > edges[1] else "either" if share < edges[0] else "alone"


def _is_chain(p: Problem, named: Group) -> bool:
    """Whether they are two, one of which needs the other: then each is measured where the other is not in play, and they add up."""
    return len(named) == 2 and any(p.reverting([a]) >> b & 1 for a, b in (named, named[::-1]))


def mode_of(rows: QueryRows, named: Iterable[int], apart: float = PLAIN_APART) -> Mode | None:
    """How the axes act, by what tells it best: a sum over the same queries, or each part over all of its own.

    What is much less precise than the best does not count: it is of few queries, often because a question that looked poor was left
    early, which bends it. None: no evidence is `apart` standard errors from the edge between two ways.
    """
    named, full = sorted(named), rows.problem.full
    without = [full & ~(1 << a) for a in named]
    within = [1 << a for a in named]
    back = full & ~sum(within)
    reverted: Ways = ("either", "together")
    introduced: Ways = ("together", "either")
    found = [
        _side(rows.contrast, _parts(without, full), {0: 1.0, full: -1.0}, reverted, apart),
        _side(rows.contrast, _parts(without, full), {back: 1.0, full: -1.0}, reverted, apart),
        _side(rows.contrast, _parts(within, 0, -1.0), {0: 1.0, full: -1.0}, introduced, apart),
        _side(partial(_from, full, rows), _parts(without, full), {0: 1.0, full: -1.0}, reverted, apart),
        _side(partial(_from, 0, rows), _parts(within, 0, -1.0), {0: 1.0, full: -1.0}, introduced, apart),
    ]
    least = min((x[0] for x in found if x is not None), default=0.0)
    return max((x[1:] for x in found if x is not None and x[0] <= COARSE * least), default=(0.0, None), key=lambda x: x[0])[1]


def adds_up(rows: QueryRows, named: Sequence[int], apart: float) -> bool:
    """Whether reverting all of these axes was measured to bring back what reverting each alone does, added up, or hardly less.

    Two of them that act only together bring as much back each as both: the sum is more by the least part, or by a larger one. The
    whole loss does not tell that, as axes that are not named may have a part of it. An axis that others need is reverted where these
    are, too.
    """
    p, full = rows.problem, rows.problem.full
    pairs = [p.reverted_pair(a) for a in named]
    least = min(rows.mean(*pair).value for pair in pairs)
    parts: Counter[int] = Counter()
    for without, beside in pairs:
        parts.update({without: 1})
        parts.subtract({beside: 1})
    contrast = _less(dict(parts), {full & ~p.reverting(named): 1.0, full: -1.0}, 1.0)
    found = [m for m in (rows.contrast(contrast), _from(full, rows, contrast)) if m.n >= FEWEST_PAIRED]
    excess = min(found, key=lambda m: m.error, default=NOTHING)
    return excess.value + apart * excess.error < least


def _side(
    mean: Callable[[Contrast], Mean], parts: Contrast, whole: Contrast, ways: Ways, apart: float
) -> tuple[float, float, Mode | None] | None:
    """The error of where the parts lie, how far from the nearer of two edges in standard errors, and on which sides of them."""
    count = len(parts) - 1
    means = [mean(_less(parts, whole, edge)) for edge in (0.5, 0.5 * (1 + count))]
    if means[0].n < FEWEST_PAIRED:
        return None
    (below, above), error = (m.z for m in means), max(m.error for m in means)
    if below < -apart:
        return error, -below, ways[0]
    if above > apart:
        return error, above, ways[1]
    return (error, min(below, -above), "alone") if below > apart and above < -apart else (error, 0.0, None)


def _from(hub: int, rows: QueryRows, contrast: Contrast) -> Mean:
    """A contrast of cells, of each its difference from the cell `hub` over all queries that ran in both."""
    means = [(w, rows.mean(cell, hub)) for cell, w in contrast.items() if cell != hub and w]
    error = math.hypot(*(w * m.error for w, m in means)) if all(m.n for _, m in means) else math.inf
    return Mean(sum(w * m.value for w, m in means), error, min(m.n for _, m in means))


def _parts(cells: list[int], beside: int, sign: float = 1.0) -> dict[int, float]:
    """The contrast of cells with one other, added up."""
    return {**dict.fromkeys(cells, sign), beside: -sign * len(cells)}


def _less(parts: dict[int, float], whole: dict[int, float], edge: float) -> dict[int, float]:
    return {cell: parts.get(cell, 0.0) - edge * whole.get(cell, 0.0) for cell in {**parts, **whole}}
