"""What a finished run knows: what its search and its drill-down came to, and what is not the release's fault (drift, traffic, a
drop that replay does not show).

`attribution/questions/elsewhere.py` has the arithmetic of the latter; here the log's records and the run's observations become its
two windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Literal

import numpy as np

from bisect_ai.attribution.problem import Attribution, Estimate, Mode, Trial, cluster_numbers
from bisect_ai.attribution.questions.elsewhere import (
    FEWEST,
    Outside,
    Parts,
    Window,
    design_effect,
    is_part_unknown,
    query_mix,
    take_apart,
    two_sample,
    verdict_outside,
)
from bisect_ai.attribution.search.drill_problem import Finer
from bisect_ai.queries.sample import Sample
from bisect_ai.release.changes import Change
from bisect_ai.runs.judging import ScoreDesk
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import Finding
from bisect_ai.scoring.metric import Metric
from bisect_ai.targets.answer import Answer


@dataclass(frozen=True)
class Environment:
    """`kind` is set when the verdict lies outside the release; `parts` is how many points of the logged drop went where."""

    kind: Outside | None = None
    parts: Parts = field(default_factory=Parts)
    logged_good: float | None = None
    logged_bad: float | None = None
    # How much lower the good release scores on the bad one's queries, where the log has no scores to take apart.
    mix: Estimate | None = None

    @property
    def drift(self) -> Estimate | None:
        """Logged minus replayed score of the good release, in score points."""
        return self.parts.drift

    @property
    def logged(self) -> Estimate | None:
        """The loss that the log itself shows."""
        return self.parts.drop


def check_environment(sample: Sample, ledger: Ledger, prepared: Prepared, loss: Estimate) -> Environment:
    """What the log and the good release's replay say about anything that moved besides the release."""
    good, bad = (_logged_tally(sample, prepared, release.name) for release in (prepared.good, prepared.bad))
    now = _good_scores(ledger, prepared)
    windows = [_score_window(sample, prepared, release.name, now) for release in (prepared.good, prepared.bad)]
    sign = prepared.metric.sign
    drop = None
    if good is not None and bad is not None:
        spread = max(design_effect(w.then, w.clusters) for w in windows)
        drop = two_sample((sign * good[0], *good[1:]), (sign * bad[0], *bad[1:]), inflate=spread)
    parts = take_apart(*windows, drop=drop, loss=loss)
    kind = verdict_outside(parts, loss, prepared.config.tolerance)
    mix = None
    if drop is None:
        mix = query_mix(*(_replayed_window(sample, release.name, now) for release in (prepared.good, prepared.bad)))
    return Environment(kind, parts, None if good is None else good[0], None if bad is None else bad[0], mix)


def more_trials(sample: Sample, ledger: Ledger, prepared: Prepared, found: Attribution, *, most: int) -> list[Trial]:
    """Trials of the good release, `most` at most, that may tell where a logged drop went; none when that is known."""
    if prepared.config.log.reuse or most < 1:
        return []
    names = prepared.good.name, prepared.bad.name
    scored = [_scored_queries(sample, prepared, name) for name in names]
    if not any(scored):
        return []
    now, tried = _good_scores(ledger, prepared), {o.index for o in ledger.observations.all(0)}
    counts = [_score_window(sample, prepared, name, now).n for name in names]
    waiting = [[q for q in queries if q not in tried] for queries in scored]
    parts, tolerance = check_environment(sample, ledger, prepared, found.loss).parts, prepared.config.tolerance
    counted = [n for n, rest in zip(counts, waiting, strict=True) if n or rest]
    if not counted or not is_part_unknown(parts, found.loss, tolerance, min(counted), named=found.kind == "cause"):
        return []
    ordered = [q for q in chain(*zip_longest(*waiting)) if q is not None]
    return [Trial(q, 0) for q in ordered[:most]]


def _good_scores(ledger: Ledger, prepared: Prepared) -> dict[int, float]:
    """The good release's replayed score of each query that has one, oriented."""
    sign, found = prepared.metric.sign, ledger.observations.first_scores(0, prepared.metric.name, logged=False)
    return {query: sign * score for query, score in found.items()}


def _scored_queries(sample: Sample, prepared: Prepared, release: str) -> list[int]:
    """The sampled queries that the log scored under a release label, in the sample's order."""
    name = prepared.metric.name
    if not any(name in row.scores for row in sample.logged if row.release == release):
        return []
    return [i for i, q in enumerate(sample.queries) if q.release == release and q.scores.get(name) is not None]


