"""From proposed trials to outcomes: identity, look-up in the store, logged scores, replay, scoring, ledger.

What a cell's mask means is the business of a `Ground`: sets of axes, or sets of changes inside them. Both go through one store,
one engine, the same scorers and one ledger, and a release that both can compose is one release: its answers are shared.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bisect_ai.attribution.problem import Outcome, Trial
from bisect_ai.canonical import digest
from bisect_ai.errors import Infeasible
from bisect_ai.provider.budget import GRACE_SECONDS, ONE_CALL, Account, when_reserved
from bisect_ai.queries.query import Query
from bisect_ai.replay.engine import Engine, Round
from bisect_ai.replay.job_queue import Health
from bisect_ai.replay.trial_jobs import Done, Job, identity_of
from bisect_ai.runs.judging import ScoreDesk
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import FinishedTrial, Observation
from bisect_ai.runs.prepared import Digests, Prepared, score_key
from bisect_ai.runs.question import Composed, Ground
from bisect_ai.scoring.scorer import ConstantScore, Scorer, Scoring, is_overdue
from bisect_ai.scoring.scorer_charges import Ask
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import MISSING, Answer

# How long a trial is left to another process that is at it; then it is asked here too.
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05  # between two looks at what another process has answered
# Answers in a row that the deciding scorer may fail on before it has given any score.
SCORER_FAILURES = 10


@dataclass(slots=True)
class _Planned:
    """A trial with all that its answer depends on, and what is known of it so far."""

    trial: Trial
    query: Query
    level: str
    composed: Composed
    identity: str
    kept: Kept | None = None
    logged: float | None = None
    # What `commit` gave the answer that came back.
    scored: list[Scored] | None = None
    # What it counted for in the cap on calls.
    calls: int = 1

    @property
    def repeat(self) -> int:
        """The repeat number that the target and the store know."""
        return self.trial.repeat + self.composed.repeats_from

    def seen(
        self, answer: Answer, scores: dict[str, float | None], infeasible: str | None, *, fresh: bool, logged: bool = False
    ) -> FinishedTrial:
        bad, identity = self.composed.bad, self.identity
        return FinishedTrial(
            self.query.id, self.trial, bad, identity, answer, scores, infeasible, fresh, logged, self.level, self.calls
        )


@dataclass(frozen=True)
class TrialRound:
    """Trials under way, in the order in which their outcomes will be told; an outcome stands where none had to be asked for."""

    planned: list[_Planned | Outcome]
    handed: Round
    places: dict[int, int]


class Replay:
    """Replays trials for a prepared run, several rounds at a time if need be. What `finish` tells is durable by then."""

    def __init__(
        self, prepared: Prepared, store: Store, ledger: Ledger, *, digests: Digests, account: Account, away: bool = False
    ) -> None:
        self._prepared = prepared
        self._store = store
        self._ledger = ledger
        self._account = account
        # Whether what calls may cost is noted besides the calls: by request, or by the process that makes them.
        self._priced = account.need_bounds
        # Whether each request is noted with the most that it can cost.
        self._bounded = account.need_bounds and not away
        self._run = prepared.run_id
        self._target = digest(dict(prepared.target.identity))
        self._keys = {name: score_key(scorer, self._run) for name, scorer in prepared.scorers.items()}
        self._queries = prepared.sample.queries
        self.desks = {
            name: ScoreDesk(scorer, self._keys[name], store, self._run, self._queries)
            for name, scorer in prepared.scorers.items()
            if scorer.batch is not None
        }
        config = prepared.config
        self._scoring = Scoring(config.scorer_seconds)
        self._ends = account.ends + GRACE_SECONDS
        self._health = Health(
            f"the scorer {prepared.metric.name}", SCORER_FAILURES, "mend the scorer", keep_going=config.keep_going
        )
        score = partial(self._scoring.all, ends=self._ends)
        self._constant = ConstantScore(prepared.metric, score, keep_going=config.keep_going)
        # Scorers that need nobody's answer: theirs are kept with the trial.
        self._at_once = [scorer for scorer in prepared.scorers.values() if scorer.batch is None]
        self._metric = prepared.metric
        # Where the metric's verdicts come from, when a judge gives it.
        self._judged = self.desks[prepared.metric.name] if prepared.metric.judge is not None else None
        self._reuses_log = prepared.config.log.reuse
        self._sign = prepared.metric.sign
        self._logged_sides = {digests.of(r.axes): r.name for r in (prepared.bad, prepared.good)}
        self._out: dict[int, _Planned] = {}
        self._under_way: set[str] = set()
        self._theirs: set[int] = set()
        self._insist: set[int] = set()
        self._places = itertools.count()
        self._is_cut_off = False  # by the clock: nothing of that round or after it is told, for what lacks is slow
        self.lacks = False  # whether something was asked for that is neither on record nor came in: stopped before
        self._shuffle = random.Random(prepared.config.seed)  # noqa: S311  # spreads cells over time, guards nothing

    def outcomes(self, trials: Sequence[Trial], ground: Ground, engine: Engine) -> list[Outcome]:
        """The outcomes of `trials`, in order; answers from the store, or scores from the log, where they have them."""
        told = self.finish(self.begin(trials, ground, engine), engine)
        return [o or Outcome(trial, None, "error") for trial, o in zip(trials, told, strict=True)]

    def begin(self, trials: Sequence[Trial], ground: Ground, engine: Engine) -> TrialRound:
        """Start the trials that nothing answers yet, in random order, so that no cell has a stretch of time to itself."""
        self._store.refresh()
        planned = [self._plan_trial(trial, ground) for trial in trials]
        missing = [i for i, p in enumerate(planned) if isinstance(p, _Planned) and self._must_ask(p)]
        self._shuffle.shuffle(missing)
        places = {i: next(self._places) for i in missing}
        for i in missing:
            self._out[places[i]] = planned[i]  # type: ignore[assignment]  # only what was planned is missing
        return TrialRound(planned, engine.submit([self._job_at(place) for place in places.values()]), places)

    def finish(self, begun: TrialRound, engine: Engine) -> list[Outcome | None]:
        """The outcomes of a round, in the order of its trials; they enter the ledger in that order.

        None: stopped before it came in.
        """
        done = {d.job.place: d for d in engine.wait(begun.handed)}
        done |= self._left_to_others([place for place in begun.places.values() if place in self._theirs], engine)
        self._judge_round(begun, done)
        self._is_cut_off |= any(d.late for d in done.values())
        told = [
            planned if isinstance(planned, Outcome) else self._ended_outcome(planned, done.get(begun.places.get(i, -1)))
            for i, planned in enumerate(begun.planned)
        ]
        places = begun.places.values()
        # An answer that comes in after a stop and its grace time is to be kept too: `commit` then looks its trial up.
        planned_at = self._out.__getitem__ if engine.stopped else self._out.pop
        self._under_way.difference_update([planned_at(place).identity for place in places])
        self._theirs.difference_update(places)
        self._insist.difference_update(places)
        return told

    def starts(self, job: Job) -> bool:
        """Whether a call is to be made now, which then is on record.

        Where money or tokens are capped, each request of it is noted with the most that it can cost, else the call alone
        (and when another process, `away`, makes it).
        Raises `StoreError` when its answer could not be kept, `CapReached` when there is no room for a call more.
        """
        identity = self._out[job.place].identity
        if not self._store.claim(identity) and job.place not in self._insist:
            self._theirs.add(job.place)
            return False
        try:
            self.count(job)
        except BaseException:  # a claim outlives this process: another would wait for it
            self._store.release(identity)
            raise
        if self._bounded:
            when_reserved.set(lambda most: self._store.reserve(self._run, identity, usd=most.usd, tokens=most.tokens, calls=0))
        return True

    def count(self, job: Job) -> None:
        """One more call for a job, on record before another process can look. Raises `CapReached` or `StoreError`."""
        price = 0.0 if self._priced else None
        with self._account.turn():
            self._account.spend_in_turn(ONE_CALL)
            self._store.reserve(self._run, self._out[job.place].identity, usd=price)

    @property
    def is_scored(self) -> bool:
        """Whether the deciding scorer has given a score, or gives its scores only when a round is over."""
        return self._health.worked or self._health.keep_going or self._metric.batch is not None

    def unstarted(self, job: Job) -> None:
        """Take `starts` back: the call was not made."""
        identity = self._out[job.place].identity
        self._account.give_back(ONE_CALL)
        self._store.charge(self._run, identity, calls=0)
        self._store.release(identity)

    def commit(self, done: list[Done]) -> None:
        """Score what came back and make it durable: only then does it count."""
        kept, scores = [], []
        for item, given in zip(done, self._given_scores(done), strict=True):
            planned = self._out[item.job.place]
            planned.scored, planned.calls = given, item.calls
            kept.append(self._kept(planned, item))
            scores += [one for one in given if not is_overdue(one.error)]  # the next sitting asks again
            if not item.calls:  # nothing left
                self._account.give_back(ONE_CALL)
        self._store.keep(self._run, kept, scores)
        self._look_at_metric(one for item in done for one in self._out[item.job.place].scored or ())
        self._look_for_one_score(done)

    def answer_of(self, seen: Observation) -> Answer:
        """The whole answer of an observed trial, texts and all, from the store or the log."""
        if (kept := self._store.answer(seen.identity)) is not None:
            return kept.answer
        return Answer.of_text(self._queries[seen.trial.query].output or "") if seen.logged else seen.answer

    # -- one trial -----------------------------------------------------------------------------------------------------
    def _plan_trial(self, trial: Trial, ground: Ground) -> _Planned | Outcome:
        try:
            composed = ground.composed(trial.cell)
        except Infeasible:
            return Outcome(trial, None, "infeasible")
        query = self._queries[trial.query]
        identity = identity_of(composed.digest, query.digest, self._target, trial.repeat + composed.repeats_from)
        return _Planned(trial, query, composed.level or ground.level, composed, identity)

    def _must_ask(self, planned: _Planned) -> bool:
        planned.kept = self._store.answer(planned.identity)
        if planned.kept is None:
            planned.logged = self._logged_score(planned)
        if planned.kept is not None or planned.logged is not None or planned.identity in self._under_way:
            return False
        self._under_way.add(planned.identity)
        return True

    def _job_at(self, place: int) -> Job:
        planned = self._out[place]
        return Job(place, planned.query, planned.composed.release, planned.repeat)

    def _left_to_others(self, places: list[int], engine: Engine) -> dict[int, Done]:
        """Waits for trials that another process on the same store is at; what it did not answer in time is asked here too."""
        done: dict[int, Done] = {}
        until = time.monotonic() + PATIENCE_SECONDS
        while places and not engine.stopped:
            time.sleep(_POLL_SECONDS)
            self._store.refresh()
            places = [place for place in places if not self._store.answered(self._out[place].identity)]
            self._theirs.difference_update(places)
            if time.monotonic() > until:
                self._insist.update(places)
            done |= {d.job.place: d for d in engine.run([self._job_at(place) for place in places])}
            places = [place for place in places if place in self._theirs]
        return done

    def _ended_outcome(self, planned: _Planned, done: Done | None) -> Outcome | None:
        if self._is_cut_off:
            self.lacks = True
            if done is not None:
                self._ledger.pay(done.answer, done.calls)
            return None
        if done is not None:
            return self._outcome(planned, done.answer, done.infeasible, fresh=True)
        if planned.logged is not None:
            return self._from_log(planned)
        kept = planned.kept or self._store.answer(planned.identity)  # asked for by an earlier round
        if kept is None and self._account.is_closed():  # no call is left to ask once more what failed
            kept = self._store.failure(planned.identity)
        if kept is None:
            self.lacks = True
            return None
        return self._outcome(planned, kept.answer, kept.infeasible, fresh=False)

    def _outcome(self, planned: _Planned, answer: Answer, infeasible: str | None, *, fresh: bool) -> Outcome:
        scores = {} if infeasible else self._scores_of(planned, answer)
        self._ledger.add(planned.seen(answer, scores, infeasible, fresh=fresh))
        if infeasible or answer.outcome == MISSING:
            return Outcome(planned.trial, None, "infeasible" if infeasible else "missing")
        if answer.error:
            return Outcome(planned.trial, None, "error")
        value = scores[self._metric.name]
        return Outcome(planned.trial, None if value is None else value * self._sign, "ok", *self._verdict_of(planned))

    def _verdict_of(self, planned: _Planned) -> tuple[str | None, float | None]:
        """Which judgement the trial's score rests on, and a second one of the same answer."""
        if self._judged is None:
            return None, None
        again = self._judged.second(planned.identity)
        return self._judged.verdict(planned.identity), None if again is None else again * self._sign

    # -- logged scores -------------------------------------------------------------------------------------------------
    def _from_log(self, planned: _Planned) -> Outcome:
        query, score = planned.query, planned.logged or 0.0
        scores: dict[str, float | None] = {name: query.scores.get(name) for name in self._prepared.scorers}
        answer = Answer.of_text(query.output or "")
        self._ledger.add(planned.seen(answer, scores, None, fresh=False, logged=True))
        return Outcome(planned.trial, self._sign * float(score))

    def _logged_score(self, planned: _Planned) -> float | None:
        """The log's own score of a good or bad trial, when the settings let it count; a fifth is replayed all the same."""
        if not self._reuses_log or planned.trial.repeat:
            return None
        query, side = planned.query, self._logged_sides.get(planned.composed.digest)
        if side is None or query.release != side or int(query.digest[:8], 16) % 5 == 0:
            return None
        return query.scores.get(self._metric.name)

    # -- what the store keeps ------------------------------------------------------------------------------------------
    def _kept(self, planned: _Planned, item: Done) -> Kept:
        bad, repeat, answer = planned.composed.bad, planned.repeat, item.answer
        if self._bounded and answer.outcome == "timeout" and not (answer.usage.unsettled_usd or answer.usage.unsettled_tokens):
            open_ = self._store.reserved(self._run, planned.identity)  # given up with requests under way
            usage = replace(answer.usage, unsettled_usd=open_.usd, unsettled_tokens=open_.tokens)
            answer = replace(answer, usage=usage)
        return Kept(planned.identity, self._run, planned.query.id, bad, repeat, answer, item.infeasible, item.calls)

    def _given_scores(self, done: list[Done]) -> list[list[Scored]]:
        """The scores of each by the scorers that need nobody's answer."""
        answered = [(i, item) for i, item in enumerate(done) if not item.infeasible and not item.answer.error]
        asked = [(i, scorer, item) for i, item in answered for scorer in self._at_once]
        scores = self._scoring.all(
            [(scorer, self._out[item.job.place].query, item.answer) for _, scorer, item in asked], ends=self._ends
        )
        given: list[list[Scored]] = [[] for _ in done]
        for (i, scorer, item), score in zip(asked, scores, strict=True):
            identity = self._out[item.job.place].identity
            given[i].append(Scored(identity, self._keys[scorer.name], score.value, score.error))
        return given

    def _scored_by(self, planned: _Planned, scorer: Scorer, answer: Answer) -> Scored:
        score = self._scoring.all([(scorer, planned.query, answer)], ends=self._ends)[0]
        return Scored(planned.identity, self._keys[scorer.name], score.value, score.error)

    def _look_at_metric(self, given: Iterable[Scored]) -> None:
        """Raises `TargetFailure` when the scorer that decides only fails, or has given no answer a score yet."""
        key = self._keys[self._metric.name]
        for one in given:
            if one.scorer == key and one.error:
                self._health.failed(one.error, calls=1)
            elif one.scorer == key and one.value is not None:
                self._health.well()
            elif one.scorer == key and not self._health.worked:
                self._health.failed("it gave no score (None)", calls=1)
        if (failure := self._health.failure) is not None:
            raise failure

    def _look_for_one_score(self, done: Sequence[Done]) -> None:
        """Raises `TargetFailure` when the scorer that decides gives everything one score."""
        key = self._keys[self._metric.name]
        for item in done:
            planned = self._out[item.job.place]
            for one in planned.scored or ():
                if one.scorer == key:
                    self._constant.hear(planned.query, item.answer, one.value)

    def _scores_of(self, planned: _Planned, answer: Answer) -> dict[str, float | None]:
        """Scores by name: just given, or from the store (a scorer added later is run on the kept answer)."""
        if answer.error:
            return dict.fromkeys(self._keys)
        scored = {one.scorer: one for one in planned.scored or ()}
        values: dict[str, float | None] = {}
        for name, scorer in self._prepared.scorers.items():
            one = scored.get(self._keys[name]) or self._found_score(planned, scorer, answer)
            if one.error:
                self._ledger.scorer_errors[name] = self._ledger.scorer_errors.get(name, 0) + 1
                self._ledger.scorer_messages.setdefault(name, one.error)
            values[name] = one.value
        return values

    def _judge_round(self, begun: TrialRound, done: Mapping[int, Done]) -> None:
        """Scores that are given many at a time, for all answers of a round at once; the answers are durable already."""
        if not self.desks:
            return
        waiting: dict[str, Ask] = {}
        for i, planned in enumerate(begun.planned):
            if isinstance(planned, Outcome) or planned.logged is not None:
                continue
            came: Done | Kept | None = done.get(begun.places.get(i, -1)) or planned.kept or self._store.answer(planned.identity)
            if came is not None and not came.answer.error and not came.infeasible:
                waiting[planned.identity] = Ask(planned.query, came.answer, repeat=planned.trial.repeat)
        for desk in self.desks.values():
            desk.score(waiting)
        if self._metric.name in self.desks and not self._account.is_closed():  # a cap is no failure
            desk = self.desks[self._metric.name]
            self._look_at_metric(one for trial in waiting if (one := desk.given(trial)) is not None)

    def _found_score(self, planned: _Planned, scorer: Scorer, answer: Answer) -> Scored:
        desk = self.desks.get(scorer.name)
        found = self._store.score(planned.identity, self._keys[scorer.name]) if desk is None else desk.given(planned.identity)
        if found is None:
            found = self._scored_by(planned, scorer, answer)
            self._store.keep(self._run, [], [] if is_overdue(found.error) else [found])
            self._look_at_metric([found])
        return found
