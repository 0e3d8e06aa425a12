"""The Python door: `run`, and the steps behind it that the command line shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.errors import BisectError, InputError, StoreError
from bisect_ai.facts.sessions import Progress, keep_report, recommended, result_of, store_of, watched
from bisect_ai.provider.redaction import redact
from bisect_ai.queries.sample import Sample
from bisect_ai.release.load import Release
from bisect_ai.release.pair import load_pair
from bisect_ai.replay.interrupts import Stop, heeded
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Before, Spending
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepare import compared_by_run, named, prepare, releases_of_run, settle, started
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.release_writer import check_no_key
from bisect_ai.store.recovery import Damage

if TYPE_CHECKING:
    from bisect_ai.runs.ledger import Watch
    from bisect_ai.runs.study import Study


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
    given = {name: value for name, value in locals().items() if name not in ("config", "queries", "progress")}
    if couplings is not None:
        given["couplings"] = [each if isinstance(each, str) else list(each) for each in couplings]
    return started(execute, given, config=config, queries=queries, watching=watched(progress))


def execute(
    prepared: Prepared,
    *,
    folder: Path,
    watch: Watch | None = None,
    stop: Stop | None = None,
    before: Before = Before(),  # noqa: B008  # frozen
    renews: bool = False,
) -> Result:
    """Run (or resume) a prepared study and sum it up; what was paid for `before` it counts as the run's.

    `renews`: so that `stored_result` knows it afterwards, whatever the report that it had rests on.
    """
    from bisect_ai.facts.build import summarise
    from bisect_ai.runs.study import Study

    with store_of(prepared, folder, before=before.run) as store:
        outcomes = Study(prepared, store, watch=watch, stop=stop, before=before).run()
        report = summarise(outcomes, damage=store.damage)
        basis = None if store.path is None else prepared.basis
        keep_report(store, outcomes, report, basis=basis, renews=renews)
    return result_of(outcomes, report, store)


def stored_result(prepared: Prepared, folder: Path) -> Result | None:
    """The report alone of a run that came to its end on the same basis, as it is in the store; None: it is to be executed."""
    if prepared.config.store is None or not (folder / prepared.config.store / "journal").is_dir():
        return None
    with store_of(prepared, folder) as store:
        report = store.report(prepared.run_id, basis=prepared.basis) if store.damage == Damage() else None
    if report is None:
        return None
    usage = read(Report, report).usage
    return Result(report, Spending(cached=(usage.calls or 0) + (usage.cached or 0)), notices=tuple(store.notices))


# Characters of a text that are shown.
SHOWN = 200


@dataclass(frozen=True)
class FirstAnswers:
    """Lines to show; `failure`: why a run would not get an answer, or no score, either. None: it would."""

    lines: tuple[str, ...]
    failure: str | None = None


def ask_first(prepared: Prepared, *, folder: Path) -> FirstAnswers:
    """Asks both releases the first query of the sample, as the run would; what comes is stored, so a run does not pay again."""
    from bisect_ai.runs.study import Study

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


# -- runs of a store -------------------------------------------------------------------------------------------------
def load(run: str, *, store: str | Path = ".bisect-ai", config: str | Path | None = None) -> Result:
    """A stored run as a `Result`, without any call: `run` is its id or the beginning of it, `store` the folder.
    `config`: its settings file, for the texts of its queries in `answers`.

    Its observations are the trials that the run paid for (an answer taken over from an earlier run is that run's); `usage` is
    what it has cost in all. Raises `StoreError` (no such run or store), `InputError` (the run was interrupted and has no report).
    """
    from bisect_ai.facts.saved_runs import kept_answers, read_run, stored_trials

    folder = Path(store)
    if not isinstance(run, str):
        raise InputError(f"cannot load run {run!r:.40}: give its id, or the beginning of it, as text")
    if not (folder / "journal").is_dir():
        raise StoreError(f"cannot load run {run}: there is no store in {folder}; name it with `store`")
    found = read_run(folder, run)
    settings = found.settings
    trials = stored_trials(folder, found.run, settings)
    sample = None if config is None or not Path(config).is_file() else _sample_of(settings, Path(config))
    answered = kept_answers(trials, store=folder, metric=settings["metric"], sample=sample)
    return Result(found.report, _spent_in_all(found.report), trials, answered=answered)


def _sample_of(run_settings: Mapping[str, Any], config: Path) -> Sample | None:
    """The sample of a stored run, drawn again as its settings file says; None when it is not the same or cannot be drawn."""
    try:
        settled, folder = settle(releases_of_run(run_settings, config), config=config)
        sample = prepare(settled, folder=folder).sample
    except BisectError:
        return None
    return sample if sample.digest == run_settings["sample"] else None


def _spent_in_all(report: Mapping[str, Any]) -> Spending:
    """What a stored run has cost in all, as its report says."""
    usage = read(Report, report).usage
    return Spending(
        calls=usage.calls or 0,
        cached=usage.cached or 0,
        errors=usage.errors or 0,
        usd=usage.usd or 0.0,
        tokens=usage.tokens or 0,
        seconds=usage.seconds or 0.0,
        unsettled_usd=usage.unsettled_usd,
    )


def stored_rollback(run_prefix: str, *, store: Path, config: Path) -> Release | None:
    """The release that a stored run recommends, None where it recommends none; `config` is the settings file that names both releases.

    Raises `InputError` when these are not what the run compared any more, or the run has no report.
    """
    from bisect_ai.facts.saved_runs import read_run

    found = read_run(store, run_prefix)
    report, settings = read(Report, found.report), found.settings
    if report.verdict.rollback is None:
        return None
    digests = {side: settings[side]["digest"] for side in ("good", "bad")}
    for pair in _candidate_pairs(config, settings):
        if {side: release.digest for side, release in pair.items()} == digests:
            for release in pair.values():
                check_no_key(release)
            return recommended(pair["good"], pair["bad"], report)
    raise InputError(
        f"cannot write the rollback of run {found.run}: {config} does not name the releases that it compared "
        f"({settings['good']['name']} and {settings['bad']['name']}), or they were changed since; name the settings file of the run "
        "with --config"
    )


def _candidate_pairs(config: Path, settings: Any) -> Iterator[dict[str, Release]]:
    """The pairs that the run may have compared: what the settings file names, else what it read then."""
    settled, folder = settle(releases_of_run(settings, config), config=config)
    rules = settled.repository
    yield _pair_of_run(settled.good, settled.bad, folder, rules)
    try:
        then = compared_by_run(settings)
        yield _pair_of_run(then["good"], then["bad"], folder, rules)
    except InputError:
        return


def _pair_of_run(good: Any, bad: Any, folder: Path, rules: Any) -> dict[str, Release]:
    pair = load_pair(good, bad, folder=folder, rules=rules)
    return {"good": named(pair.good, "good"), "bad": named(pair.bad, "bad")}
