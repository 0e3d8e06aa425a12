"""From proposed trials to outcomes: identity, look-up in the store, logged scores, replay, scoring, ledger.

What a cell's mask means is the business of a `Ground`: sets of axes, or sets of changes inside them. Both go through one store,
one engine, the same scorers and one ledger, and a release that both can compose is one release: its answers are shared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bisect_ai.attribution.problem import Outcome, Trial
from bisect_ai.canonical import digest
from bisect_ai.errors import Infeasible
from bisect_ai.ledger import Ledger, Observation
from bisect_ai.queries.query import Query
from bisect_ai.release.compose import compose
from bisect_ai.release.load import Release
from bisect_ai.replay.answer import Answer
from bisect_ai.replay.engine import Done, Engine, Job
from bisect_ai.replay.store import Kept, Scored, Store
from bisect_ai.scoring.scorers import Scorer, score_answer

if TYPE_CHECKING:
    from bisect_ai.study import Prepared

PATIENCE_SECONDS = 30.0
"""How long a trial is left to another process that is at it; then it is asked here too."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Composed:
    """A release to replay, its digest, and the names of what in it is bad."""

    release: Mapping[str, Any]
    digest: str
    bad: tuple[str, ...]


class Ground(Protocol):
    """What the masks of a search's trials stand for. `level` keeps its observations apart from those of other grounds."""

    @property
    def level(self) -> str:
        """`axes`, or what else the bits of a cell are."""

    def composed(self, cell: int) -> Composed:
        """The release of a cell. Raises `Infeasible` when it cannot be built: its trials then are infeasible, uncalled."""


class Digests:
    """Digests of composed releases from those of their axes; a value is hashed once: a corpus is long, cells are many."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, release: Mapping[str, Any]) -> str:
        """The same digest for the same axes with the same values, whoever composed it."""
        return digest({axis: self._value(value) for axis, value in release.items()})

    def _value(self, value: Any) -> str:
        held, known = self._known.get(id(value), (None, ""))
        if held is not value or not known:
            known = digest(value)
            self._known[id(value)] = (value, known)  # holding the value keeps its id from being used again
        return known


class Axes:
    """The ground of the main search: bit i takes axis i from the bad release."""

    level = "axes"

    def __init__(self, good: Release, bad: Release, axes: Sequence[str], digests: Digests) -> None:
        self._good, self._bad, self._axes, self._digests = good, bad, axes, digests
        self._cells: dict[int, Composed] = {}

    def composed(self, cell: int) -> Composed:
        """The release with the cell's axes bad."""
        if cell not in self._cells:
            bad = tuple(a for i, a in enumerate(self._axes) if cell >> i & 1)
            release = compose(self._good, self._bad, bad)
            self._cells[cell] = Composed(release, self._digests.of(release), bad)
        return self._cells[cell]


@dataclass(frozen=True, slots=True)
class _Planned:
    """A trial with all that its answer depends on."""

    trial: Trial
    query: Query
    level: str
    composed: Composed
    identity: str

    def observed(self, answer: Answer, scores: dict[str, float | None], **how: Any) -> Observation:
        return Observation(self.query.id, self.trial, self.composed.bad, answer, scores, level=self.level, **how)


