"""The facts of a post-mortem: from a stored run, the releases it compared, and the log of the incident. Nothing is called.

What cannot be read any more (a log that moved, a release file that changed) is said under `unknown`, never guessed. The same store
and files give the same facts: the run's own time is the one that the store noted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bisect_ai.canonical import digest, plain
from bisect_ai.config import Config
from bisect_ai.errors import BisectError
from bisect_ai.facts.blast_radius import as_csv, as_jsonl, blast_radius
from bisect_ai.facts.onset_facts import ScoreSeries, onset_of
from bisect_ai.facts.report_view import metric_of_report
from bisect_ai.facts.saved_runs import finished_run, first_scores, stored_trials
from bisect_ai.provider.redaction import redact, redact_all
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import Sample
from bisect_ai.queries.values import microseconds
from bisect_ai.release.load import Release
from bisect_ai.release.pair import load_pair, load_side
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.postmortem_values import (
    FixVerification,
    HitQuery,
    LoggedWindow,
    LoggedWindows,
    ModelState,
    PostmortemFacts,
    ReleaseState,
    ReleaseStates,
    RequestedModels,
    ReturnedModel,
    ReturnedModels,
    ScorerState,
    SegmentShift,
    TimelineEvent,
    TrafficShift,
)
from bisect_ai.report.report_values import Report
from bisect_ai.report.value_types import Value
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepare import releases_of_run, settle
from bisect_ai.store.trial_store import Store

V = TypeVar("V", bound=Value)
SCHEMA = "bisect-ai/postmortem@1"
# Logged queries that are looked at, the most: a random part of more.
MOST_LOGGED = 200_000


@dataclass(frozen=True)
class Postmortem:
    """The run's report, the facts beside it, and the queries that were probably hit, the likeliest first; without credentials."""

    report: Report
    facts: PostmortemFacts
    hits: Sequence[HitQuery]


@dataclass(frozen=True)
class Files:
    """What the settings still lead to; None with a reason under `unknown`."""

    config: Config | None = None
    good: Release | None = None
    bad: Release | None = None
    sample: Sample | None = None
    unknown: tuple[str, ...] = ()


def gather(run: str, *, store: Path, config: Path | None = None, log: str | None = None) -> Postmortem:
    """The facts of a stored run's post-mortem. Raises `StoreError` or `InputError` when there is no such finished run."""
    with Store(store) as opened:
        kept = finished_run(opened, run)
        ended, verified = dict(opened.ended), _verified_fixes(opened, kept.run)
    found, runs, settings, told = kept.run, kept.runs, kept.settings, read(Report, kept.report)
    files = _files_now(settings, config, log)
    windows = _logged_windows(files.sample, settings)
    blast, hits = blast_radius(told, first_scores(store, found, runs), files.sample, bad=settings["bad"]["name"])
    facts = PostmortemFacts(
        schema_=SCHEMA,
        run=found,
        made_at=_instant_of(ended.get(found)),
        timeline=_timeline_events(told, windows, ended.get(found), verified, _onset_events(told, files)),
        windows=windows,
        releases=ReleaseStates(
            good=_release_state(settings["good"], files.good), bad=_release_state(settings["bad"], files.bad)
        ),
        model=_model_state(store, found, settings, files),
        scorers=_scorer_states(settings, files.config),
        traffic=_traffic_shift(files, settings),
        blast=blast,
        verifications=verified,
        unknown=(*files.unknown, *_unknown_lines(told, windows, ended.get(found))),
    )
    return Postmortem(_without_credentials(told), _without_credentials(facts), list(map(_without_credentials, hits)))


def _without_credentials(value: V) -> V:
    kept: dict[str, object] = redact_all(as_mapping(value))
    return read(type(value), kept)


# -- what can still be read ---------------------------------------------------------------------------------------------
def _files_now(settings: Mapping[str, Any], config: Path | None, log: str | None) -> Files:
    if config is None or not config.is_file():
        named = "bisect.yaml" if config is None else str(config)
        return Files(unknown=(f"{named} was not found, so releases and log could not be read: name it with --config",))
    try:
        given = {} if log is None else {"log": {"path": str(Path(log).absolute())}}
        read, folder = settle({**given, **releases_of_run(settings, config)}, config=config)
    except BisectError as error:
        return Files(unknown=(f"the settings could not be read: {error}",))
    files = Files(config=read)
    for side in ("good", "bad"):
        files = _with_release(files, side, settings[side], read, folder)
    try:
        sample = load_queries(read.log.path, settings=replace(read.log.settings(read.seed), sample=MOST_LOGGED), folder=folder)
    except (BisectError, OSError) as error:
        return replace(files, unknown=(*files.unknown, f"the log could not be read: {error}; name it with --log"))
    if len(sample) < sample.population:
        line = f"the log is large: a random {len(sample):,} of its {sample.population:,} queries were looked at"
        files = replace(files, unknown=(*files.unknown, line))
    return replace(files, sample=sample)


