"""One run from two releases and a log to a report: check, reproduce, localise, report.

`prepare` freezes everything and spends nothing; `Study.run` replays what the search asks for and says what came out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.designs import design_search
from bisect_ai.attribution.problem import Attribution, Belief, Outcome, Problem, Search, Trial
from bisect_ai.canonical import digest
from bisect_ai.config import Config
from bisect_ai.environment import Environment, check_environment
from bisect_ai.errors import ConfigError
from bisect_ai.ledger import Ledger, Observation
from bisect_ai.queries.sample import Sample
from bisect_ai.release.compose import compose
from bisect_ai.release.load import Release
from bisect_ai.replay.answer import Answer, Target
from bisect_ai.replay.engine import Done, Engine, Job
from bisect_ai.replay.store import Kept, Scored, Store
from bisect_ai.scoring.scorers import Scorer, score_answer

ROUND_PER_WORKER = 4


@dataclass(frozen=True)
class Progress:
    """What a live view shows after each round."""

    calls: int
    budget: int
    usd: float
    seconds: float
    belief: Belief


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Prepared:
    """Everything a run is made of, frozen: nothing has been spent."""

    config: Config
    good: Release
    bad: Release
    axes: tuple[str, ...]
    sample: Sample
    scorers: Mapping[str, Scorer]
    metric: Scorer
    target: Target
    notices: tuple[str, ...] = ()

    @property
    def columns(self) -> set[str]:
        """The log's columns, which prompt templates may name."""
        return {column for query in self.sample.queries[:50] for column in query}

    @property
    def settings(self) -> dict[str, Any]:
        """What names the run: everything that can change its verdict, and the decision rule."""
        c = self.config
        return {
            "good": {"name": self.good.name, "digest": self.good.digest},
            "bad": {"name": self.bad.name, "digest": self.bad.digest},
            "axes": list(self.axes),
            "sample": self.sample.digest,
            "population": self.sample.population,
            "target": dict(self.target.identity),
            "scorers": {name: scorer.digest or _unkept(scorer) for name, scorer in self.scorers.items()},
            "metric": self.metric.name,
            "reuse": c.log.reuse,
            "higher_is_better": self.metric.higher_is_better,
            "tolerance": c.tolerance,
            "alpha": c.alpha,
            "budget": c.budget.model_dump(),
            "design": c.design,
            "seed": c.seed,
        }

    @property
    def run_id(self) -> str:
        """The digest of the settings: the same command resumes the same run."""
        return digest(self.settings)[:16]

    @property
    def problem(self) -> Problem:
        """The run as attribution sees it."""
        sample = self.sample
        weights = np.array(sample.weights, float)
        clusters = None if sample.clusters is None else np.unique(np.array(sample.clusters), return_inverse=True)[1]
        return Problem(
            axes=self.axes,
            queries=len(sample.queries),
            budget=self.config.budget.calls,
            tolerance=self.config.tolerance,
            alpha=self.config.alpha,
            seed=self.config.seed,
            population=sample.population,
            weights=None if np.allclose(weights, weights[0]) else weights / weights.mean(),
            clusters=clusters,
        )


@dataclass
class Outcomes:
    """What a finished run knows: attribution, environment, observations and the ledger."""

    prepared: Prepared
    attribution: Attribution
    environment: Environment
    ledger: Ledger
    warnings: list[str] = field(default_factory=list)