def _score_window(sample: Sample, prepared: Prepared, release: str, now: Mapping[int, float]) -> Window:
    chosen = [q for q in _scored_queries(sample, prepared, release) if q in now]
    then = [prepared.metric.sign * float(sample.queries[q].scores[prepared.metric.name]) for q in chosen]
    return replace(_of(sample, chosen, now), then=np.array(then))


def _replayed_window(sample: Sample, release: str, now: Mapping[int, float]) -> Window:
    """The window of all queries of a release's time that the good release answered now; nothing of what was logged."""
    if not any(row.release == release for row in sample.logged):
        return _of(sample, [], now)
    return _of(sample, [i for i, q in enumerate(sample.queries) if q.release == release and i in now], now)


def _of(sample: Sample, chosen: Sequence[int], now: Mapping[int, float]) -> Window:
    weights = np.array([sample.weights[q] for q in chosen])
    return Window(np.array([]), np.array([now[q] for q in chosen]), weights, cluster_numbers(sample.clusters, chosen))


def _logged_tally(sample: Sample, prepared: Prepared, release: str) -> tuple[float, float, int] | None:
    """(mean, variance, n) of the metric's logged scores under a release label."""
    for row in sample.logged:
        tally = row.scores.get(prepared.metric.name) if row.release == release else None
        if tally is not None and tally.n >= FEWEST and tally.mean is not None and tally.variance is not None:
            return tally.mean, tally.variance, tally.n
    return None


Kind = Literal["found", "no_single_change", "inconclusive", "not_run"]


@dataclass(frozen=True)
class Blamed:
    """A named change: how it acts (`others`: with, or instead of which), its share of the loss, and queries that it breaks."""

    change: Change
    mode: Mode
    others: tuple[Change, ...]
    share: Estimate
    # Chance at most of such evidence for any innocent change; None: it follows from the axis being guilty.
    p_adjusted: float | None
    # Numbers of queries in the sample, the clearest first.
    queries: tuple[int, ...]


@dataclass(frozen=True)
class Inside:
    """What is known inside one changed axis."""

    axis: str
    kind: Kind
    changes: int
    named: int
    reason: str


@dataclass(frozen=True)
class Drilled:
    """What the drill-down ends with."""

    kind: Kind
    reason: str
    axes: tuple[Inside, ...] = ()
    blamed: tuple[Blamed, ...] = ()
    # Trials inside axes, those too that were foreseen as guilty and are not.
    calls: int = 0
    # The cell in which all changes that were searched are bad.
    whole: int = 0
    # Share of what the changes cost that reverting the named ones leaves.
    unexplained: float | None = None
    # Changes whose reversion alone was measured.
    back: tuple[Change, ...] = ()
    measured: Finer | None = None


@dataclass
class Outcomes:
    """What a finished run knows: attribution, environment, observations, the ledger, and answers (while the store is open)."""

    prepared: Prepared
    attribution: Attribution
    environment: Environment
    ledger: Ledger
    answer_of: Callable[[Observation], Answer]
    # None: not asked for, or nothing to tell apart in any axis.
    drill: Drilled | None = None
    warnings: list[str] = field(default_factory=list)
    # What gave the scores that are given many at a time, by scorer.
    desks: Mapping[str, ScoreDesk] = field(default_factory=dict)
    # What a question that names nobody found.
    finding: Finding | None = None
    # The cap that cut the search short.
    stopped: str | None = None

    @property
    def metric(self) -> Metric:
        """What the scores of the deciding metric mean, as far as was seen."""
        return self.prepared.metric.as_seen(self.ledger.observations.scored(self.prepared.metric.name))


def with_what_is_left(prepared: Prepared, audited: Outcomes) -> Prepared:
    """The ordinary run that follows, with what the audit left of the budget; it finds the audit's answers in the store."""
    budget, paid = prepared.config.budget, audited.ledger.paid
    left = budget.model_copy(
        update={
            "calls": max(2, budget.calls - paid.calls),
            "usd": None if budget.usd is None else max(budget.usd - paid.usd, 1e-9),
            "tokens": None if budget.tokens is None else max(budget.tokens - paid.tokens, 1),
        }
    )
    return replace(prepared, config=prepared.config.model_copy(update={"budget": left}))