def _with_release(files: Files, side: str, known: Mapping[str, Any], config: Config, folder: Path) -> Files:
    rules = config.repository
    try:
        if rules.axes:
            release: Release = getattr(load_pair(config.good, config.bad, folder=folder, rules=rules), side)
        else:
            release = load_side(getattr(config, side), folder=folder, rules=rules)
    except (BisectError, OSError) as error:
        return replace(files, unknown=(*files.unknown, f"the {side} release could not be read: {error}"))
    if release.digest != known["digest"]:
        line = f"the {side} release on disk is not the one that the run compared: its axes are told by the run's report alone"
        return replace(files, unknown=(*files.unknown, line))
    return replace(files, good=release) if side == "good" else replace(files, bad=release)


def _verified_fixes(store: Store, run: str) -> tuple[FixVerification, ...]:
    """What `verify` said of fixes of this run, oldest first."""
    rows: list[tuple[int, FixVerification]] = []
    for name, begun in store.runs.items():
        kept = store.report(name) if (begun["settings"].get("verify") or {}).get("run") == run else None
        report = None if kept is None else read(Report, kept)
        if report is not None and report.verify is not None:
            at, sentence = _instant_of(store.ended.get(name)), report.verdict.sentence
            told = FixVerification(at=at, run=name, fix=report.bad, kind=report.verify.kind, sentence=sentence)
            rows.append((store.ended.get(name) or 0, told))
    return tuple(row for _, row in sorted(rows, key=lambda each: (each[0], each[1].run)))


# -- facts ------------------------------------------------------------------------------------------------------------------
def _logged_windows(sample: Sample | None, settings: Mapping[str, Any]) -> LoggedWindows:
    """For each side the logged queries that its release answered: how many, the first and last instants (None: not logged)."""
    good, bad = (_logged_window(sample, settings[side]["name"]) for side in ("good", "bad"))
    return LoggedWindows(good=good, bad=bad)


def _logged_window(sample: Sample | None, release: str) -> LoggedWindow:
    queries = [] if sample is None else [q for q in sample.queries if q.release == release]
    times = sorted(at for q in queries if (at := microseconds(q.get("at"))) is not None)
    first, last = (_instant_of(times[0]), _instant_of(times[-1])) if times else (None, None)
    return LoggedWindow(release=release, queries=len(queries), first=first, last=last)


def _timeline_events(
    report: Report,
    windows: LoggedWindows,
    ended: int | None,
    verified: Sequence[FixVerification],
    onset: Sequence[TimelineEvent],
) -> tuple[TimelineEvent, ...]:
    """Instants in order, each with what it was; texts of others are kept apart from ours."""
    known = [window for window in (windows.good, windows.bad) if window is not None]
    rows = [_timeline_event(w.first, "first logged answer of", w.release) for w in known]
    rows += [_timeline_event(w.last, "last logged answer of", w.release) for w in known]
    rows += [_timeline_event(at, f"{axis} changed{by}", why) for at, axis, by, why in _authored_times(report)]
    rows.append(_timeline_event(_instant_of(ended), "this run was finished", report.run))
    rows += [_timeline_event(v.at, f"a fix was verified: {v.kind.replace('_', ' ')}", v.fix) for v in verified]
    rows += onset
    return tuple(sorted((row for row in rows if row.at), key=lambda row: (row.at or "", row.what)))


def _onset_events(report: Report, files: Files) -> list[TimelineEvent]:
    """When the logged scores began to be lower: both ends of the interval; nothing where no onset is proved."""
    queries = () if files.sample is None else files.sample.queries
    known = [(at, q.scores[report.metric]) for q in queries if report.metric in q.scores and (at := microseconds(q.get("at")))]
    known.sort()
    series = ScoreSeries(np.array([score for _, score in known], float), [at for at, _ in known])
    found = onset_of(series, (), alpha=0.05, metric=metric_of_report(report))
    if found is None or found.kind != "onset":
        return []
    return [
        _timeline_event(found.since, "earliest that logged scores can have begun to be lower (95 %)", report.metric),
        _timeline_event(found.until, "latest that logged scores can have begun to be lower (95 %)", report.metric),
    ]


def _timeline_event(at: str | None, what: str, of: object) -> TimelineEvent:
    return TimelineEvent(at=at, what=what, of=None if of is None else str(of))


