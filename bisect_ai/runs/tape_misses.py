"""What the tape could not answer: tool calls of a replay to which nobody knows the result, by cell; and what may not be claimed then.

A trial that rests on such a call has no score: it is censored, like one whose call failed. Where they come mostly with one side of
some axes, the queries that are left there are no random part of the log, and a difference between the sides may be theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Attribution, Trial
from bisect_ai.runs.observations import Observations
from bisect_ai.targets.answer import MISSING

Side = Literal["good", "bad"]
# Difference of miss rates from which on it is told.
LEANS = 0.02
# Part of the loss that misses may be worth before a cause that they lean to is withheld.
NEGLIGIBLE = 0.1
# p-value of Fisher's exact test above which a lean may be chance.
DOUBT = 0.01
# First trials of a release that tell whether anything can be measured there.
ENOUGH = 40
# Share of them that rest on a miss: nothing can.
HOPELESS = 0.9
# Unanswered calls that are named, those that most queries asked for.
MOST_CALLS = 5
# Queries that are tried again with one axis on its other side, to tell which asks for what the log does not have.
PROBES = 8


@dataclass(frozen=True)
class Count:
    """Trials, and how many of them rest on a miss."""

    trials: int = 0
    missing: int = 0

    @property
    def rate(self) -> float:
        """The share that rests on a miss."""
        return self.missing / self.trials if self.trials else 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.trials + other.trials, self.missing + other.missing)


@dataclass(frozen=True)
class Lean:
    """Misses come with one side of these axes: `every` of them on it, or any; `told_apart`: other axes were seen not to be it."""

    axes: tuple[int, ...]
    side: Side
    there: Count
    elsewhere: Count
    told_apart: bool
    every: bool = True
    # Of the release on that side and of the other: inner cells may have been tried on the queries that miss.
    corners: tuple[Count, Count] = (Count(), Count())

    @property
    def rates(self) -> tuple[float, float]:
        """The shares of queries that rest on a miss there and elsewhere."""
        there, elsewhere = self.corners
        return (there if there.trials else self.there).rate, (elsewhere if elsewhere.trials else self.elsewhere).rate

    @property
    def difference(self) -> float:
        """How much more often queries rest on a miss there, as a share."""
        return self.rates[0] - self.rates[1]


@dataclass(frozen=True)
class MissedCall:
    """A tool call that the log does not have: the tool with its arguments' names, and how many queries asked for it."""

    tool: str
    signature: str
    queries: int


@dataclass(frozen=True)
class Tape:
    """What became of the tool calls of a run: by cell, by rule."""

    cells: Mapping[int, Count]
    lean: Lean | None
    calls: tuple[MissedCall, ...]
    # What answered calls that were not recorded as they were asked, to the number of calls.
    rules: Mapping[str, int]
    # The calls that were answered by those of another form.
    guessed: tuple[str, ...] = ()
    # Trials of sets of changes inside axes (of the queries that broke, where a fix is verified): they are in no cell of axes.
    inside: Count = Count()

    @property
    def whole(self) -> Count:
        """All trials."""
        return sum(self.cells.values(), Count())


def tape_of(
    seen: Observations, k: int, inside: Observations | None = None, *, chosen: Set[tuple[int, int]] = frozenset()
) -> Tape:
    """What the trials of `k` axes say of the tape, and those `inside` them.

    `chosen`: (query, cell) of trials on queries that had passed and failed, so none of them had missed: they do not say where misses
    come from.
    """
    called = seen.called
    cells = _counts_of(seen, called)
    random = (
        _counts_of(seen, [row for row in called if (seen.queries[row], seen.cells[row]) not in chosen]) if chosen else cells
    )
    rules: Counter[str] = Counter()
    queries: defaultdict[str, set[int]] = defaultdict(set)
    tables = [seen] if inside is None else [seen, inside]
    unusual = [(table.queries[row], calls) for table in tables for row, calls in table.unusual.items()]
    for query, calls in unusual:
        for answered, signature in calls:
            rules[answered] += answered != MISSING
            if answered == MISSING:
                queries[signature].add(query)
    ranked = sorted(queries.items(), key=lambda each: (-len(each[1]), each[0]))
    calls_ = tuple(MissedCall(name.partition("(")[0], name, len(asked)) for name, asked in ranked)
    guessed = {name for _, calls in unusual for rule, name in calls if rule not in (MISSING, "live", "stub")}
    told = {rule: n for rule, n in sorted(rules.items()) if n}
    own = Count() if inside is None else Count(len(inside.called), int(inside.missed[inside.called].sum()))
    return Tape(dict(sorted(cells.items())), find_lean(random, k), calls_, told, tuple(sorted(guessed)), own)


