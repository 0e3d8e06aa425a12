"""The class of queries that broke: what each value of a column loses in a canary, and each pair of values of two columns.

Every value, and every pair, that both releases answered often enough has an interval of its loss that holds at every look. Values
share one half of `SURE`, pairs the other, so that any of them is said to lose without losing with a chance of at most `SURE`. Of all
pairs, which are many, those whose plain means differ most are measured exactly; all are paid for. A pair is told where it is proved to
lose and loses `TWICE` as much as the rest of either of its values: else one value says it more simply. Of pairs that are much the same
answers one is told, if it can be one without numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bisect_ai.attribution.problem import Bools, Estimate, Floats
from bisect_ai.attribution.questions.canary_findings import SliceLoss
from bisect_ai.attribution.questions.canary_looks import STRETCH, Answers
from bisect_ai.attribution.stats.adjusted import Contrast, Frame, both_ends, contrast, log_evidence

SURE = 0.01
"""Chance of an error that a machine may act on, and of naming a segment that loses nothing."""
FEWEST_INSIDE = 20
"""Answers of either release in a segment that is looked at."""
MOST_VALUES = 60
"""Values of a column that is looked at for segments."""
MOST_PAIRS = 60
"""Pairs that are measured exactly."""
TWICE = 2.0
ALIKE = 0.5
"""Part of a pair's answers that another one has, above which they are the same class of queries."""
WITHIN = 0.9
"""Part of the answers of a value from which on a pair is that value by another name."""


class _Value(NamedTuple):
    column: str
    level: str
    inside: Bools
    is_number: bool = False


def slice_losses(answers: Answers, frame: Frame) -> tuple[SliceLoss, ...]:
    """What each value of each column of few values loses, and the pairs that lose more than their values; the worst first."""
    values = list(_values(answers))
    told = [_loss(answers, frame, (value,), SURE / 2 / len(values)) for value in values]
    found = [*told, *_pairs(answers, frame, values)]
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
    found = _contrast(answers, frame, np.logical_and.reduce([part.inside for part in parts]))
    return None if found is None else _told(found, parts, alpha)


def _told(found: Contrast, parts: tuple[_Value, ...], alpha: float) -> SliceLoss:
    low, high = both_ends(found, alpha)
    loss = Estimate(-found.estimate, (-high, -low), found.n, "loss inside the segment, for all segments at once")
    return SliceLoss(tuple((part.column, part.level) for part in parts), found.n, loss, -high > 0)


def _contrast(answers: Answers, frame: Frame, inside: Bools) -> Contrast | None:
    own = replace(frame.of(inside), stretch=np.arange(int(inside.sum())) // STRETCH)
    return contrast(own, answers.score[inside])


def _pairs(answers: Answers, frame: Frame, values: Sequence[_Value]) -> Iterator[SliceLoss]:
    """The pairs that are proved to lose more than their values, each class of answers once."""
    z = _apart(answers, values)
    looked_at = int(np.isfinite(z).sum())
    first = np.argsort(-z, axis=None, kind="stable")[: min(MOST_PAIRS, looked_at)]
    pairs = [(values[i], values[j]) for i, j in (divmod(int(place), len(values)) for place in first)]
    told: list[Bools] = []
    for pair in sorted(pairs, key=lambda each: sum(value.is_number for value in each)):
        inside = pair[0].inside & pair[1].inside
        found = _contrast(answers, frame, inside)
        if found is None or log_evidence(-found.estimate, found.error, found.spread, 0.0) < math.log(2 * looked_at / SURE):
            continue
        if not any(_is_alike(inside, other) for other in told) and _is_more(answers, frame, pair, -found.estimate):
            told.append(inside)
            yield _told(found, pair, SURE / 2 / looked_at)


def _is_alike(one: Bools, other: Bools) -> bool:
    return bool((one & other).sum() > ALIKE * min(one.sum(), other.sum()))


def _is_more(answers: Answers, frame: Frame, pair: tuple[_Value, _Value], loss: float) -> bool:
    """Whether the rest of either value loses much less."""
    one, other = (value.inside for value in pair)
    rests = [_contrast(answers, frame, rest) for rest in (one & ~other, other & ~one)]
    return all(rest is not None and loss > -TWICE * rest.estimate for rest in rests)


def _apart(answers: Answers, values: Sequence[_Value]) -> Floats:
    """(v, v) standard errors that the canary's mean lies below the baseline's in each pair; -inf: not looked at."""
    if len(values) < 2:
        return np.full((0, 0), -math.inf)
    from scipy.sparse import csr_array

    known = ~np.isnan(answers.score)
    flags = csr_array(np.column_stack([value.inside[known] for value in values]).astype(float))
    score, canary = answers.score[known], answers.is_canary[known]
    counts, means = np.zeros((2, len(values), len(values))), np.zeros((2, len(values), len(values)))
    for side in (0, 1):
        own = flags[np.flatnonzero(canary == side)]
        counts[side] = (own.T @ own).toarray()
        sums = (own.T @ own.multiply(score[canary == side][:, None]).tocsr()).toarray()
        means[side] = sums / np.maximum(counts[side], 1)
    both = counts.sum(0)
    alone = np.diagonal(both)
    usable = np.triu(counts.min(0) >= FEWEST_INSIDE, 1) & (both < WITHIN * np.minimum(alone[:, None], alone))
    usable &= np.array([[one.column != other.column for other in values] for one in values])
    spread = np.sqrt((1 / np.maximum(counts, 1)).sum(0))
    return np.where(usable, (means[0] - means[1]) / spread, -math.inf)
