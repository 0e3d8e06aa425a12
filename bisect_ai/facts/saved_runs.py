"""A stored run as a result for analysis: its report and its trials, read from the journal. Nothing is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bisect_ai.attribution.problem import Trial
from bisect_ai.errors import InputError, StoreError
from bisect_ai.facts.answer_rows import kept_answers, sample_of
from bisect_ai.facts.build import recommended
from bisect_ai.queries.sample import Sample
from bisect_ai.release.load import Release
from bisect_ai.release.pair import load_pair
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending
from bisect_ai.runs.observations import FinishedTrial, Observations
from bisect_ai.runs.prepare import named, settle
from bisect_ai.runs.release_files import check_no_key
from bisect_ai.store.journal import open_folder
from bisect_ai.store.recovery import Folder
from bisect_ai.store.trial_records import Kept, scores_in
from bisect_ai.store.trial_store import Store


def load(run: str, *, store: str | Path = ".bisect-ai", config: str | Path | None = None) -> Result:
    """A stored run as a `Result`, without any call: `run` is its id or the beginning of it, `store` the folder.
    `config`: its settings file, for the texts of its queries in `answers`.

    Its observations are the trials that the run paid for (an answer taken over from an earlier run is that run's); `usage` is
    what it has cost in all. Raises `StoreError` (no such run or store), `InputError` (the run was interrupted and has no report).
    """
    folder = Path(store)
    if not (folder / "journal").is_dir():
        raise StoreError(f"cannot load run {run}: there is no store in {folder}; name it with `store`")
    with Store(folder) as opened:
        found = opened.find_run(run)
        report, settings = opened.report(found), opened.runs[found]["settings"]
    if report is None:
        raise InputError(f"run {found} has no report yet: it was interrupted; run it again to finish it")
    trials = stored_trials(folder, found, settings)
    answered = kept_answers(trials, store=folder, metric=settings["metric"], sample=_sample_of_run(settings, config))
    return Result(report, _spent_in_all(report), trials, answered=answered)


def _sample_of_run(settings: Mapping[str, Any], config: str | Path | None) -> Sample | None:
    return None if config is None or not Path(config).is_file() else sample_of(settings["sample"], Path(config))


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


def stored_trials(store: Path, run: str, settings: Mapping[str, Any]) -> Observations:
    """The trials of axes that this run paid for, in the order they were kept, with their scores by name.

    An answer that it took over from an earlier run of the same store is that run's; a score of the log was never a trial.
    """
    kept: dict[str, Kept] = {}
    values: dict[tuple[str, str], float | None] = {}
    for _, (_, head, payload) in Folder(open_folder(store)).read():
        if head.get("type") == "trial" and head["run"] == run:
            kept[head["trial"]] = Kept.from_record(head, payload)
        if head.get("type") in ("trial", "score"):
            values |= {(s.trial, s.scorer): s.value for s in scores_in(head)}
    found = Observations(list(settings["scorers"]))
    for seen in _finished_trials(kept, values, settings):
        found.add(seen)
    return found


def _finished_trials(
    kept: Mapping[str, Kept], values: Mapping[tuple[str, str], float | None], settings: Mapping[str, Any]
) -> Iterator[FinishedTrial]:
    axes, scorers = settings["axes"], settings["scorers"]
    order: dict[str, int] = {}
    for trial in kept.values():
        if not set(trial.bad_axes) <= set(axes):
            continue  # a set of changes inside axes: the drill-down's
        cell = sum(1 << axes.index(axis) for axis in trial.bad_axes)
        place = Trial(order.setdefault(trial.query, len(order)), cell, trial.repeat)
        scores = {name: _kept_value(values, trial, key) for name, key in scorers.items()}
        yield FinishedTrial(
            trial.query, place, trial.bad_axes, trial.identity, trial.answer, scores, trial.infeasible, fresh=False
        )


def _kept_value(values: Mapping[tuple[str, str], float | None], trial: Kept, key: str) -> float | None:
    """A trial's score; a judge's are kept under its run."""
    found = values.get((trial.identity, key))
    return values.get((trial.identity, f"{key}:{trial.run}")) if found is None else found


@dataclass(frozen=True)
class FirstScores:
    """What a query scored in a run's first trials under good and under bad, in the metric's units; None: no score."""

    good: float | None = None
    bad: float | None = None
    failed: frozenset[str] = frozenset()
    """The sides (good, bad) whose call failed, and was never answered."""


def first_scores(store: Path, run: str, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, FirstScores]:
    """The first scores of each query of a run by its id, in the order of the journal.

    `runs`: id to the settings of every run of the store. What a run took over from an earlier one of the same two releases, target
    and metric (as the bisection after an audit does) is its own here.
    """
    settings = runs[run]
    kin = {name: runs[name] for name in kin_of(run, runs)}
    sides = {(): "good", tuple(sorted(settings["axes"])): "bad"}
    places: dict[str, tuple[str, str]] = {}
    failures: dict[str, tuple[str, str]] = {}
    values: dict[tuple[str, str], float | None] = {}
    for _, (_, head, _) in Folder(open_folder(store)).read():
        if head.get("type") == "trial" and head["run"] in kin and not head["repeat"]:
            side = sides.get(tuple(sorted(map(str, head["bad_axes"]))))
            chosen = failures if head["failed"] else places
            chosen |= {} if side is None else {head["trial"]: (head["query"], side)}
        if head.get("type") in ("trial", "score"):
            values |= {(s.trial, s.scorer): s.value for s in scores_in(head)}
    keys = [key for name in kin for key in _keys_of(name, kin[name])]
    found: dict[str, FirstScores] = {}
    for trial, (query, side) in places.items():
        score = next((values[trial, key] for key in keys if values.get((trial, key)) is not None), None)
        found[query] = replace(found.get(query, FirstScores()), **{side: score})  # type: ignore[arg-type]  # good or bad
    for trial, (query, side) in failures.items():
        if trial not in places:
            known = found.get(query, FirstScores())
            found[query] = replace(known, failed=known.failed | {side})
    return found


def kin_of(run: str, runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The runs, itself among them, of the same two releases, target and metric, but for verifications."""
    return [name for name, s in runs.items() if "verify" not in s and _pair_key(s) == _pair_key(runs[run])]


def _pair_key(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    metric = settings["metric"]
    digests = settings["good"]["digest"], settings["bad"]["digest"]
    return *digests, settings["target"], metric, settings["scorers"].get(metric)


def _keys_of(run: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What the metric's scores may be kept under: a judge's count for their run."""
    known = settings["scorers"][settings["metric"]]
    yield from (known, f"{known}:{run}")


def stored_rollback(run_prefix: str, *, store: Path, config: Path) -> Release | None:
    """The release that a stored run recommends, None where it recommends none; `config` is the settings file that names both releases.

    Raises `InputError` when these are not what the run compared any more, or the run has no report.
    """
    with Store(store) as opened:
        run = opened.find_run(run_prefix)
        kept, settings = opened.report(run), opened.runs[run]["settings"]
    if kept is None:
        raise InputError(f"run {run} has no report yet: it was interrupted; run the same command again to finish it")
    report = read(Report, kept)
    if report.verdict.rollback is None:
        return None
    digests = {side: settings[side]["digest"] for side in ("good", "bad")}
    for pair in _candidate_pairs(config, settings):
        if {side: release.digest for side, release in pair.items()} == digests:
            for release in pair.values():
                check_no_key(release)
            return recommended(pair["good"], pair["bad"], report)
    raise InputError(
        f"cannot write the rollback of run {run}: {config} does not name the releases that it compared ({settings['good']['name']} and "
        f"{settings['bad']['name']}), or they were changed since; name the settings file of the run with --config"
    )


def _candidate_pairs(config: Path, settings: Any) -> Iterator[dict[str, Release]]:
    """The pairs that the run may have compared: what the settings file names, else its names as revisions."""
    settled, folder = settle({}, config=config)
    rules = settled.repository
    yield _pair_of_run(settled.good, settled.bad, folder, rules)
    try:
        yield _pair_of_run({"git": settings["good"]["name"]}, {"git": settings["bad"]["name"]}, folder, rules)
    except InputError:
        return


def _pair_of_run(good: Any, bad: Any, folder: Path, rules: Any) -> dict[str, Release]:
    pair = load_pair(good, bad, folder=folder, rules=rules)
    return {"good": named(pair.good, "good"), "bad": named(pair.bad, "bad")}
