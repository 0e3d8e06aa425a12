"""Where the loss sits: effects per given segment, a search for slices that nobody thought of, and how many queries were hit.

The search works on *conditions*, yes-or-no facts about a query ("intent = refund", "input has 'invoice'"). A regression tree
(Breiman et al. 1984) fitted on a random half of the queries proposes conjunctions of them that lose more than the rest, and so
does a look at all pairs, since a tree's first split sees one condition at a time. The other half, which had no part in it, says
whether that holds, by a permutation test of the slice's loss against that of all other queries. Then the halves change places.
All proposals of both halves share one error budget (Holm 1979), so that with nothing planted a slice is named in 5 of 100 logs
at most. Losses that all queries share are no slice.

How many queries of a window an incident probably hit, those that were replayed tell of those that were not, group by group. A
group's share of hits is drawn towards that of the coarser group around it, as if STRENGTH queries more had behaved like that one
(an empirical Bayes estimate; Efron and Morris 1975). Hits by chance are seen as often as gains by chance, so gains count against hits.
The total's interval is that of draws from the shares' posterior, group by group from the coarsest (Beta, Jeffreys' prior on top), and
of the hits given the shares: what errs in a coarse group errs in all that lean on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bisect_ai.attribution.problem import Estimate, Floats, Ints, cluster_numbers
from bisect_ai.attribution.stats.inference import ScoreTable, estimate, holm, t_tail

Flags = NDArray[np.bool_]
# Conditions of a slice, the most: the depth of the trees that propose them.
DEEPEST = 3
# Slices that each half may propose.
PROPOSALS = 3
# Queries of a slice, the fewest, in number and as a part of its half.
SMALLEST, SMALLEST_SHARE = 4, 0.02
# Queries below which no slice is looked for.
FEWEST = 40
# Random draws behind a p-value: the smallest is then 1 in 2,000.
PERMUTATIONS = 1999
# A condition stays in a slice when it raises the slice's score by more than this leaves room for.
SIMPLER = 0.85


@dataclass(frozen=True)
class Condition:
    """A yes-or-no fact about queries: which column says it, in words, and whether the slice has it or lacks it."""

    column: str
    text: str
    value: str | float | bool
    members: Flags


@dataclass(frozen=True)
class Paired:
    """Queries with the score of both releases; higher is better."""

    good: Floats
    bad: Floats
    weights: Floats
    clusters: Ints

    @property
    def losses(self) -> Floats:
        """(n,) good minus bad."""
        return np.asarray(self.good - self.bad)

    def of(self, members: Flags) -> ScoreTable:
        """The members' scores as a table of two cells."""
        scores = np.column_stack([self.good, self.bad])[members]
        return ScoreTable(scores, self.weights[members], cluster_numbers(self.clusters, members), float("inf"))


@dataclass(frozen=True)
class Segment:
    """A part of the queries and what it loses, in score points."""

    name: str
    found_by: Literal["given", "search"]
    where: Mapping[str, str | float | bool]
    share: float
    good: float
    bad: float
    loss: Estimate
    p_adjusted: float | None


@dataclass(frozen=True)
class _Slice:
    """A conjunction of conditions, each with whether it must hold."""

    conditions: tuple[tuple[int, bool], ...]

    def members(self, known: Sequence[Condition]) -> Flags:
        flags = [known[i].members == holds for i, holds in self.conditions]
        return np.logical_and.reduce(flags) if flags else np.ones(len(known[0].members), bool)


def get_ready() -> None:
    """Import what slices are found with: a second, which a run has while it waits for answers and not at its end."""
    with suppress(ImportError):  # it may have been left out: who needs it says so
        import sklearn.tree  # noqa: F401


def given_segments(column: str, labels: Sequence[str], paired: Paired) -> list[Segment]:
    """The loss of every segment with two queries or more, worst first; p-values of "loses nothing", adjusted by Holm."""
    names = np.array(labels, dtype=object)
    found = [(label, flags) for label in sorted(set(labels)) if (flags := np.asarray(names == label)).sum() >= 2]
    adjusted = holm([_p_of_loss(paired, flags) for _, flags in found]) if found else []
    rows = [
        _estimated_segment(f"{column} = {label}", "given", {column: label}, paired, flags, flags, p)
        for (label, flags), p in zip(found, adjusted, strict=True)
    ]
    return sorted(rows, key=lambda s: (-(s.loss.value or 0.0), s.name))