class Study:
    """A prepared run with its store; `run` replays until the search is settled or the budget is spent."""

    def __init__(self, prepared: Prepared, store: Store, *, watch: Watch | None = None) -> None:
        self._prepared = prepared
        self._store = store
        self._watch = watch
        self._run = prepared.run_id
        self._ledger = Ledger()
        self._cells: dict[int, Mapping[str, Any]] = {}
        self._digests: dict[int, str] = {}
        self._axis_digests: dict[tuple[str, bool], str] = {}
        self._target_digest = digest(dict(prepared.target.identity))
        self._warnings = list(prepared.notices)
        self._start = time.monotonic()
        self._environment: Environment | None = None

    def run(self) -> Outcomes:
        """Replay, score, attribute. Resumes: what the store answers is not called again."""
        self._store.begin(self._run, self._prepared.settings)
        search = design_search(self._prepared.config.design, self._prepared.problem)
        concurrency = self._prepared.config.concurrency or self._prepared.target.concurrency
        with Engine(self._prepared.target, concurrency=concurrency, commit=self._commit) as engine:
            self._converse(search, engine, width=concurrency * ROUND_PER_WORKER)
        if self._ledger.calls:
            self._store.finish(self._run, {"seconds": round(time.monotonic() - self._start, 3)})
        self._ledger.settle(self._store, self._run)
        environment = self._environment or self._look_around(search)
        return Outcomes(self._prepared, search.result(), environment, self._ledger, self._warnings)

    def _converse(self, search: Search, engine: Engine, *, width: int) -> None:
        while not self._spent():
            trials = search.ask(width)
            if not trials or self._stop_early(search, trials):
                return
            search.tell(self._replay(trials, engine))
            if self._watch:
                self._watch(self._progress(search))

    def _stop_early(self, search: Search, trials: Sequence[Trial]) -> bool:
        """Whether good and bad alone settle it, looked at once: before the first trial of an inner cell."""
        corners = (0, self._prepared.problem.full)
        if self._environment is not None or all(t.cell in corners for t in trials):
            return False
        self._environment = self._look_around(search)
        return self._environment.kind is not None

    def _look_around(self, search: Search) -> Environment:
        return check_environment(self._prepared.sample, self._ledger, self._prepared, search.result().loss)

    def _spent(self) -> bool:
        budget = self._prepared.config.budget
        if budget.usd is not None and self._ledger.usd >= budget.usd:
            self._warnings.append(f"stopped at the money cap: {self._ledger.usd:.2f} of {budget.usd:g} USD spent")
            return True
        if budget.minutes is not None and time.monotonic() - self._start >= budget.minutes * 60:
            self._warnings.append(f"stopped at the time cap of {budget.minutes:g} minutes")
            return True
        return False

    # -- one round ---------------------------------------------------------------------------------------------------
    def _replay(self, trials: Sequence[Trial], engine: Engine) -> list[Outcome]:
        """The outcomes of `trials`, in order; answers from the store, or scores from the log, where they have them."""
        identities = [self._identity(trial) for trial in trials]
        kept = {i: self._store.answer(identity) for i, identity in enumerate(identities)}
        logged = {i: self._logged(trial) for i, trial in enumerate(trials) if kept[i] is None}
        missing = [i for i, score in logged.items() if score is None]
        self._round = [(trials[i], identities[i]) for i in missing]
        jobs = [self._job(place, trial) for place, (trial, _) in enumerate(self._round)]
        done = {missing[d.job.place]: d for d in engine.run(jobs)}
        return [
            self._outcome(trial, identity, kept[i], done.get(i)) if logged.get(i) is None else self._from_log(trial)
            for i, (trial, identity) in enumerate(zip(trials, identities, strict=True))
        ]

    def _logged(self, trial: Trial) -> float | None:
        """The log's own score of a good or bad trial, when the settings let it count; a fifth is replayed all the same."""
        side = {0: self._prepared.good.name, self._prepared.problem.full: self._prepared.bad.name}.get(trial.cell)
        query = self._prepared.sample.queries[trial.query]
        if not self._prepared.config.log.reuse or trial.repeat or side is None or query.release != side:
            return None
        return None if int(query.digest[:8], 16) % 5 == 0 else query.scores.get(self._prepared.metric.name)

    def _from_log(self, trial: Trial) -> Outcome:
        query = self._prepared.sample.queries[trial.query]
        scores: dict[str, float | None] = {name: query.scores.get(name) for name in self._prepared.scorers}
        names = self._names(trial.cell)
        self._ledger.add(
            Observation(query.id, trial, names, Answer(text=query.output or ""), scores, None, fresh=False, logged=True)
        )
        return Outcome(trial, self._sign * float(query.scores[self._prepared.metric.name]))

    def _job(self, place: int, trial: Trial) -> Job:
        return Job(place, self._prepared.sample.queries[trial.query], self._release(trial.cell), trial.repeat)

    def _release(self, cell: int) -> Mapping[str, Any]:
        if cell not in self._cells:
            bad = [a for i, a in enumerate(self._prepared.axes) if cell >> i & 1]
            self._cells[cell] = compose(self._prepared.good, self._prepared.bad, bad)
            self._digests[cell] = digest({a: self._axis_digest(a, a in bad) for a in self._cells[cell]})
        return self._cells[cell]

    def _axis_digest(self, axis: str, from_bad: bool) -> str:
        """Hashed once a side: a corpus is long, cells are many."""
        if (axis, from_bad) not in self._axis_digests:
            release = self._prepared.bad if from_bad else self._prepared.good
            self._axis_digests[axis, from_bad] = digest(release.axes[axis])
        return self._axis_digests[axis, from_bad]

    def _identity(self, trial: Trial) -> str:
        self._release(trial.cell)
        return digest(
            {
                "release": self._digests[trial.cell],
                "query": self._prepared.sample.queries[trial.query].digest,
                "target": self._target_digest,
                "repeat": trial.repeat,
            }
        )

    def _commit(self, done: list[Done]) -> None:
        """Score what came back and make it durable: only then does it count."""
        kept, scores = [], []
        for item in done:
            trial, identity = self._round[item.job.place]
            kept.append(self._kept(item, trial, identity))
            scores += self._scores(identity, item)
        self._store.keep(self._run, kept, scores)

    def _kept(self, item: Done, trial: Trial, identity: str) -> Kept:
        query = self._prepared.sample.queries[trial.query]
        return Kept(identity, self._run, query.id, self._names(trial.cell), trial.repeat, item.answer, item.infeasible)

    def _scores(self, identity: str, item: Done) -> list[Scored]:
        if item.infeasible or item.answer.error:
            return []
        rows = []
        for scorer in self._prepared.scorers.values():
            score = score_answer(scorer, item.job.query, item.answer)
            rows.append(Scored(identity, scorer.digest or _unkept(scorer), score.value, score.error))
        return rows

    def _outcome(self, trial: Trial, identity: str, kept: Kept | None, done: Done | None) -> Outcome:
        found = kept or self._store.answer(identity)
        if found is None and done is None:
            return Outcome(trial, None, "error")
        answer = found.answer if found else done.answer  # type: ignore[union-attr]  # one of the two is there
        infeasible = found.infeasible if found else done.infeasible  # type: ignore[union-attr]
        query = self._prepared.sample.queries[trial.query]
        scores = {} if infeasible else self._scores_of(identity, answer, trial)
        fresh = done is not None
        self._ledger.add(Observation(query.id, trial, self._names(trial.cell), answer, scores, infeasible, fresh))
        if infeasible:
            return Outcome(trial, None, "infeasible")
        if answer.error:
            return Outcome(trial, None, "error")
        value = scores[self._prepared.metric.name]
        return Outcome(trial, None if value is None else value * self._sign)

    def _scores_of(self, identity: str, answer: Any, trial: Trial) -> dict[str, float | None]:
        """Scores by name, from the store where it has them (a scorer added later is run on the kept answer)."""
        if answer.error:
            return dict.fromkeys(self._prepared.scorers)
        values: dict[str, float | None] = {}
        for name, scorer in self._prepared.scorers.items():
            key = scorer.digest or _unkept(scorer)
            found = self._store.score(identity, key)
            if found is None:
                score = score_answer(scorer, self._prepared.sample.queries[trial.query], answer)
                found = Scored(identity, key, score.value, score.error)
                self._store.keep(self._run, [], [found])
            if found.error:
                self._ledger.scorer_errors[name] = self._ledger.scorer_errors.get(name, 0) + 1
                self._ledger.scorer_messages.setdefault(name, found.error)
            values[name] = found.value
        return values

    @property
    def _sign(self) -> float:
        return 1.0 if self._prepared.metric.higher_is_better else -1.0

    def _names(self, cell: int) -> tuple[str, ...]:
        return tuple(a for i, a in enumerate(self._prepared.axes) if cell >> i & 1)

    def _progress(self, search: Search) -> Progress:
        budget = self._prepared.config.budget.calls
        return Progress(self._ledger.trials, budget, self._ledger.usd, time.monotonic() - self._start, search.belief())


def _unkept(scorer: Scorer) -> str:
    """A key for a scorer without a digest: good in this process only."""
    return f"this-process:{scorer.name}:{id(scorer.score):x}"


def metric_of(scorers: Mapping[str, Scorer], wanted: str | None) -> Scorer:
    """The scorer that decides. Raises `ConfigError` when it isn't there or isn't clear."""
    if wanted is None and len(scorers) == 1:
        return next(iter(scorers.values()))
    if wanted is None or wanted not in scorers:
        have = ", ".join(scorers)
        raise ConfigError(f"metric {wanted!r}: no scorer has that name; set `metric` to one of: {have}")
    return scorers[wanted]


def folder_of(path: Path | None) -> Path:
    """The folder that relative paths are read from: the config file's, else the working folder."""
    return path.resolve().parent if path is not None else Path.cwd()