class Replay:
    """Replays trials for a prepared run. `outcomes` comes back in the order of its trials; all is durable by then."""

    def __init__(self, prepared: Prepared, store: Store, ledger: Ledger, *, digests: Digests) -> None:
        self._prepared = prepared
        self._store = store
        self._ledger = ledger
        self._run = prepared.run_id
        self._target = digest(dict(prepared.target.identity))
        self._keys = {name: scorer.digest or unkept(scorer) for name, scorer in prepared.scorers.items()}
        self._sign = 1.0 if prepared.metric.higher_is_better else -1.0
        self._logged_sides = {digests.of(r.axes): r.name for r in (prepared.bad, prepared.good)}
        self._out: dict[int, _Planned] = {}
        self._theirs: list[int] = []
        self._insist = False

    def outcomes(self, trials: Sequence[Trial], ground: Ground, engine: Engine) -> list[Outcome]:
        """The outcomes of `trials`; answers from the store, or scores from the log, where they have them."""
        self._store.refresh()
        planned = [self._plan(trial, ground) for trial in trials]
        known = [p if isinstance(p, Outcome) else self._known(p) for p in planned]
        self._out = {i: p for i, p in enumerate(planned) if known[i] is None and isinstance(p, _Planned)}
        done = self._ask(engine)
        return [found or self._replayed(self._out[i], done.get(i)) for i, found in enumerate(known)]

    def _ask(self, engine: Engine) -> dict[int, Done]:
        """What came back, by place. Trials that another process on the same store is at are left to it, as long as it lives."""
        done: dict[int, Done] = {}
        asking, until = list(self._out), time.monotonic() + PATIENCE_SECONDS
        while asking:
            self._theirs.clear()
            self._insist = time.monotonic() > until
            jobs = [Job(i, p.query, p.composed.release, p.trial.repeat) for i in asking for p in (self._out[i],)]
            done |= {d.job.place: d for d in engine.run(jobs)}
            if self._theirs:
                time.sleep(_POLL_SECONDS)
                self._store.refresh()
            asking = [i for i in self._theirs if not self._store.answered(self._out[i].identity)]
        return done

    def begin(self, job: Job) -> bool:
        """Whether a call is to be made now, which then is on record. Raises `StoreError` when its answer could not be kept."""
        identity = self._out[job.place].identity
        if not self._store.claim(identity) and not self._insist:
            self._theirs.append(job.place)
            return False
        self._store.reserve(self._run, identity)
        return True

    def commit(self, done: list[Done]) -> None:
        """Score what came back and make it durable: only then does it count."""
        kept, scores = [], []
        for item in done:
            planned = self._out[item.job.place]
            kept.append(self._kept(planned, item))
            scores += self._scores(planned, item)
        self._store.keep(self._run, kept, scores)

    def _plan(self, trial: Trial, ground: Ground) -> _Planned | Outcome:
        try:
            composed = ground.composed(trial.cell)
        except Infeasible:
            return Outcome(trial, None, "infeasible")
        query = self._prepared.sample.queries[trial.query]
        identity = digest({"release": composed.digest, "query": query.digest, "target": self._target, "repeat": trial.repeat})
        return _Planned(trial, query, ground.level, composed, identity)

    def _known(self, planned: _Planned) -> Outcome | None:
        kept = self._store.answer(planned.identity)
        if kept is not None:
            return self._outcome(planned, kept.answer, kept.infeasible, fresh=False)
        return self._from_log(planned)

    def _replayed(self, planned: _Planned, done: Done | None) -> Outcome:
        found = self._store.answer(planned.identity)  # what was kept first counts, should it have been asked twice
        if found is not None:
            return self._outcome(planned, found.answer, found.infeasible, fresh=done is not None)
        if done is None:
            return Outcome(planned.trial, None, "error")
        return self._outcome(planned, done.answer, done.infeasible, fresh=True)

    def _outcome(self, planned: _Planned, answer: Answer, infeasible: str | None, *, fresh: bool) -> Outcome:
        scores = {} if infeasible else self._scores_of(planned, answer)
        self._ledger.add(planned.observed(answer, scores, infeasible=infeasible, fresh=fresh))
        if infeasible:
            return Outcome(planned.trial, None, "infeasible")
        if answer.error:
            return Outcome(planned.trial, None, "error")
        value = scores[self._prepared.metric.name]
        return Outcome(planned.trial, None if value is None else value * self._sign)

    # -- logged scores -------------------------------------------------------------------------------------------------
    def _from_log(self, planned: _Planned) -> Outcome | None:
        """The log's own score of a good or bad trial, when the settings let it count; a fifth is replayed all the same."""
        score = self._logged_score(planned)
        if score is None:
            return None
        query = planned.query
        scores: dict[str, float | None] = {name: query.scores.get(name) for name in self._prepared.scorers}
        answer = Answer(text=query.output or "")
        self._ledger.add(planned.observed(answer, scores, infeasible=None, fresh=False, logged=True))
        return Outcome(planned.trial, self._sign * float(score))

    def _logged_score(self, planned: _Planned) -> float | None:
        if not self._prepared.config.log.reuse or planned.trial.repeat:
            return None
        query, side = planned.query, self._logged_sides.get(planned.composed.digest)
        if side is None or query.release != side or int(query.digest[:8], 16) % 5 == 0:
            return None
        return query.scores.get(self._prepared.metric.name)

    # -- what the store keeps ------------------------------------------------------------------------------------------
    def _kept(self, planned: _Planned, item: Done) -> Kept:
        bad, repeat = planned.composed.bad, planned.trial.repeat
        return Kept(planned.identity, self._run, planned.query.id, bad, repeat, item.answer, item.infeasible)

    def _scores(self, planned: _Planned, item: Done) -> list[Scored]:
        if item.infeasible or item.answer.error:
            return []
        return [self._scored(planned, scorer, item.answer) for scorer in self._prepared.scorers.values()]

    def _scored(self, planned: _Planned, scorer: Scorer, answer: Answer) -> Scored:
        score = score_answer(scorer, planned.query, answer)
        return Scored(planned.identity, self._keys[scorer.name], score.value, score.error)

    def _scores_of(self, planned: _Planned, answer: Answer) -> dict[str, float | None]:
        """Scores by name, from the store where it has them (a scorer added later is run on the kept answer)."""
        if answer.error:
            return dict.fromkeys(self._prepared.scorers)
        values: dict[str, float | None] = {}
        for name, scorer in self._prepared.scorers.items():
            found = self._store.score(planned.identity, self._keys[name])
            if found is None:
                found = self._scored(planned, scorer, answer)
                self._store.keep(self._run, [], [found])
            if found.error:
                self._ledger.scorer_errors[name] = self._ledger.scorer_errors.get(name, 0) + 1
                self._ledger.scorer_messages.setdefault(name, found.error)
            values[name] = found.value
        return values


def unkept(scorer: Scorer) -> str:
    """A key for a scorer without a digest: good in this process only."""
    return f"this-process:{scorer.name}:{id(scorer.score):x}"