def _authored_times(report: Report) -> Iterator[tuple[str | None, str, str, object]]:
    """When whoever changed an axis did so, as the release file or git says: once for each author and time."""
    seen = set()
    for change in report.changes:
        known = change.origin
        at = microseconds(known.date or known.at)
        key = at, change.axis, str(known.author)
        if at is not None and key not in seen:
            seen.add(key)
            yield _instant_of(at), change.axis, f" by {known.author}" if known.author else "", known.why


def _release_state(known: Mapping[str, Any], release: Release | None) -> ReleaseState:
    axes = None if release is None else {axis: digest(plain(value)) for axis, value in release.axes.items()}
    return ReleaseState(name=known["name"], digest=known["digest"], axes=axes)


def _model_state(store: Path, run: str, settings: Mapping[str, Any], files: Files) -> ModelState:
    """The model that each release asks for, and those that answered in the run's trials under each, with fingerprints."""
    trials = stored_trials(store, run, settings)
    full = (1 << len(settings["axes"])) - 1
    requested = RequestedModels(good=_requested_model(files.good), bad=_requested_model(files.bad))
    return ModelState(
        requested=requested,
        returned=ReturnedModels(good=_returned_models(trials.all(0)), bad=_returned_models(trials.all(full))),
    )


def _requested_model(release: Release | None) -> object:
    return None if release is None or "model" not in release.axes else plain(release.axes["model"])


def _returned_models(trials: Iterable[Observation]) -> tuple[ReturnedModel, ...]:
    counts = Counter((o.model_returned, o.fingerprint) for o in trials if not o.error)
    rows = sorted(counts.items(), key=lambda row: (-row[1], str(row[0])))
    return tuple(ReturnedModel(model=model, fingerprint=mark, n=n) for (model, mark), n in rows)


def _scorer_states(settings: Mapping[str, Any], config: Config | None) -> tuple[ScorerState, ...]:
    """The scorers with their digests, and how they are set where the settings still say so."""
    listed = config.scorers if config is not None and isinstance(config.scorers, list) else []
    known = {str(s.get("name") or s.get("kind")): plain(dict(s)) for s in listed if isinstance(s, Mapping)}
    return tuple(
        ScorerState(name=name, digest=mark, decides=name == settings["metric"], settings=known.get(name))
        for name, mark in settings["scorers"].items()
    )


def _traffic_shift(files: Files, settings: Mapping[str, Any]) -> TrafficShift | None:
    """How the queries of both windows spread over the segments; None: no column, or no log."""
    sample, config = files.sample, files.config
    if sample is None or config is None or sample.segments is None:
        return None
    sides = {settings[side]["name"]: side for side in ("bad", "good")}
    counts: dict[str, Counter[str]] = {"good": Counter(), "bad": Counter()}
    for query, segment in zip(sample.queries, sample.segments, strict=True):
        if (side := _side_of_query(query, sides)) is not None:
            counts[side][segment] += 1
    totals = {side: sum(counts[side].values()) for side in counts}
    if not all(totals.values()):
        return None
    shares = {s: {side: counts[side][s] / totals[side] for side in counts} for s in {*counts["good"], *counts["bad"]}}
    ordered = sorted(shares, key=lambda s: (-abs(shares[s]["bad"] - shares[s]["good"]), s))
    return TrafficShift(
        column=config.log.segment,
        good_queries=totals["good"],
        bad_queries=totals["bad"],
        segments=tuple(SegmentShift(segment=s, good=shares[s]["good"], bad=shares[s]["bad"]) for s in ordered),
    )


def _side_of_query(query: Query, sides: Mapping[str, str]) -> str | None:
    return None if query.release is None else sides.get(query.release)


def _unknown_lines(report: Report, windows: LoggedWindows, ended: int | None) -> Iterator[str]:
    if windows.bad is None or not windows.bad.queries:
        yield "which logged queries the bad release answered: the log that could be read names none"
    elif windows.bad.first is None:
        yield "when the bad release answered: the log has no times"
    if ended is None:
        yield "when this run was made: the store did not note it"
    if unowned := [axis for axis, owner in report.owners.items() if not owner]:
        yield f"who owns {', '.join(unowned)}"
    yield "when the drop was noticed, and by whom"
    yield "when the rollback or fix went live"
    yield "what was told to those who were hit"


def _instant_of(us: int | None) -> str | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def render(found: Postmortem) -> str:
    """The post-mortem as Markdown, without credentials."""
    from bisect_ai.report.postmortem import render as markdown

    return redact(markdown(found.report, found.facts, found.hits))


def write_hits(found: Postmortem, path: str) -> str:
    """The text of the list of queries that were probably hit: JSON lines for a name in .jsonl or .json, else CSV."""
    return as_jsonl(found.hits) if Path(path).suffix.lower() in (".jsonl", ".json") else as_csv(found.hits)
