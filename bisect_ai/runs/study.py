"""One run from two releases and a log to a report: check, reproduce, localise, report.

`prepare` freezes everything and spends nothing; `Study.run` replays what the search asks for and says what came out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import Attribution, Belief, Search, Trial
from bisect_ai.attribution.questions.audit import AuditSearch
from bisect_ai.attribution.questions.drift import DriftSearch
from bisect_ai.attribution.questions.segments import get_ready
from bisect_ai.attribution.questions.verify import VerifySearch
from bisect_ai.attribution.search.coupled import CoupledSearch
from bisect_ai.attribution.stats.smallest_loss import FIRST
from bisect_ai.errors import TargetFailure
from bisect_ai.provider.budget import GRACE_SECONDS, Account, CapReached
from bisect_ai.provider.rate_limit import MOST_GROWTH
from bisect_ai.provider.retry import CallFailed
from bisect_ai.provider.watchdog import over_by
from bisect_ai.replay.engine import Engine
from bisect_ai.replay.executors import local_hands, patience_of
from bisect_ai.replay.interrupts import Stop
from bisect_ai.replay.job_queue import Hands
from bisect_ai.runs.drilling import Drilling
from bisect_ai.runs.judging import rehearse
from bisect_ai.runs.ledger import ENOUGH, Before, Ledger, Progress, Watch, is_silent
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.outcomes import Drilled, Environment, Outcomes, check_environment, more_trials
from bisect_ai.runs.prepared import Axes, Digests, Prepared, by_first_scores
from bisect_ai.runs.question import Finding
from bisect_ai.runs.run_accounts import Common, ExchangeJournal, Grant, VectorJournal, caps_of, paid_in_all
from bisect_ai.runs.tape_misses import is_held, is_hopeless, probes, tape_of
from bisect_ai.runs.trial_window import Kind, Pace, TrialWindow, pace_of
from bisect_ai.runs.trials import SCORER_FAILURES, Replay, TrialRound
from bisect_ai.scoring.scorer_charges import Loop, Purse
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.target import metered


class Study:
    """A prepared run with its store; `run` replays until the search is settled or the budget is spent."""

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        *,
        watch: Watch | None = None,
        stop: Stop | None = None,
        before: Before = Before(),  # noqa: B008  # frozen
    ) -> None:
        self._stop = stop or Stop()
        self._before = before
        self._prepared = prepared = replace(prepared, calls_before=store.spending(before.run).charges)
        self._store = store
        self._watch = watch
        self._run = prepared.run_id
        self._ledger = Ledger(tuple(prepared.scorers))
        self._digests = digests = Digests()
        self._account = Account(caps_of(prepared.config, before), shared=Common(store, self._run, before=before.run))
        self._target = metered(
            prepared.target, self._account, per_trial=prepared.config.budget.per_trial.usd, usual=self._account.usual
        )
        if (keep_exchanges := getattr(prepared.target, "keep_exchanges", None)) is not None:
            keep_exchanges(ExchangeJournal(store, self._run, self._account, before=before.run))
        if (keep_vectors := getattr(prepared.target, "keep_vectors", None)) is not None:
            keep_vectors(VectorJournal(store, self._run, self._account, hear=self._ledger.hear_doubt))
        self._replay = Replay(
            prepared, store, self._ledger, digests=digests, account=self._account, away=prepared.config.is_away
        )
        for name, scorer in prepared.scorers.items():
            if scorer.batch is not None:
                scorer.batch.pay_from(Purse(self._account, store, run=self._run, who=name, hear=self._ledger.hear_doubt))
        self._axes = Axes(prepared.good, prepared.bad, prepared.axes, digests)
        self._warnings = list(prepared.notices)
        self._start = time.monotonic()
        self._looked = False
        self._knows_tolerance = False
        # What was about to be asked when good and bad alone seemed to settle it.
        self._put_off: Sequence[Trial] = ()

    def run(self) -> Outcomes:
        """Replay, score, attribute. Resumes: what the store answers is not called again. What the target runs is ended."""
        try:
            return self._replayed()
        finally:
            self._close_target()

    def first_answers(self) -> list[Observation]:
        """Good's and bad's trial of the first query, kept like any other; fewer where the caps have no room for them."""
        trials = [Trial(0, 0), Trial(0, self._prepared.problem.full)]
        try:
            with self._engine() as engine, self._stop.gently(engine.stop):
                self._replay.outcomes(trials, self._axes, engine)
            return [o for o in self._ledger.observations if not o.infeasible]
        finally:
            self._close_target()

    def answer_of(self, seen: Observation) -> Answer:
        """The whole answer of a trial."""
        return self._replay.answer_of(seen)

    @property
    def scorer_errors(self) -> Mapping[str, str]:
        """Scorer to what it failed with first."""
        return self._ledger.scorer_messages

    def _close_target(self) -> None:
        close = getattr(self._prepared.target, "close", None)
        if close is not None:
            close()

    def _replayed(self) -> Outcomes:
        question, design = self._prepared.question, self._prepared.config.design
        search = question.search(self._prepared.problem, design)
        pace = self._pace("rounds" if not question.bisects else "adaptive" if design == "adaptive" else "fixed")
        with self._engine() as engine, self._stop.gently(engine.stop):
            under_way: TrialWindow[TrialRound] = TrialWindow(partial(self._replay.finish, engine=engine), pace)
            self._converse(search, engine, under_way, width=pace.width)
            stopped = self._account.stopped
            if question.bisects:
                return self._with_what_surrounds(search, engine, under_way, pace, stopped)
        finding = search.finding() if isinstance(search, AuditSearch | VerifySearch | DriftSearch) else None
        return self._outcomes(search.result(), Environment(), None, stopped=stopped, finding=finding)

    def _with_what_surrounds(
        self, search: Search, engine: Engine, under_way: TrialWindow[TrialRound], pace: Pace, stopped: str | None
    ) -> Outcomes:
        """The outcomes of a bisection: what moved besides the release, what the tape lacks, what is inside the guilty axes."""
        found = search.result()
        self._look_further(found, engine, width=pace.most(0))
        if self._put_off and self._look_around(found).kind is None:  # more queries did not bear out what stopped it
            self._converse(search, engine, under_way, width=pace.width)
            stopped, found = stopped or self._account.stopped, search.result()
        self._look_at_tape(engine, found)
        environment = self._look_around(found)
        drill = self._drill(found, environment, engine, under_way)
        while under_way:
            under_way.tell_next()
        return self._outcomes(found, environment, drill, stopped=stopped)

    def _pace(self, kind: Kind) -> Pace:
        """For as many workers as there may come to be: what is asked must not depend on what headers told so far."""
        growth = 1.0 if getattr(self._prepared.target, "headroom", None) is None else MOST_GROWTH
        return pace_of(kind, self._concurrency, budget=self._prepared.config.budget.calls, growth=growth)

    @property
    def _concurrency(self) -> int:
        return self._prepared.config.concurrency or self._prepared.target.concurrency

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """The engine of a sitting, once the run is written down."""
        self._store.begin(self._run, self._settings)
        self._rehearse()
        self._embed_corpora()
        replay = self._replay
        how: dict[str, Any] = {"commit": replay.commit, "begin": replay.starts, "undo": replay.unstarted, "count": replay.count}
        config, before = self._prepared.config, self._store.spending(self._run)
        # An earlier sitting leaves only what failed, so that failures in a row say less.
        how |= {"answered": before.trials > before.errors + before.held, "keep_going": config.keep_going}
        how |= {"trial_run": SCORER_FAILURES, "trusted": lambda: replay.is_scored, "ends": self._account.ends}
        how |= {"hold": self._stop.held, "meanwhile": get_ready if self._prepared.question.bisects else None}
        last = over_by(self._account.ends + GRACE_SECONDS)
        with (
            self._hands() as (hands, seconds),
            last,
            Engine(hands, concurrency=self._concurrency, seconds=seconds, **how) as engine,
        ):
            yield engine

    def _rehearse(self) -> None:
        """Raises `TargetFailure` before the target is paid when nobody gives the scores that are asked for; only a new run asks."""
        if not self._store.spending(self._run).trials and not self._prepared.config.keep_going:
            name = self._prepared.metric.name
            rehearse(self._replay.desks, name, self._account, spent=lambda: self._store.spending(self._run).usd)

    def _embed_corpora(self) -> None:
        """Raises `TargetFailure` before a question is asked when the documents of a release cannot be embedded."""
        embedding = getattr(self._prepared.target, "embedding", None)
        work = None if embedding is None else embedding(self._prepared.good.axes, self._prepared.bad.axes)
        if work is None:
            return
        loop = Loop("bisect-ai-retriever")
        try:
            loop.run(work(), ends=self._account.ends)
        except (CapReached, TimeoutError):  # a cap is no failure: no question is asked either
            return
        except CallFailed as failed:
            advice = (
                "mend corpus.retriever.model, its key or its address, and run the same command again: what was embedded is kept"
            )
            raise TargetFailure(f"the documents were not embedded: {failed}; no question was asked: {advice}") from failed
        finally:
            loop.close()

    @contextmanager
    def _hands(self) -> Iterator[tuple[Hands, float]]:
        """Hands in this process, or in others when the settings ask for them; and for how many seconds they may have a job."""
        config = self._prepared.config
        patience = patience_of(self._target, config.target_seconds)
        if not config.is_away:
            yield local_hands(self._target, self._concurrency), patience
            return
        from bisect_ai.replay.backends import open_lanes
        from bisect_ai.replay.cluster import ClusterHands, patience_elsewhere

        lanes, disconnect = open_lanes(config.backend, jobs=config.jobs, scheduler=config.scheduler)
        own, make = config.budget.per_trial.usd, self._prepared.make_target
        try:
            how: dict[str, Any] = {"concurrency": self._concurrency, "account": self._account, "per_trial_usd": own}
            how["grant"] = partial(Grant, self._account, self._store, self._run)
            hands = ClusterHands(lanes, make, **how, seconds=config.target_seconds, keep_going=config.keep_going)
            yield hands, patience_elsewhere(patience)
        finally:
            disconnect()

    @property
    def _settings(self) -> dict[str, Any]:
        """What is written down before the first call: besides what names the run, what an audit starts from."""
        return {**self._prepared.settings, **self._prepared.record}

    def _outcomes(
        self,
        found: Attribution,
        environment: Environment,
        drill: Drilled | None,
        *,
        stopped: str | None,
        finding: Finding | None = None,
    ) -> Outcomes:
        self._ledger.seconds = round(time.monotonic() - self._start, 3)
        if self._ledger.calls:
            self._store.finish(self._run, {"seconds": self._ledger.seconds})
        self._ledger.paid = paid_in_all(self._store, self._run, self._before, trials=self._ledger.trials)
        told, answer_of, desks = self._told(), self._replay.answer_of, self._replay.desks
        for desk in desks.values():
            desk.close()
        return Outcomes(self._prepared, found, environment, self._ledger, answer_of, drill, told, desks, finding, stopped)

    def _told(self) -> list[str]:
        lines = [self._account.stopped] if self._account.stopped else []
        if self._account.caps_money and getattr(self._target, "unpriced", False):
            lines.append("the cap in USD counts what the target says that its answers cost: some did not say")
        killed = self._store.spending(self._run).killed
        remarks = getattr(self._prepared.target, "remarks", ())
        return [*self._warnings, *lines, *remarks, *self._ledger.told(), *([killed.told()] if killed.calls else [])]

    def _converse(self, search: Search, engine: Engine, under_way: TrialWindow[TrialRound], *, width: int) -> None:
        """Ask and tell, always in one order: a resumed run decides alike. Workers that would wait go ahead with the drill-down."""
        ground, over = self._prepared.question.ground or self._axes, False
        while True:
            over = over or self._is_over(engine)
            decided = search.decided if isinstance(search, CoupledSearch) else 0
            trials = (self._put_off or search.ask(width)) if under_way.has_room(search.tell, decided) and not over else ()
            if trials and self._stop_early(search, trials):
                over, self._put_off = True, trials
            elif trials:
                self._put_off = ()
                under_way.add(len(trials), self._replay.begin(trials, ground, engine), search.tell)
            elif not over and self._drills_ahead(search, engine, under_way, width=width):
                continue
            elif under_way.awaits(search.tell):
                under_way.tell_next()
                self._set_tolerance(search, fewest=FIRST)
                if self._watch:
                    self._watch(self._progress(search.belief()))
            else:
                self._set_tolerance(search, fewest=2)
                return

    def _drills_ahead(self, search: Search, engine: Engine, under_way: TrialWindow[TrialRound], *, width: int) -> bool:
        """Begin trials of the drill-down inside the axes that will probably be named; False when there are none."""
        if not isinstance(search, CoupledSearch):
            return False

        def drilled() -> Attribution | None:
            found = search.result()
            return found if self._drills(found, self._look_around(found)) else None

        return self._drilling.go_ahead(search, drilled, engine, under_way, width=width)

    def _set_tolerance(self, search: Search, *, fewest: int) -> None:
        """Once, when the good release has given so many scores: the tolerance of an open scale that nobody set one for.

        A resumed run hears of the same answers in the same order, so it comes to the same.
        """
        prepared, metric = self._prepared, self._prepared.metric
        if self._knows_tolerance or metric.bounded is not None:
            return
        scores = np.array(list(self._ledger.observations.first_scores(0, metric.name).values()))
        if len(scores) < fewest:
            return
        self._knows_tolerance = True
        found, notes = by_first_scores(scores, prepared)
        self._warnings += notes
        if found is not None and isinstance(search, CoupledSearch):
            config = prepared.config.model_copy(update={"tolerance": found})
            self._prepared = replace(prepared, config=config, declared_tolerance=prepared.config.tolerance)
            search.set_tolerance(found)

    def _is_over(self, engine: Engine) -> bool:
        return self._is_cut_off(engine) or self._is_off_tape or self._is_silent

    def _is_cut_off(self, engine: Engine) -> bool:
        """Whether no more can be told: stopped, out of time, or at a cap with something asked for that is not on record.

        At a cap the search goes on with what an earlier session has paid for, so that a run asked for again says no less.
        """
        if self._account.stopped is None or self._account.is_out_of_time() or self._stop.signal is not None:
            return self._account.is_closed() or engine.stopped
        return self._replay.lacks

    @property
    def _is_off_tape(self) -> bool:
        """Whether a release asks for tool calls that the log does not have, in nearly every query."""
        return is_hopeless(self._ledger.observations, self._prepared.problem.full)

    @property
    def _is_silent(self) -> bool:
        """Whether both releases answer with nothing: more of it would tell no loss."""
        seen, full = self._ledger.observations, self._prepared.problem.full
        return not self._prepared.config.keep_going and is_silent(seen, full, fewest=ENOUGH)

    def _look_at_tape(self, engine: Engine, found: Attribution) -> None:
        """Find out which axes ask for what the log does not have, where good and bad alone do not tell."""
        left = self._prepared.config.budget.calls - self._ledger.trials
        trials = probes(self._ledger.observations, self._prepared.problem.k, most=left, chosen=found.chosen)
        if trials and not self._is_cut_off(engine):
            self._replay.outcomes(trials, self._axes, engine)

    def _is_doubtful(self, found: Attribution) -> bool:
        """Whether what was found may come from what the log does not have."""
        tape = tape_of(self._ledger.observations, self._prepared.problem.k, chosen=found.chosen)
        return is_held(found, tape, self._prepared.axes)

    def _drills(self, found: Attribution, environment: Environment) -> bool:
        """Whether what is inside the guilty axes is looked for."""
        return self._prepared.drills and environment.kind is None and not self._is_doubtful(found)

    def _drill(
        self, found: Attribution, environment: Environment, engine: Engine, under_way: TrialWindow[TrialRound]
    ) -> Drilled | None:
        """What is inside the guilty axes, in what is left of the budget."""
        if not self._drills(found, environment):
            return None

        def watch(belief: Belief) -> None:
            if self._watch:
                self._watch(self._progress(belief))

        width = self._pace("adaptive").width
        return self._drilling.run(found, engine, under_way, width=width, stopped=lambda: self._is_over(engine), watch=watch)

    @cached_property
    def _drilling(self) -> Drilling:
        return Drilling(self._prepared, self._replay, self._ledger, self._digests)

    def _stop_early(self, search: Search, trials: Sequence[Trial]) -> bool:
        """Whether good and bad alone settle it, looked at once: before the first trial of an inner cell."""
        corners = (0, self._prepared.problem.full)
        if self._looked or not self._prepared.question.bisects or all(t.cell in corners for t in trials):
            return False
        self._looked = True
        return self._look_around(search.result()).kind is not None

    def _look_further(self, found: Attribution, engine: Engine, *, width: int) -> None:
        """Replay the good release on more queries while that may tell what moved besides the release."""
        while True:
            left = min(width, self._prepared.config.budget.calls - self._ledger.trials)
            trials = more_trials(self._prepared.sample, self._ledger, self._prepared, found, most=left)
            if not trials or self._is_over(engine):
                return
            self._replay.outcomes(trials, self._axes, engine)

    def _look_around(self, found: Attribution) -> Environment:
        seen = check_environment(self._prepared.sample, self._ledger, self._prepared, found.loss)
        return replace(seen, kind=None) if found.kind == "cause" else seen

    def _progress(self, belief: Belief) -> Progress:
        budget, seconds, metric = self._prepared.config.budget, time.monotonic() - self._start, self._prepared.metric
        scale = metric.as_seen(self._ledger.observations.scored(metric.name)).is_share, metric.own_unit or ""
        return Progress(self._ledger.trials, budget.calls, self._ledger.usd, seconds, belief, budget.minutes, *scale)