def find_slices(conditions: Sequence[Condition], paired: Paired, *, tolerance: float, alpha: float, seed: int) -> list[Segment]:
    """Slices that lose more than the other queries, worst first; none when nothing was confirmed."""
    n = len(paired.good)
    if n < FEWEST or not conditions or not paired.losses.any():
        return []
    rng = np.random.default_rng([seed, 7])
    halves = _two_halves(paired.clusters, rng)
    tests = [(s, held) for fit, held in (halves, halves[::-1]) for s in _proposed_slices(conditions, paired, fit)]
    if not tests:
        return []
    p_values = holm([_p_of_excess(s.members(conditions), held, paired, rng) for s, held in tests])
    confirmed: dict[_Slice, tuple[float, Flags]] = {}
    for (s, held), p in zip(tests, p_values, strict=True):
        if p <= alpha:
            before = confirmed.get(s)
            confirmed[s] = (min(p, before[0]), before[1] | held) if before else (p, held)
    chosen = _distinct_slices(confirmed, conditions, paired, alpha, rng)
    told = [_found_segment(s, conditions, paired, *confirmed[s]) for s in chosen]
    worth = [segment for segment in told if (segment.loss.value or 0.0) > tolerance]
    return sorted(worth, key=lambda segment: (-(segment.loss.value or 0.0), segment.name))


def _distinct_slices(
    confirmed: Mapping[_Slice, tuple[float, Flags]],
    conditions: Sequence[Condition],
    paired: Paired,
    alpha: float,
    rng: np.random.Generator,
) -> list[_Slice]:
    """The confirmed slices from the clearest on, each only if it still loses more once the queries of those before are left out."""
    clearest = {s: _stands_out(s.members(conditions), paired.losses) * SIMPLER ** len(s.conditions) for s in confirmed}
    taken = np.zeros(len(paired.good), bool)
    kept: list[_Slice] = []
    for s in sorted(confirmed, key=lambda s: (-clearest[s], s.conditions)):
        members = s.members(conditions)
        if not kept or _p_of_excess(members, confirmed[s][1] & ~taken, paired, rng) <= alpha / 2:
            kept.append(s)
            taken |= members
    return kept


def _two_halves(clusters: Ints, rng: np.random.Generator) -> tuple[Flags, Flags]:
    """Two halves that share no cluster."""
    first = rng.permutation(int(clusters.max()) + 1) % 2 == 0
    chosen = np.asarray(first[clusters])
    return chosen, ~chosen


def _proposed_slices(conditions: Sequence[Condition], paired: Paired, fit: Flags) -> list[_Slice]:
    """The slices that stand out most in a half, by a tree, each stripped of conditions that it can do without."""
    facts = np.column_stack([c.members for c in conditions])[fit]
    paths = [*_tree_paths(facts, paired.losses[fit]), *_outstanding_pairs(facts, paired.losses[fit])]
    known = [Condition(c.column, c.text, c.value, c.members[fit]) for c in conditions]
    score = {
        s: _stands_out(s.members(known), paired.losses[fit])
        for s in {_stripped_slice(p, known, paired.losses[fit]) for p in paths}
    }
    best = sorted((s for s in score if score[s] > 1.0), key=lambda s: (-score[s], s.conditions))
    return best[:PROPOSALS]


def _tree_paths(facts: Flags, losses: Floats) -> list[_Slice]:
    """The way to every node of a regression tree as a conjunction."""
    from sklearn.tree import DecisionTreeRegressor

    smallest = max(SMALLEST, int(SMALLEST_SHARE * len(losses)))
    tree = DecisionTreeRegressor(max_depth=DEEPEST, min_samples_leaf=smallest, random_state=0).fit(facts, losses).tree_
    paths: list[_Slice] = []

    def walk(node: int, path: tuple[tuple[int, bool], ...]) -> None:
        if path:
            paths.append(_Slice(path))
        if tree.children_left[node] >= 0:
            feature = int(tree.feature[node])
            walk(int(tree.children_left[node]), (*path, (feature, False)))
            walk(int(tree.children_right[node]), (*path, (feature, True)))

    walk(0, ())
    return paths


