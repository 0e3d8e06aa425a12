"""The Python door: `run`, and the steps behind it that the command line shares."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bisect_ai.errors import InputError
from bisect_ai.facts.answer_rows import answered_queries, kept_answers
from bisect_ai.facts.build import recommended, summarise
from bisect_ai.provider.budget import GRACE_SECONDS
from bisect_ai.provider.redaction import redact
from bisect_ai.replay.engine import seldom_collected
from bisect_ai.replay.interrupts import Stop, heeded
from bisect_ai.report.answer_values import AnsweredQuery
from bisect_ai.result import Result
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.runs.preflight import refuse
from bisect_ai.runs.prepare import prepare, settle
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.study import Study, Watch
from bisect_ai.store.trial_store import Store

STOPPING = f"\nstopping: waiting up to {GRACE_SECONDS:.0f} s for the calls under way; Ctrl-C again stops now\n"


Progress = bool | Callable[[], AbstractContextManager[Watch]]
"""Whether progress is shown on standard error; or what gives a function to call with it."""


class Work(Protocol):
    """What is done with a prepared study."""

    def __call__(self, prepared: Prepared, /, *, folder: Path, watch: Watch | None, stop: Stop | None) -> Result:
        """Run (or resume) it and sum it up."""


def run(
    config: str | Path | None = None,
    *,
    good: Any = None,
    bad: Any = None,
    queries: Any = None,
    target: Any = None,
    scorers: Any = None,
    metric: str | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
    budget: Mapping[str, Any] | None = None,
    design: str | None = None,
    drill: bool | None = None,
    seed: int | None = None,
    store: str | Path | None = None,
    log: Any = None,
    concurrency: int | None = None,
    jobs: int | None = None,
    backend: str | None = None,
    scheduler: str | None = None,
    timeouts: Mapping[str, float] | None = None,
    keep_going: bool | None = None,
    couplings: Sequence[Sequence[str]] | None = None,
    secrets: Mapping[str, Any] | None = None,
    repo: str | None = None,
    axes: Mapping[str, Any] | None = None,
    release: str | None = None,
    pin: Mapping[str, Any] | None = None,
    progress: Progress = False,
) -> Result:
    """The verdict on a bad release, from replayed queries.

    `config`: a bisect.yaml; keywords override what it says. `good`, `bad`: a path, a `Release`, a mapping of axis to value, or a
    git revision, for which `repo`, `axes`, `release` and `pin` say what bisect.yaml's say. `queries`: a path, a DataFrame or a list
    of mappings (all of them, unless `log={"sample": n}`). `target`: a function `fn(query, release)`, sync or async, or what
    bisect.yaml's `target` holds. `scorers`: a mapping of name to `fn(query, answer) -> float | bool | None`, or the list of
    bisect.yaml. `tolerance` is in score points, `alpha` the chance of
    a wrong name over the whole run, `budget` has `calls`, `usd`, `minutes`; `timeouts` seconds for an answer of the
    `target` and a score of a `scorer`.
    `couplings`: lists of axes that only run together (others are found when a mixture cannot run).
    `keep_going`: although the target or the deciding scorer only fails. `jobs`: processes that call the target; `backend`:
    where they run (loky: here; dask, ray: on the cluster at `scheduler`). `secrets`: what is hidden, as in
    bisect.yaml. `store=None` keeps everything in memory (with a `config`: its store). Works inside a running event loop.

    Raises `InputError` (what was given is wrong), `TargetFailure` (it kept failing; what was paid for is kept), `StoreError`.
    Ctrl-C stops dispatch, lets what is under way come in for some seconds, and raises `KeyboardInterrupt`: all answers are kept.
    """
    given = {
        "good": good,
        "bad": bad,
        "target": target,
        "scorers": scorers,
        "metric": metric,
        "tolerance": tolerance,
        "alpha": alpha,
        "budget": budget,
        "design": design,
        "drill": drill,
        "seed": seed,
        "store": store,
        "log": log,
        "concurrency": concurrency,
        "jobs": jobs,
        "backend": backend,
        "scheduler": scheduler,
        "timeouts": timeouts,
        "keep_going": keep_going,
        "couplings": None if couplings is None else [list(c) for c in couplings],
        "secrets": secrets,
        "repo": repo,
        "axes": axes,
        "release": release,
        "pin": pin,
    }
    return started(execute, given, config=config, queries=queries, progress=progress)


def started(
    work: Work,
    given: Mapping[str, Any],
    *,
    config: str | Path | None,
    queries: Any = None,
    progress: Progress = False,
    alone: bool = False,
) -> Result:
    """What `work` makes of the settings once they are prepared; stops at a signal with everything kept."""
    with seldom_collected(), heeded(announce=STOPPING if progress else None) as stop:
        settings, folder = settle({k: v for k, v in given.items() if v is not None}, config=config, queries=queries)
        prepared = prepare(settings, folder=folder, queries=queries, alone=alone)
        prepared = replace(prepared, notices=(*prepared.notices, *refuse(prepared, folder=folder)))
        stop.check()
        if not progress:
            return work(prepared, folder=folder, watch=None, stop=stop)
        from bisect_ai.report.progress import live

        with (live if progress is True else progress)() as watch:
            return work(prepared, folder=folder, watch=watch, stop=stop)


def execute(prepared: Prepared, *, folder: Path, watch: Watch | None = None, stop: Stop | None = None) -> Result:
    """Run (or resume) a prepared study and sum it up."""
    with store_of(prepared, folder) as store:
        outcomes = Study(prepared, store, watch=watch, stop=stop).run()
        report = summarise(outcomes, damage=store.damage)
        keep_report(store, outcomes, report)
    return result_of(outcomes, report, store)


@contextmanager
def store_of(prepared: Prepared, folder: Path) -> Iterator[Store]:
    """The study's store, open; its answers are a replay's."""
    os.environ.setdefault("BISECT_REPLAY", "1")  # the user's code can tell a replay from production
    store = prepared.config.store
    with Store(None if store is None else folder / store) as opened:
        yield opened


def keep_report(store: Store, outcomes: Outcomes, report: Mapping[str, Any]) -> None:
    """Write the report of a run down, unless it has one and nothing new came in."""
    run = outcomes.prepared.run_id
    if outcomes.ledger.calls or store.report(run) is None:
        store.finish(run, {"report": report, "at": time.time_ns() // 1000})


def result_of(outcomes: Outcomes, report: dict[str, Any], store: Store) -> Result:
    """A report with its trials, and the release that it recommends, if any."""
    ledger = outcomes.ledger
    return Result(
        report,
        ledger.now,
        ledger.observations,
        tuple(store.notices),
        recommended(outcomes.prepared.good, outcomes.prepared.bad, report),
        _answer_reader(outcomes, store),
        outcomes.attribution.regression,
    )


def _answer_reader(outcomes: Outcomes, store: Store) -> Callable[[], Sequence[AnsweredQuery]]:
    """Reads the answers later from the store's folder; those of a store in memory are read now, it is closed then."""
    trials, sample, metric = outcomes.ledger.observations, outcomes.prepared.sample, outcomes.prepared.metric.name
    if store.path is not None:
        return kept_answers(trials, store=store.path, metric=metric, sample=sample)
    found = answered_queries(trials, outcomes.answer_of, metric=metric, sample=sample)
    return lambda: found