def _counts_of(seen: Observations, rows: Sequence[int]) -> dict[int, Count]:
    """The counts of these rows by cell."""
    missed = [row for row in rows if seen.fates[row].outcome == MISSING] if seen.has_misses else []
    missing = Counter(seen.cells[row] for row in missed)
    return {cell: Count(n, missing[cell]) for cell, n in Counter(seen.cells[row] for row in rows).items()}


def find_lean(cells: Mapping[int, Count], k: int) -> Lean | None:
    """The side of one axis, or of two together, that misses come with, by likelihood; None: they come anywhere, or hardly ever.

    Two axes must explain the counts better than one by what two more choices are worth (the BIC's half log n).
    """
    whole = sum(cells.values(), Count())
    if not whole.missing:
        return None
    found = [
        lean
        for axes, side, every in _axis_sides(k)
        if (lean := _split_counts(cells, axes, side, every, (1 << k) - 1)) is not None
    ]
    if not found:
        return None
    price = 0.5 * np.log(whole.trials)
    scores = [_likelihood_of(lean) - price * len(lean.axes) for lean in found]
    best = int(np.argmax(scores))
    lean = found[best]
    rivals = [
        other
        for other, score in zip(found, scores, strict=True)
        if len(other.axes) == len(lean.axes) and score > scores[best] - 2
    ]
    from scipy import stats  # half a second of its own

    table = [[count.missing, count.trials - count.missing] for count in (lean.there, lean.elsewhere)]
    if lean.difference < LEANS or stats.fisher_exact(table).pvalue > DOUBT:
        return None
    if len(rivals) == 1:
        return replace(lean, told_apart=True)
    same = sorted({axis for other in rivals if other.side == lean.side for axis in other.axes})
    return replace(lean, axes=tuple(same), every=True)


def _axis_sides(k: int) -> Iterable[tuple[tuple[int, ...], Side, bool]]:
    """(axes, side, whether every one of them is on it)."""
    sides: tuple[Side, Side] = "bad", "good"
    for size in (1, 2):
        for axes in combinations(range(k), size):
            yield from ((axes, side, every) for side in sides for every in (True, False)[:size])


def _split_counts(cells: Mapping[int, Count], axes: tuple[int, ...], side: Side, every: bool, full: int) -> Lean | None:
    """The counts with the axes on a side and without; None when there are none, or more misses without."""
    mask = sum(1 << axis for axis in axes)
    wanted = mask if side == "bad" else 0
    there, elsewhere = Count(), Count()
    for cell, count in cells.items():
        if cell & mask == wanted if every else cell & mask != mask - wanted:
            there += count
        else:
            elsewhere += count
    ends = cells.get(full, Count()), cells.get(0, Count())
    lean = Lean(axes, side, there, elsewhere, False, every, ends if side == "bad" else ends[::-1])
    return lean if there.trials and elsewhere.trials and there.rate > elsewhere.rate else None


def _likelihood_of(lean: Lean) -> float:
    from scipy.special import xlogy

    counts = (lean.there, lean.elsewhere)
    return float(sum(xlogy(c.missing, c.rate) + xlogy(c.trials - c.missing, 1 - c.rate) for c in counts))


def is_hopeless(seen: Observations, full: int) -> bool:
    """Whether one of the releases asks for what the log does not have in nearly every query: no more calls will tell a loss."""
    for cell in (0, full):
        fates = [o.missing for o in islice(seen.first(cell), ENOUGH)] if seen.has_misses else []
        if len(fates) == ENOUGH and sum(fates) >= HOPELESS * ENOUGH:
            return True
    return False


def probes(seen: Observations, k: int, *, most: int, chosen: Set[tuple[int, int]] = frozenset()) -> list[Trial]:
    """Trials, `most` at most, that tell which axes the misses come with: queries that miss, one axis on its other side."""
    lean, full = tape_of(seen, k, chosen=chosen).lean, (1 << k) - 1
    if lean is None or lean.told_apart or k < 2:
        return []
    corner = full if lean.side == "bad" else 0
    missed = [o.index for o in seen.first(corner) if o.missing][:PROBES]
    wanted = [Trial(query, corner ^ (1 << axis)) for axis in range(k) for query in missed]
    done = {(o.index, o.trial.cell) for axis in range(k) for o in seen.first(corner ^ (1 << axis), of=missed)}
    return [trial for trial in wanted if (trial.query, trial.cell) not in done][:most]


def is_held(found: Attribution, tape: Tape, names: Sequence[str]) -> bool:
    """Whether no cause may be claimed: misses lean to an axis of it, by more than a trifle beside the loss."""
    lean = tape.lean
    if lean is None or found.kind != "cause":
        return False
    blamed = {axis for cause in found.causes for axis in cause.axes}
    loss = found.loss.value
    small = loss is not None and lean.difference <= NEGLIGIBLE * loss
    return not small and any(names[axis] in blamed for axis in lean.axes)