def _outstanding_pairs(facts: Flags, losses: Floats) -> list[_Slice]:
    """The pairs of conditions that stand out most."""
    counts = facts.astype(float).T @ facts.astype(float)
    sums = facts.astype(float).T @ (facts * (losses - losses.mean())[:, None])
    smallest = max(SMALLEST, int(SMALLEST_SHARE * len(losses)))
    usable = np.triu(counts >= smallest, 1) & (counts < len(losses))
    score = np.where(usable, sums / np.sqrt(np.maximum(counts * (1 - counts / len(losses)), 1e-9)), -np.inf)
    best = np.argsort(-score, axis=None, kind="stable")[: 3 * PROPOSALS]
    found = [np.unravel_index(int(place), score.shape) for place in best if np.isfinite(score.flat[place])]
    return [_Slice(((int(i), True), (int(j), True))) for i, j in found]


def _stripped_slice(path: _Slice, known: Sequence[Condition], losses: Floats) -> _Slice:
    """The slice without the conditions that hardly raise its score, in a canonical order."""
    current = tuple(sorted(path.conditions))
    while len(current) > 1:
        score = _stands_out(_Slice(current).members(known), losses)
        fewer = [tuple(c for c in current if c != left_out) for left_out in current]
        best = max(fewer, key=lambda c: _stands_out(_Slice(c).members(known), losses))
        if _stands_out(_Slice(best).members(known), losses) < SIMPLER * score:
            break
        current = best
    return _Slice(current)


def _stands_out(members: Flags, losses: Floats) -> float:
    """How many standard errors (of all losses' spread) the members lose more than the others."""
    inside = int(members.sum())
    outside = len(members) - inside
    spread = float(losses.std())
    if not inside or not outside or spread == 0:
        return 0.0
    excess = float(losses[members].mean() - losses[~members].mean())
    return excess / (spread * math.sqrt(1 / inside + 1 / outside))


def _p_of_excess(members: Flags, held: Flags, paired: Paired, rng: np.random.Generator) -> float:
    """One-sided p-value, on the held-out half, of "members lose no more than others"."""
    inside, losses, groups = members[held], paired.losses[held], cluster_numbers(paired.clusters, held)
    if not inside.any() or inside.all():
        return 1.0
    if int(groups.max()) + 1 < len(groups):
        return _p_by_clusters(inside, losses, groups)
    drawn = _drawn_sums(losses, int(inside.sum()), rng)
    return float((1 + (drawn >= losses[inside].sum() - 1e-12).sum()) / (PERMUTATIONS + 1))


def _drawn_sums(losses: Floats, size: int, rng: np.random.Generator) -> Floats:
    """(PERMUTATIONS,) sums of `size` losses drawn without replacement; of a few values by counts, which is faster."""
    values, counts = np.unique(losses, return_counts=True)
    if len(values) <= 9:  # pass or fail, or grades of a few levels
        return np.asarray(rng.multivariate_hypergeometric(counts, size, PERMUTATIONS) @ values)
    return np.asarray(rng.permuted(np.tile(losses, (PERMUTATIONS, 1)), axis=1)[:, :size].sum(1))


def _p_by_clusters(inside: Flags, losses: Floats, groups: Ints) -> float:
    """The same by a cluster-robust t test: queries of one cluster cannot be exchanged with those of others."""
    share_in, share_out = inside / inside.sum(), ~inside / (~inside).sum()
    means = share_in @ losses, share_out @ losses
    influence = share_in * (losses - means[0]) - share_out * (losses - means[1])
    summed = np.bincount(groups, influence)
    error = float(np.sqrt((summed**2).sum() * len(summed) / max(len(summed) - 1, 1)))
    inner = len(np.unique(groups[inside]))
    return t_tail((means[0] - means[1]) / error, max(inner - 1, 1)) if error else 1.0


def _found_segment(found: _Slice, conditions: Sequence[Condition], paired: Paired, p: float, held: Flags) -> Segment:
    members = found.members(conditions)
    parts = [(conditions[i], holds) for i, holds in found.conditions]
    name = " and ".join(c.text if holds else f"not {c.text}" for c, holds in parts)
    where = {c.column if holds else f"not {c.column}": c.value for c, holds in parts}
    return _estimated_segment(name, "search", where, paired, members, members & held, p)


