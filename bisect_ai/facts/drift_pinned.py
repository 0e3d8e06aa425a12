"""Which part of a drift is the model's: the same queries, asked now of what the release pins beside what it names.

A release may pin another value of an axis, a dated model or another provider's (`pinned`). Where the release scores lower than then
and its pinned twin does not, what the name stands for moved; where both do, it is something else that both share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bisect_ai.attribution.questions.drift import FEWEST, DriftFinding, DriftRule, mean_loss
from bisect_ai.canonical import digest
from bisect_ai.errors import TargetFailure
from bisect_ai.facts.rounding import DIGITS
from bisect_ai.release.load import Release
from bisect_ai.replay.interrupts import Stop
from bisect_ai.report.watch_values import PinnedScores
from bisect_ai.runs.outcomes import Outcomes, with_what_is_left
from bisect_ai.runs.question import Anew, DriftQuestion
from bisect_ai.runs.study import Study, Watch
from bisect_ai.store.trial_store import Store

NEVER = 1e-9
"""Chances of an error so small that the pinned release is asked all of the queries."""


def pinned_scores(
    outcomes: Outcomes, rule: DriftRule, store: Store, *, hour: int, watch: Watch | None = None, stop: Stop | None = None
) -> tuple[PinnedScores, Outcomes | None] | None:
    """What the pinned twin scored on the queries that tell the drift, with its run; None: no drift is proved, or nothing is pinned."""
    found, prepared = outcomes.finding, outcomes.prepared
    if not isinstance(found, DriftFinding) or found.kind != "drift" or not prepared.good.pinned:
        return None
    twin = _twin(prepared.good)
    asked = set(found.queries)
    reference = tuple(score if query in asked else math.nan for query, score in enumerate(rule.reference))
    question = DriftQuestion(replace(rule, reference=reference, alpha=NEVER, miss=NEVER), Anew(twin, repeats_from=hour), hour)
    left = replace(with_what_is_left(prepared, outcomes), good=twin, bad=twin, question=question)
    if prepared.config.budget.calls - outcomes.ledger.paid.calls < FEWEST:
        return _unknown(prepared.good, "the budget leaves no calls for it"), None
    try:
        ran = Study(left, store, watch=watch, stop=stop).run()
    except TargetFailure as error:
        return _unknown(prepared.good, f"it gave no answers: {error}"), None
    assert isinstance(ran.finding, DriftFinding)
    return _compared(prepared.good, found, ran.finding, rule, sign=prepared.metric.sign), ran


def _unknown(release: Release, why: str) -> PinnedScores:
    return PinnedScores(axes=tuple(release.pinned), why=why)


def _twin(release: Release) -> Release:
    axes: Mapping[str, Any] = {**release.axes, **release.pinned}
    return replace(release, name=f"{release.name}, pinned", axes=axes, digest=digest(dict(axes)), pinned={})


def _compared(release: Release, found: DriftFinding, other: DriftFinding, rule: DriftRule, *, sign: float) -> PinnedScores:
    """The twin's scores less the release's, query by query."""
    lost = dict(zip(found.queries, found.differences, strict=True))
    kept = [(lost[query], moved) for query, moved in zip(other.queries, other.differences, strict=True) if query in lost]
    back = mean_loss(np.array([drifted - moved for drifted, moved in kept]), rule.alpha)
    total = float(np.mean([drifted for drifted, _ in kept])) if kept else 0.0
    ends = back.interval
    return PinnedScores(
        axes=tuple(release.pinned),
        value=None if other.now.value is None else round(sign * other.now.value, DIGITS),
        queries=back.n,
        back=None if back.value is None else round(back.value, DIGITS),
        interval=None if ends is None else (round(ends[0], DIGITS), round(ends[1], DIGITS)),
        share=None if back.value is None or total <= 0 else round(back.value / total, DIGITS),
    )