def read_report(store: Path, run_prefix: str) -> dict[str, Any]:
    """The stored report of a finished run. Raises `StoreError` or `InputError` when there is none."""
    with Store(store) as opened:
        run = opened.find_run(run_prefix)
        report = opened.report(run)
    if report is None:
        raise InputError(f"run {run} has no report yet: it was interrupted; run the same command again to finish it")
    return report


SHOWN = 200
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class FirstAnswers:
    """Lines to show; `failure`: why a run would not get an answer, or no score, either. None: it would."""

    lines: tuple[str, ...]
    failure: str | None = None


def ask_first(prepared: Prepared, *, folder: Path) -> FirstAnswers:
    """Asks both releases the first query of the sample, as the run would; what comes is stored, so a run does not pay again."""
    if prepared.config.budget.calls < 2:
        return FirstAnswers((f"not asked: the budget allows {prepared.config.budget.calls} calls, and good and bad take two",))
    if not prepared.sample.queries:
        return FirstAnswers(("not asked: the log has no query",))
    with heeded() as stop, store_of(prepared, folder) as store:
        study = Study(prepared, store, stop=stop)
        seen = study.first_answers()
        query = prepared.sample.queries[0]
        lines = [f"asked: query {query.id}: {_shown_start(query.input)}"]
        lines += [line for each in seen for line in _first_answer_lines(each, study, prepared)]
    lines += [f"  {remark}" for remark in getattr(prepared.target, "remarks", ())]
    if len(seen) < 2:
        lines.append("not all was asked: the caps of the budget leave no room, or it was stopped")
    return FirstAnswers(tuple(lines), next(_likely_failures(seen, prepared, study.scorer_errors), None))


def _first_answer_lines(seen: Observation, study: Study, prepared: Prepared) -> Iterator[str]:
    side, answer = _side_name(seen), study.answer_of(seen)
    if seen.error is not None:
        yield f"  {side}: no answer: {seen.error}"
        return
    calls = "".join(f"; calls {call.name}" for call in answer.tool_calls)
    paid = "" if seen.fresh else " (stored)"
    yield f"  {side}{paid}: {_shown_start(answer.text) or 'an empty text'}{calls}"
    scores = [f"{name} {'none' if (value := seen.score(name)) is None else f'{value:g}'}" for name in prepared.scorers]
    yield f"    scores: {', '.join(scores)}"


def _likely_failures(seen: list[Observation], prepared: Prepared, scorer_errors: Mapping[str, str]) -> Iterator[str]:
    """Why answers of a run would not come, or not count, if these two are like the rest."""
    for each in seen:
        if each.error is not None:
            yield f"the {_side_name(each)} release gave no answer to the first query: {each.error}"
    metric = prepared.metric.name
    if metric in scorer_errors:
        yield f"the scorer {metric} failed on the first query: {scorer_errors[metric]}"
    elif seen and all(each.score(metric) is None for each in seen):
        yield f"the scorer {metric} gave no score (None) to the first query's answers"


def _side_name(seen: Observation) -> str:
    return "bad" if seen.trial.cell else "good"


def _shown_start(text: str) -> str:
    plain = " ".join(redact(text).split())
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…"