def _estimated_segment(
    name: str,
    found_by: Literal["given", "search"],
    where: Mapping[str, str | float | bool],
    paired: Paired,
    members: Flags,
    measured: Flags,
    p: float,
) -> Segment:
    """`measured`: the members that the estimate rests on (for a found slice, those that did not help to find it)."""
    table = paired.of(measured)
    what = "loss, held-out queries" if found_by == "search" else "loss"
    share = float(paired.weights[members].sum() / paired.weights.sum())
    means = table.means
    return Segment(
        name, found_by, where, share, float(means[0]), float(means[1]), estimate(table, np.array([1.0, -1.0]), what=what), p
    )


def _p_of_loss(paired: Paired, members: Flags) -> float:
    fit = paired.of(members).fit(np.array([1.0, -1.0]))
    return 1.0 if fit is None else fit.p


# Queries that the coarser group counts for: the weight of the prior, in queries.
STRENGTH = 2.0
# Draws that the interval is read from: some 12 of them lie beyond either end.
REPEATS = 500
# How much of a replayed query counts in the interval. Groups differ by more than the prior expects (with all of it,
# intervals that should hold 95 of 100 totals held 91 where groups are hit by 0 to 80 %; with a half, 97), and runs that meet
# many hits end early.
TRUST = 0.5
# The groups that a query is in, the coarsest first.
Path = tuple[Hashable, ...]


@dataclass(frozen=True)
class Hits:
    """The chance of each query that was not replayed to have been hit, and their expected number with its 95 % interval."""

    probabilities: Floats
    total: float
    # None: nothing was replayed.
    interval: tuple[float, float] | None
    replayed: int


@dataclass(frozen=True)
class ReplayedGroup:
    """What was replayed of a group: queries, and hits less gains."""

    n: int = 0
    hits: float = 0.0


def hits_among(outcomes: Floats, replayed: Sequence[Path], others: Sequence[Path], *, seed: int = 0) -> Hits:
    """What `outcomes` (n,) of the replayed queries, 1 hit, -1 gained, 0 neither, say of the others."""
    n = len(outcomes)
    if not n:
        return Hits(np.full(len(others), np.nan), math.nan, None, 0)
    found = _chances_by_group(outcomes, replayed, others)
    if not others:
        return Hits(found, 0.0, (0.0, 0.0), n)
    rng = np.random.default_rng([seed, 5])
    tally, wanted = groups_of(outcomes, replayed), Counter(others)
    totals = [_drawn_hits(tally, wanted, rng) for _ in range(REPEATS)]
    low, high = np.quantile(totals, [0.025, 0.975])  # the 95 % of every interval
    return Hits(found, float(found.sum()), (float(low), float(high)), n)


def groups_of(outcomes: Floats, replayed: Sequence[Path]) -> dict[Path, ReplayedGroup]:
    """The tally of every group, the empty path for all."""
    found: dict[Path, ReplayedGroup] = {}
    for outcome, path in zip(outcomes, replayed, strict=True):
        for depth in range(len(path) + 1):
            before = found.get(path[:depth], ReplayedGroup())
            found[path[:depth]] = ReplayedGroup(before.n + 1, before.hits + float(outcome))
    return found


def _drawn_hits(tally: Mapping[Path, ReplayedGroup], wanted: Mapping[Path, int], rng: np.random.Generator) -> float:
    """One draw of how many of the wanted queries were hit."""
    known = dict[Path, float]()

    def share(path: Path) -> float:
        if path not in known:
            group = tally.get(path, ReplayedGroup())
            above, strength = (share(path[:-1]), STRENGTH) if path else (0.5, 1.0)
            hits = min(max(group.hits, 0.0), group.n)
            missed = group.n - hits
            known[path] = float(
                rng.beta(TRUST * hits + strength * above + 1e-9, TRUST * missed + strength * (1 - above) + 1e-9)
            )
        return known[path]

    return float(sum(rng.binomial(n, share(path)) for path, n in wanted.items()))


def _chances_by_group(outcomes: Floats, replayed: Sequence[Path], others: Sequence[Path]) -> Floats:
    tally, known = groups_of(outcomes, replayed), dict[Path, float]()

    def chance(path: Path) -> float:
        if path not in known:
            group = tally.get(path, ReplayedGroup())
            above, strength = (chance(path[:-1]), STRENGTH) if path else (0.0, 0.0)
            known[path] = min(max((group.hits + strength * above) / (group.n + strength), 0.0), 1.0)
        return known[path]

    return np.array([chance(path) for path in others], float)
