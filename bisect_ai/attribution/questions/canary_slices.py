"""The class of queries that broke: what each value of a column loses in a canary, and each combination of two or three values.

Every value, and every combination, that both releases answered often enough has an interval of its loss that holds at every look.
Values, pairs and triples share a third of `SURE` each, so that any of them is said to lose without losing with a chance of at most
`SURE`. Of all pairs, which are many, those whose plain means differ most are measured exactly, and so of the triples that one more
value makes of these; all that there are are paid for. A combination is told where it is proved to lose and loses `TWICE` as much as
what fulfils all of it but one value: else fewer values say it more simply. One whose loss is that of a combination told before, of more
values or without numbers, is not told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bisect_ai.attribution.problem import Bools, Estimate, Floats
from bisect_ai.attribution.questions.canary_looks import STRETCH, Answers, SliceLoss
from bisect_ai.attribution.stats.adjusted import Contrast, Frame, both_ends, contrast, log_evidence

# Chance of an error that a machine may act on, and of naming a segment that loses nothing.
SURE = 0.01
# Answers of either release in a segment that is looked at.
FEWEST_INSIDE = 20
# Values of a column that is looked at for segments.
MOST_VALUES = 60
# Pairs, and triples, that are measured exactly.
MOST_JOINT = 60
# Times the loss of its larger part that a combination loses at least, to be told beside it.
TWICE = 2.0
# Part of the answers of a value, or a pair, from which on a combination is that one by another name.
WITHIN = 0.9


class _Value(NamedTuple):
    column: str
    level: str
    inside: Bools
    is_number: bool = False


def slice_losses(answers: Answers, frame: Frame) -> tuple[SliceLoss, ...]:
    """What each value of each column of few values loses, and the combinations that lose more than their values; the worst first."""
    values = list(_values(answers))
    told = [_loss(answers, frame, (value,), SURE / 3 / len(values)) for value in values]
    found = [*told, *_combinations(answers, frame, values)]
    return tuple(sorted((f for f in found if f is not None), key=lambda f: -(f.loss.value or 0)))


def _values(answers: Answers) -> Iterator[_Value]:
    for column in answers.columns:
        if not column.is_unit and (column.codes is None or len(column.names) <= MOST_VALUES):
            levels, names = column.broad_levels
            for at, name in enumerate(names):
                if name not in ("", "others") and _often(answers, levels == at):
                    yield _Value(column.name, name, levels == at, column.codes is None)


def _often(answers: Answers, inside: Bools) -> bool:
    counts = np.bincount(answers.is_canary[inside & ~np.isnan(answers.score)], minlength=2)
    return bool(counts.min() >= FEWEST_INSIDE)


def _loss(answers: Answers, frame: Frame, parts: tuple[_Value, ...], alpha: float) -> SliceLoss | None:
    found = _contrast(answers, frame, _inside(parts))
    return None if found is None else _told(found, parts, alpha)


def _told(found: Contrast, parts: tuple[_Value, ...], alpha: float) -> SliceLoss:
    low, high = both_ends(found, alpha)
    loss = Estimate(-found.estimate, (-high, -low), found.n, "loss inside the segment, for all segments at once")
    return SliceLoss(tuple((part.column, part.level) for part in parts), found.n, loss, -high > 0)


def _contrast(answers: Answers, frame: Frame, inside: Bools) -> Contrast | None:
    own = replace(frame.of(inside), stretch=np.arange(int(inside.sum())) // STRETCH)
    return contrast(own, answers.score[inside])


def _combinations(answers: Answers, frame: Frame, values: Sequence[_Value]) -> Iterator[SliceLoss]:
    """The triples and pairs that are proved to lose more than fewer of their values, each class of answers once."""
    singles = [(value,) for value in values]
    pairs, of_pairs = _joined(answers, singles, values)
    triples, _ = _joined(answers, pairs, values)
    seen = np.zeros(len(answers), bool)
    for chosen, looked_at in ((triples, _triples_of(values)), (pairs, of_pairs)):
        for parts in sorted(chosen, key=lambda each: sum(value.is_number for value in each)):
            inside = _inside(parts)
            found = _contrast(answers, frame, inside)
            if found is None or not _is_proved(found, looked_at) or not _is_more(answers, frame, parts, -found.estimate):
                continue
            left = _contrast(answers, frame, inside & ~seen) if (inside & seen).any() else found
            if left is not None and _is_proved(left, looked_at):
                seen |= inside
                yield _told(found, parts, SURE / 3 / looked_at)


def _is_proved(found: Contrast, looked_at: int) -> bool:
    return log_evidence(-found.estimate, found.error, found.spread, 0.0) >= math.log(3 * looked_at / SURE)


def _inside(parts: Sequence[_Value]) -> Bools:
    return np.asarray(np.logical_and.reduce([part.inside for part in parts]))


def _is_more(answers: Answers, frame: Frame, parts: Sequence[_Value], loss: float) -> bool:
    """Whether what fulfils all but one of the parts, and not that one, loses much less, whichever is left out."""
    for part in parts:
        others = [other for other in parts if other is not part]
        rest = _contrast(answers, frame, _inside(others) & ~part.inside)
        if rest is None or loss <= -TWICE * rest.estimate:
            return False
    return True


def _triples_of(values: Sequence[_Value]) -> int:
    """How many triples of values of different columns there are."""
    sizes = list(Counter(value.column for value in values).values())
    return sum(math.prod(some) for some in combinations(sizes, 3))


def _joined(
    answers: Answers, parts: Sequence[tuple[_Value, ...]], values: Sequence[_Value]
) -> tuple[list[tuple[_Value, ...]], int]:
    """The combinations with one more value whose plain means differ most, and how many were looked at."""
    if not parts:
        return [], 0
    z = _apart(answers, [_inside(part) for part in parts], [value.inside for value in values])
    z[[[value.column in [each.column for each in part] for value in values] for part in parts]] = -math.inf
    found: dict[frozenset[int], tuple[float, tuple[_Value, ...]]] = {}
    for i, j in np.argwhere(np.isfinite(z)).tolist():
        joint = (*parts[i], values[j])
        found.setdefault(frozenset(map(id, joint)), (float(z[i, j]), joint))
    best = sorted(found.values(), key=lambda each: -each[0])[:MOST_JOINT]
    return [joint for _, joint in best], len(found)


def _apart(answers: Answers, left: Sequence[Bools], right: Sequence[Bools]) -> Floats:
    """(l, r) standard errors that the canary's mean lies below the baseline's where both hold; -inf: not looked at."""
    from scipy.sparse import csr_array

    known = ~np.isnan(answers.score)
    score, canary = answers.score[known], answers.is_canary[known]
    rows, columns = (csr_array(np.column_stack(some)[known].astype(float)) for some in (left, right))
    counts, means = (np.zeros((2, len(left), len(right))) for _ in range(2))
    for side in (0, 1):
        own = np.flatnonzero(canary == side)
        counts[side] = (rows[own].T @ columns[own]).toarray()
        sums = (rows[own].T @ columns[own].multiply(score[own][:, None]).tocsr()).toarray()
        means[side] = sums / np.maximum(counts[side], 1)
    both = counts.sum(0)
    alone = [np.asarray(flags.sum(0)).reshape(-1) for flags in (rows, columns)]
    usable = (counts.min(0) >= FEWEST_INSIDE) & (both < WITHIN * np.minimum(alone[0][:, None], alone[1]))
    spread = np.sqrt((1 / np.maximum(counts, 1)).sum(0))
    return np.where(usable, (means[0] - means[1]) / spread, -math.inf)
