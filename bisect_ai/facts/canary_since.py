"""Since when a canary loses: the onset of a loss among its answers, beside what the baseline scored about then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bisect_ai.attribution.questions.canary_looks import Answers
from bisect_ai.facts.onset_series import ScoreSeries, onset_of
from bisect_ai.queries.live_scores import DeployEvent
from bisect_ai.report.watch_values import OnsetBlock

BESIDE = 200
"""Answers of a stretch whose baseline answers say what was to be expected."""


def since_when(
    answers: Answers, at: Sequence[int | None], deploys: Sequence[DeployEvent], *, alpha: float
) -> OnsetBlock | None:
    """The onset, scores in [0, 1]; None where the canary lost from its first answer on, as far as is known."""
    known, base = ~np.isnan(answers.score), answers.is_canary == 0
    stretch = np.arange(len(answers)) // BESIDE
    counted = known & base
    sums = np.bincount(stretch, np.where(counted, answers.score, 0.0))
    counts = np.bincount(stretch, counted.astype(float))
    level = float(answers.score[counted].mean())
    expected = np.where(counts > 0, sums / np.maximum(counts, 1), level)[stretch]
    own = np.flatnonzero(known & ~base)
    clusters = None if answers.cluster is None else answers.cluster[own]
    series = ScoreSeries((answers.score - expected + level)[own], [at[place] for place in own.tolist()], clusters)
    found = onset_of(series, deploys, alpha=alpha)
    return found if found is not None and found.kind == "onset" else None
