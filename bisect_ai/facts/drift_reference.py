"""What a drift is told against: the scores that a release had then, and what its provider said of itself.

Answers of this very release that an earlier run or audit left in the store are the reference: they were given to the same queries, by
the same target, and are scored by the same scorer. Where they are few, and the log has more, the log is: its answers that can be scored
now, else its scores. The two are never mixed, for they are of different days. Answers of earlier drift checks are no reference, or a
drift would be told once and then be the rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from bisect_ai.canonical import digest
from bisect_ai.queries.query import Query
from bisect_ai.replay.trial_jobs import identity_of
from bisect_ai.runs.prepared import Anew, Prepared
from bisect_ai.scoring.scorer import score_answer
from bisect_ai.store.trial_store import Kept, Store
from bisect_ai.targets.answer import Answer

# Queries with a score then, below which nothing can be told.
FEWEST = 8
# Stored answers that are the reference though the log has more: as many queries as a drift is told by.
ENOUGH = 64
# Where a log holds what a provider says of itself.
SAID_BY = {
    "model": ("model_returned", "response_model", "gen_ai.response.model"),
    "fingerprint": ("fingerprint", "system_fingerprint"),
    "endpoint": ("endpoint",),
}


@dataclass(frozen=True)
class DriftReference:
    """(n,) scores then, oriented, NaN for none; where they come from; what the provider said then, by `SAID_BY`, with counts."""

    scores: tuple[float, ...]
    source: str
    # The day of the newest stored answer among them; None: all are of the log.
    stored_on: str | None = None
    said: Mapping[str, Counter[str]] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """Queries with a score then."""
        return sum(not np.isnan(score) for score in self.scores)


def drift_reference(prepared: Prepared, store: Store) -> DriftReference:
    """The reference for each sampled query."""
    queries = prepared.sample.queries
    stored = _stored_answers(prepared, store)
    found = {
        place: score
        for place, kept in stored.items()
        if (score := _scored_now(queries[place], kept.answer, prepared)) is not None
    }
    logged, source = _logged_scores(prepared)
    if len(found) < max(FEWEST, min(ENOUGH, sum(score is not None for score in logged))):
        return DriftReference(_oriented_scores(logged, prepared), source, None, _said_in_log(prepared))
    days = [store.ended[stored[place].run] for place in found if stored[place].run in store.ended]
    day = datetime.fromtimestamp(max(days) / 1e6, UTC).date().isoformat() if days else "an earlier day"
    scores = _oriented_scores([found.get(place) for place in range(len(queries))], prepared)
    said = _said_by([stored[place].answer for place in found]) or _said_in_log(prepared)
    return DriftReference(scores, f"answers stored by {day}, scored now", day, said)


def _oriented_scores(scores: Iterable[float | None], prepared: Prepared) -> tuple[float, ...]:
    sign = prepared.metric.sign
    return tuple(np.nan if score is None else sign * float(score) for score in scores)


def _stored_answers(prepared: Prepared, store: Store) -> Mapping[int, Kept]:
    """The stored answer of this release to each query, by the query's place."""
    release, target = Anew(prepared.good, repeats_from=0).composed(0).digest, digest(dict(prepared.target.identity))
    found = {
        place: store.answer(identity_of(release, query.digest, target, 0))
        for place, query in enumerate(prepared.sample.queries)
    }
    return {place: kept for place, kept in found.items() if kept is not None and not kept.answer.error and not kept.infeasible}


def _logged_scores(prepared: Prepared) -> tuple[list[float | None], str]:
    """The score then of each query by the log."""
    own = [query if _is_own(query, prepared) else None for query in prepared.sample.queries]
    outputs = sum(query is not None and query.output is not None for query in own)
    if prepared.metric.batch is None and outputs >= FEWEST:
        found = [_logged_answer(query, prepared) for query in own]
        if sum(score is not None for score in found) >= FEWEST:
            return found, "logged answers, scored now"
    return [None if query is None else query.scores.get(prepared.metric.name) for query in own], "logged scores"


def _logged_answer(query: Query | None, prepared: Prepared) -> float | None:
    if query is None or query.output is None:
        return None
    return _scored_now(query, Answer(text=query.output), prepared)


def _scored_now(query: Query, answer: Answer, prepared: Prepared) -> float | None:
    """None where the metric's scores are given many at a time: they are paid for."""
    return None if prepared.metric.batch is not None else score_answer(prepared.metric, query, answer).value


def _is_own(query: Query, prepared: Prepared) -> bool:
    """Whether the release answered a query then; in a log without labels it is taken to."""
    labels = {row.release for row in prepared.sample.logged}
    return query.release == prepared.good.name if labels - {None} else True


def _said_by(stored: Sequence[Answer]) -> Mapping[str, Counter[str]]:
    """What the provider said of itself with stored answers; empty: nothing."""
    found = {what: Counter(filter(None, (said_now(answer, what) for answer in stored))) for what in SAID_BY}
    return found if any(found.values()) else {}


def _said_in_log(prepared: Prepared) -> Mapping[str, Counter[str]]:
    """What the provider said of itself in the log."""
    own = [query for query in prepared.sample.queries if _is_own(query, prepared)]
    return {
        what: Counter(str(query[name]) for query in own for name in columns if query.get(name))
        for what, columns in SAID_BY.items()
    }


def said_now(answer: object, what: str) -> str | None:
    """What an answer, or an observed one, tells of its provider."""
    found = getattr(answer, {"model": "model_returned", "fingerprint": "fingerprint", "endpoint": "endpoint"}[what])
    return None if found is None else str(found)
